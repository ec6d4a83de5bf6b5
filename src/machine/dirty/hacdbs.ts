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
  decodeEntry,
  ENTRY_BYTES,
  ERR_REASON,
  encodeCons,
  entriesOf,
  writtenBase,
} from "./entry.js";
import type { DirtyDeps } from "./hdbss.js";

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
    let done = 0;
    while (done < budget && this.isRunning) {
      const err = this.#step(this.#base, this.#index, true);
      done++;
      this.entries++;
      if (err === ERR_REASON.NOF) {
        this.#index++;
        continue;
      }
      this.#err = err;
      this.#lookAhead();
    }
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
    this.#outstanding = [0, 0, 0];
    for (let at = first; at < end; at++) this.#step(base, at, false);
  }

  /** DSB on this PE: outstanding fetches and walks are over. */
  dsb(): void {
    this.#fetchOutstanding();
  }

  /** One entry. @param isInOrder whether its errors count */
  #step(base: number, index: number, isInOrder: boolean): number {
    const { memory, faults, model } = this.#deps;
    const at = (base + index * ENTRY_BYTES) / 4;
    const vcpu = this.#pe.cpu.vcpuId;
    const isArmed = isInOrder && faults.isArmed;
    if (at + 1 >= memory.u32.length) return ERR_REASON.STRUCTF;
    if (isArmed && faults.hit("hacdbs-structf", vcpu) !== null) return ERR_REASON.STRUCTF;
    const entry = decodeEntry(memory.u32[at]!, memory.u32[at + 1]!);
    if (!entry.valid) {
      if (isInOrder) this.skipped++;
      return ERR_REASON.NOF;
    }
    if (entry.level === null) {
      if (isInOrder) this.terminators++;
      return model["hardware.terminatorErr"] === "ipaf" ? ERR_REASON.IPAF : ERR_REASON.IPAHACF;
    }
    if (isArmed && faults.hit("hacdbs-ipaf", vcpu) !== null) return ERR_REASON.IPAF;
    if (isArmed && faults.hit("hacdbs-ipahacf", vcpu) !== null) return ERR_REASON.IPAHACF;
    return this.#clean(entry.ipa, entry.level);
  }

  #clean(ipa: number, level: number): number {
    const regime = this.#pe.regime();
    if (regime === null || ipa >= regime.ipaEnd) return ERR_REASON.IPAF;
    const walk = this.#walk;
    walkStage2(this.#deps.memory, regime, ipa, walk);
    if (!walk.found) return ERR_REASON.IPAF;
    const isCleanable = (walk.hi & HI.DBM) !== 0 && (walk.hi & HI.CONTIGUOUS) === 0;
    if (walk.level !== level || !isCleanable) return ERR_REASON.IPAHACF;
    if ((walk.lo & LO.S2AP_WRITE) === 0) {
      this.alreadyClean++;
      return ERR_REASON.NOF;
    }
    this.#deps.memory.u32[walk.descriptorPa >>> 2] = walk.lo & ~LO.S2AP_WRITE;
    this.cleaned++;
    const { diagnostics } = this.#deps;
    if (diagnostics.isRequested?.(ipa, this.#pe.cpu.vcpuId) === false) {
      diagnostics.report("hacdbs-cleaned-outside-request", `0x${ipa.toString(16)}`);
    }
    return ERR_REASON.NOF;
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
