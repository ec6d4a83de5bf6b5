// Owns: named registers of a vCPU and the fields of those that have some. Data only. HTTP thread.
// @source Arm ARM C5.2 (PSTATE, SPSR), D17.2 (system registers)

/** Name, lowest bit, width, and what values mean where they have names. */
export type Field = readonly [string, number, number, Readonly<Record<number, string>>?];

export interface NamedRegister {
  readonly name: string;
  readonly id: bigint;
  readonly fields: readonly Field[];
}

const CORE = 0x6030_0000_0010_0000n;
const SYSREG = 0x6030_0000_0013_0000n;
const core = (word: number): bigint => CORE | BigInt(word);
const flag = (name: string, bit: number): Field => [name, bit, 1];

const MODE = { 0: "EL0t", 4: "EL1t", 5: "EL1h", 8: "EL2t", 9: "EL2h" };
const PSTATE: readonly Field[] = [
  flag("N", 31),
  flag("Z", 30),
  flag("C", 29),
  flag("V", 28),
  flag("DIT", 24),
  flag("UAO", 23),
  flag("PAN", 22),
  flag("SS", 21),
  flag("IL", 20),
  flag("SSBS", 12), // tidy: a bit position
  ["BTYPE", 10, 2],
  flag("D", 9),
  flag("A", 8),
  flag("I", 7),
  flag("F", 6),
  flag("nRW", 4),
  ["M", 0, 4, MODE],
];

const EC = {
  0: "unknown reason",
  1: "WFI or WFE",
  7: "SVE, SIMD or floating point",
  14: "illegal execution state",
  21: "SVC",
  22: "HVC",
  23: "SMC",
  24: "MSR, MRS or system instruction",
  32: "instruction abort, lower level",
  33: "instruction abort, same level",
  34: "PC alignment",
  36: "data abort, lower level",
  37: "data abort, same level",
  38: "SP alignment",
  44: "floating-point exception",
  47: "SError",
  48: "breakpoint, lower level",
  49: "breakpoint, same level",
  50: "software step, lower level",
  51: "software step, same level",
  52: "watchpoint, lower level",
  53: "watchpoint, same level",
  60: "BRK",
};
const ESR: readonly Field[] = [
  ["EC", 26, 6, EC],
  flag("IL", 25),
  ["ISS", 0, 25],
];

const SCTLR: readonly Field[] = [
  flag("SPAN", 23),
  flag("EE", 25),
  flag("E0E", 24),
  flag("UCI", 26),
  flag("WXN", 19),
  flag("nTWE", 18),
  flag("nTWI", 16),
  flag("UCT", 15),
  flag("DZE", 14),
  flag("I", 12), // tidy: a bit position
  flag("UMA", 9),
  flag("SA0", 4),
  flag("SA", 3),
  flag("C", 2),
  flag("A", 1),
  flag("M", 0),
];

const CACHEABILITY = {
  0: "non-cacheable",
  1: "write-back, write-allocate",
  2: "write-through",
  3: "write-back, no write-allocate",
};
const SHAREABILITY = { 0: "non-shareable", 1: "reserved", 2: "outer", 3: "inner" };
const TCR: readonly Field[] = [
  flag("HD", 40),
  flag("HA", 39),
  flag("TBI1", 38),
  flag("TBI0", 37),
  flag("AS", 36),
  ["IPS", 32, 3, { 0: "32", 1: "36", 2: "40", 3: "42", 4: "44", 5: "48", 6: "52" }],
  ["TG1", 30, 2, { 1: "16 KiB", 2: "4 KiB", 3: "64 KiB" }],
  ["SH1", 28, 2, SHAREABILITY],
  ["ORGN1", 26, 2, CACHEABILITY],
  ["IRGN1", 24, 2, CACHEABILITY],
  flag("EPD1", 23),
  flag("A1", 22),
  ["T1SZ", 16, 6],
  ["TG0", 14, 2, { 0: "4 KiB", 1: "64 KiB", 2: "16 KiB" }],
  ["SH0", 12, 2, SHAREABILITY], // tidy: a bit position
  ["ORGN0", 10, 2, CACHEABILITY],
  ["IRGN0", 8, 2, CACHEABILITY],
  flag("EPD0", 7),
  ["T0SZ", 0, 6],
];
const TTBR: readonly Field[] = [
  ["ASID", 48, 16],
  ["BADDR", 1, 47],
  flag("CnP", 0),
];
const FPEN = { 0: "traps EL0 and EL1", 1: "traps EL0", 2: "traps EL0 and EL1", 3: "traps nothing" };
const CPACR: readonly Field[] = [
  ["ZEN", 16, 2, FPEN],
  ["FPEN", 20, 2, FPEN],
  flag("TTA", 28),
];
const MPIDR: readonly Field[] = [
  ["Aff3", 32, 8],
  flag("U", 30),
  flag("MT", 24),
  ["Aff2", 16, 8],
  ["Aff1", 8, 8],
  ["Aff0", 0, 8],
];
const TIMER: readonly Field[] = [flag("ISTATUS", 2), flag("IMASK", 1), flag("ENABLE", 0)];

const MAIR: readonly Field[] = Array.from({ length: 8 }, (_, n) => [`Attr${n}`, 8 * n, 8] as const);

const NONE: readonly Field[] = [];
type SystemRow = readonly [string, number, number, number, number, number, (readonly Field[])?];
/** op0, op1, CRn, CRm, op2. */
const SYSTEM: readonly SystemRow[] = [
  ["MPIDR_EL1", 3, 0, 0, 0, 5, MPIDR],
  ["SCTLR_EL1", 3, 0, 1, 0, 0, SCTLR],
  ["CPACR_EL1", 3, 0, 1, 0, 2, CPACR],
  ["TTBR0_EL1", 3, 0, 2, 0, 0, TTBR],
  ["TTBR1_EL1", 3, 0, 2, 0, 1, TTBR],
  ["TCR_EL1", 3, 0, 2, 0, 2, TCR],
  ["ESR_EL1", 3, 0, 5, 2, 0, ESR],
  ["FAR_EL1", 3, 0, 6, 0, 0],
  ["PAR_EL1", 3, 0, 7, 4, 0],
  ["MAIR_EL1", 3, 0, 10, 2, 0, MAIR],
  ["VBAR_EL1", 3, 0, 12, 0, 0],
  ["CONTEXTIDR_EL1", 3, 0, 13, 0, 1],
  ["TPIDR_EL1", 3, 0, 13, 0, 4],
  ["TPIDR_EL0", 3, 3, 13, 0, 2],
  ["TPIDRRO_EL0", 3, 3, 13, 0, 3],
  ["CNTKCTL_EL1", 3, 0, 14, 1, 0],
  ["CNTV_CTL_EL0", 3, 3, 14, 3, 1, TIMER],
];

const system = ([name, op0, op1, crn, crm, op2, fields = NONE]: SystemRow): NamedRegister => {
  const encoding = (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
  return { name, id: SYSREG | BigInt(encoding), fields };
};

/** Words of struct kvm_regs. */
const GENERAL = Array.from({ length: 31 }, (_, n) => {
  return { name: `X${n}`, id: core(2 * n), fields: NONE };
});

export const NAMED_REGISTERS: readonly NamedRegister[] = [
  ...GENERAL,
  { name: "SP_EL0", id: core(0x3e), fields: NONE },
  { name: "PC", id: core(0x40), fields: NONE },
  { name: "PSTATE", id: core(0x42), fields: PSTATE },
  { name: "SP_EL1", id: core(0x44), fields: NONE },
  { name: "ELR_EL1", id: core(0x46), fields: NONE },
  { name: "SPSR_EL1", id: core(0x48), fields: PSTATE },
  ...SYSTEM.map(system),
];
