// Owns: time as a board's devices see it, and timers of the VMM's own. VM thread.
import { NS_PER_MS } from "../../base/clock.js";
import { Prng } from "../../base/prng.js";
import { type Kvm, Waitable } from "../../kvm/index.js";

type Vm = Kvm["vm"];

/** 2026-01-01; a virtual clock begins within a year of it, by the VM's seed. */
const VIRTUAL_EPOCH_S = 1_767_225_600;
const YEAR_S = 31_536_000;
export const NS_PER_S = 1_000_000_000n;

/** A timer of the VMM's own: woken by time, it runs a handler, as a signal would. */
export class Alarm extends Waitable {
  readonly #vm: Vm;
  readonly #ring: () => void;
  readonly #sleeper = { wait: this };

  /** @param ring may be called early: it has to look at the time */
  constructor(vm: Vm, ring: () => void) {
    super("alarm");
    this.#vm = vm;
    this.#ring = ring;
  }

  arm(ns: bigint): void {
    this.#vm.timers.arm(this.#sleeper, ns);
  }

  disarm(): void {
    this.#vm.timers.disarm(this.#sleeper);
  }

  override wake(): void {
    this.#ring();
  }
}

/** The time of day. */
export class TimeOfDay {
  readonly vm: Vm;
  readonly #startNs: bigint;

  constructor(vm: Vm, seed: bigint) {
    this.vm = vm;
    const second = VIRTUAL_EPOCH_S + new Prng(seed).below(YEAR_S);
    this.#startNs = BigInt(second) * NS_PER_S;
  }

  /** Nanoseconds since 1970, of the machine or of the virtual clock. */
  get ns(): bigint {
    const { config, clock } = this.vm;
    if (config.clock === "virtual") return this.#startNs + this.vm.ticks();
    return BigInt(Math.floor(clock.nowMs())) * BigInt(NS_PER_MS);
  }
}
