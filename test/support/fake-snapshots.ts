// Owns: the snapshot service in a map, where every job is done at once, for tests of the HTTP face
// alone.
import { Readable } from "node:stream";
import { ServiceError } from "../../src/base/errors.js";
import type {
  AutosnapshotResource,
  SnapshotResource,
  SnapshotService,
  VmResource,
} from "../../src/service/index.js";

const NOW = "2026-11-20T12:00:00.000Z";
const CONTENT = "TMsnap\r\n";

interface World {
  /** @throws ServiceError "vm-not-found" */
  vm(id: string): VmResource;
  create(name: string | null): Promise<VmResource>;
}

export function fakeSnapshots(world: World): SnapshotService {
  const kept = new Map<string, SnapshotResource>();
  const policies = new Map<string, AutosnapshotResource>();
  const require = (id: string): SnapshotResource => {
    const found = kept.get(id);
    if (found !== undefined) return found;
    throw new ServiceError("snapshot-not-found", `There is no snapshot ${id}.`);
  };
  return {
    create: async (vmId, { name, kind, parent }) => {
      const vm = world.vm(vmId);
      const id = `snap_${kept.size + 1}`;
      const made: SnapshotResource = {
        ...{ id, name, kind, state: "complete", stateReason: null, problem: null, version: 2 },
        ...{ origin: "request", vmId, vmUuid: vm.uuid, vmName: vm.name, parent },
        ...{ chain: parent ?? id, isTracked: true, memoryBytes: 4096, rounds: 2, pauseMs: 1.5 },
        progress: { phase: "done", pagesDone: 1, pagesTotal: 1 },
        ...{ fileBytes: CONTENT.length, sha256: "0".repeat(64), pages: { stored: 1, zero: 0 } },
        ...{ createdAt: NOW, finishedAt: NOW },
      };
      kept.set(id, made);
      return made;
    },
    get: async (id) => require(id),
    outcome: async (id) => require(id),
    list: async ({ vmId, limit }) => {
      const all = [...kept.values()].filter((one) => vmId === null || one.vmId === vmId);
      return { items: all.slice(0, limit), nextCursor: null };
    },
    cancel: async (id) => require(id),
    delete: async (id) => void kept.delete(require(id).id),
    content: async (id) => {
      const { fileBytes } = require(id);
      return { bytes: fileBytes ?? 0, stream: Readable.from([Buffer.from(CONTENT)]) };
    },
    restore: async (id, { name }) => world.create(name ?? require(id).vmName),
    restoreVm: async (vmId) => world.vm(vmId),
    autosnapshot: async (vmId) => {
      world.vm(vmId);
      const policy = policies.get(vmId);
      if (policy !== undefined) return policy;
      throw new ServiceError("autosnapshot-not-found", "It is not snapshotted by itself.");
    },
    setAutosnapshot: async (vmId, spec) => {
      world.vm(vmId);
      const policy = { ...spec, vmId, latest: null, createdAt: NOW, updatedAt: NOW };
      policies.set(vmId, policy);
      return policy;
    },
    clearAutosnapshot: async (vmId) => {
      world.vm(vmId);
      policies.delete(vmId);
    },
    usage: () => ({ count: kept.size, bytes: 0, creating: 0, failed: 0, lastPauseMs: 0 }),
  };
}
