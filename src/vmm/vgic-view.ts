// Owns: the interrupt controller decoded: every interrupt, each CPU interface, the distributor.
// Pure looks. VM thread.
// Commands come between steps, when no list register of a vCPU that isn't in the guest holds
// anything: what KVM keeps is all there is.
import { ServiceError } from "../base/errors.js";
import type { VgicCpu, VgicDist, VgicIrq } from "../kvm/index.js";
import { VMCR } from "../machine/index.js";
import type {
  IrqKind,
  VgicCpuView,
  VgicIrqFilter,
  VgicIrqView,
  VgicView,
  VmcrView,
} from "./device-commands.js";
import type { Machine } from "./machine.js";
import type { IrqState } from "./vgic-v5-types.js";

/** @throws ServiceError "vgic-not-found" */
function distOf(m: Machine): VgicDist {
  const { dist } = m.kvm.vm.vgic;
  if (dist !== null) return dist;
  throw new ServiceError("vgic-not-found", "The VM has no in-kernel interrupt controller.");
}

const orNull = (address: number) => (address < 0 ? null : BigInt(address));

export function vgicView(m: Machine): VgicView {
  const dist = distOf(m);
  return {
    model: dist.model,
    isInitialized: dist.isInitialized,
    isReady: dist.isReady,
    distributor: {
      base: orNull(dist.distBase),
      cpuBase: orNull(dist.cpuBase),
      nrIrqs: dist.nrIrqs,
      enabled: dist.enabled,
      nAssgiReq: dist.nAssgiReq,
      implementationRev: dist.implementationRev,
      hasIts: dist.hasIts,
      lpis: dist.lpis.size,
      propbaser: dist.propbaser,
      maintenanceIrq: dist.maintenanceIrq,
    },
    redistributorRegions: dist.redistRegions.map(({ index, base, count, used }) => ({
      index,
      base: BigInt(base),
      count,
      used,
      isLegacy: dist.isLegacyRedist,
    })),
    cpuInterfaces: dist.cpus.map(cpuView),
  };
}

function cpuView(cpu: VgicCpu): VgicCpuView {
  const { redist } = cpu;
  return {
    vcpu: cpu.vcpuId,
    index: cpu.index,
    affinity: cpu.affinity >>> 0,
    vmcr: vmcrView(cpu.vmcr),
    ap0r0: cpu.apr[0] ?? 0,
    ap1r0: cpu.apr[1] ?? 0,
    apList: cpu.apList.map(({ intid }) => intid),
    redistributor:
      redist === null ? null : { base: BigInt(redist.base), region: redist.region.index },
    lpisEnabled: cpu.lpisEnabled,
    pendbaser: cpu.pendbaser,
  };
}

function vmcrView(vmcr: number): VmcrView {
  const has = (bit: number) => (vmcr & bit) !== 0;
  return {
    raw: vmcr >>> 0,
    enableGroup0: has(VMCR.VENG0),
    enableGroup1: has(VMCR.VENG1),
    ackCtl: has(VMCR.VACKCTL),
    fiqEnable: has(VMCR.VFIQEN),
    commonBpr: has(VMCR.VCBPR),
    eoiMode: has(VMCR.VEOIM) ? 1 : 0,
    bpr0: (vmcr >>> VMCR.VBPR0_SHIFT) & VMCR.VBPR,
    bpr1: (vmcr >>> VMCR.VBPR1_SHIFT) & VMCR.VBPR,
    priorityMask: (vmcr >>> VMCR.VPMR_SHIFT) & 0xff,
  };
}

// ── interrupts ────────────────────────────────────────────────────────────────────────────────

/** Orders interrupts by INTID, private ones of an INTID by vCPU. */
const INTID_SHIFT = 16n;

function keyOf(irq: VgicIrq): bigint {
  return (BigInt(irq.intid) << INTID_SHIFT) | BigInt(irq.private?.index ?? 0);
}

function* everyIrq(dist: VgicDist): Generator<VgicIrq> {
  const privates = dist.cpus[0]?.privateIrqs.length ?? 0;
  for (let intid = 0; intid < privates; intid++) {
    for (const cpu of dist.cpus) {
      const irq = cpu.privateIrqs[intid];
      if (irq !== undefined) yield irq;
    }
  }
  yield* dist.spis;
  yield* [...dist.lpis.values()].sort((a, b) => a.intid - b.intid);
}

const IS_IN_STATE: Readonly<Record<string, (irq: VgicIrq) => boolean>> = {
  pending: (irq) => irq.pending,
  active: (irq) => irq.active,
  enabled: (irq) => irq.enabled,
  queued: (irq) => irq.list !== null,
  idle: (irq) => !irq.pending && !irq.active,
};

export function vgicIrqViews(m: Machine, filter: VgicIrqFilter): readonly VgicIrqView[] {
  const dist = distOf(m);
  const { from, to, vcpu, state, after, limit } = filter;
  const isInState = state === null ? () => true : IS_IN_STATE[state];
  if (isInState === undefined) {
    const states = Object.keys(IS_IN_STATE).join(", ");
    throw new ServiceError("validation", `state is one of ${states}.`);
  }
  const views: VgicIrqView[] = [];
  for (const irq of everyIrq(dist)) {
    if (views.length >= limit || irq.intid > to) break;
    if (irq.intid < from || (after !== null && keyOf(irq) <= after)) continue;
    if (vcpu !== null && (irq.private ?? irq.target)?.vcpuId !== vcpu) continue;
    if (isInState(irq)) views.push(irqView(irq));
  }
  return views;
}

function kindOf(irq: VgicIrq): IrqKind {
  if (irq.isLpi) return "lpi";
  if (irq.isSpi) return "spi";
  return irq.isSgi ? "sgi" : "ppi";
}

export function stateOf(of: { readonly active: boolean; readonly pending: boolean }): IrqState {
  const { active, pending } = of;
  if (active) return pending ? "active-and-pending" : "active";
  return pending ? "pending" : "inactive";
}

function irqView(irq: VgicIrq): VgicIrqView {
  return {
    key: keyOf(irq),
    intid: irq.intid,
    kind: kindOf(irq),
    vcpu: irq.private?.vcpuId ?? null,
    state: stateOf(irq),
    config: irq.config,
    enabled: irq.enabled,
    lineLevel: irq.lineLevel,
    pendingLatch: irq.pendingLatch,
    pending: irq.pending,
    active: irq.active,
    priority: irq.priority,
    group: irq.group,
    target: irq.target?.vcpuId ?? null,
    targets: irq.targets,
    mpidr: irq.mpidr >>> 0,
    source: irq.source,
    activeSource: irq.activeSource,
    list: irq.list?.vcpuId ?? null,
    owner: irq.owner,
    isHardware: irq.hw,
  };
}
