// Owns: FEAT_HACDBS of one host CPU: cleaning the leaves that an array names. VM thread.
//
//   EN, VM=1 ─▶ entry at INDEX ─ walk ─ clear S2AP[1] ─ INDEX + 1 ─▶ … ─▶ end of array, or an error
//                                                                       └▶ HACDBSIRQ until EN=0
//
// Hardware works while software takes steps: process() is that time passing.
// @source Arm ARM D8.5 (R_SNFDZ, R_HDDCT, R_LFZLR, R_HWNDK, R_JSHZF, R_BBWCH, I_BGSDY);
//   dirty-tracking.md 3
import type { Saved } from "../../base/saved.js";
import { HI, LO } from "../mmu/descriptor.js";
import type { Stage2Regime } from "../mmu/regime.js";
import { emptyWalk, walkStage2 } from "../mmu/walk.js";
import {
  BR_EN,
  decodeBase,
  decodeCons,
  ENTRY_BYTES,
  ENTRY_VALID,
  ERR_REASON,
  encodeCons,
  entriesOf,
  ipaOf,
  levelOf,
  pageOf,
  writtenBase,
} from "./entry.js";
import type { FaultKind } from "./faults.js";
import type { DirtyDeps } from "./hdbss.js";

/** Both bits of a valid descriptor of level 3. */
const PAGE = LO.VALID | LO.TYPE;
/** High half of a leaf that hardware may clean: DBM, and not contiguous. */
const MANAGED_MASK = HI.DBM | HI.CONTIGUOUS;

/** What the PE is to this unit. */
export interface CleaningPe {
  /** Stage 2 as VTCR_EL2 and VTTBR_EL2 have it; null while HCR_EL2.VM is 0. */
  readonly regime: () => Stage2Regime | null;
  readonly cpu: {
    /** Whether HCR_EL2.VM was written and no context synchronisation came after it. */
    readonly isUnsynchronised: boolean;
    readonly vcpuId: number;
  };
}

export class HacdbsUnit {
  cleaned = 0;
  alreadyClean = 0;
  skipped = 0;
  terminators = 0;
  /** Entries looked at, whatever became of them. */
  entries = 0;
  readonly #deps: DirtyDeps;
  readonly #pe: CleaningPe;
  readonly #walk = emptyWalk();
  /**
   * The level 3 table found last, and the pages that it translates: [#tableFirst, #tableEnd). It is
   * known only as long as software takes no step, so no invalidation can be missed.
   */
  #tableFirst = 0;
  #tableEnd = 0;
  #table = 0;
  /** Level of the leaf that #leafOf found. */
  #leafLevel = 0;
  #br = 0n;
  #base = 0;
  #capacity = entriesOf(0);
  #index = 0;
  #err: number = ERR_REASON.NOF;
  /** Fetches beyond an error that are still on their way: array, [first, end). */
  #outstanding: [number, number, number] = [0, 0, 0];
  #isIgnored = false;

  constructor(deps: DirtyDeps, pe: CleaningPe) {
    this.#deps = deps;
    this.#pe = pe;
  }

  get br(): bigint {
    return this.#br;
  }

  set br(written: bigint) {
    const value = writtenBase(written, true);
    const starts = (value & BR_EN) !== 0n && (this.#br & BR_EN) === 0n;
    const rebases = (value & BR_EN) !== 0n && value !== this.#br && !starts;
    if (rebases && this.#isFixed) {
      this.#deps.diagnostics.report("hacdbs-write-while-running", "HACDBSBR_EL2");
      return;
    }
    this.#br = value;
    const { base, sz } = decodeBase(value);
    this.#base = base;
    this.#capacity = entriesOf(sz);
    this.#isIgnored = starts && this.#pe.cpu.isUnsynchronised;
    if (this.#isIgnored) this.#deps.diagnostics.report("hacdbs-start-ignored", "no ISB");
    // What an earlier error left on its way reads that array as it is now.
    if (starts) this.#fetchOutstanding();
  }

  get cons(): bigint {
    return encodeCons(this.#index, this.#err);
  }

  set cons(value: bigint) {
    if (this.#isFixed) {
      this.#deps.diagnostics.report("hacdbs-write-while-running", "HACDBSCONS_EL2");
      return;
    }
    const { index, err } = decodeCons(value);
    this.#index = index;
    this.#err = err;
  }

  /** EN as it takes effect: EL3 may have withheld the feature. */
  get isEnabled(): boolean {
    return (this.#br & BR_EN) !== 0n && this.#deps.model["hardware.scrHacdbsEn"];
  }

  /** EN=1 and no error: what a write of BADDR, SZ or CONS does is unpredictable; here nothing. */
  get #isFixed(): boolean {
    return this.isEnabled && this.#err === ERR_REASON.NOF;
  }

  get isFinished(): boolean {
    return this.#index >= this.#capacity;
  }

  /** Whether it would take another entry. */
  get isRunning(): boolean {
    if (!this.isEnabled || this.#isIgnored || this.#err !== ERR_REASON.NOF) return false;
    return !this.isFinished && this.#pe.regime() !== null;
  }

  /** HACDBSIRQ, level sensitive. */
  get irq(): boolean {
    return this.isEnabled && (this.isFinished || this.#err !== ERR_REASON.NOF);
  }

  /** Hardware's time: at most `budget` entries. @returns entries looked at */
  process(budget: number): number {
    if (!this.isRunning) return 0;
    const regime = this.#pe.regime();
    const base = this.#base;
    const end = Math.min(this.#capacity, this.#index + budget);
    const first = this.#index;
    let index = first;
    let err: number = ERR_REASON.NOF;
    this.#tableEnd = 0;
    while (index < end) {
      err = this.#step(regime, base, index, true);
      if (err !== ERR_REASON.NOF) break;
      index++;
    }
    const done = index - first + (err === ERR_REASON.NOF ? 0 : 1);
    this.entries += done;
    this.#index = index;
    this.#err = err;
    if (err !== ERR_REASON.NOF) this.#lookAhead();
    return done;
  }

  #lookAhead(): void {
    const { model } = this.#deps;
    const ahead = model["hardware.lookahead"];
    if (ahead === 0) return;
    const end = Math.min(this.#capacity, this.#index + 1 + ahead);
    this.#outstanding = [this.#base, this.#index + 1, end];
    if (!model["hardware.delayedFetch"]) this.#fetchOutstanding();
  }

  /** Entries beyond an error; what is wrong with them is told to nobody. */
  #fetchOutstanding(): void {
    const [base, first, end] = this.#outstanding;
    if (end === 0) return;
    this.#outstanding = [0, 0, 0];
    const regime = this.#pe.regime();
    this.#tableEnd = 0;
    for (let at = first; at < end; at++) this.#step(regime, base, at, false);
  }

  /** DSB on this PE: outstanding fetches and walks are over. */
  dsb(): void {
    this.#fetchOutstanding();
  }

  /** One entry. @param isInOrder whether its errors count */
  #step(regime: Stage2Regime | null, base: number, index: number, isInOrder: boolean): number {
    const { memory, faults } = this.#deps;
    const at = (base + index * ENTRY_BYTES) / 4;
    const { u32 } = memory;
    const isArmed = isInOrder && faults.isArmed;
    if (at + 1 >= u32.length) return ERR_REASON.STRUCTF;
    if (isArmed && this.#isFaulty("hacdbs-structf")) return ERR_REASON.STRUCTF;
    const lo = u32[at]!;
    if ((lo & ENTRY_VALID) === 0) {
      if (isInOrder) this.skipped++;
      return ERR_REASON.NOF;
    }
    const level = levelOf(lo);
    if (level === null) return this.#endEarly(isInOrder);
    if (isArmed && this.#isFaulty("hacdbs-ipaf")) return ERR_REASON.IPAF;
    if (isArmed && this.#isFaulty("hacdbs-ipahacf")) return ERR_REASON.IPAHACF;
    if (regime === null) return ERR_REASON.IPAF;
    const leaf = this.#leafOf(regime, lo, u32[at + 1]!);
    if (leaf < 0) return ERR_REASON.IPAF;
    if (this.#leafLevel !== level) return ERR_REASON.IPAHACF;
    return this.#clean(u32, leaf, at);
  }

  #isFaulty(kind: FaultKind): boolean {
    return this.#deps.faults.hit(kind, this.#pe.cpu.vcpuId) !== null;
  }

  #endEarly(isInOrder: boolean): number {
    if (isInOrder) this.terminators++;
    const raised = this.#deps.model["hardware.terminatorErr"];
    return raised === "ipaf" ? ERR_REASON.IPAF : ERR_REASON.IPAHACF;
  }

  /** @param at u32 index of the leaf @param entry of the entry that names it */
  #clean(u32: Uint32Array, at: number, entry: number): number {
    const hi = u32[at + 1]!;
    if ((hi & MANAGED_MASK) !== HI.DBM) return ERR_REASON.IPAHACF;
    const lo = u32[at]!;
    if ((lo & LO.S2AP_WRITE) === 0) {
      this.alreadyClean++;
      return ERR_REASON.NOF;
    }
    u32[at] = lo & ~LO.S2AP_WRITE;
    this.cleaned++;
    const { diagnostics } = this.#deps;
    if (diagnostics.isRequested !== null) {
      const ipa = ipaOf(u32[entry]!, u32[entry + 1]!);
      if (!diagnostics.isRequested(ipa, this.#pe.cpu.vcpuId)) {
        diagnostics.report("hacdbs-cleaned-outside-request", `0x${ipa.toString(16)}`);
      }
    }
    return ERR_REASON.NOF;
  }

  /**
   * @param lo, hi of the entry
   * @returns u32 index of the leaf, its level in #leafLevel; -1: there is none
   */
  #leafOf(regime: Stage2Regime, lo: number, hi: number): number {
    const { memory } = this.#deps;
    const page = pageOf(lo, hi, regime.geometry.shift);
    if (page < this.#tableFirst || page >= this.#tableEnd) return this.#find(regime, page, lo, hi);
    const at = (this.#table >>> 2) + (page - this.#tableFirst) * 2;
    this.#leafLevel = 3;
    return (memory.u32[at]! & PAGE) === PAGE ? at : -1;
  }

  /** The whole walk. */
  #find(regime: Stage2Regime, page: number, lo: number, hi: number): number {
    const { geometry, ipaEnd } = regime;
    const ipa = ipaOf(lo, hi);
    if (ipa >= ipaEnd) return -1;
    const walk = this.#walk;
    walkStage2(this.#deps.memory, regime, ipa, walk);
    this.#leafLevel = walk.level;
    if (walk.level === 3) {
      const index = page % geometry.entriesPerTable;
      this.#tableFirst = page - index;
      this.#tableEnd = Math.min(
        this.#tableFirst + geometry.entriesPerTable,
        ipaEnd / geometry.size,
      );
      this.#table = walk.descriptorPa - index * 8;
    }
    return walk.found ? walk.descriptorPa >>> 2 : -1;
  }

  save(): Saved {
    const { cleaned, alreadyClean, skipped, terminators, entries } = this;
    const counts = { cleaned, alreadyClean, skipped, terminators, entries };
    const outstanding = [...this.#outstanding];
    const data = { br: this.#br, cons: this.cons, isIgnored: this.#isIgnored, outstanding, counts };
    return { kind: "hacdbs", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      br: bigint;
      cons: bigint;
      isIgnored: boolean;
      outstanding: [number, number, number];
      counts: Record<string, number>;
    };
    this.#br = data.br;
    const { base, sz } = decodeBase(data.br);
    this.#base = base;
    this.#capacity = entriesOf(sz);
    const { index, err } = decodeCons(data.cons);
    this.#index = index;
    this.#err = err;
    this.#isIgnored = data.isIgnored;
    this.#outstanding = [...data.outstanding];
    Object.assign(this, data.counts);
  }
}
