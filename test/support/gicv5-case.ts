// Owns: a VM with a GICv5, inline, whose vCPUs do what a case says of its guest: IRS accesses, GIC
// instructions and registers are guest code's, interrupts are taken by a handler. Test process.
//
//   case ─ words ─▶ snippet ─▶ guest's loop ─ X0 with its stop (an MMIO exit) ─▶ case
import type { KvmDevice } from "../../src/kvm/vgic/device-port.js";
import type { V5Port, V5SpiView } from "../../src/kvm/vgic/v5/view.js";
import type { GicInsn, IccV5Name } from "../../src/machine/gic/gicv5/icc.table.js";
import { INTID_TYPE, intidOf } from "../../src/machine/gic/gicv5/intid.js";
import * as a64 from "./a64.js";
import { CaseVm } from "./case-vm.js";
import * as code from "./gicv5-code.js";
import type { Inline, InlineOptions, Pending } from "./inline.js";
import { loop } from "./irq-code.js";
import { bytes, fromBytes, RAM } from "./irq-uapi.js";

export const V5_TYPE = 16;
export const IRS = 0x801_0000;
export const V5_GROUP = {
  ADDR: 0,
  NR_IRQS: 3,
  CTRL: 4,
  SYSREGS: 6,
  IRS_REGS: 10,
  IST: 11,
} as const;
export const ADDR_IRS = 6n;
export const CTRL_INIT = 0n;
export const USERSPACE_PPIS = 5n;
export const IRS_REG = {
  IDR0: 0x0,
  IDR1: 0x4,
  IDR2: 0x8,
  IDR5: 0x14,
  IDR6: 0x18,
  IDR7: 0x1c,
  CR0: 0x80,
  CR1: 0x84,
  SPI_SELR: 0x108,
  SPI_DOMAINR: 0x10c,
  SPI_CFGR: 0x114,
  SPI_STATUSR: 0x118,
  PE_SELR: 0x140,
  PE_STATUSR: 0x144,
  PE_CR0: 0x148,
  IST_BASER: 0x180,
  IST_CFGR: 0x190,
  IST_STATUSR: 0x194,
} as const;

const RAM_PAGES = 1024;
const CPU_BYTES = 0x8000;
const VECTORS_AT = 0x1000; // tidy: a place in memory
const IRQ_VECTOR = 0x280;
const SNIPPET_AT = 0x2000;
const LOG_AT = 0x3000;
const STOPS = 0x7000_0000;
const PSCI_0_2 = 4n;
const PC = 0x6030_0000_0010_0040n;
const VBAR_EL1 = 0x6030_0000_0013_c600n;
const PRIORITY = 8;
/** Instructions in which interrupts are let in. */
const OPEN_FOR = 24;

export const spiOf = (id: number): number => intidOf(INTID_TYPE.SPI, id);
export const lpiOf = (id: number): number => intidOf(INTID_TYPE.LPI, id);
export const ppiOf = (id: number): number => intidOf(INTID_TYPE.PPI, id);

export interface V5Options extends InlineOptions {
  readonly vcpus?: number;
  readonly ids?: readonly number[];
  /** null: NR_IRQS isn't set. */
  readonly nrSpis?: number | null;
  /** Whether INIT is done and the guest's CPU interfaces set up; else only the device exists. */
  readonly init?: boolean;
  /** vgicV5.spiTracking and others, as `key=value`. */
  readonly settings?: readonly string[];
  readonly ramPages?: number;
  /** features[0] of the vCPUs. */
  readonly features?: bigint;
}

type Result = ReturnType<Inline["run"]>;

/** One vCPU with its loop. */
export class V5Guest {
  readonly vm: V5Vm;
  readonly index: number;
  readonly id: number;
  readonly base: number;
  #isUp = false;

  constructor(vm: V5Vm, index: number, id: number) {
    this.vm = vm;
    this.index = index;
    this.id = id;
    this.base = RAM + index * CPU_BYTES;
  }

  get log(): number {
    return this.base + LOG_AT;
  }
  get stop(): number {
    return STOPS + 8 * this.index;
  }

  create(features: bigint): void {
    const { vm, id, base, log, stop } = this;
    vm.vcpu(id);
    vm.call("vcpuInit", { vcpu: id, target: 5, features: [features] });
    vm.words(base, loop({ loop: base, snippet: base + SNIPPET_AT, log, stop, gicc: 0 }));
    vm.setRegister(id, PC, BigInt(base));
    vm.setRegister(id, VBAR_EL1, BigInt(base + VECTORS_AT));
    this.setHandler();
  }

  /** @param onTaken what the handler does beside, between CDEOI and CDDI; X21 is what it took */
  setHandler(onTaken: readonly number[] = []): void {
    this.vm.words(this.base + VECTORS_AT + IRQ_VECTOR, code.handler(onTaken));
  }

  /** Has the guest do this, from its stop to its next: one exit. @returns X0 */
  exec(...words: number[]): bigint {
    return this.finish(this.begin(...words));
  }

  begin(...words: number[]): Pending<Result> {
    if (!this.#isUp) {
      this.#isUp = true;
      this.#stopped(this.vm.run(this.id));
    }
    this.vm.words(this.base + SNIPPET_AT, [...words, a64.RET]);
    return this.vm.beginRun(this.id);
  }

  finish(pending: Pending<Result>): bigint {
    return this.#stopped(this.vm.finish(pending));
  }

  #stopped(result: Result): bigint {
    const { mmio } = result;
    if (mmio?.physAddr !== BigInt(this.stop)) {
      throw new Error(`the guest left with ${result.exitReason} ${result.errno} ${mmio?.physAddr}`);
    }
    return fromBytes(mmio.data);
  }

  // ── IRS, registers, instructions ──────────────────────────────────────────────────────────────

  read(offset: number): number {
    return Number(this.exec(...a64.mov(1, BigInt(IRS + offset)), a64.ldrw(0, 1)));
  }
  write(offset: number, value: number): void {
    const at = a64.mov(1, BigInt(IRS + offset));
    this.exec(...at, ...a64.mov(0, BigInt(value >>> 0)), a64.strw(0, 1));
  }
  read64(offset: number): bigint {
    return this.exec(...a64.mov(1, BigInt(IRS + offset)), a64.ldr(0, 1));
  }
  write64(offset: number, value: bigint): void {
    const at = a64.mov(1, BigInt(IRS + offset));
    this.exec(...at, ...a64.mov(0, value), a64.str(0, 1));
  }
  icc(name: IccV5Name): bigint {
    return this.exec(code.mrsIcc(0, name));
  }
  setIcc(name: IccV5Name, value: bigint): void {
    this.exec(...a64.mov(0, value), code.msrIcc(name, 0), a64.ISB);
  }
  /** Words of one instruction with its operand; they use X0. */
  words(name: GicInsn, xt = 0n): number[] {
    return [...a64.mov(0, xt), code.gic(name, 0)];
  }
  gic(name: GicInsn, xt: bigint | number = 0): void {
    this.exec(...this.words(name, BigInt(xt)));
  }
  /** @returns what CDIA gives: VALID and INTID, or 0 */
  cdia(): bigint {
    return this.exec(code.gicr(0, "CDIA"));
  }
  cdeoi(): void {
    this.gic("CDEOI");
  }
  cddi(intid: number): void {
    this.gic("CDDI", intid);
  }
  pend(intid: number, on: boolean): void {
    this.gic("CDPEND", BigInt(intid) | (on ? 1n << 32n : 0n));
  }
  priority(intid: number, priority: number): void {
    this.gic("CDPRI", BigInt(intid) | (BigInt(priority) << 35n));
  }
  /** ICC_ICSR_EL1 after CDRCFG. */
  config(intid: number): bigint {
    return this.exec(
      ...this.words("CDRCFG", BigInt(intid)),
      a64.ISB,
      code.mrsIcc(0, "ICC_ICSR_EL1"),
    );
  }

  // ── as a driver ───────────────────────────────────────────────────────────────────────────────

  setTrigger(id: number, config: "edge" | "level"): void {
    this.write(IRS_REG.SPI_SELR, id);
    this.write(IRS_REG.SPI_CFGR, config === "level" ? 1 : 0);
  }
  /** As Linux sets one up: mode, priority, here, enabled. */
  claim(id: number, config: "edge" | "level" = "level", priority = PRIORITY): void {
    this.setTrigger(id, config);
    this.route(spiOf(id), priority);
  }
  route(intid: number, priority = PRIORITY): void {
    this.priority(intid, priority);
    this.gic("CDAFF", BigInt(intid) | (BigInt(this.id) << 32n));
    this.gic("CDEN", intid);
  }
  setUp(): void {
    this.setIcc("ICC_PCR_EL1", 31n);
    this.setIcc("ICC_CR0_EL1", 1n);
  }
  /** A PPI, enabled. */
  enablePpi(ppi: number, priority = PRIORITY): void {
    const name = `ICC_PPI_PRIORITYR${ppi >> 3}_EL1` as IccV5Name;
    this.setIcc(name, BigInt(priority) << BigInt(8 * (ppi & 7)));
    this.setIcc("ICC_PPI_ENABLER0_EL1", this.icc("ICC_PPI_ENABLER0_EL1") | (1n << BigInt(ppi)));
  }

  /** Lets interrupts in: INTIDs that the handler took, in order. */
  take(most = 16, words: readonly number[] = Array(OPEN_FOR).fill(a64.NOP)): number[] {
    return this.took(this.exec(...code.letIn(this.log, most, words)));
  }
  took(end: bigint): number[] {
    const length = Number(end) - this.log;
    if (length === 0) return [];
    const data = this.vm.bytesAt(this.log, length);
    const view = new DataView(data.buffer, data.byteOffset);
    return Array.from({ length: length / 4 }, (_, i) => view.getUint32(4 * i, true));
  }
}

export class V5Vm extends CaseVm {
  readonly device: KvmDevice;
  readonly cpus: readonly V5Guest[];

  constructor(options: V5Options = {}) {
    const { vcpus = 1, nrSpis = 64, init = true, ids, settings = [], ...more } = options;
    const { ramPages = RAM_PAGES, features = PSCI_0_2, ...definition } = more;
    super(definition, settings);
    this.slot(0, ramPages, { gpa: RAM });
    const numbers = ids ?? Array.from({ length: vcpus }, (_, i) => i);
    this.cpus = numbers.map((id, index) => new V5Guest(this, index, id));
    for (const cpu of this.cpus) cpu.create(features);
    this.device = this.create(V5_TYPE);
    if (nrSpis !== null) this.device.set(V5_GROUP.NR_IRQS, 0n, bytes(nrSpis, 4));
    if (!init) return;
    this.device.set(V5_GROUP.ADDR, ADDR_IRS, bytes(IRS, 8));
    this.init();
    this.setUp();
  }

  get cpu(): V5Guest {
    return this.cpus[0]!;
  }

  init(): void {
    this.device.set(V5_GROUP.CTRL, CTRL_INIT, new Uint8Array(0));
  }
  setUp(): void {
    for (const cpu of this.cpus) cpu.setUp();
    this.cpu.write(IRS_REG.CR0, 1);
  }

  // ── what KVM keeps ────────────────────────────────────────────────────────────────────────────

  get v5(): V5Port {
    const { v5 } = this.kvm.vm.vgic;
    if (v5 === null) throw new Error("the VM has no GICv5");
    return v5;
  }
  spi(id: number): V5SpiView {
    const spi = this.v5.spi(id);
    if (spi === null) throw new Error(`there is no SPI ${id}`);
    return spi;
  }
  get counters(): V5Port["counters"] {
    return this.v5.counters;
  }

  // ── userspace ─────────────────────────────────────────────────────────────────────────────────

  get(group: number, attr: bigint | number, size: 4 | 8 = 8): bigint {
    return fromBytes(this.device.get(group, BigInt(attr), new Uint8Array(size)));
  }
  put(group: number, attr: bigint | number, value: bigint | number, size: 4 | 8 = 8): void {
    this.device.set(group, BigInt(attr), bytes(value, size));
  }
  /** KVM_IRQ_LINE of an SPI. */
  line(id: number, level: number): void {
    this.call("irqLine", { irq: (1 << 24) | id, level });
  }
}
