// Owns: texts of Advanced SIMD two-register miscellaneous, across lanes, pairwise. Any thread.
// @source Arm ARM C4.1, "Advanced SIMD two-register miscellaneous", "… across lanes"
import { letter, scalar, vec } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";
import { FP_MISC, MISC } from "./simd.table.js";

const HALF = 1;
const SINGLE = 2;
const DOUBLE = 3;

function integer(f: DisFields): string | null {
  const { Q, U, size, opcode, Rn, Rd } = f;
  const [name, shape, sizes] = MISC[`${U} ${opcode}`] ?? ["", "same", ""];
  if (!sizes.includes(letter(size))) return null;
  const [d, n] = [vec(Rd, size, Q), vec(Rn, size, Q)];
  if (shape === "narrow") return `${name}${Q === 1 ? "2" : ""} ${d}, ${vec(Rn, size + 1, 1)}`;
  if (shape === "pair") return `${name} ${vec(Rd, size + 1, Q)}, ${n}`;
  if (size === DOUBLE && Q === 0) return null;
  return `${name} ${d}, ${n}${shape === "zero" ? ", #0" : ""}`;
}

function integerScalar({ U, size, opcode, Rn, Rd }: DisFields): string | null {
  const [name, shape, , sizes] = MISC[`${U} ${opcode}`] ?? ["", "same", "", ""];
  if (!sizes.includes(letter(size))) return null;
  const d = scalar(size, Rd);
  if (shape === "narrow") return `${name} ${d}, ${scalar(size + 1, Rn)}`;
  return `${name} ${d}, ${scalar(size, Rn)}${shape === "zero" ? ", #0" : ""}`;
}

/** MVN and RBIT, which have the size in their opcode; SHLL, which shifts by its size. */
function special({ Q, U, size, opcode, Rn, Rd }: DisFields): string | null {
  if (U !== 1) return null;
  if (opcode === 5 && size < 2) {
    return `${size === 0 ? "mvn" : "rbit"} ${vec(Rd, 0, Q)}, ${vec(Rn, 0, Q)}`;
  }
  if (opcode !== 19 || size === DOUBLE) return null;
  const name = Q === 1 ? "shll2" : "shll";
  return `${name} ${vec(Rd, size + 1, 1)}, ${vec(Rn, size, Q)}, #${8 << size}`;
}

const singles = (size: number): boolean => size === SINGLE || size === DOUBLE;

function float(f: DisFields, size: number, isScalar: boolean): string | null {
  const { Q, U, a, opcode, Rn, Rd } = f;
  const entry = FP_MISC[`${U} ${a} ${opcode}`];
  if (entry === undefined) return null;
  const [, name = "", flags = ""] = /^(\w+?)(0?[-!*]*)$/.exec(entry) ?? [];
  if (flags.includes("!") && !singles(size)) return null;
  if (isScalar ? !flags.includes("*") : flags.includes("-")) return null;
  if (!isScalar && size === DOUBLE && Q === 0) return null;
  // Reciprocal estimates of integers have no 64-bit form.
  if (name.startsWith("ur") && size !== SINGLE) return null;
  const reg = (n: number) => (isScalar ? scalar(size, n) : vec(n, size, Q));
  return `${name} ${reg(Rd)}, ${reg(Rn)}${flags.includes("0") ? ", #0.0" : ""}`;
}

/** FCVTN, FCVTL, FCVTXN, BFCVTN: between elements of a size and of the next. */
function convert({ Q, U, size, opcode, Rn, Rd }: DisFields): string | null {
  const upper = Q === 1 ? "2" : "";
  const narrow = (n: number) => vec(n, HALF + (size & 1), Q);
  const wide = (n: number) => vec(n, SINGLE + (size & 1), 1);
  if (opcode === 23 && U === 0 && size < 2) return `fcvtl${upper} ${wide(Rd)}, ${narrow(Rn)}`;
  if (opcode !== 22) return null;
  if (U === 0 && size < 2) return `fcvtn${upper} ${narrow(Rd)}, ${wide(Rn)}`;
  if (U === 1 && size === 1) return `fcvtxn${upper} ${narrow(Rd)}, ${wide(Rn)}`;
  if (U === 0 && size === 2) return `bfcvtn${upper} ${vec(Rd, HALF, Q)}, ${vec(Rn, SINGLE, 1)}`;
  return null;
}

const ACROSS: Readonly<Record<string, string>> = {
  "0 3": "saddlv",
  "1 3": "uaddlv",
  "0 10": "smaxv",
  "1 10": "umaxv",
  "0 26": "sminv",
  "1 26": "uminv",
  "0 27": "addv",
};

function acrossLanes({ Q, U, size, opcode, Rn, Rd }: DisFields): string | null {
  const name = ACROSS[`${U} ${opcode}`];
  if (name === undefined || size === DOUBLE || (size === SINGLE && Q === 0)) return null;
  return `${name} ${scalar(opcode === 3 ? size + 1 : size, Rd)}, ${vec(Rn, size, Q)}`;
}

function acrossFloats({ Q, U, a, opcode, Rn, Rd }: DisFields): string | null {
  const stem = opcode === 12 ? "nmv" : opcode === 15 ? "v" : null; // tidy: an opcode
  if (stem === null || (U === 1 && Q === 0)) return null;
  const size = U === 1 ? SINGLE : HALF;
  return `${a === 1 ? "fmin" : "fmax"}${stem} ${scalar(size, Rd)}, ${vec(Rn, size, Q)}`;
}

const PAIRWISE: Readonly<Record<string, string>> = {
  "0 12": "fmaxnmp",
  "0 13": "faddp",
  "0 15": "fmaxp",
  "1 12": "fminnmp",
  "1 15": "fminp",
};

function pairwise({ U, a, sz, opcode, Rn, Rd }: DisFields): string | null {
  const name = PAIRWISE[`${a} ${opcode}`];
  if (name === undefined || (U === 0 && sz === 1)) return null;
  const size = U === 0 ? HALF : SINGLE + sz;
  const from = size === HALF ? "2h" : size === SINGLE ? "2s" : "2d";
  return `${name} ${scalar(size, Rd)}, v${Rn}.${from}`;
}

const REGS = "Rn:5 Rd:5";

export const SIMD_MISC: readonly Row[] = [
  row(`0 Q:1 U:1 01110 size:2 10000 opcode:5 10 ${REGS}`, (f) => {
    return integer(f) ?? special(f) ?? convert(f);
  }),
  row(`01 U:1 11110 size:2 10000 opcode:5 10 ${REGS}`, integerScalar),
  row(`01 1 11110 01 10000 10110 10 ${REGS}`, ({ Rn, Rd }) => `fcvtxn s${Rd}, d${Rn}`),
  row(`0 Q:1 U:1 01110 a:1 sz:1 10000 opcode:5 10 ${REGS}`, (f) => float(f, SINGLE + f.sz, false)),
  row(`01 U:1 11110 a:1 sz:1 10000 opcode:5 10 ${REGS}`, (f) => float(f, SINGLE + f.sz, true)),
  row(`0 Q:1 U:1 01110 a:1 1 11100 opcode:5 10 ${REGS}`, (f) => float(f, HALF, false)),
  row(`01 U:1 11110 a:1 1 11100 opcode:5 10 ${REGS}`, (f) => float(f, HALF, true)),
  row(`0 Q:1 U:1 01110 size:2 11000 opcode:5 10 ${REGS}`, acrossLanes),
  row(`0 Q:1 U:1 01110 a:1 0 11000 01 opcode:3 10 ${REGS}`, (f) => {
    return acrossFloats({ ...f, opcode: 8 + f.opcode });
  }),
  row(`01 U:1 11110 a:1 sz:1 11000 01 opcode:3 10 ${REGS}`, (f) => {
    return pairwise({ ...f, opcode: 8 + f.opcode });
  }),
  row(`01 0 11110 11 11000 11011 10 ${REGS}`, ({ Rn, Rd }) => `addp d${Rd}, v${Rn}.2d`),
];
