// Owns: stolen time: what a vCPU waited for a host CPU, told to the guest in its memory. VM thread.
//
//   queue for a host CPU ──▶ run delay ──at vcpu_load──▶ record in guest memory, marked dirty
// @source arch/arm64/kvm/pvtime.c by behaviour; kvm-uapi.md 8.9, 9.4
import { KvmError } from "../base/errors.js";
import type { DirtyLog } from "./dirty-log.js";
import type { StolenTime } from "./firmware/hypercalls.js";
import { isReadOnly, type Memslot } from "./memslots.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/** Revision, attributes, stolen time in ns, padding. */
const RECORD_BYTES = 64;
const STOLEN_TIME = 8;

/** A record's place in memory; null where there is none that KVM could write. */
interface Place {
  readonly slot: Memslot;
  readonly page: number;
  readonly pa: number;
}

export class PvTime implements StolenTime {
  readonly #vm: Vm;
  readonly #log: DirtyLog;

  constructor(vm: Vm, log: DirtyLog) {
    this.#vm = vm;
    this.#log = log;
  }

  /** kvm_init_stolen_time. */
  begin(vcpu: Vcpu): bigint | null {
    const ipa = vcpu.pvtimeIpa;
    if (ipa === null) return null;
    vcpu.lastSteal = vcpu.runDelayNs;
    this.#write(vcpu, ipa, new Uint8Array(RECORD_BYTES));
    return ipa;
  }

  /** kvm_update_stolen_time: the guest's own figure goes up by what was added to the delay. */
  update(vcpu: Vcpu): void {
    const ipa = vcpu.pvtimeIpa;
    const place = ipa === null ? null : this.#place(ipa);
    if (ipa === null || place === null) return;
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    this.#vm.host.readPhysical(place.pa + STOLEN_TIME, bytes);
    const stolen = view.getBigUint64(0, true) + BigInt(vcpu.runDelayNs - vcpu.lastSteal);
    view.setBigUint64(0, stolen, true);
    vcpu.lastSteal = vcpu.runDelayNs;
    this.#write(vcpu, ipa + BigInt(STOLEN_TIME), bytes);
  }

  #write(vcpu: Vcpu, ipa: bigint, bytes: Uint8Array): void {
    const place = this.#place(ipa);
    if (place === null) return;
    this.#vm.host.writePhysical(place.pa, bytes);
    this.#log.mark(place.slot, place.page, vcpu.ring, vcpu.id);
  }

  #place(ipa: bigint): Place | null {
    const { mm, pageSize } = this.#vm;
    const slot = writableSlot(this.#vm, ipa);
    if (slot === null) return null;
    const page = Number(ipa / BigInt(pageSize)) - slot.baseGfn;
    const hva = slot.userspaceAddr + page * pageSize + Number(ipa % BigInt(pageSize));
    const object = mm.find(hva);
    // Unbacked memory keeps no bytes.
    if (object === undefined || object.backing !== "ram") return null;
    return { slot, page, pa: object.pa + (hva - object.userspaceAddr) };
  }
}

function writableSlot(vm: Vm, ipa: bigint): Memslot | null {
  if (ipa >= 2n ** BigInt(vm.ipaBits)) return null;
  const slot = vm.slots.find(Number(ipa / BigInt(vm.pageSize)));
  return slot === undefined || slot.invalid || isReadOnly(slot) ? null : slot;
}

/**
 * KVM_ARM_VCPU_PVTIME_IPA.
 * @throws KvmError EINVAL, EEXIST
 */
export function setPvTimeIpa(vm: Vm, vcpu: Vcpu, ipa: bigint): void {
  const refuse = (errno: "EINVAL" | "EEXIST", why: string): never => {
    throw new KvmError(errno, "KVM_SET_DEVICE_ATTR", why);
  };
  if (ipa % BigInt(RECORD_BYTES) !== 0n) refuse("EINVAL", "the record is aligned to 64 bytes");
  if (vcpu.pvtimeIpa !== null) refuse("EEXIST", "the record has its place already");
  if (writableSlot(vm, ipa) === null) refuse("EINVAL", "no writable slot covers the record");
  vcpu.pvtimeIpa = ipa;
}
