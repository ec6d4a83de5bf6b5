// Owns: the eventfd table as one VM sees it, under the VM's own numbers. VM thread, or inline.
//
//   bound ──get──▶ referred to ──last put──▶ forgotten, reported to the HTTP thread
//     └── command done without a get ─────▶
//
// Numbers that come from a replayed log have no counter behind them: their signals reach the VM's
// own hooks and nobody else, as nobody outside knows them.
//
// A hook is woken in this thread only by a signal of the VM's own, on a counter that the VM has
// claimed: the same in a replay. Everybody else's signals come through the HTTP thread, as logged
// commands. How a counter was found when it was hooked is chance, so it goes into the log.
import { assert } from "../base/assert.js";
import {
  EventfdCounters,
  type EventfdFound,
  type EventfdHook,
  foundOf,
} from "../base/eventfd-counters.js";
import type { EventfdBinding } from "./protocol.js";

interface Bound {
  /** Process-wide index, or null in a replay. */
  readonly index: number | null;
  ordinal: number;
  references: number;
  /** Commands that name it and are not done. */
  commands: number;
  claimed: boolean;
  /** First come first; more than one only in a VM whose irqfds may queue. */
  hooks: readonly EventfdHook[];
}

/** What the HTTP thread has to hear of. */
export interface EventfdNews {
  forgotten(local: number, ordinal: number): void;
  /** Somebody else's hook, or one of ours that waits behind it, is on a counter that changed. */
  signalled(index: number): void;
  /** One of our hooks began or ended to wait behind another VM's. */
  waits(index: number, isWaiting: boolean): void;
  /** A claim of ours has ended. */
  released(index: number): void;
}

/** Overrides whatever a VM may do with a counter; it has no descriptors to create or close. */
export class VmEventfds extends EventfdCounters {
  readonly #owner: number;
  readonly #news: EventfdNews;
  readonly #bound = new Map<number, Bound>();
  /** What a replayed command found. */
  #replayed: EventfdFound | null = null;
  #found: EventfdFound | null = null;

  constructor(shared: SharedArrayBuffer, owner: number, news: EventfdNews) {
    super(shared);
    this.#owner = owner;
    this.#news = news;
  }

  /** Before a command that names them is submitted. */
  bind(bindings: readonly EventfdBinding[]): void {
    for (const { local, index, ordinal } of bindings) this.#use(local, index, ordinal);
  }

  /** The same for a number from a replayed log. */
  bindReplayed(local: number): void {
    this.#use(local, null, 0);
  }

  /** After the command is done. */
  commandDone(locals: readonly number[]): void {
    for (const local of locals) {
      const bound = this.#of(local);
      bound.commands--;
      this.#forgetUnused(local, bound);
    }
  }

  override isOpen(local: number): boolean {
    return this.#bound.has(local);
  }

  override get(local: number): boolean {
    const bound = this.#bound.get(local);
    if (bound === undefined) return false;
    bound.references++;
    return true;
  }

  override put(local: number): void {
    const bound = this.#of(local);
    assert(bound.references > 0, `eventfd number ${local} is put more often than got`);
    bound.references--;
    this.#forgetUnused(local, bound);
  }

  override signal(local: number, n = 1n): void {
    const { index, claimed, hooks } = this.#of(local);
    if (claimed) {
      if (index !== null) super.signalTaken(index, n);
      hooks[0]?.wake();
      return;
    }
    if (index === null) return;
    super.signal(index, n);
    if (super.claimOf(index) !== 0) this.#news.signalled(index);
  }

  override hook(local: number, hook: EventfdHook, mayQueue: boolean): EventfdFound {
    const bound = this.#of(local);
    const found = bound.index === null ? (this.#replayed ?? "zero") : this.#claim(bound);
    this.#found = found;
    const isFirst = !found.startsWith("busy");
    if (isFirst) bound.claimed = true;
    else if (!mayQueue) return found;
    bound.hooks = [...bound.hooks, hook];
    if (!isFirst && bound.index !== null) this.#news.waits(bound.index, true);
    return found;
  }

  /** Claims first and looks second; see EventfdCounters.hook. */
  #claim({ index }: Bound): EventfdFound {
    assert(index !== null, "a counter that is claimed exists");
    const isFirst = super.claimExclusive(index, this.#owner);
    return foundOf(isFirst, super.peek(index) !== 0n);
  }

  override unhook(local: number, hook: EventfdHook, leaves = false): void {
    const bound = this.#of(local);
    if (!bound.hooks.includes(hook)) return;
    bound.hooks = bound.hooks.filter((other) => other !== hook);
    const { index } = bound;
    if (index !== null && !leaves) super.take(index);
    if (bound.hooks.length > 0) return;
    if (bound.claimed) this.releaseExclusive(local);
    else if (index !== null) this.#news.waits(index, false);
  }

  override wake(local: number): boolean {
    const [first] = this.#of(local).hooks;
    first?.wake();
    return first !== undefined;
  }

  override hangUp(local: number): void {
    for (const hook of this.#of(local).hooks) hook.hungUp();
  }

  /** For the command that is entered next: what its hook finds, where no counter is behind it. */
  replay(found: EventfdFound | null): void {
    this.#replayed = found;
    this.#found = null;
  }

  /** What a hook has found since; null: none was set. */
  get found(): EventfdFound | null {
    return this.#found;
  }

  override peek(local: number): bigint {
    const { index } = this.#of(local);
    return index === null ? 0n : super.peek(index);
  }

  override take(local: number, times = 1n): bigint {
    const { index } = this.#of(local);
    return index === null ? 0n : super.take(index, times);
  }

  override outside(local: number): number | null {
    return this.#of(local).index;
  }

  override claimExclusive(local: number): boolean {
    const bound = this.#of(local);
    if (bound.claimed) return false;
    bound.claimed = bound.index === null || super.claimExclusive(bound.index, this.#owner);
    return bound.claimed;
  }

  override releaseExclusive(local: number): void {
    const bound = this.#of(local);
    if (!bound.claimed) return;
    bound.claimed = false;
    if (bound.index === null) return;
    super.releaseExclusive(bound.index, this.#owner);
    this.#news.released(bound.index);
  }

  #use(local: number, index: number | null, ordinal: number): void {
    const known = this.#bound.get(local);
    if (known === undefined) {
      this.#bound.set(local, {
        index,
        ordinal,
        references: 0,
        commands: 1,
        claimed: false,
        hooks: [],
      });
    } else {
      known.ordinal = ordinal;
      known.commands++;
    }
  }

  #forgetUnused(local: number, bound: Bound): void {
    if (bound.references > 0 || bound.commands > 0) return;
    this.#bound.delete(local);
    if (bound.index !== null) this.#news.forgotten(local, bound.ordinal);
  }

  #of(local: number): Bound {
    const bound = this.#bound.get(local);
    assert(bound !== undefined, `eventfd number ${local} is not known to this VM`);
    return bound;
  }
}
