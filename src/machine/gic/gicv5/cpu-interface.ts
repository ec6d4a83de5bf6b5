// Owns: the CPU interface of GICv5 of one host CPU, as EL1 sees it: registers, instructions, and
// what it signals. VM thread.
//
//   PPIs of the loaded context ─┐
//                               ├─ most urgent below PCR and APR ─▶ virq ─▶ PE
//   SPIs, LPIs (IRS) ───────────┘         CDIA: active    CDEOI: priority drop    CDDI: inactive
// @source interrupts.md 5.2 to 5.4; gicv5-observed.md 4
import type { Saved } from "../../../base/saved.js";
import type { Candidate, InterruptDomain } from "./domain.js";
import { type GicInsn, ICC_V5_BY_NAME, type IccV5Name } from "./icc.table.js";
import { ICSR_F, INTID_TYPE, idOf, intidOf, typeOf } from "./intid.js";
import type { Irs } from "./irs.js";
import { PeGicState, PPIS } from "./pe-state.js";
import { keyOf } from "./queue.js";

/** ICH_CONTEXTR_EL2: whose SPIs and LPIs, and as which of its VPEs. */
export interface GuestContext {
  readonly vm: number;
  /** Also its IAFFID. */
  readonly vpe: number;
  /** The VM's IRSEN (IRICHPPIDIS is 0). */
  readonly isIrsEnabled: boolean;
  /** DB: once the VPE is put away, its next interrupt rings. */
  readonly hasDoorbell: boolean;
  /** DBPM: of priorities up to this; all of them unless told otherwise. */
  readonly doorbellMask?: number;
}

/** What EL2 traps: register names for ICH_HFGRTR and ICH_HFGWTR, instructions for ICH_HFGITR. */
interface Traps {
  readonly read: Set<string>;
  readonly write: Set<string>;
  readonly insn: Set<string>;
}

export type GicOutcome = "done" | "trap";

const CR0_EN = 1;
/** LINK and LINK_IDLE. */
const CR0_READ = 6n;
const PRIORITY = 0x1fn;
const PRIORITY_BYTES = 0x1f1f_1f1f_1f1f_1f1fn;
const LOW = 0xffff_ffffn;
/** Of the results of CDIA and HPPIR. */
const VALID = 1n << 32n;
/** 24-bit IDs, 5 bits of priority. */
const IDR0 = 0x41n;
const OPERAND = { flag: 32n, iaffid: 32n, priority: 35n } as const;
const IDLE_PRIORITY = 32;

export class CpuInterface {
  readonly state = new PeGicState();
  readonly traps: Traps = { read: new Set(), write: new Set(), insn: new Set() };
  readonly #irs: Irs;
  #context: GuestContext | null = null;
  /** IAFFID in the host's own domain, for software at EL1 without a hypervisor; null with one. */
  #physical: number | null = null;
  #best: Candidate | null = null;
  #isStale = true;

  constructor(irs: Irs) {
    this.#irs = irs;
  }

  // ── whose it is ─────────────────────────────────────────────────────────────────────────────

  get context(): GuestContext | null {
    return this.#context;
  }

  setContext(context: GuestContext | null): void {
    const old = this.#context;
    this.#context = context;
    this.#isStale = true;
    if (old !== null) {
      this.#irs.vms.leave(old.vm, old.vpe, old.hasDoorbell, old.doorbellMask);
    }
    if (context !== null) this.#irs.vms.enter(context.vm, context.vpe, this);
  }

  /** EL1 is the host's own: it takes interrupts of the physical domain. */
  usePhysical(iaffid: number): void {
    this.#physical = iaffid;
    this.#irs.connect(iaffid, this);
    this.#isStale = true;
  }

  get isResident(): boolean {
    return this.#context !== null || this.#physical !== null;
  }

  get #domain(): InterruptDomain | null {
    return this.#context === null ? this.#irs.physical : this.#irs.domainOf(this.#context.vm);
  }

  get #iaffid(): number {
    return this.#context?.vpe ?? this.#physical ?? 0;
  }

  /** Something outside may have changed what is most urgent: `state`, or an interrupt's state. */
  candidateChanged(): void {
    this.#isStale = true;
  }

  // ── what is signalled ───────────────────────────────────────────────────────────────────────

  /** Highest-priority pending interrupt that may be taken now. */
  #candidate(): Candidate | null {
    if (this.#isStale) {
      this.#isStale = false;
      this.#best = this.#find();
    }
    return this.#best;
  }

  #find(): Candidate | null {
    const { state } = this;
    if (!this.isResident || (state.cr0 & CR0_EN) === 0) return null;
    const running = state.apr === 0 ? IDLE_PRIORITY : 31 - Math.clz32(state.apr & -state.apr);
    const bound = Math.min(running, state.pcr + 1);
    const ppi = state.ppi.best();
    let best: Candidate | null = null;
    if (ppi >= 0) {
      best = { intid: intidOf(INTID_TYPE.PPI, ppi), priority: state.ppi.priorityOf(ppi) };
    }
    const other = this.#isIrsHeard ? (this.#domain?.candidate(this.#iaffid) ?? null) : null;
    if (other !== null && (best === null || keyFor(other) < keyFor(best))) best = other;
    return best !== null && best.priority < bound ? best : null;
  }

  get #isIrsHeard(): boolean {
    return this.#context?.isIrsEnabled ?? true;
  }

  get virq(): boolean {
    return this.#candidate() !== null;
  }

  /** ISR_EL1.IS: the candidate has priority 0. */
  get isSuperpriority(): boolean {
    return this.#candidate()?.priority === 0;
  }

  setPpiLine(ppi: number, level: boolean): void {
    const { ppi: ppis } = this.state;
    // Only an edge's rise is kept; a level is its line.
    if (level || ppis.get("hm", ppi)) ppis.set("pend", ppi, level);
    this.#isStale = true;
  }

  // ── registers ───────────────────────────────────────────────────────────────────────────────

  read(name: IccV5Name): bigint | "trap" {
    return this.traps.read.has(name) ? "trap" : this.peek(name);
  }

  /** A register as EL2 reads it. */
  peek(name: IccV5Name): bigint {
    const { state } = this;
    const { ppi } = state;
    const index = ICC_V5_BY_NAME.get(name)!.index;
    switch (name) {
      case "ICC_APR_EL1":
        return BigInt(state.apr >>> 0);
      case "ICC_CR0_EL1":
        return CR0_READ | BigInt(state.cr0);
      case "ICC_PCR_EL1":
        return BigInt(state.pcr);
      case "ICC_IDR0_EL1":
        return IDR0;
      case "ICC_HPPIR_EL1":
        return this.#result(this.#candidate());
      case "ICC_ICSR_EL1":
        return state.icsr;
      case "ICC_IAFFIDR_EL1":
        return BigInt(this.#iaffid);
      case "ICC_PPI_HMR0_EL1":
      case "ICC_PPI_HMR1_EL1":
        return ppi.hm[index]!;
      case "ICC_PPI_ENABLER0_EL1":
      case "ICC_PPI_ENABLER1_EL1":
        return ppi.enable[index]!;
      case "ICC_PPI_CACTIVER0_EL1":
      case "ICC_PPI_CACTIVER1_EL1":
      case "ICC_PPI_SACTIVER0_EL1":
      case "ICC_PPI_SACTIVER1_EL1":
        return ppi.active[index]!;
      case "ICC_PPI_CPENDR0_EL1":
      case "ICC_PPI_CPENDR1_EL1":
      case "ICC_PPI_SPENDR0_EL1":
      case "ICC_PPI_SPENDR1_EL1":
        return ppi.pend[index]!;
      default:
        return ppi.priority[index]!;
    }
  }

  #result(candidate: Candidate | null): bigint {
    return candidate === null ? 0n : VALID | BigInt(candidate.intid);
  }

  write(name: IccV5Name, value: bigint): GicOutcome {
    if (this.traps.write.has(name)) return "trap";
    this.poke(name, value);
    return "done";
  }

  /** A write of EL2 on the guest's behalf. */
  poke(name: IccV5Name, value: bigint): void {
    const { state } = this;
    const { ppi } = state;
    const index = ICC_V5_BY_NAME.get(name)!.index;
    this.#isStale = true;
    switch (name) {
      case "ICC_APR_EL1":
        state.apr = Number(value & LOW);
        return;
      case "ICC_CR0_EL1":
        state.cr0 = Number(value & BigInt(CR0_EN));
        return;
      case "ICC_PCR_EL1":
        state.pcr = Number(value & PRIORITY);
        return;
      case "ICC_ICSR_EL1":
        state.icsr = value;
        return;
      case "ICC_PPI_ENABLER0_EL1":
      case "ICC_PPI_ENABLER1_EL1":
        ppi.enable[index] = value;
        return;
      case "ICC_PPI_CACTIVER0_EL1":
      case "ICC_PPI_CACTIVER1_EL1":
        ppi.active[index] = ppi.active[index]! & ~value;
        return;
      case "ICC_PPI_SACTIVER0_EL1":
      case "ICC_PPI_SACTIVER1_EL1":
        ppi.active[index] = ppi.active[index]! | value;
        return;
      case "ICC_PPI_CPENDR0_EL1":
      case "ICC_PPI_CPENDR1_EL1":
        ppi.pend[index] = ppi.pend[index]! & ~(value & ~ppi.hm[index]!);
        return;
      case "ICC_PPI_SPENDR0_EL1":
      case "ICC_PPI_SPENDR1_EL1":
        ppi.pend[index] = ppi.pend[index]! | (value & ~ppi.hm[index]!);
        return;
      default:
        // What is left are priorities: registers that can't be written have no encoding that does.
        if (name.startsWith("ICC_PPI_PRIORITYR")) ppi.priority[index] = value & PRIORITY_BYTES;
    }
  }

  // ── instructions ────────────────────────────────────────────────────────────────────────────

  execute(name: GicInsn, xt: bigint): GicOutcome {
    if (this.traps.insn.has(name)) return "trap";
    this.perform(name, xt);
    return "done";
  }

  /** An instruction that EL2 does on the guest's behalf. */
  perform(name: GicInsn, xt: bigint): void {
    const intid = Number(xt & LOW);
    const flag = ((xt >> OPERAND.flag) & 1n) !== 0n;
    const domain = this.#domain;
    this.#isStale = true;
    switch (name) {
      case "GSB_SYS":
        this.#irs.gsbSys();
        return;
      case "GSB_ACK":
        return;
      case "CDEN":
      case "CDDIS":
        domain?.enable(intid, name === "CDEN");
        return;
      case "CDPRI":
        domain?.priority(intid, Number((xt >> OPERAND.priority) & PRIORITY));
        return;
      case "CDAFF":
        domain?.affinity(intid, Number((xt >> OPERAND.iaffid) & 0xffffn));
        return;
      case "CDPEND":
        domain?.pend(intid, flag);
        return;
      case "CDHM":
        domain?.handling(intid, flag);
        return;
      case "CDRCFG":
        this.state.icsr = domain?.config(intid) ?? ICSR_F;
        return;
      case "CDEOI":
        this.state.apr = (this.state.apr & (this.state.apr - 1)) >>> 0;
        return;
      case "CDDI":
        if (typeOf(intid) === INTID_TYPE.PPI) this.#deactivatePpi(idOf(intid));
        else domain?.deactivate(intid);
    }
  }

  #deactivatePpi(ppi: number): void {
    if (ppi < PPIS) this.state.ppi.set("active", ppi, false);
  }

  /**
   * CDIA, CDNMIA.
   * @param hasNmi SCTLR_EL1.NMI: what has priority 0 is taken by CDNMIA alone
   */
  acknowledge(isNmi: boolean, hasNmi = false): bigint {
    const candidate = this.#candidate();
    if (candidate === null) return 0n;
    const isNmiOnly = hasNmi && candidate.priority === 0;
    if (isNmi !== isNmiOnly) return 0n;
    const { state } = this;
    const { intid, priority } = candidate;
    state.apr = (state.apr | (1 << priority)) >>> 0;
    const id = idOf(intid);
    if (typeOf(intid) === INTID_TYPE.PPI) {
      state.ppi.set("active", id, true);
      if (!state.ppi.get("hm", id)) state.ppi.set("pend", id, false);
    } else this.#domain?.activate(intid);
    this.#isStale = true;
    return this.#result(candidate);
  }

  save(): Saved {
    const { read, write, insn } = this.traps;
    const data = {
      state: this.state.save(),
      context: this.#context === null ? null : { ...this.#context },
      physical: this.#physical,
      traps: { read: [...read].sort(), write: [...write].sort(), insn: [...insn].sort() },
    };
    return { kind: "gicv5-cpu-interface", version: 1, data };
  }

  /** After the IRS was loaded. */
  load(saved: Saved): void {
    const data = saved.data as {
      state: Saved;
      context: GuestContext | null;
      physical: number | null;
      traps: Record<keyof Traps, string[]>;
    };
    this.state.load(data.state);
    this.#context = data.context;
    this.#physical = data.physical;
    if (this.#context !== null) this.#irs.vms.restore(this.#context.vm, this.#context.vpe, this);
    if (this.#physical !== null) this.#irs.connect(this.#physical, this);
    for (const kind of ["read", "write", "insn"] as const) {
      this.traps[kind].clear();
      for (const name of data.traps[kind]) this.traps[kind].add(name);
    }
    this.#isStale = true;
  }
}

function keyFor({ intid, priority }: Candidate): number {
  return keyOf(priority, intid);
}
