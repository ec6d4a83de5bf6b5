// Owns: names of system registers that a PE of ours may lack, but a disassembly names. Data only. Any thread.
// @source Arm ARM D17 (AArch64 System register descriptions)
import { ICC_V5_REGISTERS } from "../../gic/gicv5/icc.table.js";
import { encodingOf, SYSREGS_TABLE } from "../pe/sysreg.table.js";

type Numbers = readonly [op0: number, op1: number, crn: number, crm: number, op2: number];

/** Registers whose op2 counts up, from the first one's on; "" is a hole. */
const RUNS: readonly (readonly [first: Numbers, names: string])[] = [
  [[3, 0, 0, 1, 0], "id_pfr0_el1 id_pfr1_el1 id_dfr0_el1 id_afr0_el1 id_mmfr0_el1 id_mmfr1_el1 id_mmfr2_el1 id_mmfr3_el1"],
  [[3, 0, 0, 2, 0], "id_isar0_el1 id_isar1_el1 id_isar2_el1 id_isar3_el1 id_isar4_el1 id_isar5_el1 id_mmfr4_el1 id_isar6_el1"],
  [[3, 0, 0, 3, 0], "mvfr0_el1 mvfr1_el1 mvfr2_el1"],
  [[3, 0, 0, 4, 0], "id_aa64pfr0_el1 id_aa64pfr1_el1"],
  [[3, 0, 0, 4, 4], "id_aa64zfr0_el1 id_aa64smfr0_el1"],
  [[3, 0, 0, 5, 0], "id_aa64dfr0_el1 id_aa64dfr1_el1"],
  [[3, 0, 0, 5, 4], "id_aa64afr0_el1 id_aa64afr1_el1"],
  [[3, 0, 0, 6, 0], "id_aa64isar0_el1 id_aa64isar1_el1 id_aa64isar2_el1"],
  [[3, 0, 0, 7, 0], "id_aa64mmfr0_el1 id_aa64mmfr1_el1 id_aa64mmfr2_el1"],
  [[3, 0, 2, 1, 0], "apiakeylo_el1 apiakeyhi_el1 apibkeylo_el1 apibkeyhi_el1"],
  [[3, 0, 2, 2, 0], "apdakeylo_el1 apdakeyhi_el1 apdbkeylo_el1 apdbkeyhi_el1"],
  [[3, 0, 2, 3, 0], "apgakeylo_el1 apgakeyhi_el1"],
  [[3, 0, 4, 2, 2], "currentel pan uao"],
  [[3, 0, 4, 2, 0], "spsel"],
  [[3, 0, 4, 6, 0], "icc_pmr_el1"],
  [[3, 0, 9, 14, 1], "pmintenset_el1 pmintenclr_el1"],
  [[3, 0, 12, 8, 0], "icc_iar0_el1 icc_eoir0_el1 icc_hppir0_el1 icc_bpr0_el1 icc_ap0r0_el1 icc_ap0r1_el1 icc_ap0r2_el1 icc_ap0r3_el1"],
  [[3, 0, 12, 9, 0], "icc_ap1r0_el1 icc_ap1r1_el1 icc_ap1r2_el1 icc_ap1r3_el1"],
  [[3, 0, 12, 11, 1], "icc_dir_el1"],
  [[3, 0, 12, 11, 3], "icc_rpr_el1"],
  [[3, 0, 12, 11, 5], "icc_sgi1r_el1 icc_asgi1r_el1 icc_sgi0r_el1"],
  [[3, 0, 12, 12, 0], "icc_iar1_el1 icc_eoir1_el1 icc_hppir1_el1 icc_bpr1_el1 icc_ctlr_el1 icc_sre_el1 icc_igrpen0_el1 icc_igrpen1_el1"],
  [[3, 3, 2, 4, 0], "rndr rndrrs"],
  [[3, 3, 4, 2, 0], "nzcv daif"],
  [[3, 3, 4, 2, 5], "dit ssbs tco"],
  [[3, 3, 4, 4, 0], "fpcr fpsr"],
  [[3, 3, 4, 5, 0], "dspsr_el0 dlr_el0"],
  [[3, 3, 9, 12, 0], "pmcr_el0 pmcntenset_el0 pmcntenclr_el0 pmovsclr_el0 pmswinc_el0 pmselr_el0 pmceid0_el0 pmceid1_el0"],
  [[3, 3, 9, 13, 0], "pmccntr_el0 pmxevtyper_el0 pmxevcntr_el0"],
  [[3, 3, 9, 14, 0], "pmuserenr_el0"],
  [[3, 3, 9, 14, 3], "pmovsset_el0"],
  [[3, 3, 14, 0, 5], "cntpctss_el0 cntvctss_el0"],
  [[3, 3, 14, 15, 7], "pmccfiltr_el0"],
  [[3, 4, 0, 0, 0], "vpidr_el2"],
  [[3, 4, 0, 0, 5], "vmpidr_el2"],
  [[3, 4, 1, 0, 0], "sctlr_el2 actlr_el2"],
  [[3, 4, 1, 1, 0], "hcr_el2 mdcr_el2 cptr_el2 hstr_el2"],
  [[3, 4, 2, 0, 0], "ttbr0_el2 ttbr1_el2 tcr_el2"],
  [[3, 4, 2, 1, 0], "vttbr_el2"],
  [[3, 4, 2, 1, 2], "vtcr_el2"],
  [[3, 4, 4, 0, 0], "spsr_el2 elr_el2"],
  [[3, 4, 5, 2, 0], "esr_el2"],
  [[3, 4, 6, 0, 0], "far_el2"],
  [[3, 4, 6, 0, 4], "hpfar_el2"],
  [[3, 4, 10, 2, 0], "mair_el2"],
  [[3, 4, 12, 0, 0], "vbar_el2"],
  [[3, 4, 13, 0, 1], "contextidr_el2 tpidr_el2"],
  [[3, 4, 14, 0, 3], "cntvoff_el2"],
  [[3, 4, 14, 1, 0], "cnthctl_el2"],
  [[3, 4, 14, 2, 0], "cnthp_tval_el2 cnthp_ctl_el2 cnthp_cval_el2"],
  [[3, 5, 1, 0, 0], "sctlr_el12"],
  [[3, 5, 1, 0, 2], "cpacr_el12"],
  [[3, 5, 2, 0, 0], "ttbr0_el12 ttbr1_el12 tcr_el12"],
  [[3, 5, 4, 0, 0], "spsr_el12 elr_el12"],
  [[3, 5, 5, 2, 0], "esr_el12"],
  [[3, 5, 6, 0, 0], "far_el12"],
  [[3, 5, 12, 0, 0], "vbar_el12"],
  [[3, 5, 14, 1, 0], "cntkctl_el12"],
  [[3, 5, 14, 3, 0], "cntv_tval_el02 cntv_ctl_el02 cntv_cval_el02"],
];

const runs = RUNS.flatMap(([[op0, op1, crn, crm, op2], names]) =>
  names.split(" ").map((name, at) => [encodingOf(op0, op1, crn, crm, op2 + at), name] as const),
);

const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, n) => n);

/** Registers that are numbered: events of the PMU, break- and watchpoints. */
const numbered = [
  ...upTo(31).flatMap((n) => [
    [encodingOf(3, 3, 14, 8 + (n >> 3), n & 7), `pmevcntr${n}_el0`] as const,
    [encodingOf(3, 3, 14, 12 + (n >> 3), n & 7), `pmevtyper${n}_el0`] as const, // tidy: a CRm
  ]),
  ...upTo(16).flatMap((n) =>
    ["dbgbvr", "dbgbcr", "dbgwvr", "dbgwcr"].map(
      (stem, at) => [encodingOf(2, 0, 0, n, 4 + at), `${stem}${n}_el1`] as const,
    ),
  ),
];

/** By the encoding as KVM packs it. */
export const REGISTER_NAMES: ReadonlyMap<number, string> = new Map([
  ...SYSREGS_TABLE.map(({ name, encoding }) => [encoding, name.toLowerCase()] as const),
  ...runs,
  ...numbered,
  ...ICC_V5_REGISTERS.map(({ name, encoding }) => [encoding, name.toLowerCase()] as const),
]);
