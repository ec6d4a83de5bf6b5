// Owns: one machine that executes random blocks: loading, stopping at an exact count, going on
// behind faults, and its state for comparison. Test process.
import type { Prng } from "../../src/base/prng.js";
import {
  EXCLUSIVE_LOW,
  EXCLUSIVE_SIZE,
  EXCLUSIVE_VA,
  FP_TRAP,
  SLOT_ZERO,
  slotV,
  slotX,
  TPIDR_EL0,
} from "../../src/machine/a64/window.js";
import type { FlatMachine } from "../vectors/flat-machine.js";
import type { Block } from "./block.js";
import { CODE, CODE_PAGES, DATA, DATA_PAGES, PAGE } from "./layout.js";

/** Events after which a block has shown enough of them. */
const EVENTS_MAX = 60;

/** A random length of the next run, up to what is left. */
export type Slices = (left: number) => number;

export function slicesOf(prng: Prng): Slices {
  switch (prng.below(5)) {
    case 0:
      return () => 1;
    case 1:
      return (left) => Math.min(left, 1 + prng.below(8));
    case 2:
      return (left) => Math.min(left, 1 + prng.below(120));
    case 3:
      return (left) => Math.min(left, 1 + prng.below(prng.below(4) === 0 ? 600 : 20));
    default:
      return (left) => left;
  }
}

export class Side {
  readonly machine: FlatMachine;
  /** Instructions that retired, and those that faulted. */
  steps = 0;
  retired = 0;
  ended = false;
  /** Why the system side or memory refused, in order, each with its place. */
  readonly events: string[] = [];

  constructor(machine: FlatMachine) {
    this.machine = machine;
  }

  load({ at, words, state, fpTrap }: Block): void {
    const { machine } = this;
    const { registers } = machine;
    machine.reset();
    for (let n = 0; n < CODE_PAGES; n++) machine.map(CODE + n * PAGE);
    for (let n = 0; n < DATA_PAGES; n++) machine.map(DATA + n * PAGE);
    for (const [i, word] of words.entries()) machine.writeWord(at + 4 * i, word);
    machine.u8.set(state.data, machine.host(DATA));
    for (const [n, value] of state.x.entries()) machine.setX(n, value);
    for (const [n, value] of state.v.entries()) registers.setV(n, value);
    machine.sp = state.sp;
    registers.nzcv = state.nzcv;
    registers.fpcr = state.fpcr;
    registers.fpsr = state.fpsr;
    registers.set("TPIDR_EL0", state.tpidr);
    registers.setU64(EXCLUSIVE_LOW, 0n);
    registers.setU64(EXCLUSIVE_LOW + 8, 0n);
    registers.setU32(EXCLUSIVE_SIZE, 0);
    registers.setU32(FP_TRAP, fpTrap ? 1 : 0);
    machine.pc = BigInt(at);
    this.steps = 0;
    this.retired = 0;
    this.ended = false;
    this.events.length = 0;
  }

  /** Runs to an exact number of steps. @param before each run @returns whether it goes on */
  advance(total: number, slices: Slices, before: () => void): boolean {
    while (this.steps < total && !this.ended) {
      const budget = slices(total - this.steps);
      before();
      const done = this.machine.run(budget);
      this.steps += done;
      this.retired += done;
      if (done > budget) this.#event(`${done} instructions of ${budget} retired`);
      if (done < budget) this.#stopped();
    }
    return !this.ended;
  }

  /** END, or a fault: the instruction is left out, as a handler might do. */
  #stopped(): void {
    const { machine } = this;
    const { problem, pc } = machine;
    if (problem === null) {
      this.ended = true;
      return;
    }
    this.#event(problem);
    machine.problem = null;
    machine.pc = pc + 4n;
    this.steps++;
    const isElsewhere = pc < BigInt(CODE) || pc >= BigInt(CODE + CODE_PAGES * PAGE);
    if (isElsewhere || this.events.length === EVENTS_MAX) this.ended = true;
  }

  #event(what: string): void {
    this.events.push(`step ${this.steps}, pc 0x${this.machine.pc.toString(16)}: ${what}`);
  }

  /** Instruction that comes next; 0 where there is no code. */
  get word(): number {
    const at = Number(this.machine.pc);
    return this.machine.host(at) < 0 ? 0 : this.#u32(this.machine.host(at));
  }

  #u32(at: number): number {
    const { u8 } = this.machine;
    return (u8[at]! | (u8[at + 1]! << 8) | (u8[at + 2]! << 16) | (u8[at + 3]! << 24)) >>> 0;
  }
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** The named 64-bit words of a machine's state. */
function* namedState({
  machine,
  steps,
  retired,
  ended,
  events,
}: Side): Generator<[string, string]> {
  const { registers } = machine;
  yield ["steps", String(steps)];
  yield ["retired", String(retired)];
  yield ["ended", String(ended)];
  yield ["pc", hex(machine.pc)];
  yield ["events", events.slice(-3).join("; ")];
  for (let n = 0; n < 31; n++) yield [`x${n}`, hex(registers.x(n))];
  yield ["zero", hex(registers.u64(SLOT_ZERO))];
  yield ["sp", hex(machine.sp)];
  for (let n = 0; n < 32; n++) yield [`v${n}`, hex(registers.v(n))];
  yield ["nzcv", hex(registers.nzcv)];
  yield ["fpcr", hex(registers.fpcr)];
  yield ["fpsr", hex(registers.fpsr)];
  yield ["tpidr", hex(registers.u64(TPIDR_EL0))];
  yield ["monitor", hex(registers.u64(EXCLUSIVE_VA))];
}

function sameBytes(a: Side, b: Side, at: number, bytes: number): boolean {
  const part = ({ machine }: Side): Uint8Array => machine.u8.subarray(at, at + bytes);
  return Buffer.compare(part(a), part(b)) === 0;
}

function sameRegisters(a: Side, b: Side): boolean {
  const { window } = a.machine.registers;
  return (
    sameBytes(a, b, window + slotX(0), slotX(33)) &&
    sameBytes(a, b, window + slotV(0), 16 * 32) &&
    a.machine.pc === b.machine.pc &&
    a.steps === b.steps &&
    a.retired === b.retired &&
    a.ended === b.ended &&
    a.events.length === b.events.length &&
    a.machine.registers.nzcv === b.machine.registers.nzcv &&
    a.machine.registers.fpcr === b.machine.registers.fpcr &&
    a.machine.registers.fpsr === b.machine.registers.fpsr
  );
}

function* differentBytes(a: Side, b: Side): Generator<string> {
  for (const [base, pages] of [
    [CODE, CODE_PAGES],
    [DATA, DATA_PAGES],
  ] as const) {
    const host = a.machine.host(base);
    if (sameBytes(a, b, host, pages * PAGE)) continue;
    for (let at = 0; at < pages * PAGE; at++) {
      const [x, y] = [a.machine.u8[host + at]!, b.machine.u8[host + at]!];
      if (x !== y) yield `byte ${hex(base + at)} is ${hex(y)}, not ${hex(x)}`;
    }
  }
}

/** How `b` differs from `a`, the reference. */
export function differencesOf(a: Side, b: Side): string[] {
  const found: string[] = [];
  if (!sameRegisters(a, b) || a.events.join() !== b.events.join()) {
    const theirs = new Map(namedState(b));
    for (const [name, value] of namedState(a)) {
      const other = theirs.get(name);
      if (other !== value) found.push(`${name} is ${other}, not ${value}`);
    }
  }
  for (const text of differentBytes(a, b)) {
    found.push(text);
    if (found.length > 20) break;
  }
  return found;
}
