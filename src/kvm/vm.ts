// Owns: the state of one VM as KVM keeps it, and its TLB maintenance. Operations live in files of
// their own and take this object. VM thread.
import { type Clock, NS_PER_MS } from "../base/clock.js";
import { KvmError } from "../base/errors.js";
import { Prng } from "../base/prng.js";
import type { Saved } from "../base/saved.js";
import {
  type A64Machine,
  type DirtyModel,
  encodeVtcr,
  encodeVttbr,
  HCR_VM,
  type Host,
  type HostCpu,
  type Translation,
} from "../machine/index.js";
import { Account, type Charger } from "./account.js";
import { AckNotifiers } from "./ack-notifiers.js";
import { AddressSpace } from "./address-space.js";
import { BlockedTimers } from "./blocked-timers.js";
import { Counters } from "./counters.js";
import type { DeferredClean } from "./dirty/deferred.js";
import type { HdbssPort } from "./dirty/hdbss-port.js";
import { defaultPolicies, type Policies } from "./dirty/policy.table.js";
import type { SeedBug } from "./dirty/seed-bug.table.js";
import { SmcccFilter } from "./firmware/filter.js";
import { type FirmwareState, newFirmware } from "./firmware/guest.js";
import type { StolenTime } from "./firmware/hypercalls.js";
import { GuestMemfds } from "./guest-memfd.js";
import type { GuestMemoryPort } from "./guest-memory-port.js";
import { type EventfdPort, IoBus } from "./io-bus.js";
import { IrqRouting } from "./irq-routing.js";
import { Irqfds } from "./irqfd.js";
import { Jobs } from "./jobs.js";
import { MemslotTable } from "./memslots.js";
import type { MissingPages } from "./missing-pages.js";
import { Stage2Tables } from "./pgtable.js";
import { VmPmu } from "./pmu.js";
import { Mutex, RwLock, Srcu } from "./sched/locks.js";
import { type Op, type Scheduler, Waitable } from "./sched/scheduler.js";
import { Throttle } from "./throttle.js";
import { Trace } from "./trace.js";
import { IPA_BITS_DEFAULT, IPA_BITS_LIMIT, IPA_BITS_MIN, KVM_DIRTY_LOG } from "./uapi/flags.js";
import type { Vcpu } from "./vcpu.js";
import { VfioFiles } from "./vfio.js";
import type { KvmDevice } from "./vgic/device-port.js";
import { nullVgic, type Vgic } from "./vgic/model.js";
import type { MsiPort } from "./vgic/msi-port.js";

export interface VmConfig {
  readonly type: bigint;
  readonly dirtyTracking: "write-protect" | "dbm";
  /** Host CPUs of the slice; 0 means as many as vCPUs. */
  readonly hostCpus: number;
  /** "wall": counters follow the machine's time; "virtual": what was executed. */
  readonly clock: "virtual" | "wall";
  readonly idle: "jump" | "paced";
  /** Virtual time of one instruction. */
  readonly nsPerInstruction: number;
  /** What differs from the defaults of dirty/policy.table.ts. */
  readonly policies?: Partial<Policies>;
  readonly seedBugs?: readonly SeedBug[];
}

/** Capabilities that were enabled. */
export interface EnabledCaps {
  manualDirtyLogProtect: number;
  dirtyRingBytes: number;
  dirtyRingWithBitmap: boolean;
  eagerSplitChunkSize: bigint;
  /** KVM_CAP_ARM_HDBSS_BUFFER_SIZE; 0: the default. */
  hdbssBufferBytes: number;
  /** Order of the buffers that HDBSS was turned on with last. */
  hdbssOrder: number;
  haltPollNs: number | null;
  /** KVM_CAP_ARM_NISV_TO_USER, _SEA_TO_USER, _WRITABLE_IMP_ID_REGS. */
  nisvToUser: boolean;
  seaToUser: boolean;
  writableImpIdRegs: boolean;
}

/**
 * Reads KVM_CREATE_VM's type argument.
 * @returns IPA size in bits
 * @throws KvmError EINVAL unknown bits, or an IPA size the host does not have
 */
export function ipaBitsOf(type: bigint): number {
  const einval = (why: string) => new KvmError("EINVAL", "KVM_CREATE_VM", why);
  if ((type & ~0xffn) !== 0n) {
    throw einval("only bits 7:0 (IPA size) may be set; this host runs no protected VMs");
  }
  const bits = Number(type);
  if (bits === 0) return IPA_BITS_DEFAULT;
  if (bits < IPA_BITS_MIN || bits > IPA_BITS_LIMIT) {
    throw einval(`the IPA size must be ${IPA_BITS_MIN} to ${IPA_BITS_LIMIT} bits, or 0 for 40`);
  }
  return bits;
}

export class Vm {
  readonly config: VmConfig;
  readonly translation: Translation | null;
  readonly host: Host;
  readonly sched: Scheduler;
  /** Time of the machine; only a wall clock looks at it. */
  readonly clock: Clock;
  readonly account: Account;
  readonly ipaBits: number;
  readonly vmid: number;
  /** VTCR_EL2 of the VM; changes with HDBSS. */
  vtcr: bigint;
  readonly vttbr: bigint;
  readonly mm: AddressSpace;
  readonly tables: Stage2Tables;
  readonly slots = new MemslotTable();
  readonly memfds: GuestMemfds;
  readonly bus: IoBus;
  readonly eventfds: EventfdPort;
  readonly routing = new IrqRouting();
  readonly counters = new Counters();
  /** The interrupt controller; none until a device of that kind exists. */
  vgic: Vgic = nullVgic;
  /** In-kernel devices, in the order of their creation. */
  readonly devices: KvmDevice[] = [];
  /**
   * Registers of assigned devices, mapped into the guest.
   * @returns bytes of a load, empty for a store; null: no device is there
   */
  passthrough:
    | ((ipa: number, length: number, store: Uint8Array | null) => Uint8Array | null)
    | null = null;
  /** What lets go of eventfds when the VM ends. */
  readonly onClose: (() => void)[] = [];
  readonly ackNotifiers = new AckNotifiers(this.routing);
  readonly jobs = new Jobs();
  readonly irqfds: Irqfds;
  /** The ITS; none until a device of that kind exists. */
  msi: MsiPort | null = null;
  /** Told of each level SPI that a guest has consumed, by pin. */
  onSpiAcked: ((pin: number) => void) | null = (pin) => this.notifyAcked(pin);
  /** Told of each pending SPI whose bit a guest's GICD_ICPENDR cleared, by pin. */
  onPendingCleared: ((pin: number) => void) | null = (pin) => {
    if (!this.policies["irq.ackOnClearPending"] || !this.ackNotifiers.has(0, pin)) return;
    this.notifyAcked(pin);
  };
  /** What KVM_CREATE_IRQCHIP made: a vGICv2 that has no descriptor. */
  irqchip: KvmDevice | null = null;
  readonly vfio: VfioFiles;
  /** By creation order. */
  readonly vcpus: Vcpu[] = [];
  /** What runs guest code; there from the first KVM_ARM_VCPU_INIT on. */
  a64: A64Machine | null = null;
  readonly firmware: FirmwareState = newFirmware();
  readonly filter = new SmcccFilter();
  /** ID registers that userspace changed. */
  readonly idRegs = new Map<string, bigint>();
  /** Entropy of the TRNG service: part of what a seed replays. */
  readonly trng: Prng;
  readonly slotsLock = new Mutex("slots_lock");
  readonly mmuLock = new RwLock("mmu_lock");
  readonly srcu = new Srcu("srcu");
  /** Woken when a host CPU becomes free. */
  readonly cpuFree = new Waitable("host-cpu");
  /** Woken when a KVM_RUN has ended. */
  readonly runEnded = new Waitable("run-ended");
  /** CPUs that an ioctl works on with preemption off. */
  readonly borrowed = new Set<HostCpu>();
  readonly caps: EnabledCaps = {
    manualDirtyLogProtect: 0,
    dirtyRingBytes: 0,
    dirtyRingWithBitmap: false,
    eagerSplitChunkSize: 0n,
    hdbssBufferBytes: 0,
    hdbssOrder: 0,
    haltPollNs: null,
    nisvToUser: false,
    seaToUser: false,
    writableImpIdRegs: false,
  };
  /** mmu_invalidate_seq: counts up when memory behind a userspace address changes. */
  invalidateSeq = 0;
  /** mmu_invalidate_in_progress: while not 0, faults map nothing and try again. */
  invalidateInProgress = 0;
  /** How HDBSS and HACDBS are used; may change while the VM lives. */
  readonly policies: Policies;
  /** The seeds' defects that are switched on. */
  readonly seedBugs: Set<SeedBug>;
  /** HDBSS is enabled: vCPUs have buffers, and VTCR_EL2 says so. */
  isHdbssOn = false;
  /** Set once KVM's parts are put together. */
  hdbss: HdbssPort | null = null;
  /** No vCPU may be loaded: HDBSS is being switched. */
  isHalted = false;
  hasRun = false;
  dead = false;
  /** Accesses and instructions retired by all vCPUs. */
  instructions = 0;
  /** Virtual time that passed while every vCPU slept. */
  idleNs = 0;
  /** PPIs of the virtual, physical, hyp virtual and hyp physical timer; VM-wide. */
  readonly timerPpis = [27, 30, 28, 26];
  readonly pmu = new VmPmu();
  /** Set once KVM's parts are put together. */
  pvTime: StolenTime | null = null;
  guestMemory: GuestMemoryPort | null = null;
  asyncClean: DeferredClean | null = null;
  /**
   * What the VMM does about a full dirty ring at once, as its vCPU's thread would after
   * KVM_EXIT_DIRTY_RING_FULL; null: that exit is userspace's to handle.
   */
  ringReaper: (() => Op<void>) | null = null;
  /** Post-copy: not all pages of a moved VM are here; null: they are. */
  missing: MissingPages | null = null;
  /** KVM_ARM_SET_COUNTER_OFFSET; null until it was called. */
  counterOffset: bigint | null = null;
  readonly timers: BlockedTimers;
  readonly throttle: Throttle;
  readonly trace = new Trace(() => Number(this.a64?.counter() ?? this.ticks()));

  constructor(
    config: VmConfig,
    deps: {
      host: Host;
      sched: Scheduler;
      budget: Charger;
      eventfds: EventfdPort;
      vmid: number;
      seed: bigint;
      translation: Translation | null;
      clock: Clock;
    },
  ) {
    this.config = config;
    this.policies = Object.assign(defaultPolicies(), config.policies);
    this.seedBugs = new Set(config.seedBugs);
    this.translation = deps.translation;
    this.host = deps.host;
    this.sched = deps.sched;
    this.clock = deps.clock;
    this.timers = new BlockedTimers(this);
    this.sched.time = this.timers;
    this.throttle = new Throttle(this);
    this.eventfds = deps.eventfds;
    this.vmid = deps.vmid;
    this.trng = new Prng(deps.seed);
    this.ipaBits = ipaBitsOf(config.type);
    this.account = new Account(deps.budget);
    this.tables = new Stage2Tables(this.host, this.account, this.ipaBits);
    this.mm = new AddressSpace(this.host, this.account);
    this.memfds = new GuestMemfds(this.host, this.account);
    this.vfio = new VfioFiles(this.memfds);
    this.bus = new IoBus(deps.eventfds, this.host.geometry.size);
    this.irqfds = new Irqfds(this);
    this.vtcr = this.vtcrFor(false);
    this.vttbr = encodeVttbr(this.tables.root, this.vmid);
  }

  /** VTCR_EL2 as it has to be. @param logs whether any slot logs */
  vtcrFor(logs: boolean): bigint {
    const { isHdbssOn, isDbm, policies } = this;
    const isFree = !logs && policies["hdbss.dbm"] === "hafdbs-when-not-logging";
    const hd = isDbm || isHdbssOn || isFree;
    return encodeVtcr(this.host.geometry, this.ipaBits, hd, isHdbssOn);
  }

  /**
   * Whether the log is synchronised by a scan for writable-dirty leaves. Never with dirty rings:
   * hardware that sets a descriptor's bit names no vCPU and pushes no entry.
   */
  get isDbm(): boolean {
    const { dirtyRingBytes } = this.caps;
    return this.config.dirtyTracking === "dbm" && dirtyRingBytes === 0 && !this.isHdbssOn;
  }

  /** Whether hardware manages dirty state of logged pages: their leaves carry DBM. */
  get isManaged(): boolean {
    return this.isDbm || this.isHdbssOn;
  }

  get maxVcpus(): number {
    return this.vgic.maxVcpus;
  }

  /** irqchip_in_kernel. */
  get irqchipInKernel(): boolean {
    return this.vgic !== nullVgic;
  }

  get pageSize(): number {
    return this.host.geometry.size;
  }

  /** kvm_dirty_log_manual_protect_and_init_set. */
  get manualProtectAndInitSet(): boolean {
    return (this.caps.manualDirtyLogProtect & KVM_DIRTY_LOG.INITIALLY_SET) !== 0;
  }

  get manualProtect(): boolean {
    return (this.caps.manualDirtyLogProtect & KVM_DIRTY_LOG.MANUAL_PROTECT_ENABLE) !== 0;
  }

  /** kvm_use_dirty_bitmap: false while only rings record. */
  get usesDirtyBitmap(): boolean {
    return this.caps.dirtyRingBytes === 0 || this.caps.dirtyRingWithBitmap;
  }

  /** @throws KvmError EIO once the VM is dead. */
  checkAlive(ioctl: string): void {
    if (this.dead) throw new KvmError("EIO", ioctl, "the VM is dead; delete it");
  }

  vcpuById(id: number): Vcpu | undefined {
    return this.vcpus.find((vcpu) => vcpu.id === id);
  }

  /** kvm_flush_remote_tlbs_range: every CPU, pages [first, first + count). */
  flushRange(first: number, count: number): void {
    this.counters.values.tlbiRange++;
    this.host.tlbiRange(this.vmid, first, count);
  }

  /** kvm_flush_remote_tlbs. */
  flushAll(): void {
    this.counters.values.tlbiVmid++;
    this.host.tlbiVmid(this.vmid);
  }

  /** After a permission was relaxed: only the faulting CPU's copy can be in the way. */
  flushLocal(cpu: HostCpu, page: number): void {
    this.counters.values.tlbiLocal++;
    this.host.tlbiLocal(cpu, this.vmid, page);
  }

  /** vcpu_load: the CPU's EL2 registers become this VM's. */
  loadVcpu(vcpu: Vcpu, cpu: HostCpu): void {
    cpu.msr("VTCR_EL2", this.vtcr);
    cpu.msr("VTTBR_EL2", this.vttbr);
    cpu.msr("HCR_EL2", HCR_VM);
    cpu.isb();
    cpu.vcpuId = vcpu.id;
    vcpu.cpu = cpu;
    this.hdbss?.load(vcpu, cpu);
  }

  /** vcpu_put: the CPU is free for another vCPU. */
  putVcpu(vcpu: Vcpu): void {
    if (vcpu.cpu === null) return;
    if (vcpu.isInGuest) this.vgic.exited(vcpu);
    vcpu.isInGuest = false;
    this.vgic.put(vcpu, vcpu.cpu);
    this.hdbss?.put(vcpu, vcpu.cpu);
    this.asyncClean?.put(vcpu, vcpu.cpu);
    vcpu.cpu.msr("HCR_EL2", 0n);
    vcpu.cpu.vcpuId = -1;
    vcpu.cpu = null;
    this.cpuFree.wake();
  }

  /** A host CPU that no vCPU is loaded on. */
  freeCpu(): HostCpu | undefined {
    const busy = new Set(this.vcpus.map((vcpu) => vcpu.cpu));
    return this.host.cpus.find((cpu) => !busy.has(cpu) && !this.borrowed.has(cpu));
  }

  /** @returns random bits of the TRNG service */
  random(bits: number): bigint {
    let value = 0n;
    for (let at = 0; at < bits; at += 16) {
      value = (value << 16n) | BigInt(this.trng.below(2 ** 16));
    }
    return BigInt.asUintN(bits, value);
  }

  get virtualNs(): number {
    return this.instructions * this.config.nsPerInstruction + this.idleNs;
  }

  /** The host's counter: one tick per nanosecond. @param more instructions of this slice */
  ticks(more = 0): bigint {
    if (this.config.clock === "wall") {
      return BigInt(Math.floor(this.clock.monotonicMs() * NS_PER_MS));
    }
    return BigInt(this.virtualNs + more * this.config.nsPerInstruction);
  }

  /** EngineClock of every vCPU. */
  instructionsFor(ticks: bigint): number {
    if (this.config.clock === "wall") return Number.POSITIVE_INFINITY;
    return Math.ceil(Number(ticks) / this.config.nsPerInstruction);
  }

  /** Time of the host and the counter of the same moment. */
  ptp(physical: boolean): { readonly ns: bigint; readonly counter: bigint } {
    const isWall = this.config.clock === "wall";
    const ns = isWall ? BigInt(Math.floor(this.clock.nowMs())) * BigInt(NS_PER_MS) : this.ticks();
    const offset = physical ? this.a64?.physicalOffset : this.a64?.virtualOffset;
    return { ns, counter: BigInt.asUintN(64, this.ticks() - (offset ?? 0n)) };
  }

  /** kvm_notify_acked_irq of the one irqchip. */
  notifyAcked(pin: number): void {
    if (this.trace.isOn) this.trace.add("kvm_ack_irq", null, { irqchip: 0, pin });
    this.ackNotifiers.ack(0, pin);
  }

  /** @param leavesCounts of its eventfds: it goes on elsewhere, or is to */
  close(leavesCounts = false): void {
    for (const close of this.onClose) close();
    this.irqfds.close(leavesCounts);
    for (const vcpu of this.vcpus) this.hdbss?.destroyVcpu(vcpu);
    this.bus.close();
    this.account.close();
  }

  save(): Saved {
    const data = {
      caps: { ...this.caps },
      model: { ...this.host.model },
      policies: { ...this.policies },
      seedBugs: [...this.seedBugs],
      vtcr: this.vtcr,
      isHdbssOn: this.isHdbssOn,
      invalidateSeq: this.invalidateSeq,
      hasRun: this.hasRun,
      dead: this.dead,
      instructions: this.instructions,
      idleNs: this.idleNs,
      counterOffset: this.counterOffset,
      timerPpis: [...this.timerPpis],
      pmu: this.pmu.save(),
      firmware: { ...this.firmware },
      filter: [...this.filter.list()],
      idRegs: [...this.idRegs],
      trng: [...this.trng.state],
      virtualOffset: this.a64?.virtualOffset ?? 0n,
      physicalOffset: this.a64?.physicalOffset ?? 0n,
    };
    return { kind: "vm", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      caps: EnabledCaps;
      model: DirtyModel;
      policies: Policies;
      seedBugs: SeedBug[];
      vtcr: bigint;
      isHdbssOn: boolean;
      invalidateSeq: number;
      hasRun: boolean;
      dead: boolean;
      instructions: number;
      idleNs: number;
      counterOffset: bigint | null;
      timerPpis: number[];
      pmu: ReturnType<VmPmu["save"]>;
      firmware: FirmwareState;
      filter: ReturnType<SmcccFilter["list"]>;
      idRegs: [string, bigint][];
      trng: number[];
      virtualOffset: bigint;
      physicalOffset: bigint;
    };
    Object.assign(this.caps, data.caps);
    Object.assign(this.host.model, data.model);
    Object.assign(this.policies, data.policies);
    this.seedBugs.clear();
    for (const bug of data.seedBugs) this.seedBugs.add(bug);
    this.vtcr = data.vtcr;
    this.isHdbssOn = data.isHdbssOn;
    Object.assign(this.firmware, data.firmware);
    this.filter.restore(data.filter);
    this.idRegs.clear();
    for (const [name, value] of data.idRegs) this.idRegs.set(name, value);
    this.trng.state.set(data.trng);
    if (this.a64 !== null) {
      this.a64.virtualOffset = data.virtualOffset;
      this.a64.physicalOffset = data.physicalOffset;
    }
    this.invalidateSeq = data.invalidateSeq;
    this.hasRun = data.hasRun;
    this.dead = data.dead;
    this.instructions = data.instructions;
    this.idleNs = data.idleNs;
    this.counterOffset = data.counterOffset;
    this.pmu.load(data.pmu);
    for (const [at, ppi] of data.timerPpis.entries()) this.timerPpis[at] = ppi;
    this.tables.forgetCache();
  }
}
