// Owns: which context of a VM runs next: ioctls and vCPUs, one step at a time (DESIGN 2).
// VM thread.
//
//   runnable ──step──▶ yields a point ──▶ runnable       (preemptible there)
//      ▲                yields a Waitable ─▶ blocked ──wake──▶ runnable
//      └─ submit        returns / throws ──▶ done
//
// A step is one resume of a generator; between two steps anything may happen, within one nothing.
import { assert } from "../../base/assert.js";
import { Prng } from "../../base/prng.js";
import type { Saved } from "../../base/saved.js";
import { POINT } from "../preemption.table.js";

/** What a context waits for. Waking is a hint: the context checks again. */
export class Waitable {
  readonly name: string;
  readonly waiting = new Set<Context>();

  constructor(name: string) {
    this.name = name;
  }

  /** Makes every waiting context runnable again. */
  wake(): void {
    if (this.waiting.size === 0) return;
    for (const context of this.waiting) context.blockedOn = null;
    this.waiting.clear();
  }
}

/** A preemption point's number (preemption.table.ts), or what the context waits for. */
export type Yield = number | Waitable;

/** A KVM operation of more than one step. */
export type Op<T> = Generator<Yield, T, void>;

export class Context {
  readonly id: number;
  readonly label: string;
  readonly isVcpu: boolean;
  readonly op: Op<unknown>;
  readonly done: (outcome: { ok: true; value: unknown } | { ok: false; error: unknown }) => void;
  blockedOn: Waitable | null = null;
  /** Point where it stands; -1 before its first step. */
  point = -1;
  /** Steps left in its present turn. */
  turn = 0;
  /** Goes before all others: it was kicked. */
  urgent = false;

  constructor(id: number, label: string, isVcpu: boolean, op: Op<unknown>, done: Context["done"]) {
    this.id = id;
    this.label = label;
    this.isVcpu = isVcpu;
    this.op = op;
    this.done = done;
  }
}

/** What time does to contexts that wait for it. */
export interface SchedulerTime {
  /** Wakes those whose time has come. */
  wakeDue(): void;
  /** Nothing is runnable: lets time pass. @returns whether a context woke */
  jump(): boolean;
}

/** Told of every step: who moved, to which point, and who else stands where. */
export type StepObserver = (moved: Context, others: readonly Context[]) => void;

/**
 * Steps that a context keeps the thread for before the next one's turn. An ioctl step is at most
 * 512 pages; a vCPU's is a guest slice, or a part of a fault.
 */
const IOCTL_TURN_STEPS = 64;
const VCPU_TURN_STEPS = 4;
/** Points where a vCPU holds no lock and its next step enters the guest. */
const OUTSIDE: ReadonlySet<number> = new Set([
  POINT["guest-slice"],
  POINT["run-entry"],
  POINT["abort-marked"],
]);

export class Scheduler {
  /** Steps done in the VM's life. */
  steps = 0;
  observer: StepObserver | null = null;
  time: SchedulerTime | null = null;
  readonly #contexts: Context[] = [];
  readonly #prng: Prng | null;
  #next = 0;
  #cursor = 0;
  #current: Context | null = null;

  /** @param seed draws every choice; null means round robin */
  constructor(seed: bigint | null) {
    this.#prng = seed === null ? null : new Prng(seed);
  }

  get contexts(): readonly Context[] {
    return this.#contexts;
  }

  /** The context that is in its step, for lock ownership; null between steps. */
  get current(): Context | null {
    return this.#current;
  }

  /**
   * Whether anybody could come in between two points. A vCPU that is alone skips the points inside
   * its faults: the same state gives the same answer, so a replay skips the same ones.
   */
  get contended(): boolean {
    return this.#contexts.length > 1 || this.#prng !== null;
  }

  /** A pseudo-random bound for seeded runs: how many accesses the next guest slice may take. */
  sliceBudget(max: number): number {
    return this.#prng === null ? max : 1 + this.#prng.below(Math.min(max, 48));
  }

  add(label: string, isVcpu: boolean, op: Op<unknown>, done: Context["done"]): Context {
    const context = new Context(this.#next++, label, isVcpu, op, done);
    this.#contexts.push(context);
    if (!isVcpu) {
      // An ioctl's first turn is the next one: its caller waits, a vCPU has no deadline.
      this.#cursor = this.#contexts.length - 1;
      context.turn = IOCTL_TURN_STEPS;
    }
    return context;
  }

  get runnable(): boolean {
    return this.#contexts.some((context) => context.blockedOn === null);
  }

  /** Does one step. @returns false when nothing is runnable. */
  step(): boolean {
    this.time?.wakeDue();
    const context = this.#choose();
    if (context === null) {
      // A jump is a step of its own, so that a stamp says on which side of it a command came.
      if (this.time?.jump() !== true) return false;
      this.steps++;
      return true;
    }
    this.steps++;
    // Drawn slices are short enough, and a kicked vCPU is to be preempted like any other.
    if (this.#prng !== null) context.urgent = false;
    this.#current = context;
    try {
      const result = context.op.next();
      if (result.done === true) this.#finish(context, { ok: true, value: result.value });
      else this.#stand(context, result.value);
    } catch (error) {
      this.#finish(context, { ok: false, error });
    } finally {
      this.#current = null;
    }
    this.observer?.(context, this.#contexts);
    return true;
  }

  #stand(context: Context, value: Yield): void {
    if (typeof value === "number") {
      context.point = value;
      return;
    }
    context.blockedOn = value;
    value.waiting.add(context);
  }

  #finish(context: Context, outcome: Parameters<Context["done"]>[0]): void {
    const at = this.#contexts.indexOf(context);
    assert(at >= 0, "a finished context was scheduled");
    this.#contexts.splice(at, 1);
    if (this.#cursor > at) this.#cursor--;
    context.done(outcome);
  }

  #choose(): Context | null {
    const urgent = this.#contexts.find((c) => c.urgent);
    if (urgent !== undefined) {
      if (urgent.blockedOn === null) return urgent;
      // It waits for a lock: whoever may hold it goes first, and no guest runs meanwhile.
      const holder = this.#contexts.find((c) => c.blockedOn === null && !OUTSIDE.has(c.point));
      if (holder !== undefined) return holder;
    }
    return this.#prng === null ? this.#roundRobin() : this.#drawn(this.#prng);
  }

  #drawn(prng: Prng): Context | null {
    let count = 0;
    for (const context of this.#contexts) if (context.blockedOn === null) count++;
    if (count === 0) return null;
    let pick = prng.below(count);
    for (const context of this.#contexts) {
      if (context.blockedOn === null && pick-- === 0) return context;
    }
    return null;
  }

  #roundRobin(): Context | null {
    const { length } = this.#contexts;
    for (let tried = 0; tried <= length; tried++) {
      const context = this.#contexts[this.#cursor % Math.max(1, length)];
      if (context !== undefined && context.blockedOn === null && context.turn > 0) {
        context.turn--;
        return context;
      }
      if (length === 0) return null;
      this.#cursor = (this.#cursor + 1) % length;
      const next = this.#contexts[this.#cursor]!;
      next.turn = next.isVcpu ? VCPU_TURN_STEPS : IOCTL_TURN_STEPS;
    }
    return null;
  }

  save(): Saved {
    const contexts = this.#contexts.map((c) => ({
      label: c.label,
      point: c.point,
      blockedOn: c.blockedOn?.name ?? null,
      turn: c.turn,
    }));
    const data = {
      steps: this.steps,
      next: this.#next,
      cursor: this.#cursor,
      prng: this.#prng === null ? null : [...this.#prng.state],
      contexts,
    };
    return { kind: "scheduler", version: 1, data };
  }

  /** Only between operations: a generator's place can't be restored. */
  load(saved: Saved): void {
    const data = saved.data as {
      steps: number;
      next: number;
      cursor: number;
      prng: number[] | null;
      contexts: unknown[];
    };
    assert(data.contexts.length === 0, "a VM is restored only from a state with nothing under way");
    this.steps = data.steps;
    this.#next = data.next;
    this.#cursor = data.cursor;
    if (this.#prng !== null && data.prng !== null) this.#prng.state.set(data.prng);
  }
}
