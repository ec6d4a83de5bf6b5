// Owns: a VM inline whose vCPUs run guest code, and short ways to its registers. Test process.
import * as a64 from "./a64.js";
import { BASE, Inline, type InlineOptions } from "./inline.js";

const CORE = 0x6030_0000_0010_0000n;
const SYSREG = 0x6030_0000_0013_0000n;
const PSCI_0_2 = 4n;
export const PC = CORE | 0x40n;
export const X = (n: number): bigint => CORE | BigInt(2 * n);
/** KVM's id of a system register. */
export const S = (op0: number, op1: number, crn: number, crm: number, op2: number): bigint =>
  SYSREG | BigInt((op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2);

/** Where guests here keep their vectors. */
export const VECTORS = BASE + 0x4000;
export const IRQ_VECTOR = VECTORS + 0x280;
export const FIQ_VECTOR = VECTORS + 0x300;

export class Guest extends Inline {
  /** @param caps capabilities with their arguments, enabled before there is a slot */
  constructor(options: InlineOptions = {}, caps: readonly (readonly [number, ...bigint[]])[] = []) {
    super(options);
    for (const [cap, ...args] of caps) this.enable(cap, ...args);
    this.slot(0, 64);
  }

  /** A vCPU that begins with these words; VBAR_EL1 is VECTORS. */
  boot(id: number, words: readonly number[], at = BASE, features = PSCI_0_2): void {
    this.vcpu(id);
    this.call("vcpuInit", { vcpu: id, target: 5, features: [features] });
    this.put(at, words);
    this.set(PC, BigInt(at), id);
    this.set(S(3, 0, 12, 0, 0), BigInt(VECTORS), id);
  }

  put(gpa: number, words: readonly number[]): void {
    this.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes: a64.bytesOf(words) });
  }

  get(reg: bigint, vcpu = 0): bigint {
    return this.call("getOneReg", { vcpu, reg }).value;
  }

  set(reg: bigint, value: bigint, vcpu = 0): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.call("setOneReg", { vcpu, reg, value: bytes });
  }

  /** KVM_IRQ_LINE of a vCPU's own IRQ. */
  irq(level: number, vcpu = 0): void {
    this.call("irqLine", { irq: vcpu << 16, level });
  }
}

/** PSCI SYSTEM_OFF. */
export const OFF = { errno: null, exitReason: "KVM_EXIT_SYSTEM_EVENT" };
export const INTR = { errno: "EINTR", exitReason: "KVM_EXIT_INTR" };
