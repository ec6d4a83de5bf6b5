// Owns: how KVM learns that the guest is done with an SPI, and tells those who listen, by the
// policy vgicV5.spiTracking.
//
//   none        never
//   seed004     every injected SPI on one list per VM; at each exit of each vCPU the hardware is
//               asked about each of them, and those that are idle are reported
//   seed004-notifier-only   the same, with only SPIs that somebody listens to
//   exact       GIC CDDI is trapped while a level SPI that somebody listens to is in flight
//
// VM thread. @source S004; interrupts.md 5.8, 5.10 to 5.13
import { assert } from "../../../base/assert.js";
import { KVM_IRQCHIP_NUM_PINS } from "../../uapi/flags.js";
import type { Vm } from "../../vm.js";
import type { V5Spi, V5State } from "./state.js";
import type { V5Latent } from "./view.js";

/** ICC_ICSR_EL1. */
const ICSR = { F: 1n, PENDING: 1n << 2n, ACTIVE: 1n << 4n } as const;
/** Deactivations without the line ever falling that make a storm. */
const STORM = 16;

export class SpiTracking {
  readonly #vm: Vm;
  readonly #state: V5State;
  /** GIC VDRCFG. @returns ICSR */
  readonly #vdrcfg: (intid: number) => bigint;
  /** seed004: SPIs in flight, first in, first out. */
  readonly #list = new Set<V5Spi>();
  /** vgic_v5_spi_ap_list_lock. */
  #isListLocked = false;
  /** notifier-only: what plain seed004 would have on its list beside, and their latches there. */
  readonly #untracked = new Map<V5Spi, boolean>();
  /** exact: level SPIs that were raised and may not be done. */
  readonly #raised = new Set<V5Spi>();
  /** exact: whether one of those has a listener. */
  #mustTrap = false;

  constructor(vm: Vm, state: V5State, vdrcfg: (intid: number) => bigint) {
    this.#vm = vm;
    this.#state = state;
    this.#vdrcfg = vdrcfg;
  }

  get policy(): Vm["policies"]["vgicV5.spiTracking"] {
    return this.#vm.policies["vgicV5.spiTracking"];
  }

  get #polls(): boolean {
    return this.policy.startsWith("seed004");
  }

  /** exact: the guest's GIC CDDI comes to KVM. */
  get trapsDeactivation(): boolean {
    return this.#mustTrap;
  }

  inFlight(): readonly number[] {
    return [...this.#list].map(({ id }) => id);
  }

  isListed(spi: V5Spi): boolean {
    return this.#list.has(spi);
  }

  hasNotifier({ id }: V5Spi): boolean {
    return id < KVM_IRQCHIP_NUM_PINS && this.#vm.ackNotifiers.has(0, id);
  }

  // ── injection ───────────────────────────────────────────────────────────────────────────────

  /** An SPI was injected: its line rose or fell, or an edge came. The hardware knows already. */
  injected(spi: V5Spi): void {
    if (spi.config === "edge" || !spi.lineLevel) spi.streak = 0;
    if (this.#polls) this.#queue(spi);
    else if (this.policy === "exact") this.#raise(spi);
  }

  /** vgic_v5_spi_queue_irq_unlock. Whether it is pending isn't asked: a level that falls too. */
  #queue(spi: V5Spi): void {
    if (this.isListed(spi)) return;
    if (this.policy === "seed004-notifier-only" && !this.hasNotifier(spi)) {
      this.#untracked.set(spi, spi.pendingLatch);
      return;
    }
    this.#enlist(spi);
  }

  #enlist(spi: V5Spi): void {
    this.#lock();
    // Looked at again under the lock.
    if (!this.isListed(spi)) this.#list.add(spi);
    const { counters } = this.#state;
    counters.maxListLen = Math.max(counters.maxListLen, this.#list.size);
    this.#unlock();
  }

  #lock(): void {
    assert(!this.#isListLocked, "nobody takes the list's lock while holding it");
    this.#isListLocked = true;
    this.#state.count("listLockAcquisitions");
  }

  #unlock(): void {
    this.#isListLocked = false;
  }

  // ── exit: seed004 ───────────────────────────────────────────────────────────────────────────

  /** vgic_v5_fold_irq_state, after the PPIs: at each exit of each vCPU. */
  exited(vcpu: number): void {
    const { counters } = this.#state;
    counters.exits++;
    if (!this.#polls) return;
    this.#lock();
    if (this.#list.size === 0) counters.earlyOuts++;
    else counters.exitsInspected++;
    const acked = this.#walk(vcpu);
    this.#unlock();
    if (this.#untracked.size > 0) this.#walkUntracked();
    for (const spi of acked) this.#ack(spi);
  }

  /** @returns those that were deactivated, in the list's order */
  #walk(vcpu: number): readonly V5Spi[] {
    const acked: V5Spi[] = [];
    for (const spi of this.#list) {
      const icsr = this.#read(spi);
      spi.active = (icsr & ICSR.ACTIVE) !== 0n;
      const isPending = (icsr & ICSR.PENDING) !== 0n;
      if (spi.config === "edge") spi.pendingLatch = isPending;
      else if (!isPending && !spi.active) spi.pendingLatch = false;
      if (spi.active || spi.pending) continue;
      if (this.#vm.host.faults.hit("vgic-v5-ack-alloc", vcpu) !== null) {
        // It stays on the list, and so do those behind it: another exit tries again.
        this.#state.count("allocFailures");
        break;
      }
      acked.push(spi);
      this.#list.delete(spi);
    }
    return acked;
  }

  #read(spi: V5Spi): bigint {
    this.#state.count("vdrcfgCalls");
    const icsr = this.#vdrcfg(spi.intid);
    if ((icsr & ICSR.F) !== 0n) this.#state.count("icsrFaults");
    return icsr;
  }

  /** What was saved: each of these would have been a read. Nothing of the SPIs changes. */
  #walkUntracked(): void {
    this.#state.count("vdrcfgSkippedNoNotifier", this.#untracked.size);
    for (const [spi, was] of this.#untracked) {
      const icsr = this.#vdrcfg(spi.intid);
      const isActive = (icsr & ICSR.ACTIVE) !== 0n;
      const isPending = (icsr & ICSR.PENDING) !== 0n;
      const latch = spi.config === "edge" ? isPending : was && (isPending || isActive);
      const pending = latch || (spi.config === "level" && spi.lineLevel);
      if (isActive || pending) this.#untracked.set(spi, latch);
      else this.#untracked.delete(spi);
    }
  }

  /** Somebody listens from now on: what is in flight already must not be lost. */
  notifiersChanged(): void {
    for (const spi of [...this.#untracked.keys()]) {
      if (!this.hasNotifier(spi)) continue;
      this.#untracked.delete(spi);
      this.#enlist(spi);
    }
    if (this.policy !== "exact") return;
    for (const spi of [...this.#raised]) if (this.hasNotifier(spi)) this.#settle(spi);
    this.#lookAtTraps();
  }

  // ── deactivation: exact ─────────────────────────────────────────────────────────────────────

  #raise(spi: V5Spi): void {
    if (spi.pending && spi.config === "level") {
      this.#raised.add(spi);
      this.#mustTrap ||= this.hasNotifier(spi);
    } else if (this.#raised.has(spi) && this.hasNotifier(spi)) {
      this.#settle(spi);
      this.#lookAtTraps();
    }
  }

  /** A line that fell: in flight still is what the guest has taken. */
  #settle(spi: V5Spi): void {
    if (spi.pending) return;
    // GSB SYS: that the line fell may be under way, and the guest must not take it meanwhile.
    this.#vm.host.irs.gsbSys();
    if ((this.#read(spi) & ICSR.ACTIVE) === 0n) this.#raised.delete(spi);
  }

  #lookAtTraps(): void {
    this.#mustTrap = [...this.#raised].some((spi) => this.#isWatched(spi));
  }

  #isWatched(spi: V5Spi): boolean {
    return spi.config === "level" && this.hasNotifier(spi);
  }

  /** The guest may have made it a level or an edge. */
  configured(spi: V5Spi): void {
    if (this.policy !== "exact") return;
    this.#raise(spi);
    this.#lookAtTraps();
  }

  /** Whether the end of this SPI is waited for: then KVM looks whether it was active. */
  awaits(spi: V5Spi): boolean {
    return this.#raised.has(spi) && this.#isWatched(spi);
  }

  /** Before KVM deactivates it for the guest: whether that is the end of anything. */
  isActive(spi: V5Spi): boolean {
    return (this.#read(spi) & ICSR.ACTIVE) !== 0n;
  }

  /** KVM has deactivated it for the guest. */
  deactivated(spi: V5Spi): void {
    spi.active = false;
    this.#raised.delete(spi);
    this.#ack(spi);
    this.#raise(spi);
    this.#lookAtTraps();
  }

  // ── telling ─────────────────────────────────────────────────────────────────────────────────

  /** kvm_notify_acked_irq: its callbacks inject, so nothing is locked. */
  #ack(spi: V5Spi): void {
    assert(!this.#isListLocked, "nobody is told while a lock is held");
    if (spi.id >= KVM_IRQCHIP_NUM_PINS) return;
    const { counters } = this.#state;
    counters.acks++;
    if (!this.hasNotifier(spi)) {
      counters.acksWithoutNotifier++;
    } else if (spi.owedSince < 0) {
      counters.spuriousAcks++;
    } else {
      const delay = this.#now() - spi.owedSince;
      if (delay > 0) counters.lateAcks++;
      counters.ackDelayNs += delay;
      spi.streak = 0;
    }
    spi.owedSince = -1;
    this.#vm.onSpiAcked?.(spi.id);
  }

  // ── what an onlooker sees ───────────────────────────────────────────────────────────────────

  /** Nanoseconds of the VM, to the instruction. */
  #now(): number {
    return Number(this.#vm.a64?.counter() ?? this.#vm.ticks());
  }

  /** The guest has deactivated an SPI. KVM doesn't hear of it; the counters do. */
  observe(spi: V5Spi): void {
    if (spi.config !== "level") return;
    if (spi.lineLevel && ++spi.streak === STORM) this.#state.count("stormsDetected");
    if (!this.hasNotifier(spi)) return;
    const { counters } = this.#state;
    counters.completions++;
    if (spi.owedSince >= 0) counters.missedAcks++;
    spi.owedSince = this.#now();
  }

  // ── state that stays ────────────────────────────────────────────────────────────────────────

  /** A restored table: what was in flight where it came from is in flight here. */
  restored(spi: V5Spi, isActive: boolean): void {
    spi.active = isActive;
    if (!isActive && !spi.pending) return;
    if (this.#polls) this.#queue(spi);
    else if (this.policy === "exact" && spi.config === "level") this.#raised.add(spi);
    this.#lookAtTraps();
  }

  save() {
    return {
      list: this.inFlight(),
      untracked: [...this.#untracked].map(([{ id }, latch]) => ({ id, latch })),
      raised: [...this.#raised].map(({ id }) => id),
    };
  }

  load({ list, untracked, raised }: Pick<V5Latent, "list" | "untracked" | "raised">): void {
    const find = (id: number): V5Spi => {
      const spi = this.#state.spi(id);
      assert(spi !== null, "what was in flight exists");
      return spi;
    };
    this.#list.clear();
    for (const id of list) this.#list.add(find(id));
    this.#untracked.clear();
    for (const { id, latch } of untracked) this.#untracked.set(find(id), latch);
    this.#raised.clear();
    for (const id of raised) this.#raised.add(find(id));
    this.#lookAtTraps();
  }
}
