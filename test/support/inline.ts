// Owns: one VM in the test's own thread, without runtime: an Instance and short ways to use it.
// Test process.

import { ManualClock } from "../../src/base/clock.js";
import { KvmError, ServiceError } from "../../src/base/errors.js";
import { EventfdCounters } from "../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../src/base/memory-budget.js";
import type { Kvm } from "../../src/kvm/index.js";
import type {
  Access,
  Command,
  CommandArgs,
  CommandName,
  CommandResult,
  MemoryObjectView,
  MemslotView,
  Program,
  RunResult,
} from "../../src/vmm/commands.js";
import type { VmDefinition } from "../../src/vmm/definition.js";
import { Instance } from "../../src/vmm/instance.js";
import type { InstanceDeps, Outcome } from "../../src/vmm/instance-door.js";

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;
/** Where tests put their first slot, as T-01 and its neighbours do: gfn 0x40000. */
export const BASE = 0x4000_0000;

export const DEFINITION: VmDefinition = {
  type: 40n,
  pageSize: 4096,
  hostCpus: 0,
  seed: 7n,
  clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
  dirtyTracking: "write-protect",
};

export interface InlineOptions extends Partial<VmDefinition> {
  readonly schedule?: "seeded" | "round-robin";
  readonly budgetBytes?: number;
  readonly eventfds?: EventfdCounters;
  readonly translation?: InstanceDeps["translation"];
  /** Real time, for wall and paced clocks; it moves only when told. */
  readonly time?: ManualClock;
}

/** Jumps that make code hot in tests, where nothing runs for long. */
export const SOON = 64;

/** A call that may take scheduler steps. */
export class Pending<T> {
  #outcome: Outcome | null = null;

  settle(outcome: Outcome): void {
    if (this.#outcome !== null) throw new Error("a call was answered twice");
    this.#outcome = outcome;
  }

  get done(): boolean {
    return this.#outcome !== null;
  }

  /** The result; throws the refusal, and an Error when there is no answer yet. */
  get value(): T {
    if (this.#outcome === null) throw new Error("the call has no answer yet");
    if (!this.#outcome.ok) throw this.#outcome.error;
    return this.#outcome.value as T;
  }
}

/** Errno or service code of a refusal, null when `act` succeeds; anything else is thrown on. */
export function refusal(act: () => unknown): string | null {
  try {
    act();
  } catch (error) {
    if (error instanceof KvmError) return error.errno;
    if (error instanceof ServiceError) return error.code;
    throw error;
  }
  return null;
}

/** Indexes of the one bits of a little-endian bitmap. */
export function pagesOf(bitmap: Uint8Array): number[] {
  const pages: number[] = [];
  for (const [at, byte] of bitmap.entries()) {
    for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) pages.push(at * 8 + bit);
  }
  return pages;
}

/** A bitmap of whole 64-bit words with these bits set. */
export function bitmapOf(npages: number, pages: Iterable<number>): Uint8Array {
  const bitmap = new Uint8Array(Math.ceil(npages / 64) * 8);
  for (const page of pages) bitmap[page >> 3]! |= 1 << (page & 7);
  return bitmap;
}

/** KVM_DEV_TYPE_ARM_VGIC_V3, its addresses as Linux's `virt` machine has them, INIT. */
const VGIC = {
  type: 7,
  addresses: [
    [2n, 0x800_0000n],
    [3n, 0x80a_0000n],
  ],
  addr: 0,
  ctrl: 4,
} as const;
const RUNS: ReadonlySet<CommandName> = new Set(["run", "runVcpus"]);
let givesVgic = false;

/** From here on each VM of this process has a GICv3, which its first run finds initialised. */
export function giveVgic(): void {
  givesVgic = true;
}

const NO_CONSUME = { key: null, after: null };
/** Steps after which a call that should have ended is given up. */
const STEPS_MAX = 400_000;

export class Inline {
  readonly instance: Instance;
  readonly budget: MemoryBudget;
  readonly eventfds: EventfdCounters;
  #harvests = 0;
  /** A vGIC that waits for the vCPUs to be created. */
  #uninitialised: number | null = null;

  constructor(options: InlineOptions = {}) {
    const {
      schedule = "round-robin",
      budgetBytes = GIB,
      eventfds,
      time: clock = new ManualClock(),
      translation: asked = {},
      ...definition
    } = options;
    this.budget = MemoryBudget.create(budgetBytes);
    this.eventfds = eventfds ?? EventfdCounters.create(64);
    // What runs for a moment is translated too.
    const translation = asked === null ? null : { hotAfter: SOON, ...asked };
    const deps = { budget: this.budget, eventfds: this.eventfds, schedule, clock, translation };
    this.instance = new Instance({ ...DEFINITION, ...definition }, deps);
    if (givesVgic) this.#createVgic();
  }

  #createVgic(): void {
    const device = this.call("createDevice", { type: VGIC.type, flags: 0 }) ?? 0;
    for (const [attr, at] of VGIC.addresses) {
      const value = new Uint8Array(8);
      new DataView(value.buffer).setBigUint64(0, at, true);
      this.call("setDeviceAttr", { device, group: VGIC.addr, attr, value });
    }
    this.#uninitialised = device;
  }

  get kvm(): Kvm {
    return this.instance.machine.kvm;
  }

  get page(): number {
    return this.kvm.vm.pageSize;
  }

  /** Enters a command without running a step. */
  begin<K extends CommandName>(name: K, args: CommandArgs<K>): Pending<CommandResult<K>> {
    const device = this.#uninitialised;
    if (device !== null && RUNS.has(name)) {
      this.#uninitialised = null;
      const value = new Uint8Array(0);
      this.call("setDeviceAttr", { device, group: VGIC.ctrl, attr: 0n, value });
    }
    const pending = new Pending<CommandResult<K>>();
    this.instance.submit({ name, args } as Command, (outcome) => pending.settle(outcome));
    return pending;
  }

  pump(steps: number): void {
    this.instance.advance(steps, () => false);
  }

  /** Runs until `until` says so, nothing is runnable, or the test has clearly gone wrong. */
  pumpUntil(until: () => boolean): void {
    this.instance.advance(STEPS_MAX, until);
  }

  finish<T>(pending: Pending<T>): T {
    if (!pending.done) this.pumpUntil(() => pending.done);
    return pending.value;
  }

  /** Enters a command and runs the VM until it is answered. */
  call<K extends CommandName>(name: K, args: CommandArgs<K>): CommandResult<K> {
    return this.finish(this.begin(name, args));
  }

  /** Errno or service code with which a command is refused, or null. */
  refused<K extends CommandName>(name: K, args: CommandArgs<K>): string | null {
    return refusal(() => this.call(name, args));
  }

  // ── short ways ──────────────────────────────────────────────────────────────────────────────

  ram(
    bytes: number,
    options: { at?: number; huge?: boolean; backing?: "ram" | "unbacked" | "device" } = {},
  ): MemoryObjectView {
    return this.call("createMemoryObject", {
      size: BigInt(bytes),
      userspaceAddr: options.at === undefined ? null : BigInt(options.at),
      backing: options.backing ?? "ram",
      hugePages: options.huge ?? false,
    });
  }

  /** KVM_SET_USER_MEMORY_REGION with plain numbers. */
  region(slot: number, gpa: number, bytes: number, hva: number | bigint, flags = 0) {
    return this.call("setUserMemoryRegion", {
      slot,
      flags,
      guestPhysAddr: BigInt(gpa),
      memorySize: BigInt(bytes),
      userspaceAddr: BigInt(hva),
    });
  }

  /** Fresh RAM in a slot of its own. */
  slot(
    id: number,
    pages: number,
    options: {
      gpa?: number;
      flags?: number;
      huge?: boolean;
      backing?: "ram" | "unbacked" | "device";
    } = {},
  ): { slot: MemslotView; object: MemoryObjectView } {
    const object = this.ram(pages * this.page, options);
    const gpa = options.gpa ?? BASE;
    const { slot } = this.region(
      id,
      gpa,
      pages * this.page,
      object.userspaceAddr,
      options.flags ?? 0,
    );
    if (slot === null) throw new Error("a slot was created");
    return { slot, object };
  }

  /** Changes only a slot's flags. */
  setFlags(view: MemslotView, flags: number): void {
    this.call("setUserMemoryRegion", { ...view, flags });
  }

  deleteSlot(slot: number): void {
    this.region(slot, 0, 0, 0);
  }

  enable(cap: number, ...args: bigint[]): void {
    this.call("enableCap", { cap, flags: 0, args });
  }

  vcpu(id = 0): void {
    this.call("createVcpu", { id });
  }

  run(vcpu = 0, options: { immediateExit?: boolean; mmioData?: number[] } = {}): RunResult {
    return this.finish(this.beginRun(vcpu, options));
  }

  beginRun(
    vcpu = 0,
    options: { immediateExit?: boolean; mmioData?: number[] } = {},
  ): Pending<RunResult> {
    const { immediateExit = false, mmioData } = options;
    const data = mmioData === undefined ? null : Uint8Array.from(mmioData);
    return this.begin("run", { vcpu, immediateExit, mmioData: data });
  }

  program(vcpu: number, program: Program): void {
    this.call("setProgram", { vcpu, program });
  }

  list(vcpu: number, accesses: readonly Access[]): void {
    this.program(vcpu, { kind: "accesses", accesses });
  }

  /** Stores of `value` at each address, then the exit; expects nothing. */
  store(vcpu: number, addresses: readonly number[], value = 1n, length = 8): RunResult {
    this.list(
      vcpu,
      addresses.map((at) => ({ op: "write", address: BigInt(at), length, value })),
    );
    return this.run(vcpu);
  }

  /** Loads of 8 bytes from each address; the values read. */
  load(vcpu: number, addresses: readonly number[]): readonly bigint[] {
    this.list(
      vcpu,
      addresses.map((at) => ({ op: "read", address: BigInt(at), length: 8 })),
    );
    const { exitReason } = this.run(vcpu);
    if (exitReason !== "KVM_EXIT_HLT") throw new Error(`the loads ended with ${exitReason}`);
    return this.call("readProgram", { vcpu, from: 0, limit: addresses.length }).loads;
  }

  /** A store pattern over a window, one access to each page chosen. */
  pattern(
    vcpu: number,
    window: { base: number; bytes: number; count: number },
    more: Partial<Extract<Program, { kind: "pattern" }>> = {},
  ): void {
    this.program(vcpu, {
      kind: "pattern",
      pattern: "uniform",
      base: BigInt(window.base),
      bytes: BigInt(window.bytes),
      count: window.count,
      writePercent: 100,
      length: 8,
      stride: 0,
      skew: 0,
      seed: 1n,
      ...more,
    });
  }

  /** GET_DIRTY_LOG in either mode, as page numbers; in legacy mode the harvest is acknowledged. */
  dirty(slot: number): number[] {
    if ((this.kvm.vm.caps.manualDirtyLogProtect & 1) !== 0) {
      return pagesOf(this.call("getDirtyLog", { slot }).bitmap);
    }
    const key = `inline-${this.#harvests++}`;
    const harvest = this.call("harvestDirtyLog", { ...NO_CONSUME, slot, key });
    this.call("acknowledgeHarvest", { slot, id: harvest.id });
    return pagesOf(harvest.bitmap);
  }

  /** CLEAR_DIRTY_LOG of these pages, relative to `first`. */
  clear(slot: number, first: number, count: number, pages: Iterable<number>): number {
    return this.call("clearDirtyLog", {
      slot,
      firstPage: BigInt(first),
      numPages: count,
      bitmap: bitmapOf(count, pages),
    }).cleared;
  }

  /** The stage-2 leaf of a guest address, or null. */
  leaf(ipa: number) {
    return this.call("walkStage2", { ipa: BigInt(ipa) }).leaf;
  }

  counter(name: string): number {
    const value = this.call("counters", {})[name];
    if (value === undefined) throw new Error(`no counter ${name}`);
    return value;
  }

  digest(): string {
    return this.instance.digest().digest;
  }
}
