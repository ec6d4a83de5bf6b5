// Owns: an image in two guests at once, compared slice by slice, and the first instruction that
// did something else. Test process.
import { SYSREGS_TABLE } from "../../src/machine/a64/pe/sysreg.table.js";
import { SLOT_SP, SYSREGS } from "../../src/machine/a64/window.js";
import { disassembled } from "../support/objdump.js";
import { hex32 } from "./layout.js";
import type { LockstepGuest } from "./lockstep-guest.js";

/** Slices between two comparisons of all memory. */
const MEMORY_EVERY = 64;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function* namedState(guest: LockstepGuest): Generator<[string, string]> {
  const { registers } = guest.pe;
  yield ["retired", String(guest.retired)];
  yield ["ended", String(guest.ended)];
  yield ["output", JSON.stringify(guest.output.slice(-40))];
  yield ["pc", hex(registers.pc)];
  for (let n = 0; n < 31; n++) yield [`x${n}`, hex(registers.x(n))];
  yield ["sp", hex(registers.u64(SLOT_SP))];
  for (let n = 0; n < 32; n++) yield [`v${n}`, hex(registers.v(n))];
  yield ["pstate", hex(registers.spsr)];
  yield ["fpcr", hex(registers.fpcr)];
  yield ["fpsr", hex(registers.fpsr)];
  for (const { name, slot } of SYSREGS_TABLE) {
    if (slot >= 0) yield [name, hex(registers.u64(SYSREGS + 8 * slot))];
  }
}

function registerDifferences(a: LockstepGuest, b: LockstepGuest): string[] {
  const theirs = new Map(namedState(b));
  return [...namedState(a)].flatMap(([name, value]) => {
    const other = theirs.get(name);
    return other === value ? [] : [`${name} is ${other}, not ${value}`];
  });
}

/** The first byte of host memory that differs: RAM, stage-2 tables, bitmaps. */
function memoryDifference(a: LockstepGuest, b: LockstepGuest): string[] {
  const apart = [...a.apart].sort((x, y) => x.at - y.at);
  let from = 0;
  for (const { at, bytes } of [...apart, { at: a.u8.length, bytes: 0 }]) {
    const [x, y] = [a.u8.subarray(from, at), b.u8.subarray(from, at)];
    if (at > from && Buffer.compare(x, y) !== 0) {
      const place = x.findIndex((byte, i) => byte !== y[i]);
      return [`byte ${hex(from + place)} of host memory is ${y[place]}, not ${x[place]}`];
    }
    from = Math.max(from, at + bytes);
  }
  return [];
}

/** Flags are compared by value: the words that hold them may differ. */
function sameState(a: LockstepGuest, b: LockstepGuest): boolean {
  if (a.retired !== b.retired || a.ended !== b.ended || a.output !== b.output) return false;
  if (a.pe.registers.nzcv !== b.pe.registers.nzcv) return false;
  const theirs = [...b.state()];
  return [...a.state()].every((part, i) => Buffer.compare(part, theirs[i]!) === 0);
}

export interface LockstepOptions {
  /** Makes both guests anew; the first one is the reference. */
  readonly guests: () => readonly [LockstepGuest, LockstepGuest];
  /** Instructions of a slice. */
  readonly every: number;
  readonly instructions: number;
  readonly progress: (retired: number) => void;
}

export interface LockstepResult {
  readonly instructions: number;
  readonly ended: string | null;
  readonly output: string;
  readonly slices: number;
  /** Empty: none. */
  readonly differences: readonly string[];
  /** The instruction after which the states differ. */
  readonly culprit: string | null;
}

export function lockstep(options: LockstepOptions): LockstepResult {
  const { guests, every, instructions, progress } = options;
  const [a, b] = guests();
  let slices = 0;
  let differences: readonly string[] = [];
  while (a.ended === null && b.ended === null && a.retired < instructions) {
    a.slice(every);
    b.slice(every);
    differences = sameState(a, b) ? [] : registerDifferences(a, b);
    if (differences.length === 0 && slices % MEMORY_EVERY === MEMORY_EVERY - 1) {
      differences = memoryDifference(a, b);
      progress(a.retired);
    }
    if (differences.length > 0) break;
    slices++;
  }
  if (differences.length === 0) differences = memoryDifference(a, b);
  const culprit = differences.length === 0 ? null : narrowed(options, slices);
  const { retired, ended, output } = a;
  for (const guest of [a, b]) guest.close();
  return { instructions: retired, ended, output, slices, differences, culprit };
}

/**
 * Runs anew to before the slice that differed, with the same slices, so that the same code is
 * translated; then finds the shortest slice after which the states differ.
 */
function narrowed({ guests, every }: LockstepOptions, slices: number): string {
  const differsAfter = (last: number): boolean => {
    const [a, b] = guests();
    for (let n = 0; n < slices; n++) for (const guest of [a, b]) guest.slice(every);
    for (const guest of [a, b]) guest.slice(last);
    const differs = !sameState(a, b) && registerDifferences(a, b).length > 0;
    for (const guest of [a, b]) guest.close();
    return differs;
  };
  let [same, differs] = [0, every];
  if (!differsAfter(every)) return "not found again: memory differs, or translation came otherwise";
  while (differs - same > 1) {
    const middle = (same + differs) >> 1;
    if (differsAfter(middle)) differs = middle;
    else same = middle;
  }
  const [a, b] = guests();
  for (let n = 0; n < slices; n++) a.slice(every);
  if (same > 0) a.slice(same);
  const text = describePc(a);
  for (const guest of [a, b]) guest.close();
  return text;
}

/** A guest's next instruction; its address is taken as a physical one. */
function describePc(guest: LockstepGuest): string {
  const pc = Number(guest.pe.registers.pc);
  return describe(guest.retired + 1, pc, guest.word(pc));
}

export function describe(number: number, pc: number, word: number | null): string {
  const at = `instruction ${number}, pc ${hex(pc)}`;
  return word === null ? at : `${at}: ${hex32(word)} ${disassembled([word])[0] ?? ""}`;
}
