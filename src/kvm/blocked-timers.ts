// Owns: when vCPUs that sleep in WFI wake by their timers, and what time does meanwhile. VM thread.
//
//   WFI ──arm──▶ asleep until a tick ──due──▶ woken
//                 └─ nothing else runs: virtual time jumps to the earliest, or waits for real time
// @source arch/arm64/kvm/arch_timer.c (kvm_timer_blocking, bg_timer) by behaviour; DESIGN 3
import type { Clock } from "../base/clock.js";
import { NS_PER_MS } from "../base/clock.js";
import type { Waitable } from "./sched/scheduler.js";

/** The VM as its sleepers see it. */
export interface TimeOfVm {
  readonly config: { readonly clock: "virtual" | "wall"; readonly idle: "jump" | "paced" };
  readonly clock: Clock;
  readonly virtualNs: number;
  idleNs: number;
  ticks(): bigint;
  instructionsFor(ticks: bigint): number;
}

interface Sleeper {
  readonly wait: Waitable;
}

export class BlockedTimers {
  readonly #vm: TimeOfVm;
  /** A replay goes as fast as it can. */
  isReplaying = false;
  /** Real time at which virtual time was 0. */
  #startMs: number;
  /** Tick at which each wakes. */
  readonly #wakeAt = new Map<Sleeper, bigint>();

  constructor(vm: TimeOfVm) {
    this.#vm = vm;
    this.#startMs = vm.clock.monotonicMs();
  }

  /** kvm_timer_blocking. @param ticks until its timer fires */
  arm(sleeper: Sleeper, ticks: bigint): void {
    this.#wakeAt.set(sleeper, this.#vm.ticks() + ticks);
  }

  /** kvm_timer_unblocking. */
  disarm(sleeper: Sleeper): void {
    this.#wakeAt.delete(sleeper);
  }

  /** Virtual time came from another host: it is now, neither ahead nor late. */
  restart(): void {
    const { clock, virtualNs } = this.#vm;
    this.#startMs = clock.monotonicMs() - virtualNs / NS_PER_MS;
  }

  /** After the counters were moved: every sleeper looks again. */
  wakeAll(): void {
    for (const sleeper of this.#wakeAt.keys()) sleeper.wait.wake();
  }

  /** Ticks until the first sleeper's timer; null without. */
  get ticksLeft(): bigint | null {
    let first: bigint | null = null;
    for (const tick of this.#wakeAt.values()) if (first === null || tick < first) first = tick;
    if (first === null) return null;
    const left = first - this.#vm.ticks();
    return left > 0n ? left : 0n;
  }

  /** Instructions until then, at least 1; infinite without. */
  get instructionsLeft(): number {
    if (this.#wakeAt.size === 0) return Number.POSITIVE_INFINITY;
    return Math.max(1, this.#vm.instructionsFor(this.ticksLeft ?? 0n));
  }

  wakeDue(): void {
    if (this.#wakeAt.size === 0) return;
    const now = this.#vm.ticks();
    for (const [sleeper, tick] of this.#wakeAt) {
      if (tick > now) continue;
      this.#wakeAt.delete(sleeper);
      sleeper.wait.wake();
    }
  }

  /** With nothing runnable: virtual time goes on to the first timer. @returns whether one woke */
  jump(): boolean {
    const vm = this.#vm;
    if (vm.config.clock === "wall" || this.#msUntilTimer > 0) return false;
    vm.idleNs += Number(this.ticksLeft);
    this.wakeDue();
    return true;
  }

  /** Milliseconds by which virtual time is ahead of real time, where it may not be; else 0. */
  get msAhead(): number {
    return this.#isPaced ? Math.max(0, this.#vm.virtualNs / NS_PER_MS - this.#realMs) : 0;
  }

  /** Milliseconds that the VM's thread may sleep with nothing runnable; Infinity without timers. */
  get msToSleep(): number {
    return Math.max(this.msAhead, this.#msUntilTimer);
  }

  get #isPaced(): boolean {
    const { clock, idle } = this.#vm.config;
    return clock === "virtual" && idle === "paced" && !this.isReplaying;
  }

  get #realMs(): number {
    return this.#vm.clock.monotonicMs() - this.#startMs;
  }

  /** Of real time; 0 when virtual time may jump. */
  get #msUntilTimer(): number {
    const vm = this.#vm;
    const left = this.ticksLeft;
    if (left === null) return Number.POSITIVE_INFINITY;
    if (vm.config.clock === "wall") return Number(left) / NS_PER_MS;
    const due = vm.virtualNs + Number(left);
    // Beyond what a number counts exactly is never: a third of a year.
    if (due > Number.MAX_SAFE_INTEGER) return Number.POSITIVE_INFINITY;
    return this.#isPaced ? Math.max(0, due / NS_PER_MS - this.#realMs) : 0;
  }
}
