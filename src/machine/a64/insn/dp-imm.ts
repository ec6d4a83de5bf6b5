// Owns: data processing with an immediate. VM thread.
// @source Arm ARM C4.1, "Data Processing -- Immediate"
import { const32 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { bitMasks } from "../bit-masks.js";
import { type Insn, insn } from "../insn.js";
import { dst, type Imm64, imm32, imm64, sp, src, type XReg } from "../operand.js";
import type { Fields } from "../pattern.js";

/** ADD, ADDS, SUB, SUBS with operand kinds of their own: only the S forms write XZR. */
function addSub(name: string, s: 0 | 1): Insn {
  return insn(name, `sf:1 op:1 ${s} 100010 sh:1 imm12:12 Rn:5 Rd:5`, {
    split: ["sf", "op"],
    ops: ({ sh, imm12, Rn, Rd }) => ({
      d: s === 1 ? dst(Rd!) : sp(Rd!),
      n: sp(Rn!),
      imm: imm64(imm12! * (sh === 1 ? 2 ** 12 : 1)), // tidy: the architected shift of 12
    }),
    sem: (a, { d, n, imm }, { sf, op }) => {
      if (sf === 1) addSub64(a, d, n, imm, op === 1, s === 1);
      else addSub32(a, d, n, imm, op === 1, s === 1);
    },
  });
}

function addSub64(a: Asm, d: XReg, n: XReg, imm: Imm64, isSub: boolean, sets: boolean): void {
  const [x, y] = [a.x(n), a.imm64(imm)];
  const r = a.keep(isSub ? x.sub(y) : x.add(y));
  if (sets && isSub) a.flagsOfSub(x, y, r);
  if (sets && !isSub) a.flagsOfAdd(x, y, r);
  a.setX(d, r);
}

function addSub32(a: Asm, d: XReg, n: XReg, imm: Imm64, isSub: boolean, sets: boolean): void {
  const [x, y] = [a.w(n), a.keep(a.imm64(imm).wrap())];
  const r = a.keep(isSub ? x.sub(y) : x.add(y));
  if (sets && isSub) a.flagsOfSub32(x, y, r);
  if (sets && !isSub) a.flagsOfAdd32(x, y, r);
  a.setW(d, r);
}

/** AND, ORR, EOR, ANDS: only ANDS writes XZR, the others SP. */
const LOGICAL = ["AND", "ORR", "EOR", "ANDS"] as const;

function logical(op: (typeof LOGICAL)[number], opc: number): Insn {
  const bits = opc.toString(2).padStart(2, "0");
  return insn(`${op}_log_imm`, `sf:1 ${bits} 100100 N:1 immr:6 imms:6 Rn:5 Rd:5`, {
    split: ["sf"],
    valid: ({ sf, N, immr, imms }) => bitMasks(sf!, N!, imms!, immr!, true) !== null,
    ops: ({ sf, N, immr, imms, Rn, Rd }) => ({
      d: op === "ANDS" ? dst(Rd!) : sp(Rd!),
      n: src(Rn!),
      imm: imm64(bitMasks(sf!, N!, imms!, immr!, true)?.wmask ?? 0n),
    }),
    sem: (a, { d, n, imm }, { sf }) => {
      const [x, y] = [a.x(n), a.imm64(imm)];
      // The immediate of a W form has no bits above 31, which clears the register's.
      const full = op === "ORR" ? x.or(y) : op === "EOR" ? x.xor(y) : x.and(y);
      const r = a.keep(sf === 1 ? full : full.and(0xffff_ffff));
      if (op === "ANDS" && sf === 1) a.flagsOfLogic(r);
      if (op === "ANDS" && sf === 0) a.flagsOfLogic32(a.keep(r.wrap()));
      a.setX(d, r);
    },
  });
}

/** A 32-bit form takes no shift beyond its register. */
const fitsWidth = ({ sf, hw }: Fields): boolean => sf === 1 || hw! < 2;

function moveWide(name: string, opc: string, value: (imm: bigint) => bigint): Insn {
  return insn(name, `sf:1 ${opc} 100101 hw:2 imm16:16 Rd:5`, {
    split: ["sf"],
    valid: fitsWidth,
    ops: ({ sf, hw, imm16, Rd }) => {
      const full = value(BigInt(imm16!) << BigInt(16 * hw!));
      return { d: dst(Rd!), imm: imm64(sf === 1 ? full : BigInt.asUintN(32, full)) };
    },
    sem: (a, { d, imm }) => a.setX(d, a.imm64(imm)),
  });
}

const MOVK: Insn = insn("MOVK_movewide", "sf:1 11 100101 hw:2 imm16:16 Rd:5", {
  split: ["sf", "hw"],
  when: fitsWidth,
  ops: ({ hw, imm16, Rd }) => ({
    d: dst(Rd!),
    old: src(Rd!),
    imm: imm64(BigInt(imm16!) << BigInt(16 * hw!)),
  }),
  sem: (a, { d, old, imm }, { sf, hw }) => {
    const kept = (sf === 1 ? ~0n : 0xffff_ffffn) & ~(0xffffn << BigInt(16 * hw!));
    a.setX(d, a.x(old).and(kept).or(a.imm64(imm)));
  },
});

/** Whether N says the width that sf says, and no amount is beyond it. */
const isBitfield = ({ sf, N, immr, imms }: Fields): boolean => {
  return sf === N && (sf === 1 || (immr! < 32 && imms! < 32));
};
const BITFIELD = "100110 N:1 immr:6 imms:6 Rn:5 Rd:5";

/** SBFM and UBFM are two shifts: the field up to the top, then down to where it goes. */
function bitfield(name: string, opc: string, signed: boolean): Insn {
  return insn(name, `sf:1 ${opc} ${BITFIELD}`, {
    split: ["sf"],
    valid: isBitfield,
    ops: ({ sf, immr, imms, Rn, Rd }) => {
      const width = sf === 1 ? 64 : 32;
      // Bits immr…imms to 0, or bits 0…imms to width - immr.
      const up = width - 1 - imms!;
      const down = imms! >= immr! ? up + immr! : up - (width - immr!);
      return { d: dst(Rd!), n: src(Rn!), up: imm32(up), down: imm64(down) };
    },
    sem: (a, { d, n, up, down }, { sf }) => {
      if (sf === 1) {
        const top = a.keep(a.x(n).shl(a.imm32(up).extendU()));
        const by = a.imm64(down);
        a.setX(d, signed ? top.shrS(by) : top.shrU(by));
      } else {
        const top = a.keep(a.w(n).shl(a.imm32(up)));
        const by = a.keep(a.imm64(down).wrap());
        a.setW(d, signed ? top.shrS(by) : top.shrU(by));
      }
    },
  });
}

const BFM: Insn = insn("BFM_bitfield", `sf:1 01 ${BITFIELD}`, {
  split: ["sf"],
  valid: isBitfield,
  ops: ({ sf, N, immr, imms, Rn, Rd }) => {
    const masks = bitMasks(sf!, N!, imms!, immr!, false);
    const mask = masks === null ? 0n : masks.wmask & masks.tmask;
    return { d: dst(Rd!), old: src(Rd!), n: src(Rn!), rotate: imm32(immr!), mask: imm64(mask) };
  },
  sem: (a, { d, old, n, rotate, mask }, { sf }) => {
    const by = a.imm32(rotate);
    const moved = sf === 1 ? a.x(n).rotr(by.extendU()) : a.w(n).rotr(by).extendU();
    const kept = a.x(old).and(a.imm64(mask).not());
    const r = kept.or(moved.and(a.imm64(mask)));
    a.setX(d, sf === 1 ? r : r.and(0xffff_ffff));
  },
});

const EXTR: Insn = insn("EXTR_extract", "sf:1 00 100111 N:1 0 Rm:5 imms:6 Rn:5 Rd:5", {
  split: ["sf"],
  valid: ({ sf, N, imms }) => sf === N && (sf === 1 || imms! < 32),
  ops: ({ Rm, imms, Rn, Rd }) => ({ d: dst(Rd!), n: src(Rn!), m: src(Rm!), lsb: imm32(imms!) }),
  sem: (a, { d, n, m, lsb }, { sf }) => {
    const by = a.imm32(lsb);
    if (sf === 0) {
      const both = a.x(m).and(0xffff_ffff).or(a.x(n).shl(32));
      a.setX(d, both.shrU(by.extendU()).and(0xffff_ffff));
      return;
    }
    // A shift by 64 would be one by 0: the upper part goes up in two steps.
    const high = a.x(n).shl(1).shl(const32(63).sub(by).extendU());
    a.setX(d, a.x(m).shrU(by.extendU()).or(high));
  },
});

export const DP_IMMEDIATE: readonly Insn[] = [
  insn("ADR_only_pcreladdr", "0 immlo:2 10000 immhi:19 Rd:5", {
    ops: ({ immlo, immhi, Rd }) => ({ d: dst(Rd!), imm: imm64(((immhi! << 13) >> 11) | immlo!) }),
    sem: (a, { d, imm }) => a.setX(d, a.pc().add(a.imm64(imm))),
  }),
  insn("ADRP_only_pcreladdr", "1 immlo:2 10000 immhi:19 Rd:5", {
    ops: ({ immlo, immhi, Rd }) => ({
      d: dst(Rd!),
      pages: imm64(BigInt(((immhi! << 13) >> 11) | immlo!) << 12n), // tidy: ADRP counts in 4 KiB
    }),
    sem: (a, { d, pages }) => {
      const page = a.pc().shrU(12).shl(12); // tidy: the same, whatever the granule
      a.setX(d, page.add(a.imm64(pages)));
    },
  }),
  addSub("ADD_SUB_addsub_imm", 0),
  addSub("ADDS_SUBS_addsub_imm", 1),
  ...LOGICAL.map(logical),
  moveWide("MOVN_movewide", "00", (imm) => ~imm),
  moveWide("MOVZ_movewide", "10", (imm) => imm),
  MOVK,
  bitfield("SBFM_bitfield", "00", true),
  bitfield("UBFM_bitfield", "10", false),
  BFM,
  EXTR,
];
