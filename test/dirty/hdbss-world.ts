// Owns: VMs with HDBSS for the numbered cases, and short ways to ask about them. Test process.
import type { SettingValue } from "../../src/base/settings.js";
import type { SeedBug } from "../../src/kvm/index.js";
import type { ArmedFault, DiagnosticKind, HostCpu } from "../../src/machine/index.js";
import { BASE, Inline, type InlineOptions } from "../support/inline.js";

export const HW_DIRTY = 502;
export const BUFFER_SIZE = 504;
export const RING = 223;
export const RING_WITH_BITMAP = 225;
export const MANUAL = 168;
export const LOG = 1;

/** Entries of the smallest buffer. */
export const ENTRIES = 512;

export function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}

type Settings = Readonly<Record<string, SettingValue>>;

/** What a case switches on: "B4", or a policy as "hdbss.sync=request-nowait". */
export function switched(settings: Settings, on: string | null) {
  const bugs: string[] = [];
  const all: Record<string, SettingValue> = { ...settings };
  for (const one of on === null ? [] : on.split("+")) {
    const [key, value] = one.split("=");
    if (value === undefined) bugs.push(one);
    else all[key!] = value;
  }
  return { settings: all, seedBugs: bugs as SeedBug[] };
}

export class HdbssVm extends Inline {
  constructor(settings: Settings = {}, on: string | null = null, options: InlineOptions = {}) {
    super({ dirty: switched(settings, on), ...options });
  }

  enableHdbss(order = 0): void {
    this.enable(HW_DIRTY, BigInt(order), 1n);
  }

  disableHdbss(): void {
    this.enable(HW_DIRTY, 0n, 0n);
  }

  gpa(page: number): number {
    return BASE + page * this.page;
  }

  /** Stores to pages of the slot at BASE. */
  dirtyPages(vcpu: number, pages: readonly number[]) {
    return this.store(
      vcpu,
      pages.map((page) => this.gpa(page)),
    );
  }

  /** Begins a run that stores to these pages, one after the other, without end. */
  spin(vcpu: number, pages: number) {
    this.pattern(
      vcpu,
      { base: BASE, bytes: pages * this.page, count: 0 },
      { pattern: "sequential", stride: this.page },
    );
    return this.beginRun(vcpu);
  }

  /** Runs until a vCPU has done so many accesses. */
  pumpAccesses(vcpu: number, accesses: number): void {
    const { engine } = this.kvm.vm.vcpuById(vcpu)!;
    const end = engine.retired + accesses;
    this.pumpUntil(() => engine.retired >= end);
  }

  stop(vcpu: number): void {
    this.call("kick", { vcpu });
  }

  cpu(index = 0): HostCpu {
    return this.kvm.vm.host.cpus[index]!;
  }

  buffer(vcpu: number) {
    return this.kvm.vm.vcpuById(vcpu)!.hdbss;
  }

  diagnosed(kind: DiagnosticKind): number {
    return this.kvm.vm.host.diagnostics.counts[kind] ?? 0;
  }

  arm(kind: ArmedFault["kind"], more: Partial<ArmedFault> = {}): void {
    const fault = { kind, nth: 1, vcpu: null, times: 1, delay: 0, ...more };
    this.kvm.vm.host.faults.arm(fault);
  }

  /** Frames in use and bytes charged. */
  get memory() {
    const { host, account } = this.kvm.vm;
    return { frames: host.frames.used, charged: account.chargedBytes };
  }
}

/** One slot that logs, `vcpus` vCPUs, and HDBSS on. */
export function hdbssVm(
  pages: number,
  options: {
    settings?: Settings;
    on?: string | null;
    vcpus?: number;
    order?: number;
    isOff?: boolean;
    manual?: bigint;
    vm?: InlineOptions;
  } = {},
): HdbssVm {
  const vm = new HdbssVm(options.settings, options.on ?? null, options.vm);
  if (options.manual !== undefined) vm.enable(MANUAL, options.manual);
  for (let id = 0; id < (options.vcpus ?? 1); id++) vm.vcpu(id);
  if (options.isOff !== true) vm.enableHdbss(options.order ?? 0);
  vm.slot(0, pages, { flags: LOG });
  return vm;
}
