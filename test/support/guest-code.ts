// Owns: a VM with one vCPU of guest code, for tests that re-create kernel selftests: registers by
// KVM's ids, handlers behind VBAR_EL1, system registers by their encoding. Test process.
import * as a64 from "./a64.js";
import { BASE, Inline, type InlineOptions } from "./inline.js";

export const K4 = 4096;
export const UART = 0x900_0000n;
export const VECTORS = BASE + K4;
export const PSCI_0_2 = 4n;
const POWER_OFF = 1n;
const SYNC_SPX = 0x200;
const SERROR_SPX = 0x380;

const core = (word: number): bigint => 0x6030_0000_0010_0000n | BigInt(word);
export const X = (n: number): bigint => core(2 * n);
export const PC = core(0x40);

export const PSTATE = core(0x42);

type Encoding = readonly [number, number, number, number, number];
/** KVM's id of a system register. */
export function sysId([op0, op1, crn, crm, op2]: Encoding): bigint {
  const index = (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
  return 0x6030_0000_0013_0000n | BigInt(index);
}
const u32 = (word: number): number => word >>> 0;
function system(base: number, rt: number, [op0, op1, crn, crm, op2]: Encoding): number {
  const at = (op0 << 19) | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5);
  return u32(base | at | rt);
}
export const mrs = (rt: number, e: Encoding): number => system(0xd520_0000, rt, e);
export const msr = (e: Encoding, rt: number): number => system(0xd500_0000, rt, e);
/** MSR DAIFSet and DAIFClr: 8 is D, 4 is A, 2 is I, 1 is F. */
export const daifSet = (bits: number): number => u32(0xd503_40df | (bits << 8));
export const daifClr = (bits: number): number => u32(0xd503_40ff | (bits << 8));
export const NOP = 0xd503_201f;
export const ESB = 0xd503_221f;
export const smc = (imm: number): number => u32(0xd400_0003 | (imm << 5));
export const hvc = (imm: number): number => u32(0xd400_0002 | (imm << 5));
export const brk = (imm: number): number => u32(0xd420_0000 | (imm << 5));
export const ldr = (rt: number, rn: number): number => u32(0xf940_0000 | (rn << 5) | rt);
/** LDR (immediate, post-indexed by 8). */
export const ldrPost = (rt: number, rn: number): number => u32(0xf840_8400 | (rn << 5) | rt);

export const SYS = {
  MIDR_EL1: [3, 0, 0, 0, 0],
  ID_AA64PFR0_EL1: [3, 0, 0, 4, 0],
  ID_AA64DFR0_EL1: [3, 0, 0, 5, 0],
  ID_AA64ISAR0_EL1: [3, 0, 0, 6, 0],
  ID_AA64MMFR0_EL1: [3, 0, 0, 7, 0],
  PAR_EL1: [3, 0, 7, 4, 0],
  ISR_EL1: [3, 0, 12, 1, 0],
  DISR_EL1: [3, 0, 12, 1, 1],
  SP_EL0: [3, 0, 4, 1, 0],
  SPSel: [3, 0, 4, 2, 0],
  CONTEXTIDR_EL1: [3, 0, 13, 0, 1],
  MDSCR_EL1: [2, 0, 0, 2, 2],
  OSLAR_EL1: [2, 0, 1, 0, 4],
  OSLSR_EL1: [2, 0, 1, 1, 4],
  CTR_EL0: [3, 3, 0, 0, 1],
  DCZID_EL0: [3, 3, 0, 0, 7],
  CNTVCT_EL0: [3, 3, 14, 0, 2],
} as const satisfies Readonly<Record<string, Encoding>>;

export const dbgBvr = (n: number): Encoding => [2, 0, 0, n, 4];
export const dbgBcr = (n: number): Encoding => [2, 0, 0, n, 5];
export const dbgWvr = (n: number): Encoding => [2, 0, 0, n, 6];
export const dbgWcr = (n: number): Encoding => [2, 0, 0, n, 7];

export class Guest extends Inline {
  /** Slot 0 has 64 pages from BASE on, where the code is and PC points. */
  constructor(words: readonly number[], options: InlineOptions & { caps?: number[] } = {}) {
    const { caps = [], ...definition } = options;
    super(definition);
    for (const cap of caps) this.enable(cap);
    this.slot(0, 64);
    this.init(0);
    this.code(BASE, words);
    this.set(PC, BigInt(BASE));
  }

  init(vcpu: number, isOff = false): void {
    this.vcpu(vcpu);
    const features = [isOff ? PSCI_0_2 | POWER_OFF : PSCI_0_2];
    this.call("vcpuInit", { vcpu, target: 5, features });
  }

  code(gpa: number, words: readonly number[]): void {
    this.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes: a64.bytesOf(words) });
  }

  /** Code of an exception's handler; the guest begins with `useVectors()`. */
  onSync(words: readonly number[]): void {
    this.code(VECTORS + SYNC_SPX, words);
  }
  onSerror(words: readonly number[]): void {
    this.code(VECTORS + SERROR_SPX, words);
  }

  get(reg: bigint, vcpu = 0): bigint {
    return this.call("getOneReg", { vcpu, reg }).value;
  }
  set(reg: bigint, value: bigint, vcpu = 0): void {
    this.call("setOneReg", { vcpu, reg, value: little(value) });
  }
  /** X0 to X30 that the numbers name. */
  xs(...numbers: number[]): bigint[] {
    return numbers.map((n) => this.get(X(n)));
  }
  setRefused(reg: bigint, value: bigint, vcpu = 0): string | null {
    return this.refused("setOneReg", { vcpu, reg, value: little(value) });
  }
}

export function little(value: bigint, size = 8): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

/** VBAR_EL1 to VECTORS, by X30. */
export const useVectors = (): number[] => [
  ...a64.mov(30, BigInt(VECTORS)),
  a64.msr("VBAR_EL1", 30),
];

/** Tells ESR, ELR and FAR in X20 to X22, then powers off. */
export const report = (): number[] => [
  a64.mrs(20, "ESR_EL1"),
  a64.mrs(21, "ELR_EL1"),
  a64.mrs(22, "FAR_EL1"),
  ...a64.powerOff(),
];
