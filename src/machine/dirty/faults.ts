// Owns: faults that were armed on a host: which event of which kind goes wrong. VM thread.
import type { Saved } from "../../base/saved.js";

/** Kind → what is counted, and what goes wrong at the event that was armed. */
export const FAULT_KINDS = {
  "hdbss-append-abort": "The entry's write ends in an external abort.",
  "hdbss-append-gpf": "The entry's write ends in a granule protection fault.",
  "hacdbs-structf": "Fetching the entry fails: ERR_REASON STRUCTF.",
  "hacdbs-ipaf": "The entry's walk fails: ERR_REASON IPAF.",
  "hacdbs-ipahacf": "The entry's descriptor is found in no cleanable state: ERR_REASON IPAHACF.",
  "hacdbs-irq-lost": "The completion's interrupt is not delivered.",
  "hacdbs-irq-spurious": "An interrupt arrives while HACDBS still runs.",
  "hacdbs-alloc": "The entry array can't be allocated.",
  "hdbss-alloc": "A vCPU's buffer can't be allocated.",
  "hdbss-misaligned": "A vCPU's buffer comes one page off its alignment.",
  "split-alloc": "A table for splitting a block can't be allocated.",
  "vgic-v5-ack-alloc": "The note that an SPI was deactivated can't be allocated.",
  "kick-delayed": "A kick reaches its vCPU only after `delay` scheduler steps.",
} as const;

export type FaultKind = keyof typeof FAULT_KINDS;

export interface ArmedFault {
  readonly id: number;
  readonly kind: FaultKind;
  /** The event that goes wrong, counted from 1 on from now. */
  readonly nth: number;
  /** Only events of this vCPU count; null: everybody's. */
  readonly vcpu: number | null;
  /** How often; null: at every multiple of `nth`. */
  readonly times: number | null;
  /** Scheduler steps, for kinds that delay. */
  readonly delay: number;
}

/** A fault and what has come of it. */
export interface FaultState extends ArmedFault {
  /** Events that counted. */
  readonly seen: number;
  readonly hits: number;
  /** False once it has done all that it was armed for. */
  readonly isArmed: boolean;
}

interface Live {
  readonly fault: ArmedFault;
  seen: number;
  hits: number;
}

export interface FaultHit {
  readonly id: number;
  readonly kind: FaultKind;
  readonly vcpu: number;
}

const HITS_KEPT = 1000;
/** Faults that have done all they were armed for. */
const SPENT_KEPT = 100;

export class Faults {
  #next = 1;
  #live: Live[] = [];
  /** Oldest first; at most SPENT_KEPT of them. */
  #spent: Live[] = [];
  /** Newest last; at most HITS_KEPT of them. */
  readonly hits: FaultHit[] = [];
  /** Told of each hit, as it happens. */
  onHit: ((hit: FaultHit) => void) | null = null;
  total = 0;

  /** Whether anything is armed: a fast path asks this alone. */
  get isArmed(): boolean {
    return this.#live.length > 0;
  }

  arm(fault: Omit<ArmedFault, "id">): ArmedFault {
    const armed = { id: this.#next++, ...fault };
    this.#live.push({ fault: armed, seen: 0, hits: 0 });
    return armed;
  }

  /** Takes a fault back, spent or not. @returns whether there was one */
  disarm(id: number): boolean {
    const isOther = ({ fault }: Live) => fault.id !== id;
    const before = this.#live.length + this.#spent.length;
    this.#live = this.#live.filter(isOther);
    this.#spent = this.#spent.filter(isOther);
    return this.#live.length + this.#spent.length < before;
  }

  /** By id; those that are spent stay listed until there are too many. */
  list(): readonly FaultState[] {
    const all = [...this.#live, ...this.#spent].sort((a, b) => a.fault.id - b.fault.id);
    return all.map((live) => ({
      ...live.fault,
      seen: live.seen,
      hits: live.hits,
      isArmed: this.#live.includes(live),
    }));
  }

  #retire(live: Live): void {
    this.#live = this.#live.filter((other) => other !== live);
    this.#spent.push(live);
    if (this.#spent.length > SPENT_KEPT) this.#spent.shift();
  }

  /**
   * Counts an event. @returns the fault that makes it go wrong, or null
   * @param vcpu whose event it is; -1 for none
   */
  hit(kind: FaultKind, vcpu: number): ArmedFault | null {
    if (this.#live.length === 0) return null;
    let found: Live | null = null;
    for (const live of this.#live) {
      const { fault } = live;
      if (fault.kind !== kind || (fault.vcpu !== null && fault.vcpu !== vcpu)) continue;
      live.seen++;
      if (found === null && live.seen % fault.nth === 0) found = live;
    }
    if (found === null) return null;
    found.hits++;
    this.total++;
    const { fault } = found;
    if (fault.times !== null && found.hits >= fault.times) this.#retire(found);
    const hit = { id: fault.id, kind, vcpu };
    this.hits.push(hit);
    if (this.hits.length > HITS_KEPT) this.hits.shift();
    this.onHit?.(hit);
    return fault;
  }

  save(): Saved {
    const copy = ({ fault, seen, hits }: Live) => ({ fault: { ...fault }, seen, hits });
    const [live, spent] = [this.#live.map(copy), this.#spent.map(copy)];
    const hits = this.hits.map((hit) => ({ ...hit }));
    const data = { next: this.#next, total: this.total, live, spent, hits };
    return { kind: "faults", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      next: number;
      total: number;
      live: Live[];
      spent: Live[];
      hits: FaultHit[];
    };
    this.#next = data.next;
    this.total = data.total;
    this.#live = data.live.map((live) => ({ ...live }));
    this.#spent = data.spent.map((live) => ({ ...live }));
    this.hits.length = 0;
    this.hits.push(...data.hits);
  }
}
