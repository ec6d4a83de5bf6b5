// Owns: texts of exclusive, ordered and atomic accesses. Any thread.
// @source Arm ARM C4.1, "Loads and Stores"
import { offset, reg, signed, xsp } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";

const ZERO = 31;
const SUFFIX = ["b", "h", "", ""];
const wide = (size: number): number => (size === 3 ? 1 : 0);

/** LDXR, STLXR and their like; o0 is acquire or release. */
function exclusive({ size, L, Rs, o0, Rn, Rt }: DisFields): string {
  const order = o0 === 1 ? (L === 1 ? "a" : "l") : "";
  const name = `${L === 1 ? "ld" : "st"}${order}xr${SUFFIX[size]}`;
  const status = L === 1 ? "" : `${reg(0, Rs)}, `;
  return `${name} ${status}${reg(wide(size), Rt)}, [${xsp(Rn)}]`;
}

function exclusivePair({ sz, L, Rs, o0, Rt2, Rn, Rt }: DisFields): string {
  const order = o0 === 1 ? (L === 1 ? "a" : "l") : "";
  const status = L === 1 ? "" : `${reg(0, Rs)}, `;
  const name = `${L === 1 ? "ld" : "st"}${order}xp`;
  return `${name} ${status}${reg(sz, Rt)}, ${reg(sz, Rt2)}, [${xsp(Rn)}]`;
}

function ordered({ size, L, o0, Rn, Rt }: DisFields): string {
  const name = L === 1 ? (o0 === 1 ? "ldar" : "ldlar") : o0 === 1 ? "stlr" : "stllr";
  return `${name}${SUFFIX[size]} ${reg(wide(size), Rt)}, [${xsp(Rn)}]`;
}

const order = (acquire: number, release: number): string =>
  `${acquire === 1 ? "a" : ""}${release === 1 ? "l" : ""}`;

function compareSwap({ size, L, Rs, o0, Rn, Rt }: DisFields): string {
  const sf = wide(size);
  return `cas${order(L, o0)}${SUFFIX[size]} ${reg(sf, Rs)}, ${reg(sf, Rt)}, [${xsp(Rn)}]`;
}

function compareSwapPair({ sz, L, Rs, o0, Rn, Rt }: DisFields): string | null {
  if ((Rs & 1) === 1 || (Rt & 1) === 1) return null;
  const pair = (n: number) => `${reg(sz, n)}, ${reg(sz, n + 1)}`;
  return `casp${order(L, o0)} ${pair(Rs)}, ${pair(Rt)}, [${xsp(Rn)}]`;
}

const OPERATIONS = ["add", "clr", "eor", "set", "smax", "smin", "umax", "umin"];

function atomic({ size, A, R, Rs, opc, Rn, Rt }: DisFields): string {
  const sf = wide(size);
  const operation = OPERATIONS[opc];
  const at = `[${xsp(Rn)}]`;
  if (Rt === ZERO && A === 0) {
    return `st${operation}${order(0, R)}${SUFFIX[size]} ${reg(sf, Rs)}, ${at}`;
  }
  return `ld${operation}${order(A, R)}${SUFFIX[size]} ${reg(sf, Rs)}, ${reg(sf, Rt)}, ${at}`;
}

function swap({ size, A, R, Rs, Rn, Rt }: DisFields): string {
  const sf = wide(size);
  return `swp${order(A, R)}${SUFFIX[size]} ${reg(sf, Rs)}, ${reg(sf, Rt)}, [${xsp(Rn)}]`;
}

/** LDAPUR and its like. */
function unscaledOrdered({ size, opc, imm9, Rn, Rt }: DisFields): string | null {
  if ((size === 3 && opc > 1) || (size === 2 && opc === 3)) return null;
  const by = signed(imm9, 9);
  const at = `[${xsp(Rn)}${offset(by)}]`;
  if (opc === 0) return `stlur${SUFFIX[size]} ${reg(wide(size), Rt)}, ${at}`;
  if (opc === 1) return `ldapur${SUFFIX[size]} ${reg(wide(size), Rt)}, ${at}`;
  return `ldapurs${["b", "h", "w"][size]} ${reg(opc === 2 ? 1 : 0, Rt)}, ${at}`;
}

export const EXCLUSIVE: readonly Row[] = [
  row("size:2 001000 0 L:1 0 Rs:5 o0:1 Rt2:5 Rn:5 Rt:5", exclusive),
  row("1 sz:1 001000 0 L:1 1 Rs:5 o0:1 Rt2:5 Rn:5 Rt:5", exclusivePair),
  row("size:2 001000 1 L:1 0 Rs:5 o0:1 Rt2:5 Rn:5 Rt:5", ordered),
  row("size:2 001000 1 L:1 1 Rs:5 o0:1 11111 Rn:5 Rt:5", compareSwap),
  row("0 sz:1 001000 0 L:1 1 Rs:5 o0:1 11111 Rn:5 Rt:5", compareSwapPair),
  row("size:2 111000 A:1 R:1 1 Rs:5 0 opc:3 00 Rn:5 Rt:5", atomic),
  row("size:2 111000 A:1 R:1 1 Rs:5 1 000 00 Rn:5 Rt:5", swap),
  row("size:2 111000 10 1 11111 1 100 00 Rn:5 Rt:5", ({ size, Rn, Rt }) => {
    return `ldapr${SUFFIX[size]} ${reg(wide(size), Rt)}, [${xsp(Rn)}]`;
  }),
  row("size:2 011001 opc:2 0 imm9:9 00 Rn:5 Rt:5", unscaledOrdered),
];
