// Owns: what KVM decides of a VM's PMU: counters, event filter, the host PMU behind it; and
// KVM_ARM_VCPU_PMU_V3_CTRL. VM thread.
// @source arch/arm64/kvm/pmu-emul.c (kvm_arm_pmu_v3_set_attr) by behaviour; kvm-uapi.md 8.9
import { KvmError } from "../base/errors.js";
import type { PmuConfig } from "../machine/index.js";
import { KVM_ARM_VCPU } from "./uapi/flags.js";
import type { Vcpu } from "./vcpu.js";
import type { Vgic } from "./vgic/model.js";

/** Event counters of the host's PMU. */
export const HOST_PMU_COUNTERS = 6;
/** perf's number of the host's PMU: /sys/bus/event_source/devices/armv8_pmuv3_0/type. */
const HOST_PMU_ID = 8;
/** PMUv3 has ten bits of event number. */
const EVENTS = 1024;
const ACTION = { ALLOW: 0, DENY: 1 } as const;
/** Events that need no perf event, so that no filter sees them. */
const UNFILTERED: readonly number[] = [0x00, 0x1e];

export class VmPmu implements PmuConfig {
  counters = HOST_PMU_COUNTERS;
  /** KVM_ARM_VCPU_PMU_V3_SET_PMU was called. */
  isExplicit = false;
  /** One byte for each event: 1 is counted. */
  #allowed: Uint8Array | null = null;

  isCounted(event: number): boolean {
    return UNFILTERED.includes(event) || this.#allowed === null || this.#allowed[event] === 1;
  }

  get isFiltered(): boolean {
    return this.#allowed !== null;
  }

  /** What the first filter allows or denies, the rest is the opposite. */
  filter(base: number, count: number, action: number): void {
    const allows = action === ACTION.ALLOW ? 1 : 0;
    this.#allowed ??= new Uint8Array(EVENTS).fill(1 - allows);
    this.#allowed.fill(allows, base, base + count);
  }

  save() {
    const { counters, isExplicit } = this;
    return { counters, isExplicit, allowed: this.#allowed?.slice() ?? null };
  }

  load(data: ReturnType<VmPmu["save"]>): void {
    this.counters = data.counters;
    this.isExplicit = data.isExplicit;
    this.#allowed = data.allowed?.slice() ?? null;
  }
}

/** The VM as PMU attributes see it. */
export interface VmOfPmu {
  readonly pmu: VmPmu;
  readonly hasRun: boolean;
  readonly irqchipInKernel: boolean;
  readonly vgic: Vgic;
  readonly vcpus: readonly Vcpu[];
}

/** kvm_vcpu_has_pmu. */
export function hasPmu({ features }: Vcpu): boolean {
  return features !== null && (features & (1 << KVM_ARM_VCPU.PMU_V3)) !== 0;
}

export const PMU_ATTR = { IRQ: 0, INIT: 1, FILTER: 2, SET_PMU: 3, SET_NR_COUNTERS: 4 } as const;

const SET = "KVM_SET_DEVICE_ATTR";

function refuse(errno: "EINVAL" | "EBUSY" | "ENXIO" | "ENODEV" | "EEXIST", why: string): never {
  throw new KvmError(errno, SET, why);
}

/** @throws KvmError ENODEV, EBUSY: before an attribute's value is looked at */
export function checkPmuAttr(vcpu: Vcpu): void {
  if (!hasPmu(vcpu)) refuse("ENODEV", "the vCPU was not initialised with PMU_V3");
  if (vcpu.pmuCreated) refuse("EBUSY", "the vCPU's PMU is initialised");
}

const PPI = { first: 16, last: 31 } as const;
const SPI_LAST = 1019;
const isPpi = (intid: number): boolean => intid >= PPI.first && intid <= PPI.last;

/** A GICv5's PMU has the architecture's PPI; userspace may write its type before. */
const V5_PMU = 23;
const V5_PMU_TYPED = 0x2000_0017;

/** KVM_ARM_VCPU_PMU_V3_IRQ: one PPI for all vCPUs, or an SPI of its own for each. */
export function setPmuIrq(vm: VmOfPmu, vcpu: Vcpu, irq: number): void {
  const isV5 = vm.vgic.name === "v5";
  const intid = isV5 && irq === V5_PMU_TYPED ? V5_PMU : irq;
  if (isV5 && intid !== V5_PMU) refuse("EINVAL", `the PMU's interrupt is PPI ${V5_PMU}`);
  if (intid < PPI.first || intid > SPI_LAST) refuse("EINVAL", "the interrupt is a PPI or an SPI");
  for (const { pmuIrq } of vm.vcpus) {
    if (pmuIrq === null) continue;
    const fits = isPpi(intid) ? pmuIrq === intid : !isPpi(pmuIrq) && pmuIrq !== intid;
    if (!fits) refuse("EINVAL", "all vCPUs have the same PPI, or each an SPI of its own");
  }
  if (vcpu.pmuIrq !== null) refuse("EBUSY", "the interrupt is set");
  vcpu.pmuIrq = intid;
}

/** KVM_ARM_VCPU_PMU_V3_INIT: with a controller, the interrupt becomes the PMU's. */
export function initPmu(vm: VmOfPmu, vcpu: Vcpu): void {
  if (vm.irqchipInKernel) {
    if (!vm.vgic.isInitialized) refuse("ENODEV", "the interrupt controller is not initialised");
    if (vm.vgic.name === "v5") vcpu.pmuIrq ??= V5_PMU;
    if (vcpu.pmuIrq === null) refuse("ENXIO", "the PMU has no interrupt");
    const errno = vm.vgic.claimPmu(vcpu, vcpu.pmuIrq ?? 0);
    if (errno === "EEXIST") refuse(errno, "the interrupt is another device's");
    if (errno !== null) refuse("EINVAL", "there is no such interrupt");
  }
  vcpu.pmuCreated = true;
}

/** struct kvm_pmu_event_filter: u16 base_event, u16 nevents, u8 action. */
export function filterPmuEvents(vm: VmOfPmu, value: DataView): void {
  const [base, count] = [value.getUint16(0, true), value.getUint16(2, true)];
  const action = value.getUint8(4);
  if (base + count > EVENTS) refuse("EINVAL", `events are 0 to ${EVENTS - 1}`);
  if (action !== ACTION.ALLOW && action !== ACTION.DENY) {
    refuse("EINVAL", "the action is 0 (allow) or 1 (deny)");
  }
  if (vm.hasRun) refuse("EBUSY", "a vCPU has run");
  vm.pmu.filter(base, count, action);
}

export function selectPmu(vm: VmOfPmu, id: number): void {
  if (id !== HOST_PMU_ID) refuse("ENXIO", `the host has one PMU, ${HOST_PMU_ID}`);
  if (vm.hasRun || (vm.pmu.isFiltered && !vm.pmu.isExplicit)) {
    refuse("EBUSY", "a vCPU has run, or events were filtered before a PMU was chosen");
  }
  vm.pmu.isExplicit = true;
}

export function limitPmuCounters(vm: VmOfPmu, count: number): void {
  if (vm.hasRun) refuse("EBUSY", "a vCPU has run");
  if (!vm.pmu.isExplicit) refuse("EINVAL", "SET_PMU comes first");
  if (count > HOST_PMU_COUNTERS) refuse("EINVAL", `the host has ${HOST_PMU_COUNTERS} counters`);
  vm.pmu.counters = count;
}
