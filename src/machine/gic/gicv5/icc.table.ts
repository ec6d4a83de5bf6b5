// Owns: GICv5's system registers and instructions at EL1: names and encodings. Data only. Any thread.
// @source interrupts.md 5.2, 5.3; gicv5-observed.md 4.1, 4.2

type Access = "rw" | "ro";
/** op0 is 3 and CRn 12 throughout; a row is op1, CRm, op2 and how it may be accessed. */
type Row = readonly [name: string, op1: number, crm: number, op2: number, access: Access];

const PRIORITIES = [
  "ICC_PPI_PRIORITYR0_EL1", "ICC_PPI_PRIORITYR1_EL1", "ICC_PPI_PRIORITYR2_EL1", "ICC_PPI_PRIORITYR3_EL1",
  "ICC_PPI_PRIORITYR4_EL1", "ICC_PPI_PRIORITYR5_EL1", "ICC_PPI_PRIORITYR6_EL1", "ICC_PPI_PRIORITYR7_EL1",
  "ICC_PPI_PRIORITYR8_EL1", "ICC_PPI_PRIORITYR9_EL1", "ICC_PPI_PRIORITYR10_EL1", "ICC_PPI_PRIORITYR11_EL1",
  "ICC_PPI_PRIORITYR12_EL1", "ICC_PPI_PRIORITYR13_EL1", "ICC_PPI_PRIORITYR14_EL1", "ICC_PPI_PRIORITYR15_EL1",
] as const;

const ROWS = [
  ["ICC_APR_EL1", 1, 0, 0, "rw"],
  ["ICC_CR0_EL1", 1, 0, 1, "rw"],
  ["ICC_PCR_EL1", 1, 0, 2, "rw"],
  ["ICC_PPI_HMR0_EL1", 0, 10, 0, "ro"],
  ["ICC_PPI_HMR1_EL1", 0, 10, 1, "ro"],
  ["ICC_IDR0_EL1", 0, 10, 2, "ro"],
  ["ICC_HPPIR_EL1", 0, 10, 3, "ro"],
  ["ICC_ICSR_EL1", 0, 10, 4, "rw"],
  ["ICC_IAFFIDR_EL1", 0, 10, 5, "ro"],
  ["ICC_PPI_ENABLER0_EL1", 0, 10, 6, "rw"],
  ["ICC_PPI_ENABLER1_EL1", 0, 10, 7, "rw"],
  ["ICC_PPI_CACTIVER0_EL1", 0, 13, 0, "rw"],
  ["ICC_PPI_CACTIVER1_EL1", 0, 13, 1, "rw"],
  ["ICC_PPI_SACTIVER0_EL1", 0, 13, 2, "rw"],
  ["ICC_PPI_SACTIVER1_EL1", 0, 13, 3, "rw"],
  ["ICC_PPI_CPENDR0_EL1", 0, 13, 4, "rw"],
  ["ICC_PPI_CPENDR1_EL1", 0, 13, 5, "rw"],
  ["ICC_PPI_SPENDR0_EL1", 0, 13, 6, "rw"],
  ["ICC_PPI_SPENDR1_EL1", 0, 13, 7, "rw"],
] as const satisfies readonly Row[];

export type IccV5Name = (typeof ROWS)[number][0] | (typeof PRIORITIES)[number];

export interface IccV5Register {
  readonly name: IccV5Name;
  /** op0[15:14] op1[13:11] CRn[10:7] CRm[6:3] op2[2:0], as KVM and the PE pack it. */
  readonly encoding: number;
  readonly access: Access;
  /** Which of a row of registers with the same name. */
  readonly index: number;
}

const CRN = 12; // tidy: a CRn
const encoded = (op1: number, crm: number, op2: number): number =>
  (3 << 14) | (op1 << 11) | (CRN << 7) | (crm << 3) | op2;

export const ICC_V5_REGISTERS: readonly IccV5Register[] = [
  ...ROWS.map(([name, op1, crm, op2, access]) => ({
    name,
    encoding: encoded(op1, crm, op2),
    access,
    index: name.endsWith("R1_EL1") ? 1 : 0,
  })),
  ...PRIORITIES.map((name, index) => ({
    name,
    encoding: encoded(0, 14 + (index >> 3), index & 7),
    access: "rw" as const,
    index,
  })),
];

export const ICC_V5_BY_ENCODING: ReadonlyMap<number, IccV5Register> = new Map(
  ICC_V5_REGISTERS.map((row) => [row.encoding, row]),
);
export const ICC_V5_BY_NAME: ReadonlyMap<string, IccV5Register> = new Map(
  ICC_V5_REGISTERS.map((row) => [row.name, row]),
);

/** op1 is 0 and CRn 12: name, CRm, op2. SYS throughout, but for those that give a result. */
const INSTRUCTIONS = [
  ["GSB_SYS", 0, 0],
  ["GSB_ACK", 0, 1],
  ["CDDIS", 1, 0],
  ["CDEN", 1, 1],
  ["CDPRI", 1, 2],
  ["CDAFF", 1, 3],
  ["CDPEND", 1, 4],
  ["CDRCFG", 1, 5],
  ["CDEOI", 1, 7],
  ["CDDI", 2, 0],
  ["CDHM", 2, 1],
] as const;
const RESULTS = [
  ["CDIA", 3, 0],
  ["CDNMIA", 3, 1],
] as const;

export type GicInsn = (typeof INSTRUCTIONS)[number][0];
export type GicResultInsn = (typeof RESULTS)[number][0];

const at = (crm: number, op2: number): number => (crm << 3) | op2;
/** By CRm:op2. */
export const GIC_SYS: ReadonlyMap<number, GicInsn> = new Map(
  INSTRUCTIONS.map(([name, crm, op2]) => [at(crm, op2), name]),
);
export const GIC_SYSL: ReadonlyMap<number, GicResultInsn> = new Map(
  RESULTS.map(([name, crm, op2]) => [at(crm, op2), name]),
);
