// Owns: texts of data processing on registers. Any thread.
// @source Arm ARM C4.1, "Data Processing -- Register"
import {
  condition,
  dec,
  EXTENDS,
  hex,
  inverted,
  isAlways,
  reg,
  regSp,
  shifted,
  w,
  x,
} from "./names.js";
import { type DisFields, type Row, row } from "./row.js";

const ZERO = 31;

const LOGICAL = ["and", "bic", "orr", "orn", "eor", "eon", "ands", "bics"];

function logical({ sf, opc, shift, N, Rm, imm6, Rn, Rd }: DisFields): string | null {
  if (sf === 0 && imm6 > 31) return null;
  const m = `${reg(sf, Rm)}${shifted(shift, imm6)}`;
  const at = 2 * opc + N;
  const name = LOGICAL[at];
  if (name === "orr" && Rn === ZERO && shift === 0 && imm6 === 0) return `mov ${reg(sf, Rd)}, ${m}`;
  if (name === "orn" && Rn === ZERO) return `mvn ${reg(sf, Rd)}, ${m}`;
  if (name === "ands" && Rd === ZERO) return `tst ${reg(sf, Rn)}, ${m}`;
  return `${name} ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${m}`;
}

function addSubShifted({ sf, op, S, shift, Rm, imm6, Rn, Rd }: DisFields): string | null {
  if (shift === 3 || (sf === 0 && imm6 > 31)) return null;
  const m = `${reg(sf, Rm)}${shifted(shift, imm6)}`;
  if (S === 1 && Rd === ZERO) return `${op === 1 ? "cmp" : "cmn"} ${reg(sf, Rn)}, ${m}`;
  const s = S === 1 ? "s" : "";
  if (op === 1 && Rn === ZERO) return `neg${s} ${reg(sf, Rd)}, ${m}`;
  return `${op === 1 ? "sub" : "add"}${s} ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${m}`;
}

function addSubExtended({ sf, op, S, Rm, option, imm3, Rn, Rd }: DisFields): string | null {
  if (imm3 > 4) return null;
  const m = reg(sf === 1 && (option & 3) === 3 ? 1 : 0, Rm);
  // Where SP is named, the extension that changes nothing is written as a shift.
  const plain = (Rn === ZERO || (S === 0 && Rd === ZERO)) && option === (sf === 1 ? 3 : 2);
  const by = imm3 === 0 ? "" : ` #${imm3}`;
  const extend = plain ? (imm3 === 0 ? "" : `, lsl${by}`) : `, ${EXTENDS[option]}${by}`;
  const n = regSp(sf, Rn);
  if (S === 1 && Rd === ZERO) return `${op === 1 ? "cmp" : "cmn"} ${n}, ${m}${extend}`;
  const d = S === 1 ? reg(sf, Rd) : regSp(sf, Rd);
  return `${op === 1 ? "sub" : "add"}${S === 1 ? "s" : ""} ${d}, ${n}, ${m}${extend}`;
}

function withCarry({ sf, op, S, Rm, Rn, Rd }: DisFields): string {
  const s = S === 1 ? "s" : "";
  if (op === 1 && Rn === ZERO) return `ngc${s} ${reg(sf, Rd)}, ${reg(sf, Rm)}`;
  return `${op === 1 ? "sbc" : "adc"}${s} ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${reg(sf, Rm)}`;
}

function conditionalCompare(f: DisFields, second: string): string {
  const { sf, op, Rn, nzcv, cond } = f;
  const name = op === 1 ? "ccmp" : "ccmn";
  return `${name} ${reg(sf, Rn)}, ${second}, ${hex(nzcv)}, ${condition(cond)}`;
}

const SELECTS = ["csel", "csinc", "csinv", "csneg"];

function conditionalSelect({ sf, op, o2, Rm, cond, Rn, Rd }: DisFields): string {
  const at = 2 * op + o2;
  const name = SELECTS[at] ?? "";
  const d = reg(sf, Rd);
  if (at > 0 && Rn === Rm && !isAlways(cond)) {
    if (Rn !== ZERO || at === 3) {
      return `${["", "cinc", "cinv", "cneg"][at]} ${d}, ${reg(sf, Rn)}, ${inverted(cond)}`;
    }
    return `${at === 1 ? "cset" : "csetm"} ${d}, ${inverted(cond)}`;
  }
  return `${name} ${d}, ${reg(sf, Rn)}, ${reg(sf, Rm)}, ${condition(cond)}`;
}

function multiplyAdd({ sf, o0, Rm, Ra, Rn, Rd }: DisFields): string {
  const regs = `${reg(sf, Rd)}, ${reg(sf, Rn)}, ${reg(sf, Rm)}`;
  if (Ra === ZERO) return `${o0 === 1 ? "mneg" : "mul"} ${regs}`;
  return `${o0 === 1 ? "msub" : "madd"} ${regs}, ${reg(sf, Ra)}`;
}

function multiplyLong({ U, o0, Rm, Ra, Rn, Rd }: DisFields): string {
  const u = U === 1 ? "u" : "s";
  const regs = `${x(Rd)}, ${w(Rn)}, ${w(Rm)}`;
  if (Ra === ZERO) return `${u}${o0 === 1 ? "mnegl" : "mull"} ${regs}`;
  return `${u}${o0 === 1 ? "msubl" : "maddl"} ${regs}, ${x(Ra)}`;
}

function crc32({ sf, size, Rm, Rn, Rd }: DisFields, c: string): string | null {
  if ((size === 3) !== (sf === 1)) return null;
  return `crc32${c}${["b", "h", "w", "x"][size]} ${w(Rd)}, ${w(Rn)}, ${reg(sf, Rm)}`;
}

function twoSource(opcode: string, name: string): Row {
  return row(`sf:1 0011010110 Rm:5 ${opcode} Rn:5 Rd:5`, ({ sf, Rm, Rn, Rd }) => {
    return `${name} ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${reg(sf, Rm)}`;
  });
}

function oneSource(pattern: string, name: string): Row {
  return row(`${pattern} Rn:5 Rd:5`, (f) => {
    const sf = pattern.startsWith("1") ? 1 : pattern.startsWith("0") ? 0 : f.sf;
    return `${name} ${reg(sf, f.Rd)}, ${reg(sf, f.Rn)}`;
  });
}

const AUTHENTICATES = ["pacia", "pacib", "pacda", "pacdb", "autia", "autib", "autda", "autdb"];

export const DP_REG: readonly Row[] = [
  row("sf:1 opc:2 01010 shift:2 N:1 Rm:5 imm6:6 Rn:5 Rd:5", logical),
  row("sf:1 op:1 S:1 01011 shift:2 0 Rm:5 imm6:6 Rn:5 Rd:5", addSubShifted),
  row("sf:1 op:1 S:1 01011 00 1 Rm:5 option:3 imm3:3 Rn:5 Rd:5", addSubExtended),
  row("sf:1 op:1 S:1 11010000 Rm:5 000000 Rn:5 Rd:5", withCarry),
  row("10111010000 imm6:6 00001 Rn:5 0 mask:4", ({ imm6, Rn, mask }) => {
    return `rmif ${x(Rn)}, ${dec(imm6)}, ${dec(mask)}`;
  }),
  row("00111010000 000000 sz:1 0010 Rn:5 01101", ({ sz, Rn }) => {
    return `setf${sz === 1 ? 16 : 8} ${w(Rn)}`;
  }),
  row("sf:1 op:1 1 11010010 Rm:5 cond:4 00 Rn:5 0 nzcv:4", (f) => {
    return conditionalCompare(f, reg(f.sf, f.Rm));
  }),
  row("sf:1 op:1 1 11010010 imm5:5 cond:4 10 Rn:5 0 nzcv:4", (f) => {
    return conditionalCompare(f, hex(f.imm5));
  }),
  row("sf:1 op:1 0 11010100 Rm:5 cond:4 0 o2:1 Rn:5 Rd:5", conditionalSelect),
  row("sf:1 00 11011 000 Rm:5 o0:1 Ra:5 Rn:5 Rd:5", multiplyAdd),
  row("1 00 11011 U:1 01 Rm:5 o0:1 Ra:5 Rn:5 Rd:5", multiplyLong),
  row("1 00 11011 U:1 10 Rm:5 0 Ra:5 Rn:5 Rd:5", ({ U, Rm, Rn, Rd }) => {
    return `${U === 1 ? "umulh" : "smulh"} ${x(Rd)}, ${x(Rn)}, ${x(Rm)}`;
  }),
  twoSource("000010", "udiv"),
  twoSource("000011", "sdiv"),
  twoSource("001000", "lsl"),
  twoSource("001001", "lsr"),
  twoSource("001010", "asr"),
  twoSource("001011", "ror"),
  row("1 0011010110 Rm:5 001100 Rn:5 Rd:5", ({ Rm, Rn, Rd }) => {
    return `pacga ${x(Rd)}, ${x(Rn)}, ${regSp(1, Rm)}`;
  }),
  row("sf:1 0011010110 Rm:5 0100 size:2 Rn:5 Rd:5", (f) => crc32(f, "")),
  row("sf:1 0011010110 Rm:5 0101 size:2 Rn:5 Rd:5", (f) => crc32(f, "c")),
  oneSource("sf:1 101101011000000 000000", "rbit"),
  oneSource("sf:1 101101011000000 000001", "rev16"),
  oneSource("0 101101011000000 000010", "rev"),
  oneSource("1 101101011000000 000010", "rev32"),
  oneSource("1 101101011000000 000011", "rev"),
  oneSource("sf:1 101101011000000 000100", "clz"),
  oneSource("sf:1 101101011000000 000101", "cls"),
  row("1 101101011000001 000 opcode:3 Rn:5 Rd:5", ({ opcode, Rn, Rd }) => {
    return `${AUTHENTICATES[opcode]} ${x(Rd)}, ${regSp(1, Rn)}`;
  }),
  row("1 101101011000001 001 opcode:3 11111 Rd:5", ({ opcode, Rd }) => {
    return `${AUTHENTICATES[opcode]?.replace(/(.)$/, "z$1")} ${x(Rd)}`;
  }),
  row("1 101101011000001 01000 op:1 11111 Rd:5", ({ op, Rd }) => {
    return `xpac${op === 1 ? "d" : "i"} ${x(Rd)}`;
  }),
];
