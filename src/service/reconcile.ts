// Owns: what became of each VM when the service starts again (DESIGN 12). HTTP thread, at start.
import { type Clock, timestamp } from "../base/clock.js";
import type { Log } from "../base/log.js";
import type { Store, StoredVm, VmRecord } from "../store/index.js";
import { definitionFromJson } from "./definition.js";
import type { EventLog } from "./event-log.js";
import type { Recorder } from "./recorder.js";
import { Shape } from "./shape.js";
import { VmEntry } from "./vm-entry.js";
import { eventData, LOST } from "./vm-history.js";
import type { VmRegistry } from "./vm-registry.js";

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly registry: VmRegistry;
  readonly events: EventLog;
  readonly clock: Clock;
  readonly log: Log;
  readonly bootId: string;
  /** How a VM can be brought back, as a sentence; null: not at all. */
  readonly wayBack: (vmId: string) => string | null;
}

/** VMs between two turns of the event loop, and per transaction. */
const BATCH = 50;

/** Fills the registry. A VM that another life of the service left active is lost, and says so. */
export async function reconcile(deps: Deps): Promise<void> {
  const stored = await deps.store.loadVms();
  let lost = 0;
  for (let from = 0; from < stored.length; from += BATCH) {
    lost += await takeOver(deps, stored.slice(from, from + BATCH));
    await deps.clock.yieldToLoop();
  }
  if (lost > 0) deps.log.warn({ lost, of: stored.length }, "VMs were lost with the last process.");
}

/** @returns how many of them are lost */
async function takeOver(deps: Deps, batch: readonly StoredVm[]): Promise<number> {
  const entries = batch.map(({ vm, shape }) => {
    const isLost = vm.state === "active" && vm.bootId !== deps.bootId;
    const record = isLost ? lostRecord(deps, vm) : vm;
    return {
      isLost,
      entry: new VmEntry(record, definitionFromJson(vm.definition), new Shape(shape)),
    };
  });
  const lost = entries.filter(({ isLost }) => isLost).map(({ entry }) => entry.record);
  const events = lost.map((vm) => deps.events.reserve("vm.lost", `vms/${vm.id}`, eventData(vm)));
  if (lost.length > 0) {
    await deps.recorder.commit([
      ...lost.map((vm) => ({ kind: "put-vm", vm }) as const),
      { kind: "add-events", events: events.map(({ event }) => event) },
    ]);
  }
  for (const { entry } of entries) deps.registry.add(entry);
  for (const event of events) event.publish();
  return lost.length;
}

function lostRecord(deps: Deps, vm: VmRecord): VmRecord {
  const wayBack = deps.wayBack(vm.id);
  return {
    ...vm,
    state: "lost",
    stateReason: wayBack === null ? LOST : `${LOST} ${wayBack}`,
    version: vm.version + 1,
    bootId: deps.bootId,
    updatedAt: timestamp(deps.clock),
  };
}
