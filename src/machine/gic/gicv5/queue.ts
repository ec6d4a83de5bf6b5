// Owns: which interrupts wait for one CPU, most urgent first. VM thread.
// A cache: the entries in memory say what is true, and whoever takes one out looks there.

const INTIDS = 2 ** 32;
/** Stale keys that may pile up beside as many live ones. */
const SLACK = 64;

/** Priority above INTID: the smallest key is the most urgent, ties by the lowest INTID word. */
export const keyOf = (priority: number, intid: number): number => priority * INTIDS + intid;
export const intidOfKey = (key: number): number => key % INTIDS;

/** A binary heap of keys without doubles. */
export class InterruptQueue {
  #heap: number[] = [];
  #known = new Set<number>();
  #limit = SLACK;

  add(key: number): void {
    if (this.#known.has(key)) return;
    this.#known.add(key);
    const heap = this.#heap;
    let at = heap.length;
    heap.push(key);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= key) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = key;
  }

  /** The smallest key that `isLive` says is still true; those before it are forgotten. */
  first(isLive: (key: number) => boolean): number | null {
    while (this.#heap.length > 0) {
      const key = this.#heap[0]!;
      if (isLive(key)) return key;
      this.#known.delete(key);
      this.#removeFirst();
    }
    return null;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= last) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }

  /** Nobody may ask for a candidate for long: time to throw stale keys out. */
  get isCrowded(): boolean {
    return this.#heap.length > this.#limit;
  }

  trim(isLive: (key: number) => boolean): void {
    this.#heap = this.#heap.filter(isLive).sort((a, b) => a - b);
    this.#known = new Set(this.#heap);
    this.#limit = 2 * this.#heap.length + SLACK;
  }

  keys(): readonly number[] {
    return this.#heap;
  }
}
