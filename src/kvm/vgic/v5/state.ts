// Owns: what KVM keeps of a VM's GICv5: its SPIs, each vCPU's CPU interface while the vCPU isn't in
// the guest, and the registers of the virtual IRS. VM thread.
// Priority, affinity, enable and the live pending and active states of SPIs and LPIs are in the
// tables that the hardware works on; nothing here repeats them.
// @source struct vgic_irq, vgic_v5_cpu_if, vgic_v5_irs by behaviour; interrupts.md 5.5, 5.6, 5.8

import {
  V5_COUNTERS,
  type V5CounterName,
  type V5Counters,
} from "../../../base/v5-counters.table.js";
import { INTID_TYPE, intidOf, PeGicState } from "../../../machine/index.js";

/** PPIs that KVM keeps of the 128: bank 0. */
export const V5_NR_PPIS = 64;
/** @source Arm AES 0070: architected PPIs */
export const V5_PPI = { SW: 3, PMU: 23 } as const;
/** PPIs that userspace may drive. */
export const V5_USER_PPIS: readonly bigint[] = [1n << BigInt(V5_PPI.SW), 0n];

export class V5Spi {
  readonly id: number;
  /** With its type. */
  readonly intid: number;
  config: "edge" | "level" = "edge";
  lineLevel = false;
  pendingLatch = false;
  active = false;
  /** Its line's level counts although it is an edge (irq.spiDefaultLevelForIrqfd). */
  keepsLevel = false;
  /** Deactivated as a level with somebody listening, at this time, and nobody was told; or -1. */
  owedSince = -1;
  /** Deactivations since its line rose last. */
  streak = 0;

  constructor(id: number) {
    this.id = id;
    this.intid = intidOf(INTID_TYPE.SPI, id);
  }

  /** irq_is_pending. */
  get pending(): boolean {
    return this.pendingLatch || (this.config === "level" && this.lineLevel);
  }

  get isReset(): boolean {
    const isIdle = !this.lineLevel && !this.pendingLatch && !this.active && !this.keepsLevel;
    return isIdle && this.config === "edge" && this.owedSince < 0 && this.streak === 0;
  }
}

/** A device in KVM that drives a PPI. */
export type V5Owner = "timer" | "pmu";

export class V5Cpu {
  readonly index: number;
  readonly vcpuId: number;
  /** What the CPU interface has while the vCPU is in the guest. */
  readonly state = new PeGicState();
  /** By PPI. */
  readonly lines = new Uint8Array(V5_NR_PPIS);
  readonly owners = new Map<number, V5Owner>();

  constructor(index: number, vcpuId: number) {
    this.index = index;
    this.vcpuId = vcpuId;
  }

  /** ICC_PPI_ENABLER0_EL1 takes bits of these alone. */
  get visible(): bigint {
    let mask = 1n << BigInt(V5_PPI.SW);
    for (const ppi of this.owners.keys()) mask |= 1n << BigInt(ppi);
    return mask;
  }

  save() {
    const lines = [...this.lines.keys()].filter((ppi) => this.lines[ppi] === 1);
    return { state: this.state.save(), lines, owners: [...this.owners] };
  }

  load(data: ReturnType<V5Cpu["save"]>): void {
    this.state.load(data.state);
    this.lines.fill(0);
    for (const ppi of data.lines) this.lines[ppi] = 1;
    this.owners.clear();
    for (const [ppi, owner] of data.owners) this.owners.set(ppi, owner);
  }
}

const SPI_FIELDS = [
  "config",
  "lineLevel",
  "pendingLatch",
  "active",
  "keepsLevel",
  "owedSince",
  "streak",
] as const;

type SpiState = Pick<V5Spi, "id" | (typeof SPI_FIELDS)[number]>;

const REGISTERS = [
  "irsBase",
  "nrSpis",
  "isInitialized",
  "isReady",
  "isConnected",
  "enabled",
  "cr1",
  "spiSelr",
  "peSelr",
  "istValid",
  "istAddress",
  "istCfgr",
  "vmtBase",
  "spiIstBase",
  "lpiIstBase",
  "lpiIstBits",
  "idr0",
  "idr1Priority",
  "idr2",
  "isIrsRestored",
] as const;

/** SELRs are reset to the highest number that they have. */
const SELR_RESET = { SPI: 0xff_ffff, PE: 0xffff } as const;

export class V5State {
  /** IPA of the IRS's frames; -1: not set. */
  irsBase = -1;
  /** 0: not set. */
  nrSpis = 0;
  isInitialized = false;
  isReady = false;
  isConnected = false;
  /** IRS_CR0.IRSEN. */
  enabled = false;
  cr1 = 0;
  spiSelr: number = SELR_RESET.SPI;
  peSelr: number = SELR_RESET.PE;
  istValid = false;
  istAddress = 0n;
  istCfgr = 0;
  /** Tables in the host's memory: of VMs, of SPIs, and of LPIs with the bits of an ID; -1: none. */
  vmtBase = -1;
  spiIstBase = -1;
  lpiIstBase = -1;
  lpiIstBits = 0;
  /** What userspace may lower of the ID registers; -1: as the host has it. */
  idr0 = -1;
  idr1Priority = -1;
  idr2 = -1;
  /** Userspace has written a register of the IRS. */
  isIrsRestored = false;
  readonly spis: V5Spi[] = [];
  /** By vCPU index. */
  readonly cpus: V5Cpu[] = [];
  /** INTIDs that a restored table has pending: given to the hardware before the first run. */
  replay: number[] = [];
  readonly counters: V5Counters;

  constructor() {
    const zeros = Object.keys(V5_COUNTERS).map((name) => [name, 0]);
    this.counters = Object.fromEntries(zeros) as V5Counters;
  }

  spi(id: number): V5Spi | null {
    return this.spis[id] ?? null;
  }

  cpuById(id: number): V5Cpu | null {
    return this.cpus.find(({ vcpuId }) => vcpuId === id) ?? null;
  }

  /** Bits of a vCPU's IAFFID, which is its id: as many as the VPE table has. */
  get iaffidBits(): number {
    const highest = this.cpus.reduce((most, { vcpuId }) => Math.max(most, vcpuId), 1);
    return 32 - Math.clz32(highest);
  }

  /** Once: from here on the number is fixed. */
  allocateSpis(count: number): void {
    this.nrSpis = count;
    for (let id = this.spis.length; id < count; id++) this.spis.push(new V5Spi(id));
  }

  count(name: V5CounterName, by = 1): void {
    this.counters[name] += by;
  }

  save() {
    const spis = this.spis.filter((spi) => !spi.isReset);
    const plain = (spi: V5Spi): SpiState => {
      const fields = SPI_FIELDS.map((field) => [field, spi[field]]);
      return { id: spi.id, ...Object.fromEntries(fields) };
    };
    return {
      registers: Object.fromEntries(REGISTERS.map((name) => [name, this[name]])),
      spis: spis.map(plain),
      cpus: this.cpus.map((cpu) => cpu.save()),
      replay: [...this.replay],
      counters: { ...this.counters },
    };
  }

  load(data: ReturnType<V5State["save"]>): void {
    Object.assign(this, data.registers);
    if (this.isInitialized) this.allocateSpis(this.nrSpis);
    for (const spi of this.spis) Object.assign(spi, new V5Spi(spi.id));
    for (const saved of data.spis) Object.assign(this.spis[saved.id] ?? {}, saved);
    for (const [index, cpu] of data.cpus.entries()) this.cpus[index]?.load(cpu);
    this.replay = [...data.replay];
    Object.assign(this.counters, data.counters);
  }
}
