// Owns: the way of an interrupt from its input to a list register and back. VM thread.
//
//   inject ─ queue ─▶ AP list of a vCPU ─ flush ─▶ list registers ─ guest ─▶ fold ─ prune
//                          ▲                                                   │
//                          └── pending or active still, maybe another vCPU's ──┘
// Everything happens in one thread between two steps of a guest: a vCPU that isn't in the guest has
// nothing in list registers.
// @source arch/arm64/kvm/vgic/vgic.c, vgic-v3.c by behaviour; interrupts.md 3.2 to 3.6
import {
  HCR,
  INTID_V2,
  LR,
  LR_CPUID_SHIFT,
  NR_LRS,
  type VirtualInterface,
  VMCR,
} from "../../machine/index.js";
import type { Vm } from "../vm.js";
import type { VgicDist } from "./dist.js";
import { type IrqOwner, VGIC_NR_PRIVATE_IRQS, type VgicCpu, type VgicIrq } from "./state.js";

export class Delivery {
  readonly #vm: Vm;
  readonly #dist: VgicDist;

  constructor(vm: Vm, dist: VgicDist) {
    this.#vm = vm;
    this.#dist = dist;
  }

  /** vgic_target_oracle: whose AP list an interrupt belongs on; null: nobody's. */
  oracle(irq: VgicIrq): VgicCpu | null {
    // An active interrupt stays where it is being handled.
    if (irq.active) return irq.list ?? irq.target;
    return irq.enabled && irq.pending && this.#dist.enabled ? irq.target : null;
  }

  /**
   * kvm_vgic_inject_irq.
   * @param cpu whose PPI; null for others
   * @returns false: there is no such interrupt
   */
  inject(cpu: VgicCpu | null, intid: number, level: boolean, owner: IrqOwner | null): boolean {
    const irq = this.#dist.irq(cpu, intid);
    if (irq === null) return false;
    if (irq.owner !== owner) return true;
    if (irq.config === "level") {
      if (irq.lineLevel === level) return true;
      irq.lineLevel = level;
    } else {
      if (irq.keepsLevel) irq.lineLevel = level;
      if (!level) return true;
      irq.pendingLatch = true;
    }
    const { trace } = this.#vm;
    if (trace.isOn) {
      const fields = { irq: intid, level: level ? 1 : 0 };
      trace.add("vgic_update_irq_pending", cpu?.vcpuId ?? null, fields);
    }
    this.queue(irq);
    return true;
  }

  /** vgic_queue_irq_unlock: puts it where the oracle says, and wakes that vCPU. */
  queue(irq: VgicIrq): void {
    if (irq.list !== null) {
      this.kick(irq.list);
      return;
    }
    const cpu = this.oracle(irq);
    if (cpu === null) return;
    irq.list = cpu;
    cpu.apList.push(irq);
    this.kick(cpu);
  }

  kick(cpu: VgicCpu): void {
    this.#vm.vcpus[cpu.index]?.wait.wake();
  }

  /** The distributor was switched on: what has become pending meanwhile is on no list. */
  switchedOn(): void {
    const { cpus, spis, lpis } = this.#dist;
    for (const cpu of cpus) for (const irq of cpu.privateIrqs) this.queue(irq);
    for (const irq of spis) this.queue(irq);
    for (const irq of lpis.values()) this.queue(irq);
    for (const cpu of cpus) this.kick(cpu);
  }

  /** kvm_vgic_vcpu_pending_irq. */
  hasPending(cpu: VgicCpu): boolean {
    if (!this.#dist.enabled) return false;
    const mask = (cpu.vmcr >>> VMCR.VPMR_SHIFT) & 0xff;
    return cpu.apList.some(
      (irq) => irq.pending && irq.enabled && !irq.active && irq.priority < mask,
    );
  }

  // ── entry ───────────────────────────────────────────────────────────────────────────────────

  /** kvm_vgic_flush_hwstate. */
  flush(cpu: VgicCpu, hardware: VirtualInterface): void {
    hardware.vmcr = cpu.vmcr;
    hardware.apr.set(cpu.apr);
    hardware.hcr = HCR.EN;
    hardware.sre = this.#dist.model === "v3";
    cpu.onLrs.length = 0;
    if (cpu.apList.length === 0) return;
    if (cpu.apList.length > 1) cpu.apList.sort(byUrgency);
    let [pendingLeft, activeLeft] = [false, false];
    for (const irq of cpu.apList) {
      if (this.oracle(irq) !== cpu) continue;
      if (cpu.onLrs.length < NR_LRS) this.#populate(hardware, cpu.onLrs.push(irq) - 1, irq);
      else if (irq.active) activeLeft = true;
      else pendingLeft = true;
    }
    // What found no room comes as soon as there is some.
    if (pendingLeft) hardware.hcr |= HCR.UIE | HCR.NPIE;
    if (activeLeft) hardware.hcr |= HCR.UIE | HCR.LRENPIE;
  }

  /** vgic_v3_populate_lr. */
  #populate(hardware: VirtualInterface, n: number, irq: VgicIrq): void {
    let high = (irq.priority << LR.PRIORITY_SHIFT) | (irq.group === 1 ? LR.GROUP1 : 0);
    let low = irq.intid;
    const isV2Sgi = irq.isSgi && this.#dist.model === "v2";
    let mayPend = true;
    if (irq.active) {
      high |= LR.ACTIVE;
      if (isV2Sgi) low |= irq.activeSource << LR_CPUID_SHIFT;
    }
    if (irq.hw) {
      high |= LR.HW | irq.intid;
      mayPend = !irq.active;
    } else if (irq.config === "level") {
      // Deactivation is what makes KVM look at the line again, and tells who listens.
      high |= LR.EOI;
      mayPend = !irq.active;
    } else if (isV2Sgi && irq.active) {
      mayPend = false;
    }
    if (irq.pending && mayPend) {
      high |= LR.PENDING;
      if (irq.config === "edge") irq.pendingLatch = false;
      if (isV2Sgi) {
        const source = 31 - Math.clz32(irq.source & -irq.source);
        low |= Math.max(0, source) << LR_CPUID_SHIFT;
        irq.source &= irq.source - 1;
        if (irq.source !== 0) {
          irq.pendingLatch = true;
          high |= LR.EOI;
        }
      }
    }
    hardware.lrHigh[n] = high;
    hardware.lrLow[n] = low;
  }

  // ── exit ────────────────────────────────────────────────────────────────────────────────────

  /** kvm_vgic_sync_hwstate. */
  fold(cpu: VgicCpu, hardware: VirtualInterface): void {
    cpu.vmcr = hardware.vmcr;
    cpu.apr.set(hardware.apr);
    const { eoiCount } = hardware;
    hardware.hcr = 0;
    hardware.sre = false;
    hardware.clearMaintenance();
    if (cpu.apList.length === 0) return;
    for (const [n, irq] of cpu.onLrs.entries()) {
      this.#foldOne(irq, hardware.lrHigh[n]!, hardware.lrLow[n]!);
    }
    if (eoiCount > 0) this.#foldOverflow(cpu, eoiCount);
    hardware.lrHigh.fill(0);
    hardware.lrLow.fill(0);
    cpu.onLrs.length = 0;
    this.#prune(cpu);
  }

  #foldOne(irq: VgicIrq, high: number, low: number): void {
    const isOver = (high & LR.STATE) === 0;
    const isPending = (high & LR.PENDING) !== 0;
    if (isOver && (high & LR.EOI) !== 0 && (high & LR.HW) === 0) this.#acked(irq);
    irq.active = (high & LR.ACTIVE) !== 0;
    const source = (low & ~INTID_V2) >>> LR_CPUID_SHIFT;
    const isV2Sgi = irq.isSgi && this.#dist.model === "v2";
    if (isV2Sgi && irq.active) irq.activeSource = source;
    if (irq.config === "edge" && isPending) {
      irq.pendingLatch = true;
      if (isV2Sgi) irq.source |= 1 << source;
    }
    // Consumed: that ends what ISPENDR began. The line is not ours to lower.
    if (irq.config === "level" && isOver) irq.pendingLatch = false;
  }

  /** EOIs of what had no list register, in the order of the list. */
  #foldOverflow(cpu: VgicCpu, count: number): void {
    let left = count;
    for (const irq of [...cpu.apList]) {
      if (left === 0) return;
      if (!irq.active || cpu.onLrs.includes(irq)) continue;
      left--;
      this.deactivate(irq);
    }
  }

  /** As if a list register of it had gone from active to nothing. */
  deactivate(irq: VgicIrq): void {
    this.#foldOne(irq, irq.config === "level" && !irq.hw ? LR.EOI : 0, irq.intid);
  }

  /** A level SPI was consumed: kvm_notify_acked_irq. No lock is held. */
  #acked(irq: VgicIrq): void {
    if (irq.isSpi) this.#vm.onSpiAcked?.(irq.intid - VGIC_NR_PRIVATE_IRQS);
  }

  /** vgic_prune_ap_list. */
  #prune(cpu: VgicCpu): void {
    const kept: VgicIrq[] = [];
    const moved: VgicIrq[] = [];
    for (const irq of cpu.apList) {
      const target = this.oracle(irq);
      if (target === cpu) {
        kept.push(irq);
        continue;
      }
      irq.list = null;
      if (target !== null) moved.push(irq);
    }
    cpu.apList = kept;
    for (const irq of moved) this.queue(irq);
  }
}

/** Pending ones that may be delivered first, by priority; mapped ones before others. */
function byUrgency(a: VgicIrq, b: VgicIrq): number {
  const [ready, other] = [isReady(a), isReady(b)];
  if (ready !== other) return ready ? -1 : 1;
  return a.priority - b.priority || Number(b.hw) - Number(a.hw);
}

function isReady(irq: VgicIrq): boolean {
  return irq.pending && irq.enabled && !irq.active;
}
