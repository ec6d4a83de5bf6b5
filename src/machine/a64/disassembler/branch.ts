// Owns: texts of branches and exception generation. Any thread.
// @source Arm ARM C4.1, "Branches, Exception Generating and System instructions"
import { address, CONDITIONS, dec, hex, reg, regSp, signed, x } from "./names.js";
import { type Row, row } from "./row.js";

const byte = (imm: number, bits: number): number => 4 * signed(imm, bits);

function conditional(o0: string, name: string): Row {
  return row(`01010100 imm19:19 ${o0} cond:4`, ({ imm19, cond }, pc) => {
    return `${name}.${CONDITIONS[cond]} ${address(pc, byte(imm19, 19))}`;
  });
}

function exception(opc: string, low: string, name: string): Row {
  return row(`11010100 ${opc} imm16:16 ${low}`, ({ imm16 }) => `${name} ${hex(imm16)}`);
}

function debugState(level: number, low: string): Row {
  return row(`11010100 101 imm16:16 ${low}`, ({ imm16 }) => {
    return imm16 === 0 ? `dcps${level}` : `dcps${level} ${hex(imm16)}`;
  });
}

/** BRAA and its like: a modifier register, or none for the Z forms. */
function authenticated(opc: string, name: string): readonly Row[] {
  return [
    row(`1101011 1 ${opc} 11111 00001 M:1 Rn:5 Rm:5`, ({ M, Rn, Rm }) => {
      return `${name}a${M === 1 ? "b" : "a"} ${x(Rn)}, ${regSp(1, Rm)}`;
    }),
    row(`1101011 0 ${opc} 11111 00001 M:1 Rn:5 11111`, ({ M, Rn }) => {
      return `${name}a${M === 1 ? "b" : "a"}z ${x(Rn)}`;
    }),
  ];
}

export const BRANCH: readonly Row[] = [
  conditional("0", "b"),
  conditional("1", "bc"),
  row("op:1 00101 imm26:26", ({ op, imm26 }, pc) => {
    return `${op === 1 ? "bl" : "b"} ${address(pc, byte(imm26, 26))}`;
  }),
  row("sf:1 011010 op:1 imm19:19 Rt:5", ({ sf, op, imm19, Rt }, pc) => {
    return `${op === 1 ? "cbnz" : "cbz"} ${reg(sf, Rt)}, ${address(pc, byte(imm19, 19))}`;
  }),
  row("b5:1 011011 op:1 b40:5 imm14:14 Rt:5", ({ b5, op, b40, imm14, Rt }, pc) => {
    const target = address(pc, byte(imm14, 14));
    return `${op === 1 ? "tbnz" : "tbz"} ${reg(b5, Rt)}, ${dec(32 * b5 + b40)}, ${target}`;
  }),
  row("1101011 0000 11111 000000 Rn:5 00000", ({ Rn }) => `br ${x(Rn)}`),
  row("1101011 0001 11111 000000 Rn:5 00000", ({ Rn }) => `blr ${x(Rn)}`),
  row("1101011 0010 11111 000000 Rn:5 00000", ({ Rn }) => (Rn === 30 ? "ret" : `ret ${x(Rn)}`)),
  row("1101011 0100 11111 000000 11111 00000", () => "eret"),
  row("1101011 0101 11111 000000 11111 00000", () => "drps"),
  ...authenticated("000", "br"),
  ...authenticated("001", "blr"),
  row("1101011 0010 11111 00001 M:1 11111 11111", ({ M }) => `reta${M === 1 ? "b" : "a"}`),
  row("1101011 0100 11111 00001 M:1 11111 11111", ({ M }) => `ereta${M === 1 ? "b" : "a"}`),
  exception("000", "00001", "svc"),
  exception("000", "00010", "hvc"),
  exception("000", "00011", "smc"),
  exception("001", "00000", "brk"),
  exception("010", "00000", "hlt"),
  debugState(1, "00001"),
  debugState(2, "00010"),
  debugState(3, "00011"),
  row("0000000000000000 imm16:16", ({ imm16 }) => `udf ${dec(imm16)}`),
];
