// Owns: a VM's distributor: its interrupts, its CPU interfaces, where its frames are. What happens
// to interrupts is in delivery.ts; registers are in registers-*.table.ts. VM thread.
// @source struct vgic_dist by behaviour; interrupts.md 3
import type { Saved } from "../../base/saved.js";
import { BPR0_MIN, BPR1_MIN, VMCR } from "../../machine/index.js";
import { PROPBASER_INITIAL } from "./baser.js";
import { FRAME_ALIGN } from "./frame-range.js";
import {
  REDIST_BYTES,
  type RedistRegion,
  VGIC_NR_PRIVATE_IRQS,
  VGIC_NR_SGIS,
  VgicCpu,
  VgicIrq,
} from "./state.js";

export type VgicModel = "v2" | "v3";

/** Interrupts when nobody set NR_IRQS. */
const NR_IRQS_DEFAULT = 256;
/** KVM_VGIC_IMP_REV_LATEST. */
export const IMP_REV_LATEST = 3;

export class VgicDist {
  readonly model: VgicModel;
  /** By vCPU index. */
  readonly cpus: VgicCpu[] = [];
  readonly spis: VgicIrq[] = [];
  /** LPIs that the guest mapped, by INTID. */
  readonly lpis = new Map<number, VgicIrq>();
  /** SPIs as set by NR_IRQS; 0: not set. */
  nrSpis = 0;
  /** KVM_DEV_ARM_VGIC_CTRL_INIT was done. */
  isInitialized = false;
  /** The frames are mapped: the first KVM_RUN went through. */
  isReady = false;
  /** Timers drive their PPIs. */
  isConnected = false;
  /** GICD_CTLR's enable of the one group that there is. */
  enabled = false;
  /** GICD_CTLR.nASSGIreq and GICD_TYPER2.nASSGIcap of v3. */
  nAssgiReq = false;
  /** GICD_STATUSR. */
  statusr = 0;
  implementationRev = IMP_REV_LATEST;
  /** GICv2: userspace may write IGROUPR, as it has written IIDR. */
  v2GroupsUserWritable = false;
  /** IPAs; -1: not set. */
  distBase = -1;
  cpuBase = -1;
  readonly redistRegions: RedistRegion[] = [];
  /** The one region is the legacy kind: it grows with the vCPUs. */
  isLegacyRedist = false;
  /** Whose redistributor a 64 KiB of addresses is, by their number. */
  readonly redistFrames = new Map<number, VgicCpu>();
  /** There is an ITS: LPIs are possible. */
  hasIts = false;
  /** GICR_PROPBASER: every redistributor has the same configuration table. */
  propbaser = 0n;
  maintenanceIrq = 25;

  constructor(model: VgicModel) {
    this.model = model;
  }

  get nrIrqs(): number {
    return this.nrSpis + VGIC_NR_PRIVATE_IRQS;
  }

  /** A vCPU was created, or was there when the controller came. */
  addCpu(index: number, vcpuId: number, mpidr: bigint): VgicCpu {
    const cpu = new VgicCpu(index, vcpuId, Number(mpidr & 0xff_ffffn));
    const group = this.model === "v2" ? 0 : 1;
    for (let intid = 0; intid < VGIC_NR_PRIVATE_IRQS; intid++) {
      const isSgi = intid < VGIC_NR_SGIS;
      const irq = new VgicIrq(intid, isSgi ? "edge" : "level", cpu);
      irq.enabled = isSgi;
      irq.group = group;
      irq.targets = 1 << index;
      cpu.privateIrqs.push(irq);
    }
    this.cpus.push(cpu);
    this.resetCpu(cpu);
    return cpu;
  }

  /** vgic_vN_enable: the CPU interface as it is after reset. */
  resetCpu(cpu: VgicCpu): void {
    // With ICC registers group 0 is signalled as FIQ, always.
    const fiq = this.model === "v3" ? VMCR.VFIQEN : 0;
    cpu.vmcr = fiq | (BPR0_MIN << VMCR.VBPR0_SHIFT) | (BPR1_MIN << VMCR.VBPR1_SHIFT);
    cpu.apr.fill(0);
  }

  /** The SPIs come into being: at INIT. */
  allocateSpis(): void {
    if (this.nrSpis === 0) this.nrSpis = NR_IRQS_DEFAULT - VGIC_NR_PRIVATE_IRQS;
    for (let n = 0; n < this.nrSpis; n++) {
      const irq = new VgicIrq(VGIC_NR_PRIVATE_IRQS + n, "edge", null);
      irq.group = this.model === "v2" ? 0 : 1;
      // ITARGETSR and IROUTER read as 0; until they are written the first vCPU has it.
      irq.target = this.cpus[0] ?? null;
      this.spis.push(irq);
    }
  }

  addIts(): void {
    this.hasIts = true;
    this.propbaser = PROPBASER_INITIAL;
  }

  /** vgic_get_irq. @param cpu whose private interrupts; null: none are asked for */
  irq(cpu: VgicCpu | null, intid: number): VgicIrq | null {
    if (intid < VGIC_NR_PRIVATE_IRQS) return cpu?.privateIrqs[intid] ?? null;
    if (intid < this.nrIrqs) return this.spis[intid - VGIC_NR_PRIVATE_IRQS] ?? null;
    return this.lpis.get(intid) ?? null;
  }

  /** Gives a vCPU the next free redistributor, if there is one. */
  placeRedist(cpu: VgicCpu): void {
    if (cpu.redist !== null) return;
    const region = this.redistRegions.find(({ count, used }) => count === 0 || used < count);
    if (region === undefined) return;
    cpu.redist = { region, base: region.base + region.used * REDIST_BYTES };
    region.used++;
    this.#noteRedist(cpu);
  }

  #noteRedist(cpu: VgicCpu): void {
    if (cpu.redist === null) return;
    const first = cpu.redist.base / FRAME_ALIGN;
    for (let n = 0; n < REDIST_BYTES / FRAME_ALIGN; n++) this.redistFrames.set(first + n, cpu);
  }

  /** The CPU whose affinity is Aff3 to Aff0, a byte each. */
  cpuByAffinity(affinity: number): VgicCpu | null {
    return this.cpus.find((cpu) => cpu.affinity === affinity) ?? null;
  }

  save(): Saved {
    const data = {
      cpus: this.cpus.map((cpu) => cpu.save()),
      spis: this.spis.map((irq) => irq.save()),
      lpis: [...this.lpis.values()].map((irq) => irq.save()),
      nrSpis: this.nrSpis,
      isInitialized: this.isInitialized,
      isReady: this.isReady,
      isConnected: this.isConnected,
      enabled: this.enabled,
      nAssgiReq: this.nAssgiReq,
      statusr: this.statusr,
      implementationRev: this.implementationRev,
      v2GroupsUserWritable: this.v2GroupsUserWritable,
      distBase: this.distBase,
      cpuBase: this.cpuBase,
      redistRegions: this.redistRegions.map((region) => ({ ...region })),
      isLegacyRedist: this.isLegacyRedist,
      hasIts: this.hasIts,
      propbaser: this.propbaser,
      maintenanceIrq: this.maintenanceIrq,
    };
    return { kind: `vgic-${this.model}`, version: 1, data };
  }

  /** Into a controller of the same model, whose vCPUs exist. */
  load(saved: Saved): void {
    const { cpus, spis, lpis, redistRegions, ...fields } = saved.data as SavedDist;
    Object.assign(this, fields);
    this.redistFrames.clear();
    this.redistRegions.splice(
      0,
      this.redistRegions.length,
      ...redistRegions.map((r) => ({ ...r })),
    );
    this.spis.length = 0;
    for (const irq of spis) this.spis.push(new VgicIrq(irq.intid, irq.config, null));
    for (const [n, irq] of spis.entries()) this.spis[n]?.load(irq, this.cpus);
    this.lpis.clear();
    for (const lpi of lpis) {
      const irq = new VgicIrq(lpi.intid, "edge", null);
      irq.load(lpi, this.cpus);
      this.lpis.set(lpi.intid, irq);
    }
    for (const [index, cpu] of this.cpus.entries()) this.#loadCpu(cpu, cpus[index]);
  }

  #loadCpu(cpu: VgicCpu, saved: SavedDist["cpus"][number] | undefined): void {
    if (saved === undefined) return;
    for (const irq of saved.privateIrqs) cpu.privateIrqs[irq.intid]?.load(irq, this.cpus);
    cpu.apList = saved.apList.flatMap((intid) => this.irq(cpu, intid) ?? []);
    cpu.vmcr = saved.vmcr;
    cpu.apr.set(saved.apr);
    const region = this.redistRegions.find(({ index }) => index === saved.redist?.region);
    cpu.redist =
      region === undefined || saved.redist === null ? null : { region, base: saved.redist.base };
    this.#noteRedist(cpu);
    cpu.lpisEnabled = saved.lpisEnabled;
    cpu.pendbaser = saved.pendbaser;
    cpu.statusr = saved.statusr;
    cpu.priorityBits = saved.priorityBits;
  }
}

interface SavedDist {
  readonly cpus: readonly ReturnType<VgicCpu["save"]>[];
  readonly spis: readonly ReturnType<VgicIrq["save"]>[];
  readonly lpis: readonly ReturnType<VgicIrq["save"]>[];
  readonly redistRegions: readonly RedistRegion[];
}
