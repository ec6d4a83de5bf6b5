// Owns: which fields of ID registers userspace may lower, and how a lower value compares. Data only.
// @source arch/arm64/kvm/sys_regs.c, arch/arm64/kernel/cpufeature.c by behaviour; kvm-uapi.md 4.4

/**
 * What values of a field are safe beside the host's: none above it; none above as signed numbers;
 * no other.
 */
export type FieldKind = "lower" | "signed" | "exact";

export interface IdField {
  readonly shift: number;
  readonly width: number;
  readonly kind: FieldKind;
}
export interface IdRegister {
  /** Bits that userspace may change; KVM_ARM_GET_REG_WRITABLE_MASKS tells them. */
  readonly mask: bigint;
  /** Fields that are no four-bit "lower" ones. */
  readonly fields: readonly IdField[];
}

const field = (shift: number, width = 4): bigint => ((1n << BigInt(width)) - 1n) << BigInt(shift);
const all = (...shifts: number[]): bigint => shifts.reduce((sum, at) => sum | field(at), 0n);
const ALL = 2n ** 64n - 1n;
const signed = (shift: number): IdField => ({ shift, width: 4, kind: "signed" });
const exact = (shift: number): IdField => ({ shift, width: 4, kind: "exact" });
const bit = (shift: number): IdField => ({ shift, width: 1, kind: "lower" });

export const ID_REGISTERS: ReadonlyMap<string, IdRegister> = new Map<string, IdRegister>([
  // FP, AdvSIMD, SVE, MPAM and AMU are not for userspace to change.
  ["ID_AA64PFR0_EL1", { mask: ALL & ~all(16, 20, 32, 40, 44), fields: [] }],
  // DebugVer, PMUVer, WRPs, DoubleLock; KVM accepts no debug architecture below 8.0.
  ["ID_AA64DFR0_EL1", { mask: all(0, 8, 20, 36), fields: [exact(0), signed(36)] }],
  ["ID_AA64ISAR0_EL1", { mask: ALL & ~all(0), fields: [] }],
  // APA, API, GPA and GPI come with the features of KVM_ARM_VCPU_INIT.
  ["ID_AA64ISAR1_EL1", { mask: ALL & ~all(4, 8, 24, 28), fields: [] }],
  // ASIDBits and the granules of stage 2 stay.
  [
    "ID_AA64MMFR0_EL1",
    { mask: ALL & ~all(4, 32, 36, 40, 48, 52), fields: [signed(24), signed(28)] },
  ],
  // VMIDBits, VH, XNX, TWED and HCX belong to EL2.
  ["ID_AA64MMFR1_EL1", { mask: ALL & ~all(4, 8, 28, 32, 40), fields: [] }],
  // IminLine, DminLine, IDC, DIC.
  ["CTR_EL0", { mask: all(0, 16) | field(28, 2), fields: [bit(28), bit(29)] }],
]);

/** Registers of KVM_CAP_ARM_WRITABLE_IMP_ID_REGS: any value of these bits will do. */
export const IMPLEMENTATION_REGISTERS: ReadonlyMap<string, bigint> = new Map([
  ["MIDR_EL1", 0xffff_ffffn],
  ["REVIDR_EL1", ALL],
  ["AIDR_EL1", ALL],
]);
