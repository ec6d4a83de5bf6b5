// Owns: hints, barriers, PSTATE, system registers and instructions, exception generation.
// VM thread.
// @source Arm ARM C4.1, "Branches, Exception Generating and System instructions"
import { const64, constV, type I32 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { dst, src } from "../operand.js";
import { PSTATE_BIT } from "../pe/registers.js";
import { SYSREG_BY_NAME } from "../pe/sysreg.table.js";
import {
  EXCLUSIVE_VA,
  FETCH_TAG,
  FPCR,
  FPSR,
  PSTATE,
  SYSREGS,
  TPIDR_EL0,
  TPIDRRO_EL0,
  ZVA_TRAP,
} from "../window.js";

/** What a row hands to the system side, which decodes it by tables of its own. */
function bySystem(name: string, pattern: string, valid?: (f: Record<string, number>) => boolean) {
  return insn(name, pattern, {
    ...(valid === undefined ? {} : { valid }),
    flow: "system",
    ops: () => ({}),
    sem: (a) => a.system(),
  });
}

function nothing(name: string, pattern: string): Insn {
  return insn(name, pattern, { ops: () => ({}), sem: () => {} });
}

const HINTS: readonly Insn[] = [
  bySystem("ESB_hints", "11010101000000110010 0010 000 11111"),
  // WFE, WFI, SEV, SEVL. Every other hint is a NOP here, also those of features that we lack.
  bySystem("WFE_WFI_SEV_SEVL_hints", "11010101000000110010 0000 op2:3 11111", ({ op2 }) => {
    return op2! >= 2 && op2! <= 5;
  }),
  nothing("HINT_hints", "11010101000000110010 CRm:4 op2:3 11111"),
];

const BARRIER = "11010101000000110011 CRm:4";
const BARRIERS: readonly Insn[] = [
  insn("CLREX_barriers", `${BARRIER} 010 11111`, {
    ops: () => ({}),
    sem: (a) => a.setWindow64(EXCLUSIVE_VA, const64(-1)),
  }),
  // One thread runs all PEs of a VM, in program order: nothing is left to order.
  nothing("DSB_barriers", `${BARRIER} 100 11111`),
  nothing("DMB_barriers", `${BARRIER} 101 11111`),
  insn("ISB_barriers", `${BARRIER} 110 11111`, {
    flow: "system",
    ops: () => ({}),
    // The records ahead may have been dropped: look for the next one anew.
    sem: (a) => a.jumpTo(a.pc().add(4)),
  }),
];

/** Bits that exist: AHP, DN, FZ, RMode; no trap enables, no short vectors, no half-precision FZ. */
const FPCR_BITS = 0x07c0_0000;
/** NZCV of AArch32, QC, IDC, and the five cumulative flags of IEEE 754. */
const FPSR_BITS = 0xf800_009f | 0;

/** A 32-bit register of the window, read and written without asking anybody. */
function direct32(name: string, encoding: string, offset: number, bits: number): readonly Insn[] {
  return [
    insn(`MRS_${name}`, `1101010100 1 ${encoding} Rt:5`, {
      fp: true,
      ops: ({ Rt }) => ({ t: dst(Rt!) }),
      sem: (a, { t }) => a.setX(t, a.window32(offset).extendU()),
    }),
    insn(`MSR_${name}`, `1101010100 0 ${encoding} Rt:5`, {
      fp: true,
      ops: ({ Rt }) => ({ t: src(Rt!) }),
      sem: (a, { t }) => a.setWindow32(offset, a.w(t).and(bits)),
    }),
  ];
}

const NZCV_SHIFT = 28;
const NZCV = "11 011 0100 0010 000";

const DIRECT: readonly Insn[] = [
  insn("MRS_NZCV", `1101010100 1 ${NZCV} Rt:5`, {
    ops: ({ Rt }) => ({ t: dst(Rt!) }),
    sem: (a, { t }) => a.setX(t, a.nzcv().shl(NZCV_SHIFT).extendU()),
  }),
  insn("MSR_NZCV", `1101010100 0 ${NZCV} Rt:5`, {
    ops: ({ Rt }) => ({ t: src(Rt!) }),
    sem: (a, { t }) => a.setNzcv(a.w(t).shrU(NZCV_SHIFT)),
  }),
  ...direct32("FPCR", "11 011 0100 0100 000", FPCR, FPCR_BITS),
  ...direct32("FPSR", "11 011 0100 0100 001", FPSR, FPSR_BITS),
  insn("MRS_TPIDR_EL0", "1101010100 1 11 011 1101 0000 010 Rt:5", {
    ops: ({ Rt }) => ({ t: dst(Rt!) }),
    sem: (a, { t }) => a.setX(t, a.window64(TPIDR_EL0)),
  }),
  insn("MSR_TPIDR_EL0", "1101010100 0 11 011 1101 0000 010 Rt:5", {
    ops: ({ Rt }) => ({ t: src(Rt!) }),
    sem: (a, { t }) => a.setWindow64(TPIDR_EL0, a.x(t)),
  }),
  insn("MRS_TPIDRRO_EL0", "1101010100 1 11 011 1101 0000 011 Rt:5", {
    ops: ({ Rt }) => ({ t: dst(Rt!) }),
    sem: (a, { t }) => a.setX(t, a.window64(TPIDRRO_EL0)),
  }),
];

/** Registers of EL1 that are just storage, and that kernels move often. */
const PLAIN = ["TPIDR_EL1", "SP_EL0", "ELR_EL1", "SPSR_EL1", "ESR_EL1", "FAR_EL1"] as const;

/** What the system side decides: EL0, and SP_EL0 while it is the stack pointer in use. */
function needsSystem(a: Asm, name: string): I32 {
  const isEl0 = a.window32(FETCH_TAG).eqz();
  return name === "SP_EL0" ? isEl0.or(a.window32(PSTATE).and(PSTATE_BIT.SP).eqz()) : isEl0;
}

/** Without asking the system side where it has nothing to say. */
function plain(name: (typeof PLAIN)[number]): readonly Insn[] {
  const { encoding, slot, mask } = SYSREG_BY_NAME.get(name)!;
  const at = SYSREGS + 8 * slot;
  const bits = encoding.toString(2).padStart(16, "0");
  return [
    insn(`MRS_${name}`, `1101010100 1 ${bits} Rt:5`, {
      ops: ({ Rt }) => ({ t: dst(Rt!) }),
      sem: (a, { t }) => {
        a.c.if(needsSystem(a, name), () => a.system());
        a.setX(t, a.window64(at));
      },
    }),
    insn(`MSR_${name}`, `1101010100 0 ${bits} Rt:5`, {
      ops: ({ Rt }) => ({ t: src(Rt!) }),
      sem: (a, { t }) => {
        a.c.if(needsSystem(a, name), () => a.system());
        a.setWindow64(at, a.x(t).and(mask));
      },
    }),
  ];
}

/** DCZID_EL0.BS = 4: the block that DC ZVA clears. */
export const ZVA_BYTES = 64;

const DC_ZVA: Insn = insn("DC_ZVA", "1101010100 0 01 011 0111 0100 001 Rt:5", {
  ops: ({ Rt }) => ({ t: src(Rt!) }),
  sem: (a, { t }) => {
    a.c.if(a.window32(ZVA_TRAP), () => a.system());
    const va = a.keep(a.x(t).and(-ZVA_BYTES));
    const host = a.probe(va, ZVA_BYTES, { write: true });
    for (let at = 0; at < ZVA_BYTES; at += 16) a.c.store("v128.store", host, at, constV(0n, 0n));
    a.stored(host);
  },
});

const BY_SYSTEM: readonly Insn[] = [
  // SPSel, DAIFSet, DAIFClr; the rest belongs to features that we lack.
  bySystem("MSR_pstate", "1101010100000 op1:3 0100 CRm:4 op2:3 11111", ({ op1, op2 }) => {
    return (op1 === 0 && op2 === 5) || (op1 === 3 && op2! >= 6);
  }),
  bySystem("SYS_SYSL_systeminstrs", "1101010100 L:1 01 op1:3 CRn:4 CRm:4 op2:3 Rt:5"),
  bySystem("MRS_MSR_systemmove", "1101010100 L:1 1 o0:1 op1:3 CRn:4 CRm:4 op2:3 Rt:5"),
  bySystem("SVC_HVC_SMC_exception", "11010100 000 imm16:16 000 LL:2", ({ LL }) => LL !== 0),
  bySystem("BRK_exception", "11010100 001 imm16:16 000 00"),
  bySystem("HLT_exception", "11010100 010 imm16:16 000 00"),
  bySystem("ERET_64E_branch_reg", "1101011 0100 11111 000000 11111 00000"),
];

export const SYSTEM: readonly Insn[] = [
  ...HINTS,
  ...BARRIERS,
  ...DIRECT,
  ...PLAIN.flatMap(plain),
  DC_ZVA,
  ...BY_SYSTEM,
];
