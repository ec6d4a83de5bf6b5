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
import type { Pe } from "./pe/pe.js";
import { FSC } from "./pe/stage1.table.js";
import { type AccessSyndrome, accessSyndrome } from "./pe/syndrome.js";
import type { PeConfig } from "./pe/sysreg.table.js";
import { BUDGET, RECORD, RECORD_WORD, REFUND, STATE, SYSREGS, SYSREGS_BYTES } from "./window.js";

/** Instructions of one slice: at most half a millisecond. */
const SLICE_INSTRUCTIONS = 100_000;
/** What an exception or exit costs of a slice, so that endless ones end it. */
const STOP_COST = 8;
const INSTRUCTION_BYTES = 4n;

interface Pending extends PendingAccess {
  readonly kind: "read" | "write" | "execute";
  readonly walk: boolean;
  readonly vaLow: number;
  readonly vaHigh: number;
  /** null where the hardware doesn't describe the access (ISV is 0). */
  readonly syndrome: AccessSyndrome | null;
}

/** What the engine needs to know of time. */
export interface EngineClock {
  /** Instructions that take so many ticks, at least; infinite when time is not theirs to tell. */
  instructionsFor(ticks: bigint): number;
}

export class A64Engine implements GuestEngine {
  readonly kind = "a64";
  readonly sliceMax = SLICE_INSTRUCTIONS;
  /** ESR_EL2 of the last trap. */
  esr = 0n;
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
    this.pe.pmu.config = config.pmu ?? null;
    this.pe.pmu.restart();
    this.pe.mmu.registersChanged();
    this.#machine.forgetJumps(this.pe.window);
    this.#pending = null;
  }

  /** After registers were written from outside. */
  registersChanged(): void {
    this.pe.registers.refreshLevel();
    this.pe.mmu.registersChanged();
    this.pe.eventEdges = null;
    this.#machine.forgetJumps(this.pe.window);
  }

  execute(cpu: HostCpu, budget: number): Stop {
    const { pe } = this;
    pe.load(cpu);
    this.#pending = null;
    if (this.#stage2Version !== this.#host.stage2Version) {
      this.#stage2Version = this.#host.stage2Version;
      pe.mmu.invalidate();
      this.#machine.forgetJumps(pe.window);
    }
    const stop = this.#slice(budget);
    pe.pmu.sync();
    // How a slice ended must not show in the state: a replay may cut it elsewhere.
    for (const word of [BUDGET, REFUND, RECORD]) pe.registers.setU32(word, 0);
    this.#machine.retiredBefore = 0;
    return stop;
  }

  #slice(budget: number): Stop {
    const { pe } = this;
    const lines = pe.outputLines();
    let left = budget;
    while (left > 0) {
      if (pe.outputLines() !== lines) return "line";
      pe.takeInterrupts();
      pe.stop = null;
      const done = this.#machine.run(pe, Math.min(left, this.#untilLineChanges()));
      pe.retired += done;
      this.#machine.retiredBefore += done;
      left -= Math.max(done, STOP_COST);
      if (pe.stop !== null) return this.#stopped();
    }
    return "slice";
  }

  /** Instructions after which a line out of the PE may change by itself. */
  #untilLineChanges(): number {
    const overflow = this.pe.pmu.instructionsToOverflow;
    const ticks = this.pe.ticksToChange();
    return ticks === null ? overflow : Math.min(overflow, this.#clock.instructionsFor(ticks));
  }

  #stopped(): Stop {
    const { stop } = this.pe;
    assert(stop !== null, "something stopped the run");
    if (stop.kind === "trap") {
      this.esr = stop.esr;
      return "trap";
    }
    const { kind, vaLow, vaHigh, bytes, walk } = stop.abort;
    const syndrome = kind === "execute" || walk ? null : this.#syndrome();
    const isWrite = kind === "write";
    this.#pending = { kind, walk, vaLow, vaHigh, isWrite, length: bytes, syndrome };
    return "abort";
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
    this.pe.retired++;
    this.pe.pmu.sync();
    this.#pending = null;
  }

  /** Gives the waiting access back to the guest as a synchronous external abort. */
  injectExternalAbort(): void {
    const { kind, vaLow, vaHigh, walk } = this.current;
    const fsc = walk ? FSC.externalOnWalk | 3 : FSC.external;
    this.pe.abort(kind, fsc, vaLow, vaHigh);
    this.#pending = null;
  }

  save(): Saved {
    const { u8 } = this.#host.memory;
    const { window } = this.pe;
    const data = {
      state: STATE.map(([from, to]) => u8.slice(window + from, window + to)),
      sysregs: u8.slice(window + SYSREGS, window + SYSREGS + SYSREGS_BYTES),
      retired: this.retired,
      esr: this.esr,
      pending: this.#pending,
      irqLine: this.pe.irqLine,
      fiqLine: this.pe.fiqLine,
      eventEdges: this.pe.eventEdges,
    };
    return { kind: "a64", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      state: Uint8Array[];
      sysregs: Uint8Array;
      retired: number;
      esr: bigint;
      pending: Pending | null;
      irqLine: boolean;
      fiqLine: boolean;
      eventEdges: bigint | null;
    };
    const { u8 } = this.#host.memory;
    const { window } = this.pe;
    for (const [i, [from]] of STATE.entries()) u8.set(data.state[i]!, window + from);
    u8.set(data.sysregs, window + SYSREGS);
    this.pe.retired = data.retired;
    this.pe.pmu.restart();
    this.pe.irqLine = data.irqLine;
    this.pe.fiqLine = data.fiqLine;
    this.esr = data.esr;
    this.#pending = data.pending;
    this.#stage2Version = -1;
    this.#machine.forgetCode();
    this.pe.mmu.clear();
    this.registersChanged();
    this.pe.eventEdges = data.eventEdges;
  }
}
