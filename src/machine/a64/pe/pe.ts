// Owns: one PE put together: registers, MMU and system side, between the core and the host CPU.
// VM thread.
//
//   core ──access, fetch──▶ PeMmu ──▶ stage 2 of the host CPU
//        ──system──▶ executeSystem
//   abort to EL1, trap to EL2, abort of stage 2: this object notes what stops the run
import { assert } from "../../../base/assert.js";
import type { CpuInterface } from "../../gic/gicv5/cpu-interface.js";
import type { VirtualInterface } from "../../gic/virtual-interface.js";
import type { HostCpu } from "../../host-cpu.js";
import type { HostMemory } from "../../host-memory.js";
import type { CodeCache } from "../code-cache.js";
import type { SystemResult } from "../core.js";
import { PC, RECORD, RECORD_WORD, TLB_PAGE_SHIFT } from "../window.js";
import { type HostDebug, isAtomic, isLoadExclusive, PeDebug } from "./debug.js";
import { EC, esrOf, takeException, VECTOR } from "./exception.js";
import { type MmuContext, PeMmu, type Stage2Abort } from "./mmu.js";
import { Pmu } from "./pmu.js";
import { PeRegisters, PSTATE_BIT } from "./registers.js";
import {
  type AskedStage2,
  decodeStage1,
  newStage1Result,
  type Stage1Registers,
  translateStage1,
} from "./stage1.js";
import { FSC } from "./stage1.table.js";
import { executeSystem } from "./system.js";
import type { SystemContext, TlbiScope } from "./system-context.js";
import {
  canFire,
  eventStreamEdges,
  type TimerName,
  ticksLeft,
  ticksToEvent,
  ticksToWrap,
} from "./timer.js";

/** What the PE needs of the VM that it is one of. */
export interface PeHost {
  /** Counter ticks at this moment of the run. */
  counter(): bigint;
  /** Instructions of the run under way that retired before this moment. */
  readonly retiredInRun: number;
  readonly virtualOffset: bigint;
  readonly physicalOffset: bigint;
  /** Every PE of the VM, this one included. */
  readonly pes: readonly Pe[];
  forgetJumps(window: number): void;
  /** Only those to a page. */
  forgetJumpsTo(window: number, vaLow: number, vaHigh: number): void;
}

/** What stopped the run, beside its budget. */
export type PeStop =
  | { readonly kind: "trap"; readonly esr: bigint; readonly far?: bigint }
  | { readonly kind: "abort"; readonly abort: Stage2Abort };

/** Interrupt lines out of the PE, as bits. */
export const LINE = { virtualTimer: 1 << 0, physicalTimer: 1 << 1, pmu: 1 << 2 } as const;

/** Of a slice's slow work: everything cached is forgotten, and found again afterwards. */
const INVALIDATION_COST = 4;
/** Of an address; the rest of a TLBI's operand says whose. */
const VA_BITS = 56;
const WNR = 1 << 6;
/** ISS of a software step: what was stepped is known; it was a load-exclusive. */
const STEP = { ISV: 1 << 24, EX: 1 << 6 } as const;
const PAGE_MASK = 2 ** TLB_PAGE_SHIFT - 1;

export class Pe implements MmuContext, SystemContext {
  readonly window: number;
  readonly registers: PeRegisters;
  readonly mmu: PeMmu;
  readonly debug: PeDebug;
  /** ISS of the virtual SError that waits (HCR_EL2.VSE, VSESR_EL2), or null. */
  serror: number | null = null;
  readonly pmu: Pmu;
  /** The interrupt lines as the host drives them. */
  irqLine = false;
  fiqLine = false;
  /** Retired in the PE's life, but for the run under way. */
  retired = 0;
  /** Told when another PE, or this one, sends an event. */
  onEvent: (() => void) | null = null;
  /** Edges of the event stream that the event register has seen. */
  eventEdges: bigint | null = null;
  stop: PeStop | null = null;
  /** Asked about a store's abort before it stops the run: true when it would pass now. */
  answerAbort: ((abort: Stage2Abort) => boolean) | null = null;
  /**
   * What a slice may still spend outside of WebAssembly, in exceptions and system instructions: a
   * guest that does nothing else must not hold the thread for 100,000 of them.
   */
  slowLeft = 0;
  readonly #host: PeHost;
  readonly #memory: HostMemory;
  #cpu: HostCpu | null = null;

  constructor(memory: HostMemory, window: number, cache: CodeCache, host: PeHost) {
    this.#host = host;
    this.#memory = memory;
    this.window = window;
    this.registers = new PeRegisters(memory, window);
    this.debug = new PeDebug(this.registers);
    this.mmu = new PeMmu(memory, cache, this);
    this.pmu = new Pmu(this.registers, () => this.retired + host.retiredInRun);
    // Counters may be for one level only.
    this.registers.onLevelChange = () => this.pmu.sync();
  }

  /** The host CPU that the vCPU is loaded on. */
  load(cpu: HostCpu): void {
    this.#cpu = cpu;
  }

  get stage2(): AskedStage2 {
    assert(this.#cpu !== null, "a PE runs on a host CPU");
    return this.#cpu;
  }

  get isPrivileged(): boolean {
    return this.registers.el !== 0;
  }

  stage1Registers(): Stage1Registers {
    const { registers } = this;
    return {
      sctlr: registers.get("SCTLR_EL1"),
      tcr: registers.get("TCR_EL1"),
      ttbr0: registers.get("TTBR0_EL1"),
      ttbr1: registers.get("TTBR1_EL1"),
      mair: registers.get("MAIR_EL1"),
    };
  }

  // ── aborts ──────────────────────────────────────────────────────────────────────────────────

  abort(kind: "read" | "write" | "execute", fsc: number, vaLow: number, vaHigh: number): void {
    const { registers } = this;
    this.slowLeft--;
    const lower = !this.isPrivileged;
    const isFetch = kind === "execute";
    const ec = isFetch
      ? lower
        ? EC.instructionAbortLower
        : EC.instructionAbortSame
      : lower
        ? EC.dataAbortLower
        : EC.dataAbortSame;
    const iss = fsc | (kind === "write" ? WNR : 0);
    const far = wide(vaLow, vaHigh);
    takeException(registers, VECTOR.sync, registers.pc, { esr: esrOf(ec, iss), far });
  }

  misalignedPc(vaLow: number, vaHigh: number): void {
    this.slowLeft--;
    const { registers } = this;
    const far = wide(vaLow, vaHigh);
    takeException(registers, VECTOR.sync, registers.pc, { esr: esrOf(EC.pcAlignment, 0), far });
  }

  misalignedSp(): void {
    this.slowLeft--;
    const { registers } = this;
    takeException(registers, VECTOR.sync, registers.pc, { esr: esrOf(EC.spAlignment, 0) });
  }

  stage2Abort(abort: Stage2Abort): boolean {
    const isStore = abort.kind === "write" && abort.walkLevel === null;
    if (isStore && abort.externalIpa === null && this.slowLeft > 1) {
      if (this.answerAbort?.(abort) === true) {
        this.slowLeft--;
        return true;
      }
    }
    this.stop = { kind: "abort", abort };
    return false;
  }

  // ── debugging ───────────────────────────────────────────────────────────────────────────────

  get watches(): boolean {
    return this.debug.watches;
  }

  /** After the registers of debugging changed, or who debugs. */
  debugChanged(): void {
    const { watches } = this.debug;
    this.debug.refresh();
    // What was translated before would pass unseen.
    if (this.debug.watches && !watches) this.mmu.invalidate();
  }

  /** The host debugs from now on, or no longer. */
  debugFor(host: HostDebug | null): void {
    this.debug.host = host;
    this.debugChanged();
  }

  watchpoint(
    vaLow: number,
    vaHigh: number,
    bytes: number,
    isWrite: boolean,
    isPrivileged: boolean,
  ): boolean {
    const alsoReads = isWrite && isAtomic(this.#memory.u32[this.#recordAt(RECORD_WORD)]!);
    const access = { va: wide(vaLow, vaHigh), bytes, isWrite, alsoReads, isPrivileged };
    const hit = this.debug.watchpointOf(access);
    if (hit === null) return false;
    const iss = FSC.debug | (hit.isWrite ? WNR : 0);
    this.#debugException(EC.watchpointLower, iss, hit.far);
    return true;
  }

  /** Index of a word of the record of the instruction in a slow path. */
  #recordAt(offset: number): number {
    return (this.registers.u32(RECORD) + offset) / 4;
  }

  /** To the host that debugs, or to EL1. @param lower class of one from a lower level */
  #debugException(lower: number, iss: number, far?: bigint): void {
    const { registers } = this;
    const isHosts = this.debug.host !== null;
    const esr = esrOf(isHosts || !this.isPrivileged ? lower : lower + 1, iss);
    const syndrome = far === undefined ? { esr } : { esr, far };
    if (isHosts) this.stop = { kind: "trap", ...syndrome };
    else takeException(registers, VECTOR.sync, registers.pc, syndrome);
  }

  /**
   * Runs one instruction of code that is debugged, or takes the exception that comes before it.
   * @param run executes one instruction
   * @returns instructions retired
   */
  runDebugged(run: () => number): number {
    const { debug, registers } = this;
    const isPending = debug.stepsGuest && (registers.pstate & PSTATE_BIT.SS) === 0;
    if (isPending || (debug.host !== null && debug.stepped !== "no")) {
      const { stepped } = debug;
      debug.stepped = "no";
      const isv = stepped === "no" ? 0 : STEP.ISV;
      const ex = stepped === "load-exclusive" ? STEP.EX : 0;
      this.#debugException(EC.softwareStepLower, FSC.debug | isv | ex);
      return 0;
    }
    const low = registers.u32(PC);
    const page = this.mmu.fetchPage(low, registers.u32(PC + 4));
    if (page < 0) {
      if (this.stop === null) debug.exceptionTaken();
      return 0;
    }
    if (debug.breakpointAtPc()) {
      this.#debugException(EC.breakpointLower, FSC.debug);
      return 0;
    }
    const word = this.#memory.u32[(page + (low & PAGE_MASK)) / 4]!;
    const done = run();
    if (done > 0) debug.instructionDone(isLoadExclusive(word));
    else if (this.stop === null) debug.exceptionTaken();
    return done;
  }

  // ── code ────────────────────────────────────────────────────────────────────────────────────

  codeDecoded(page: number): void {
    for (const pe of this.#host.pes) pe.mmu.pageDecoded(page);
  }

  codeDropped(): void {
    for (const pe of this.#host.pes) this.#host.forgetJumps(pe.window);
  }

  // ── the system side ─────────────────────────────────────────────────────────────────────────

  system(word: number, why: number): SystemResult {
    const result = executeSystem(this, word, why);
    this.slowLeft--;
    const isDebugged = this.debug.armed && this.debug.active;
    if (!isDebugged && this.slowLeft > 0) return result;
    // From here on every instruction is looked at, or none is left in this slice.
    if (result === "next") this.registers.pc += 4n;
    return result === "next" || result === "jump" ? "leave-retired" : result;
  }

  get interruptPending(): boolean {
    const { pstate } = this.registers;
    if (this.serror !== null && (pstate & PSTATE_BIT.A) === 0) return true;
    const irq = (pstate & PSTATE_BIT.I) === 0 && this.irqInput;
    return irq || ((pstate & PSTATE_BIT.F) === 0 && this.fiqInput);
  }

  /** What the PE sees: the host's line, or the virtual CPU interface's. */
  get irqInput(): boolean {
    const cpu = this.#cpu;
    return this.irqLine || (cpu !== null && (cpu.gic.virq || cpu.gicv5.virq));
  }

  get fiqInput(): boolean {
    return this.fiqLine || (this.#cpu?.gic.vfiq ?? false);
  }

  get gicv5(): CpuInterface | null {
    return this.#cpu?.gicv5.isResident === true ? this.#cpu.gicv5 : null;
  }

  get icc(): VirtualInterface | null {
    return this.#cpu?.gic.sre === true ? this.#cpu.gic : null;
  }

  /** Takes a pending SError or interrupt that isn't masked, between two instructions. */
  takeInterrupts(): boolean {
    const { registers, serror } = this;
    if (!this.interruptPending) return false;
    if (serror !== null && (registers.pstate & PSTATE_BIT.A) === 0) {
      this.serror = null;
      const esr = esrOf(EC.serror, serror);
      takeException(registers, VECTOR.serror, registers.pc, { esr });
      return true;
    }
    const isFiq = (registers.pstate & PSTATE_BIT.F) === 0 && this.fiqInput;
    takeException(registers, isFiq ? VECTOR.fiq : VECTOR.irq, registers.pc);
    return true;
  }

  counter(which: "virtual" | "physical"): bigint {
    const host = this.#host;
    const offset = which === "virtual" ? host.virtualOffset : host.physicalOffset;
    return BigInt.asUintN(64, host.counter() - offset);
  }

  // ── timers ──────────────────────────────────────────────────────────────────────────────────

  /** LINE bits of the lines that go out of the PE to an interrupt controller. */
  outputLines(): number {
    return this.#timerLines() | (this.pmu.line ? LINE.pmu : 0);
  }

  #timerLines(): number {
    return (
      (this.#isHigh("virtual") ? LINE.virtualTimer : 0) |
      (this.#isHigh("physical") ? LINE.physicalTimer : 0)
    );
  }

  #isHigh(name: TimerName): boolean {
    const { registers } = this;
    return canFire(registers, name) && ticksLeft(registers, name, this.counter(name)) <= 0n;
  }

  get timerFired(): boolean {
    return this.#timerLines() !== 0;
  }

  /** Ticks until a timer's line goes up; null when none will. */
  ticksToFire(): bigint | null {
    return least(this.#ticksToFire("virtual"), this.#ticksToFire("physical"));
  }

  #ticksToFire(name: TimerName): bigint | null {
    const { registers } = this;
    if (!canFire(registers, name)) return null;
    const left = ticksLeft(registers, name, this.counter(name));
    return left > 0n ? left : null;
  }

  /** Ticks until a timer's line changes by itself; null when none will. */
  ticksToChange(): bigint | null {
    return least(this.#ticksToChange("virtual"), this.#ticksToChange("physical"));
  }

  #ticksToChange(name: TimerName): bigint | null {
    if (!canFire(this.registers, name)) return null;
    return this.#ticksToFire(name) ?? ticksToWrap(this.counter(name));
  }

  /** Ticks until the event stream sets the event register; null when it is off. */
  ticksToEvent(): bigint | null {
    return ticksToEvent(this.registers, this.counter("virtual"));
  }

  updateEvents(): void {
    const edges = eventStreamEdges(this.registers, this.counter("virtual"));
    if (edges !== null && this.eventEdges !== null && edges !== this.eventEdges) {
      this.registers.event = true;
    }
    this.eventEdges = edges;
  }

  eventStreamChanged(): void {
    this.eventEdges = null;
    this.updateEvents();
  }

  translationChanged(): void {
    this.slowLeft -= INVALIDATION_COST;
    this.mmu.registersChanged();
    this.#host.forgetJumps(this.window);
  }

  tlbi({ va, isBroadcast, isLastLevel }: TlbiScope): void {
    const page = va === null ? 0n : BigInt.asIntN(VA_BITS, va << BigInt(TLB_PAGE_SHIFT));
    const [low, high] = [Number(BigInt.asIntN(32, page)), Number(BigInt.asIntN(32, page >> 32n))];
    let isWide = false;
    for (const pe of isBroadcast ? this.#host.pes : [this]) {
      if (va !== null && pe.mmu.invalidatePage(low, high, isLastLevel)) {
        this.#host.forgetJumpsTo(pe.window, low, high);
        continue;
      }
      isWide = true;
      pe.mmu.invalidate();
      this.#host.forgetJumps(pe.window);
    }
    if (isWide) this.slowLeft -= INVALIDATION_COST;
  }

  sendEvent(): void {
    for (const pe of this.#host.pes) {
      pe.registers.event = true;
      pe.onEvent?.();
    }
  }

  translateAddress(va: bigint, isWrite: boolean, isPrivileged: boolean): boolean {
    const result = newStage1Result();
    const regime = decodeStage1(this.stage1Registers());
    const [low, high] = [Number(BigInt.asIntN(32, va)), Number(BigInt.asIntN(32, va >> 32n))];
    const kind = isWrite ? "write" : "read";
    // Permission to write is looked at, but nothing gets dirty.
    const asked = isWrite ? "check" : "read";
    const done = translateStage1(
      this.stage2,
      this.#memory,
      regime,
      low,
      high,
      asked,
      isPrivileged,
      result,
    );
    if (done === "stage2") {
      const externalIpa = result.external ? result.ipa : null;
      const abort = { kind, vaLow: low, vaHigh: high, bytes: 1, walkLevel: result.level } as const;
      this.stage2Abort({ ...abort, externalIpa });
      return false;
    }
    const RES1 = 1n << 11n;
    const failure = 1n | (BigInt(result.fsc) << 1n) | RES1;
    const NORMAL = 0xffn << 56n;
    const page = BigInt(result.ipa) & ~0xfffn; // tidy: PAR_EL1 holds bits from 12 on
    const attributes = result.device ? 0n : NORMAL;
    this.registers.set("PAR_EL1", done === "ok" ? page | attributes | RES1 : failure);
    return true;
  }

  trap(esr: bigint): void {
    this.stop = { kind: "trap", esr };
  }
}

function least(a: bigint | null, b: bigint | null): bigint | null {
  if (a === null || b === null) return a ?? b;
  return a < b ? a : b;
}

function wide(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
