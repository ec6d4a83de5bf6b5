// Owns: data processing with registers: 1, 2 and 3 sources, shifted, extended, carry, conditional.
// VM thread.
// @source Arm ARM C4.1, "Data Processing -- Register"
import { const32, const64, type I32, type I64 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { CRC32 } from "../lib/crc32.js";
import { MUL_HIGH_S, MUL_HIGH_U } from "../lib/multiply.js";
import { dst, imm32, sp, src } from "../operand.js";
import type { Fields } from "../pattern.js";

// ── shifted and extended operands ─────────────────────────────────────────────────────────────

/** Shift types LSL, LSR, ASR, ROR by an amount below the width. */
function shifted64(x: I64, type: number, by: I64): I64 {
  return [x.shl(by), x.shrU(by), x.shrS(by), x.rotr(by)][type]!;
}
function shifted32(x: I32, type: number, by: I32): I32 {
  return [x.shl(by), x.shrU(by), x.shrS(by), x.rotr(by)][type]!;
}

const shiftFits = ({ sf, imm6 }: Fields): boolean => sf === 1 || imm6! < 32;
const shiftedOps = ({ Rm, imm6, Rn, Rd }: Fields) => ({
  d: dst(Rd!),
  n: src(Rn!),
  m: src(Rm!),
  by: imm32(imm6!),
});

type Binary = "AND" | "ORR" | "EOR";

function combine64(op: Binary, x: I64, y: I64): I64 {
  return op === "AND" ? x.and(y) : op === "ORR" ? x.or(y) : x.xor(y);
}
function combine32(op: Binary, x: I32, y: I32): I32 {
  return op === "AND" ? x.and(y) : op === "ORR" ? x.or(y) : x.xor(y);
}

function logicalShifted(name: string, opc: string, op: Binary, sets = false): Insn {
  return insn(name, `sf:1 ${opc} 01010 shift:2 N:1 Rm:5 imm6:6 Rn:5 Rd:5`, {
    split: ["sf", "shift", "N"],
    valid: shiftFits,
    ops: shiftedOps,
    sem: (a, { d, n, m, by }, { sf, shift, N }) => {
      if (sf === 1) {
        const second = shifted64(a.x(m), shift!, a.imm32(by).extendU());
        const r = a.keep(combine64(op, a.x(n), N === 1 ? second.not() : second));
        if (sets) a.flagsOfLogic(r);
        a.setX(d, r);
      } else {
        const second = shifted32(a.w(m), shift!, a.imm32(by));
        const r = a.keep(combine32(op, a.w(n), N === 1 ? second.not() : second));
        if (sets) a.flagsOfLogic32(r);
        a.setW(d, r);
      }
    },
  });
}

/** r = x ± y with or without flags, set by `set`. */
function addSub64(a: Asm, x: I64, second: I64, isSub: boolean, sets: boolean): I64 {
  const y = a.keep(second);
  const r = a.keep(isSub ? x.sub(y) : x.add(y));
  if (sets && isSub) a.flagsOfSub(x, y, r);
  if (sets && !isSub) a.flagsOfAdd(x, y, r);
  return r;
}
function addSub32(a: Asm, x: I32, second: I32, isSub: boolean, sets: boolean): I32 {
  const y = a.keep(second);
  const r = a.keep(isSub ? x.sub(y) : x.add(y));
  if (sets && isSub) a.flagsOfSub32(x, y, r);
  if (sets && !isSub) a.flagsOfAdd32(x, y, r);
  return r;
}

const ADD_SUB_SHIFTED: Insn = insn(
  "ADD_SUB_addsub_shift",
  "sf:1 op:1 S:1 01011 shift:2 0 Rm:5 imm6:6 Rn:5 Rd:5",
  {
    split: ["sf", "op", "S", "shift"],
    when: ({ shift }) => shift !== 3,
    valid: shiftFits,
    ops: shiftedOps,
    sem: (a, { d, n, m, by }, { sf, op, S, shift }) => {
      if (sf === 1) {
        const second = shifted64(a.x(m), shift!, a.imm32(by).extendU());
        a.setX(d, addSub64(a, a.x(n), second, op === 1, S === 1));
      } else {
        const second = shifted32(a.w(m), shift!, a.imm32(by));
        a.setW(d, addSub32(a, a.w(n), second, op === 1, S === 1));
      }
    },
  },
);

/** UXTB, UXTH, UXTW, UXTX, SXTB, SXTH, SXTW, SXTX. */
export function extended(x: I64, option: number): I64 {
  switch (option) {
    case 0:
      return x.and(0xff);
    case 1:
      return x.and(0xffff);
    case 2:
      return x.and(0xffff_ffff);
    case 4:
      return x.extend8S();
    case 5:
      return x.extend16S();
    case 6:
      return x.extend32S();
    default:
      return x;
  }
}

function addSubExtended(name: string, s: 0 | 1): Insn {
  return insn(name, `sf:1 op:1 ${s} 01011 00 1 Rm:5 option:3 imm3:3 Rn:5 Rd:5`, {
    split: ["sf", "op", "option"],
    valid: ({ imm3 }) => imm3! <= 4,
    ops: ({ Rm, imm3, Rn, Rd }) => ({
      d: s === 1 ? dst(Rd!) : sp(Rd!),
      n: sp(Rn!),
      m: src(Rm!),
      by: imm32(imm3!),
    }),
    sem: (a, { d, n, m, by }, { sf, op, option }) => {
      const second = extended(a.x(m), option!).shl(a.imm32(by).extendU());
      if (sf === 1) a.setX(d, addSub64(a, a.x(n), second, op === 1, s === 1));
      else a.setW(d, addSub32(a, a.w(n), second.wrap(), op === 1, s === 1));
    },
  });
}

// ── carry, conditional ────────────────────────────────────────────────────────────────────────

const CARRY: Insn = insn("ADC_SBC_addsub_carry", "sf:1 op:1 S:1 11010000 Rm:5 000000 Rn:5 Rd:5", {
  split: ["sf", "op", "S"],
  ops: ({ Rm, Rn, Rd }) => ({ d: dst(Rd!), n: src(Rn!), m: src(Rm!) }),
  sem: (a, { d, n, m }, { sf, op, S }) => {
    const carry = a.carry();
    if (sf === 1) {
      const x = a.x(n);
      const y = a.keep(op === 1 ? a.x(m).not() : a.x(m));
      const r = a.keep(x.add(y).add(carry.extendU()));
      if (S === 1) a.flagsOfAdd(x, y, r, carry);
      a.setX(d, r);
    } else {
      const x = a.w(n);
      const y = a.keep(op === 1 ? a.w(m).not() : a.w(m));
      const r = a.keep(x.add(y).add(carry));
      if (S === 1) a.flagsOfAdd32(x, y, r, carry);
      a.setW(d, r);
    }
  },
});

/** CCMN (op 0) and CCMP (op 1): flags of a comparison, or the immediate ones. */
function conditionalCompare(name: string, isImmediate: boolean): Insn {
  const kind = isImmediate ? "10" : "00";
  return insn(name, `sf:1 op:1 1 11010010 Rm:5 cond:4 ${kind} Rn:5 0 nzcv:4`, {
    split: ["sf", "op", "cond"],
    ops: ({ Rm, Rn, nzcv }) => ({
      n: src(Rn!),
      m: src(isImmediate ? 31 : Rm!),
      // The immediate operand above the flags: both are below 32.
      imm: imm32(nzcv! | (Rm! << 4)),
    }),
    sem: (a, { n, m, imm }, { sf, op, cond }) => {
      const immediate = a.imm32(imm);
      const second = isImmediate ? immediate.shrU(4) : a.w(m);
      const isSub = op === 1;
      const otherwise = immediate.and(15);
      if (sf === 0) a.flagsIf(a.holds(cond!), isSub, a.w(n), a.keep(second), otherwise);
      else {
        const y = a.keep(isImmediate ? second.extendU() : a.x(m));
        a.flagsIf(a.holds(cond!), isSub, a.x(n), y, otherwise);
      }
    },
  });
}

/** CSEL, CSINC, CSINV, CSNEG. */
const SELECT: Insn = insn(
  "CSEL_CSINC_CSINV_CSNEG_condsel",
  "sf:1 op:1 0 11010100 Rm:5 cond:4 0 o2:1 Rn:5 Rd:5",
  {
    split: ["sf", "op", "o2", "cond"],
    ops: ({ Rm, Rn, Rd }) => ({ d: dst(Rd!), n: src(Rn!), m: src(Rm!) }),
    sem: (a, { d, n, m }, { sf, op, o2, cond }) => {
      const y = a.x(m);
      const inverted = op === 1 ? y.not() : y;
      const otherwise = a.keep(o2 === 1 ? inverted.add(1) : inverted);
      const r = a.holds(cond!).select(a.x(n), otherwise);
      a.setX(d, sf === 1 ? r : r.and(0xffff_ffff));
    },
  },
);

// ── one, two and three sources ────────────────────────────────────────────────────────────────

const twoOps = ({ Rm, Rn, Rd }: Fields) => ({ d: dst(Rd!), n: src(Rn!), m: src(Rm!) });

/** Division by zero gives 0; the most negative value by -1 gives itself. */
function divide(name: string, opcode: string, signed: boolean): Insn {
  return insn(name, `sf:1 0 0 11010110 Rm:5 ${opcode} Rn:5 Rd:5`, {
    split: ["sf"],
    ops: twoOps,
    sem: (a, { d, n, m }, { sf }) => {
      const r = a.c.variable("i64");
      r.set(const64(0));
      // W operands extended divide as 64-bit ones, without an overflow.
      const widen = (x: I64): I64 => (signed ? x.extend32S() : x.and(0xffff_ffff));
      const [x, y] = [a.x(n), a.x(m)].map((v) => (sf === 1 ? v : a.keep(widen(v)))) as [I64, I64];
      a.c.if(y.eqz().eqz(), () => {
        if (!signed) r.set(x.divU(y));
        else if (sf === 0) r.set(x.divS(y).and(0xffff_ffff));
        else
          a.c.if(
            y.eq(-1n),
            () => r.set(x.neg()),
            () => r.set(x.divS(y)),
          );
      });
      a.setX(d, r.get());
    },
  });
}

function shiftVariable(name: string, op2: number): Insn {
  return insn(name, `sf:1 0 0 11010110 Rm:5 0010 ${op2.toString(2).padStart(2, "0")} Rn:5 Rd:5`, {
    split: ["sf"],
    ops: twoOps,
    sem: (a, { d, n, m }, { sf }) => {
      // WebAssembly takes the amount modulo the width, as the instruction does.
      if (sf === 1) a.setX(d, shifted64(a.x(n), op2, a.x(m)));
      else a.setW(d, shifted32(a.w(n), op2, a.w(m)));
    },
  });
}

const CRC: Insn = insn("CRC32_dp_2src", "sf:1 0 0 11010110 Rm:5 010 C:1 sz:2 Rn:5 Rd:5", {
  split: ["sf", "C", "sz"],
  when: ({ sf, sz }) => (sf === 1) === (sz === 3),
  feature: "FEAT_CRC32",
  ops: twoOps,
  sem: (a, { d, n, m }, { C, sz }) => {
    const bytes = const32(2 ** sz!);
    a.setW(d, a.call(CRC32[C === 1 ? "castagnoli" : "ieee"], a.w(n), a.x(m), bytes));
  },
});

function oneSource(name: string, sf: string, opcode: string, sem: (x: I64, w: I32) => I64): Insn {
  return insn(name, `${sf} 1 0 11010110 00000 ${opcode} Rn:5 Rd:5`, {
    ops: ({ Rn, Rd }) => ({ d: dst(Rd!), n: src(Rn!) }),
    sem: (a, { d, n }) => a.setX(d, sem(a.x(n), a.w(n))),
  });
}

/** Swaps groups of `by` bits that `mask` selects; both uses keep x. */
function swap(x: I64, by: number, mask: bigint): I64 {
  return x.shrU(by).and(mask).or(x.and(mask).shl(by));
}

function reversal(name: string, sf: string, opcode: string, steps: readonly number[]): Insn {
  const masks: Readonly<Record<number, bigint>> = {
    1: 0x5555_5555_5555_5555n,
    2: 0x3333_3333_3333_3333n,
    4: 0x0f0f_0f0f_0f0f_0f0fn,
    8: 0x00ff_00ff_00ff_00ffn,
    16: 0x0000_ffff_0000_ffffn,
    32: 0x0000_0000_ffff_ffffn,
  };
  return insn(name, `${sf} 1 0 11010110 00000 ${opcode} Rn:5 Rd:5`, {
    ops: ({ Rn, Rd }) => ({ d: dst(Rd!), n: src(Rn!) }),
    sem: (a, { d, n }) => {
      let x = sf === "1" ? a.x(n) : a.keep(a.x(n).and(0xffff_ffff));
      for (const by of steps) x = a.keep(swap(x, by, masks[by]!));
      a.setX(d, x);
    },
  });
}

const ONE_SOURCE: readonly Insn[] = [
  reversal("RBIT_32_dp_1src", "0", "000000", [1, 2, 4, 8, 16]),
  reversal("RBIT_64_dp_1src", "1", "000000", [1, 2, 4, 8, 16, 32]),
  reversal("REV16_32_dp_1src", "0", "000001", [8]),
  reversal("REV16_64_dp_1src", "1", "000001", [8]),
  reversal("REV_32_dp_1src", "0", "000010", [8, 16]),
  reversal("REV32_64_dp_1src", "1", "000010", [8, 16]),
  reversal("REV_64_dp_1src", "1", "000011", [8, 16, 32]),
  oneSource("CLZ_32_dp_1src", "0", "000100", (_, w) => w.clz().extendU()),
  oneSource("CLZ_64_dp_1src", "1", "000100", (x) => x.clz()),
  // Bits that equal the sign, without the sign itself.
  oneSource("CLS_32_dp_1src", "0", "000101", (_, w) => {
    return w.xor(w.shrS(1)).clz().sub(1).extendU();
  }),
  oneSource("CLS_64_dp_1src", "1", "000101", (x) => x.xor(x.shrS(1)).clz().sub(1)),
];

const threeOps = ({ Rm, Ra, Rn, Rd }: Fields) => ({
  d: dst(Rd!),
  n: src(Rn!),
  m: src(Rm!),
  a: src(Ra!),
});

const MULTIPLY_ADD: Insn = insn("MADD_MSUB_dp_3src", "sf:1 00 11011 000 Rm:5 o0:1 Ra:5 Rn:5 Rd:5", {
  split: ["sf", "o0"],
  ops: threeOps,
  sem: (asm, { d, n, m, a }, { sf, o0 }) => {
    const product = asm.x(n).mul(asm.x(m));
    const r = o0 === 1 ? asm.x(a).sub(product) : asm.x(a).add(product);
    asm.setX(d, sf === 1 ? r : r.and(0xffff_ffff));
  },
});

const MULTIPLY_LONG: Insn = insn(
  "SMADDL_UMADDL_dp_3src",
  "1 00 11011 U:1 01 Rm:5 o0:1 Ra:5 Rn:5 Rd:5",
  {
    split: ["U", "o0"],
    ops: threeOps,
    sem: (asm, { d, n, m, a }, { U, o0 }) => {
      const wide = (w: I32): I64 => (U === 1 ? w.extendU() : w.extendS());
      const product = wide(asm.w(n)).mul(wide(asm.w(m)));
      asm.setX(d, o0 === 1 ? asm.x(a).sub(product) : asm.x(a).add(product));
    },
  },
);

const MULTIPLY_HIGH: Insn = insn("SMULH_UMULH_dp_3src", "1 00 11011 U:1 10 Rm:5 0 Ra:5 Rn:5 Rd:5", {
  split: ["U"],
  ops: ({ Rm, Rn, Rd }) => ({ d: dst(Rd!), n: src(Rn!), m: src(Rm!) }),
  sem: (a, { d, n, m }, { U }) => {
    a.setX(d, a.call(U === 1 ? MUL_HIGH_U : MUL_HIGH_S, a.x(n), a.x(m)));
  },
});

export const DP_REGISTER: readonly Insn[] = [
  logicalShifted("AND_BIC_log_shift", "00", "AND"),
  logicalShifted("ORR_ORN_log_shift", "01", "ORR"),
  logicalShifted("EOR_EON_log_shift", "10", "EOR"),
  logicalShifted("ANDS_BICS_log_shift", "11", "AND", true),
  ADD_SUB_SHIFTED,
  addSubExtended("ADD_SUB_addsub_ext", 0),
  addSubExtended("ADDS_SUBS_addsub_ext", 1),
  CARRY,
  conditionalCompare("CCMN_CCMP_condcmp_reg", false),
  conditionalCompare("CCMN_CCMP_condcmp_imm", true),
  SELECT,
  divide("UDIV_dp_2src", "000010", false),
  divide("SDIV_dp_2src", "000011", true),
  ...["LSLV", "LSRV", "ASRV", "RORV"].map((name, op2) => shiftVariable(`${name}_dp_2src`, op2)),
  CRC,
  ...ONE_SOURCE,
  MULTIPLY_ADD,
  MULTIPLY_LONG,
  MULTIPLY_HIGH,
];
