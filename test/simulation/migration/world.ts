// Time, chance and faults of a simulated migration: one queue of events, one seed. An event happens
// once everything that the one before has set off is over.
import type { Clock } from "../../../src/base/clock.js";
import type { Prng } from "../../../src/base/prng.js";
import type { FaultKind } from "./faults.table.js";

interface Event {
  readonly atMs: number;
  readonly seq: number;
  readonly fire: () => void;
}

/** The nth time that a fault of this kind could happen, it does. */
export interface NthFault {
  readonly kind: FaultKind;
  readonly n: number;
}

export interface FaultPlan {
  /** Chance of each kind at each opportunity. */
  readonly chances: ReadonlyMap<FaultKind, number>;
  readonly nth: NthFault | null;
  /** Together. */
  readonly most: number;
}

/** One life of a host: whatever began in it ends with it. */
export interface Life {
  isAlive: boolean;
}

/** After this no fault begins any more, and everything must come to an end. */
const FAULTS_END_MS = 20_000;

export class World {
  readonly prng: Prng;
  now = 0;
  events = 0;
  readonly opportunities = new Map<FaultKind, number>();
  readonly faults: string[] = [];
  /** What went by, for whoever looks into a failed run. */
  readonly story: string[] = [];
  readonly #plan: FaultPlan;
  #queue: Event[] = [];
  #areFaultsOver = false;
  #seq = 0;
  /** Called between two events with the time that passes. */
  onTime: (ms: number) => void = () => {};
  /** Called before each event; crashes and cancels come in here. */
  onEvent: () => void = () => {};

  constructor(prng: Prng, plan: FaultPlan) {
    this.prng = prng;
    this.#plan = plan;
  }

  tell(what: string): void {
    this.story.push(`${this.now.toFixed(2)} ${what}`);
  }

  at(delayMs: number, fire: () => void): void {
    this.#queue.push({ atMs: this.now + delayMs, seq: this.#seq++, fire });
  }

  /** @returns a delay between both, evenly */
  between(low: number, high: number): number {
    return low + this.prng.fraction() * (high - low);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.at(ms, resolve));
  }

  stopFaults(): void {
    this.#areFaultsOver = true;
  }

  /** Whether a fault of this kind happens now. */
  hits(kind: FaultKind, where: string): boolean {
    if (this.#areFaultsOver) return false;
    const count = (this.opportunities.get(kind) ?? 0) + 1;
    this.opportunities.set(kind, count);
    const { nth, chances, most } = this.#plan;
    const isNth = nth !== null && nth.kind === kind && nth.n === count;
    const chance = chances.get(kind) ?? 0;
    const isDrawn = chance > 0 && this.prng.fraction() < chance;
    const isLate = this.faults.length >= most || this.now > FAULTS_END_MS;
    if (!isNth && (!isDrawn || isLate)) return false;
    this.faults.push(`${kind} at ${where}`);
    this.tell(`FAULT ${kind}: ${where}`);
    return true;
  }

  /** Time as a host of this life sees it. */
  clock(life: Life): Clock {
    const timer = (ms: number, fire: () => void): (() => void) => {
      let isOn = true;
      this.at(ms, () => {
        if (isOn && life.isAlive) fire();
      });
      return () => {
        isOn = false;
      };
    };
    return {
      // A wall clock that jumps; nothing may depend on it.
      nowMs: () => this.prng.below(2 ** 40),
      monotonicMs: () => this.now,
      timer,
      sleep: (ms) => new Promise((resolve) => void timer(ms, resolve)),
      yieldToLoop: () => Promise.resolve(),
    };
  }

  /**
   * Lets events happen until `isOver`, in order of time.
   * @returns false when the time was not enough
   */
  async run(isOver: () => boolean, endMs: number): Promise<boolean> {
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (isOver()) return true;
      const next = this.#take();
      if (next === null) return false;
      if (next.atMs > endMs) {
        this.#queue.push(next);
        return false;
      }
      const passed = next.atMs - this.now;
      this.now = next.atMs;
      this.events += 1;
      this.onTime(passed);
      this.onEvent();
      next.fire();
    }
  }

  #take(): Event | null {
    let best: Event | null = null;
    for (const event of this.#queue) {
      if (best === null || event.atMs < best.atMs) best = event;
      else if (event.atMs === best.atMs && event.seq < best.seq) best = event;
    }
    if (best !== null) this.#queue = this.#queue.filter((event) => event !== best);
    return best;
  }
}
