// Owns: FEAT_HDBSS of one host CPU: its registers, and the append of a clean-to-dirty update.
// VM thread.
//
//   store ─ walk ─ writable-clean ─▶ append at BADDR + 8 × INDEX ─▶ INDEX + 1 ─▶ S2AP[1] = 1
//                                     └ full, or FSC ≠ 0: refused, permission fault with HDBSSF
//
// @source Arm ARM D8.5 (R_WZKFT, R_PCTTC, R_RXCMY, R_STJMN, R_TCJKB); dirty-tracking.md 2
import type { Saved } from "../../base/saved.js";
import type { HostMemory } from "../host-memory.js";
import type { Diagnostics } from "./diagnostics.js";
import {
  decodeBase,
  decodeProd,
  ENTRY_BYTES,
  encodeProd,
  entriesOf,
  entryHigh,
  entryLow,
  FSC,
  SZ_MAX,
  writtenBase,
} from "./entry.js";
import type { Faults } from "./faults.js";
import type { DirtyModel } from "./model.table.js";

/** "lost": the entry is gone, told by FSC alone; the store goes on. */
export type Append = "appended" | "lost" | "refused" | "abort" | "gpf";

/** Slots that zeroAhead clears beyond INDEX. */
const ZERO_AHEAD = 8;
/** Entries that weak ordering holds back at most before the oldest reaches memory. */
const POSTED_MAX = 64;

interface Posted {
  readonly pa: number;
  readonly lo: number;
  readonly hi: number;
}

export interface DirtyDeps {
  readonly memory: HostMemory;
  readonly model: DirtyModel;
  readonly faults: Faults;
  readonly diagnostics: Diagnostics;
}

export class HdbssUnit {
  /** What this unit did, for counters: entries written, lost or refused for an error. */
  appends = 0;
  aborts = 0;
  gpfs = 0;
  readonly #deps: DirtyDeps;
  #br = 0n;
  #base = 0;
  #sz = 0;
  #capacity = entriesOf(0);
  #index = 0;
  #fsc: number = FSC.NONE;
  readonly #posted: Posted[] = [];

  constructor(deps: DirtyDeps) {
    this.#deps = deps;
  }

  get br(): bigint {
    return this.#br;
  }

  set br(value: bigint) {
    this.#br = writtenBase(value, false);
    const { base, sz, isAligned } = decodeBase(value);
    this.#base = base;
    this.#sz = sz;
    this.#capacity = entriesOf(sz);
    if (isAligned) return;
    const where = `HDBSSBR_EL2 is 0x${value.toString(16)}`;
    this.#deps.diagnostics.report("hdbss-misaligned-base", where);
  }

  get prod(): bigint {
    return encodeProd(this.#index, this.#fsc);
  }

  set prod(value: bigint) {
    const { index, fsc } = decodeProd(value);
    this.#index = index;
    this.#fsc = fsc;
  }

  /** Whether it takes no entry: full, or an error waits to be cleared. */
  get isBlocked(): boolean {
    return this.#index >= this.#capacity || this.#fsc !== FSC.NONE;
  }

  /**
   * A clean-to-dirty update of a leaf wants its entry written.
   * @param ipa any address of the leaf
   * @param size bytes that the leaf translates
   * @param vcpu whose access it is
   */
  append(ipa: number, level: number, size: number, vcpu: number): Append {
    const { diagnostics, faults, model } = this.#deps;
    if (this.isBlocked) {
      if (this.#sz > SZ_MAX) diagnostics.report("hdbss-reserved-size", `SZ is ${this.#sz}`);
      return "refused";
    }
    const pa = this.#base + this.#index * ENTRY_BYTES;
    if (faults.isArmed && faults.hit("hdbss-append-gpf", vcpu) !== null) return this.#gpf();
    // An address that no memory answers ends in an abort, as an injected one does.
    const isThere = pa + ENTRY_BYTES <= this.#deps.memory.u8.length;
    if (!isThere || (faults.isArmed && faults.hit("hdbss-append-abort", vcpu) !== null)) {
      return this.#abort();
    }
    if (!diagnostics.owns(vcpu, pa)) {
      const where = `0x${pa.toString(16)}, vCPU ${vcpu}`;
      diagnostics.report("hdbss-write-outside-owned-buffer", where);
    }
    const leaf = ipa - (ipa % size);
    this.#post(pa, entryLow(leaf, level), entryHigh(leaf));
    this.#index++;
    this.appends++;
    if (model["hardware.zeroAhead"]) this.#zeroAhead();
    return "appended";
  }

  /** Told by FSC alone, the store goes on: its entry is lost. */
  #abort(): Append {
    this.aborts++;
    if (this.#deps.model["hardware.hdbssAbortReport"] === "sync") return "abort";
    this.#fsc = FSC.EXTERNAL_ABORT;
    return "lost";
  }

  /** Unlike an abort it always keeps the descriptor as it is. */
  #gpf(): Append {
    this.gpfs++;
    if (this.#deps.model["hardware.gpfReport"] === "sync") return "gpf";
    this.#fsc = FSC.GPF;
    return "refused";
  }

  #post(pa: number, lo: number, hi: number): void {
    if (!this.#deps.model["hardware.weakHdbssOrdering"]) {
      if (this.#posted.length > 0) this.dsb();
      this.#write(pa, lo, hi);
      return;
    }
    this.#posted.push({ pa, lo, hi });
    if (this.#posted.length > POSTED_MAX) {
      const { pa: at, lo: low, hi: high } = this.#posted.shift()!;
      this.#write(at, low, high);
    }
  }

  /** Wherever the base points: hardware translates nothing here. */
  #write(pa: number, lo: number, hi: number): void {
    const { u32 } = this.#deps.memory;
    u32[pa / 4] = lo;
    u32[pa / 4 + 1] = hi;
  }

  #zeroAhead(): void {
    const end = Math.min(this.#capacity, this.#index + ZERO_AHEAD);
    for (let at = this.#index; at < end; at++) this.#post(this.#base + at * ENTRY_BYTES, 0, 0);
  }

  /** DSB on this PE: every entry is in memory. */
  dsb(): void {
    for (const { pa, lo, hi } of this.#posted) this.#write(pa, lo, hi);
    this.#posted.length = 0;
  }

  save(): Saved {
    const posted = this.#posted.map((one) => ({ ...one }));
    const { appends, aborts, gpfs } = this;
    const data = { br: this.#br, prod: this.prod, posted, appends, aborts, gpfs };
    return { kind: "hdbss", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      br: bigint;
      prod: bigint;
      posted: Posted[];
      appends: number;
      aborts: number;
      gpfs: number;
    };
    const { base, sz } = decodeBase(data.br);
    this.#br = data.br;
    this.#base = base;
    this.#sz = sz;
    this.#capacity = entriesOf(sz);
    this.prod = data.prod;
    this.#posted.length = 0;
    this.#posted.push(...data.posted);
    this.appends = data.appends;
    this.aborts = data.aborts;
    this.gpfs = data.gpfs;
  }
}
