// Owns: a board's flash as memory: its banks' bytes, and the memslots that show them while they are
// in array mode. VM thread.
import type { Saved } from "../../base/saved.js";
import type { Kvm, MemoryObject, Op } from "../../kvm/index.js";
import { FLASH, MIB } from "./memory-map.table.js";
import { Pflash } from "./pflash.js";

/** KVM_MEM_READONLY: a store leaves as KVM_EXIT_MMIO. */
const READONLY = 2;
/** Slots of the banks. */
export const FLASH_SLOTS = [1, 2] as const;

interface Bank {
  readonly chips: Pflash;
  readonly object: MemoryObject;
  /** Its slot is there, or on its way. */
  isMapped: boolean;
}

export class Flash {
  readonly banks: readonly Bank[];
  readonly #kvm: Kvm;

  /**
   * Erased, with the firmware at the beginning of the first bank.
   * @throws KvmError ENOMEM
   */
  constructor(kvm: Kvm, firmware: Uint8Array) {
    this.#kvm = kvm;
    const { host, mm } = kvm.vm;
    this.banks = FLASH_SLOTS.map((_, bank) => {
      const size = BigInt(FLASH.bankBytes);
      const object = mm.map({ size, userspaceAddr: null, backing: "ram", hugePages: true });
      const erased = new Uint8Array(MIB).fill(0xff);
      for (let at = 0; at < object.bytes; at += MIB) mm.store(object, at, erased);
      if (bank === 0) mm.store(object, 0, firmware);
      const array = {
        read: (offset: number, bytes: number) => {
          const out = new Uint8Array(bytes);
          host.readPhysical(object.pa + offset, out);
          return out;
        },
        write: (offset: number, bytes: Uint8Array) => mm.store(object, offset, bytes),
      };
      return { chips: new Pflash(bank, array), object, isMapped: false };
    });
  }

  /** Whether slots and modes agree. */
  get isSettled(): boolean {
    return this.banks.every(({ chips, isMapped }) => chips.isArray === isMapped);
  }

  /** Makes the slots follow the modes. */
  *settle(): Op<void> {
    for (const [at, bank] of this.banks.entries()) {
      while (bank.chips.isArray !== bank.isMapped) {
        bank.isMapped = bank.chips.isArray;
        yield* this.#kvm.regions.set(this.#region(at, bank), true);
      }
    }
  }

  #region(at: number, { chips, object, isMapped }: Bank) {
    return {
      slot: FLASH_SLOTS[at] ?? 0,
      flags: READONLY,
      guestPhysAddr: BigInt(chips.base),
      memorySize: isMapped ? BigInt(object.bytes) : 0n,
      userspaceAddr: BigInt(object.userspaceAddr),
      guestMemfd: 0,
      guestMemfdOffset: 0n,
    };
  }

  save(): Saved {
    const data = { mapped: this.banks.map(({ isMapped }) => isMapped) };
    return { kind: "flash", version: 1, data };
  }

  /** The slots themselves are KVM's: come back with it, or still to follow the modes. */
  load(_saved: Saved): void {
    const { slots } = this.#kvm.vm;
    for (const [at, bank] of this.banks.entries()) {
      bank.isMapped = slots.get(FLASH_SLOTS[at] ?? -1) !== undefined;
    }
  }
}
