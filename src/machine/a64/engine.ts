// Owns: a vCPU's A64 engine: slices of guest code, and what stops them, as KVM's loop asks for it.
// VM thread.
//
//   slice ─ take interrupts ─ run ─▶ budget used | trap to EL2 | abort of stage 2
import { assert } from "../../base/assert.js";
import type { Saved } from "../../base/saved.js";
import type { GuestEngine, PendingAccess, Stop } from "../engine.js";
import type { Host } from "../host.js";
import type { HostCpu } from "../host-cpu.js";
import type { A64Machine } from "./a64-machine.js";
import type { Stepped } from "./pe/debug.js";
import { EC, ESR_IL, esrOf, takeException, VECTOR } from "./pe/exception.js";
import type { Stage2Abort } from "./pe/mmu.js";
import type { Pe } from "./pe/pe.js";
import { FSC } from "./pe/stage1.table.js";
import { type AbortToEl2, type AccessSyndrome, abortEsr, accessSyndrome } from "./pe/syndrome.js";
import type { PeConfig } from "./pe/sysreg.table.js";
import {
  BUDGET,
  EXCLUSIVE_VA,
  FP_TRAP,
  RECORD,
  RECORD_WORD,
  REFUND,
  SLOT_SINK,
  STATE,
  SYSREGS,
  SYSREGS_BYTES,
} from "./window.js";

/** Instructions of one slice: at most half a millisecond. */
const SLICE_INSTRUCTIONS = 100_000;
/** Exceptions and system instructions of one slice: some milliseconds. */
const SLICE_SLOW = 500;
/** What an exception or exit costs of a slice, so that endless ones end it. */
const STOP_COST = 8;
const INSTRUCTION_BYTES = 4n;

interface Pending extends PendingAccess {
  readonly kind: "read" | "write" | "execute";
  /** Whether it was the hardware's own access to a table of stage 1. */
  readonly walk: boolean;
  /** null where the hardware doesn't describe the access (ISV is 0). */
  readonly syndrome: AccessSyndrome | null;
}

interface Beside {
  readonly retired: number;
  readonly esr: bigint;
  readonly far: bigint;
  readonly externalIpa: number;
  readonly walkLevel: number | null;
  readonly stepped: Stepped;
  readonly pending: Pending | null;
  readonly irqLine: boolean;
  readonly fiqLine: boolean;
  readonly eventEdges: bigint | null;
}

export interface A64Latent extends Beside {
  /** The exclusive monitor, as it lies in the window. */
  readonly monitor: Uint8Array;
  /** The event register. */
  readonly event: boolean;
}

/** What the engine needs to know of time. */
export interface EngineClock {
  /** Instructions that take so many ticks, at least; infinite when time is not theirs to tell. */
  instructionsFor(ticks: bigint): number;
}

export class A64Engine implements GuestEngine {
  readonly kind = "a64";
  readonly sliceMax = SLICE_INSTRUCTIONS;
  /** ESR_EL2 of the last exit, FAR_EL2 of the last abort or watchpoint. */
  get esr(): bigint {
    if (this.#abort !== null) this.#esr = abortEsr(this.#abort);
    this.#abort = null;
    return this.#esr;
  }
  get far(): bigint {
    return (BigInt(this.#farHigh >>> 0) << 32n) | BigInt(this.#farLow >>> 0);
  }
  #setFar(value: bigint): void {
    this.#farLow = Number(value & 0xffff_ffffn);
    this.#farHigh = Number(value >> 32n);
  }
  #esr = 0n;
  /** What ESR_EL2 is made of, when it is asked for; most aborts are mapped and forgotten. */
  #abort: AbortToEl2 | null = null;
  #farLow = 0;
  #farHigh = 0;
  /** IPA of the last abort that nothing answered. */
  externalIpa = 0;
  /** Level of the walk that the last abort was of, or null. */
  #walkLevel: number | null = null;
  readonly pe: Pe;
  readonly #machine: A64Machine;
  readonly #host: Host;
  readonly #clock: EngineClock;
  #pending: Pending | null = null;
  #stage2Version = -1;

  constructor(host: Host, machine: A64Machine, pe: Pe, clock: EngineClock) {
    this.#host = host;
    this.#machine = machine;
    this.pe = pe;
    this.#clock = clock;
  }

  get retired(): number {
    return this.pe.retired;
  }

  /** What the PE was told about itself at the last reset. */
  config: PeConfig = { mpidr: 0n, ipaBits: 40 };

  /** Resets the PE: KVM_ARM_VCPU_INIT. */
  reset(config: PeConfig): void {
    this.config = config;
    this.pe.registers.reset(config);
    this.pe.debug.stepped = "no";
    this.pe.debugChanged();
    this.pe.pmu.config = config.pmu ?? null;
    this.pe.pmu.restart();
    this.pe.mmu.registersChanged();
    this.#machine.forgetJumps(this.pe.window);
    this.pe.serror = null;
    this.#pending = null;
  }

  /** After registers were written from outside. */
  registersChanged(): void {
    this.pe.registers.refreshLevel();
    this.pe.debugChanged();
    this.pe.mmu.registersChanged();
    this.pe.eventEdges = null;
    this.#machine.forgetJumps(this.pe.window);
  }

  /**
   * @param answer asked about a store's abort, as after an exit, but without one: whether the store
   *   may be done again. Nothing that the guest or the VM keeps tells the two ways apart.
   */
  execute(cpu: HostCpu, budget: number, answer: (() => boolean) | null = null): Stop {
    const { pe } = this;
    pe.load(cpu);
    pe.answerAbort = answer === null ? null : (abort) => this.#isAnswered(cpu, abort, answer);
    this.#pending = null;
    if (this.#stage2Version !== this.#host.stage2Version) {
      this.#stage2Version = this.#host.stage2Version;
      pe.mmu.invalidate();
      this.#machine.forgetJumps(pe.window);
    }
    const stop = this.#slice(cpu, budget);
    pe.pmu.sync();
    // How a slice ended must not show in the state: a replay may cut it elsewhere.
    for (const word of [BUDGET, REFUND, RECORD]) pe.registers.setU32(word, 0);
    // The tiers don't write register 31 alike, and who runs what depends on the slices.
    pe.registers.setU64(SLOT_SINK, 0n);
    this.#machine.retiredBefore = 0;
    return stop;
  }

  #slice(cpu: HostCpu, budget: number): Stop {
    const { pe } = this;
    const lines = pe.outputLines();
    let left = budget;
    pe.slowLeft = SLICE_SLOW;
    while (left > 0 && pe.slowLeft > 0) {
      // What asks for maintenance from the start would never let the guest in.
      if (pe.outputLines() !== lines || (left < budget && cpu.gic.maintenance)) return "line";
      if (pe.takeInterrupts()) pe.debug.exceptionTaken();
      pe.stop = null;
      const isDebugged = pe.debug.armed && pe.debug.active;
      const done = isDebugged
        ? pe.runDebugged(() => this.#machine.run(pe, 1))
        : this.#machine.run(pe, Math.min(left, this.#untilLineChanges()));
      pe.retired += done;
      this.#machine.retiredBefore += done;
      left -= Math.max(done, STOP_COST);
      if (pe.stop !== null) return this.#stopped(cpu);
    }
    return "slice";
  }

  /** Instructions after which a line out of the PE may change by itself. */
  #untilLineChanges(): number {
    const overflow = this.pe.pmu.instructionsToOverflow;
    const ticks = this.pe.ticksToChange();
    return ticks === null ? overflow : Math.min(overflow, this.#clock.instructionsFor(ticks));
  }

  #stopped(cpu: HostCpu): Stop {
    const { stop } = this.pe;
    assert(stop !== null, "something stopped the run");
    this.#walkLevel = null;
    if (stop.kind === "trap") {
      if (stop.far !== undefined) this.#setFar(stop.far);
      this.#esr = stop.esr;
      this.#abort = null;
      return "trap";
    }
    const { kind, bytes, walkLevel, externalIpa } = stop.abort;
    const walk = walkLevel !== null;
    const syndrome = this.#note(cpu, stop.abort);
    // Nothing to map or emulate: for KVM it is an exception like a trap.
    if (externalIpa !== null) {
      this.externalIpa = externalIpa;
      return "trap";
    }
    this.#pending = { kind, walk, isWrite: kind === "write", length: bytes, syndrome };
    return "abort";
  }

  /** ESR_EL2 and FAR_EL2 of an abort. */
  #note(cpu: HostCpu, abort: Stage2Abort): AccessSyndrome | null {
    const { kind, walkLevel, externalIpa } = abort;
    const walk = walkLevel !== null;
    const syndrome = kind === "execute" || walk ? null : this.#syndrome();
    const isExternal = externalIpa !== null;
    const { kind: faultKind, level, hdbssf } = cpu.fault;
    this.#abort = {
      isFetch: kind === "execute",
      isWrite: walk ? cpu.fault.isWrite : kind === "write",
      walkLevel,
      isExternal,
      syndrome,
      faultKind,
      level,
      hdbssf: !isExternal && hdbssf,
    };
    this.#farLow = abort.vaLow;
    this.#farHigh = abort.vaHigh;
    this.#walkLevel = walkLevel;
    return syndrome;
  }

  #isAnswered(cpu: HostCpu, abort: Stage2Abort, answer: () => boolean): boolean {
    this.#note(cpu, abort);
    return answer();
  }

  /** Of the instruction at PC, as its record has it: it was just decoded. */
  #syndrome(): AccessSyndrome | null {
    const { registers } = this.pe;
    const record = registers.u32(RECORD);
    return accessSyndrome(this.#host.memory.u32[(record + RECORD_WORD) / 4]!);
  }

  get current(): Pending {
    assert(this.#pending !== null, "an access waits");
    return this.#pending;
  }

  get hasPending(): boolean {
    return this.#pending !== null;
  }

  /** Whether the access can be emulated from its syndrome. */
  get isDescribed(): boolean {
    return this.current.syndrome !== null;
  }

  storeBytes(): Uint8Array {
    const { syndrome } = this.current;
    assert(syndrome !== null, "the access is described");
    const value = this.pe.registers.x(syndrome.rt);
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    return bytes.slice(0, 2 ** syndrome.size);
  }

  completeWithoutMemory(loaded: Uint8Array | null): void {
    const { syndrome } = this.current;
    const { registers } = this.pe;
    if (loaded !== null && syndrome !== null) {
      const bytes = new Uint8Array(8);
      bytes.set(loaded.subarray(0, 2 ** syndrome.size));
      let value = new DataView(bytes.buffer).getBigUint64(0, true);
      const bits = 8 * 2 ** syndrome.size;
      if (syndrome.signed) value = BigInt.asIntN(bits, value);
      registers.setX(syndrome.rt, BigInt.asUintN(syndrome.is64 ? 64 : 32, value));
    }
    registers.pc += INSTRUCTION_BYTES;
    this.pe.debug.instructionDone(false);
    this.pe.retired++;
    this.pe.pmu.sync();
    this.#pending = null;
  }

  /** A synchronous external abort at PC, of an instruction or of data, where the last abort was. */
  injectExternalAbort(isFetch: boolean): void {
    const { registers } = this.pe;
    const lower = isFetch ? EC.instructionAbortLower : EC.dataAbortLower;
    const level = this.#walkLevel;
    const fsc = level === null ? FSC.external : FSC.externalOnWalk | level;
    // As KVM: IL is the last exit's, and nothing says whether it was a store.
    const esr = esrOf(registers.el === 0 ? lower : lower + 1, fsc) & ~ESR_IL;
    const syndrome = { esr: esr | (this.esr & ESR_IL), far: this.far };
    takeException(registers, VECTOR.sync, registers.pc, syndrome);
    this.#pending = null;
  }

  /** The exception of the BRK at PC, for which the last exit was, is taken to EL1 after all. */
  takeBreakpoint(): void {
    const { registers } = this.pe;
    takeException(registers, VECTOR.sync, registers.pc, { esr: this.esr });
    this.registersChanged();
  }

  save(): Saved {
    const { u8 } = this.#host.memory;
    const { window } = this.pe;
    const data = {
      state: STATE.map(([from, to]) => u8.slice(window + from, window + to)),
      sysregs: u8.slice(window + SYSREGS, window + SYSREGS + SYSREGS_BYTES),
      serror: this.pe.serror,
      ...this.#beside(),
    };
    return { kind: "a64", version: 1, data };
  }

  /** What lies beside the registers. */
  #beside(): Beside {
    return {
      retired: this.retired,
      esr: this.esr,
      far: this.far,
      externalIpa: this.externalIpa,
      walkLevel: this.#walkLevel,
      stepped: this.pe.debug.stepped,
      pending: this.#pending,
      irqLine: this.pe.irqLine,
      fiqLine: this.pe.fiqLine,
      eventEdges: this.pe.eventEdges,
    };
  }

  #loadBeside(data: Beside): void {
    this.pe.retired = data.retired;
    this.pe.pmu.restart();
    this.pe.irqLine = data.irqLine;
    this.pe.fiqLine = data.fiqLine;
    this.#esr = data.esr;
    this.#abort = null;
    this.#setFar(data.far);
    this.externalIpa = data.externalIpa;
    this.#walkLevel = data.walkLevel;
    this.pe.debug.stepped = data.stepped;
    this.#pending = data.pending;
    this.pe.eventEdges = data.eventEdges;
  }

  /** The state that no register tells: what another host needs beside those. */
  latent(): A64Latent {
    const { u8 } = this.#host.memory;
    const at = this.pe.window + EXCLUSIVE_VA;
    const monitor = u8.slice(at, this.pe.window + FP_TRAP);
    return { ...this.#beside(), monitor, event: this.pe.registers.event };
  }

  /** After the registers were set. */
  loadLatent({ monitor, event, ...beside }: A64Latent): void {
    const at = this.pe.window + EXCLUSIVE_VA;
    assert(monitor.length === FP_TRAP - EXCLUSIVE_VA, "the monitor has its size");
    this.#host.memory.u8.set(monitor, at);
    this.pe.registers.event = event;
    this.#loadBeside(beside);
  }

  load(saved: Saved): void {
    const data = saved.data as Beside & {
      state: Uint8Array[];
      sysregs: Uint8Array;
      serror: number | null;
    };
    const { u8 } = this.#host.memory;
    const { window } = this.pe;
    for (const [i, [from]] of STATE.entries()) u8.set(data.state[i]!, window + from);
    u8.set(data.sysregs, window + SYSREGS);
    this.#loadBeside(data);
    this.pe.serror = data.serror;
    this.#stage2Version = -1;
    this.#machine.forgetCode();
    this.pe.mmu.clear();
    this.registersChanged();
    this.pe.eventEdges = data.eventEdges;
  }
}
