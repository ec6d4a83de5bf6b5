// Owns: the system registers of a PE at EL1 and EL0: encoding, access, reset, bits. Any thread.
// @source Arm ARM D17 (AArch64 System register descriptions); kvm-uapi.md 8.6
import { type Feature, IMPLEMENTED } from "../features.table.js";
import { PMCR_RESET, PMU_REGISTERS, PMUVER, type PmuConfig } from "./pmu.table.js";

/** What a PE is told about itself when it is made. */
export interface PeConfig {
  readonly mpidr: bigint;
  /** Bits of a physical address as the guest sees it: its IPA size. */
  readonly ipaBits: number;
  /** ID registers that differ from what the host has, by name. */
  readonly ids?: ReadonlyMap<string, bigint>;
  /** There with KVM_ARM_VCPU_PMU_V3 only. */
  readonly pmu?: PmuConfig;
  /** The guest has ICC registers: a GICv3. */
  readonly hasIcc?: boolean;
  /** It has a GICv5 instead. */
  readonly hasGicv5?: boolean;
}

/** Read-write, -only, write-only, from which level on; "host": EL2's alone, and KVM's. */
type Access = "rw1" | "ro1" | "wo1" | "rw0" | "ro0" | "host";

export interface SysReg {
  readonly name: string;
  /** op0, op1, CRn, CRm, op2 as KVM packs them: op0[15:14] op1[13:11] CRn[10:7] CRm[6:3] op2[2:0]. */
  readonly encoding: number;
  readonly access: Access;
  readonly reset: (config: PeConfig) => bigint;
  /** Bits that a write changes; the others keep their value. */
  readonly mask: bigint;
  /** Index of its word in the window; -1: its value is computed. */
  readonly slot: number;
  /** A write changes how addresses are translated. */
  readonly translates: boolean;
  /** A write changes what is debugged. */
  readonly debugs: boolean;
  /** One of the PMU's, which has rules of its own: pmu.ts. */
  readonly isPmu: boolean;
}

export const encodingOf = (op0: number, op1: number, crn: number, crm: number, op2: number): number =>
  (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;

const ALL = 2n ** 64n - 1n;
const LOW = 0xffff_ffffn;

/** Shift and value of a feature's field, by the ID register that holds it. */
const FIELDS: Readonly<Record<string, readonly (readonly [Feature, number, number])[]>> = {
  ID_AA64ISAR0_EL1: [
    ["FEAT_AES", 4, 1],
    // With PMULL the AES field reads 2.
    ["FEAT_PMULL", 4, 1],
    ["FEAT_SHA1", 8, 1],
    ["FEAT_SHA256", 12, 1], // tidy: a bit position
    ["FEAT_CRC32", 16, 1],
    ["FEAT_LSE", 20, 2],
    ["FEAT_RDM", 28, 1],
    ["FEAT_DotProd", 44, 1],
    ["FEAT_FlagM", 52, 1],
  ],
  ID_AA64ISAR1_EL1: [["FEAT_LRCPC", 20, 1]],
};

function features(register: string): bigint {
  let value = 0n;
  for (const [feature, shift, step] of FIELDS[register] ?? []) {
    if (IMPLEMENTED.has(feature)) value += BigInt(step) << BigInt(shift);
  }
  return value;
}

/** ID_AA64MMFR0_EL1.PARange. */
const PA_RANGES: readonly (readonly [bits: number, code: bigint])[] = [
  [32, 0n],
  [36, 1n],
  [40, 2n],
  [42, 3n],
  [44, 4n],
  [48, 5n],
];
function paRange({ ipaBits }: PeConfig): bigint {
  return PA_RANGES.reduce((code, [bits, value]) => (bits <= ipaBits ? value : code), 0n);
}

/** EL0 and EL1 in AArch64 only; FP and SIMD without half precision; RAS; CSV3: nothing leaks. */
const PFR0_GIC = 1n << 24n;
const PFR2_GCIE = 1n << 12n;
const PFR0 = 0x11n | (1n << 28n) | (1n << 60n);
/** Breakpoints and watchpoints of the PE. */
export const BREAKPOINTS = 6;
export const WATCHPOINTS = 4;
/** Registers of each kind that the architecture has room for. */
const DEBUG_PAIRS = 16;
/** Debug architecture 8, six breakpoints, two of them with context, four watchpoints. */
const DFR0 = 6n | (5n << 12n) | (3n << 20n) | (1n << 28n);
/** 16-bit ASIDs, all three granules. */
const MMFR0 = (2n << 4n) | (1n << 20n);
/** Hardware access flag and dirty state. */
const MMFR1 = 2n;
/** One level of caches, 64-byte lines, no maintenance needed for instructions (IDC, DIC). */
const CTR = 0xb444_c004n;
/** As a Cortex-A53 has it: RES1 bits, and SA, SA0, nTWI, nTWE for whoever sets bits in it. */
const SCTLR_RESET = 0x00c5_0838n;
const MIDR = 0x410f_d034n;
/** OSLSR_EL1: the lock exists, and KVM's guests find it open. */
const OSLSR = 8n;
/** FPEXC32_EL2 at reset. */
const FPEXC32 = 0x700n;

type Row = readonly [
  name: string,
  encoding: readonly [number, number, number, number, number],
  access: Access,
  reset?: bigint | ((config: PeConfig) => bigint),
  mask?: bigint,
];

const ROWS: readonly Row[] = [
  ["MIDR_EL1", [3, 0, 0, 0, 0], "ro1", MIDR],
  ["MPIDR_EL1", [3, 0, 0, 0, 5], "ro1", ({ mpidr }) => mpidr | 0x8000_0000n],
  ["REVIDR_EL1", [3, 0, 0, 0, 6], "ro1"],
  ["ID_AA64PFR0_EL1", [3, 0, 0, 4, 0], "ro1", ({ hasIcc }) => (hasIcc ? PFR0 | PFR0_GIC : PFR0)],
  ["ID_AA64PFR2_EL1", [3, 0, 0, 4, 2], "ro1", ({ hasGicv5 }) => (hasGicv5 ? PFR2_GCIE : 0n)],
  ["ID_AA64DFR0_EL1", [3, 0, 0, 5, 0], "ro1", ({ pmu }) => (pmu ? DFR0 | PMUVER : DFR0)],
  ["ID_AA64ISAR0_EL1", [3, 0, 0, 6, 0], "ro1", () => features("ID_AA64ISAR0_EL1")],
  ["ID_AA64ISAR1_EL1", [3, 0, 0, 6, 1], "ro1", () => features("ID_AA64ISAR1_EL1")],
  ["ID_AA64MMFR0_EL1", [3, 0, 0, 7, 0], "ro1", (config) => MMFR0 | paRange(config)],
  ["ID_AA64MMFR1_EL1", [3, 0, 0, 7, 1], "ro1", MMFR1],
  ["SCTLR_EL1", [3, 0, 1, 0, 0], "rw1", SCTLR_RESET],
  ["ACTLR_EL1", [3, 0, 1, 0, 1], "rw1"],
  ["CPACR_EL1", [3, 0, 1, 0, 2], "rw1", 0n, 3n << 20n],
  ["TTBR0_EL1", [3, 0, 2, 0, 0], "rw1"],
  ["TTBR1_EL1", [3, 0, 2, 0, 1], "rw1"],
  ["TCR_EL1", [3, 0, 2, 0, 2], "rw1"],
  ["SPSR_EL1", [3, 0, 4, 0, 0], "rw1", 0n, LOW],
  ["ELR_EL1", [3, 0, 4, 0, 1], "rw1"],
  ["SP_EL0", [3, 0, 4, 1, 0], "rw1"],
  ["SP_EL1", [3, 4, 4, 1, 0], "host"],
  ["AFSR0_EL1", [3, 0, 5, 1, 0], "rw1"],
  ["AFSR1_EL1", [3, 0, 5, 1, 1], "rw1"],
  ["ESR_EL1", [3, 0, 5, 2, 0], "rw1"],
  ["FAR_EL1", [3, 0, 6, 0, 0], "rw1"],
  ["PAR_EL1", [3, 0, 7, 4, 0], "rw1"],
  ["MAIR_EL1", [3, 0, 10, 2, 0], "rw1"],
  ["AMAIR_EL1", [3, 0, 10, 3, 0], "rw1"],
  ["VBAR_EL1", [3, 0, 12, 0, 0], "rw1", 0n, ALL & ~0x7ffn],
  ["ISR_EL1", [3, 0, 12, 1, 0], "ro1"],
  // A, IDS and ISS of the SError that ESB deferred.
  ["DISR_EL1", [3, 0, 12, 1, 1], "rw1", 0n, 0x81ff_ffffn],
  ["CONTEXTIDR_EL1", [3, 0, 13, 0, 1], "rw1", 0n, LOW],
  ["TPIDR_EL1", [3, 0, 13, 0, 4], "rw1"],
  ["CNTKCTL_EL1", [3, 0, 14, 1, 0], "rw1", 0n, LOW],
  ["CCSIDR_EL1", [3, 1, 0, 0, 0], "ro1", 0x700f_e01an],
  ["CLIDR_EL1", [3, 1, 0, 0, 1], "ro1", 0x0a20_0023n],
  ["AIDR_EL1", [3, 1, 0, 0, 7], "ro1"],
  ["CSSELR_EL1", [3, 2, 0, 0, 0], "rw1", 0n, 0xfn],
  ["CTR_EL0", [3, 3, 0, 0, 1], "ro0", CTR],
  ["DCZID_EL0", [3, 3, 0, 0, 7], "ro0", 4n],
  ["TPIDR_EL0", [3, 3, 13, 0, 2], "rw0"],
  ["TPIDRRO_EL0", [3, 3, 13, 0, 3], "rw1"],
  ["CNTFRQ_EL0", [3, 3, 14, 0, 0], "ro0"],
  ["CNTPCT_EL0", [3, 3, 14, 0, 1], "ro0"],
  ["CNTVCT_EL0", [3, 3, 14, 0, 2], "ro0"],
  ["CNTP_TVAL_EL0", [3, 3, 14, 2, 0], "rw0"],
  ["CNTP_CTL_EL0", [3, 3, 14, 2, 1], "rw0", 0n, 3n],
  ["CNTP_CVAL_EL0", [3, 3, 14, 2, 2], "rw0"],
  ["CNTV_TVAL_EL0", [3, 3, 14, 3, 0], "rw0"],
  ["CNTV_CTL_EL0", [3, 3, 14, 3, 1], "rw0", 0n, 3n],
  ["CNTV_CVAL_EL0", [3, 3, 14, 3, 2], "rw0"],
  ["MDSCR_EL1", [2, 0, 0, 2, 2], "rw1", 0n, LOW],
  ["MDCCINT_EL1", [2, 0, 0, 2, 0], "rw1", 0n, LOW],
  ["OSLAR_EL1", [2, 0, 1, 0, 4], "wo1"],
  ["OSLSR_EL1", [2, 0, 1, 1, 4], "ro1", OSLSR],
  ["OSDLR_EL1", [2, 0, 1, 3, 4], "rw1", 0n, 1n],
  ["DBGPRCR_EL1", [2, 0, 1, 4, 4], "rw1", 0n, 1n],
  ...pairs("DBGB", 4, BREAKPOINTS),
  ...pairs("DBGW", 6, WATCHPOINTS),
  // State that KVM keeps of AArch32, which this PE doesn't have.
  ["DBGVCR32_EL2", [2, 4, 0, 7, 0], "host"],
  ["DACR32_EL2", [3, 4, 3, 0, 0], "host"],
  ["SPSR_IRQ", [3, 4, 4, 3, 0], "host"],
  ["SPSR_ABT", [3, 4, 4, 3, 1], "host"],
  ["SPSR_UND", [3, 4, 4, 3, 2], "host"],
  ["SPSR_FIQ", [3, 4, 4, 3, 3], "host"],
  ["IFSR32_EL2", [3, 4, 5, 0, 1], "host"],
  ["FPEXC32_EL2", [3, 4, 5, 3, 0], "host", FPEXC32],
];

/** Value and control registers of one kind: KVM keeps all 16, the guest has the first few. */
function pairs(prefix: "DBGB" | "DBGW", op2: number, implemented: number): readonly Row[] {
  return Array.from({ length: DEBUG_PAIRS }, (_, n) => {
    const access = n < implemented ? "rw1" : "host";
    return [
      [`${prefix}VR${n}_EL1`, [2, 0, 0, n, op2], access] as Row,
      [`${prefix}CR${n}_EL1`, [2, 0, 0, n, op2 + 1], access, 0n, LOW] as Row,
    ];
  }).flat();
}

/** Debug communication and claim tags that nobody uses here: they read 0 and ignore writes. */
const READ_AS_ZERO: readonly Row[] = [
  ["OSDTRRX_EL1", [2, 0, 0, 0, 2], "rw1", 0n, 0n],
  ["OSDTRTX_EL1", [2, 0, 0, 3, 2], "rw1", 0n, 0n],
  ["OSECCR_EL1", [2, 0, 0, 6, 2], "rw1", 0n, 0n],
  ["MDRAR_EL1", [2, 0, 1, 0, 0], "ro1", 0n, 0n],
  ["DBGCLAIMSET_EL1", [2, 0, 7, 8, 6], "rw1", 0n, 0n],
  ["DBGCLAIMCLR_EL1", [2, 0, 7, 9, 6], "rw1", 0n, 0n],
  ["DBGAUTHSTATUS_EL1", [2, 0, 7, 14, 6], "ro1", 0n, 0n],
  ["MDCCSR_EL0", [2, 3, 0, 1, 0], "ro1", 0n, 0n],
  // RAS without error records.
  ["ERRIDR_EL1", [3, 0, 5, 3, 0], "ro1", 0n, 0n],
  ["ERRSELR_EL1", [3, 0, 5, 3, 1], "rw1", 0n, 0n],
  ["ERXFR_EL1", [3, 0, 5, 4, 0], "ro1", 0n, 0n],
  ["ERXCTLR_EL1", [3, 0, 5, 4, 1], "rw1", 0n, 0n],
  ["ERXSTATUS_EL1", [3, 0, 5, 4, 2], "rw1", 0n, 0n],
  ["ERXADDR_EL1", [3, 0, 5, 4, 3], "rw1", 0n, 0n],
  ["ERXMISC0_EL1", [3, 0, 5, 5, 0], "rw1", 0n, 0n],
  ["ERXMISC1_EL1", [3, 0, 5, 5, 1], "rw1", 0n, 0n],
];

/** The ID space: op0 3, op1 0, CRn 0, CRm 1 to 7. What has no row above reads as zero. */
const ID_SPACE: readonly Row[] = Array.from({ length: 56 }, (_, n) => {
  const [crm, op2] = [1 + (n >>> 3), n & 7];
  return [`ID_S3_0_C0_C${crm}_${op2}`, [3, 0, 0, crm, op2], "ro1"] as Row;
}).filter(([, [, , , crm, op2]]) => !ROWS.some(([, e]) => isSame(e, [3, 0, 0, crm, op2])));

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a.every((part, at) => part === b[at]);
}
const PMU: readonly Row[] = PMU_REGISTERS.map(({ name, encoding }) => {
  return [name, encoding, "rw0", name === "PMCR_EL0" ? PMCR_RESET : 0n];
});
const PMU_NAMES: ReadonlySet<string> = new Set(PMU_REGISTERS.map(({ name }) => name));

/** Read by functions of pe/system.ts, or found elsewhere in the window. */
const COMPUTED: ReadonlySet<string> = new Set([
  "TPIDR_EL0",
  "TPIDRRO_EL0",
  "CNTFRQ_EL0",
  "CNTPCT_EL0",
  "CNTVCT_EL0",
  "CNTP_TVAL_EL0",
  "CNTV_TVAL_EL0",
  "OSLAR_EL1",
  "ISR_EL1",
  ...PMU_REGISTERS.filter(({ name, storage }) => storage !== name).map(({ name }) => name),
]);
const TRANSLATES: ReadonlySet<string> = new Set([
  "SCTLR_EL1",
  "TTBR0_EL1",
  "TTBR1_EL1",
  "TCR_EL1",
  "MAIR_EL1",
]);

let slots = 0;
const ALL_ROWS: readonly Row[] = [...ROWS, ...READ_AS_ZERO, ...ID_SPACE, ...PMU];
export const SYSREGS_TABLE: readonly SysReg[] = ALL_ROWS.map(
  ([name, [op0, op1, crn, crm, op2], access, reset = 0n, mask = ALL]) => ({
    name,
    encoding: encodingOf(op0, op1, crn, crm, op2),
    access,
    reset: typeof reset === "bigint" ? () => reset : reset,
    mask,
    slot: COMPUTED.has(name) ? -1 : slots++,
    translates: TRANSLATES.has(name),
    debugs: name === "MDSCR_EL1" || name.startsWith("DBGB") || name.startsWith("DBGW"),
    isPmu: PMU_NAMES.has(name),
  }),
);

export const SYSREG_BY_NAME: ReadonlyMap<string, SysReg> = new Map(
  SYSREGS_TABLE.map((row) => [row.name, row]),
);
export const SYSREG_BY_ENCODING: ReadonlyMap<number, SysReg> = new Map(
  SYSREGS_TABLE.map((row) => [row.encoding, row]),
);
