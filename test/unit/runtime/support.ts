// Owns: what the runtime's unit tests share: definitions, programs and inline VMs over the fake.
import { KvmError } from "../../../src/base/errors.js";
import { EventfdCounters } from "../../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../../src/base/memory-budget.js";
import type { InputLog } from "../../../src/runtime/handle.js";
import { InlineVm } from "../../../src/runtime/index.js";
import type { CommandArgs, VmDefinition } from "../../../src/vmm/index.js";
import { fakeFactory } from "../../support/fake-instance.mjs";

export const definition: VmDefinition = {
  type: 40n,
  pageSize: 4096,
  hostCpus: 0,
  seed: 7n,
  clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
  dirtyTracking: "write-protect",
};

export const createInstance = fakeFactory({ KvmError });

export const RUN: CommandArgs<"run"> = { vcpu: 0, immediateExit: false, mmioData: null };

/** A pattern of `count` accesses; 0 is without end. */
export function pattern(count: number): CommandArgs<"setProgram"> {
  return {
    vcpu: 0,
    program: {
      kind: "pattern",
      pattern: "uniform",
      base: 0n,
      bytes: 65536n,
      count,
      writePercent: 50,
      length: 8,
      stride: 4096,
      skew: 0,
      seed: 1n,
    },
  };
}

export function inlineVm(
  options: {
    replay?: InputLog;
    budget?: MemoryBudget;
    eventfds?: EventfdCounters;
    entriesMax?: number;
    bytesMax?: number;
    definition?: VmDefinition;
  } = {},
): InlineVm {
  const whole = options.budget ?? MemoryBudget.create(2 ** 30);
  const bounds = { entriesMax: options.entriesMax ?? 1000, bytesMax: options.bytesMax ?? 2 ** 20 };
  const request = {
    definition: options.definition ?? definition,
    replay: options.replay ?? null,
    inputLog: bounds,
  };
  return InlineVm.create(request, {
    budget: whole.account()!,
    eventfds: options.eventfds ?? EventfdCounters.create(16),
    createInstance,
  });
}

/** Calls and pumps without running a step; for commands that are done at once. */
export async function now<T>(vm: InlineVm, call: Promise<T>): Promise<T> {
  vm.pump(0);
  return call;
}
