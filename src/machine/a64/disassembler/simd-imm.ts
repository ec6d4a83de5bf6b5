// Owns: texts of Advanced SIMD shifts by immediate, modified immediates, elements. Any thread.
// @source Arm ARM C4.1, "Advanced SIMD shift by immediate", "… modified immediate", "… indexed"
import { arrangement, floatImmediate, hex, lane, letter, scalar, vec } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";
import { ELEMENT, SHIFT } from "./simd.table.js";

const HALF = 1;
const SINGLE = 2;
const DOUBLE = 3;

/** Element size from the highest one bit of immh. */
const sizeOf = (immh: number): number => 31 - Math.clz32(immh);

function amount({ immh, immb }: DisFields, isRight: boolean): number {
  const bits = 8 << sizeOf(immh);
  const value = immh * 8 + immb;
  return isRight ? 2 * bits - value : value - bits;
}

function shift(f: DisFields): string | null {
  const { Q, U, immh, opcode, Rn, Rd } = f;
  const [name, direction, shape] = SHIFT[`${U} ${opcode}`] ?? [];
  if (immh === 0 || name === undefined) return null;
  const size = sizeOf(immh);
  const by = amount(f, direction === "right");
  const upper = Q === 1 ? "2" : "";
  if (shape === "same") {
    if (size === DOUBLE && Q === 0) return null;
    return `${name} ${vec(Rd, size, Q)}, ${vec(Rn, size, Q)}, #${by}`;
  }
  if (size === DOUBLE) return null;
  const [narrow, wide] = [arrangement(size, Q), arrangement(size + 1, 1)];
  if (shape === "narrow") return `${name}${upper} v${Rd}.${narrow}, v${Rn}.${wide}, #${by}`;
  if (by === 0) return `${name.replace("shll", "xtl")}${upper} v${Rd}.${wide}, v${Rn}.${narrow}`;
  return `${name}${upper} v${Rd}.${wide}, v${Rn}.${narrow}, #${by}`;
}

function scalarShift(f: DisFields): string | null {
  const { U, immh, opcode, Rn, Rd } = f;
  const [name, direction, shape, sizes = ""] = SHIFT[`${U} ${opcode}`] ?? [];
  if (immh === 0 || name === undefined || !sizes.includes(letter(sizeOf(immh)))) return null;
  const size = sizeOf(immh);
  const from = shape === "narrow" ? size + 1 : size;
  const by = amount(f, direction === "right");
  return `${name} ${scalar(size, Rd)}, ${scalar(from, Rn)}, #${by}`;
}

/** SCVTF, UCVTF, FCVTZS, FCVTZU with fraction bits. */
function fixedPoint(f: DisFields, isScalar: boolean): string | null {
  const { Q, U, immh, opcode, Rn, Rd } = f;
  const size = sizeOf(immh);
  if (immh < 2 || (!isScalar && size === DOUBLE && Q === 0)) return null;
  const sign = U === 1 ? "u" : "s";
  const name = opcode === 31 ? `fcvtz${sign}` : `${sign}cvtf`;
  const reg = (n: number) => (isScalar ? scalar(size, n) : vec(n, size, Q));
  return `${name} ${reg(Rd)}, ${reg(Rn)}, #${amount(f, true)}`;
}

const shiftLeft = (by: number): string => (by === 0 ? "" : `, lsl #${by}`);

/** Each bit of the byte becomes a byte of ones or zeros. */
function bytesOf(imm8: number): bigint {
  let value = 0n;
  for (let bit = 0; bit < 8; bit++) if ((imm8 >> bit) & 1) value |= 0xffn << BigInt(8 * bit);
  return value;
}

function modified({ Q, op, abc, cmode, o2, defgh, Rd }: DisFields): string | null {
  const imm8 = abc * 32 + defgh;
  if (o2 === 1) {
    if (cmode !== 15 || op !== 0) return null;
    return `fmov ${vec(Rd, HALF, Q)}, ${floatImmediate(imm8)}`;
  }
  const move = op === 1 ? "mvni" : "movi";
  const change = op === 1 ? "bic" : "orr";
  if (cmode < 12) {
    // tidy: cmodes of lsl come first
    const size = cmode < 8 ? SINGLE : HALF;
    const by = 8 * ((cmode >> 1) & (size === SINGLE ? 3 : 1));
    const name = (cmode & 1) === 1 ? change : move;
    return `${name} ${vec(Rd, size, Q)}, ${hex(imm8)}${shiftLeft(by)}`;
  }
  if (cmode < 14) return `${move} ${vec(Rd, SINGLE, Q)}, ${hex(imm8)}, msl #${8 << (cmode & 1)}`;
  if (cmode === 15) {
    if (op === 1 && Q === 0) return null;
    return `fmov ${vec(Rd, SINGLE + op, Q)}, ${floatImmediate(imm8)}`;
  }
  if (op === 0) return `movi ${vec(Rd, 0, Q)}, ${hex(imm8)}`;
  return `movi ${Q === 1 ? vec(Rd, DOUBLE, 1) : scalar(DOUBLE, Rd)}, ${hex(bytesOf(imm8))}`;
}

/** The element that a size names. @returns null where the size has none */
function indexed({ L, M, H, Rm }: DisFields, size: number): readonly [number, number] | null {
  if (size === HALF) return [Rm, 4 * H + 2 * L + M];
  if (size === SINGLE) return [16 * M + Rm, 2 * H + L];
  return size === DOUBLE && L === 0 ? [16 * M + Rm, H] : null;
}

/** Of floats: 0 is half, 2 single, 3 double. */
function elementSize(size: number, isFloat: boolean): number {
  if (!isFloat) return size === HALF || size === SINGLE ? size : -1;
  return size === 0 ? HALF : size >= SINGLE ? size : -1;
}

function byElement(f: DisFields, isScalar: boolean): string | null {
  const { Q, U, size: sized, opcode, Rn, Rd } = f;
  const [name, shape, hasScalar] = ELEMENT[`${U} ${opcode}`] ?? [];
  if (name === undefined || (isScalar && hasScalar !== true)) return null;
  const size = elementSize(sized, shape === "float");
  const found = size < 0 ? null : indexed(f, size);
  if (found === null) return null;
  const element = lane(found[0], size, found[1]);
  const to = shape === "long" ? size + 1 : size;
  if (isScalar) return `${name} ${scalar(to, Rd)}, ${scalar(size, Rn)}, ${element}`;
  if (shape === "long") {
    return `${name}${Q === 1 ? "2" : ""} ${vec(Rd, to, 1)}, ${vec(Rn, size, Q)}, ${element}`;
  }
  if (size === DOUBLE && Q === 0) return null;
  return `${name} ${vec(Rd, size, Q)}, ${vec(Rn, size, Q)}, ${element}`;
}

/** Dot products with a group of elements: "v1.4b[2]". */
function dotElement(name: string, size: number, group: string) {
  return ({ Q, L, M, H, Rm, Rn, Rd }: DisFields): string => {
    const element = `v${16 * M + Rm}.${group}[${2 * H + L}]`;
    return `${name} ${vec(Rd, SINGLE, Q)}, ${vec(Rn, size, Q)}, ${element}`;
  };
}

/** FMLAL and its like by element. */
function longElement(name: string) {
  return (f: DisFields): string => {
    const halves = f.Q === 1 ? "4h" : "2h";
    const [m, at] = indexed(f, HALF) ?? [0, 0];
    return `${name} ${vec(f.Rd, SINGLE, f.Q)}, v${f.Rn}.${halves}, ${lane(m, HALF, at)}`;
  };
}

function bfmlal(f: DisFields): string {
  const name = f.Q === 1 ? "bfmlalt" : "bfmlalb";
  const [m, at] = indexed(f, HALF) ?? [0, 0];
  return `${name} ${vec(f.Rd, SINGLE, 1)}, ${vec(f.Rn, HALF, 1)}, ${lane(m, HALF, at)}`;
}

function complexElement(f: DisFields): string | null {
  const { Q, size, L, M, H, Rm, rot, Rn, Rd } = f;
  if (size !== HALF && size !== SINGLE) return null;
  if (size === SINGLE ? L === 1 || Q === 0 : H === 1 && Q === 0) return null;
  const at = size === HALF ? 2 * H + L : H;
  const element = lane(16 * M + Rm, size, at);
  return `fcmla ${vec(Rd, size, Q)}, ${vec(Rn, size, Q)}, ${element}, #${90 * rot}`;
}

const REGS = "Rn:5 Rd:5";
const LMR = "L:1 M:1 Rm:4";

export const SIMD_IMM: readonly Row[] = [
  row(`0 Q:1 U:1 011110 immh:4 immb:3 opcode:5 1 ${REGS}`, shift),
  row(`01 U:1 111110 immh:4 immb:3 opcode:5 1 ${REGS}`, scalarShift),
  row(`0 Q:1 U:1 011110 immh:4 immb:3 11100 1 ${REGS}`, (f) => {
    return fixedPoint({ ...f, opcode: 28 }, false);
  }),
  row(`0 Q:1 U:1 011110 immh:4 immb:3 11111 1 ${REGS}`, (f) => {
    return fixedPoint({ ...f, opcode: 31 }, false);
  }),
  row(`01 U:1 111110 immh:4 immb:3 11100 1 ${REGS}`, (f) => fixedPoint({ ...f, opcode: 28 }, true)),
  row(`01 U:1 111110 immh:4 immb:3 11111 1 ${REGS}`, (f) => fixedPoint({ ...f, opcode: 31 }, true)),
  row("0 Q:1 op:1 0111100000 abc:3 cmode:4 o2:1 1 defgh:5 Rd:5", modified),
  row(`0 Q:1 U:1 01111 size:2 ${LMR} opcode:4 H:1 0 ${REGS}`, (f) => byElement(f, false)),
  row(`01 U:1 11111 size:2 ${LMR} opcode:4 H:1 0 ${REGS}`, (f) => byElement(f, true)),
  row(`0 Q:1 0 01111 10 ${LMR} 1110 H:1 0 ${REGS}`, dotElement("sdot", 0, "4b")),
  row(`0 Q:1 1 01111 10 ${LMR} 1110 H:1 0 ${REGS}`, dotElement("udot", 0, "4b")),
  row(`0 Q:1 0 01111 10 ${LMR} 1111 H:1 0 ${REGS}`, dotElement("usdot", 0, "4b")),
  row(`0 Q:1 0 01111 00 ${LMR} 1111 H:1 0 ${REGS}`, dotElement("sudot", 0, "4b")),
  row(`0 Q:1 0 01111 01 ${LMR} 1111 H:1 0 ${REGS}`, dotElement("bfdot", HALF, "2h")),
  row(`0 Q:1 0 01111 11 ${LMR} 1111 H:1 0 ${REGS}`, bfmlal),
  row(`0 Q:1 0 01111 10 ${LMR} 0000 H:1 0 ${REGS}`, longElement("fmlal")),
  row(`0 Q:1 0 01111 10 ${LMR} 0100 H:1 0 ${REGS}`, longElement("fmlsl")),
  row(`0 Q:1 1 01111 10 ${LMR} 1000 H:1 0 ${REGS}`, longElement("fmlal2")),
  row(`0 Q:1 1 01111 10 ${LMR} 1100 H:1 0 ${REGS}`, longElement("fmlsl2")),
  row(`0 Q:1 1 01111 size:2 ${LMR} 0 rot:2 1 H:1 0 ${REGS}`, complexElement),
];
