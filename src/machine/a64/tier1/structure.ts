// Owns: basic blocks as WebAssembly's structured control flow. VM thread.
//
// Blocks stay in the order of their addresses. A branch back makes the blocks between into a loop
// (loops that cross are widened until they nest); a branch forward leaves a `block` that ends where
// its target begins. Who enters a loop elsewhere than at its head says where by `label`, and the
// loop's head passes it on; so does the function's own head for entries and indirect branches.
import { assert } from "../../../base/assert.js";
import type { Code, Label, Variable } from "../../../base/wasm/code.js";
import { const32, type I32 } from "../../../base/wasm/value.js";
import type { Block } from "./region.js";

interface Loop {
  readonly head: number;
  /** Behind its last block. */
  end: number;
}

/** An item of a range: one block, or a loop with its blocks. */
interface Item {
  readonly first: number;
  readonly end: number;
  readonly loop: Loop | null;
}

interface Scope {
  readonly items: readonly Item[];
  /** Where a branch forward to an item goes, by the item's first block. */
  readonly labels: Map<number, Label>;
  /** Start of the loop that these items are, by its head; null for the function's own range. */
  readonly loop: { readonly head: number; readonly again: Label } | null;
}

/** No entry is asked for. */
export const NO_LABEL = -1;

export interface Structure {
  readonly c: Code;
  readonly blocks: readonly Block[];
  /** What each block is known by; they grow with the blocks' numbers, from 0 on. */
  readonly labels: readonly number[];
  /** That of the block to enter, or NO_LABEL. */
  readonly label: Variable<I32>;
  /** Whether branches by address come back to the function's head. */
  readonly isReentered: boolean;
  /** Writes a block; it ends by branches, or falls to the next one. */
  readonly writeBlock: (block: number) => void;
  /** Writes what happens when `label` names no entry. */
  readonly miss: () => void;
}

export class Structurer {
  readonly #s: Structure;
  readonly #loops: readonly Loop[];
  /** Blocks that are entered by label, from outside or past a loop's head. */
  readonly #byLabel: ReadonlySet<number>;
  readonly #targets: ReadonlySet<number>;
  readonly #scopes: Scope[] = [];
  #top: Label | null = null;

  constructor(s: Structure) {
    this.#s = s;
    this.#loops = findLoops(s.blocks);
    this.#targets = new Set(s.blocks.flatMap(({ successors }) => successors));
    const byLabel = new Set<number>();
    for (const [n, block] of s.blocks.entries()) {
      if (block.isEntry) byLabel.add(n);
      for (const to of block.successors) if (this.#isSideEntry(n, to)) byLabel.add(to);
    }
    this.#byLabel = byLabel;
  }

  /** Whether a branch enters some loop elsewhere than at its head. */
  #isSideEntry(from: number, to: number): boolean {
    const contains = ({ head, end }: Loop, n: number): boolean => n >= head && n < end;
    return this.#loops.some((l) => contains(l, to) && !contains(l, from) && l.head !== to);
  }

  /** Whether blocks of the loop, beside its head, are entered by label. */
  #isDispatching({ head, end }: Loop): boolean {
    for (let n = head + 1; n < end; n++) if (this.#byLabel.has(n)) return true;
    return false;
  }

  /** The whole function's body. @param around writes what comes back, with the blocks in it */
  write(around: (blocks: () => void) => void): void {
    const { c, blocks, isReentered } = this.#s;
    const body = (): void => around(() => this.#range(0, blocks.length, null));
    if (!isReentered) body();
    else {
      c.loop((top) => {
        this.#top = top;
        body();
      });
    }
  }

  /** Enters the block that `label` names, from anywhere. */
  again(): void {
    assert(this.#top !== null, "the function's head is a loop");
    this.#s.c.branch(this.#top);
  }

  /** Goes to a block from the block that is being written. */
  branch(to: number): void {
    const { c, label } = this.#s;
    for (let depth = this.#scopes.length - 1; depth >= 0; depth--) {
      const { items, labels, loop } = this.#scopes[depth]!;
      if (loop !== null && loop.head === to) {
        c.branch(loop.again);
        return;
      }
      const item = items.find(({ first, end }) => to >= first && to < end);
      const target = item === undefined ? undefined : labels.get(item.first);
      if (item === undefined || target === undefined) continue;
      if (item.first !== to) label.set(const32(this.#s.labels[to]!));
      c.branch(target);
      return;
    }
    assert(false, "a branch goes forward, or to the head of a loop around it");
  }

  #items(first: number, end: number, around: Loop | null): Item[] {
    const items: Item[] = [];
    for (let n = first; n < end; ) {
      const loop = this.#loops.find((l) => l.head === n && l !== around && l.end <= end) ?? null;
      const next = loop === null ? n + 1 : loop.end;
      items.push({ first: n, end: next, loop });
      n = next;
    }
    return items;
  }

  /** Blocks from `first` up to `end`; `around` is the loop that they are, if any. */
  #range(first: number, end: number, around: { loop: Loop; again: Label } | null): void {
    const items = this.#items(first, end, around?.loop ?? null);
    const loop = around === null ? null : { head: around.loop.head, again: around.again };
    const scope: Scope = { items, labels: new Map(), loop };
    this.#scopes.push(scope);
    this.#upTo(scope, items.length - 1, around?.loop ?? null);
    this.#scopes.pop();
  }

  /** Item `k` and all before it. */
  #upTo(scope: Scope, k: number, around: Loop | null): void {
    const { c } = this.#s;
    const item = scope.items[k]!;
    const before = (): void => {
      if (k === 0) this.#dispatch(scope, around);
      else this.#upTo(scope, k - 1, around);
    };
    if (this.#needsLabel(item)) {
      c.block((label) => {
        scope.labels.set(item.first, label);
        before();
      });
      // What comes behind is within the block no more.
      scope.labels.delete(item.first);
    } else before();
    const { loop } = item;
    if (loop === null) this.#block(item.first);
    else c.loop((again) => this.#range(item.first, item.end, { loop, again }));
  }

  #block(n: number): void {
    // Who came by label has arrived: the loops around see none from here on.
    const resets = this.#byLabel.has(n) && this.#loops.some((loop) => this.#isDispatching(loop));
    if (resets) this.#s.label.set(const32(NO_LABEL));
    this.#s.writeBlock(n);
  }

  #needsLabel({ first, end }: Item): boolean {
    for (let n = first; n < end; n++) if (this.#byLabel.has(n) || this.#targets.has(n)) return true;
    return false;
  }

  /** At the head of a range: on to the item that `label` names. */
  #dispatch(scope: Scope, around: Loop | null): void {
    const { c, label } = this.#s;
    const { items, labels } = scope;
    if (around !== null) {
      if (!this.#isDispatching(around)) return;
      const head = labels.get(items[0]!.first);
      c.block((none) => this.#table(items, labels, head ?? none));
      return;
    }
    const isPlain = !this.#s.isReentered && this.#byLabel.size === 1 && this.#byLabel.has(0);
    if (isPlain) {
      label.set(const32(NO_LABEL));
      return;
    }
    c.block((miss) => this.#table(items, labels, miss));
    this.#s.miss();
  }

  #table(items: readonly Item[], labels: ReadonlyMap<number, Label>, otherwise: Label): void {
    const { labels: names } = this.#s;
    const base = names[items[0]!.first]!;
    const table: Label[] = [];
    for (const { first, end } of items) {
      const label = labels.get(first);
      for (let n = first; n < end; n++) {
        if (!this.#byLabel.has(n) || label === undefined) continue;
        while (table.length < names[n]! - base) table.push(otherwise);
        table.push(label);
      }
    }
    this.#s.c.branchTable(this.#s.label.get().sub(base), table, otherwise);
  }
}

/** Intervals of blocks that branches back make, widened until they nest; the outermost first. */
function findLoops(blocks: readonly Block[]): Loop[] {
  const ends = new Map<number, number>();
  for (const [n, { successors }] of blocks.entries()) {
    for (const to of successors) {
      if (to <= n) ends.set(to, Math.max(ends.get(to) ?? 0, n + 1));
    }
  }
  const loops = [...ends].map(([head, end]): Loop => ({ head, end }));
  loops.sort((a, b) => a.head - b.head);
  for (let changed = true; changed; ) {
    changed = false;
    for (const a of loops) {
      for (const b of loops) {
        if (a.head < b.head && b.head < a.end && a.end < b.end) {
          a.end = b.end;
          changed = true;
        }
      }
    }
  }
  return loops;
}
