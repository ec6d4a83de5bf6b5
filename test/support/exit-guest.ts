// Owns: the VMM of test/guest/exits.S: a VM with all that it touches, and short names of what its
// runs end with. Test process.
import type { RunResult } from "../../src/vmm/commands.js";
import { guestImage } from "./board.js";
import { little, PC, X } from "./guest-code.js";
import { BASE, Inline, type InlineOptions } from "./inline.js";

export { PC, X };

/** As the image has them. */
export const AT = {
  mmio: 0x900_0000,
  tell: 0x900_1000,
  mark: 0x900_1008,
  zone: 0x900_2000,
  bell: 0x900_3000,
  rom: 0x5000_0000,
  log: 0x6000_0000,
  memfd: 0x8000_0000,
  unbacked: 0x9000_0000,
  hole: 0xa000_0000,
  data: BASE + 0x8000,
  debugged: BASE + 0x1800,
} as const;
export const FORWARDED = 0xc600_0001;
export const LOG_SLOT = 4;
const MEMFD_SLOT = 3;
const HOLE_HVA = 0x7000_0000_0000n;
const CAP = { MANUAL: 168, NISV: 177, SUSPEND: 216, RING: 223, SEA: 245 } as const;
const MEM = { LOG: 1, READONLY: 2, MEMFD: 4 } as const;
const PSCI_0_2 = 4n;
const FWD_TO_USER = 2;
const MMAP = 1n;
/** Entries of a ring that are not there for use. */
const RESERVED = 64;
const ENTRY_BYTES = 16;
const EVENTS = { serrorPending: false, serrorHasEsr: false, serrorEsr: 0n };

export interface DebugRegisters {
  readonly bcr?: bigint[];
  readonly bvr?: bigint[];
  readonly wcr?: bigint[];
  readonly wvr?: bigint[];
}

export class ExitVmm extends Inline {
  readonly #bell: number;
  #memfd = 0;

  /** @param part of the image: 0 is all but deferred CLEARs, 1 those */
  constructor(part: 0 | 1, pages: number, options: InlineOptions) {
    super(options);
    if (part === 0) this.enable(CAP.RING, BigInt(this.page));
    this.enable(CAP.SUSPEND);
    if (part === 1) this.enable(CAP.MANUAL, 1n);
    this.slot(0, 64);
    this.slot(LOG_SLOT, pages, { gpa: AT.log, flags: MEM.LOG });
    this.#bell = this.eventfds.create(0n);
    if (part === 0) this.#odd();
    this.vcpu();
    this.call("vcpuInit", { vcpu: 0, target: 5, features: [PSCI_0_2] });
    this.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: guestImage("exits") });
    this.set(PC, BigInt(BASE));
    for (const [n, value] of [part, this.page, pages].entries()) this.set(X(n), BigInt(value));
  }

  /** Pages whose stores fill the smallest ring. */
  static ringLimit(pageSize: number): number {
    return pageSize / ENTRY_BYTES - RESERVED;
  }

  /** Memory and devices that aren't just RAM. */
  #odd(): void {
    const bytes = BigInt(this.page);
    this.slot(1, 1, { gpa: AT.rom, flags: MEM.READONLY });
    this.slot(2, 4, { gpa: AT.unbacked, backing: "unbacked" });
    this.region(5, AT.hole, 4 * this.page, HOLE_HVA);
    this.#memfd = this.call("createGuestMemfd", { size: 4n * bytes, flags: MMAP }).id;
    this.call("setUserMemoryRegion2", {
      slot: MEMFD_SLOT,
      flags: MEM.MEMFD,
      guestPhysAddr: BigInt(AT.memfd),
      memorySize: 4n * bytes,
      userspaceAddr: 0n,
      guestMemfd: this.#memfd,
      guestMemfdOffset: 0n,
    });
    this.call("closeGuestMemfd", { id: this.#memfd });
    this.call("registerCoalescedZone", { addr: BigInt(AT.zone), size: 8, pio: 0 });
    const fd = { index: this.#bell, isEventfd: true };
    this.call("ioeventfd", { datamatch: 0n, addr: BigInt(AT.bell), len: 4, fd, flags: 0 });
    const value = new Uint8Array(24);
    const view = new DataView(value.buffer);
    view.setUint32(0, FORWARDED, true);
    view.setUint32(4, 1, true);
    view.setUint8(8, FWD_TO_USER);
    this.call("setVmAttr", { group: 0, attr: 0n, value });
  }

  set(reg: bigint, value: bigint): void {
    this.call("setOneReg", { vcpu: 0, reg, value: little(value) });
  }
  get(reg: bigint): bigint {
    return this.call("getOneReg", { vcpu: 0, reg }).value;
  }

  // ── what the VMM does about an exit ─────────────────────────────────────────────────────────

  nisvToUser(): void {
    this.enable(CAP.NISV);
  }
  seaToUser(): void {
    this.enable(CAP.SEA);
  }
  /** The instruction was emulated. */
  skip(x2?: bigint): void {
    if (x2 !== undefined) this.set(X(2), x2);
    this.set(PC, this.get(PC) + 4n);
  }
  abort(): void {
    this.call("setVcpuEvents", { vcpu: 0, ...EVENTS, extDabtPending: true });
  }
  irq(level: 0 | 1): void {
    this.call("irqLine", { irq: 0, level });
  }
  mpState(mpState: number): void {
    this.call("setMpState", { vcpu: 0, mpState });
  }
  debug(control: number, registers: DebugRegisters = {}): void {
    const none = { bcr: [], bvr: [], wcr: [], wvr: [] };
    this.call("setGuestDebug", { vcpu: 0, control, ...none, ...registers });
  }
  /** RAM where the closed file was. */
  replaceMemfd(): void {
    this.deleteSlot(MEMFD_SLOT);
    this.slot(MEMFD_SLOT, 4, { gpa: AT.memfd });
  }
  mapHole(): void {
    this.ram(4 * this.page, { at: Number(HOLE_HVA) });
  }
  rings(): bigint {
    return this.eventfds.peek(this.#bell);
  }
  drain() {
    return this.call("drainCoalescedRing", { key: null, after: null }).entries;
  }
  /** @returns pages that the ring named */
  harvest(): number[] {
    const limit = ExitVmm.ringLimit(this.page);
    const offsets: number[] = [];
    while (offsets.length < limit) {
      const from = offsets.length;
      const { entries } = this.call("readDirtyRing", { vcpu: 0, from, limit: limit - from });
      const dirty = entries.filter(({ flags }) => flags === 1);
      if (dirty.length === 0) break;
      offsets.push(...dirty.map(({ offset }) => Number(offset)));
    }
    this.call("harvestDirtyRing", { vcpu: 0, upTo: offsets.length });
    return offsets;
  }

  /** A run into which a kick comes while the guest is on its way. */
  kicked(): RunResult {
    const run = this.beginRun();
    this.pump(20);
    if (run.done) throw new Error("the guest spins");
    this.call("kick", { vcpu: 0 });
    return this.finish(run);
  }
}

// ── what runs end with ────────────────────────────────────────────────────────────────────────

/** struct kvm_run as a run left it, with its errno. */
export type Exit = Omit<RunResult, "retired" | "program">;

export function exitOf({ retired: _, program: __, ...exit }: RunResult): Exit {
  return exit;
}

const OK = { errno: null, deviceIrqLevel: 0 } as const;

export function stores(at: number, len: number, value: bigint, deviceIrqLevel = 0): Exit {
  const data = little(value, len);
  const mmio = { physAddr: BigInt(at), len, isWrite: true, data };
  return { ...OK, deviceIrqLevel, exitReason: "KVM_EXIT_MMIO", mmio };
}
export function loads(at: number, len: number): Exit {
  const mmio = { physAddr: BigInt(at), len, isWrite: false, data: new Uint8Array(len) };
  return { ...OK, exitReason: "KVM_EXIT_MMIO", mmio };
}
export const tells = (value: bigint): Exit => stores(AT.tell, 8, value);
export const marks = (number: number): Exit => stores(AT.mark, 4, BigInt(number));
export const nisv = (esrIss: bigint, at: number): Exit => {
  return { ...OK, exitReason: "KVM_EXIT_ARM_NISV", armNisv: { esrIss, faultIpa: BigInt(at) } };
};
export const calls = (flags: bigint): Exit => {
  const hypercall = { nr: BigInt(FORWARDED), flags };
  return { ...OK, exitReason: "KVM_EXIT_HYPERCALL", hypercall };
};
export const event = (type: number, ...data: bigint[]): Exit => {
  return { ...OK, exitReason: "KVM_EXIT_SYSTEM_EVENT", systemEvent: { type, data } };
};
export const debugs = (hsr: bigint, far = 0n): Exit => {
  return { ...OK, exitReason: "KVM_EXIT_DEBUG", debug: { hsr, far } };
};
export const sea = (esr: bigint, gva: number, gpa: number): Exit => {
  const armSea = { flags: 1n, esr, gva: BigInt(gva), gpa: BigInt(gpa) };
  return { ...OK, exitReason: "KVM_EXIT_ARM_SEA", armSea };
};
export const interrupted = (deviceIrqLevel = 0): Exit => {
  return { errno: "EINTR", exitReason: "KVM_EXIT_INTR", deviceIrqLevel };
};
export const fails = (errno: "ENOSYS" | "EFAULT"): Exit => {
  return { errno, exitReason: "KVM_EXIT_UNKNOWN", deviceIrqLevel: 0 };
};
export const memoryFault = (gpa: number, size: number): Exit => {
  const fault = { flags: 0n, gpa: BigInt(gpa), size: BigInt(size) };
  return { ...OK, errno: "EFAULT", exitReason: "KVM_EXIT_MEMORY_FAULT", memoryFault: fault };
};
export const ringFull: Exit = { ...OK, exitReason: "KVM_EXIT_DIRTY_RING_FULL" };
export const cleaned = (slot: number, firstPage: number, numPages: number): Exit => {
  return { ...OK, exitReason: "KVM_EXIT_CLEANED", cleaned: { slot, firstPage, numPages } };
};
