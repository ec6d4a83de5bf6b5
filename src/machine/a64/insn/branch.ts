// Owns: branches: immediate, register, compare and test. VM thread.
// @source Arm ARM C4.1, "Branches, Exception Generating and System instructions"
import { const64 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { dst, type Imm64, imm64, src, type XReg } from "../operand.js";
import type { Fields } from "../pattern.js";

/** A signed word offset of `width` bits, in bytes. */
function offset(value: number, width: number): Imm64 {
  const shift = 32 - width;
  return imm64(((value << shift) >> shift) * 4);
}

const LINK = 30;

/** Of compare-and-branch and test-and-branch. */
function branchIf(a: Asm, isTaken: ReturnType<Asm["carry"]>, to: Imm64): void {
  a.c.if(isTaken, () => a.jumpBy(to));
}

/** BR, BLR, RET. */
function toRegister(name: string, opc: string, links: boolean): Insn {
  return insn(name, `1101011 ${opc} 11111 000000 Rn:5 00000`, {
    flow: links ? "indirect-call" : "indirect",
    ops: ({ Rn }) => ({ n: src(Rn!), link: dst(LINK) }),
    sem: (a, { n, link }: { n: XReg; link: XReg }) => {
      const target = a.x(n);
      if (links) a.setX(link, a.pc().add(4));
      a.jumpTo(target);
    },
  });
}

export const BRANCHES: readonly Insn[] = [
  insn("B_only_branch_imm", "000101 imm26:26", {
    flow: "jump",
    ops: ({ imm26 }) => ({ to: offset(imm26!, 26) }),
    sem: (a, { to }) => a.jumpBy(to),
  }),
  insn("BL_only_branch_imm", "100101 imm26:26", {
    flow: "call",
    ops: ({ imm26 }) => ({ to: offset(imm26!, 26), link: dst(LINK) }),
    sem: (a, { to, link }) => {
      a.setX(link, a.pc().add(4));
      a.jumpBy(to);
    },
  }),
  insn("B_only_condbranch", "01010100 imm19:19 0 cond:4", {
    split: ["cond"],
    flow: "branch",
    ops: ({ imm19 }) => ({ to: offset(imm19!, 19) }),
    sem: (a, { to }, { cond }) => branchIf(a, a.holds(cond!), to),
  }),
  insn("CBZ_CBNZ_compbranch", "sf:1 011010 op:1 imm19:19 Rt:5", {
    split: ["sf", "op"],
    flow: "branch",
    ops: ({ imm19, Rt }) => ({ to: offset(imm19!, 19), t: src(Rt!) }),
    sem: (a, { to, t }, { sf, op }) => {
      const isZero = sf === 1 ? a.x(t).eqz() : a.w(t).eqz();
      branchIf(a, op === 1 ? isZero.eqz() : isZero, to);
    },
  }),
  insn("TBZ_TBNZ_testbranch", "b5:1 011011 op:1 b40:5 imm14:14 Rt:5", {
    split: ["op"],
    flow: "branch",
    ops: ({ imm14, Rt, b5, b40 }: Fields) => ({
      to: offset(imm14!, 14),
      t: src(Rt!),
      bit: { kind: "imm32", value: b5! * 32 + b40! } as const,
    }),
    sem: (a, { to, t, bit }, { op }) => {
      const isClear = a
        .x(t)
        .and(const64(1).shl(a.imm32(bit).extendU()))
        .eqz();
      branchIf(a, op === 1 ? isClear.eqz() : isClear, to);
    },
  }),
  toRegister("BR_64_branch_reg", "0000", false),
  toRegister("BLR_64_branch_reg", "0001", true),
  toRegister("RET_64R_branch_reg", "0010", false),
];
