// Owns: debugging of a PE by its guest or by the host: software step, breakpoints, watchpoints.
// VM thread.
//
//   registers, or the host's ──refresh──▶ decoded ──▶ armed: look at every instruction
//                                               └───▶ watches: look at every access
//
// While the host debugs, debug exceptions go to EL2 and the guest's own are suspended, as KVM does
// it with MDCR_EL2.TDE.
// @source Arm ARM D2 (self-hosted debug), D2.8 to D2.11; pseudocode of StateMatch, BreakpointMatch
import { type PeRegisters, PSTATE_BIT } from "./registers.js";
import { BREAKPOINTS, WATCHPOINTS } from "./sysreg.table.js";

/** Values and controls as DBGBVR, DBGBCR, DBGWVR and DBGWCR hold them. */
export interface DebugSet {
  readonly bvr: readonly bigint[];
  readonly bcr: readonly bigint[];
  readonly wvr: readonly bigint[];
  readonly wcr: readonly bigint[];
}

/** What the host asked for. */
export interface HostDebug {
  readonly singleStep: boolean;
  readonly hardware: DebugSet | null;
}

/** MDSCR_EL1. */
const MDSCR = { SS: 1n << 0n, KDE: 1n << 13n, MDE: 1n << 15n } as const;
const OSLK = 2n;
/** Breakpoints that compare contexts too: the last ones. */
const CONTEXT_AWARE = 2;
/** DBGBCR.BT: what is compared. */
const BT = { ADDRESS: 0, LINKED_ADDRESS: 1, CONTEXT: 2, LINKED_CONTEXT: 3 } as const;
/** Bits 48:2 of an address. */
const VA_MASK = 2n ** 49n - 1n;
const ENABLE = 1n;

/** At which levels a breakpoint or watchpoint matches, and with which context's. */
interface StateMatch {
  readonly el0: boolean;
  readonly el1: boolean;
  readonly linked: number | null;
}
interface Breakpoint extends StateMatch {
  readonly type: number;
  readonly value: bigint;
  /** BAS bit 0: instructions of A64 are aligned. */
  readonly selected: boolean;
}
interface Watchpoint extends StateMatch {
  readonly value: bigint;
  readonly loads: boolean;
  readonly stores: boolean;
  readonly bas: number;
  readonly mask: number;
}

const field = (value: bigint, shift: number, width: number): number =>
  Number(BigInt.asUintN(width, value >> BigInt(shift)));

/** PMC or PAC, HMC, SSC and LBN; this PE is Non-secure and has neither EL2 nor EL3. */
function stateMatch(control: bigint, isLinked: boolean): StateMatch {
  const levels = field(control, 1, 2);
  const ssc = field(control, 14, 2);
  const isHere = ssc < 2 || (ssc === 3 && field(control, 13, 1) === 1);
  const linked = isLinked ? field(control, 16, 4) : null;
  return { el0: isHere && (levels & 2) !== 0, el1: isHere && (levels & 1) !== 0, linked };
}

function breakpointOf(value: bigint, control: bigint, n: number): Breakpoint | null {
  const type = field(control, 20, 4);
  const isContext = type === BT.CONTEXT || type === BT.LINKED_CONTEXT;
  const exists = type <= BT.LINKED_CONTEXT && (!isContext || n >= BREAKPOINTS - CONTEXT_AWARE);
  if ((control & ENABLE) === 0n || !exists) return null;
  const selected = field(control, 5, 1) === 1;
  return { type, value, selected, ...stateMatch(control, type === BT.LINKED_ADDRESS) };
}

function watchpointOf(value: bigint, control: bigint): Watchpoint | null {
  if ((control & ENABLE) === 0n) return null;
  const lsc = field(control, 3, 2);
  return {
    value,
    loads: (lsc & 1) !== 0,
    stores: (lsc & 2) !== 0,
    bas: field(control, 5, 8),
    mask: field(control, 24, 5),
    ...stateMatch(control, field(control, 20, 1) === 1),
  };
}

/** The byte of DBGWCR.BAS that stands for this address, and the address bits above. */
function watchesByte({ value, bas, mask }: Watchpoint, va: bigint): boolean {
  const bottom = (value & 4n) !== 0n ? 2 : 3;
  const above = BigInt(Math.max(mask, bottom));
  const isSelected = ((bas >>> Number(va & (2n ** BigInt(bottom) - 1n))) & 1) !== 0;
  return isSelected && ((va ^ value) & VA_MASK) >> above === 0n;
}

/** An access as watchpoints see it. */
export interface WatchedAccess {
  readonly va: bigint;
  readonly bytes: number;
  readonly isWrite: boolean;
  /** An atomic: it loads too. */
  readonly alsoReads: boolean;
  readonly isPrivileged: boolean;
}

/** What a step left for the syndrome of the exception that follows. */
export type Stepped = "no" | "yes" | "load-exclusive";

export class PeDebug {
  /** Every instruction is to be looked at, at some exception level. */
  armed = false;
  watches = false;
  /** What the last instruction of a step was, until the exception for it. */
  stepped: Stepped = "no";
  #host: HostDebug | null = null;
  #mdscr = 0n;
  #isLocked = false;
  #breakpoints: readonly (Breakpoint | null)[] = [];
  #watchpoints: readonly Watchpoint[] = [];
  readonly #registers: PeRegisters;

  constructor(registers: PeRegisters) {
    this.#registers = registers;
  }

  get host(): HostDebug | null {
    return this.#host;
  }

  /** refresh() comes after it. */
  set host(host: HostDebug | null) {
    this.#host = host;
    if (host?.singleStep !== true) this.stepped = "no";
  }

  /** After a write to MDSCR_EL1, the OS lock, or any of the value and control registers. */
  refresh(): void {
    const registers = this.#registers;
    const host = this.#host;
    this.#mdscr = registers.get("MDSCR_EL1");
    this.#isLocked = (registers.get("OSLSR_EL1") & OSLK) !== 0n;
    const isOn = host === null && !this.#isLocked;
    const compares =
      host === null ? isOn && (this.#mdscr & MDSCR.MDE) !== 0n : host.hardware !== null;
    const set = host === null ? this.#own() : host.hardware;
    const { bvr = [], bcr = [], wvr = [], wcr = [] } = compares && set !== null ? set : {};
    const count = (values: readonly bigint[], most: number) => values.slice(0, most);
    this.#breakpoints = count(bcr, BREAKPOINTS).map((c, n) => breakpointOf(bvr[n] ?? 0n, c, n));
    this.#watchpoints = count(wcr, WATCHPOINTS)
      .map((control, n) => watchpointOf(wvr[n] ?? 0n, control))
      .filter((one) => one !== null);
    const steps = host === null ? isOn && (this.#mdscr & MDSCR.SS) !== 0n : host.singleStep;
    this.armed = steps || this.hasBreakpoints;
    this.watches = this.#watchpoints.length > 0;
  }

  #own(): DebugSet {
    const of = (name: "DBGBV" | "DBGBC" | "DBGWV" | "DBGWC", count: number): bigint[] =>
      Array.from({ length: count }, (_, n) => this.#registers.get(`${name}R${n}_EL1`));
    return {
      bvr: of("DBGBV", BREAKPOINTS),
      bcr: of("DBGBC", BREAKPOINTS),
      wvr: of("DBGWV", WATCHPOINTS),
      wcr: of("DBGWC", WATCHPOINTS),
    };
  }

  get hasBreakpoints(): boolean {
    return this.#breakpoints.some((one) => one !== null);
  }

  /** GenerateDebugExceptionsFrom: whether debug exceptions come from this level. */
  #comeFrom(el: number, isMasked: boolean): boolean {
    if (this.#host !== null) return true;
    if (this.#isLocked) return false;
    return el === 0 || ((this.#mdscr & MDSCR.KDE) !== 0n && !isMasked);
  }

  get #comeFromHere(): boolean {
    const { el, pstate } = this.#registers;
    return this.#comeFrom(el, (pstate & PSTATE_BIT.D) !== 0);
  }

  /** Whether each instruction from here on is to be looked at. */
  get active(): boolean {
    return this.armed && this.#comeFromHere;
  }

  /** The guest's own software step is on here: active, pending or not. */
  get stepsGuest(): boolean {
    return this.#host === null && (this.#mdscr & MDSCR.SS) !== 0n && this.#comeFromHere;
  }

  /** DebugExceptionReturnSS: what PSTATE.SS becomes of an exception return. */
  returnsStepping(spsr: number, toEl: number): boolean {
    if (this.#host !== null || (this.#mdscr & MDSCR.SS) === 0n || this.#comeFromHere) return false;
    const isMasked = (spsr & PSTATE_BIT.D) !== 0;
    return (spsr & PSTATE_BIT.SS) !== 0 && this.#comeFrom(toEl, isMasked);
  }

  /** An instruction is over, executed or emulated. */
  instructionDone(isLoadExclusive: boolean): void {
    const registers = this.#registers;
    if (this.#host !== null) {
      if (!this.#host.singleStep) return;
    } else {
      if ((registers.pstate & PSTATE_BIT.SS) === 0) return;
      registers.pstate &= ~PSTATE_BIT.SS;
    }
    this.stepped = isLoadExclusive ? "load-exclusive" : "yes";
  }

  /** An exception came in place of an instruction: for the host's step one is like the other. */
  exceptionTaken(): void {
    if (this.#host?.singleStep === true) this.stepped = "yes";
  }

  /** @returns whether a breakpoint matches the instruction at PC */
  breakpointAtPc(): boolean {
    if (!this.#comeFromHere) return false;
    const { pc, el } = this.#registers;
    return this.#breakpoints.some((one) => {
      if (one === null || !(el === 0 ? one.el0 : one.el1)) return false;
      if (one.type === BT.LINKED_CONTEXT) return false;
      if (one.type === BT.CONTEXT) return this.#isContext(one);
      const isHere = one.selected && ((pc ^ one.value) & VA_MASK) >> 2n === 0n;
      return isHere && this.#linkHolds(one);
    });
  }

  #isContext({ value }: Breakpoint): boolean {
    return this.#registers.get("CONTEXTIDR_EL1") === BigInt.asUintN(32, value);
  }

  #linkHolds({ linked }: StateMatch): boolean {
    if (linked === null) return true;
    const other = this.#breakpoints[linked] ?? null;
    return other !== null && other.type === BT.LINKED_CONTEXT && this.#isContext(other);
  }

  /** @returns the first byte that a watchpoint matches, and whether as a store; or null */
  watchpointOf(access: WatchedAccess): { readonly far: bigint; readonly isWrite: boolean } | null {
    if (!this.#comeFromHere) return null;
    const { va, bytes, isWrite, alsoReads, isPrivileged } = access;
    const reads = !isWrite || alsoReads;
    const here = this.#watchpoints.filter((one) => {
      const isKind = (reads && one.loads) || (isWrite && one.stores);
      return isKind && (isPrivileged ? one.el1 : one.el0) && this.#linkHolds(one);
    });
    for (let at = 0; here.length > 0 && at < bytes; at++) {
      const far = BigInt.asUintN(64, va + BigInt(at));
      const hit = here.find((one) => watchesByte(one, far));
      if (hit !== undefined) return { far, isWrite: isWrite && !(reads && hit.loads) };
    }
    return null;
  }
}

/** LDXR, LDAXR, LDXP, LDAXP. */
export function isLoadExclusive(word: number): boolean {
  const isPair = (word & (1 << 21)) !== 0;
  return (word & 0x3fc0_0000) === 0x0840_0000 && (!isPair || word >>> 31 === 1);
}

/** CAS, CASP, LDADD and their kind, SWP: stores that load. */
export function isAtomic(word: number): boolean {
  const isOperation = (word & 0x3f20_0c00) === 0x3820_0000;
  const isCas = (word & 0x3fa0_7c00) === 0x08a0_7c00;
  return isOperation || isCas || (word & 0xbfa0_7c00) >>> 0 === 0x0820_7c00;
}
