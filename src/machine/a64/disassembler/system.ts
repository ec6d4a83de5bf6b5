// Owns: texts of hints, barriers, system registers and system instructions. Any thread.
// @source Arm ARM C5, "The A64 System Instruction Class"
import { encodingOf } from "../pe/sysreg.table.js";
import { hex, x } from "./names.js";
import { REGISTER_NAMES } from "./registers.table.js";
import { type DisFields, type Row, row } from "./row.js";
import {
  BARRIERS,
  HINTS,
  PSTATE_FIELDS,
  SYSTEM_INSTRUCTIONS,
  SYSTEM_RESULTS,
} from "./system.table.js";

const ZERO = 31;
const ALL = 15;

/** A barrier's domain; 0 and 4 of DSB have names of their own. */
function domain(crm: number): string {
  return BARRIERS[crm] ?? `#0x${crm.toString(16).padStart(2, "0")}`;
}

function register({ op0, op1, CRn, CRm, op2 }: DisFields): string {
  const known = REGISTER_NAMES.get(encodingOf(op0, op1, CRn, CRm, op2));
  return known ?? `s${op0}_${op1}_c${CRn}_c${CRm}_${op2}`;
}

function sys({ op1, CRn, CRm, op2, Rt }: DisFields): string {
  const known = SYSTEM_INSTRUCTIONS.get(`${op1} ${CRn} ${CRm} ${op2}`);
  if (known !== undefined) {
    const [text, takes] = known;
    return takes ? `${text}, ${x(Rt)}` : text;
  }
  const rest = Rt === ZERO ? "" : `, ${x(Rt)}`;
  return `sys #${op1}, C${CRn}, C${CRm}, #${op2}${rest}`;
}

function pstate({ op1, CRm, op2 }: DisFields): string | null {
  const field = PSTATE_FIELDS[`${op1} ${op2}`];
  return field === undefined ? null : `msr ${field}, ${hex(CRm)}`;
}

const clear = (name: string) => (f: DisFields) => (f.CRm === ALL ? name : `${name} ${hex(f.CRm)}`);

const SYSTEM_REGISTER = "op1:3 CRn:4 CRm:4 op2:3 Rt:5";

export const SYSTEM: readonly Row[] = [
  row("11010101000000110010 CRm:4 op2:3 11111", ({ CRm, op2 }) => {
    return HINTS[8 * CRm + op2] ?? `hint ${hex(8 * CRm + op2)}`;
  }),
  row("11010101000000110001 0000 000 Rt:5", ({ Rt }) => `wfet ${x(Rt)}`),
  row("11010101000000110001 0000 001 Rt:5", ({ Rt }) => `wfit ${x(Rt)}`),
  row("11010101000000110011 CRm:4 010 11111", clear("clrex")),
  row("11010101000000110011 0000 100 11111", () => "ssbb"),
  row("11010101000000110011 0100 100 11111", () => "pssbb"),
  row("11010101000000110011 CRm:4 100 11111", ({ CRm }) => `dsb ${domain(CRm)}`),
  row("11010101000000110011 imm2:2 10 001 11111", ({ imm2 }) => {
    return `dsb ${["osh", "nsh", "ish", "sy"][imm2]}nxs`;
  }),
  row("11010101000000110011 CRm:4 101 11111", ({ CRm }) => `dmb ${domain(CRm)}`),
  row("11010101000000110011 CRm:4 110 11111", clear("isb")),
  row("11010101000000110011 0000 111 11111", () => "sb"),
  row("11010101000000000100 0000 000 11111", () => "cfinv"),
  row("11010101000000000100 0000 001 11111", () => "xaflag"),
  row("11010101000000000100 0000 010 11111", () => "axflag"),
  row("1101010100000 op1:3 0100 CRm:4 op2:3 11111", pstate),
  row("1101010100001 op1:3 CRn:4 CRm:4 op2:3 Rt:5", sys),
  row("1101010100101 op1:3 CRn:4 CRm:4 op2:3 Rt:5", ({ op1, CRn, CRm, op2, Rt }) => {
    const known = SYSTEM_RESULTS.get(`${op1} ${CRn} ${CRm} ${op2}`);
    if (known !== undefined) return `gicr ${x(Rt)}, ${known}`;
    return `sysl ${x(Rt)}, #${op1}, C${CRn}, C${CRm}, #${op2}`;
  }),
  row(`110101010001 o0:1 ${SYSTEM_REGISTER}`, (f) => {
    return `msr ${register({ ...f, op0: 2 + f.o0 })}, ${x(f.Rt)}`;
  }),
  row(`110101010011 o0:1 ${SYSTEM_REGISTER}`, (f) => {
    return `mrs ${x(f.Rt)}, ${register({ ...f, op0: 2 + f.o0 })}`;
  }),
];
