// Owns: texts of data processing with an immediate. Any thread.
// @source Arm ARM C4.1, "Data Processing -- Immediate"
import { bitMasks } from "../bit-masks.js";
import { address, dec, hex, reg, regSp, signed, x } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";

const ZERO = 31;
const widthOf = (sf: number): number => (sf === 1 ? 64 : 32);

function addSub({ sf, op, S, sh, imm12, Rn, Rd }: DisFields): string {
  const imm = `${hex(imm12)}${sh === 1 ? ", lsl #12" : ""}`;
  const n = regSp(sf, Rn);
  if (S === 1 && Rd === ZERO) return `${op === 1 ? "cmp" : "cmn"} ${n}, ${imm}`;
  if (S === 1) return `${op === 1 ? "subs" : "adds"} ${reg(sf, Rd)}, ${n}, ${imm}`;
  const isMove = op === 0 && sh === 0 && imm12 === 0 && (Rd === ZERO || Rn === ZERO);
  if (isMove) return `mov ${regSp(sf, Rd)}, ${n}`;
  return `${op === 1 ? "sub" : "add"} ${regSp(sf, Rd)}, ${n}, ${imm}`;
}

/** Whether MOVZ or MOVN could make the value: then ORR is no MOV. */
function moveWidePreferred(sf: number, value: bigint): boolean {
  const inverse = BigInt.asUintN(widthOf(sf), ~value);
  return [0n, 16n, 32n, 48n].some((by) => {
    const others = ~(0xffffn << by);
    return (value & others) === 0n || (inverse & others) === 0n;
  });
}

function logical({ sf, opc, N, immr, imms, Rn, Rd }: DisFields): string | null {
  const masks = bitMasks(sf, N, imms, immr, true);
  if (masks === null) return null;
  const imm = hex(masks.wmask);
  if (opc === 3) {
    if (Rd === ZERO) return `tst ${reg(sf, Rn)}, ${imm}`;
    return `ands ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${imm}`;
  }
  // Only ORR can write SP.
  if (opc === 1 && Rn === ZERO && (Rd === ZERO || !moveWidePreferred(sf, masks.wmask))) {
    return `mov ${regSp(sf, Rd)}, ${imm}`;
  }
  return `${["and", "orr", "eor"][opc]} ${regSp(sf, Rd)}, ${reg(sf, Rn)}, ${imm}`;
}

function moveWide({ sf, opc, hw, imm16, Rd }: DisFields): string | null {
  if (opc === 1 || (sf === 0 && hw > 1)) return null;
  const shift = hw === 0 ? "" : `, lsl #${16 * hw}`;
  const plain = `${hex(imm16)}${shift}`;
  if (opc === 3) return `movk ${reg(sf, Rd)}, ${plain}`;
  const value = BigInt(imm16) << BigInt(16 * hw);
  const hasForm = imm16 !== 0 || hw === 0;
  if (opc === 2) {
    return hasForm ? `mov ${reg(sf, Rd)}, ${hex(value)}` : `movz ${reg(sf, Rd)}, ${plain}`;
  }
  if (!hasForm || (sf === 0 && imm16 === 0xffff)) return `movn ${reg(sf, Rd)}, ${plain}`;
  return `mov ${reg(sf, Rd)}, ${hex(BigInt.asUintN(widthOf(sf), ~value))}`;
}

function validBitfield({ sf, N, immr, imms }: DisFields): boolean {
  return sf === N && (sf === 1 || (immr < 32 && imms < 32));
}

/** "d, n, #lsb, #width" of an insertion (imms < immr) or an extraction. */
function fieldOf({ sf, immr, imms, Rn, Rd }: DisFields): string {
  const regs = `${reg(sf, Rd)}, ${reg(sf, Rn)}`;
  if (imms < immr) return `${regs}, ${dec(widthOf(sf) - immr)}, ${dec(imms + 1)}`;
  return `${regs}, ${dec(immr)}, ${dec(imms - immr + 1)}`;
}

function sbfm(f: DisFields): string | null {
  const { sf, immr, imms, Rn, Rd } = f;
  if (!validBitfield(f)) return null;
  if (imms === widthOf(sf) - 1) return `asr ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${dec(immr)}`;
  if (imms < immr) return `sbfiz ${fieldOf(f)}`;
  const extend = immr !== 0 ? undefined : { 7: "sxtb", 15: "sxth", 31: "sxtw" }[imms];
  if (extend !== undefined) return `${extend} ${reg(sf, Rd)}, ${reg(0, Rn)}`;
  return `sbfx ${fieldOf(f)}`;
}

function ubfm(f: DisFields): string | null {
  const { sf, immr, imms, Rn, Rd } = f;
  if (!validBitfield(f)) return null;
  const top = widthOf(sf) - 1;
  if (imms === top) return `lsr ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${dec(immr)}`;
  if (imms + 1 === immr) return `lsl ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${dec(top - imms)}`;
  if (imms < immr) return `ubfiz ${fieldOf(f)}`;
  const extend = sf === 1 || immr !== 0 ? undefined : { 7: "uxtb", 15: "uxth" }[imms];
  if (extend !== undefined) return `${extend} ${reg(sf, Rd)}, ${reg(0, Rn)}`;
  return `ubfx ${fieldOf(f)}`;
}

function bfm(f: DisFields): string | null {
  const { sf, immr, imms, Rn, Rd } = f;
  if (!validBitfield(f)) return null;
  if (imms >= immr) return `bfxil ${fieldOf(f)}`;
  if (Rn !== ZERO) return `bfi ${fieldOf(f)}`;
  return `bfc ${reg(sf, Rd)}, ${dec(widthOf(sf) - immr)}, ${dec(imms + 1)}`;
}

function extr({ sf, N, Rm, imms, Rn, Rd }: DisFields): string | null {
  if (sf !== N || (sf === 0 && imms > 31)) return null;
  if (Rn === Rm) return `ror ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${dec(imms)}`;
  return `extr ${reg(sf, Rd)}, ${reg(sf, Rn)}, ${reg(sf, Rm)}, ${dec(imms)}`;
}

const pcOffset = ({ immhi, immlo }: DisFields): number => signed(immhi * 4 + immlo, 21);
const ADRP_SHIFT = 12n; // tidy: ADRP counts in 4 KiB, whatever the granule

export const DP_IMM: readonly Row[] = [
  row("0 immlo:2 10000 immhi:19 Rd:5", (f, pc) => `adr ${x(f.Rd)}, ${address(pc, pcOffset(f))}`),
  row("1 immlo:2 10000 immhi:19 Rd:5", (f, pc) => {
    const base = (pc >> ADRP_SHIFT) + BigInt(pcOffset(f));
    return `adrp ${x(f.Rd)}, ${address(base << ADRP_SHIFT, 0)}`;
  }),
  row("sf:1 op:1 S:1 100010 sh:1 imm12:12 Rn:5 Rd:5", addSub),
  row("sf:1 opc:2 100100 N:1 immr:6 imms:6 Rn:5 Rd:5", logical),
  row("sf:1 opc:2 100101 hw:2 imm16:16 Rd:5", moveWide),
  row("sf:1 00 100110 N:1 immr:6 imms:6 Rn:5 Rd:5", sbfm),
  row("sf:1 01 100110 N:1 immr:6 imms:6 Rn:5 Rd:5", bfm),
  row("sf:1 10 100110 N:1 immr:6 imms:6 Rn:5 Rd:5", ubfm),
  row("sf:1 00 100111 N:1 0 Rm:5 imms:6 Rn:5 Rd:5", extr),
];
