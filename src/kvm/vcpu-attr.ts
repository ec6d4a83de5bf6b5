// Owns: device attributes of a vCPU: KVM_SET, GET and HAS_DEVICE_ATTR on its descriptor. VM thread.
// @source arch/arm64/kvm/guest.c (kvm_arm_vcpu_arch_set_attr), arch_timer.c by behaviour;
//   kvm-uapi.md 8.9
import { KvmError } from "../base/errors.js";
import {
  checkPmuAttr,
  filterPmuEvents,
  hasPmu,
  initPmu,
  limitPmuCounters,
  PMU_ATTR,
  selectPmu,
  setPmuIrq,
} from "./pmu.js";
import { setPvTimeIpa } from "./pvtime.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/** An attribute's structure as it lies in memory; empty: no address was given. */
type Bytes = Uint8Array;

interface Target {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly attr: number;
}
interface Group {
  readonly has: (target: Target) => boolean;
  readonly get: (target: Target) => Bytes;
  readonly set: (target: Target, value: Bytes) => void;
}

const [SET, GET, HAS] = ["KVM_SET_DEVICE_ATTR", "KVM_GET_DEVICE_ATTR", "KVM_HAS_DEVICE_ATTR"];
const ATTR_MAX = 0xffn;
const S32_BYTES = 4;

function noAttribute(ioctl: string): KvmError {
  return new KvmError("ENXIO", ioctl, "the vCPU has no such attribute");
}

function noController(ioctl: string): KvmError {
  return new KvmError("EINVAL", ioctl, "the VM has no in-kernel interrupt controller");
}

/** get_user of an attribute's value. @throws KvmError EFAULT */
function read(value: Bytes, size: number): DataView {
  if (value.length < size) {
    throw new KvmError("EFAULT", SET, `the attribute is ${size} bytes`);
  }
  return new DataView(value.buffer, value.byteOffset, value.byteLength);
}

function bytesOf(value: bigint, size: number): Bytes {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return bytes.slice(0, size);
}

// ── KVM_ARM_VCPU_PMU_V3_CTRL ──────────────────────────────────────────────────────────────────

/** struct kvm_pmu_event_filter. */
const FILTER_BYTES = 8;

const PMU: Group = {
  has: ({ vcpu, attr }) => hasPmu(vcpu) && attr <= PMU_ATTR.SET_NR_COUNTERS,
  get: ({ vm, vcpu, attr }) => {
    if (attr !== PMU_ATTR.IRQ) throw noAttribute(GET);
    if (!vm.irqchipInKernel) throw noController(GET);
    if (!hasPmu(vcpu)) throw new KvmError("ENODEV", GET, "the vCPU has no PMU");
    if (vcpu.pmuIrq === null) throw new KvmError("ENXIO", GET, "the PMU has no interrupt");
    return bytesOf(BigInt(vcpu.pmuIrq), S32_BYTES);
  },
  set: ({ vm, vcpu, attr }, value) => {
    checkPmuAttr(vcpu);
    switch (attr) {
      case PMU_ATTR.IRQ:
        if (!vm.irqchipInKernel) throw noController(SET);
        return setPmuIrq(vm, vcpu, read(value, S32_BYTES).getInt32(0, true));
      case PMU_ATTR.INIT:
        return initPmu(vm, vcpu);
      case PMU_ATTR.FILTER:
        return filterPmuEvents(vm, read(value, FILTER_BYTES));
      case PMU_ATTR.SET_PMU:
        return selectPmu(vm, read(value, S32_BYTES).getInt32(0, true));
      case PMU_ATTR.SET_NR_COUNTERS:
        return limitPmuCounters(vm, read(value, S32_BYTES).getUint32(0, true));
      default:
        throw noAttribute(SET);
    }
  },
};

// ── KVM_ARM_VCPU_TIMER_CTRL ───────────────────────────────────────────────────────────────────

/** VTIMER, PTIMER, HVTIMER, HPTIMER. */
const TIMERS = 4;
const PPI = { first: 16, last: 31 } as const;
/** TYPE of a GICv5's PPIs, which userspace may write with their IDs. */
const typeOf = ({ vgic }: Vm): number => (vgic.name === "v5" ? 1 << 29 : 0);

const TIMER: Group = {
  has: ({ attr }) => attr < TIMERS,
  get: ({ vm, attr }) => {
    const ppi = vm.timerPpis[attr];
    if (ppi === undefined) throw noAttribute(GET);
    return bytesOf(BigInt(ppi), S32_BYTES);
  },
  set: ({ vm, attr }, value) => {
    if (!vm.irqchipInKernel) throw noController(SET);
    const ppi = read(value, S32_BYTES).getInt32(0, true) & ~typeOf(vm);
    if (ppi < PPI.first || ppi > PPI.last) throw new KvmError("EINVAL", SET, "PPIs are 16 to 31");
    // Whether they are distinct is seen when the timers are switched on: at the first run.
    if (vm.vgic.isConnected) throw new KvmError("EBUSY", SET, "the timers are in use");
    if (attr >= TIMERS) throw noAttribute(SET);
    if (vm.vgic.name === "v5" && ppi !== vm.timerPpis[attr]) {
      throw new KvmError("EINVAL", SET, "a GICv5's timers keep their PPIs");
    }
    vm.timerPpis[attr] = ppi;
  },
};

// ── KVM_ARM_VCPU_PVTIME_CTRL ──────────────────────────────────────────────────────────────────

const PVTIME_IPA = 0;
const U64_BYTES = 8;
const INVALID_GPA = 2n ** 64n - 1n;

const PVTIME: Group = {
  has: ({ attr }) => attr === PVTIME_IPA,
  get: ({ vcpu, attr }) => {
    if (attr !== PVTIME_IPA) throw noAttribute(GET);
    return bytesOf(vcpu.pvtimeIpa ?? INVALID_GPA, U64_BYTES);
  },
  set: ({ vm, vcpu, attr }, value) => {
    if (attr !== PVTIME_IPA) throw noAttribute(SET);
    setPvTimeIpa(vm, vcpu, read(value, U64_BYTES).getBigUint64(0, true));
  },
};

// ── the ioctls ────────────────────────────────────────────────────────────────────────────────

/** By group number. */
const GROUPS: readonly (Group | undefined)[] = [PMU, TIMER, PVTIME];

function find(vm: Vm, vcpu: Vcpu, group: number, attr: bigint, ioctl: string) {
  const found = GROUPS[group];
  if (found === undefined || attr > ATTR_MAX) throw noAttribute(ioctl);
  return { group: found, target: { vm, vcpu, attr: Number(attr) } };
}

/** @throws KvmError ENXIO */
export function hasVcpuAttr(vm: Vm, vcpu: Vcpu, number: number, attr: bigint): void {
  const { group, target } = find(vm, vcpu, number, attr, HAS);
  if (!group.has(target)) throw noAttribute(HAS);
}

/** @throws KvmError ENXIO, EINVAL, ENODEV */
export function getVcpuAttr(vm: Vm, vcpu: Vcpu, number: number, attr: bigint): Uint8Array {
  const { group, target } = find(vm, vcpu, number, attr, GET);
  return group.get(target);
}

/** @throws KvmError as kvm-uapi.md 8.9 */
export function setVcpuAttr(
  vm: Vm,
  vcpu: Vcpu,
  number: number,
  attr: bigint,
  value: Uint8Array,
): void {
  const { group, target } = find(vm, vcpu, number, attr, SET);
  group.set(target, value);
}
