// Owns: a PCI function's configuration space: ids, command, base address registers, and which
// accesses of the bus it claims by them. VM thread. @source PCI Local Bus Specification 3.0, 6.2
import type { Saved, Stateful } from "../../../base/saved.js";

const CONFIG_BYTES = 256;
const REG = { id: 0, command: 4, class: 8, cacheLine: 0xc, bar: 0x10, subsystem: 0x2c, line: 0x3c };
const COMMAND = { io: 1, memory: 2 } as const;
/** Command bits that can be set: I/O, memory, master, parity, SERR#, INTx off. */
const COMMAND_MASK = 0x547;
const SUBSYSTEM = { vendor: 0x1af4, device: 0x1100 } as const;

export type Space = "memory" | "io";

interface Bar {
  readonly space: Space;
  /** A power of two. */
  readonly size: number;
}

/** What answers where a function's base address registers point. */
export interface BarDevice extends Stateful {
  readonly bars: readonly Bar[];
  read(bar: number, offset: number, bytes: number): bigint;
  write(bar: number, offset: number, bytes: number, value: bigint): void;
  reset(): void;
}

interface Identity {
  readonly vendor: number;
  readonly device: number;
  /** Base class and sub-class. */
  readonly class: number;
}

export class PciFunction implements Stateful {
  readonly device: BarDevice | null;
  readonly #identity: Identity;
  readonly #config = new Uint8Array(CONFIG_BYTES);
  readonly #view = new DataView(this.#config.buffer);
  /** Bits that a guest can change. */
  readonly #writable = new Uint8Array(CONFIG_BYTES);

  constructor(identity: Identity, device: BarDevice | null) {
    this.#identity = identity;
    this.device = device;
    const mask = new DataView(this.#writable.buffer);
    mask.setUint16(REG.command, COMMAND_MASK, true);
    mask.setUint8(REG.cacheLine, 0xff);
    mask.setUint8(REG.line, 0xff);
    for (const [at, { size }] of this.#bars.entries()) {
      mask.setUint32(REG.bar + 4 * at, -size >>> 0, true);
    }
    this.reset();
  }

  get #bars(): readonly Bar[] {
    return this.device?.bars ?? [];
  }

  reset(): void {
    const { vendor, device, class: kind } = this.#identity;
    this.#config.fill(0);
    this.#view.setUint16(REG.id, vendor, true);
    this.#view.setUint16(REG.id + 2, device, true);
    this.#view.setUint16(REG.class + 2, kind, true);
    this.#view.setUint16(REG.subsystem, SUBSYSTEM.vendor, true);
    this.#view.setUint16(REG.subsystem + 2, SUBSYSTEM.device, true);
    for (const [at, { space }] of this.#bars.entries()) {
      this.#view.setUint32(REG.bar + 4 * at, space === "io" ? 1 : 0, true);
    }
    this.device?.reset();
  }

  /** Of the configuration space; the extended one has no capability. */
  read(offset: number, bytes: number): bigint {
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) {
      value = (value << 8n) | BigInt(this.#config[offset + i] ?? 0);
    }
    return value;
  }

  write(offset: number, bytes: number, value: bigint): void {
    for (let i = 0; i < bytes; i++) {
      const old = this.#config[offset + i] ?? 0;
      const mask = this.#writable[offset + i] ?? 0;
      const byte = Number((value >> BigInt(8 * i)) & 0xffn);
      this.#config[offset + i] = (old & ~mask) | (byte & mask);
    }
  }

  /** @returns which of its bars an address of the bus falls into; null: none, or it is off */
  claims(space: Space, address: number): { readonly bar: number; readonly offset: number } | null {
    const isOn = this.#view.getUint16(REG.command, true) & COMMAND[space];
    if (isOn === 0) return null;
    for (const [bar, { space: own, size }] of this.#bars.entries()) {
      if (own !== space) continue;
      const base = (this.#view.getUint32(REG.bar + 4 * bar, true) & -size) >>> 0;
      if (address >= base && address < base + size) return { bar, offset: address - base };
    }
    return null;
  }

  save(): Saved {
    const data = { config: this.#config.slice(), device: this.device?.save() ?? null };
    return { kind: "pci-function", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as { config: Uint8Array; device: Saved | null };
    this.#config.set(data.config);
    if (data.device !== null) this.device?.load(data.device);
  }
}
