// Owns: vector files: their header, lines, state, and running one line. Test process.
// @source the recorder's README: format, defaults
import { END, type FlatMachine } from "./flat-machine.js";

export interface Header {
  readonly format: string;
  readonly kind: "single" | "block";
  readonly group: string;
  readonly addr: string;
  readonly window: string;
  readonly windowSize: number;
}

type State = Readonly<Record<string, string | Readonly<Record<string, string>>>>;

export interface Vector {
  readonly insn?: string;
  readonly code?: readonly string[];
  readonly asm?: string | readonly string[];
  readonly addr?: string;
  readonly in: State;
  readonly out: State;
}

const STEPS_MAX = 100_000;
const MASK = 2n ** 64n - 1n;
const SP = 0x400c1000n;

interface Expected {
  readonly x: bigint[];
  readonly v: bigint[];
  sp: bigint;
  nzcv: number;
  fpcr: number;
  fpsr: number;
  readonly mem: Uint8Array;
}

function defaults(windowSize: number): Expected {
  const v = (i: bigint): bigint =>
    ((0xbf58476d1ce4e5b9n * (i + 1n)) & MASK) | (((0x94d049bb133111ebn * (i + 1n)) & MASK) << 64n);
  return {
    x: Array.from({ length: 31 }, (_, i) => (0x9e3779b97f4a7c15n * BigInt(i + 1)) & MASK),
    v: Array.from({ length: 32 }, (_, i) => v(BigInt(i))),
    sp: SP,
    nzcv: 0,
    fpcr: 0,
    fpsr: 0,
    mem: Uint8Array.from({ length: windowSize }, (_, i) => (i * 167 + 13) & 0xff),
  };
}

function apply(state: Expected, changes: State): void {
  for (const [name, value] of Object.entries(changes)) {
    if (typeof value !== "string") {
      for (const [offset, hex] of Object.entries(value)) {
        state.mem.set(Buffer.from(hex, "hex"), Number(offset));
      }
    } else if (/^x\d+$/.test(name)) state.x[Number(name.slice(1))] = BigInt(value);
    else if (/^v\d+$/.test(name)) state.v[Number(name.slice(1))] = BigInt(value);
    else if (name === "sp") state.sp = BigInt(value);
    else if (name === "nzcv") state.nzcv = Number(value);
    else if (name === "fpcr") state.fpcr = Number(value);
    else if (name === "fpsr") state.fpsr = Number(value);
    else if (name !== "pc") throw new Error(`the vector has an unknown register ${name}`);
  }
}

function load(machine: FlatMachine, state: Expected, window: number): void {
  for (const [n, value] of state.x.entries()) machine.setX(n, value);
  for (const [n, value] of state.v.entries()) machine.registers.setV(n, value);
  machine.sp = state.sp;
  machine.registers.nzcv = state.nzcv;
  machine.registers.fpcr = state.fpcr;
  machine.registers.fpsr = state.fpsr;
  machine.writeBytes(window, state.mem);
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function* differences(machine: FlatMachine, state: Expected, window: number): Generator<string> {
  const differs = (name: string, got: bigint | number, want: bigint | number) =>
    `${name} is ${hex(got)}, not ${hex(want)}`;
  for (const [n, want] of state.x.entries()) {
    if (machine.x(n) !== want) yield differs(`x${n}`, machine.x(n), want);
  }
  for (const [n, want] of state.v.entries()) {
    if (machine.registers.v(n) !== want) yield differs(`v${n}`, machine.registers.v(n), want);
  }
  if (machine.sp !== state.sp) yield differs("sp", machine.sp, state.sp);
  for (const name of ["nzcv", "fpcr", "fpsr"] as const) {
    const got = machine.registers[name];
    if (got !== state[name]) yield differs(name, got, state[name]);
  }
  const mem = machine.readBytes(window, state.mem.length);
  for (const [i, want] of state.mem.entries()) {
    if (mem[i] !== want) yield differs(`mem[${i}]`, mem[i]!, want);
  }
}

/** Signed "0x…" as the recorder spells a PC offset. */
function offsetOf(text: string): bigint {
  return text.startsWith("-") ? -BigInt(text.slice(1)) : BigInt(text);
}

/** Runs one vector. @returns the differences found, none when it passes */
export function runVector(machine: FlatMachine, header: Header, vector: Vector): string[] {
  const addr = Number(vector.addr ?? header.addr);
  const words = vector.code ?? [vector.insn!];
  const window = Number(header.window);
  machine.reset();
  for (const [i, word] of words.entries()) machine.writeWord(addr + 4 * i, Number(`0x${word}`));
  const state = defaults(header.windowSize);
  apply(state, vector.in);
  load(machine, state, window);
  machine.pc = BigInt(addr);
  let end = BigInt(addr + 4 * words.length);
  if (header.kind === "block") {
    machine.writeWord(Number(end), END);
    machine.translate();
    machine.run(STEPS_MAX);
  } else {
    machine.translate();
    machine.run(1);
    const { pc } = vector.out;
    if (typeof pc === "string") end = (BigInt(addr) + offsetOf(pc)) & MASK;
  }
  apply(state, vector.out);
  const found = machine.problem === null ? [] : [machine.problem];
  if (machine.pc !== end) found.push(`pc is ${hex(machine.pc)}, not ${hex(end)}`);
  found.push(...differences(machine, state, window));
  return found;
}
