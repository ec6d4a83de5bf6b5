// Goal: a load or store that faults changes nothing, and goes through once its pages are there.
// Method: every row and every form of it on the flat machine, at addresses that are not mapped and
// across the end of a page of which one side is missing; sizes are counted anew here.
import { describe, expect, it } from "vitest";
import { LOADS_STORES } from "../../../../src/machine/a64/insn/ldst.js";
import { LOADS_STORES_SIMD } from "../../../../src/machine/a64/insn/ldst-simd.js";
import { LOADS_STORES_STRUCT } from "../../../../src/machine/a64/insn/ldst-struct.js";
import { type Insn, variantsOf } from "../../../../src/machine/a64/insn.js";
import type { Fields } from "../../../../src/machine/a64/pattern.js";
import { FlatMachine } from "../../../vectors/flat-machine.js";

const PAGE = 0x1000; // tidy: the core's own granule
const CODE = 0x4008_0000;
/** The page before END is the low one of the pair that accesses cross. */
const END = 0x4010_0000;
/** Of a literal, in words: far enough that code and data share no page. */
const LITERAL_WORDS = PAGE;
const INDEX = 24n;
/** LDRB W29, [X29]: brings a page into the TLB. */
const TOUCH = 0x3940_03bd;

/** Registers of a form: all different; the base is loaded or stored too; the last ones. */
const CHOICES: readonly Fields[] = [
  { Rn: 1, Rm: 2, Rt: 3, Rt2: 4 },
  { Rn: 1, Rm: 2, Rt: 1, Rt2: 1 },
  { Rn: 1, Rm: 31, Rt: 31, Rt2: 30 },
];
const IMMEDIATES: Fields = { imm7: 1, imm9: 1, imm12: 1, imm19: LITERAL_WORDS };
const SP = { Rn: 31, Rm: 2, Rt: 3, Rt2: 4 };

/** Registers of LD1-4 and ST1-4 (multiple), by opcode. */
const REGISTERS: Fields = { 0: 4, 2: 4, 4: 3, 6: 3, 7: 1, 8: 2, 10: 2 };

/** Bytes of an access, by the name of its row; the first that matches. */
const BYTES: readonly (readonly [RegExp, (f: Fields) => number])[] = [
  [/^STR_LDR_fp_/, ({ size, opc }) => (opc! >= 2 ? 16 : 2 ** size!)],
  [/^STR_LDR_/, ({ size }) => 2 ** size!],
  [/^LDR_fp_loadlit/, ({ opc }) => 4 * 2 ** opc!],
  [/^LDR_loadlit/, ({ opc }) => (opc === 1 ? 8 : 4)],
  [/^STP_LDP_fp_/, ({ opc }) => 8 * 2 ** opc!],
  [/^STP_LDP_/, ({ opc }) => (opc === 2 ? 16 : 8)],
  [/^LD_ST_asisdlse/, ({ Q, opcode }) => REGISTERS[opcode!]! * (Q === 1 ? 16 : 8)],
  [/^LD_ST_asisdlso/, (f) => structure(f["R"]!, f["opcode"]! & 1) * lane(f)],
  [/^LDR_asisdlso/, (f) => structure(f["R"]!, f["pairs"]!) * 2 ** f["size"]!],
];
const structure = (r: number, pairs: number): number => 1 + r + 2 * pairs;
function lane({ opcode, size }: Fields): number {
  if (opcode! < 2) return 1;
  if (opcode! < 4) return 2;
  return size === 0 ? 4 : 8;
}

interface Form {
  readonly name: string;
  readonly word: number;
  readonly bytes: number;
  readonly literal: boolean;
}

function formOf(row: Insn, fields: Fields): Form {
  let word = row.pattern.value;
  for (const { name, shift } of row.pattern.fields) word |= fields[name]! << shift;
  const bytes = BYTES.find(([name]) => name.test(row.name))![1](fields);
  const unsigned = word >>> 0;
  const name = `${row.name} ${unsigned.toString(16)}`;
  return { name, word: unsigned, bytes, literal: row.name.endsWith("loadlit") };
}

/** Every form that accesses memory: prefetches do not. */
function formsOf(row: Insn, choices: readonly Fields[]): Form[] {
  return variantsOf(row)
    .filter(({ opc }) => row.name !== "LDR_loadlit" || opc !== 3)
    .flatMap((split) => choices.map((choice) => ({ ...IMMEDIATES, ...choice, ...split })))
    .map((fields) => formOf(row, fields));
}

const machine = new FlatMachine();

/** One instruction, registers that all differ, and no page but that of the code. */
function prepare(word: number, pc: number): void {
  machine.reset();
  machine.writeWord(pc - 4, TOUCH);
  machine.writeWord(pc, word);
  machine.pc = BigInt(pc);
  for (let n = 0; n < 31; n++) machine.setX(n, 0x0102_0304_0506_0700n + BigInt(n));
  for (let n = 0; n < 32; n++) {
    machine.registers.setV(n, 0x1112_1314_1516_1718_2122_2324_2526_2700n + BigInt(n));
  }
  machine.setX(2, INDEX);
  machine.sp = BigInt(END - PAGE);
  machine.registers.nzcv = 0b1010;
  machine.registers.fpcr = 0x0100_0000;
  machine.registers.fpsr = 0x0800_0001;
}

/** Puts a form in place so that it accesses `va`, which lies `distance` past its base or PC. */
function prepareAt(form: Form, va: number, distance: number): void {
  prepare(form.word, form.literal ? va - distance : CODE);
  machine.setX(1, BigInt(va - distance));
}

/** How far the access lies past base or PC, as the fault of one tells. */
function distanceOf(form: Form): number {
  const pc = form.literal ? END : CODE;
  prepare(form.word, pc);
  machine.setX(1, BigInt(END));
  machine.run(1);
  return Number(/0x[0-9a-f]+$/.exec(machine.problem ?? "")?.[0] ?? Number.NaN) - END;
}

/** Executes a load from a mapped page before the form, which finds the page in the TLB. */
function touch(page: number): void {
  machine.setX(29, BigInt(page));
  machine.pc -= 4n;
  expect(machine.run(1)).toBe(1);
}

/** All that a program can see, and bytes of both pages where they are mapped. */
function visible(): string {
  const { pc, sp, registers } = machine;
  const { nzcv, fpcr, fpsr } = registers;
  const x = Array.from({ length: 31 }, (_, n) => machine.x(n));
  const v = Array.from({ length: 32 }, (_, n) => machine.registers.v(n));
  const pages = [END - PAGE, END].map((va) => {
    const host = machine.host(va);
    return host < 0 ? "" : Buffer.from(machine.u8.subarray(host, host + PAGE)).toString("latin1");
  });
  return [pc, sp, nzcv, fpcr, fpsr, ...x, ...v, ...pages].join(" ");
}

/** Runs what is prepared. @returns what is wrong with its fault, or null */
function faultAt(va: number): string | null {
  const before = visible();
  const retired = machine.run(1);
  if (machine.problem === null) return "no fault";
  if (!machine.problem.endsWith(`0x${va.toString(16)}`)) return machine.problem;
  if (retired !== 0) return "retired";
  return visible() === before ? null : "changed something";
}

/** Runs what is prepared where nothing is missing. @returns the state, or what is wrong */
function completed(): string {
  machine.problem = null;
  return machine.run(1) === 1 && machine.problem === null ? visible() : "did not complete";
}

/** Bytes of an access on the low page: one, half, all but one; literals lie at words. */
function splitsOf({ bytes, literal }: Form): readonly number[] {
  const step = literal ? 4 : 1;
  const splits = [step, bytes / 2, bytes - step];
  return [...new Set(splits)].filter((n) => n > 0 && n < bytes && n % step === 0);
}

/** Crosses from a page to the next one of which `missing` isn't there. */
function crossing(form: Form, below: number, distance: number, missing: number): string | null {
  const va = END - below;
  const there = missing === END ? END - PAGE : END;
  prepareAt(form, va, distance);
  machine.map(END - PAGE);
  machine.map(END);
  touch(there);
  const whole = completed();
  prepareAt(form, va, distance);
  machine.map(there);
  touch(there);
  const wrong = faultAt(va);
  if (wrong !== null) return wrong;
  machine.map(missing);
  return completed() === whole && whole.length > PAGE ? null : "another result after the fault";
}

/** The last place where an access fits into the low page needs no other. */
function fitting(form: Form, distance: number): string | null {
  const below = form.literal ? Math.max(form.bytes, 4) : form.bytes;
  prepareAt(form, END - below, distance);
  machine.map(END - PAGE);
  touch(END - PAGE);
  return completed().length > PAGE ? null : (machine.problem ?? "did not retire");
}

const named = (form: Form, what: string, wrong: string | null): string[] =>
  wrong === null ? [] : [`${form.name}, ${what}: ${wrong}`];

const ROWS = [...LOADS_STORES, ...LOADS_STORES_SIMD, ...LOADS_STORES_STRUCT]
  .filter(({ name }) => !name.startsWith("PRFM"))
  .map((row) => [row.name, row] as const);

describe.each(ROWS)("%s", (_, row) => {
  const forms = formsOf(row, CHOICES);

  it("changes nothing at an address that is not mapped", () => {
    const wrong = forms.flatMap((form) => {
      const distance = distanceOf(form);
      prepareAt(form, END, distance);
      return named(form, "not mapped", faultAt(END));
    });
    expect(wrong).toEqual([]);
  });

  it("changes nothing when a page of two is missing, and then goes through", () => {
    const wrong = forms.flatMap((form) => {
      const distance = distanceOf(form);
      const crossings = splitsOf(form).flatMap((below) => [
        ...named(form, `${below} | missing`, crossing(form, below, distance, END)),
        ...named(form, `missing | ${below}`, crossing(form, below, distance, END - PAGE)),
      ]);
      return [...crossings, ...named(form, "at the end of a page", fitting(form, distance))];
    });
    expect(wrong).toEqual([]);
  });
});

// Literals have no base register.
const BASED = ROWS.filter(([name]) => !name.endsWith("loadlit"));

it.each(BASED)("%s changes nothing when SP is misaligned", (_, row) => {
  const wrong = formsOf(row, [SP]).flatMap((form) => {
    prepare(form.word, CODE);
    machine.map(END - PAGE);
    machine.sp = BigInt(END - PAGE + 8);
    const fault = faultAt(END - PAGE + 8);
    return named(form, "SP", machine.problem?.startsWith("misaligned SP") ? fault : "no check");
  });
  expect(wrong).toEqual([]);
});
