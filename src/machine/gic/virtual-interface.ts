// Owns: the virtual CPU interface of a host CPU: list registers and what a guest does with them by
// ICC registers or a GICV frame. It knows nothing of who fills the list registers. VM thread.
//
//   LRs ─ highest pending ─▶ vIRQ, vFIQ ─▶ PE
//    ▲         IAR: pending to active     EOIR: priority drop     EOIR or DIR: deactivate
//    └─ flush, fold ── hypervisor ◀── maintenance interrupt (MISR)
// @source Arm IHI 0069 (GICv3) 4.8 and 12.4; Arm IHI 0048 (GICv2) 5; interrupts.md 4.2, 4.5
import type { Saved } from "../../base/saved.js";
import type { IccName } from "./icc.table.js";
import {
  BPR0_MIN,
  BPR1_MIN,
  HCR,
  IDLE_PRIORITY,
  INTID_LPI,
  INTID_SPECIAL,
  INTID_SPURIOUS,
  INTID_V2,
  LR,
  NR_LRS,
  PRIORITY_MASK,
  VMCR,
} from "./list-register.js";

/** What a write has to lead to, beside its effect here. */
export type IccOutcome = "done" | "trap";

/** ICC_CTLR_EL1: five priority bits, 16-bit INTIDs, A3V. */
const CTLR_READ_ONLY = (4 << 8) | (1 << 15);
const CTLR = { CBPR: 1 << 0, EOIMODE: 1 << 1 } as const;
const SRE = 7n;
const MISR = { EOI: 1 << 0, U: 1 << 1, LRENP: 1 << 2, NP: 1 << 3 } as const;
const GROUPS = [0, 1] as const;
type Group = (typeof GROUPS)[number];

export class VirtualInterface {
  /** ICH_HCR_EL2; EN says whether a guest has an interface at all. */
  hcr = 0;
  /** ICH_VMCR_EL2. */
  vmcr = 0;
  /** ICC_SRE_EL1.SRE: the guest has ICC registers; else it has a GICV frame. */
  sre = false;
  /** ICH_AP0R0_EL2 and ICH_AP1R0_EL2: one bit for each active priority. */
  readonly apr = new Uint32Array(2);
  /** ICH_LR<n>_EL2: upper and lower words. */
  readonly lrHigh = new Int32Array(NR_LRS);
  readonly lrLow = new Uint32Array(NR_LRS);

  /** ICH_MISR_EL2. */
  get misr(): number {
    let [misr, used, pending] = [0, 0, 0];
    for (let n = 0; n < NR_LRS; n++) {
      const high = this.lrHigh[n]!;
      if ((high & LR.STATE) !== 0) used++;
      else if ((high & LR.EOI) !== 0 && (high & LR.HW) === 0) misr |= MISR.EOI;
      if ((high & LR.STATE) === LR.PENDING) pending++;
    }
    if ((this.hcr & HCR.UIE) !== 0 && used <= 1) misr |= MISR.U;
    if ((this.hcr & HCR.LRENPIE) !== 0 && this.eoiCount !== 0) misr |= MISR.LRENP;
    if ((this.hcr & HCR.NPIE) !== 0 && pending === 0) misr |= MISR.NP;
    return misr;
  }

  get eoiCount(): number {
    return (this.hcr >>> HCR.EOICOUNT_SHIFT) & HCR.EOICOUNT;
  }

  /** The hypervisor is wanted: the guest is left before its next instruction. */
  get maintenance(): boolean {
    return (this.hcr & HCR.EN) !== 0 && (this.#deactivatedHw || this.misr !== 0);
  }
  /** A deactivation reached the physical interrupt, which may be high still. */
  #deactivatedHw = false;

  get virq(): boolean {
    return this.#signals((group) => !this.#isFiq(group));
  }

  get vfiq(): boolean {
    return this.#signals((group) => this.#isFiq(group));
  }

  #isFiq(group: Group): boolean {
    return group === 0 && (this.vmcr & VMCR.VFIQEN) !== 0;
  }

  #signals(isWanted: (group: Group) => boolean): boolean {
    if ((this.hcr & HCR.EN) === 0) return false;
    const n = this.#highestPending();
    return n >= 0 && isWanted(this.#groupOf(n)) && this.#preempts(n);
  }

  #groupOf(n: number): Group {
    return (this.lrHigh[n]! & LR.GROUP1) === 0 ? 0 : 1;
  }

  #priorityOf(n: number): number {
    return (this.lrHigh[n]! & LR.PRIORITY) >>> LR.PRIORITY_SHIFT;
  }

  /** Most urgent pending of the enabled groups; ties by INTID, our choice. @returns -1 for none */
  #highestPending(): number {
    let best = -1;
    for (let n = 0; n < NR_LRS; n++) {
      if ((this.lrHigh[n]! & LR.STATE) !== LR.PENDING) continue;
      const enable = this.#groupOf(n) === 0 ? VMCR.VENG0 : VMCR.VENG1;
      if ((this.vmcr & enable) === 0) continue;
      if (best >= 0) {
        const by = this.#priorityOf(n) - this.#priorityOf(best);
        if (by > 0 || (by === 0 && this.lrLow[n]! > this.lrLow[best]!)) continue;
      }
      best = n;
    }
    return best;
  }

  get pmr(): number {
    return (this.vmcr >>> VMCR.VPMR_SHIFT) & 0xff;
  }

  #bpr(group: Group): number {
    const shift =
      group === 0 || (this.vmcr & VMCR.VCBPR) !== 0 ? VMCR.VBPR0_SHIFT : VMCR.VBPR1_SHIFT;
    return (this.vmcr >>> shift) & VMCR.VBPR;
  }

  /** The part of a priority that preempts. */
  #groupPriority(n: number): number {
    const group = this.#groupOf(n);
    const isOwn = group === 1 && (this.vmcr & VMCR.VCBPR) === 0;
    const bits = isOwn ? this.#bpr(1) : this.#bpr(0) + 1;
    return this.#priorityOf(n) & (0xff << bits) & 0xff;
  }

  #preempts(n: number): boolean {
    if (this.#priorityOf(n) >= this.pmr) return false;
    return this.#groupPriority(n) < this.runningPriority;
  }

  /** ICC_RPR_EL1. */
  get runningPriority(): number {
    const active = (this.apr[0]! | this.apr[1]!) >>> 0;
    return active === 0 ? IDLE_PRIORITY : lowestBit(active) << 3;
  }

  // ── what a guest does ───────────────────────────────────────────────────────────────────────

  /** @returns list register that IAR gives; -1: nothing to take */
  #takeable(): number {
    const n = this.#highestPending();
    return n >= 0 && this.#preempts(n) ? n : -1;
  }

  /** Acknowledges. @param wants groups that this register gives @returns lower word of the LR */
  acknowledge(wants: (group: Group) => boolean): number {
    const n = this.#takeable();
    if (n < 0 || !wants(this.#groupOf(n))) return INTID_SPURIOUS;
    const group = this.#groupOf(n);
    this.apr[group] = (this.apr[group]! | (1 << (this.#groupPriority(n) >>> 3))) >>> 0;
    const isLpi = this.lrLow[n]! >= INTID_LPI;
    this.lrHigh[n] = (this.lrHigh[n]! & ~LR.STATE) | (isLpi ? 0 : LR.ACTIVE);
    return this.lrLow[n]!;
  }

  /** HPPIR. */
  highestPendingOf(wants: (group: Group) => boolean): number {
    const n = this.#highestPending();
    return n >= 0 && wants(this.#groupOf(n)) ? this.lrLow[n]! : INTID_SPURIOUS;
  }

  /**
   * Priority drop, and deactivation unless EOImode splits the two.
   * @param id as IAR gave it: the lower word of a list register
   */
  endOfInterrupt(id: number, groups: readonly Group[] = GROUPS): void {
    if (this.#isSpecial(id)) return;
    this.#drop(groups);
    if ((this.vmcr & VMCR.VEOIM) !== 0) return;
    if (!this.#deactivateHere(id) && id < INTID_LPI) this.#countEoi();
  }

  /** @returns false: no list register has it, the hypervisor deactivates it */
  deactivate(id: number): boolean {
    if ((this.vmcr & VMCR.VEOIM) === 0 || this.#isSpecial(id) || id >= INTID_LPI) return true;
    return this.#deactivateHere(id);
  }

  /** A GICv2 guest's id has the sender of an SGI above the INTID. */
  #isSpecial(id: number): boolean {
    if (!this.sre) return (id & INTID_V2) >= INTID_SPECIAL;
    return id >= INTID_SPECIAL && id < INTID_LPI;
  }

  #drop(groups: readonly Group[]): void {
    let [best, of] = [NO_BIT, 0];
    for (const group of groups) {
      const active = this.apr[group]!;
      if (active !== 0 && lowestBit(active) < best) [best, of] = [lowestBit(active), group];
    }
    if (best !== NO_BIT) this.apr[of] = (this.apr[of]! & ~(1 << best)) >>> 0;
  }

  #deactivateHere(id: number): boolean {
    for (let n = 0; n < NR_LRS; n++) {
      const high = this.lrHigh[n]!;
      if (this.lrLow[n] !== id || (high & LR.ACTIVE) === 0) continue;
      this.lrHigh[n] = high & ~LR.ACTIVE;
      if ((high & LR.HW) !== 0) this.#deactivatedHw = true;
      return true;
    }
    return false;
  }

  #countEoi(): void {
    const count = Math.min(HCR.EOICOUNT, this.eoiCount + 1);
    const others = this.hcr & ~(HCR.EOICOUNT << HCR.EOICOUNT_SHIFT);
    this.hcr = others | (count << HCR.EOICOUNT_SHIFT);
  }

  setPmr(value: number): void {
    const others = this.vmcr & ~(0xff << VMCR.VPMR_SHIFT);
    this.vmcr = others | ((value & PRIORITY_MASK) << VMCR.VPMR_SHIFT);
  }

  /** BPR as it reads; with CBPR that of group 1 is one more than group 0's. */
  bpr(group: Group): number {
    if (group === 1 && (this.vmcr & VMCR.VCBPR) !== 0) return Math.min(7, this.#bpr(0) + 1);
    return this.#bpr(group);
  }

  setBpr(group: Group, value: number): void {
    if (group === 1 && (this.vmcr & VMCR.VCBPR) !== 0) return;
    const shift = group === 0 ? VMCR.VBPR0_SHIFT : VMCR.VBPR1_SHIFT;
    const bpr = Math.max(value & VMCR.VBPR, group === 0 ? BPR0_MIN : BPR1_MIN);
    this.vmcr = (this.vmcr & ~(VMCR.VBPR << shift)) | (bpr << shift);
  }

  setVmcr(bit: number, isSet: boolean): void {
    this.vmcr = isSet ? this.vmcr | bit : this.vmcr & ~bit;
  }

  // ── ICC registers ───────────────────────────────────────────────────────────────────────────

  read(name: IccName): bigint {
    switch (name) {
      case "ICC_PMR_EL1":
        return BigInt(this.pmr);
      case "ICC_IAR0_EL1":
        return BigInt(this.acknowledge((group) => group === 0));
      case "ICC_IAR1_EL1":
        return BigInt(this.acknowledge((group) => group === 1));
      case "ICC_HPPIR0_EL1":
        return BigInt(this.highestPendingOf((group) => group === 0));
      case "ICC_HPPIR1_EL1":
        return BigInt(this.highestPendingOf((group) => group === 1));
      case "ICC_BPR0_EL1":
        return BigInt(this.bpr(0));
      case "ICC_BPR1_EL1":
        return BigInt(this.bpr(1));
      case "ICC_AP0R0_EL1":
        return BigInt(this.apr[0]!);
      case "ICC_AP1R0_EL1":
        return BigInt(this.apr[1]!);
      case "ICC_RPR_EL1":
        return BigInt(this.runningPriority);
      case "ICC_CTLR_EL1":
        return BigInt(
          CTLR_READ_ONLY |
            ((this.vmcr & VMCR.VCBPR) === 0 ? 0 : CTLR.CBPR) |
            ((this.vmcr & VMCR.VEOIM) === 0 ? 0 : CTLR.EOIMODE),
        );
      case "ICC_SRE_EL1":
        return SRE;
      case "ICC_IGRPEN0_EL1":
        return BigInt(this.vmcr & VMCR.VENG0);
      case "ICC_IGRPEN1_EL1":
        return (this.vmcr & VMCR.VENG1) === 0 ? 0n : 1n;
      default:
        // Active priorities beyond the 32 levels that five bits make.
        return 0n;
    }
  }

  /** @returns "trap": the hypervisor does it, as for SGIs */
  write(name: IccName, value: bigint): IccOutcome {
    const low = Number(value & 0xffff_ffffn);
    switch (name) {
      case "ICC_PMR_EL1":
        this.setPmr(low);
        return "done";
      case "ICC_EOIR0_EL1":
        this.endOfInterrupt(low & INTID_MASK, [0]);
        return "done";
      case "ICC_EOIR1_EL1":
        this.endOfInterrupt(low & INTID_MASK, [1]);
        return "done";
      case "ICC_DIR_EL1":
        return this.deactivate(low & INTID_MASK) ? "done" : "trap";
      case "ICC_BPR0_EL1":
        this.setBpr(0, low);
        return "done";
      case "ICC_BPR1_EL1":
        this.setBpr(1, low);
        return "done";
      case "ICC_AP0R0_EL1":
        this.apr[0] = low;
        return "done";
      case "ICC_AP1R0_EL1":
        this.apr[1] = low;
        return "done";
      case "ICC_CTLR_EL1":
        this.setVmcr(VMCR.VCBPR, (low & CTLR.CBPR) !== 0);
        this.setVmcr(VMCR.VEOIM, (low & CTLR.EOIMODE) !== 0);
        return "done";
      case "ICC_IGRPEN0_EL1":
        this.setVmcr(VMCR.VENG0, (low & 1) !== 0);
        return "done";
      case "ICC_IGRPEN1_EL1":
        this.setVmcr(VMCR.VENG1, (low & 1) !== 0);
        return "done";
      case "ICC_SGI1R_EL1":
      case "ICC_ASGI1R_EL1":
      case "ICC_SGI0R_EL1":
        return "trap";
      default:
        return "done";
    }
  }

  /** After the hypervisor has looked. */
  clearMaintenance(): void {
    this.#deactivatedHw = false;
  }

  save(): Saved {
    const data = {
      hcr: this.hcr,
      vmcr: this.vmcr,
      sre: this.sre,
      apr: [...this.apr],
      lrHigh: [...this.lrHigh],
      lrLow: [...this.lrLow],
      deactivatedHw: this.#deactivatedHw,
    };
    return { kind: "virtual-interface", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      hcr: number;
      vmcr: number;
      sre: boolean;
      apr: number[];
      lrHigh: number[];
      lrLow: number[];
      deactivatedHw: boolean;
    };
    this.hcr = data.hcr;
    this.vmcr = data.vmcr;
    this.sre = data.sre;
    this.apr.set(data.apr);
    this.lrHigh.set(data.lrHigh);
    this.lrLow.set(data.lrLow);
    this.#deactivatedHw = data.deactivatedHw;
  }
}

const INTID_MASK = 0xff_ffff;
const NO_BIT = 32;

/** Index of the lowest bit that is set. */
function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}
