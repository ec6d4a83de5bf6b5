// Owns: texts of Advanced SIMD instructions on three registers. Any thread.
// @source Arm ARM C4.1, "Advanced SIMD three same", "… three same extra", "… three different"
import { letter, scalar, vec } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";
import { FP_SAME, LOGICAL, THREE_DIFFERENT, THREE_SAME } from "./simd.table.js";

const HALF = 1;
const SINGLE = 2;
const DOUBLE = 3;

/** Three vectors of one arrangement. @returns null where it would be a 1D */
function threeVectors({ Q, Rm, Rn, Rd }: DisFields, size: number): string | null {
  if (size === DOUBLE && Q === 0) return null;
  return [Rd, Rn, Rm].map((n) => vec(n, size, Q)).join(", ");
}

const threeScalars = ({ Rm, Rn, Rd }: DisFields, size: number): string =>
  [Rd, Rn, Rm].map((n) => scalar(size, n)).join(", ");

function integer(f: DisFields, isScalar: boolean): string | null {
  const found = THREE_SAME[f.opcode];
  if (found === undefined) return null;
  const [signed, unsigned, vector, scalars] = found;
  if (!(isScalar ? scalars : vector).includes(letter(f.size))) return null;
  const regs = isScalar ? threeScalars(f, f.size) : threeVectors(f, f.size);
  return regs === null ? null : `${f.U === 1 ? unsigned : signed} ${regs}`;
}

/** MUL, PMUL and ADDP, which have no other signedness. */
function unpaired(f: DisFields): string | null {
  const { U, opcode, size } = f;
  const isAddp = opcode === 23 && U === 0;
  const isMul = opcode === 19 && U === 0 && size !== DOUBLE;
  const isPmul = opcode === 19 && U === 1 && size === 0;
  const regs = threeVectors(f, size);
  if (regs === null) return null;
  return isAddp ? `addp ${regs}` : isMul ? `mul ${regs}` : isPmul ? `pmul ${regs}` : null;
}

function logical({ Q, U, size, Rm, Rn, Rd }: DisFields): string {
  const [d, n, m] = [Rd, Rn, Rm].map((at) => vec(at, 0, Q));
  const name = LOGICAL[4 * U + size];
  if (name === "orr" && Rn === Rm) return `mov ${d}, ${n}`;
  return `${name} ${d}, ${n}, ${m}`;
}

/** @param opcode its three lower bits */
function float(f: DisFields, opcode: number, size: number, isScalar: boolean): string | null {
  const name = FP_SAME[2 * f.U + f.a]?.[opcode] ?? "";
  if (name === "" || (isScalar && !name.endsWith("*"))) return null;
  const regs = isScalar ? threeScalars(f, size) : threeVectors(f, size);
  return regs === null ? null : `${name.replace("*", "")} ${regs}`;
}

/** FMLAL and its like: halves that become singles. */
function multiplyLong(name: string) {
  return ({ Q, Rm, Rn, Rd }: DisFields): string => {
    const halves = (n: number) => (Q === 1 ? vec(n, HALF, 0) : `v${n}.2h`);
    return `${name} ${vec(Rd, SINGLE, Q)}, ${halves(Rn)}, ${halves(Rm)}`;
  };
}

/** A dot product: elements of `size` in, singles out. */
function dot(name: string, size: number) {
  return ({ Q, Rm, Rn, Rd }: DisFields): string =>
    `${name} ${vec(Rd, SINGLE, Q)}, ${vec(Rn, size, Q)}, ${vec(Rm, size, Q)}`;
}

function matrix(name: string, size: number) {
  return ({ Rm, Rn, Rd }: DisFields): string =>
    `${name} ${vec(Rd, SINGLE, 1)}, ${vec(Rn, size, 1)}, ${vec(Rm, size, 1)}`;
}

function rounding(f: DisFields, isScalar: boolean): string | null {
  const { op, size } = f;
  if (size !== HALF && size !== SINGLE) return null;
  const regs = isScalar ? threeScalars(f, size) : threeVectors(f, size);
  return regs === null ? null : `${op === 1 ? "sqrdmlsh" : "sqrdmlah"} ${regs}`;
}

function complex(name: string, rotations: readonly number[]) {
  return (f: DisFields): string | null => {
    const regs = f.size === 0 ? null : threeVectors(f, f.size);
    return regs === null ? null : `${name} ${regs}, #${rotations[f.rot]}`;
  };
}

/** Half of what a vector holds: its lower half, or the upper one with "2" behind the name. */
function different(f: DisFields): string | null {
  const { Q, U, size, opcode, Rm, Rn, Rd } = f;
  const [signed, unsigned, shape, sizes] = THREE_DIFFERENT[opcode] ?? ["", "", "long", ""];
  const name = U === 1 ? unsigned : signed;
  if (name === "" || !sizes.includes(letter(size))) return null;
  const narrow = (n: number) => vec(n, size, Q);
  // Polynomials of 64 bits make one of 128.
  const wide = (n: number) => (size === DOUBLE ? `v${n}.1q` : vec(n, size + 1, 1));
  const full = `${name}${Q === 1 ? "2" : ""}`;
  if (shape === "long") return `${full} ${wide(Rd)}, ${narrow(Rn)}, ${narrow(Rm)}`;
  if (shape === "wide") return `${full} ${wide(Rd)}, ${wide(Rn)}, ${narrow(Rm)}`;
  return `${full} ${narrow(Rd)}, ${wide(Rn)}, ${wide(Rm)}`;
}

function scalarDifferent({ size, opcode, Rm, Rn, Rd }: DisFields): string | null {
  const name = { 9: "sqdmlal", 11: "sqdmlsl", 13: "sqdmull" }[opcode];
  if (name === undefined || (size !== HALF && size !== SINGLE)) return null;
  return `${name} ${scalar(size + 1, Rd)}, ${scalar(size, Rn)}, ${scalar(size, Rm)}`;
}

const REGS = "Rn:5 Rd:5";

export const SIMD_SAME: readonly Row[] = [
  row(`0 Q:1 U:1 01110 size:2 1 Rm:5 00011 1 ${REGS}`, logical),
  row(`0 Q:1 U:1 01110 size:2 1 Rm:5 opcode:5 1 ${REGS}`, (f) => integer(f, false) ?? unpaired(f)),
  row(`01 U:1 11110 size:2 1 Rm:5 opcode:5 1 ${REGS}`, (f) => integer(f, true)),
  row(`0 Q:1 U:1 01110 a:1 sz:1 1 Rm:5 11 opcode:3 1 ${REGS}`, (f) => {
    return float(f, f.opcode, SINGLE + f.sz, false);
  }),
  row(`01 U:1 11110 a:1 sz:1 1 Rm:5 11 opcode:3 1 ${REGS}`, (f) => {
    return float(f, f.opcode, SINGLE + f.sz, true);
  }),
  row(`0 Q:1 U:1 01110 a:1 10 Rm:5 00 opcode:3 1 ${REGS}`, (f) => {
    return float(f, f.opcode, HALF, false);
  }),
  row(`01 U:1 11110 a:1 10 Rm:5 00 opcode:3 1 ${REGS}`, (f) => float(f, f.opcode, HALF, true)),
  row(`0 Q:1 0 01110 00 1 Rm:5 11101 1 ${REGS}`, multiplyLong("fmlal")),
  row(`0 Q:1 0 01110 10 1 Rm:5 11101 1 ${REGS}`, multiplyLong("fmlsl")),
  row(`0 Q:1 1 01110 00 1 Rm:5 11001 1 ${REGS}`, multiplyLong("fmlal2")),
  row(`0 Q:1 1 01110 10 1 Rm:5 11001 1 ${REGS}`, multiplyLong("fmlsl2")),
  row(`0 Q:1 0 01110 10 0 Rm:5 10010 1 ${REGS}`, dot("sdot", 0)),
  row(`0 Q:1 1 01110 10 0 Rm:5 10010 1 ${REGS}`, dot("udot", 0)),
  row(`0 Q:1 0 01110 10 0 Rm:5 10011 1 ${REGS}`, dot("usdot", 0)),
  row(`0 Q:1 1 01110 01 0 Rm:5 11111 1 ${REGS}`, dot("bfdot", HALF)),
  row(`0 Q:1 1 01110 11 0 Rm:5 11111 1 ${REGS}`, (f) => {
    return matrix(f.Q === 1 ? "bfmlalt" : "bfmlalb", HALF)(f);
  }),
  row(`01 0 01110 10 0 Rm:5 10100 1 ${REGS}`, matrix("smmla", 0)),
  row(`01 1 01110 10 0 Rm:5 10100 1 ${REGS}`, matrix("ummla", 0)),
  row(`01 0 01110 10 0 Rm:5 10101 1 ${REGS}`, matrix("usmmla", 0)),
  row(`01 1 01110 01 0 Rm:5 11101 1 ${REGS}`, matrix("bfmmla", HALF)),
  row(`0 Q:1 1 01110 size:2 0 Rm:5 1000 op:1 1 ${REGS}`, (f) => rounding(f, false)),
  row(`01 1 11110 size:2 0 Rm:5 1000 op:1 1 ${REGS}`, (f) => rounding(f, true)),
  row(`0 Q:1 1 01110 size:2 0 Rm:5 110 rot:2 1 ${REGS}`, complex("fcmla", [0, 90, 180, 270])),
  row(`0 Q:1 1 01110 size:2 0 Rm:5 111 rot:1 01 ${REGS}`, complex("fcadd", [90, 270])),
  row(`0 Q:1 U:1 01110 size:2 1 Rm:5 opcode:4 00 ${REGS}`, different),
  row(`01 0 11110 size:2 1 Rm:5 opcode:4 00 ${REGS}`, scalarDifferent),
];
