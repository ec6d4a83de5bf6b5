// Owns: host CPUs with dirty hardware and tables written by hand, no KVM: for the silicon's cases
// of dirty-tracking.md 10. Test process.
import {
  A64Engine,
  A64Machine,
  a64Pages,
  ENTRY_BYTES,
  entriesOf,
  type HostCpu,
  ListSource,
  type PeRegisters,
  SyntheticEngine,
  SZ_UNIT_BYTES,
} from "../../src/machine/index.js";
import { DOORBELL } from "../simulation/guest/code.js";
import { guestTables, MAIR } from "../simulation/guest/tables.js";
import { bytesOf } from "../support/a64.js";
import { BIT, type Leaf, Tables } from "../unit/machine/support.js";

export const K4 = 4096;
/** Slot base of the cases: gfn 0x40000 of 4 KiB. */
export const BASE = 0x4000_0000;
export const CLEAN: Leaf = { dbm: true };
export const DIRTY: Leaf = { dbm: true, writable: true };

export { BIT };

/** Tables, and CPUs of which each has an HDBSS buffer of its own. */
export class Silicon extends Tables {
  /** A buffer that a vCPU may write to; aligned to its size, as the architecture wants it. */
  buffer(sz = 0, vcpu = 0): number {
    const { frames, geometry, diagnostics } = this.host;
    const bytes = SZ_UNIT_BYTES * 2 ** sz;
    const count = Math.max(1, bytes / geometry.size);
    const pa = frames.allocate(count, count);
    diagnostics.own(pa, bytes, vcpu);
    return pa;
  }

  /** A CPU that logs: a vCPU loaded, its buffer programmed. */
  logging(options: { sz?: number; vcpu?: number } = {}): { cpu: HostCpu; buffer: number } {
    const { sz = 0, vcpu = 0 } = options;
    const buffer = this.buffer(sz, vcpu);
    const cpu = this.cpu({ hdbss: true });
    cpu.msr("HDBSSBR_EL2", BigInt(buffer + sz));
    cpu.msr("HDBSSPROD_EL2", 0n);
    cpu.vcpuId = vcpu;
    return { cpu, buffer };
  }

  /** Maps neighbouring pages, each to memory of its own. @returns their descriptors */
  pages(count: number, leaf: Leaf = CLEAN, ipa = BASE): number[] {
    const { size } = this.host.geometry;
    return Array.from({ length: count }, (_, n) => this.map(ipa + n * size, this.page(), leaf));
  }

  /** Entries as they are in memory. */
  entries(buffer: number, count: number): bigint[] {
    return Array.from({ length: count }, (_, n) => this.read(buffer + n * ENTRY_BYTES));
  }

  isDirty(descriptor: number): boolean {
    return (this.read(descriptor) & BIT.S2AP_WRITE) !== 0n;
  }

  /** The host's diagnostics by kind. */
  get wrong(): Readonly<Record<string, number>> {
    return this.host.diagnostics.counts as Readonly<Record<string, number>>;
  }

  /** Arms a fault for the nth event. */
  arm(kind: Parameters<typeof this.host.faults.arm>[0]["kind"], nth = 1): void {
    this.host.faults.arm({ kind, nth, vcpu: null, times: 1, delay: 0 });
  }

  /** An array for HACDBS with these entries. @returns its address */
  array(entries: readonly bigint[], sz = 0): number {
    const at = this.buffer(sz);
    for (const [n, entry] of entries.entries()) {
      this.host.memory.write64(at + n * ENTRY_BYTES, entry);
    }
    return at;
  }

  /** A CPU on which HACDBS begins an array at entry 0. */
  cleaning(array: number, sz = 0): HostCpu {
    const cpu = this.cpu();
    cpu.msr("HACDBSCONS_EL2", 0n);
    cpu.msr("HACDBSBR_EL2", BigInt(array + sz) | EN);
    return cpu;
  }
}

export const EN = 1n << 11n;
const VALID = 1n;
/** VALID with a reserved TTWL: ends an array. */
export const TERMINATOR = 0b1001n;

export const entryOf = (ipa: number, level = 3): bigint =>
  BigInt(ipa) | (BigInt(level & 7) << 1n) | VALID;

export function prod(cpu: HostCpu): { index: number; fsc: number } {
  const value = cpu.mrs("HDBSSPROD_EL2");
  return { index: Number(value & 0x7ffffn), fsc: Number((value >> 26n) & 0x3fn) };
}

export function cons(cpu: HostCpu): { index: number; err: number } {
  const value = cpu.mrs("HACDBSCONS_EL2");
  return { index: Number(value & 0x7ffffn), err: Number(value >> 62n) };
}

/** Everything that HACDBS can do with what it has. */
export function runAll(cpu: HostCpu, sz = 0): void {
  cpu.hacdbs.process(2 * entriesOf(sz));
}

/** A store by a synthetic vCPU, so that memory changes too. @returns whether it was done */
export function store(silicon: Silicon, cpu: HostCpu, ipa: number, length = 8): boolean {
  const engine = new SyntheticEngine(silicon.host);
  engine.start(new ListSource([{ isWrite: true, ipa, length, value: 0x5555_5555_5555_5555n }]));
  return engine.execute(cpu, 10) === "done";
}

const CODE = 0x2000_0000;
/** Beside the code: stage-1 tables of the guest. */
const STAGE_1 = 0x2010_0000;
const STAGE_1_PAGES = 16;
const SCTLR_M_C = 5n;

export interface GuestOptions {
  /** Code goes to tier 1 as soon as it may; or never. */
  readonly translated?: boolean;
  /** Stage 1 on, an identity map of so many pages from BASE on. */
  readonly stage1Pages?: number;
  /** Hardware keeps AF and dirty state of stage 1. */
  readonly managed?: boolean;
}

/** One PE that runs code; 4 KiB pages. Its own pages are writable, so they are never logged. */
export class SiliconGuest {
  readonly engine: A64Engine;
  readonly registers: PeRegisters;
  /** IPA of the page that holds the stage-1 descriptors of BASE. */
  readonly tablePage: number = STAGE_1;
  /** Host address of BASE's descriptor in there. */
  readonly descriptor: number = 0;

  constructor(silicon: Silicon, words: readonly number[], options: GuestOptions = {}) {
    const { host } = silicon;
    const { arena, window } = a64Pages(K4);
    const translation = options.translated === true ? { delay: () => 0 } : null;
    const at = host.frames.allocate(arena);
    const machine = new A64Machine(host, at, () => 0n, translation);
    const pe = machine.addPe(host.frames.allocate(window));
    this.engine = new A64Engine(host, machine, pe, { instructionsFor: () => Infinity });
    this.engine.reset({ mpidr: 0x8000_0000n, ipaBits: silicon.ipaBits });
    this.registers = pe.registers;
    this.#put(silicon, CODE, bytesOf(words));
    this.registers.pc = BigInt(CODE);
    if (options.stage1Pages === undefined) return;
    const tables = guestTables({
      shift: 12, // tidy: the guest's granule
      at: STAGE_1,
      code: { first: CODE / K4, pages: 1 },
      windows: { first: BASE / K4, pages: options.stage1Pages },
      device: DOORBELL / K4,
      managed: options.managed ?? false,
    });
    this.tablePage = tables.descriptors - (tables.descriptors % K4);
    const pa = this.#put(silicon, STAGE_1, tables.bytes);
    this.descriptor = pa + tables.descriptors - STAGE_1;
    this.registers.set("MAIR_EL1", MAIR);
    this.registers.set("TTBR0_EL1", tables.ttbr0);
    this.registers.set("TCR_EL1", tables.tcr);
    this.registers.set("SCTLR_EL1", this.registers.get("SCTLR_EL1") | SCTLR_M_C);
    this.engine.registersChanged();
  }

  #put(silicon: Silicon, ipa: number, bytes: Uint8Array): number {
    const pages = Math.max(1, Math.ceil(bytes.length / K4));
    if (pages > STAGE_1_PAGES) throw new Error("the guest's own memory is small");
    const pa = silicon.page(pages);
    for (let n = 0; n < pages; n++) silicon.map(ipa + n * K4, pa + n * K4, { writable: true });
    silicon.host.writePhysical(pa, bytes);
    return pa;
  }
}
