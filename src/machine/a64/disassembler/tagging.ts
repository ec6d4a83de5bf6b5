// Owns: texts of memory tagging and of authenticated loads, which a kernel has in it. Any thread.
// @source Arm ARM C4.1, FEAT_MTE and FEAT_PAuth rows of its tables
import { dec, hex, offset, place, signed, x, xsp } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";

const ZERO = 31;
const GRANULE = 16;

const STORES = ["stg", "stzg", "st2g", "stz2g"];

function storeTag({ opc, imm9, mode, Rn, Rt }: DisFields): string | null {
  const by = GRANULE * signed(imm9, 9);
  const base = xsp(Rn);
  if (mode === 0) {
    if (opc === 1) return `ldg ${x(Rt)}, [${base}${offset(by)}]`;
    return imm9 === 0 ? `${["stzgm", "", "stgm", "ldgm"][opc]} ${x(Rt)}, [${base}]` : null;
  }
  return `${STORES[opc]} ${xsp(Rt)}, ${place(base, mode, by)}`;
}

function storePair({ mode, imm7, Rt2, Rn, Rt }: DisFields): string | null {
  if (mode === 0) return null;
  const by = GRANULE * signed(imm7, 7);
  return `stgp ${x(Rt)}, ${x(Rt2)}, ${place(xsp(Rn), mode, by)}`;
}

function subtract(f: DisFields, s: string): string {
  const { Rm, Rn, Rd } = f;
  if (s === "s" && Rd === ZERO) return `cmpp ${xsp(Rn)}, ${xsp(Rm)}`;
  return `subp${s} ${x(Rd)}, ${xsp(Rn)}, ${xsp(Rm)}`;
}

export const TAGGING: readonly Row[] = [
  row("1 op:1 0 100011 0 imm6:6 00 imm4:4 Rn:5 Rd:5", ({ op, imm6, imm4, Rn, Rd }) => {
    const name = op === 1 ? "subg" : "addg";
    return `${name} ${xsp(Rd)}, ${xsp(Rn)}, ${hex(GRANULE * imm6)}, ${hex(imm4)}`;
  }),
  row("10011010110 Rm:5 000000 Rn:5 Rd:5", (f) => subtract(f, "")),
  row("10111010110 Rm:5 000000 Rn:5 Rd:5", (f) => subtract(f, "s")),
  row("10011010110 Rm:5 000100 Rn:5 Rd:5", ({ Rm, Rn, Rd }) => {
    return `irg ${xsp(Rd)}, ${xsp(Rn)}${Rm === ZERO ? "" : `, ${x(Rm)}`}`;
  }),
  row("10011010110 Rm:5 000101 Rn:5 Rd:5", ({ Rm, Rn, Rd }) => {
    return `gmi ${x(Rd)}, ${xsp(Rn)}, ${x(Rm)}`;
  }),
  row("11011001 opc:2 1 imm9:9 mode:2 Rn:5 Rt:5", storeTag),
  row("01 101 0 0 mode:2 0 imm7:7 Rt2:5 Rn:5 Rt:5", storePair),
  row("11111000 M:1 S:1 1 imm9:9 op:1 1 Rn:5 Rt:5", ({ M, S, imm9, op, Rn, Rt }) => {
    const by = 8 * signed(512 * S + imm9, 10);
    const name = M === 1 ? "ldrab" : "ldraa";
    if (op === 1) return `${name} ${x(Rt)}, [${xsp(Rn)}, ${dec(by)}]!`;
    return `${name} ${x(Rt)}, [${xsp(Rn)}${offset(by)}]`;
  }),
];
