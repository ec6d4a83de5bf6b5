// Owns: what KVM keeps of interrupts and no device attribute tells: latches and lines of a GICv2,
// lines of edges, the order of AP lists, cached configuration of LPIs. VM thread.
import type { VgicDist } from "../vgic/dist.js";
import type { VgicCpu, VgicIrq } from "../vgic/state.js";

interface IrqLatent {
  /** Creation order of the vCPU whose it is; -1: shared. */
  readonly cpu: number;
  readonly intid: number;
  readonly lineLevel: boolean;
  readonly pendingLatch: boolean;
  readonly active: boolean;
  readonly activeSource: number;
  readonly source: number;
  readonly enabled: boolean;
  readonly priority: number;
}

export interface VgicLatent {
  readonly irqs: readonly IrqLatent[];
  readonly cpus: readonly {
    /** INTIDs, in their order. */
    readonly apList: readonly number[];
    readonly vmcr: number;
    readonly apr: readonly number[];
    readonly priorityBits: number;
    /** With PTZ, which reads as 0. */
    readonly pendbaser: bigint;
  }[];
}

function all({ cpus, spis, lpis }: VgicDist): VgicIrq[] {
  return [...cpus.flatMap(({ privateIrqs }) => privateIrqs), ...spis, ...lpis.values()];
}

/** Whether registers may not say all about it. */
function isSpecial(irq: VgicIrq): boolean {
  const { lineLevel, pendingLatch, active, activeSource, source, isLpi } = irq;
  return lineLevel || pendingLatch || active || activeSource !== 0 || source !== 0 || isLpi;
}

export function vgicLatent(dist: VgicDist): VgicLatent {
  const irqs = all(dist).filter(isSpecial);
  return {
    irqs: irqs.map((irq) => ({
      cpu: irq.private?.index ?? -1,
      intid: irq.intid,
      lineLevel: irq.lineLevel,
      pendingLatch: irq.pendingLatch,
      active: irq.active,
      activeSource: irq.activeSource,
      source: irq.source,
      enabled: irq.enabled,
      priority: irq.priority,
    })),
    cpus: dist.cpus.map(({ apList, vmcr, apr, priorityBits, pendbaser }) => ({
      apList: apList.map(({ intid }) => intid),
      vmcr,
      apr: [...apr],
      priorityBits,
      pendbaser,
    })),
  };
}

/**
 * After the registers and the ITSes' tables.
 * @returns null, or why it is another controller's
 */
export function loadVgicLatent(dist: VgicDist, { irqs, cpus }: VgicLatent): string | null {
  if (cpus.length !== dist.cpus.length) return `it has ${dist.cpus.length} CPU interfaces`;
  for (const irq of all(dist)) {
    irq.list = null;
    irq.lineLevel = false;
    irq.pendingLatch = false;
    irq.active = false;
    irq.source = 0;
    irq.activeSource = 0;
  }
  for (const { cpu, intid, ...fields } of irqs) {
    const irq = dist.irq(dist.cpus[cpu] ?? null, intid);
    if (irq === null) return `it has no interrupt ${intid}`;
    Object.assign(irq, fields);
  }
  for (const [index, saved] of cpus.entries()) {
    const cpu = dist.cpus[index];
    const why = cpu === undefined ? null : loadCpu(dist, cpu, saved);
    if (why !== null) return why;
  }
  return null;
}

function loadCpu(dist: VgicDist, cpu: VgicCpu, saved: VgicLatent["cpus"][number]): string | null {
  cpu.vmcr = saved.vmcr;
  cpu.apr.set(saved.apr);
  cpu.priorityBits = saved.priorityBits;
  cpu.pendbaser = saved.pendbaser;
  cpu.apList = [];
  for (const intid of saved.apList) {
    const irq = dist.irq(cpu, intid);
    if (irq === null) return `it has no interrupt ${intid}`;
    irq.list = cpu;
    cpu.apList.push(irq);
  }
  return null;
}
