// Owns: a PL011 UART: registers, FIFOs, interrupt status. VM thread.
//
//   guest ─DR─▶ sent at once ─▶ transmit()        typed ─▶ backlog ─▶ receive FIFO ─DR─▶ guest
// The line is endlessly fast: the transmit FIFO is always empty, and what was typed follows as soon
// as there is room. As with QEMU, bytes pass whether or not CR enables the UART.
// @source Arm DDI 0183 (PrimeCell UART PL011)
import type { Saved } from "../../base/saved.js";
import { type IrqLine, type MmioDevice, readWord, writeWord } from "./device.js";
import { UART } from "./memory-map.table.js";

const REG = {
  DR: 0x00,
  RSR: 0x04,
  FR: 0x18,
  ILPR: 0x20,
  IBRD: 0x24,
  FBRD: 0x28,
  LCR_H: 0x2c,
  CR: 0x30,
  IFLS: 0x34,
  IMSC: 0x38,
  RIS: 0x3c,
  MIS: 0x40,
  ICR: 0x44,
  DMACR: 0x48,
  PERIPH_ID0: 0xfe0,
} as const;

/** PeriphID0 to 3 and PCellID0 to 3, a byte in each word. */
const ID_BYTES = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];
const FR_FLAG = { RXFE: 1 << 4, RXFF: 1 << 6, TXFE: 1 << 7 } as const;
const LCR_FEN = 1 << 4;
const CR_LBE = 1 << 7;
const INT = { RX: 1 << 4, TX: 1 << 5, RT: 1 << 6, OE: 1 << 10 } as const;
const INT_ALL = 0x7ff;
/** In DR and RSR: the byte before this one was lost. */
const DR_OE = 1 << 11;
const RSR_OE = 1 << 3;
const FIFO_BYTES = 16;
/** Receive levels of IFLS in bytes: an eighth, a quarter, half, three quarters, seven eighths. */
const RX_LEVELS = [2, 4, 8, 12, 14]; // tidy: bytes of the FIFO
/** Registers that keep what is written: offset, bits that exist, value at reset. */
const PLAIN: readonly (readonly [offset: number, mask: number, reset: number])[] = [
  [REG.ILPR, 0xff, 0],
  [REG.IBRD, 0xffff, 0],
  [REG.FBRD, 0x3f, 0],
  [REG.LCR_H, 0xff, 0],
  [REG.CR, 0xff87, 0x300],
  [REG.IFLS, 0x3f, 0x12],
  [REG.IMSC, INT_ALL, 0],
  [REG.DMACR, 0x7, 0],
];
/** Bytes typed that the guest has not taken yet. */
const BACKLOG_MAX = 65_536;

export class Pl011 implements MmioDevice {
  readonly name = "pl011";
  readonly base = UART.base;
  readonly size = UART.size;
  readonly #transmit: (byte: number) => void;
  readonly #irq: IrqLine;
  readonly #plain = new Map<number, number>();
  /** Received bytes with their error bits. */
  #fifo: number[] = [];
  #backlog: number[] = [];
  #ris = 0;
  #rsr = 0;
  #overrun = false;

  /**
   * @param transmit takes each byte that the guest sends
   * @param irq UARTINTR
   */
  constructor(transmit: (byte: number) => void, irq: IrqLine) {
    this.#transmit = transmit;
    this.#irq = irq;
    this.reset();
  }

  /** Power-on state. What was typed and not taken is still to come. */
  reset(): void {
    for (const [offset, , reset] of PLAIN) this.#plain.set(offset, reset);
    this.#fifo = [];
    this.#ris = 0;
    this.#rsr = 0;
    this.#overrun = false;
    this.#refill();
    this.#drive();
  }

  /** UARTINTR: an interrupt status that isn't masked. */
  #drive(): void {
    this.#irq((this.#ris & this.#get(REG.IMSC)) !== 0);
  }

  get backlog(): number {
    return this.#backlog.length;
  }

  /** Types bytes. @returns whether there was room for them; all or nothing */
  type(bytes: Uint8Array): boolean {
    if (this.#backlog.length + bytes.length > BACKLOG_MAX) return false;
    for (const byte of bytes) this.#backlog.push(byte);
    this.#refill();
    this.#drive();
    return true;
  }

  read(offset: number, bytes: number): bigint {
    const value = readWord(offset, bytes, (word) => this.#load(word));
    this.#drive();
    return value;
  }

  write(offset: number, _bytes: number, value: bigint): void {
    writeWord(offset, value, (word, bits) => this.#store(word, bits));
    this.#drive();
  }

  #load(offset: number): number {
    if (offset >= REG.PERIPH_ID0) return ID_BYTES[(offset - REG.PERIPH_ID0) / 4] ?? 0;
    switch (offset) {
      case REG.DR:
        return this.#take();
      case REG.RSR:
        return this.#rsr;
      case REG.FR:
        return this.#flags();
      case REG.RIS:
        return this.#ris;
      case REG.MIS:
        return this.#ris & this.#get(REG.IMSC);
      default:
        return this.#plain.get(offset) ?? 0;
    }
  }

  #store(offset: number, value: number): void {
    if (offset === REG.DR) this.#send(value & 0xff);
    else if (offset === REG.RSR) this.#rsr = 0;
    else if (offset === REG.ICR) this.#ris &= ~value;
    else this.#set(offset, value);
  }

  #get(offset: number): number {
    return this.#plain.get(offset) ?? 0;
  }

  #set(offset: number, value: number): void {
    const row = PLAIN.find(([at]) => at === offset);
    if (row === undefined) return;
    const before = this.#get(offset);
    this.#plain.set(offset, value & row[1]);
    const isToggled = offset === REG.LCR_H && ((before ^ value) & LCR_FEN) !== 0;
    // Switching the FIFOs on or off empties them.
    if (isToggled) this.#fifo = [];
    if (isToggled || offset === REG.IFLS) this.#received();
    if (isToggled) this.#refill();
  }

  get #capacity(): number {
    return (this.#get(REG.LCR_H) & LCR_FEN) === 0 ? 1 : FIFO_BYTES;
  }

  get #rxLevel(): number {
    if (this.#capacity === 1) return 1;
    return RX_LEVELS[(this.#get(REG.IFLS) >> 3) & 7] ?? FIFO_BYTES;
  }

  #flags(): number {
    let flags: number = FR_FLAG.TXFE;
    if (this.#fifo.length === 0) flags |= FR_FLAG.RXFE;
    if (this.#fifo.length >= this.#capacity) flags |= FR_FLAG.RXFF;
    return flags;
  }

  #send(byte: number): void {
    if ((this.#get(REG.CR) & CR_LBE) !== 0) this.#loop(byte);
    else this.#transmit(byte);
    // Sent at once: the FIFO went through its level.
    this.#ris |= INT.TX;
  }

  /** Loop back: nobody holds the sender back, so a full FIFO loses the byte. */
  #loop(byte: number): void {
    if (this.#fifo.length < this.#capacity) {
      this.#fifo.push(byte | (this.#overrun ? DR_OE : 0));
      this.#overrun = false;
    } else {
      this.#overrun = true;
      this.#rsr |= RSR_OE;
      this.#ris |= INT.OE;
    }
    this.#received();
  }

  #take(): number {
    const data = this.#fifo.shift() ?? 0;
    this.#rsr = (data >> 8) & 0xf;
    this.#received();
    this.#refill();
    return data;
  }

  #refill(): void {
    if (this.#backlog.length === 0 || this.#fifo.length >= this.#capacity) return;
    const room = this.#capacity - this.#fifo.length;
    this.#fifo.push(...this.#backlog.splice(0, room));
    this.#received();
  }

  /** Receive interrupts follow the FIFO; below its level the time-out is over at once. */
  #received(): void {
    const count = this.#fifo.length;
    this.#ris &= ~(INT.RX | INT.RT);
    if (count >= this.#rxLevel) this.#ris |= INT.RX;
    else if (count > 0) this.#ris |= INT.RT;
  }

  save(): Saved {
    const data = {
      plain: PLAIN.map(([offset]) => this.#get(offset)),
      fifo: [...this.#fifo],
      backlog: Uint8Array.from(this.#backlog),
      ris: this.#ris,
      rsr: this.#rsr,
      overrun: this.#overrun,
    };
    return { kind: "pl011", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      plain: number[];
      fifo: number[];
      backlog: Uint8Array;
      ris: number;
      rsr: number;
      overrun: boolean;
    };
    for (const [i, [offset]] of PLAIN.entries()) this.#plain.set(offset, data.plain[i] ?? 0);
    this.#fifo = [...data.fifo];
    this.#backlog = [...data.backlog];
    this.#ris = data.ris;
    this.#rsr = data.rsr;
    this.#overrun = data.overrun;
  }
}
