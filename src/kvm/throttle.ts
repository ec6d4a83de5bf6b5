// Owns: keeping vCPUs from running: by a share of time, and by how many pages they make dirty.
// VM thread.
//
//   percent      run 10 ms ─ all held for percent / (100 - percent) × 10 ms ─ run 10 ms ─ …
//   dirtyLimit   each 10 ms brings a vCPU limit / 100 pages; who owes pages is held until paid
//
// Time is the VM's: instructions in a virtual clock, where a slice ends exactly where a hold
// begins. A vCPU that is held waits as one in WFI does, so kicks and requests reach it.
// @source QEMU docs (cpu-throttle, vcpu-dirty-limit) by behaviour
import type { Saved } from "../base/saved.js";
import type { Vcpu } from "./vcpu.js";

/** The VM as a throttle sees it. */
interface ThrottledVm {
  readonly timers: { arm(sleeper: Vcpu, ticks: bigint): void };
  readonly vcpus: readonly Vcpu[];
  readonly counters: { readonly values: { throttledUs: number } };
  ticks(): bigint;
  instructionsFor(ticks: bigint): number;
}

/** A quota of pages as it is used up. */
interface Quota {
  /** Period that was paid for last. */
  period: bigint;
  /** Pages that may be made dirty yet; below 0: owed. */
  credit: number;
  /** vcpu.dirtied as it was looked at last. */
  seen: number;
}

const SLICE_NS = 10_000_000n;
const SLICES_PER_S = 100;
const NS_PER_US = 1000;
/** Of a slice under a dirty limit: what it makes dirty is known only when it is over. */
const LIMITED_INSTRUCTIONS = 1000;
export const THROTTLE_PERCENT_MAX = 99;

export class Throttle {
  readonly #vm: ThrottledVm;
  #percent = 0;
  #dirtyLimit = 0;
  /** Tick at which the present setting began. */
  #start = 0n;
  readonly #quotas = new Map<number, Quota>();
  /** Since when a vCPU is held. */
  readonly #heldSince = new Map<number, bigint>();

  constructor(vm: ThrottledVm) {
    this.#vm = vm;
  }

  get percent(): number {
    return this.#percent;
  }

  get dirtyLimit(): number {
    return this.#dirtyLimit;
  }

  /** Setting what is set already changes nothing: a period under way goes on. */
  set(percent: number, dirtyLimit: number): void {
    if (percent === this.#percent && dirtyLimit === this.#dirtyLimit) return;
    this.#percent = percent;
    this.#dirtyLimit = dirtyLimit;
    this.#start = this.#vm.ticks();
    this.#quotas.clear();
    // Whoever is held looks again.
    for (const vcpu of this.#vm.vcpus) if (this.#heldSince.has(vcpu.id)) vcpu.wait.wake();
  }

  get #heldNs(): bigint {
    return (SLICE_NS * BigInt(this.#percent)) / BigInt(100 - this.#percent);
  }

  /** Ticks until everybody may run again; 0 while they may. */
  #ticksHeld(now: bigint): bigint {
    if (this.#percent === 0) return 0n;
    const period = SLICE_NS + this.#heldNs;
    const at = (now - this.#start) % period;
    return at < SLICE_NS ? 0n : period - at;
  }

  /** Instructions that a slice may have at most; infinite without a throttle. */
  get instructionsLeft(): number {
    const most = this.#dirtyLimit === 0 ? Number.POSITIVE_INFINITY : LIMITED_INSTRUCTIONS;
    if (this.#percent === 0) return most;
    const at = (this.#vm.ticks() - this.#start) % (SLICE_NS + this.#heldNs);
    return Math.max(1, Math.min(most, this.#vm.instructionsFor(SLICE_NS - at)));
  }

  /** Ticks until a vCPU has paid for the pages that it made dirty. */
  #ticksOwed(vcpu: Vcpu, now: bigint): bigint {
    if (this.#dirtyLimit === 0) return 0n;
    const perSlice = this.#dirtyLimit / SLICES_PER_S;
    const period = (now - this.#start) / SLICE_NS;
    let quota = this.#quotas.get(vcpu.id);
    if (quota === undefined) {
      quota = { period, credit: Math.max(1, perSlice), seen: vcpu.dirtied };
      this.#quotas.set(vcpu.id, quota);
    }
    quota.credit -= vcpu.dirtied - quota.seen;
    quota.seen = vcpu.dirtied;
    // What isn't used up in its slice is lost, but a page can always be saved up for.
    const paid = quota.credit + Number(period - quota.period) * perSlice;
    quota.credit = Math.min(paid, Math.max(1, perSlice));
    quota.period = period;
    if (quota.credit >= 0) return 0n;
    const slices = Math.ceil(-quota.credit / perSlice);
    return (period + BigInt(slices)) * SLICE_NS - (now - this.#start);
  }

  /** @returns whether the vCPU may not enter the guest now; it is woken when it may */
  holds(vcpu: Vcpu): boolean {
    if (this.#percent === 0 && this.#dirtyLimit === 0 && this.#heldSince.size === 0) return false;
    const now = this.#vm.ticks();
    let ticks = this.#ticksHeld(now);
    const owed = this.#ticksOwed(vcpu, now);
    if (owed > ticks) ticks = owed;
    if (ticks === 0n) {
      this.leave(vcpu);
      return false;
    }
    if (!this.#heldSince.has(vcpu.id)) this.#heldSince.set(vcpu.id, now);
    this.#vm.timers.arm(vcpu, ticks);
    return true;
  }

  /** The vCPU goes on, or out of KVM_RUN. */
  leave(vcpu: Vcpu): void {
    const since = this.#heldSince.get(vcpu.id);
    if (since === undefined) return;
    this.#heldSince.delete(vcpu.id);
    const { vcpus, counters } = this.#vm;
    vcpu.throttledNs += Number(this.#vm.ticks() - since);
    const sum = vcpus.reduce((ns, { throttledNs }) => ns + throttledNs, 0);
    counters.values.throttledUs = Math.floor(sum / NS_PER_US);
  }

  save(): Saved {
    const data = {
      percent: this.#percent,
      dirtyLimit: this.#dirtyLimit,
      start: this.#start,
      quotas: [...this.#quotas].map(([id, quota]) => [id, { ...quota }]),
      heldSince: [...this.#heldSince],
    };
    return { kind: "throttle", version: 1, data };
  }

  /** Only with every vCPU outside of KVM_RUN: nobody is held. */
  load(saved: Saved): void {
    const data = saved.data as {
      percent: number;
      dirtyLimit: number;
      start: bigint;
      quotas: [number, Quota][];
    };
    this.#percent = data.percent;
    this.#dirtyLimit = data.dirtyLimit;
    this.#start = data.start;
    this.#quotas.clear();
    for (const [id, quota] of data.quotas) this.#quotas.set(id, { ...quota });
    this.#heldSince.clear();
  }
}
