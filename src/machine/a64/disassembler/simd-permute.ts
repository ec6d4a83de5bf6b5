// Owns: texts of Advanced SIMD copy, permute, extract, table lookup; cryptography. Any thread.
// @source Arm ARM C4.1, "Advanced SIMD copy", "… permute", "Cryptographic …"
import { lane, list, reg, scalar, vec } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";

const DOUBLE = 3;

/** Element size and index in imm5: the lowest one bit tells the size. */
function elementOf(imm5: number): readonly [size: number, index: number] | null {
  if ((imm5 & 15) === 0) return null;
  const size = 31 - Math.clz32(imm5 & -imm5);
  return [size, imm5 >> (size + 1)];
}

/** A text of what imm5 names. */
const withElement =
  (text: (f: DisFields, size: number, index: number) => string | null) =>
  (f: DisFields): string | null => {
    const found = elementOf(f.imm5);
    return found === null ? null : text(f, ...found);
  };

const generalOf = (size: number): number => (size === DOUBLE ? 1 : 0);

const dupElement = withElement(({ Q, Rn, Rd }, size, at) =>
  size === DOUBLE && Q === 0 ? null : `dup ${vec(Rd, size, Q)}, ${lane(Rn, size, at)}`,
);
const dupGeneral = withElement(({ Q, Rn, Rd }, size) =>
  size === DOUBLE && Q === 0 ? null : `dup ${vec(Rd, size, Q)}, ${reg(generalOf(size), Rn)}`,
);
const dupScalar = withElement(
  ({ Rn, Rd }, size, at) => `mov ${scalar(size, Rd)}, ${lane(Rn, size, at)}`,
);
const smov = withElement(({ Q, Rn, Rd }, size, at) =>
  size >= 2 + Q ? null : `smov ${reg(Q, Rd)}, ${lane(Rn, size, at)}`,
);
const umov = withElement(({ Q, Rn, Rd }, size, at) => {
  if ((size === DOUBLE) !== (Q === 1)) return null;
  return `${size >= 2 ? "mov" : "umov"} ${reg(Q, Rd)}, ${lane(Rn, size, at)}`;
});
const insertGeneral = withElement(
  ({ Rn, Rd }, size, at) => `mov ${lane(Rd, size, at)}, ${reg(generalOf(size), Rn)}`,
);
const insertElement = withElement(
  ({ imm4, Rn, Rd }, size, at) => `mov ${lane(Rd, size, at)}, ${lane(Rn, size, imm4 >> size)}`,
);

const PERMUTES = ["", "uzp1", "trn1", "zip1", "", "uzp2", "trn2", "zip2"];

function permute({ Q, size, opcode, Rm, Rn, Rd }: DisFields): string | null {
  const name = PERMUTES[opcode] ?? "";
  if (name === "" || (size === DOUBLE && Q === 0)) return null;
  return `${name} ${[Rd, Rn, Rm].map((n) => vec(n, size, Q)).join(", ")}`;
}

function table({ Q, len, op, Rm, Rn, Rd }: DisFields): string {
  const from = list(Rn, len + 1, "16b");
  return `${op === 1 ? "tbx" : "tbl"} ${vec(Rd, 0, Q)}, ${from}, ${vec(Rm, 0, Q)}`;
}

/** A row whose registers are letters: "q" and "s" scalars, others arrangements. */
function shaped(pattern: string, name: string, shapes: readonly string[]): Row {
  return row(pattern, ({ Rd, Rn, Rm, Ra }) => {
    const regs = [Rd, Rn, Rm, Ra].slice(0, shapes.length).map((n, at) => {
      const shape = shapes[at] ?? "";
      return shape.length === 1 ? `${shape}${n}` : `v${n}.${shape}`;
    });
    return `${name} ${regs.join(", ")}`;
  });
}

const REGS = "Rn:5 Rd:5";
const S4 = "4s";
const D2 = "2d";
const B16 = "16b";

const CRYPTO: readonly Row[] = [
  shaped(`0100111000101000 0100 10 ${REGS}`, "aese", [B16, B16]),
  shaped(`0100111000101000 0101 10 ${REGS}`, "aesd", [B16, B16]),
  shaped(`0100111000101000 0110 10 ${REGS}`, "aesmc", [B16, B16]),
  shaped(`0100111000101000 0111 10 ${REGS}`, "aesimc", [B16, B16]),
  shaped(`01011110000 Rm:5 0 000 00 ${REGS}`, "sha1c", ["q", "s", S4]),
  shaped(`01011110000 Rm:5 0 001 00 ${REGS}`, "sha1p", ["q", "s", S4]),
  shaped(`01011110000 Rm:5 0 010 00 ${REGS}`, "sha1m", ["q", "s", S4]),
  shaped(`01011110000 Rm:5 0 011 00 ${REGS}`, "sha1su0", [S4, S4, S4]),
  shaped(`01011110000 Rm:5 0 100 00 ${REGS}`, "sha256h", ["q", "q", S4]),
  shaped(`01011110000 Rm:5 0 101 00 ${REGS}`, "sha256h2", ["q", "q", S4]),
  shaped(`01011110000 Rm:5 0 110 00 ${REGS}`, "sha256su1", [S4, S4, S4]),
  shaped(`0101111000101000 0000 10 ${REGS}`, "sha1h", ["s", "s"]),
  shaped(`0101111000101000 0001 10 ${REGS}`, "sha1su1", [S4, S4]),
  shaped(`0101111000101000 0010 10 ${REGS}`, "sha256su0", [S4, S4]),
  shaped(`11001110011 Rm:5 100000 ${REGS}`, "sha512h", ["q", "q", D2]),
  shaped(`11001110011 Rm:5 100001 ${REGS}`, "sha512h2", ["q", "q", D2]),
  shaped(`11001110011 Rm:5 100010 ${REGS}`, "sha512su1", [D2, D2, D2]),
  shaped(`11001110011 Rm:5 100011 ${REGS}`, "rax1", [D2, D2, D2]),
  shaped(`11001110011 Rm:5 110000 ${REGS}`, "sm3partw1", [S4, S4, S4]),
  shaped(`11001110011 Rm:5 110001 ${REGS}`, "sm3partw2", [S4, S4, S4]),
  shaped(`11001110011 Rm:5 110010 ${REGS}`, "sm4ekey", [S4, S4, S4]),
  shaped(`1100111011000000100000 ${REGS}`, "sha512su0", [D2, D2]),
  shaped(`1100111011000000100001 ${REGS}`, "sm4e", [S4, S4]),
  shaped(`110011100 00 Rm:5 0 Ra:5 ${REGS}`, "eor3", [B16, B16, B16, B16]),
  shaped(`110011100 01 Rm:5 0 Ra:5 ${REGS}`, "bcax", [B16, B16, B16, B16]),
  shaped(`110011100 10 Rm:5 0 Ra:5 ${REGS}`, "sm3ss1", [S4, S4, S4, S4]),
  row(`11001110100 Rm:5 imm6:6 ${REGS}`, ({ Rm, imm6, Rn, Rd }) => {
    return `xar v${Rd}.2d, v${Rn}.2d, v${Rm}.2d, #${imm6}`;
  }),
  row(`11001110010 Rm:5 10 imm2:2 opcode:2 ${REGS}`, ({ Rm, imm2, opcode, Rn, Rd }) => {
    const name = ["1a", "1b", "2a", "2b"][opcode];
    return `sm3tt${name} v${Rd}.4s, v${Rn}.4s, v${Rm}.s[${imm2}]`;
  }),
];

export const SIMD_PERMUTE: readonly Row[] = [
  row(`0 Q:1 0 01110000 imm5:5 0 0000 1 ${REGS}`, dupElement),
  row(`0 Q:1 0 01110000 imm5:5 0 0001 1 ${REGS}`, dupGeneral),
  row(`01 0 11110000 imm5:5 0 0000 1 ${REGS}`, dupScalar),
  row(`0 Q:1 0 01110000 imm5:5 0 0101 1 ${REGS}`, smov),
  row(`0 Q:1 0 01110000 imm5:5 0 0111 1 ${REGS}`, umov),
  row(`01 0 01110000 imm5:5 0 0011 1 ${REGS}`, insertGeneral),
  row(`01 1 01110000 imm5:5 0 imm4:4 1 ${REGS}`, insertElement),
  row(`0 Q:1 001110 size:2 0 Rm:5 0 opcode:3 10 ${REGS}`, permute),
  row(`0 Q:1 001110 000 Rm:5 0 len:2 op:1 00 ${REGS}`, table),
  row(`0 Q:1 101110 000 Rm:5 0 imm4:4 0 ${REGS}`, ({ Q, Rm, imm4, Rn, Rd }) => {
    if (Q === 0 && imm4 > 7) return null;
    return `ext ${[Rd, Rn, Rm].map((n) => vec(n, 0, Q)).join(", ")}, #${imm4}`;
  }),
  ...CRYPTO,
];
