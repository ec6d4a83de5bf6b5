// Owns: what a row of the vGIC's register tables is, and how a frame finds one. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio.h by behaviour; interrupts.md 4
import type { ErrnoName } from "../../base/errno.table.js";
import type { VgicContext } from "./context.js";
import { VGIC_MAX_SPI, type VgicCpu } from "./state.js";

/** Sizes of access that a register accepts, in bytes; a row has their sum. */
export const WIDTH = { BYTE: 1, WORD: 4, DOUBLE: 8 } as const;

/** One access to a register. */
export interface RegisterAt {
  readonly vgic: VgicContext;
  /** Whose banked registers, or whose redistributor. */
  readonly cpu: VgicCpu;
  /** From the row's first byte. */
  readonly offset: number;
  readonly length: number;
  /** First interrupt that the access reaches; for rows of a field for each interrupt. */
  readonly intid: number;
}

interface RowBase {
  readonly name: string;
  /** First byte in its frame, and bytes. */
  readonly offset: number;
  readonly bytes: number;
  /** 0: it is about no interrupt. */
  readonly bitsPerIrq: number;
  readonly widths: number;
}

/** Of 32 bits; `at.offset` says which of the row's words or bytes. */
export interface WordRegister extends RowBase {
  readonly isWide: false;
  readonly read: (at: RegisterAt) => number;
  readonly write: (at: RegisterAt, value: number) => void;
  /** Where userspace's view isn't the guest's. */
  readonly userRead?: (at: RegisterAt) => number;
  readonly userWrite?: (at: RegisterAt, value: number) => ErrnoName | null;
}

/** Of 64 bits, accepted as two words too. */
export interface WideRegister extends RowBase {
  readonly isWide: true;
  readonly read: (at: RegisterAt) => bigint;
  /** @param mask bits that the access reaches */
  readonly write: (at: RegisterAt, value: bigint, mask: bigint) => void;
}

export type Register = WordRegister | WideRegister;

/** Rows of one frame by offset. */
export class RegisterFrame {
  readonly size: number;
  readonly #byWord: (Register | undefined)[];

  constructor(size: number, rows: readonly Register[]) {
    this.size = size;
    this.#byWord = new Array<Register | undefined>(size / WIDTH.WORD).fill(undefined);
    for (const row of rows) {
      const first = row.offset / WIDTH.WORD;
      this.#byWord.fill(row, first, first + row.bytes / WIDTH.WORD);
    }
  }

  /** @returns null: reads as zero, writes are ignored */
  find(offset: number, length: number, nrIrqs: number): Register | null {
    const row = this.#byWord[Math.floor(offset / WIDTH.WORD)];
    if (row === undefined || (row.widths & length) === 0 || offset % length !== 0) return null;
    if (row.bitsPerIrq !== 0 && intidOf(row, offset) >= nrIrqs) return null;
    return row;
  }
}

function intidOf(row: Register, offset: number): number {
  return row.bitsPerIrq === 0 ? 0 : Math.floor(((offset - row.offset) * 8) / row.bitsPerIrq);
}

export interface FrameTarget {
  readonly frame: RegisterFrame;
  readonly vgic: VgicContext;
  readonly cpu: VgicCpu;
}

function atOf({ vgic, cpu }: FrameTarget, row: Register, offset: number, length: number) {
  return { vgic, cpu, offset: offset - row.offset, length, intid: intidOf(row, offset) };
}

const WORD_BITS = 32n;
const LOW_WORD = 0xffff_ffffn;

/** A guest's load. */
export function guestRead(target: FrameTarget, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const row = target.frame.find(offset, length, target.vgic.dist.nrIrqs);
  if (row === null) return bytes;
  const view = new DataView(bytes.buffer);
  const at = atOf(target, row, offset, length);
  if (row.isWide && length === WIDTH.DOUBLE) view.setBigUint64(0, row.read(at), true);
  else if (row.isWide) view.setUint32(0, halfOf(row.read(at), at.offset), true);
  else if (length === WIDTH.WORD) view.setUint32(0, row.read(at), true);
  else view.setUint8(0, row.read(at));
  return bytes;
}

/** A guest's store. */
export function guestWrite(target: FrameTarget, offset: number, store: Uint8Array): void {
  const { length } = store;
  const row = target.frame.find(offset, length, target.vgic.dist.nrIrqs);
  if (row === null) return;
  const view = new DataView(store.buffer, store.byteOffset, length);
  const at = atOf(target, row, offset, length);
  if (row.isWide && length === WIDTH.DOUBLE) {
    row.write(at, view.getBigUint64(0, true), 2n ** 64n - 1n);
  } else if (row.isWide) {
    writeHalf(row, at, view.getUint32(0, true));
  } else {
    row.write(at, length === WIDTH.WORD ? view.getUint32(0, true) : view.getUint8(0));
  }
}

function halfOf(value: bigint, offset: number): number {
  const shift = (offset & WIDTH.WORD) === 0 ? 0n : WORD_BITS;
  return Number((value >> shift) & LOW_WORD);
}

function writeHalf(row: WideRegister, at: RegisterAt, value: number): void {
  const shift = (at.offset & WIDTH.WORD) === 0 ? 0n : WORD_BITS;
  row.write(at, BigInt(value) << shift, LOW_WORD << shift);
}

/** Userspace sees aligned words alone. */
export function hasWord({ frame, vgic }: FrameTarget, offset: number): boolean {
  return frame.find(offset, WIDTH.WORD, vgic.dist.nrIrqs) !== null;
}

/** vgic_uaccess: what isn't there reads as zero. */
export function userRead(target: FrameTarget, offset: number): number {
  const row = target.frame.find(offset, WIDTH.WORD, target.vgic.dist.nrIrqs);
  if (row === null) return 0;
  const at = atOf(target, row, offset, WIDTH.WORD);
  if (row.isWide) return halfOf(row.read(at), at.offset);
  return (row.userRead ?? row.read)(at) >>> 0;
}

export function userWrite(target: FrameTarget, offset: number, value: number): ErrnoName | null {
  const row = target.frame.find(offset, WIDTH.WORD, target.vgic.dist.nrIrqs);
  if (row === null) return null;
  const at = atOf(target, row, offset, WIDTH.WORD);
  if (row.isWide) writeHalf(row, at, value);
  else if (row.userWrite !== undefined) return row.userWrite(at, value);
  else row.write(at, value);
  return null;
}

// ── makers of rows ────────────────────────────────────────────────────────────────────────────

const ZERO = (): number => 0;
const IGNORED = (): void => {};

/** One or more words. */
export function words(
  name: string,
  offset: number,
  bytes: number,
  more: Partial<Omit<WordRegister, "name" | "offset" | "bytes" | "isWide">> = {},
): WordRegister {
  const { read = ZERO, write = IGNORED, widths = WIDTH.WORD, ...rest } = more;
  return { name, offset, bytes, bitsPerIrq: 0, isWide: false, widths, read, write, ...rest };
}

export function wide(
  name: string,
  offset: number,
  more: Partial<Pick<WideRegister, "read" | "write" | "bytes" | "bitsPerIrq">>,
): WideRegister {
  const { read = () => 0n, write = IGNORED, bytes = WIDTH.DOUBLE, bitsPerIrq = 0 } = more;
  const widths = WIDTH.WORD | WIDTH.DOUBLE;
  return { name, offset, bytes, bitsPerIrq, isWide: true, widths, read, write };
}

/** Interrupts that rows of fields reach, the special ones included. */
export const IRQS_OF_ROW = VGIC_MAX_SPI + 5;
