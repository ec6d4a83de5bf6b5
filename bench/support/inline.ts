// Owns: a VM in the bench's own thread, as its worker would drive it but without messages: what
// KVM and the machine cost by themselves. Bench process.
import { EventfdCounters } from "../../dist/base/eventfd-counters.js";
import { MemoryBudget } from "../../dist/base/memory-budget.js";
import {
  type Command,
  type CommandArgs,
  type CommandName,
  type CommandResult,
  createInstance,
  type Outcome,
  type VmDefinition,
} from "../../dist/vmm/index.js";
import { PAGE } from "./guest.js";

type Instance = ReturnType<typeof createInstance>;
export type Tracking = VmDefinition["dirtyTracking"];

const MANUAL_DIRTY_LOG_PROTECT2 = 168;
const ARM_HW_DIRTY_STATE_TRACK = 502;
const LOG_DIRTY_PAGES = 1;
export const SLOT = 1;
/** More than any subject needs: these VMs share a budget with nobody. */
const BUDGET_BYTES = 64 * 2 ** 30;

/** A command that may take scheduler steps. */
export class Pending<T> {
  #outcome: Outcome | null = null;

  settle(outcome: Outcome): void {
    this.#outcome = outcome;
  }

  get done(): boolean {
    return this.#outcome !== null;
  }

  get value(): T {
    if (this.#outcome === null) throw new Error("the command has no answer yet");
    if (!this.#outcome.ok) throw this.#outcome.error;
    return this.#outcome.value as T;
  }
}

export interface InlineOptions {
  readonly dirtyTracking?: Tracking;
  /** Bytes of the one logging slot, at guest address 0, of unbacked memory. */
  readonly bytes: number;
  readonly vcpus?: number;
  readonly manualProtect?: 1 | 3;
  /** Settings of the dirty hardware and of KVM's use of it. */
  readonly settings?: Settings;
  /** Order of HDBSS buffers to enable; absent: no HDBSS. */
  readonly hdbssOrder?: number;
}

type Settings = NonNullable<VmDefinition["dirty"]>["settings"];

/** A VM with one logging slot in manual-protect mode. */
export class InlineGuest {
  readonly instance: Instance;
  readonly pages: number;
  readonly #userspaceAddr: bigint;

  constructor(options: InlineOptions) {
    const { dirtyTracking = "write-protect", bytes, vcpus = 1, manualProtect = 1 } = options;
    const definition: VmDefinition = {
      type: 0n,
      pageSize: PAGE,
      hostCpus: 0,
      seed: 1n,
      clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
      dirtyTracking,
      dirty: { settings: options.settings ?? {}, seedBugs: [] },
    };
    this.instance = createInstance(definition, {
      budget: MemoryBudget.create(BUDGET_BYTES),
      eventfds: EventfdCounters.create(64),
      schedule: "round-robin",
    });
    this.pages = bytes / PAGE;
    const args = [BigInt(manualProtect)];
    this.call("enableCap", { cap: MANUAL_DIRTY_LOG_PROTECT2, flags: 0, args });
    if (options.hdbssOrder !== undefined) {
      const hdbss = [BigInt(options.hdbssOrder), 1n];
      this.call("enableCap", { cap: ARM_HW_DIRTY_STATE_TRACK, flags: 0, args: hdbss });
    }
    const object = this.call("createMemoryObject", {
      size: BigInt(bytes),
      userspaceAddr: null,
      backing: "unbacked",
      hugePages: false,
    });
    this.#userspaceAddr = object.userspaceAddr;
    this.setLogging(true);
    for (let id = 0; id < vcpus; id++) this.call("createVcpu", { id });
  }

  setLogging(on: boolean): void {
    this.call("setUserMemoryRegion", {
      slot: SLOT,
      flags: on ? LOG_DIRTY_PAGES : 0,
      guestPhysAddr: 0n,
      memorySize: BigInt(this.pages * PAGE),
      userspaceAddr: this.#userspaceAddr,
    });
  }

  /** Enters a command without a step. */
  begin<K extends CommandName>(name: K, args: CommandArgs<K>): Pending<CommandResult<K>> {
    const pending = new Pending<CommandResult<K>>();
    this.instance.submit({ name, args } as Command, (outcome) => pending.settle(outcome));
    return pending;
  }

  /** Steps until `until` says so or nothing is runnable. */
  advance(until: () => boolean): void {
    this.instance.advance(Number.POSITIVE_INFINITY, until);
  }

  finish<T>(pending: Pending<T>): T {
    if (!pending.done) this.advance(() => pending.done);
    return pending.value;
  }

  call<K extends CommandName>(name: K, args: CommandArgs<K>): CommandResult<K> {
    return this.finish(this.begin(name, args));
  }

  /**
   * A store pattern for a vCPU. Stores are single bytes, so that a window of whole pages and a
   * stride of an odd number of pages reach every page once before any twice.
   */
  stores(
    vcpu: number,
    window: { readonly base?: number; readonly bytes: number; readonly count: number },
    order: "uniform" | { readonly stride: number },
  ): void {
    const { base = 0, bytes, count } = window;
    this.call("setProgram", {
      vcpu,
      program: {
        kind: "pattern",
        pattern: order === "uniform" ? "uniform" : "sequential",
        base: BigInt(base),
        bytes: BigInt(bytes),
        count,
        writePercent: 100,
        length: 1,
        stride: order === "uniform" ? 0 : order.stride,
        skew: 0,
        seed: BigInt(vcpu + 1),
      },
    });
  }

  beginRun(vcpu = 0): Pending<CommandResult<"run">> {
    return this.begin("run", { vcpu, immediateExit: false, mmioData: null });
  }

  /** Runs vCPUs 0 to count - 1 to the end of their programs. */
  runAll(count: number): void {
    const runs = Array.from({ length: count }, (_, vcpu) => this.beginRun(vcpu));
    this.advance(() => runs.every((run) => run.done));
    for (const { value } of runs) {
      if (value.exitReason !== "KVM_EXIT_HLT") throw new Error(`a run: ${value.exitReason}`);
    }
  }

  /** CLEAR of the whole slot. @returns pages that were dirty */
  clear(bitmap: Uint8Array): number {
    const args = { slot: SLOT, firstPage: 0n, numPages: this.pages, bitmap };
    return this.call("clearDirtyLog", args).cleared;
  }

  dirtyLog(): Uint8Array {
    return this.call("getDirtyLog", { slot: SLOT }).bitmap;
  }

  counter(name: string): number {
    return this.call("counters", {})[name] ?? Number.NaN;
  }

  close(): void {
    this.instance.close();
  }
}

/** A bitmap that names every page. */
export function allBits(pages: number): Uint8Array {
  return new Uint8Array(Math.ceil(pages / 64) * 8).fill(0xff);
}
