// Owns: an ITS as userspace's device, and the VM's list of them. VM thread.
// @source Documentation/virt/kvm/devices/arm-vgic-its.rst, arch/arm64/kvm/vgic/vgic-its.c by
//   behaviour; kvm-uapi.md 6.2
import { KvmError } from "../../base/errors.js";
import type { Stateful } from "../../base/saved.js";
import type { Vm } from "../vm.js";
import type { KvmDevice } from "./device-port.js";
import { Its } from "./its.js";
import {
  guestAccess,
  hasRegister,
  ITS_FRAME_BYTES,
  readRegister,
  writeRegister,
} from "./its-frame.js";
import { restoreTables, saveTables } from "./its-tables.js";
import { inject, injectCached } from "./msi.js";
import type { Msi, MsiPort } from "./msi-port.js";

const GROUP = { ADDR: 0, CTRL: 4, ITS_REGS: 8 } as const;
const ADDR_TYPE_ITS = 4n;
const CTRL = { INIT: 0n, SAVE_TABLES: 1n, RESTORE_TABLES: 2n, RESET: 4n } as const;
const FRAME_ALIGNMENT = 0x1_0000n;
const NOT_SET = 2n ** 64n - 1n;
const ATTRIBUTE_BYTES = 8;

class VmMsi implements MsiPort {
  readonly #itses: Its[] = [];

  add(vm: Vm): Its {
    const its = new Its(vm, this.#itses.length);
    this.#itses.push(its);
    return its;
  }

  deliver(msi: Msi): number {
    return inject(this.#itses, msi);
  }

  cached(msi: Msi): boolean {
    return injectCached(this.#itses, msi);
  }

  forget(): void {
    for (const its of this.#itses) its.cache.clear();
  }

  access(ipa: number, length: number, store: Uint8Array | null): Uint8Array | null {
    for (const its of this.#itses) {
      if (its.base < 0 || ipa < its.base || ipa >= its.base + ITS_FRAME_BYTES) continue;
      return guestAccess(its, ipa - its.base, length, store);
    }
    return null;
  }

  parts(): readonly Stateful[] {
    return this.#itses;
  }
}

/** KVM_CREATE_DEVICE; whether there is a controller already doesn't matter. */
export function createIts(vm: Vm): KvmDevice {
  const msi = vm.msi instanceof VmMsi ? vm.msi : new VmMsi();
  vm.msi = msi;
  vm.vgic.dist?.addIts();
  return new ItsKvmDevice(msi.add(vm));
}

class ItsKvmDevice implements KvmDevice {
  readonly type = 8;
  readonly #its: Its;

  constructor(its: Its) {
    this.#its = its;
  }

  has(group: number, attr: bigint): void {
    if (group === GROUP.ITS_REGS) {
      hasRegister(attr);
      return;
    }
    if (group === GROUP.ADDR && attr === ADDR_TYPE_ITS) return;
    if (group === GROUP.CTRL && Object.values(CTRL).some((known) => known === attr)) return;
    throw unknown("KVM_HAS_DEVICE_ATTR");
  }

  get(group: number, attr: bigint, value: Uint8Array): Uint8Array {
    const ioctl = "KVM_GET_DEVICE_ATTR";
    if (group !== GROUP.ADDR && group !== GROUP.ITS_REGS) throw unknown(ioctl);
    if (group === GROUP.ADDR) checkAddressType(ioctl, attr);
    const read = group === GROUP.ADDR ? this.#address() : readRegister(this.#its, attr);
    u64Of(ioctl, value);
    const bytes = new Uint8Array(ATTRIBUTE_BYTES);
    new DataView(bytes.buffer).setBigUint64(0, read, true);
    return bytes;
  }

  set(group: number, attr: bigint, value: Uint8Array): void {
    const ioctl = "KVM_SET_DEVICE_ATTR";
    if (group === GROUP.ADDR) {
      checkAddressType(ioctl, attr);
      this.#place(u64Of(ioctl, value));
    } else if (group === GROUP.ITS_REGS) {
      writeRegister(this.#its, attr, u64Of(ioctl, value));
    } else if (group === GROUP.CTRL) {
      this.#control(attr);
    } else {
      throw unknown(ioctl);
    }
  }

  #address(): bigint {
    const { base } = this.#its;
    return base < 0 ? NOT_SET : BigInt(base);
  }

  /** vgic_check_iorange; from here on its frames answer. */
  #place(address: bigint): void {
    const its = this.#its;
    const refuse = (errno: "EEXIST" | "EINVAL" | "E2BIG", why: string): never => {
      throw new KvmError(errno, "KVM_SET_DEVICE_ATTR", why);
    };
    if (its.base >= 0) refuse("EEXIST", "the ITS has its address already");
    if (address % FRAME_ALIGNMENT !== 0n) refuse("EINVAL", "its frames are aligned to 64 KiB");
    const end = address + BigInt(ITS_FRAME_BYTES);
    if (end >= 2n ** 64n) refuse("EINVAL", "its frames wrap around");
    if (end > 2n ** BigInt(its.vm.ipaBits)) refuse("E2BIG", "its frames end beyond the IPA size");
    its.base = Number(address);
  }

  /** vgic_its_ctrl. Operations that KVM doesn't know succeed. */
  #control(attr: bigint): void {
    const its = this.#its;
    if (attr === CTRL.INIT) return;
    if (its.vm.vcpus.some((vcpu) => vcpu.running)) {
      throw new KvmError("EBUSY", "KVM_SET_DEVICE_ATTR", "a vCPU is in KVM_RUN");
    }
    if (attr === CTRL.RESET) its.reset();
    if (attr === CTRL.SAVE_TABLES) saveTables(its);
    if (attr === CTRL.RESTORE_TABLES) restoreTables(its);
  }
}

function unknown(ioctl: string): KvmError {
  return new KvmError("ENXIO", ioctl, "the ITS has no such attribute");
}

function checkAddressType(ioctl: string, attr: bigint): void {
  if (attr !== ADDR_TYPE_ITS) throw new KvmError("ENODEV", ioctl, "an ITS has address type 4");
}

function u64Of(ioctl: string, value: Uint8Array): bigint {
  if (value.length < ATTRIBUTE_BYTES) {
    throw new KvmError("EFAULT", ioctl, "the attribute is a u64 at its address");
  }
  return new DataView(value.buffer, value.byteOffset).getBigUint64(0, true);
}
