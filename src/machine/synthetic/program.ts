// Owns: what a synthetic vCPU is told to do, as arrays that its engine reads. VM thread.
import { assert } from "../../base/assert.js";
import { Prng } from "../../base/prng.js";
import type { Saved } from "../../base/saved.js";

/** The access about to be done; overwritten by next(). */
export interface CurrentAccess {
  ipa: number;
  length: number;
  isWrite: boolean;
  /** Value of a store, low and high half. */
  lo: number;
  hi: number;
}

/** Source of accesses. `next` fills `out`; false means the program is over. */
export interface AccessSource {
  readonly kind: "accesses" | "pattern";
  /** Whether load values are recorded. */
  readonly recordsLoads: boolean;
  next(position: number, out: CurrentAccess): boolean;
  save(): Saved;
  /** Of a source of the same program: only its progress differs. */
  load(saved: Saved): void;
}

export interface ListedAccess {
  readonly isWrite: boolean;
  readonly ipa: number;
  readonly length: number;
  readonly value: bigint;
}

/** An explicit list, in order. */
export class ListSource implements AccessSource {
  readonly kind = "accesses";
  readonly recordsLoads = true;
  readonly #list: readonly ListedAccess[];

  constructor(list: readonly ListedAccess[]) {
    this.#list = list;
  }

  next(position: number, out: CurrentAccess): boolean {
    const access = this.#list[position];
    if (access === undefined) return false;
    out.ipa = access.ipa;
    out.length = access.length;
    out.isWrite = access.isWrite;
    out.lo = Number(access.value & 0xffff_ffffn);
    out.hi = Number(access.value >> 32n);
    return true;
  }

  save(): Saved {
    return { kind: "list", version: 1, data: { list: this.#list } };
  }

  load(saved: Saved): void {
    const { list } = saved.data as { list: readonly ListedAccess[] };
    assert(saved.kind === "list" && list.length === this.#list.length, "another program is set");
  }
}

export interface PatternSpec {
  readonly pattern: "uniform" | "zipf" | "sequential" | "hot-set";
  readonly base: number;
  readonly bytes: number;
  /** 0 means without end. */
  readonly count: number;
  readonly writePercent: number;
  readonly length: number;
  readonly stride: number;
  readonly skew: number;
  readonly seed: bigint;
  readonly pageSize: number;
}

/**
 * A seeded pattern over a window. Uniform, zipf and hot-set choose a page, then an aligned offset;
 * sequential strides through the window and starts again. The value stored is the access's
 * position + 1, so that what lies in memory tells which store came last.
 */
export class PatternSource implements AccessSource {
  readonly kind = "pattern";
  readonly recordsLoads = false;
  readonly #spec: PatternSpec;
  readonly #prng: Prng;
  readonly #pages: number;
  /** Accesses of one sequential pass; each pass touches the same bytes. */
  readonly #passLength: number;

  constructor(spec: PatternSpec) {
    assert(spec.bytes >= spec.length, "a pattern's window holds at least one access");
    this.#spec = spec;
    this.#prng = new Prng(spec.seed);
    this.#pages = Math.max(1, Math.floor(spec.bytes / spec.pageSize));
    this.#passLength = Math.floor((spec.bytes - spec.length) / spec.stride) + 1;
  }

  next(position: number, out: CurrentAccess): boolean {
    const spec = this.#spec;
    if (spec.count !== 0 && position >= spec.count) return false;
    out.length = spec.length;
    out.isWrite = spec.writePercent >= 100 || this.#prng.below(100) < spec.writePercent;
    out.lo = (position + 1) >>> 0;
    out.hi = 0;
    if (spec.pattern === "sequential") {
      out.ipa = spec.base + (position % this.#passLength) * spec.stride;
      return true;
    }
    const room = Math.min(spec.pageSize, spec.bytes);
    const offset = this.#prng.below(Math.max(1, Math.floor(room / spec.length))) * spec.length;
    out.ipa = spec.base + this.#page() * spec.pageSize + offset;
    return true;
  }

  #page(): number {
    const { pattern, skew } = this.#spec;
    const pages = this.#pages;
    if (pattern === "uniform") return this.#prng.below(pages);
    if (pattern === "hot-set") {
      // Nine of ten accesses go to the hot share of the window.
      const hot = Math.max(1, Math.floor((pages * skew) / 100));
      return this.#prng.below(10) < 9 ? this.#prng.below(hot) : this.#prng.below(pages);
    }
    return this.#zipfPage(skew / 100, pages);
  }

  /** Inverse of the continuous power law: cheap, seeded, no table of the size of the window. */
  #zipfPage(exponent: number, pages: number): number {
    const u = this.#prng.fraction();
    const s = exponent;
    const rank =
      Math.abs(s - 1) < 1e-6
        ? Math.exp(u * Math.log(pages + 1)) - 1
        : ((pages + 1) ** (1 - s) * u + (1 - u)) ** (1 / (1 - s)) - 1;
    return Math.min(pages - 1, Math.max(0, Math.floor(rank)));
  }

  save(): Saved {
    return { kind: "pattern", version: 1, data: { prng: [...this.#prng.state] } };
  }

  load(saved: Saved): void {
    assert(saved.kind === "pattern", "another program is set");
    this.#prng.state.set((saved.data as { prng: number[] }).prng);
  }
}
