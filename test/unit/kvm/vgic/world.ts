// Owns: a VM with a vGIC for tests: its device, vCPUs with guest code that notes what it is
// interrupted by. Test process.
import { createDevice } from "../../../../src/kvm/device.js";
import { InKernelVgic } from "../../../../src/kvm/vgic/in-kernel.js";
import * as a64 from "../../../support/a64.js";
import { BASE, Inline, type InlineOptions, refusal } from "../../../support/inline.js";

const PC = 0x6030_0000_0010_0040n;
const X = (n: number): bigint => 0x6030_0000_0010_0000n | BigInt(2 * n);

export const TYPE = { v2: 5, v3: 7 } as const;
export const GROUP = {
  ADDR: 0,
  DIST: 1,
  CPU: 2,
  NR_IRQS: 3,
  CTRL: 4,
  REDIST: 5,
  SYSREGS: 6,
  LEVEL: 7,
};
export const DIST = 0x800_0000;
export const CPU = 0x801_0000;
export const REDIST = 0x80a_0000;

export const u32 = (value: number): Uint8Array => a64.bytesOf([value]);
export const u64 = (value: bigint | number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
};

/** MSR and MRS by op0, op1, CRn, CRm, op2. */
type Encoding = readonly [number, number, number, number, number];
const encode = ([op0, op1, crn, crm, op2]: Encoding): number =>
  ((op0 & 1) << 19) | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5);
export const mrs = (rt: number, of: Encoding): number => (0xd530_0000 | encode(of) | rt) >>> 0;
export const msr = (of: Encoding, rt: number): number => (0xd510_0000 | encode(of) | rt) >>> 0;
export const ICC = {
  PMR: [3, 0, 4, 6, 0],
  DIR: [3, 0, 12, 11, 1],
  RPR: [3, 0, 12, 11, 3],
  SGI1R: [3, 0, 12, 11, 5],
  SGI0R: [3, 0, 12, 11, 7],
  IAR1: [3, 0, 12, 12, 0],
  EOIR1: [3, 0, 12, 12, 1],
  CTLR: [3, 0, 12, 12, 4],
  SRE: [3, 0, 12, 12, 5],
  IGRPEN1: [3, 0, 12, 12, 7],
} as const satisfies Readonly<Record<string, Encoding>>;

/** ICC register as an attribute of group 6. */
export const iccAttr = ([op0, op1, crn, crm, op2]: Encoding, mpidr = 0n): bigint =>
  (mpidr << 32n) | BigInt((op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2);

export interface WorldOptions extends InlineOptions {
  readonly model?: "v2" | "v3";
  readonly vcpus?: number;
  readonly nrIrqs?: number;
  /** features[0] of KVM_ARM_VCPU_INIT. */
  readonly features?: bigint;
  /** false: INIT is left out. */
  readonly isInit?: boolean;
  /** vCPUs aren't initialised for guest code. */
  readonly isBare?: boolean;
}

export class World {
  readonly vm: Inline;
  readonly device: number;
  readonly model: "v2" | "v3";

  constructor(options: WorldOptions = {}) {
    const {
      model = "v3",
      vcpus = 1,
      nrIrqs,
      isInit = true,
      isBare = false,
      features = 4n,
      ...rest
    } = options;
    this.model = model;
    this.vm = new Inline(rest);
    this.vm.slot(0, 64);
    for (let id = 0; id < vcpus; id++) {
      this.vm.vcpu(id);
      if (!isBare) this.vm.call("vcpuInit", { vcpu: id, target: 5, features: [features] });
    }
    this.device = createDevice(this.vm.kvm.vm, TYPE[model], 0) ?? -1;
    if (nrIrqs !== undefined) this.set(GROUP.NR_IRQS, 0n, u32(nrIrqs));
    if (model === "v3") {
      this.set(GROUP.ADDR, 2n, u64(DIST));
      this.set(GROUP.ADDR, 3n, u64(REDIST));
    } else {
      this.set(GROUP.ADDR, 0n, u64(DIST));
      this.set(GROUP.ADDR, 1n, u64(CPU));
    }
    if (isInit) this.set(GROUP.CTRL, 0n, new Uint8Array());
  }

  get kvmDevice() {
    const device = this.vm.kvm.vm.devices[this.device];
    if (device === undefined) throw new Error("the device exists");
    return device;
  }

  get vgic(): InKernelVgic {
    const { vgic } = this.vm.kvm.vm;
    if (!(vgic instanceof InKernelVgic)) throw new Error("the VM has a vGIC");
    return vgic;
  }

  set(group: number, attr: bigint, value: Uint8Array): void {
    this.kvmDevice.set(group, attr, value);
  }

  /** Errno of a SET, or null. */
  refused(group: number, attr: bigint, value: Uint8Array): string | null {
    return refusal(() => this.set(group, attr, value));
  }

  word(group: number, attr: bigint): number {
    const bytes = this.kvmDevice.get(group, attr, new Uint8Array());
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  /** A guest's access, as its MMIO exit has it. */
  load(ipa: number, length = 4, vcpu = 0): number {
    const bytes = this.#vgicOf(vcpu, ipa, length, null);
    return bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
  }

  store(ipa: number, value: number | bigint, length = 4, vcpu = 0): void {
    this.#vgicOf(vcpu, ipa, length, u64(BigInt.asUintN(64, BigInt(value))).slice(0, length));
  }

  #vgicOf(vcpu: number, ipa: number, length: number, store: Uint8Array | null): Uint8Array {
    const { vm } = this.vm.kvm;
    const bytes = vm.vgic.mmio(vm.vcpus[vcpu]!, ipa, length, store);
    if (bytes === null) throw new Error(`no frame at ${ipa.toString(16)}`);
    return bytes;
  }

  /** The frames are live, as after a first run. */
  map(): void {
    const errno = this.vm.kvm.vm.vgic.firstRun();
    if (errno !== null) throw new Error(errno);
  }

  inject(vcpu: number | null, intid: number, level = true): void {
    const { vgic } = this;
    vgic.delivery.inject(vcpu === null ? null : vgic.dist.cpus[vcpu]!, intid, level, null);
  }

  code(at: number, words: readonly number[]): void {
    this.vm.call("writePhysicalMemory", { gpa: BigInt(at), bytes: a64.bytesOf(words) });
  }

  start(vcpu: number, at: number): void {
    this.vm.call("setOneReg", { vcpu, reg: PC, value: u64(at) });
  }

  x(n: number, vcpu = 0): bigint {
    return this.vm.call("getOneReg", { vcpu, reg: X(n) }).value;
  }

  words64(at: number, count: number): number[] {
    const bytes = this.vm.call("readPhysicalMemory", { gpa: BigInt(at), length: 8 * count });
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    return Array.from({ length: count }, (_, n) => Number(view.getBigUint64(8 * n, true)));
  }
}

/** Where each vCPU's code lies, its vectors, and what it notes. */
export const CODE = (vcpu: number): number => BASE + vcpu * 0x8000;
export const VECTORS = (vcpu: number): number => CODE(vcpu) + 0x2000;
export const NOTES = (vcpu: number): number => CODE(vcpu) + 0x4000;
/** From the same exception level with SP_EL1. */
const IRQ_VECTOR = 0x280;

/** Notes INTIDs of group 1 from X20 on; ends when X21 of them were taken. */
export function v3Guest(
  world: World,
  vcpu: number,
  options: { count: number; before?: readonly number[]; handler?: readonly number[] },
): void {
  const handler = options.handler ?? [
    mrs(1, ICC.IAR1),
    a64.str(1, 20),
    a64.add(20, 20, 8),
    msr(ICC.EOIR1, 1),
    a64.subs(21, 21, 1),
    a64.cbnz(21, 1 + a64.powerOff().length),
    ...a64.powerOff(),
    a64.ERET,
  ];
  world.code(VECTORS(vcpu) + IRQ_VECTOR, handler);
  world.code(CODE(vcpu), [
    ...a64.mov(0, BigInt(VECTORS(vcpu))),
    a64.msr("VBAR_EL1", 0),
    ...a64.mov(20, BigInt(NOTES(vcpu))),
    ...a64.mov(21, BigInt(options.count)),
    ...a64.mov(0, 0xf0n),
    msr(ICC.PMR, 0),
    ...a64.mov(0, 1n),
    msr(ICC.IGRPEN1, 0),
    ...(options.before ?? []),
    a64.daifclr(2),
    a64.WFI,
    a64.b(-1),
  ]);
  world.start(vcpu, CODE(vcpu));
}

/** The same with a GICv2, whose CPU interface is memory, at X19. */
export function v2Guest(world: World, vcpu: number, options: { count: number }): void {
  world.code(VECTORS(vcpu) + IRQ_VECTOR, [
    a64.ldrw(1, 19, 0x0c),
    a64.str(1, 20),
    a64.add(20, 20, 8),
    a64.strw(1, 19, 0x10),
    a64.subs(21, 21, 1),
    a64.cbnz(21, 1 + a64.powerOff().length),
    ...a64.powerOff(),
    a64.ERET,
  ]);
  world.code(CODE(vcpu), [
    ...a64.mov(0, BigInt(VECTORS(vcpu))),
    a64.msr("VBAR_EL1", 0),
    ...a64.mov(19, BigInt(CPU)),
    ...a64.mov(20, BigInt(NOTES(vcpu))),
    ...a64.mov(21, BigInt(options.count)),
    ...a64.mov(0, 0xf0n),
    a64.strw(0, 19, 4),
    ...a64.mov(0, 1n),
    a64.strw(0, 19, 0),
    a64.daifclr(2),
    a64.WFI,
    a64.b(-1),
  ]);
  world.start(vcpu, CODE(vcpu));
}
