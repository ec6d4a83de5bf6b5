// Owns: one PE put together: registers, MMU and system side, between the core and the host CPU.
// VM thread.
//
//   core ──access, fetch──▶ PeMmu ──▶ stage 2 of the host CPU
//        ──system──▶ executeSystem
//   abort to EL1, trap to EL2, abort of stage 2: this object notes what stops the run
import { assert } from "../../../base/assert.js";
import type { HostCpu } from "../../host-cpu.js";
import type { HostMemory } from "../../host-memory.js";
import type { CodeCache } from "../code-cache.js";
import type { SystemResult } from "../core.js";
import { EC, esrOf, takeException, VECTOR } from "./exception.js";
import { type MmuContext, PeMmu, type Stage2Abort } from "./mmu.js";
import { Pmu } from "./pmu.js";
import { PeRegisters, PSTATE_BIT } from "./registers.js";
import {
  decodeStage1,
  newStage1Result,
  type Stage1Registers,
  type Stage2,
  translateStage1,
} from "./stage1.js";
import { executeSystem, type SystemContext } from "./system.js";
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
}

/** What stopped the run, beside its budget. */
export type PeStop =
  | { readonly kind: "trap"; readonly esr: bigint }
  | { readonly kind: "abort"; readonly abort: Stage2Abort };

/** Interrupt lines out of the PE, as bits. */
export const LINE = { virtualTimer: 1 << 0, physicalTimer: 1 << 1, pmu: 1 << 2 } as const;

const WNR = 1 << 6;

export class Pe implements MmuContext, SystemContext {
  readonly window: number;
  readonly registers: PeRegisters;
  readonly mmu: PeMmu;
  readonly pmu: Pmu;
  readonly watches = false;
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
  readonly #host: PeHost;
  readonly #memory: HostMemory;
  #cpu: HostCpu | null = null;

  constructor(memory: HostMemory, window: number, cache: CodeCache, host: PeHost) {
    this.#host = host;
    this.#memory = memory;
    this.window = window;
    this.registers = new PeRegisters(memory, window);
    this.mmu = new PeMmu(memory, cache, this);
    this.pmu = new Pmu(this.registers, () => this.retired + host.retiredInRun);
    // Counters may be for one level only.
    this.registers.onLevelChange = () => this.pmu.sync();
  }

  /** The host CPU that the vCPU is loaded on. */
  load(cpu: HostCpu): void {
    this.#cpu = cpu;
  }

  get stage2(): Stage2 {
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
    const { registers } = this;
    const far = wide(vaLow, vaHigh);
    takeException(registers, VECTOR.sync, registers.pc, { esr: esrOf(EC.pcAlignment, 0), far });
  }

  misalignedSp(): void {
    const { registers } = this;
    takeException(registers, VECTOR.sync, registers.pc, { esr: esrOf(EC.spAlignment, 0) });
  }

  stage2Abort(abort: Stage2Abort): void {
    this.stop = { kind: "abort", abort };
  }

  watchpoint(): boolean {
    return false;
  }

  // ── code ────────────────────────────────────────────────────────────────────────────────────

  codeDecoded(): void {
    for (const pe of this.#host.pes) pe.mmu.invalidate();
  }

  codeDropped(): void {
    for (const pe of this.#host.pes) this.#host.forgetJumps(pe.window);
  }

  // ── the system side ─────────────────────────────────────────────────────────────────────────

  system(word: number, why: number): SystemResult {
    return executeSystem(this, word, why);
  }

  get interruptPending(): boolean {
    const { pstate } = this.registers;
    const irq = this.irqLine && (pstate & PSTATE_BIT.I) === 0;
    return irq || (this.fiqLine && (pstate & PSTATE_BIT.F) === 0);
  }

  /** Takes a pending interrupt that isn't masked, between two instructions. */
  takeInterrupts(): void {
    const { registers } = this;
    if (!this.interruptPending) return;
    const isFiq = this.fiqLine && (registers.pstate & PSTATE_BIT.F) === 0;
    takeException(registers, isFiq ? VECTOR.fiq : VECTOR.irq, registers.pc);
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
    this.mmu.registersChanged();
    this.#host.forgetJumps(this.window);
  }

  tlbi(): void {
    for (const pe of this.#host.pes) {
      pe.mmu.invalidate();
      this.#host.forgetJumps(pe.window);
    }
  }

  sendEvent(): void {
    for (const pe of this.#host.pes) {
      pe.registers.event = true;
      pe.onEvent?.();
    }
  }

  translateAddress(va: bigint, isWrite: boolean, isPrivileged: boolean): void {
    const result = newStage1Result();
    const regime = decodeStage1(this.stage1Registers());
    const [low, high] = [Number(BigInt.asIntN(32, va)), Number(BigInt.asIntN(32, va >> 32n))];
    const kind = isWrite ? "write" : "read";
    const done = translateStage1(
      this.stage2,
      this.#memory,
      regime,
      low,
      high,
      kind,
      isPrivileged,
      result,
    );
    // A failed walk through stage 2 is told as a translation fault with S (bit 9) and PTW (bit 8).
    const failure = done === "stage2" ? 0x301n | (4n << 1n) : 1n | (BigInt(result.fsc) << 1n);
    const NORMAL = 0xffn << 56n;
    const page = BigInt(result.ipa) & ~0xfffn; // tidy: PAR_EL1 holds bits from 12 on
    const attributes = result.device ? 0n : NORMAL;
    this.registers.set("PAR_EL1", done === "ok" ? page | attributes | (1n << 11n) : failure);
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
