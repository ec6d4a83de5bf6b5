// Owns: VMs as the wire shows them. HTTP thread.
import { hex } from "../../base/hex.js";
import type { ResultOf, VmResource } from "../services.js";

function definitionView(definition: VmResource["definition"]) {
  return {
    type: hex(definition.type),
    pageSize: definition.pageSize,
    hostCpus: definition.hostCpus,
    seed: hex(definition.seed),
    clock: definition.clock,
    dirtyTracking: definition.dirtyTracking,
    ...(definition.dirty === undefined ? {} : { dirty: definition.dirty }),
    ...(definition.board === undefined ? {} : { board: definition.board }),
  };
}

export function vmPath(id: string): string {
  return `/v1/vms/${encodeURIComponent(id)}`;
}

function linksOf({ id, definition, migrationId }: VmResource) {
  const self = vmPath(id);
  const board = { board: `${self}/board`, console: `${self}/console` };
  const migration = migrationId === null ? {} : { migration: `/v1/migrations/${migrationId}` };
  return {
    self,
    start: `${self}:start`,
    stop: `${self}:stop`,
    vcpus: `${self}/vcpus`,
    memoryObjects: `${self}/memory-objects`,
    memslots: `${self}/memslots`,
    inputs: `${self}/inputs`,
    digest: `${self}/digest`,
    counters: `${self}/counters`,
    stats: `${self}/stats`,
    dirtySettings: `${self}/dirty-settings`,
    faults: `${self}/faults`,
    diagnostics: `${self}/diagnostics`,
    snapshots: `/v1/snapshots?vm=${encodeURIComponent(id)}`,
    restore: `${self}:restore`,
    ...(definition.board === undefined ? {} : board),
    ...migration,
  };
}

/** Without KVM's view, which costs a visit to the VM's thread. */
export function vmSummary(vm: VmResource) {
  return {
    id: vm.id,
    uuid: vm.uuid,
    name: vm.name,
    labels: vm.labels,
    state: vm.state,
    stateReason: vm.stateReason,
    version: vm.version,
    createdAt: vm.createdAt,
    updatedAt: vm.updatedAt,
    definition: definitionView(vm.definition),
    links: linksOf(vm),
  };
}

export type KvmView = ResultOf<"describe">;

export function kvmView(view: KvmView) {
  return {
    ...view,
    vtcr: hex(view.vtcr),
    vttbr: hex(view.vttbr),
    eagerSplitChunkSize: hex(view.eagerSplitChunkSize),
  };
}

/** What besides the record changes the entity tag: everything but the counters that run on. */
export function etagState(view: KvmView | null): string {
  if (view === null) return "";
  const { instructions: _i, virtualNs: _v, steps: _s, ...stable } = kvmView(view);
  return JSON.stringify(stable);
}
