// Owns: the registers that a debugger sees, in its order, each with KVM's id. Data only.
// HTTP thread.
// @source GDB manual, appendix G.5.1 (AArch64 features); Documentation/virt/kvm/api.rst 4.68

export interface RegisterRow {
  readonly name: string;
  readonly bits: 32 | 64 | 128;
  readonly type: string;
  /** KVM_GET_ONE_REG's. */
  readonly id: bigint;
  readonly feature: "core" | "fpu" | "system";
}

const CORE = 0x6030_0000_0010_0000n;
const U32 = 0x6020_0000_0010_0000n;
const U128 = 0x6040_0000_0010_0000n;
const SYSREG = 0x6030_0000_0013_0000n;

export const PC_ID = CORE | 0x40n;
export const PSTATE_ID = CORE | 0x42n;
const SP_EL0_ID = CORE | 0x3en;
const SP_EL1_ID = CORE | 0x44n;

type Encoding = readonly [op0: number, op1: number, crn: number, crm: number, op2: number];
const SYSTEM: Readonly<Record<string, Encoding>> = {
  MPIDR_EL1: [3, 0, 0, 0, 5],
  SCTLR_EL1: [3, 0, 1, 0, 0],
  CPACR_EL1: [3, 0, 1, 0, 2],
  TTBR0_EL1: [3, 0, 2, 0, 0],
  TTBR1_EL1: [3, 0, 2, 0, 1],
  TCR_EL1: [3, 0, 2, 0, 2],
  ESR_EL1: [3, 0, 5, 2, 0],
  FAR_EL1: [3, 0, 6, 0, 0],
  PAR_EL1: [3, 0, 7, 4, 0],
  MAIR_EL1: [3, 0, 10, 2, 0],
  VBAR_EL1: [3, 0, 12, 0, 0],
  CONTEXTIDR_EL1: [3, 0, 13, 0, 1],
  TPIDR_EL0: [3, 3, 13, 0, 2],
  TPIDR_EL1: [3, 0, 13, 0, 4],
};

function idOf([op0, op1, crn, crm, op2]: Encoding): bigint {
  return SYSREG | BigInt((op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2);
}

const core = (name: string, type: string, id: bigint, bits: 32 | 64 = 64): RegisterRow => {
  return { name, bits, type, id, feature: "core" };
};
const system = (name: string, id: bigint): RegisterRow => {
  return { name, bits: 64, type: "uint64", id, feature: "system" };
};

/** The number of a register is its place; 0 to 67 are as GDB numbers them everywhere. */
export const REGISTERS: readonly RegisterRow[] = [
  ...Array.from({ length: 31 }, (_, n) => core(`x${n}`, "int", CORE | BigInt(2 * n))),
  // Whose stack pointer it is, PSTATE says.
  core("sp", "data_ptr", SP_EL0_ID),
  core("pc", "code_ptr", PC_ID),
  core("cpsr", "cpsr_flags", PSTATE_ID, 32),
  ...Array.from({ length: 32 }, (_, n): RegisterRow => {
    const id = U128 | BigInt(0x54 + 4 * n);
    return { name: `v${n}`, bits: 128, type: "aarch64v", id, feature: "fpu" };
  }),
  { name: "fpsr", bits: 32, type: "int", id: U32 | 0xd4n, feature: "fpu" },
  { name: "fpcr", bits: 32, type: "int", id: U32 | 0xd5n, feature: "fpu" },
  system("SP_EL0", SP_EL0_ID),
  system("SP_EL1", SP_EL1_ID),
  system("ELR_EL1", CORE | 0x46n),
  system("SPSR_EL1", CORE | 0x48n),
  ...Object.entries(SYSTEM).map(([name, encoding]) => system(name, idOf(encoding))),
];

export const FP_NUMBER = 29;
export const SP_NUMBER = 31;
export const PC_NUMBER = 32;

/** What a "g" packet holds; the others are asked for one by one. */
export const GENERAL = REGISTERS.filter(({ feature }) => feature !== "system");

const SPSEL = 1n;
const EL = 0b1100n;

/** KVM's id of the stack pointer that the vCPU uses. */
export function stackPointerId(pstate: bigint): bigint {
  return (pstate & EL) !== 0n && (pstate & SPSEL) !== 0n ? SP_EL1_ID : SP_EL0_ID;
}
export const BOTH_SPS = [SP_EL0_ID, SP_EL1_ID] as const;
