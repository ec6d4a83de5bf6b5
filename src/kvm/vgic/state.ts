// Owns: what the vGIC keeps of an interrupt and of a vCPU's CPU interface. VM thread.
// @source struct vgic_irq, struct vgic_cpu by behaviour; interrupts.md 3.1

import { PRIORITY_BITS } from "../../machine/index.js";

export const VGIC_NR_SGIS = 16;
export const VGIC_NR_PRIVATE_IRQS = 32;
/** INTIDs from here on are special. */
export const VGIC_MAX_SPI = 1019;
export const VGIC_MIN_LPI = 8192;
/** Five bits of priority. */
export const VGIC_PRIORITY_MASK = 0xf8;
/** Two frames of 64 KiB. */
export const REDIST_BYTES = 0x2_0000;

export type IrqConfig = "edge" | "level";

/** A device inside of KVM that drives the line, and nobody else. */
export type IrqOwner = "timer" | "pmu";

export class VgicIrq {
  readonly intid: number;
  /** SGI or PPI: the vCPU that has it. */
  readonly private: VgicCpu | null;
  config: IrqConfig;
  enabled = false;
  /** The input wire as last told. */
  lineLevel = false;
  /** The line is followed in edge configuration too: irq.spiDefaultLevelForIrqfd. */
  keepsLevel = false;
  /** Memory of an edge, or of ISPENDR. */
  pendingLatch = false;
  /** Software's view; on a list register that one has the live state. */
  active = false;
  priority = 0;
  group: 0 | 1 = 0;
  /** Where it is delivered; null: IROUTER names nobody. */
  target: VgicCpu | null = null;
  /** GICD_ITARGETSR: a bit for each vCPU. */
  targets = 0;
  /** GICD_IROUTER, lower word. */
  mpidr = 0;
  /** SGI of a GICv2: vCPUs that asked for it. */
  source = 0;
  activeSource = 0;
  owner: IrqOwner | null = null;
  /** Mapped to a physical interrupt of the host: a timer's. */
  hw = false;
  /** The vCPU on whose AP list it is. */
  list: VgicCpu | null = null;
  /** Events of ITSes that are mapped to this LPI. */
  mappings = 0;

  constructor(intid: number, config: IrqConfig, cpu: VgicCpu | null) {
    this.intid = intid;
    this.config = config;
    this.private = cpu;
    this.target = cpu;
  }

  /** irq_is_pending. */
  get pending(): boolean {
    return this.pendingLatch || (this.config === "level" && this.lineLevel);
  }

  get isSgi(): boolean {
    return this.intid < VGIC_NR_SGIS;
  }

  get isSpi(): boolean {
    return this.intid >= VGIC_NR_PRIVATE_IRQS && this.intid <= VGIC_MAX_SPI;
  }

  get isLpi(): boolean {
    return this.intid >= VGIC_MIN_LPI;
  }

  save() {
    const { target, list, private: own, ...fields } = this;
    return {
      ...fields,
      target: target?.index ?? -1,
      list: list?.index ?? -1,
      own: own?.index ?? -1,
    };
  }

  load(saved: ReturnType<VgicIrq["save"]>, cpus: readonly VgicCpu[]): void {
    const { target, list, own: _own, intid: _intid, ...fields } = saved;
    Object.assign(this, fields);
    this.target = cpus[target] ?? null;
    this.list = cpus[list] ?? null;
  }
}

/** A region of redistributors. */
export interface RedistRegion {
  readonly index: number;
  readonly base: number;
  /** Redistributors that fit; 0: the legacy region, which takes as many as there are vCPUs. */
  readonly count: number;
  /** Redistributors in use. */
  used: number;
}

/** A vCPU as the vGIC sees it. */
export class VgicCpu {
  /** Creation order, as in vm.vcpus. */
  readonly index: number;
  readonly vcpuId: number;
  /** Aff3 to Aff0, a byte each. */
  readonly affinity: number;
  readonly privateIrqs: VgicIrq[] = [];
  /** Active and pending interrupts that are this vCPU's to deliver. */
  apList: VgicIrq[] = [];
  /** ICH_VMCR_EL2, ICH_AP0R0_EL2 and ICH_AP1R0_EL2 while it isn't in the guest. */
  vmcr = 0;
  readonly apr = new Uint32Array(2);
  /** What each list register holds while it is in the guest. */
  readonly onLrs: VgicIrq[] = [];
  /** Where its redistributor is; null: nowhere yet. */
  redist: { readonly region: RedistRegion; readonly base: number } | null = null;
  /** GICR_CTLR.EnableLPIs, GICR_PENDBASER. GICR_PROPBASER is VgicDist's. */
  lpisEnabled = false;
  pendbaser = 0n;
  /** GICR_STATUSR. */
  statusr = 0;
  /** Priority bits that userspace restored by ICC_CTLR_EL1. */
  priorityBits = PRIORITY_BITS;

  constructor(index: number, vcpuId: number, affinity: number) {
    this.index = index;
    this.vcpuId = vcpuId;
    this.affinity = affinity;
  }

  save() {
    return {
      privateIrqs: this.privateIrqs.map((irq) => irq.save()),
      apList: this.apList.map((irq) => irq.intid),
      vmcr: this.vmcr,
      apr: [...this.apr],
      redist:
        this.redist === null ? null : { region: this.redist.region.index, base: this.redist.base },
      lpisEnabled: this.lpisEnabled,
      pendbaser: this.pendbaser,
      statusr: this.statusr,
      priorityBits: this.priorityBits,
    };
  }
}
