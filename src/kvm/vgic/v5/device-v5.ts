// Owns: the attributes of a KVM_DEV_TYPE_ARM_VGIC_V5 device. VM thread.
// @source arch/arm64/kvm/vgic/vgic-kvm-device.c by behaviour; Documentation's arm-vgic-v5.rst;
//   interrupts.md 5.15
import type { ErrnoName } from "../../../base/errno.table.js";
import {
  addressBytes,
  CTRL,
  check,
  GET,
  GROUP,
  HAS,
  ipaOf,
  refused,
  SET,
  u32At,
  u32Bytes,
  u64At,
  u64Bytes,
} from "../attribute.js";
import type { KvmDevice } from "../device-port.js";
import { checkIoRange } from "../frame-range.js";
import { IRS_BYTES, IRS_FRAME_BYTES, registerAt } from "./irs-frame.js";
import type { IrsRegister } from "./irs-registers.table.js";
import { userReadIrs, userWriteIrs } from "./irs-user.js";
import { getIst, setIst } from "./ist-attribute.js";
import { V5_USER_PPIS, type V5Cpu } from "./state.js";
import { hasSysreg, readSysreg, writeSysreg } from "./sysregs.js";
import type { VgicV5 } from "./vgic-v5.js";

const ADDR_IRS = 6n;
const USERSPACE_PPIS = 5n;
const IRS_REGS = 10;
const IST = 11;
const NR_IRQS = { min: 32, max: 1024, step: 32 } as const;

export class VgicV5Device implements KvmDevice {
  readonly type: number;
  readonly #vgic: VgicV5;

  constructor(vgic: VgicV5, type: number) {
    this.#vgic = vgic;
    this.type = type;
  }

  has(group: number, attr: bigint): void {
    check(this.#whyNot(group, attr), HAS);
  }

  #whyNot(group: number, attr: bigint): ErrnoName | null {
    const orNot = (isThere: boolean) => (isThere ? null : "ENXIO");
    switch (group) {
      case GROUP.ADDR:
        return orNot(attr === ADDR_IRS);
      case GROUP.NR_IRQS:
        return null;
      case GROUP.CTRL:
        return orNot(attr === CTRL.INIT || attr === USERSPACE_PPIS);
      case GROUP.CPU_SYSREGS:
        this.#cpu(attr, HAS);
        return orNot(hasSysreg(encodingOf(attr)));
      case IRS_REGS:
        this.#register(attr, HAS);
        return null;
      case IST:
        return orNot(attr === 0n);
      default:
        return "ENXIO";
    }
  }

  get(group: number, attr: bigint, value: Uint8Array): Uint8Array {
    const vgic = this.#vgic;
    const { state } = vgic;
    switch (group) {
      case GROUP.ADDR:
        if (attr !== ADDR_IRS) throw refused("ENXIO", GET);
        return addressBytes(state.irsBase);
      case GROUP.NR_IRQS:
        return u32Bytes(state.nrSpis);
      case GROUP.CTRL:
        return userPpis(attr, value);
      case GROUP.CPU_SYSREGS: {
        const cpu = this.#cpu(attr, GET);
        this.#checkAccess(GET);
        const word = readSysreg(cpu.state, encodingOf(attr));
        if (word === null) throw refused("ENOENT", GET, "no such register");
        mustBeThere(value, GET);
        return u64Bytes(word);
      }
      case IRS_REGS: {
        this.#checkAccess(GET);
        const row = this.#register(attr, GET);
        mustBeThere(value, GET);
        return u64Bytes(userReadIrs(vgic, row));
      }
      case IST:
        if (attr !== 0n) throw refused("ENXIO", GET);
        this.#checkAccess(GET);
        return getIst(vgic, value);
      default:
        throw refused("ENXIO", GET);
    }
  }

  set(group: number, attr: bigint, value: Uint8Array): void {
    const vgic = this.#vgic;
    switch (group) {
      case GROUP.ADDR:
        this.#setAddress(attr, value);
        break;
      case GROUP.NR_IRQS:
        this.#setNrIrqs(value);
        break;
      case GROUP.CTRL:
        if (attr !== CTRL.INIT) throw refused("ENXIO", SET);
        vgic.init();
        break;
      case GROUP.CPU_SYSREGS: {
        const cpu = this.#cpu(attr, SET);
        const word = u64At(value, SET);
        this.#checkChange();
        if (writeSysreg(cpu.state, encodingOf(attr), word)) break;
        throw refused("ENOENT", SET, "no such register");
      }
      case IRS_REGS: {
        const word = u64At(value, SET);
        this.#checkChange();
        check(userWriteIrs(vgic, this.#register(attr, SET), word), SET);
        break;
      }
      case IST:
        if (attr !== 0n) throw refused("ENXIO", SET);
        this.#checkAccess(SET);
        setIst(vgic, value);
        break;
      default:
        throw refused("ENXIO", SET);
    }
  }

  // ── whom an attribute names ─────────────────────────────────────────────────────────────────

  #cpu(attr: bigint, ioctl: string): V5Cpu {
    const affinity = (attr >> 32n) & 0xffff_ffffn;
    const vcpu = this.#vgic.vm.vcpus.find(({ mpidr }) => (mpidr & 0xff_ffffn) === affinity);
    if (vcpu === undefined) throw refused("EINVAL", ioctl, "no vCPU has this affinity");
    return this.#vgic.cpuOf(vcpu);
  }

  #register(attr: bigint, ioctl: string): IrsRegister {
    const offset = Number(attr & 0xffff_ffffn);
    const row = offset < IRS_FRAME_BYTES ? registerAt(offset) : null;
    if (row === null) throw refused("ENXIO", ioctl);
    if (offset === row.offset) return row;
    throw refused("EINVAL", ioctl, "the offset isn't a register's first byte");
  }

  #checkAccess(ioctl: string): void {
    const { vm, state } = this.#vgic;
    if (vm.vcpus.some(({ running }) => running)) {
      throw refused("EBUSY", ioctl, "a vCPU is in KVM_RUN");
    }
    if (!state.isInitialized) throw refused("EBUSY", ioctl, "the vGIC is not initialised");
  }

  #checkChange(): void {
    this.#checkAccess(SET);
    if (this.#vgic.vm.hasRun) throw refused("EBUSY", SET, "a vCPU has run");
  }

  // ── ADDR, NR_IRQS ───────────────────────────────────────────────────────────────────────────

  #setAddress(attr: bigint, value: Uint8Array): void {
    const { state, vm } = this.#vgic;
    if (attr !== ADDR_IRS) throw refused("ENXIO", SET);
    const address = u64At(value, SET);
    if (state.irsBase >= 0) throw refused("EEXIST", SET);
    // As bits: a number would lose the low ones of a very high address.
    if (address % BigInt(IRS_FRAME_BYTES) !== 0n) {
      throw refused("EINVAL", SET, "the frames are misaligned");
    }
    check(checkIoRange(ipaOf(address), IRS_BYTES, IRS_FRAME_BYTES, vm.ipaBits), SET);
    state.irsBase = ipaOf(address);
  }

  #setNrIrqs(value: Uint8Array): void {
    const { state } = this.#vgic;
    const count = u32At(value, SET);
    if (count < NR_IRQS.min || count > NR_IRQS.max || count % NR_IRQS.step !== 0) {
      throw refused("EINVAL", SET, "SPIs are 32 to 1024, in steps of 32");
    }
    if (state.nrSpis !== 0) throw refused("EBUSY", SET, "the number of SPIs is set");
    state.nrSpis = count;
  }
}

function encodingOf(attr: bigint): number {
  return Number(attr & 0xffffn);
}

function mustBeThere(value: Uint8Array, ioctl: string): void {
  if (value.length === 0) throw refused("EFAULT", ioctl);
}

/** Two words: PPIs that KVM_IRQ_LINE may drive. */
function userPpis(attr: bigint, value: Uint8Array): Uint8Array {
  if (attr !== USERSPACE_PPIS) throw refused("ENXIO", GET);
  mustBeThere(value, GET);
  const bytes = new Uint8Array(16);
  for (const [n, word] of V5_USER_PPIS.entries()) bytes.set(u64Bytes(word), 8 * n);
  return bytes;
}
