// Owns: what kind of image a board was given and where it, the initrd and the device tree go.
// Any thread. @source guest-payloads.md 2.1; Linux Documentation/arch/arm64/booting.rst
import { ServiceError } from "../../base/errors.js";
import type { ImageFormat } from "./commands.js";
import { isElf, readElf, type Segment } from "./elf.js";
import {
  FLASH,
  FLAT_OFFSET,
  IMAGE_ALIGN,
  MIB,
  RAM_BASE,
  UPPER_OFFSET_MAX,
} from "./memory-map.table.js";

export interface Layout {
  readonly format: ImageFormat;
  readonly entry: number;
  /** What goes into RAM of the image. */
  readonly segments: readonly Segment[];
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
 * Refuses what is no image.
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

/** What an image is, and what of it goes where. @throws ServiceError "image-format" */
function placed(image: Uint8Array): Pick<Layout, "format" | "entry" | "segments"> {
  checkStranger(image);
  if (isElf(image)) return { format: "elf", ...readElf(image) };
  const header = linuxHeader(image);
  const entry =
    header === null ? RAM_BASE + FLAT_OFFSET : RAM_BASE + IMAGE_ALIGN + header.textOffset;
  const zeros = (header?.size ?? image.length) - image.length;
  const segments = [{ at: entry, from: 0, bytes: image.length, zeros }];
  return { format: header === null ? "flat" : "linux", entry, segments };
}

/**
 * Places everything as QEMU does: the image low, the initrd and then the device tree at half of
 * RAM, or behind the image where it reaches further.
 * @throws ServiceError "image-format", "image-does-not-fit"
 */
export function layout(image: Uint8Array, initrdBytes: number, memoryMiB: number): Layout {
  const { format, entry, segments } = placed(image);
  const ram = memoryMiB * MIB;
  const imageEnd = Math.max(...segments.map(({ at, bytes, zeros }) => at + bytes + zeros));
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
  const low = segments.find(({ at }) => at < RAM_BASE);
  if (low !== undefined) {
    const where = `0x${low.at.toString(16)}, RAM begins at 0x${RAM_BASE.toString(16)}`;
    throw new ServiceError("image-does-not-fit", `A segment of the image is for ${where}.`);
  }
  return { format, entry, segments, initrd, dtb };
}

/**
 * Firmware starts in flash and finds the device tree where RAM begins, as with QEMU's -bios.
 * @throws ServiceError "image-does-not-fit"
 */
export function firmwareLayout(firmware: Uint8Array): Layout {
  if (firmware.length > FLASH.bankBytes) {
    const why = `The firmware has ${firmware.length} bytes, its flash ${FLASH.bankBytes}.`;
    throw new ServiceError("image-does-not-fit", why);
  }
  return { format: "firmware", entry: FLASH.base, segments: [], initrd: null, dtb: RAM_BASE };
}
