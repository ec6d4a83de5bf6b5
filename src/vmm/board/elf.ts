// Owns: reading an AArch64 program in ELF: its segments at physical addresses, its entry.
// Any thread. @source ELF for the Arm 64-bit Architecture (AAELF64); gABI, program header
import { ServiceError } from "../../base/errors.js";

/** A piece of memory: bytes of the file, then zeros. */
export interface Segment {
  readonly at: number;
  /** Offset in the file, and how many bytes come from there. */
  readonly from: number;
  readonly bytes: number;
  readonly zeros: number;
}

export interface Program {
  readonly segments: readonly Segment[];
  /** Physical address of the first instruction. */
  readonly entry: number;
}

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const MAGIC = 0x7f45_4c46;
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
const EM_AARCH64 = 183;
const ET_EXEC = 2;
const ET_DYN = 3;
const PT_LOAD = 1;

export function isElf(image: Uint8Array): boolean {
  return image.length >= 4 && viewOf(image).getUint32(0) === MAGIC;
}

/** @throws ServiceError "image-format" */
export function readElf(image: Uint8Array): Program {
  const view = viewOf(image);
  if (image.length < HEADER_BYTES) throw refusal("ends within its header");
  if (view.getUint8(4) !== CLASS_64 || view.getUint8(5) !== LITTLE_ENDIAN) {
    throw refusal("isn't 64-bit little-endian");
  }
  if (view.getUint16(18, true) !== EM_AARCH64) throw refusal("isn't for AArch64");
  const type = view.getUint16(16, true); // tidy: offset in the header
  if (type !== ET_EXEC && type !== ET_DYN) throw refusal("is no program: link it first");
  return loadable(image, view);
}

function loadable(image: Uint8Array, view: DataView): Program {
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const table = u64(32);
  const count = view.getUint16(56, true);
  const stride = view.getUint16(54, true);
  if (stride < PROGRAM_HEADER_BYTES || table + count * stride > image.length) {
    throw refusal("ends within its program headers");
  }
  let entry = u64(24);
  let isEntryFound = false;
  const segments: Segment[] = [];
  for (let at = table; at < table + count * stride; at += stride) {
    if (view.getUint32(at, true) !== PT_LOAD || u64(at + 40) === 0) continue;
    const [from, virtual, physical] = [u64(at + 8), u64(at + 16), u64(at + 24)]; // tidy: offsets
    const [bytes, memory] = [u64(at + 32), u64(at + 40)];
    if (bytes > memory || from + bytes > image.length) throw refusal("ends within a segment");
    segments.push({ at: physical, from, bytes, zeros: memory - bytes });
    if (isEntryFound || entry < virtual || entry >= virtual + memory) continue;
    isEntryFound = true;
    entry = physical + (entry - virtual);
  }
  if (segments.length === 0) throw refusal("has nothing to load");
  if (!isEntryFound) throw refusal("has its entry outside of what it loads");
  return { segments, entry };
}

function viewOf(image: Uint8Array): DataView {
  return new DataView(image.buffer, image.byteOffset, image.byteLength);
}

function refusal(why: string): ServiceError {
  return new ServiceError("image-format", `The image is an ELF file that ${why}.`);
}
