// Owns: a bank of NOR flash with Intel's command set: two 16-bit chips side by side. VM thread.
//
//   array mode     a READONLY memslot: loads and code need no exit, stores come here
//   command mode   no memslot: loads come here too, for status, identifiers, CFI
// @source JEDEC JESD68 (CFI), JEP137 (Intel/Sharp command set 1)
import type { Saved } from "../../base/saved.js";
import type { MmioDevice } from "./device.js";
import { FLASH } from "./memory-map.table.js";

const COMMAND = {
  array: 0xff,
  program: 0x40,
  programAlternate: 0x10,
  erase: 0x20,
  clearStatus: 0x50,
  lock: 0x60,
  status: 0x70,
  identifiers: 0x90,
  query: 0x98,
  buffer: 0xe8,
  confirm: 0xd0,
} as const;
const STATUS = { ready: 0x80, eraseError: 0x20, programError: 0x10 } as const; // tidy: bits
const MANUFACTURER = 0x89;
const DEVICE = 0x18;
/** Of one chip: log2 of its bytes, of its write buffer, of 256-byte units in a block. */
const CHIP = { sizeLog2: 25, bufferLog2: 11, blockBytes: FLASH.blockBytes / 2 } as const;
/** Words of the write buffer, both chips. */
const BUFFER_BYTES = 2 * 2 ** CHIP.bufferLog2;
const CFI_FROM = 0x10;

/** Bytes of the query from 0x10 on. */
const CFI = [
  ...[0x51, 0x52, 0x59],
  // Command set 1, its table at 0x31; no alternate one.
  ...[0x01, 0x00, 0x31, 0x00, 0x00, 0x00, 0x00, 0x00],
  // Vcc 4.5 to 5.5 V, no Vpp.
  ...[0x45, 0x55, 0x00, 0x00],
  // Typical and longest times: program, buffer, block erase, chip erase.
  ...[0x07, 0x07, 0x0a, 0x00, 0x04, 0x04, 0x04, 0x00],
  ...[CHIP.sizeLog2, 0x02, 0x00, CHIP.bufferLog2, 0x00],
  // One region of equal blocks.
  0x01,
  ...halves(FLASH.bankBytes / FLASH.blockBytes - 1),
  ...halves(CHIP.blockBytes / 256),
  // "PRI" 1.0 without optional features.
  ...[0x50, 0x52, 0x49, 0x31, 0x30, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
] as const;

function halves(value: number): readonly [number, number] {
  return [value & 0xff, value >> 8];
}

/** The array's bytes, in the board's memory. */
export interface FlashArray {
  read(offset: number, bytes: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

export class Pflash implements MmioDevice {
  readonly name: string;
  readonly base: number;
  readonly size = FLASH.bankBytes;
  readonly #array: FlashArray;
  /** COMMAND.array in array mode. */
  #command: number = COMMAND.array;
  /** Cycles of the command that were written. */
  #cycle = 0;
  #status: number = STATUS.ready;
  /** Stores that the write buffer still takes, and those that it has. */
  #left = 0;
  #buffer: { readonly offset: number; readonly bytes: Uint8Array }[] = [];

  constructor(bank: number, array: FlashArray) {
    this.name = `flash${bank}`;
    this.base = FLASH.base + bank * FLASH.bankBytes;
    this.#array = array;
  }

  /** Loads give the array's bytes. */
  get isArray(): boolean {
    return this.#command === COMMAND.array;
  }

  /** The content stays. */
  reset(): void {
    this.#toArray();
    this.#status = STATUS.ready;
  }

  #toArray(): void {
    this.#command = COMMAND.array;
    this.#cycle = 0;
    this.#left = 0;
    this.#buffer = [];
  }

  read(offset: number, bytes: number): bigint {
    if (this.isArray) {
      const data = this.#array.read(offset, bytes);
      return data.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    }
    let word: number = this.#status;
    const at = (offset & 0xff) >> 2;
    if (this.#command === COMMAND.identifiers) word = [MANUFACTURER, DEVICE][at] ?? 0;
    if (this.#command === COMMAND.query) word = CFI[at - CFI_FROM] ?? 0;
    // Both chips answer, each on its half of the word.
    const both = BigInt(word | (word << 16)); // tidy: the upper chip's lanes
    return BigInt.asUintN(8 * bytes, both >> BigInt(8 * (offset & 3)));
  }

  write(offset: number, bytes: number, value: bigint): void {
    const code = Number(value & 0xffn);
    if (this.#cycle === 0) this.#begin(code);
    else if (this.#command === COMMAND.buffer) this.#buffered(offset, bytes, value);
    else this.#second(offset, bytes, value);
  }

  #begin(code: number): void {
    switch (code) {
      case COMMAND.program:
      case COMMAND.programAlternate:
      case COMMAND.erase:
      case COMMAND.lock:
      case COMMAND.buffer:
        this.#command = code;
        this.#cycle = 1;
        break;
      case COMMAND.status:
      case COMMAND.identifiers:
      case COMMAND.query:
        this.#command = code;
        break;
      default:
        if (code === COMMAND.clearStatus) this.#status = STATUS.ready;
        this.#toArray();
    }
  }

  #second(offset: number, bytes: number, value: bigint): void {
    const code = Number(value & 0xffn);
    this.#cycle = 0;
    if (this.#command === COMMAND.program || this.#command === COMMAND.programAlternate) {
      this.#program(offset, bytesOf(value, bytes));
    } else if (this.#command === COMMAND.erase) {
      if (code === COMMAND.confirm) this.#erase(offset);
      else this.#status |= STATUS.eraseError | STATUS.programError;
    } else if (code === COMMAND.array) {
      // Blocks are never locked: every other second cycle of lock is as good as the right one.
      this.#toArray();
    }
  }

  #buffered(offset: number, bytes: number, value: bigint): void {
    if (this.#cycle === 1) {
      this.#left = Number(value & 0xffffn) + 1;
      this.#cycle = 2;
    } else if (this.#cycle === 2) {
      this.#buffer.push({ offset, bytes: bytesOf(value, bytes) });
      this.#left--;
      if (this.#left === 0 || this.#buffer.length * bytes >= BUFFER_BYTES) this.#cycle = 3;
    } else {
      const isConfirmed = Number(value & 0xffn) === COMMAND.confirm;
      if (isConfirmed) for (const each of this.#buffer) this.#program(each.offset, each.bytes);
      else this.#status |= STATUS.eraseError | STATUS.programError;
      this.#buffer = [];
      this.#cycle = 0;
    }
  }

  /** Programming only clears bits. */
  #program(offset: number, bytes: Uint8Array): void {
    const present = this.#array.read(offset, bytes.length);
    this.#array.write(
      offset,
      present.map((byte, i) => byte & (bytes[i] ?? 0)),
    );
  }

  #erase(offset: number): void {
    const first = offset - (offset % FLASH.blockBytes);
    this.#array.write(first, new Uint8Array(FLASH.blockBytes).fill(0xff));
  }

  save(): Saved {
    const data = {
      command: this.#command,
      cycle: this.#cycle,
      status: this.#status,
      left: this.#left,
      buffer: this.#buffer.map(({ offset, bytes }) => ({ offset, bytes: bytes.slice() })),
    };
    return { kind: "pflash", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      command: number;
      cycle: number;
      status: number;
      left: number;
      buffer: { offset: number; bytes: Uint8Array }[];
    };
    this.#command = data.command;
    this.#cycle = data.cycle;
    this.#status = data.status;
    this.#left = data.left;
    this.#buffer = data.buffer.map(({ offset, bytes }) => ({ offset, bytes: bytes.slice() }));
  }
}

function bytesOf(value: bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
