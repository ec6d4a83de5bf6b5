// Owns: a board's RAM as its devices reach it, and which pages they wrote to. VM thread.
//
// KVM sees no store of userspace: as QEMU does, the VMM keeps a log of its own writes beside KVM's
// while RAM is logged. A reader of the log gets both.
import { ServiceError } from "../../base/errors.js";
import type { Saved } from "../../base/saved.js";
import type { Kvm, MemoryObject } from "../../kvm/index.js";
import { RAM_BASE } from "./memory-map.table.js";

export class GuestMemory {
  readonly #host: Kvm["vm"]["host"];
  readonly #mm: Kvm["vm"]["mm"];
  readonly #bytes: number;
  readonly #pageSize: number;
  /** null until there is any. */
  #ram: MemoryObject | null = null;
  /** A bit for each page of RAM that a device wrote to and no log told of; null: not logged. */
  #written: Uint8Array | null = null;

  constructor({ vm }: Kvm, bytes: number) {
    this.#host = vm.host;
    this.#mm = vm.mm;
    this.#bytes = bytes;
    this.#pageSize = vm.pageSize;
  }

  attach(ram: MemoryObject): void {
    this.#ram = ram;
  }

  /** @throws ServiceError "gpa-not-mapped" where it isn't all RAM */
  read(address: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    const { ram, offset } = this.#at(address, length);
    this.#host.readPhysical(ram.pa + offset, out);
    return out;
  }

  /** @throws ServiceError "gpa-not-mapped" */
  write(address: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const { ram, offset } = this.#at(address, bytes.length);
    this.#mm.store(ram, offset, bytes);
    if (this.#written === null) return;
    const first = Math.floor(offset / this.#pageSize);
    const last = Math.floor((offset + bytes.length - 1) / this.#pageSize);
    for (let page = first; page <= last; page++) setBit(this.#written, page);
  }

  u16(address: number): number {
    return this.#view(address, 2).getUint16(0, true);
  }

  setU16(address: number, value: number): void {
    this.write(address, Uint8Array.of(value & 0xff, (value >> 8) & 0xff));
  }

  /** @throws ServiceError "gpa-not-mapped" */
  #view(address: number, length: number): DataView {
    const { ram, offset } = this.#at(address, length);
    this.#host.pageGuard?.(ram.pa + offset, length);
    return new DataView(this.#host.memory.u8.buffer, ram.pa + offset, length);
  }

  #at(address: number, length: number): { ram: MemoryObject; offset: number } {
    const ram = this.#ram;
    const offset = address - RAM_BASE;
    if (offset >= 0 && offset + length <= this.#bytes && ram !== null) return { ram, offset };
    const where = `${length} bytes at 0x${address.toString(16)}`;
    throw new ServiceError("gpa-not-mapped", `a device wants ${where}, which isn't RAM`);
  }

  /** RAM begins to be logged, or ends: what was written before is nobody's news. */
  setLogging(on: boolean): void {
    const words = Math.ceil(this.#bytes / this.#pageSize / 64);
    this.#written = on ? (this.#written ?? new Uint8Array(8 * words)) : null;
  }

  /** Adds what devices wrote to a log that was read. @param consume it is told once */
  addTo(bitmap: Uint8Array, consume: boolean): void {
    const written = this.#written;
    if (written === null) return;
    for (const [at, bits] of written.entries()) {
      if (bits !== 0) bitmap[at] = (bitmap[at] ?? 0) | bits;
    }
    if (consume) written.fill(0);
  }

  /** Pages of these bits log again. @param firstPage of the bitmap, a multiple of 64 */
  cleared(firstPage: number, bitmap: Uint8Array): void {
    const written = this.#written;
    if (written === null) return;
    for (const [at, bits] of bitmap.entries()) {
      const byte = firstPage / 8 + at;
      const present = written[byte];
      if (present !== undefined) written[byte] = present & ~bits;
    }
  }

  save(): Saved {
    return { kind: "guest-memory", version: 1, data: { written: this.#written?.slice() ?? null } };
  }

  load(saved: Saved): void {
    this.#written = (saved.data as { written: Uint8Array | null }).written?.slice() ?? null;
  }
}

function setBit(bits: Uint8Array, at: number): void {
  bits[at >> 3] = (bits[at >> 3] ?? 0) | (1 << (at & 7));
}
