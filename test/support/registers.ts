// Owns: ids of KVM_GET_ONE_REG and KVM_SET_ONE_REG for guests of tests. Test process.
// @source kvm-uapi.md 8.5
import { SYSREG, type SysregName } from "./a64.js";

const core = (word: number): bigint => 0x6030_0000_0010_0000n | BigInt(word);

export const reg = {
  x: (n: number): bigint => core(2 * n),
  SP: core(0x3e),
  SP_EL1: core(0x44),
  PC: core(0x40),
  PSTATE: core(0x42),
  sys: (name: SysregName): bigint => {
    const [op0, op1, crn, crm, op2] = SYSREG[name];
    const id = (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
    return 0x6030_0000_0013_0000n | BigInt(id);
  },
} as const;

/** A value's bytes, lowest first. */
export function little(value: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
