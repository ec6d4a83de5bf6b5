// Owns: what kind of image a board was given and where it, the initrd and the device tree go.
// Any thread. @source guest-payloads.md 2.1; Linux Documentation/arch/arm64/booting.rst
import { ServiceError } from "../../base/errors.js";
import { FLAT_OFFSET, IMAGE_ALIGN, MIB, RAM_BASE, UPPER_OFFSET_MAX } from "./memory-map.table.js";

/** "flat": a raw binary that begins with its first instruction. "linux": an arm64 Image. */
export type ImageFormat = "flat" | "linux";

export interface Layout {
  readonly format: ImageFormat;
  /** Where the image goes; its first byte is the entry. */
  readonly entry: number;
  readonly initrd: { readonly start: number; readonly end: number } | null;
  readonly dtb: number;
}

/** "ARM\x64" at byte 56 of an Image. */
const LINUX_MAGIC = 0x644d_5241;
const LINUX_HEADER_BYTES = 64;
/** Of kernels before 3.17, which leave image_size 0. */
const LINUX_TEXT_OFFSET_OLD = 0x8_0000;
/** Room for a device tree: the most that Linux takes. */
const DTB_BYTES_MAX = 2 * MIB;

/** First bytes of files that are no image, with what their owner has to do. */
const STRANGERS: readonly (readonly [readonly number[], string])[] = [
  [[0x7f, 0x45, 0x4c, 0x46], "an ELF file; objcopy -O binary makes a flat binary of it"],
  [[0x1f, 0x8b], "gzip; unpack it first"],
];

interface LinuxHeader {
  readonly textOffset: number;
  /** Bytes from the entry on, with bss. */
  readonly size: number;
}

function linuxHeader(image: Uint8Array): LinuxHeader | null {
  if (image.length < LINUX_HEADER_BYTES) return null;
  const view = new DataView(image.buffer, image.byteOffset, LINUX_HEADER_BYTES);
  if (view.getUint32(56, true) !== LINUX_MAGIC) return null;
  const size = Number(view.getBigUint64(16, true));
  if (size === 0) return { textOffset: LINUX_TEXT_OFFSET_OLD, size: image.length };
  const textOffset = Number(view.getBigUint64(8, true));
  return { textOffset, size: Math.max(size, image.length) };
}

/**
 * Reads what an image is.
 * @throws ServiceError "image-format"
 */
function checkStranger(image: Uint8Array): void {
  const stranger = STRANGERS.find(([magic]) => magic.every((byte, i) => image[i] === byte));
  if (stranger !== undefined)
    throw new ServiceError("image-format", `The image is ${stranger[1]}.`);
  if (image.length === 0) throw new ServiceError("image-format", "The image is empty.");
}

function up(address: number, align: number): number {
  return Math.ceil(address / align) * align;
}

/**
 * Places everything as QEMU does: the image low, the initrd and then the device tree at half of
 * RAM, or behind the image where it reaches further.
 * @throws ServiceError "image-format", "image-does-not-fit"
 */
export function layout(image: Uint8Array, initrdBytes: number, memoryMiB: number): Layout {
  checkStranger(image);
  const header = linuxHeader(image);
  const ram = memoryMiB * MIB;
  const entry =
    header === null ? RAM_BASE + FLAT_OFFSET : RAM_BASE + IMAGE_ALIGN + header.textOffset;
  const imageEnd = entry + (header?.size ?? image.length);
  const half = RAM_BASE + Math.min(ram / 2, UPPER_OFFSET_MAX);
  const upper = Math.max(half, up(imageEnd, IMAGE_ALIGN));
  const initrd = initrdBytes === 0 ? null : { start: upper, end: upper + initrdBytes };
  const dtb = initrd === null ? upper : up(initrd.end, IMAGE_ALIGN);
  const end = dtb + Math.min(DTB_BYTES_MAX, ram / 2);
  if (end > RAM_BASE + ram) {
    throw new ServiceError(
      "image-does-not-fit",
      `Image, initrd and device tree end at 0x${end.toString(16)}, memory of ${memoryMiB} MiB at ` +
        `0x${(RAM_BASE + ram).toString(16)}: give the board more memoryMiB.`,
    );
  }
  return { format: header === null ? "flat" : "linux", entry, initrd, dtb };
}
