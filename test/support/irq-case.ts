// Owns: a VM with a vGIC, inline, whose vCPUs do what a case says of its guest: their accesses to
// frames and ICC registers are guest code's, and interrupts are taken by a handler. Test process.
//
//   case ─ words ─▶ snippet ─▶ guest's loop ─ X0 with its stop (an MMIO exit) ─▶ case
//   inputs: irqLine, irqfd and signal, attributes of the device
import type { KvmDevice } from "../../src/kvm/vgic/device-port.js";
import type { VgicDist } from "../../src/kvm/vgic/dist.js";
import type { VgicIrq } from "../../src/kvm/vgic/state.js";
import type { EventfdRef } from "../../src/vmm/commands.js";
import * as a64 from "./a64.js";
import { CaseVm, NO_FD } from "./case-vm.js";
import { type Inline, type InlineOptions, type Pending, refusal } from "./inline.js";
import * as code from "./irq-code.js";
import {
  ADDR,
  bytes,
  CTRL_INIT,
  DIST,
  fromBytes,
  GICC,
  GICD,
  GROUP,
  RAM,
  REDIST,
} from "./irq-uapi.js";

export type { Model } from "./irq-code.js";

const DEVICE_TYPE = { v2: 5, v3: 7 } as const;
const REDIST_BYTES = 0x2_0000;
const SGI_FRAME = 0x1_0000;
const RAM_PAGES = 1024;
const CPU_BYTES = 0x8000;
const VECTORS_AT = 0x1000; // tidy: a place in memory
const IRQ_VECTOR = 0x280;
const SNIPPET_AT = 0x2000;
const LOG_AT = 0x3000;
const STOPS = 0x7000_0000;
const PSCI_0_2 = 4n;
const CORE = 0x6030_0000_0010_0000n;
const PC = CORE | 0x40n;
const VBAR_EL1 = 0x6030_0000_0013_c600n;

const PRIORITY = 0xa0;

export interface IrqOptions extends InlineOptions {
  readonly vcpus?: number;
  /** null: NR_IRQS isn't set. */
  readonly nrIrqs?: number | null;
  /** Whether INIT is done and the guest's controller set up; else only the device exists. */
  readonly init?: boolean;
  /** What differs from the defaults, as `irq.era=pre617`. */
  readonly setting?: string | null;
  readonly ramPages?: number;
  /** ids of the vCPUs, in creation order. */
  readonly ids?: readonly number[];
  /** After the device has its addresses, before the first run: an ITS. */
  readonly beforeRun?: (vm: IrqVm) => void;
}

/** One vCPU with its loop. */
export class IrqCpu {
  readonly vm: IrqVm;
  readonly index: number;
  readonly id: number;
  readonly places: code.Places;
  #isUp = false;

  constructor(vm: IrqVm, index: number, id: number) {
    this.vm = vm;
    this.index = index;
    this.id = id;
    const base = RAM + index * CPU_BYTES;
    const [snippet, log] = [base + SNIPPET_AT, base + LOG_AT];
    this.places = { loop: base, snippet, log, stop: STOPS + 8 * index, gicc: GICC };
  }

  create(): void {
    const { vm, id, places } = this;
    vm.vcpu(id);
    vm.call("vcpuInit", { vcpu: id, target: 5, features: [PSCI_0_2] });
    vm.words(places.loop, code.loop(places));
    vm.setRegister(id, PC, BigInt(places.loop));
    vm.setRegister(id, VBAR_EL1, BigInt(places.loop + VECTORS_AT));
  }

  /** @param onTaken what the handler does beside, before the EOI; TAKEN is X21 */
  setHandler(isSplit: boolean, onTaken: readonly number[] = []): void {
    const words = code.handler(this.vm.model, isSplit, onTaken);
    this.vm.words(this.places.loop + VECTORS_AT + IRQ_VECTOR, words);
  }

  /** Has the guest do this, from its stop to its next. @returns X0 */
  exec(...words: number[]): bigint {
    return this.finish(this.begin(...words));
  }

  begin(...words: number[]): Pending<Result> {
    if (!this.#isUp) {
      this.#isUp = true;
      this.#stopped(this.vm.run(this.id));
    }
    this.vm.words(this.places.snippet, [...words, a64.RET]);
    return this.vm.beginRun(this.id);
  }

  finish(pending: Pending<Result>): bigint {
    return this.#stopped(this.vm.finish(pending));
  }

  #stopped(result: Result): bigint {
    const { mmio } = result;
    if (mmio?.physAddr !== BigInt(this.places.stop)) {
      throw new Error(`the guest left with ${result.exitReason} ${result.errno} ${mmio?.physAddr}`);
    }
    return fromBytes(mmio.data);
  }

  read(address: number): number {
    return Number(this.exec(...a64.mov(1, BigInt(address)), a64.ldrw(0, 1)));
  }
  write(address: number, value: number): void {
    const at = a64.mov(1, BigInt(address));
    this.exec(...at, ...a64.mov(0, BigInt(value >>> 0)), a64.strw(0, 1));
  }
  writeByte(address: number, value: number): void {
    const at = a64.mov(1, BigInt(address));
    this.exec(...at, ...a64.mov(0, BigInt(value)), a64.strb(0, 1));
  }
  icc(name: Parameters<typeof code.msrIcc>[0], value: bigint): void {
    this.exec(...a64.mov(0, value), code.msrIcc(name, 0), a64.ISB);
  }
  readIcc(name: Parameters<typeof code.mrsIcc>[1]): bigint {
    return this.exec(code.mrsIcc(0, name));
  }

  // ── the CPU interface, by hand ────────────────────────────────────────────────────────────────

  /** Acknowledges. @returns the register as it reads: with the sender for an SGI of v2 */
  iar(): number {
    return Number(this.exec(...code.iar(this.vm.model, 0)));
  }
  eoi(id: number): void {
    this.exec(...a64.mov(0, BigInt(id)), ...code.eoir(this.vm.model, 0));
  }
  dir(id: number): void {
    this.exec(...a64.mov(0, BigInt(id)), ...code.dir(this.vm.model, 0));
  }

  /** Lets interrupts in: what the handler took, in order. @param most then they are masked again */
  take(most = 16): number[] {
    const { log } = this.places;
    const words = code.letIn(log, most);
    const end = this.exec(...words);
    const length = Number(end) - log;
    if (length === 0) return [];
    const data = this.vm.bytesAt(log, length);
    const view = new DataView(data.buffer, data.byteOffset);
    return Array.from({ length: length / 4 }, (_, i) => view.getUint32(4 * i, true));
  }

  // ── its frames ────────────────────────────────────────────────────────────────────────────────

  /** Where a register of this interrupt is, as this vCPU reaches it. @param bits per interrupt */
  at(register: number, intid: number, bits: number): number {
    const isMine = intid < 32 && this.vm.model === "v3";
    const base = isMine ? REDIST + this.index * REDIST_BYTES + SGI_FRAME : DIST;
    const offset = register + Math.floor((intid * bits) / 8);
    return base + (bits < 8 ? offset - (offset % 4) : offset);
  }
  set(register: number, intid: number): void {
    this.write(this.at(register, intid, 1), 1 << (intid % 32));
  }
  has(register: number, intid: number): boolean {
    return ((this.read(this.at(register, intid, 1)) >>> (intid % 32)) & 1) === 1;
  }
  enable(intid: number): void {
    this.set(GICD.ISENABLER, intid);
  }
  disable(intid: number): void {
    this.set(GICD.ICENABLER, intid);
  }
  setPriority(intid: number, priority: number): void {
    this.writeByte(this.at(GICD.IPRIORITYR, intid, 8), priority);
  }
  configure(intid: number, config: "edge" | "level"): void {
    const address = this.at(GICD.ICFGR, intid, 2);
    const shift = 2 * (intid % 16);
    const others = this.read(address) & ~(3 << shift);
    this.write(address, others | ((config === "edge" ? 2 : 0) << shift));
  }
  /** Delivered to this one. */
  aim(intid: number): void {
    if (this.vm.model === "v2") this.writeByte(DIST + GICD.ITARGETSR + intid, 1 << this.index);
    else this.route(intid, this.id);
  }
  route(intid: number, affinity: number): void {
    this.write(DIST + GICD.IROUTER + 8 * intid, affinity);
  }
  /** An SPI as Linux sets one up: level or edge, priority, here, enabled. */
  claim(intid: number, config: "edge" | "level" = "level", priority = PRIORITY): void {
    this.configure(intid, config);
    this.setPriority(intid, priority);
    this.aim(intid);
    this.enable(intid);
  }
  /** To itself. */
  sendSgi(intid: number): void {
    if (this.vm.model === "v2") this.write(DIST + GICD.SGIR, (2 << 24) | intid);
    else this.icc("ICC_SGI1R_EL1", (BigInt(intid) << 24n) | (1n << BigInt(this.id)));
  }
  /** The CPU interface as Linux sets it up. */
  setUp(isSplit = false): void {
    this.setHandler(isSplit);
    if (this.vm.model === "v2") {
      this.write(GICC + 4, 0xf0);
      this.write(GICC, 1 | (isSplit ? 1 << 9 : 0));
      return;
    }
    this.icc("ICC_PMR_EL1", 0xf0n);
    this.icc("ICC_CTLR_EL1", isSplit ? 2n : 0n);
    this.icc("ICC_IGRPEN1_EL1", 1n);
  }
}

type Result = ReturnType<Inline["run"]>;

export class IrqVm extends CaseVm {
  readonly model: code.Model;
  readonly device: KvmDevice;
  readonly cpus: readonly IrqCpu[];

  constructor(model: code.Model, options: IrqOptions = {}) {
    const { vcpus = 1, nrIrqs = 128, init = true, ids, beforeRun, ...more } = options;
    const { setting = null, ramPages = RAM_PAGES, ...definition } = more;
    super(definition, setting === null ? [] : [setting]);
    this.model = model;
    this.slot(0, ramPages, { gpa: RAM });
    const numbers = ids ?? Array.from({ length: vcpus }, (_, i) => i);
    this.cpus = numbers.map((id, index) => new IrqCpu(this, index, id));
    for (const cpu of this.cpus) cpu.create();
    this.device = this.create(DEVICE_TYPE[model]);
    if (nrIrqs !== null) this.device.set(GROUP.NR_IRQS, 0n, bytes(nrIrqs, 4));
    this.setAddresses();
    if (!init) return;
    this.device.set(GROUP.CTRL, CTRL_INIT, new Uint8Array(0));
    beforeRun?.(this);
    this.setUp();
  }

  get cpu(): IrqCpu {
    return this.cpus[0]!;
  }

  setAddresses(): void {
    const [dist, other] =
      this.model === "v2" ? [ADDR.V2_DIST, ADDR.V2_CPU] : [ADDR.V3_DIST, ADDR.V3_REDIST];
    this.device.set(GROUP.ADDR, BigInt(dist), bytes(DIST, 8));
    this.device.set(GROUP.ADDR, BigInt(other), bytes(this.model === "v2" ? GICC : REDIST, 8));
  }

  init(): void {
    this.device.set(GROUP.CTRL, CTRL_INIT, new Uint8Array(0));
  }

  /** Distributor on, every CPU interface open. */
  setUp(isSplit = false): void {
    for (const cpu of this.cpus) cpu.setUp(isSplit);
    this.cpu.write(DIST + GICD.CTLR, this.model === "v2" ? 1 : 0x12);
  }

  // ── what KVM keeps ────────────────────────────────────────────────────────────────────────────

  get dist(): VgicDist {
    const { dist } = this.kvm.vm.vgic;
    if (dist === null) throw new Error("the VM has no vGIC");
    return dist;
  }
  irq(intid: number, vcpu = 0): VgicIrq {
    const irq = this.dist.irq(this.dist.cpus[vcpu] ?? null, intid);
    if (irq === null) throw new Error(`there is no interrupt ${intid}`);
    return irq;
  }

  // ── userspace ─────────────────────────────────────────────────────────────────────────────────

  get(group: number, attr: bigint | number, size: 4 | 8 = 4): bigint {
    return fromBytes(this.device.get(group, BigInt(attr), new Uint8Array(size)));
  }
  put(group: number, attr: bigint | number, value: bigint | number, size: 4 | 8 = 4): void {
    this.device.set(group, BigInt(attr), bytes(value, size));
  }
  putRefused(group: number, attr: bigint | number, value: bigint | number, size: 4 | 8 = 4) {
    return refusal(() => this.put(group, attr, value, size));
  }
  /** KVM_IRQ_LINE of an SPI. */
  spi(intid: number, level: number): void {
    this.call("irqLine", { irq: (1 << 24) | intid, level });
  }

  irqfdRefused(fd: EventfdRef, gsi: number, flags = 0, resamplefd: EventfdRef = NO_FD) {
    return this.refused("irqfd", this.irqfdArgs(fd, gsi, flags, resamplefd));
  }
}

export const A_FILE: EventfdRef = { index: 0, isEventfd: false };
