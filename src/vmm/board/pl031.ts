// Owns: a PL031 real-time clock: a counter of seconds, a match register, one interrupt. VM thread.
// As QEMU has it, the clock always runs, whatever is written to CR.
// @source Arm DDI 0224 (PrimeCell Real Time Clock PL031)
import type { Saved } from "../../base/saved.js";
import { type IrqLine, type MmioDevice, readWord, writeWord } from "./device.js";
import { RTC } from "./memory-map.table.js";
import { Alarm, NS_PER_S, type TimeOfDay } from "./time.js";

const REG = {
  DR: 0x00,
  MR: 0x04,
  LR: 0x08,
  CR: 0x0c,
  IMSC: 0x10,
  RIS: 0x14,
  MIS: 0x18,
  ICR: 0x1c,
  PERIPH_ID0: 0xfe0,
} as const;

/** PeriphID0 to 3 and PCellID0 to 3, a byte in each word. */
const ID_BYTES = [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
const CR_START = 1;

export class Pl031 implements MmioDevice {
  readonly name = "pl031";
  readonly base = RTC.base;
  readonly size = RTC.size;
  readonly #time: TimeOfDay;
  readonly #irq: IrqLine;
  readonly #alarm: Alarm;
  /** What the counter is ahead of the time of day, modulo 2^32. */
  #offset = 0;
  #match = 0;
  #load = 0;
  #mask = 0;
  #ris = 0;
  /** Time of day at which the counter matches; null: it has, or nothing was asked for. */
  #dueNs: bigint | null = null;
  /** Time of a board that is halted must not bring its guest anything. */
  #isRunning = false;

  /** @param irq RTCINTR */
  constructor(time: TimeOfDay, irq: IrqLine) {
    this.#time = time;
    this.#irq = irq;
    this.#alarm = new Alarm(time.vm, () => this.#look());
  }

  /** Keeps the time: it has a battery. */
  reset(): void {
    this.#match = 0;
    this.#load = 0;
    this.#mask = 0;
    this.#ris = 0;
    this.#dueNs = null;
    this.#alarm.disarm();
    this.#drive();
  }

  /** The board's vCPUs begin to run, or have stopped. */
  setRunning(isRunning: boolean): void {
    this.#isRunning = isRunning;
    this.#alarm.disarm();
    this.#look();
  }

  read(offset: number, bytes: number): bigint {
    return readWord(offset, bytes, (word) => this.#register(word));
  }

  write(offset: number, _bytes: number, value: bigint): void {
    writeWord(offset, value, (word, bits) => this.#store(word, bits));
    this.#drive();
  }

  #register(offset: number): number {
    if (offset >= REG.PERIPH_ID0) return ID_BYTES[(offset - REG.PERIPH_ID0) / 4] ?? 0;
    switch (offset) {
      case REG.DR:
        return this.#count;
      case REG.MR:
        return this.#match;
      case REG.LR:
        return this.#load;
      case REG.CR:
        return CR_START;
      case REG.IMSC:
        return this.#mask;
      case REG.RIS:
        return this.#ris;
      case REG.MIS:
        return this.#ris & this.#mask;
      default:
        return 0;
    }
  }

  #store(offset: number, value: number): void {
    if (offset === REG.IMSC) this.#mask = value & 1;
    // Whatever is written clears it.
    else if (offset === REG.ICR) this.#ris = 0;
    else if (offset === REG.MR) {
      this.#match = value;
      this.#aim();
    } else if (offset === REG.LR) {
      this.#load = value;
      this.#offset = (this.#offset + value - this.#count) >>> 0;
      this.#aim();
    }
  }

  get #seconds(): bigint {
    return this.#time.ns / NS_PER_S;
  }

  get #count(): number {
    return Number(BigInt.asUintN(32, this.#seconds + BigInt(this.#offset)));
  }

  /** Computes when the counter matches next. */
  #aim(): void {
    const left = (this.#match - this.#count) >>> 0;
    this.#dueNs = (this.#seconds + BigInt(left)) * NS_PER_S;
    this.#alarm.disarm();
    this.#look();
  }

  /** Raises the interrupt if it is time, else waits for it. */
  #look(): void {
    if (this.#dueNs === null || !this.#isRunning) return;
    const left = this.#dueNs - this.#time.ns;
    if (left > 0n) {
      this.#alarm.arm(left);
      return;
    }
    this.#dueNs = null;
    this.#ris = 1;
    this.#drive();
  }

  #drive(): void {
    this.#irq((this.#ris & this.#mask) !== 0);
  }

  save(): Saved {
    const data = {
      offset: this.#offset,
      match: this.#match,
      load: this.#load,
      mask: this.#mask,
      ris: this.#ris,
      dueNs: this.#dueNs,
    };
    return { kind: "pl031", version: 1, data };
  }

  /** Into a board that is halted. */
  load(saved: Saved): void {
    const data = saved.data as {
      offset: number;
      match: number;
      load: number;
      mask: number;
      ris: number;
      dueNs: bigint | null;
    };
    this.#offset = data.offset;
    this.#match = data.match;
    this.#load = data.load;
    this.#mask = data.mask;
    this.#ris = data.ris;
    this.#dueNs = data.dueNs;
  }
}
