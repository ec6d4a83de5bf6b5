// Owns: the ICC registers of a CPU interface at EL1: names and encodings. Data only. Any thread.
// @source Arm IHI 0069 (GICv3) 12.2; interrupts.md 4.5

/** op0 is 3 throughout; a row is op1, CRn, CRm, op2 of the encoding, and how it may be accessed. */
type Row = readonly [
  name: string,
  op1: number,
  crn: number,
  crm: number,
  op2: number,
  access: "rw" | "ro" | "wo",
];

const ROWS = [
  ["ICC_PMR_EL1", 0, 4, 6, 0, "rw"],
  ["ICC_IAR0_EL1", 0, 12, 8, 0, "ro"], // tidy: CRn
  ["ICC_EOIR0_EL1", 0, 12, 8, 1, "wo"], // tidy: CRn
  ["ICC_HPPIR0_EL1", 0, 12, 8, 2, "ro"], // tidy: CRn
  ["ICC_BPR0_EL1", 0, 12, 8, 3, "rw"], // tidy: CRn
  ["ICC_AP0R0_EL1", 0, 12, 8, 4, "rw"], // tidy: CRn
  ["ICC_AP0R1_EL1", 0, 12, 8, 5, "rw"], // tidy: CRn
  ["ICC_AP0R2_EL1", 0, 12, 8, 6, "rw"], // tidy: CRn
  ["ICC_AP0R3_EL1", 0, 12, 8, 7, "rw"], // tidy: CRn
  ["ICC_AP1R0_EL1", 0, 12, 9, 0, "rw"], // tidy: CRn
  ["ICC_AP1R1_EL1", 0, 12, 9, 1, "rw"], // tidy: CRn
  ["ICC_AP1R2_EL1", 0, 12, 9, 2, "rw"], // tidy: CRn
  ["ICC_AP1R3_EL1", 0, 12, 9, 3, "rw"], // tidy: CRn
  ["ICC_DIR_EL1", 0, 12, 11, 1, "wo"], // tidy: CRn
  ["ICC_RPR_EL1", 0, 12, 11, 3, "ro"], // tidy: CRn
  ["ICC_SGI1R_EL1", 0, 12, 11, 5, "wo"], // tidy: CRn
  ["ICC_ASGI1R_EL1", 0, 12, 11, 6, "wo"], // tidy: CRn
  ["ICC_SGI0R_EL1", 0, 12, 11, 7, "wo"], // tidy: CRn
  ["ICC_IAR1_EL1", 0, 12, 12, 0, "ro"], // tidy: CRn
  ["ICC_EOIR1_EL1", 0, 12, 12, 1, "wo"], // tidy: CRn
  ["ICC_HPPIR1_EL1", 0, 12, 12, 2, "ro"], // tidy: CRn
  ["ICC_BPR1_EL1", 0, 12, 12, 3, "rw"], // tidy: CRn
  ["ICC_CTLR_EL1", 0, 12, 12, 4, "rw"], // tidy: CRn
  ["ICC_SRE_EL1", 0, 12, 12, 5, "rw"], // tidy: CRn
  ["ICC_IGRPEN0_EL1", 0, 12, 12, 6, "rw"], // tidy: CRn
  ["ICC_IGRPEN1_EL1", 0, 12, 12, 7, "rw"], // tidy: CRn
] as const satisfies readonly Row[];

export type IccName = (typeof ROWS)[number][0];

export interface IccRegister {
  readonly name: IccName;
  /** op0[15:14] op1[13:11] CRn[10:7] CRm[6:3] op2[2:0], as KVM and the PE pack it. */
  readonly encoding: number;
  readonly access: "rw" | "ro" | "wo";
}

export const ICC_REGISTERS: readonly IccRegister[] = ROWS.map(
  ([name, op1, crn, crm, op2, access]) => ({
    name,
    encoding: (3 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2,
    access,
  }),
);

export const ICC_BY_ENCODING: ReadonlyMap<number, IccRegister> = new Map(
  ICC_REGISTERS.map((row) => [row.encoding, row]),
);
