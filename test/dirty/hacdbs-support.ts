// Owns: VMs whose CLEAR and GET clean by HACDBS, for the numbered cases. Test process.
import type { SettingValue } from "../../src/base/settings.js";
import type { FaultKind } from "../../src/machine/index.js";
import { BASE, Inline, type InlineOptions, MIB } from "../support/inline.js";

export const K4 = 4096;
export const LOG = 1;
const MANUAL = 168;
const EAGER_SPLIT_CHUNK = 228;

export const gpa = (page: number): number => BASE + page * K4;

export const range = (first: number, end: number): number[] =>
  Array.from({ length: end - first }, (_, i) => first + i);

export interface Asked {
  readonly settings?: Readonly<Record<string, SettingValue>>;
  /** The defect that the case runs with, or null. */
  readonly bug?: string | null;
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2's argument. */
  readonly manual?: 0 | 1 | 3;
  readonly chunk?: number;
  readonly inline?: InlineOptions;
}

/** Counters that tell one way of cleaning from another. */
const COUNTED = [
  "hacdbsBatches",
  "hacdbsCleaned",
  "hacdbsErrIpaf",
  "hacdbsErrIpahacf",
  "hacdbsErrStructf",
  "hacdbsTimeouts",
  "clearFallbacksEperm",
  "clearFallbacksEnomem",
  "clearFallbacksEagain",
] as const;

export class CleaningVm extends Inline {
  constructor({ settings = {}, bug = null, manual = 1, chunk = 0, inline = {} }: Asked = {}) {
    const seedBugs = bug === null ? [] : [bug];
    super({
      dirtyTracking: "dbm",
      dirty: { settings: { "hacdbs.use": "with-dbm", ...settings }, seedBugs },
      ...inline,
    });
    if (chunk !== 0) this.enable(EAGER_SPLIT_CHUNK, BigInt(chunk));
    if (manual !== 0) this.enable(MANUAL, BigInt(manual));
  }

  /** A logging slot 0 at BASE, and a vCPU. */
  logging(pages: number, vcpus = 1): this {
    this.slot(0, pages, { flags: LOG });
    for (let id = 0; id < vcpus; id++) this.vcpu(id);
    return this;
  }

  /** Stores to each page of slot 0. */
  dirtyPages(pages: readonly number[], vcpu = 0): void {
    this.store(vcpu, pages.map(gpa));
  }

  arm(kind: FaultKind, nth = 1, times: number | null = 1): void {
    this.kvm.vm.host.faults.arm({ kind, nth, vcpu: null, times, delay: 0 });
  }

  /** Leaves' states by page of slot 0; null: nothing mapped. */
  states(pages: readonly number[]): (string | null)[] {
    return pages.map((page) => this.leaf(gpa(page))?.state ?? null);
  }

  get counted(): Record<(typeof COUNTED)[number], number> {
    const entries = COUNTED.map((name) => [name, this.counter(name)]);
    return Object.fromEntries(entries) as Record<(typeof COUNTED)[number], number>;
  }

  get fallbacks(): number {
    const { clearFallbacksEperm, clearFallbacksEnomem, clearFallbacksEagain } = this.counted;
    return clearFallbacksEperm + clearFallbacksEnomem + clearFallbacksEagain;
  }

  diagnostic(kind: string): number {
    const { counts } = this.kvm.vm.host.diagnostics;
    return (counts as Record<string, number>)[kind] ?? 0;
  }
}

export const CLEAN = "writable-clean";
export const DIRTY = "writable-dirty";
export const CHUNK_2M = 2 * MIB;
