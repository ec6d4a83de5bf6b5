// Owns: KVM's own loads and stores of guest memory by guest address. VM thread.
//
//   ipa ──slot──▶ userspace address ──object──▶ physical memory; a store marks its page dirty
// @source virt/kvm/kvm_main.c (kvm_read_guest, kvm_write_guest, mark_page_dirty_in_slot) by
//   behaviour
import type { DirtyLog } from "./dirty-log.js";
import type { GuestMemoryPort } from "./guest-memory-port.js";
import { isReadOnly, type Memslot } from "./memslots.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/** Bytes of one page, and what is behind them. */
interface Piece {
  readonly slot: Memslot;
  /** Relative to the slot. */
  readonly page: number;
  readonly pa: number;
  /** In the caller's bytes. */
  readonly from: number;
  readonly to: number;
}

export class GuestMemory implements GuestMemoryPort {
  running: Vcpu | null = null;
  readonly #vm: Vm;
  readonly #log: DirtyLog;

  constructor(vm: Vm, log: DirtyLog) {
    this.#vm = vm;
    this.#log = log;
  }

  isVisible(ipa: number): boolean {
    return this.#slot(ipa) !== null;
  }

  read(ipa: number, length: number): Uint8Array | null {
    const bytes = new Uint8Array(length);
    const pieces = this.#pieces(ipa, length, false);
    if (pieces === null) return null;
    for (const { pa, from, to } of pieces) {
      this.#vm.host.readPhysical(pa, bytes.subarray(from, to));
    }
    return bytes;
  }

  write(ipa: number, bytes: Uint8Array): boolean {
    const pieces = this.#pieces(ipa, bytes.length, true);
    if (pieces === null) return false;
    const { running } = this;
    for (const { slot, page, pa, from, to } of pieces) {
      this.#vm.host.writePhysical(pa, bytes.subarray(from, to));
      this.#log.mark(slot, page, running?.ring ?? null, running?.id ?? null);
    }
    return true;
  }

  #slot(ipa: number): Memslot | null {
    if (ipa >= 2 ** this.#vm.ipaBits) return null;
    const slot = this.#vm.slots.find(Math.floor(ipa / this.#vm.pageSize));
    return slot === undefined || slot.invalid ? null : slot;
  }

  #pieces(ipa: number, length: number, isWrite: boolean): Piece[] | null {
    const { pageSize, mm } = this.#vm;
    const pieces: Piece[] = [];
    for (let from = 0; from < length; ) {
      const at = ipa + from;
      const slot = this.#slot(at);
      if (slot === null || (isWrite && isReadOnly(slot))) return null;
      const page = Math.floor(at / pageSize) - slot.baseGfn;
      const to = Math.min(length, from + pageSize - (at % pageSize));
      const hva = slot.userspaceAddr + page * pageSize + (at % pageSize);
      const object = mm.find(hva);
      // Unbacked memory keeps no bytes; a device's pages are not KVM's to touch.
      if (object === undefined || object.backing === "device") return null;
      if (isWrite && object.backing !== "ram") return null;
      const pa = object.pa + (hva - object.userspaceAddr);
      // Its sequence comes by a command, for which nobody here can wait.
      if (object.backing !== "ram" && this.#vm.missing?.lacks(pa) === true) return null;
      pieces.push({ slot, page, pa, from, to });
      from = to;
    }
    return pieces;
  }
}
