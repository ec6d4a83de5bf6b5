// Owns: what a device on the board's bus is, and the bus: which of them answers an address.
// VM thread.
import type { Saved, Stateful } from "../../base/saved.js";

/** A device's output; called with the present level, whether or not it changed. */
export type IrqLine = (level: boolean) => void;

export interface MmioDevice extends Stateful {
  readonly name: string;
  readonly base: number;
  readonly size: number;
  /** @param bytes 1, 2, 4 or 8; @returns the value, little-endian as the bus has it */
  read(offset: number, bytes: number): bigint;
  write(offset: number, bytes: number, value: bigint): void;
  /** Power-on state. */
  reset(): void;
}

/** A load from a device of 32-bit registers: any width, up to the end of the register. */
export function readWord(
  offset: number,
  bytes: number,
  register: (word: number) => number,
): bigint {
  const value = BigInt(register(offset & ~3) >>> 0) >> BigInt(8 * (offset & 3));
  return BigInt.asUintN(8 * bytes, value);
}

/** A store to a device of 32-bit registers: one to a register's upper bytes reaches no bit. */
export function writeWord(
  offset: number,
  value: bigint,
  register: (word: number, value: number) => void,
): void {
  if ((offset & 3) === 0) register(offset, Number(BigInt.asUintN(32, value)));
}

/** Every device of a board, in the order in which they were added. */
export class Devices {
  readonly #all: MmioDevice[] = [];
  /** Most accesses go where the last one went. */
  #last: MmioDevice | null = null;

  add<D extends MmioDevice>(device: D): D {
    this.#all.push(device);
    return device;
  }

  /** @returns null where no device is */
  #at(address: number): MmioDevice | null {
    if (this.#last !== null && isIn(this.#last, address)) return this.#last;
    const found = this.#all.find((device) => isIn(device, address)) ?? null;
    if (found !== null) this.#last = found;
    return found;
  }

  /** @returns what is there now; null where no device is */
  readAt(address: number, bytes: number): Uint8Array | null {
    const device = this.#at(address);
    if (device === null) return null;
    const value = device.read(address - device.base, bytes);
    return Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
  }

  /** @returns whether there is a device */
  writeAt(address: number, data: Uint8Array): boolean {
    const device = this.#at(address);
    if (device === null) return false;
    const value = data.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    device.write(address - device.base, data.length, value);
    return true;
  }

  reset(): void {
    for (const device of this.#all) device.reset();
  }

  save(): Saved {
    const data = Object.fromEntries(this.#all.map((device) => [device.name, device.save()]));
    return { kind: "devices", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as Readonly<Record<string, Saved>>;
    for (const device of this.#all) {
      const own = data[device.name];
      if (own !== undefined) device.load(own);
    }
  }
}

function isIn({ base, size }: MmioDevice, address: number): boolean {
  return address >= base && address < base + size;
}
