// Owns: a VM with a GICv3 and an ITS, its tables in guest memory, and commands as a guest's driver
// writes them. Test process.
import { createDevice } from "../../src/kvm/device.js";
import type { KvmDevice } from "../../src/kvm/vgic/device-port.js";
import { InKernelVgic } from "../../src/kvm/vgic/in-kernel.js";
import { Its } from "../../src/kvm/vgic/its.js";
import { signalMsi } from "../../src/kvm/vgic/msi.js";
import type { VgicCpu, VgicIrq } from "../../src/kvm/vgic/state.js";
import { BASE, Inline, type InlineOptions } from "./inline.js";

const K64 = 0x1_0000;
const DIST_BASE = 0x800_0000;
const REDIST_BASE = 0x80a_0000;
export const ITS_BASE = 0x808_0000;
export const DOORBELL = ITS_BASE + 0x1_0040;
export const TABLE = {
  device: BASE,
  collection: BASE + K64,
  queue: BASE + 2 * K64,
  config: BASE + 3 * K64,
  /** Of vCPU n: 64 KiB each. */
  pending: BASE + 4 * K64,
  itt: BASE + 8 * K64,
  /** Second level of the device table. */
  level2: BASE + 10 * K64,
  code: BASE + 14 * K64,
  end: BASE + 16 * K64,
} as const;
export const VALID = 1n << 63n;
export const INDIRECT = 1n << 62n;

const GROUP = { ADDR: 0, CTRL: 4, ITS_REGS: 8 } as const;
const CTRL = { INIT: 0n, SAVE: 1n, RESTORE: 2n, SAVE_PENDING: 3n, RESET: 4n } as const;

type Word = number | bigint;

function u64s(words: readonly Word[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(words, (word) => BigInt(word)).buffer);
}

export function u64(value: Word): Uint8Array {
  return u64s([value]);
}

const command = (op: number, device: Word = 0, one: Word = 0, two: Word = 0, three: Word = 0) =>
  u64s([BigInt(op) | (BigInt(device) << 32n), one, two, three]);

const flag = (isValid: boolean): bigint => (isValid ? VALID : 0n);
const pair = (event: number, lpi: number): bigint => BigInt(event) | (BigInt(lpi) << 32n);
const at = (vcpu: Word): bigint => BigInt(vcpu) << 16n;

/** Commands by name. */
export const CMD = {
  mapd: (device: number, bits: number, itt: number, isValid = true) =>
    command(0x08, device, bits - 1, BigInt(itt) | flag(isValid)),
  mapc: (collection: number, vcpu: number, isValid = true) =>
    command(0x09, 0, 0, BigInt(collection) | at(vcpu) | flag(isValid)),
  mapti: (device: number, event: number, lpi: number, collection: number) =>
    command(0x0a, device, pair(event, lpi), collection),
  mapi: (device: number, lpi: number, collection: number) => command(0x0b, device, lpi, collection),
  movi: (device: number, event: number, collection: number) =>
    command(0x01, device, event, collection),
  int: (device: number, event: number) => command(0x03, device, event),
  clear: (device: number, event: number) => command(0x04, device, event),
  sync: (vcpu: number) => command(0x05, 0, 0, at(vcpu)),
  inv: (device: number, event: number) => command(0x0c, device, event),
  invall: (collection: number) => command(0x0d, 0, 0, collection),
  movall: (from: number, to: number) => command(0x0e, 0, 0, at(from), at(to)),
  discard: (device: number, event: number) => command(0x0f, device, event),
  unknown: () => command(0x77, 1, 2, 3, 4),
} as const;

export interface ItsOptions extends InlineOptions {
  readonly vcpus?: number;
  /** KVM_MEM_LOG_DIRTY_PAGES of the slot. */
  readonly flags?: number;
  /** The vCPUs run guest code. */
  readonly code?: boolean;
  /** Entries of a dirty ring; with a bitmap beside it. */
  readonly ring?: number;
}

export class ItsGuest extends Inline {
  readonly gic: KvmDevice;
  /** The ITS. */
  readonly device: KvmDevice;
  readonly vgic: InKernelVgic;

  constructor({ vcpus = 2, flags = 0, code = false, ring, ...options }: ItsOptions = {}) {
    super(options);
    if (ring !== undefined) {
      this.enable(223, BigInt(ring * 16));
      this.enable(225);
    }
    this.slot(0, (TABLE.end - BASE) / this.page, { flags });
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      this.vcpu(vcpu);
      // PSCI 0.2.
      if (code) this.call("vcpuInit", { vcpu, target: 5, features: [4n] });
    }
    const { vm } = this.kvm;
    this.gic = this.create(7);
    const { vgic } = vm;
    if (!(vgic instanceof InKernelVgic)) throw new Error("the VM has a GICv3");
    this.vgic = vgic;
    this.gic.set(GROUP.ADDR, 2n, u64(DIST_BASE));
    this.gic.set(GROUP.ADDR, 3n, u64(REDIST_BASE));
    this.gic.set(GROUP.CTRL, CTRL.INIT, new Uint8Array());
    this.device = this.addIts(ITS_BASE);
    // As the first KVM_RUN does.
    vgic.firstRun();
    this.#mmio(DIST_BASE, 4, u64(2).slice(0, 4));
  }

  create(type: number): KvmDevice {
    const { vm } = this.kvm;
    const number = createDevice(vm, type, 0);
    const device = number === null ? undefined : vm.devices[number];
    if (device === undefined) throw new Error("the device was created");
    return device;
  }

  addIts(base: number): KvmDevice {
    const device = this.create(8);
    device.set(GROUP.ADDR, 4n, u64(base));
    return device;
  }

  get its(): Its {
    const its = this.kvm.vm.msi?.parts()[0];
    if (!(its instanceof Its)) throw new Error("there is an ITS");
    return its;
  }

  cpu(n = 0): VgicCpu {
    const cpu = this.vgic.dist.cpus[n];
    if (cpu === undefined) throw new Error(`there is a vCPU ${n}`);
    return cpu;
  }

  lpi(intid: number): VgicIrq | undefined {
    return this.vgic.dist.lpis.get(intid);
  }

  /** INTIDs on a vCPU's list that it would be given. */
  pending(n = 0): number[] {
    const list = this.cpu(n).apList.filter((irq) => irq.pending && irq.enabled);
    return list.filter(({ target }) => target === this.cpu(n)).map(({ intid }) => intid);
  }

  // ── memory ──────────────────────────────────────────────────────────────────────────────────

  write(gpa: number, bytes: Uint8Array): void {
    this.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes });
  }

  read(gpa: number, length: number): Uint8Array {
    return this.call("readPhysicalMemory", { gpa: BigInt(gpa), length }).slice();
  }

  entry(gpa: number): bigint {
    return new DataView(this.read(gpa, 8).buffer).getBigUint64(0, true);
  }

  /** An LPI's byte in the configuration table. */
  configure(lpi: number, byte: number): void {
    this.write(TABLE.config + lpi - 8192, Uint8Array.of(byte));
  }

  // ── registers ───────────────────────────────────────────────────────────────────────────────

  /** A guest's load from the ITS. */
  get(offset: number, length: 4 | 8 = 8): bigint {
    const bytes = this.#mmio(ITS_BASE + offset, length, null);
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  /** A guest's store to it. */
  put(offset: number, value: Word, length: 1 | 2 | 4 | 8 = 8): void {
    this.#mmio(ITS_BASE + offset, length, u64(value).slice(0, length));
  }

  #mmio(ipa: number, length: number, store: Uint8Array | null): Uint8Array {
    const vcpu = this.kvm.vm.vcpus[0];
    const bytes = vcpu && this.vgic.mmio(vcpu, ipa, length, store);
    if (!bytes) throw new Error("the frame answers");
    return bytes;
  }

  /** A guest's store to vCPU n's redistributor. */
  redist(n: number, offset: number, value: Word, length: 4 | 8 = 8): void {
    this.#mmio(REDIST_BASE + n * 2 * K64 + offset, length, u64(value).slice(0, length));
  }

  user(offset: number): bigint {
    const bytes = this.device.get(GROUP.ITS_REGS, BigInt(offset), new Uint8Array(8));
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  setUser(offset: number, value: Word): void {
    this.device.set(GROUP.ITS_REGS, BigInt(offset), u64(value));
  }

  control(name: "SAVE" | "RESTORE" | "RESET"): void {
    this.device.set(GROUP.CTRL, CTRL[name], new Uint8Array());
  }

  // ── as a driver does ────────────────────────────────────────────────────────────────────────

  /** Tables and queue, enabled; LPIs on at every vCPU. */
  enableIts({ indirect = false, pages = 1 } = {}): void {
    this.enableLpis();
    this.put(0x100, VALID | (indirect ? INDIRECT : 0n) | BigInt(TABLE.device));
    this.put(0x108, VALID | BigInt(TABLE.collection));
    this.put(0x80, VALID | BigInt(TABLE.queue) | BigInt(pages - 1));
    this.put(0x88, 0);
    this.put(0, 1, 4);
  }

  enableLpis(): void {
    this.redist(0, 0x70, TABLE.config | 15);
    for (const { index } of this.vgic.dist.cpus) {
      this.redist(index, 0x78, TABLE.pending + index * K64);
      this.setLpis(index, true);
    }
  }

  /** GICR_CTLR.EnableLPIs. */
  setLpis(n: number, isOn: boolean): void {
    this.redist(n, 0, isOn ? 1 : 0, 4);
  }

  savePending(): void {
    this.gic.set(GROUP.CTRL, CTRL.SAVE_PENDING, new Uint8Array());
  }

  /** Puts commands into the queue and moves GITS_CWRITER past them. */
  issue(...commands: readonly Uint8Array[]): void {
    const bytes = (Number(this.get(0x80) & 0xffn) + 1) * 4096;
    let writer = Number(this.get(0x88));
    for (const one of commands) {
      this.write(TABLE.queue + writer, one);
      writer = (writer + 32) % bytes;
    }
    this.put(0x88, writer);
  }

  /** Device 2 with 32 events, event 20 is LPI 8195 of collection 3 at vCPU `vcpu`. */
  mapOne(vcpu = 0): void {
    this.configure(8195, 0xa1);
    this.issue(CMD.mapd(2, 5, TABLE.itt), CMD.mapc(3, vcpu), CMD.mapti(2, 20, 8195, 3));
  }

  msi(device: number, event: number, more: { address?: number; flags?: number } = {}): number {
    const { address = DOORBELL, flags = 1 } = more;
    const [addressLo, addressHi] = [address % 2 ** 32, Math.floor(address / 2 ** 32)];
    return signalMsi(this.kvm.vm, { addressLo, addressHi, data: event, flags, devid: device });
  }
}
