// Owns: a VM's GICv5 put together for the run loop, and what others may ask of it. VM thread.
//
//   line, irqfd ─▶ inject ─ VDPEND ─▶ IST ─▶ CPU interface where the vCPU is resident
//                                        └─▶ doorbell: wakes a vCPU that isn't
//   exit, or a trapped CDDI ─▶ tracking ─▶ ack notifiers
// What the guest does with SPIs and LPIs is between it and the hardware.
// @source arch/arm64/kvm/vgic/vgic-v5.c by behaviour; interrupts.md 5
import { assert } from "../../../base/assert.js";
import type { ErrnoName } from "../../../base/errno.table.js";
import { KvmError } from "../../../base/errors.js";
import type { Saved } from "../../../base/saved.js";
import { type HostCpu, INTID_TYPE, idOf, typeOf } from "../../../machine/index.js";
import { loadV5Latent, v5Latent } from "../../latent/vgic-v5.js";
import { KVM_MAX_VCPUS } from "../../uapi/flags.js";
import type { Vcpu } from "../../vcpu.js";
import type { Vm } from "../../vm.js";
import type { Vgic } from "../model.js";
import type { V5Context } from "./context.js";
import { injectSpi } from "./inject.js";
import { accessIrs, IRS_BYTES, IRS_FRAME_BYTES } from "./irs-frame.js";
import { replayPending, restoreIst, saveIst } from "./ist.js";
import {
  claimPmuPpi,
  connectTimers,
  hasPendingPpi,
  injectPpi,
  priorityBound,
  syncPpis,
} from "./ppis.js";
import { resetV5 } from "./reset.js";
import { V5Cpu, type V5Spi, V5State } from "./state.js";
import { V5Tables, VM_NUMBER } from "./tables.js";
import { SpiTracking } from "./tracking.js";
import { handleTrap, setTraps } from "./trap.js";
import type { V5Latent, V5Port, V5SpiView, V5View } from "./view.js";
import { viewOf, viewOfSpi } from "./views.js";

/** SPIs when nobody set NR_IRQS. */
const NR_SPIS_DEFAULT = 32;

export class VgicV5 implements Vgic, V5Context, V5Port {
  readonly name = "v5";
  readonly dist = null;
  readonly vm: Vm;
  readonly state = new V5State();
  readonly tables: V5Tables;
  readonly tracking: SpiTracking;

  constructor(vm: Vm) {
    this.vm = vm;
    const { irs } = vm.host;
    this.tables = new V5Tables(vm, this.state);
    this.tracking = new SpiTracking(vm, this.state, (intid) => irs.vdrcfg(VM_NUMBER, intid));
    irs.onDoorbell = (_vm, vpe) => this.#ring(vpe);
    irs.onDeactivated = (_vm, intid) => this.#observe(intid);
    for (const vcpu of vm.vcpus) this.addVcpu(vcpu);
  }

  get v5(): V5Port {
    return this;
  }

  get maxVcpus(): number {
    return KVM_MAX_VCPUS;
  }

  checkVcpu(): ErrnoName | null {
    return this.state.isInitialized ? "EBUSY" : null;
  }

  addVcpu({ index, id }: Vcpu): void {
    this.state.cpus.push(new V5Cpu(index, id));
  }

  cpuOf(vcpu: Vcpu): V5Cpu {
    const cpu = this.state.cpus[vcpu.index];
    assert(cpu !== undefined, "every vCPU has a CPU interface");
    return cpu;
  }

  // ── INIT, first run ─────────────────────────────────────────────────────────────────────────

  get isInitialized(): boolean {
    return this.state.isInitialized;
  }

  get isConnected(): boolean {
    return this.state.isConnected;
  }

  /** vgic_init. @throws KvmError ENODEV, ENOMEM */
  init(): void {
    const { state, vm } = this;
    if (state.isInitialized) return;
    const refuse = (errno: "ENODEV" | "ENOMEM", why: string): never => {
      throw new KvmError(errno, "KVM_SET_DEVICE_ATTR", why);
    };
    if (vm.vcpus.length === 0) refuse("ENODEV", "the VM has no vCPU");
    state.allocateSpis(state.nrSpis === 0 ? NR_SPIS_DEFAULT : state.nrSpis);
    if (!this.tables.allocate()) refuse("ENOMEM", "no memory for the tables of the interrupts");
    vm.routing.setDefaults(state.nrSpis);
    state.isInitialized = true;
  }

  firstRun(): ErrnoName | null {
    const { state, vm } = this;
    if (!state.isReady) {
      const errno = this.#mapErrno();
      if (errno !== null) {
        vm.dead = true;
        return errno;
      }
      state.isReady = true;
      state.isConnected = true;
    }
    replayPending(this, (intid) => this.#vdpend(intid, true));
    return null;
  }

  #mapErrno(): ErrnoName | null {
    if (this.state.irsBase < 0) return "ENXIO";
    if (!this.state.isInitialized) return "EBUSY";
    return connectTimers(this.vm, this.state.cpus);
  }

  // ── inputs ──────────────────────────────────────────────────────────────────────────────────

  injectLine(vcpu: Vcpu | null, id: number, level: boolean): ErrnoName | null {
    if (!this.state.isInitialized) return "EBUSY";
    if (vcpu !== null) {
      const errno = injectPpi(this.cpuOf(vcpu), id, level);
      if (errno === null) this.kick(vcpu);
      return errno;
    }
    const spi = this.state.spi(id);
    if (spi === null) return "EINVAL";
    injectSpi(this, spi, level);
    return null;
  }

  setSpi(pin: number, level: boolean): void {
    const spi = this.state.spi(pin);
    if (spi !== null) injectSpi(this, spi, level);
  }

  keepLevel(pin: number, isKept: boolean): void {
    const spi = this.state.spi(pin);
    if (spi !== null) spi.keepsLevel = isKept;
  }

  tellPending(spi: V5Spi): void {
    this.#vdpend(spi.intid, spi.pending);
  }

  #vdpend(intid: number, isPending: boolean): void {
    this.state.count("vdpendCalls");
    this.vm.host.irs.vdpend(VM_NUMBER, intid, isPending);
  }

  claimPmu(vcpu: Vcpu, intid: number): ErrnoName | null {
    return claimPmuPpi(this.cpuOf(vcpu), intid);
  }

  syncLines(vcpu: Vcpu): void {
    syncPpis(this.cpuOf(vcpu), vcpu);
  }

  notifiersChanged(): void {
    this.tracking.notifiersChanged();
  }

  // ── entry and exit ──────────────────────────────────────────────────────────────────────────

  flush(vcpu: Vcpu, { gicv5 }: HostCpu): void {
    const cpu = this.cpuOf(vcpu);
    syncPpis(cpu, vcpu);
    const { enabled } = this.state;
    const { context } = gicv5;
    if (context?.vpe !== cpu.vcpuId || context.isIrsEnabled !== enabled) {
      gicv5.setContext(this.#context(cpu));
    }
    gicv5.state.copyFrom(cpu.state);
    gicv5.candidateChanged();
    setTraps(gicv5, this.tracking.trapsDeactivation);
  }

  #context({ vcpuId }: V5Cpu) {
    const { enabled } = this.state;
    return { vm: VM_NUMBER, vpe: vcpuId, isIrsEnabled: enabled, hasDoorbell: false };
  }

  fold(vcpu: Vcpu, { gicv5 }: HostCpu): void {
    this.cpuOf(vcpu).state.copyFrom(gicv5.state);
  }

  exited(vcpu: Vcpu): void {
    this.tracking.exited(vcpu.id);
    this.vm.host.irs.elapse();
  }

  /** vgic_v5_put. */
  put(vcpu: Vcpu, { gicv5 }: HostCpu): void {
    if (gicv5.context === null) return;
    gicv5.setContext(null);
    if (vcpu.waitsForInterrupt || vcpu.waitsForEvent) this.#askDoorbell(this.cpuOf(vcpu));
  }

  /**
   * Whoever sleeps hears of SPIs and LPIs by a doorbell, which rings once: it is asked for again
   * each time that the vCPU finds nothing to wake up for.
   */
  #askDoorbell(cpu: V5Cpu): void {
    const bound = this.state.enabled ? priorityBound(cpu) : 0;
    const { vms } = this.vm.host.irs;
    vms.leave(VM_NUMBER, cpu.vcpuId, bound > 0, Math.max(0, bound - 1));
  }

  hasPending(vcpu: Vcpu): boolean {
    const cpu = this.cpuOf(vcpu);
    syncPpis(cpu, vcpu);
    if (hasPendingPpi(cpu) || this.#hasPendingSpi(cpu)) return true;
    if (vcpu.cpu === null) this.#askDoorbell(cpu);
    return false;
  }

  #hasPendingSpi(cpu: V5Cpu): boolean {
    if (!this.state.enabled) return false;
    const candidate = this.tables.domain?.candidate(cpu.vcpuId) ?? null;
    return candidate !== null && candidate.priority < priorityBound(cpu);
  }

  kick(vcpu: Vcpu): void {
    vcpu.wait.wake();
  }

  reload(): void {
    for (const vcpu of this.vm.vcpus) this.kick(vcpu);
  }

  #ring(vpe: number): void {
    this.state.count("doorbells");
    this.vm.vcpuById(vpe)?.wait.wake();
  }

  /** For the counters alone: KVM doesn't hear of a deactivation that it doesn't do itself. */
  #observe(intid: number): void {
    const spi = typeOf(intid) === INTID_TYPE.SPI ? this.state.spi(idOf(intid)) : null;
    if (spi !== null) this.tracking.observe(spi);
  }

  trap(vcpu: Vcpu, esr: bigint): void {
    handleTrap(this, this.cpuOf(vcpu), vcpu, esr);
  }

  mmio(_vcpu: Vcpu, ipa: number, length: number, store: Uint8Array | null): Uint8Array | null {
    const { irsBase, isReady } = this.state;
    if (!isReady || ipa < irsBase || ipa >= irsBase + IRS_BYTES) return null;
    const offset = ipa - irsBase;
    // Nothing is in the SETLPI frame.
    if (offset >= IRS_FRAME_BYTES) return new Uint8Array(store === null ? length : 0);
    return accessIrs(this, offset, length, store);
  }

  // ── what others ask ─────────────────────────────────────────────────────────────────────────

  get counters() {
    return this.state.counters;
  }

  get nrSpis(): number {
    return this.state.nrSpis;
  }

  inFlight(): readonly number[] {
    return this.tracking.inFlight();
  }

  view(): V5View {
    return viewOf(this);
  }

  spi(id: number): V5SpiView | null {
    return viewOfSpi(this, id);
  }

  saveIst(): { readonly spi: Uint8Array; readonly lpi: Uint8Array | null } {
    return saveIst(this);
  }

  restoreIst(spi: Uint8Array, lpi: Uint8Array | null): void {
    restoreIst(this, { spi, lpi });
  }

  latent(): V5Latent {
    return v5Latent(this);
  }

  loadLatent(latent: V5Latent): string | null {
    return loadV5Latent(this, latent);
  }

  reset(): void {
    resetV5(this);
  }

  save(): Saved {
    const data = { ...this.state.save(), tracking: this.tracking.save() };
    return { kind: "vgic-v5", version: 1, data };
  }

  /** After the memory: tables are there already. */
  load(saved: Saved): void {
    const data = saved.data as ReturnType<V5State["save"]> & {
      tracking: ReturnType<SpiTracking["save"]>;
    };
    this.state.load(data);
    this.tracking.load(data.tracking);
  }
}
