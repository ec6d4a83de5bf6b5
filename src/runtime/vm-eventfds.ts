// Owns: the eventfd table as one VM sees it, under the VM's own numbers. VM thread, or inline.
//
//   bound ──get──▶ referred to ──last put──▶ forgotten, reported to the HTTP thread
//     └── command done without a get ─────▶
//
// Numbers that come from a replayed log have no counter behind them: their signals go nowhere, as
// nobody outside knows them.
import { assert } from "../base/assert.js";
import { EventfdCounters } from "../base/eventfd-counters.js";
import type { EventfdBinding } from "./protocol.js";

interface Bound {
  /** Process-wide index, or null in a replay. */
  readonly index: number | null;
  ordinal: number;
  references: number;
  /** Commands that name it and are not done. */
  commands: number;
  claimed: boolean;
}

export type OnForgotten = (local: number, ordinal: number) => void;

/** Overrides whatever a VM may do with a counter; it has no descriptors to create or close. */
export class VmEventfds extends EventfdCounters {
  readonly #owner: number;
  readonly #onForgotten: OnForgotten;
  readonly #bound = new Map<number, Bound>();

  constructor(shared: SharedArrayBuffer, owner: number, onForgotten: OnForgotten) {
    super(shared);
    this.#owner = owner;
    this.#onForgotten = onForgotten;
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
    const { index } = this.#of(local);
    if (index !== null) super.signal(index, n);
  }

  override peek(local: number): bigint {
    const { index } = this.#of(local);
    return index === null ? 0n : super.peek(index);
  }

  override claimExclusive(local: number): boolean {
    const bound = this.#of(local);
    if (bound.claimed) return false;
    bound.claimed = bound.index === null || super.claimExclusive(bound.index, this.#owner);
    return bound.claimed;
  }

  override releaseExclusive(local: number): void {
    const bound = this.#of(local);
    if (bound.claimed && bound.index !== null) super.releaseExclusive(bound.index, this.#owner);
    bound.claimed = false;
  }

  #use(local: number, index: number | null, ordinal: number): void {
    const known = this.#bound.get(local);
    if (known === undefined) {
      this.#bound.set(local, { index, ordinal, references: 0, commands: 1, claimed: false });
    } else {
      known.ordinal = ordinal;
      known.commands++;
    }
  }

  #forgetUnused(local: number, bound: Bound): void {
    if (bound.references > 0 || bound.commands > 0) return;
    this.#bound.delete(local);
    if (bound.index !== null) this.#onForgotten(local, bound.ordinal);
  }

  #of(local: number): Bound {
    const bound = this.#bound.get(local);
    assert(bound !== undefined, `eventfd number ${local} is not known to this VM`);
    return bound;
  }
}
