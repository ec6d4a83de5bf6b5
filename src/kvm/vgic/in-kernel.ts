// Owns: the in-kernel interrupt controller of a VM, put together for the run loop. VM thread.
import { assert } from "../../base/assert.js";
import type { ErrnoName } from "../../base/errno.table.js";
import { type HostCpu, ICC_BY_ENCODING, LINE } from "../../machine/index.js";
import type { Vcpu } from "../vcpu.js";
import type { Vm } from "../vm.js";
import { Delivery } from "./delivery.js";
import { VgicDist, type VgicModel } from "./dist.js";
import { lazyInit } from "./init.js";
import { mapResources } from "./map.js";
import { accessFrame } from "./mmio.js";
import type { Vgic } from "./model.js";
import { frameErrno } from "./redist.js";
import { sendSgi } from "./sgi.js";
import { VGIC_NR_PRIVATE_IRQS, type VgicCpu } from "./state.js";

export const VCPUS_MAX: Readonly<Record<VgicModel, number>> = { v2: 8, v3: 512 };

/** Lines of a PE, and the PPIs that they drive. */
const TIMER_LINES = [LINE.virtualTimer, LINE.physicalTimer] as const;

export class InKernelVgic implements Vgic {
  readonly name: VgicModel;
  readonly dist: VgicDist;
  readonly v5 = null;
  readonly delivery: Delivery;
  readonly vm: Vm;

  constructor(vm: Vm, model: VgicModel) {
    this.vm = vm;
    this.name = model;
    this.dist = new VgicDist(model);
    this.delivery = new Delivery(vm, this.dist);
    if (vm.msi !== null) this.dist.addIts();
    for (const vcpu of vm.vcpus) this.addVcpu(vcpu);
  }

  get maxVcpus(): number {
    return VCPUS_MAX[this.name];
  }

  /** EBUSY once INIT has fixed them; EINVAL when the redistributors don't lie right. */
  checkVcpu(): ErrnoName | null {
    const { dist, vm } = this;
    if (dist.isInitialized) return "EBUSY";
    const hasRoom = dist.redistRegions.some(({ count, used }) => count === 0 || used < count);
    return hasRoom ? frameErrno(dist, dist.cpus.length, vm.ipaBits) : null;
  }

  addVcpu(vcpu: Vcpu): void {
    this.dist.placeRedist(this.dist.addCpu(vcpu.index, vcpu.id, vcpu.mpidr));
  }

  get isInitialized(): boolean {
    return this.dist.isInitialized;
  }

  get isConnected(): boolean {
    return this.dist.isConnected;
  }

  firstRun(): ErrnoName | null {
    if (this.dist.isConnected) return null;
    const errno = this.dist.isReady ? null : mapResources(this);
    // Half of its frames may be mapped: nothing is asked of such a VM any more.
    if (errno !== null) this.vm.dead = true;
    return errno ?? this.#connectTimers();
  }

  /** kvm_timer_enable: from here on timers drive their PPIs, and nobody else does. */
  #connectTimers(): ErrnoName | null {
    const ppis = new Set(this.vm.timerPpis.slice(0, TIMER_LINES.length));
    const { cpus } = this.dist;
    const isTaken = (cpu: VgicCpu) =>
      [...ppis].some((ppi) => cpu.privateIrqs[ppi]?.owner === "pmu");
    if (ppis.size < TIMER_LINES.length || cpus.some(isTaken)) return "EINVAL";
    for (const cpu of cpus) {
      for (const ppi of ppis) {
        const irq = cpu.privateIrqs[ppi];
        if (irq === undefined) continue;
        irq.owner = "timer";
        irq.hw = true;
      }
    }
    this.dist.isConnected = true;
    return null;
  }

  claimPmu(vcpu: Vcpu, intid: number): ErrnoName | null {
    const irq = this.dist.irq(this.cpuOf(vcpu), intid);
    if (irq === null) return "EINVAL";
    if (irq.owner !== null) return "EEXIST";
    irq.owner = "pmu";
    return null;
  }

  injectLine(vcpu: Vcpu | null, intid: number, level: boolean): ErrnoName | null {
    if (!lazyInit(this)) return "EBUSY";
    if (intid >= this.dist.nrIrqs) return "EINVAL";
    const cpu = vcpu === null ? null : this.cpuOf(vcpu);
    return this.delivery.inject(cpu, intid, level, null) ? null : "EINVAL";
  }

  cpuOf(vcpu: Vcpu): VgicCpu {
    const cpu = this.dist.cpus[vcpu.index];
    assert(cpu !== undefined, "every vCPU has a CPU interface");
    return cpu;
  }

  flush(vcpu: Vcpu, cpu: HostCpu): void {
    this.syncLines(vcpu);
    this.delivery.flush(this.cpuOf(vcpu), cpu.gic);
  }

  fold(vcpu: Vcpu, cpu: HostCpu): void {
    this.delivery.fold(this.cpuOf(vcpu), cpu.gic);
  }

  /** What the guest did with list registers is back by then. */
  exited(): void {}
  put(): void {}

  /** A notifier is looked for when there is something to tell. */
  notifiersChanged(): void {}

  hasPending(vcpu: Vcpu): boolean {
    this.syncLines(vcpu);
    return this.delivery.hasPending(this.cpuOf(vcpu));
  }

  kick(vcpu: Vcpu): void {
    this.delivery.kick(this.cpuOf(vcpu));
  }

  syncLines(vcpu: Vcpu): void {
    const lines = vcpu.a64?.pe.outputLines() ?? 0;
    const cpu = this.cpuOf(vcpu);
    for (const [timer, line] of TIMER_LINES.entries()) {
      const ppi = this.vm.timerPpis[timer];
      if (ppi !== undefined) this.delivery.inject(cpu, ppi, (lines & line) !== 0, "timer");
    }
    const { pmuIrq } = vcpu;
    if (pmuIrq !== null) this.delivery.inject(cpu, pmuIrq, (lines & LINE.pmu) !== 0, "pmu");
  }

  setSpi(pin: number, level: boolean): void {
    this.delivery.inject(null, VGIC_NR_PRIVATE_IRQS + pin, level, null);
  }

  keepLevel(pin: number, isKept: boolean): void {
    const irq = this.dist.irq(null, VGIC_NR_PRIVATE_IRQS + pin);
    if (irq !== null) irq.keepsLevel = isKept;
  }

  /** Of ICC_SGI*R_EL1, and of ICC_DIR_EL1 for what no list register has. */
  trap(vcpu: Vcpu, esr: bigint): void {
    const { a64 } = vcpu;
    const iss = Number(esr & 0x1ff_ffffn);
    const encoding =
      (((iss >>> 20) & 3) << 14) |
      (((iss >>> 14) & 7) << 11) |
      (((iss >>> 10) & 15) << 7) |
      (((iss >>> 1) & 15) << 3) |
      ((iss >>> 17) & 7);
    const register = ICC_BY_ENCODING.get(encoding);
    const value = a64?.pe.registers.x((iss >>> 5) & 31) ?? 0n;
    const cpu = this.cpuOf(vcpu);
    if (register?.name === "ICC_DIR_EL1") {
      const irq = this.dist.irq(cpu, Number(value & 0xff_ffffn));
      if (irq?.active !== true) return;
      this.delivery.deactivate(irq);
      // On whose list it is looks again: it may be pending still.
      this.delivery.queue(irq);
      return;
    }
    sendSgi(this, cpu, value, register?.name === "ICC_SGI1R_EL1");
  }

  mmio(vcpu: Vcpu, ipa: number, length: number, store: Uint8Array | null): Uint8Array | null {
    const { vm } = this;
    // What KVM stores in tables of the guest goes into this vCPU's dirty ring.
    if (vm.guestMemory !== null) vm.guestMemory.running = vcpu;
    const loaded =
      accessFrame(this, this.cpuOf(vcpu), vcpu, { ipa, length, store }) ??
      vm.msi?.access(ipa, length, store) ??
      null;
    if (vm.guestMemory !== null) vm.guestMemory.running = null;
    return loaded;
  }
}
