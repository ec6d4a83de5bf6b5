// Owns: /v1/snapshots and what a VM has of them: taken, read, restored, by themselves. HTTP thread.
import { OCTETS, preferredWait } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { bytes, empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { LIMIT_DEFAULT, VmParams, WAIT_MAX_S } from "../schemas/common.schema.js";
import {
  Autosnapshot,
  AutosnapshotPut,
  Snapshot,
  SnapshotContent,
  SnapshotCreate,
  SnapshotListQuery,
  SnapshotPage,
  SnapshotParams,
  SnapshotRestore,
  VmRestore,
} from "../schemas/snapshots.schema.js";
import { Vm } from "../schemas/vms.schema.js";
import type { SnapshotResource } from "../services.js";
import { created, ETAG, LOCATION, linkNext, MS_PER_S, NEXT_LINK } from "../support.js";
import { vmPath } from "../views/vm.js";
import { vmAnswer } from "./vms.js";

const ROOT = "/v1/snapshots";
const tag = "snapshots";
const one = { tag, path: `${ROOT}/{snapshot}`, params: SnapshotParams } as const;

function view(snapshot: SnapshotResource) {
  const self = `${ROOT}/${snapshot.id}`;
  const links = {
    self,
    content: `${self}/content`,
    restore: `${self}:restore`,
    vm: vmPath(snapshot.vmId),
    ...(snapshot.parent === null ? {} : { parent: `${ROOT}/${snapshot.parent}` }),
  };
  return { ...snapshot, links };
}

function createSnapshot({ services }: ApiDeps): Operation {
  const { snapshots } = services;
  return operation({
    id: "createSnapshot",
    method: "POST",
    path: "/v1/vms/{vm}/snapshots",
    tag,
    scope: "vm:write",
    heavy: true,
    summary: "Take a snapshot of a VM",
    description:
      "A job. Memory is written while the VM runs; then it is held for its state and what it " +
      "dirtied last. A full one begins a chain; a differential holds what changed since the " +
      "newest of one. While a chain is tracked the host owns the dirty log. One that fails gives " +
      "dirty pages back and leaves no file. With `Prefer: wait=N` the answer waits for the end, " +
      "and a failure is the answer: 507 where the disk is full.",
    params: VmParams,
    body: SnapshotCreate,
    bodyOptional: true,
    answers: { 202: withHeaders(json("The job, or what became of it.", Snapshot), LOCATION) },
    problems: [
      ...["vm-not-found", "vm-not-active", "snapshot-in-progress", "snapshot-parent"],
      ...["snapshot-unknown", "snapshot-limit", "snapshot-chains", "snapshot-file", "disk-full"],
      ...["dirty-log-owned", "tracking-unavailable", "draining"],
    ] as const,
    handle: async ({ params, body, request, reply }) => {
      const { name = null, kind = "full", parent = null, track = null } = body ?? {};
      const made = await snapshots.create(params.vm, { name, kind, parent, track });
      const waitS = preferredWait(request, WAIT_MAX_S);
      reply.header("location", `${ROOT}/${made.id}`);
      if (waitS === null) return reply.code(202).send(view(made));
      const now = await snapshots.outcome(made.id, waitS * MS_PER_S);
      return reply.code(202).header("preference-applied", `wait=${waitS}`).send(view(now));
    },
  });
}

function changes(deps: ApiDeps): readonly Operation[] {
  const { snapshots } = deps.services;
  return [
    createSnapshot(deps),
    operation({
      ...one,
      id: "cancelSnapshot",
      method: "POST",
      path: `${one.path}:cancel`,
      scope: "vm:write",
      summary: "Cancel a snapshot that is being taken",
      description: "Idempotent; too late for one that is complete.",
      answers: { 200: json("The snapshot as it is now.", Snapshot) },
      problems: ["snapshot-not-found"],
      handle: async ({ params }) => view(await snapshots.cancel(params.snapshot)),
    }),
    operation({
      ...one,
      id: "deleteSnapshot",
      method: "DELETE",
      scope: "vm:write",
      summary: "Delete a snapshot",
      description:
        "With its file; cancelled first. Refused while a differential follows it. With the " +
        "newest of a chain the tracking for that chain ends.",
      answers: { 204: empty("It is gone.") },
      problems: ["snapshot-not-found", "snapshot-in-use"],
      handle: async ({ params, reply }) => {
        await snapshots.delete(params.snapshot);
        return reply.code(204).send();
      },
    }),
  ];
}

function reads({ services }: ApiDeps): readonly Operation[] {
  const { snapshots } = services;
  return [
    operation({
      id: "listSnapshots",
      method: "GET",
      path: ROOT,
      tag,
      scope: "vm:read",
      summary: "List snapshots",
      description: "In order of creation; also of VMs that are gone.",
      query: SnapshotListQuery,
      answers: { 200: withHeaders(json("One page.", SnapshotPage), NEXT_LINK) },
      problems: ["cursor-invalid"],
      handle: async ({ query, request, reply }) => {
        const { limit = LIMIT_DEFAULT, cursor = null, vm: vmId = null } = query;
        const page = await snapshots.list({ vmId, limit, cursor });
        linkNext(request, reply, "cursor", page.nextCursor);
        return { items: page.items.map(view), nextCursor: page.nextCursor };
      },
    }),
    operation({
      ...one,
      id: "getSnapshot",
      method: "GET",
      scope: "vm:read",
      summary: "Read a snapshot",
      description: "How far it is, and what it took.",
      answers: { 200: json("The snapshot.", Snapshot) },
      problems: ["snapshot-not-found"],
      handle: async ({ params }) => view(await snapshots.get(params.snapshot)),
    }),
    operation({
      ...one,
      id: "getSnapshotContent",
      method: "GET",
      path: `${one.path}/content`,
      scope: "vm:read",
      heavy: true,
      summary: "Download a snapshot's file",
      description: "Of a differential the differences alone.",
      answers: { 200: bytes("The file.", SnapshotContent) },
      problems: ["snapshot-not-found", "snapshot-incomplete"],
      handle: async ({ params, reply }) => {
        const { bytes: length, stream } = await snapshots.content(params.snapshot);
        const name = `attachment; filename="${params.snapshot}.tmsnap"`;
        reply.header("content-length", String(length)).header("content-disposition", name);
        return reply.type(OCTETS).send(stream);
      },
    }),
  ];
}

const RESTORING = [
  ...["snapshot-incomplete", "snapshot-broken", "snapshot-file", "state-mismatch"],
  ...["state-leftover", "image-lost", "kvm-errno", "vm-limit", "draining", "store-unavailable"],
] as const;

function restores({ services, bindings }: ApiDeps): readonly Operation[] {
  const { snapshots } = services;
  return [
    operation({
      ...one,
      id: "restoreSnapshot",
      method: "POST",
      path: `${one.path}:restore`,
      scope: "vm:write",
      heavy: true,
      summary: "Make a new VM of a snapshot",
      description:
        "Definition, parts, memory and state as they were; it goes on where it was held. Works " +
        "without the VM that it was taken of. Eventfds that are gone are made anew.",
      body: SnapshotRestore,
      bodyOptional: true,
      answers: { 201: withHeaders(json("The VM, active.", Vm), { ...LOCATION, ...ETAG }) },
      problems: [...RESTORING, "snapshot-not-found", "uuid-taken"],
      handle: async ({ params, body, reply }) => {
        const { name = null, uuid = null, paused = false } = body ?? {};
        const vm = await snapshots.restore(params.snapshot, { name, uuid, paused });
        const answer = await vmAnswer(services, vm);
        return created(reply, vmPath(vm.id)).header("etag", answer.etag).send(answer.body);
      },
    }),
    operation({
      id: "restoreVm",
      method: "POST",
      path: "/v1/vms/{vm}:restore",
      tag,
      scope: "vm:write",
      heavy: true,
      summary: "Put a VM back to a snapshot of it",
      description:
        "Whatever state it is in: active, stopped, failed, lost. What it has now is gone once " +
        "the snapshot has proved whole; until then both need memory.",
      params: VmParams,
      body: VmRestore,
      bodyOptional: true,
      answers: { 200: withHeaders(json("The VM, active.", Vm), ETAG) },
      problems: [
        ...RESTORING,
        ...(["vm-not-found", "snapshot-unknown", "snapshot-in-progress"] as const),
      ],
      handle: async ({ params, body, reply }) => {
        const { snapshot = null, paused = false } = body ?? {};
        const vm = await snapshots.restoreVm(params.vm, snapshot, paused);
        bindings.forget(params.vm);
        const answer = await vmAnswer(services, vm);
        return reply.header("etag", answer.etag).send(answer.body);
      },
    }),
  ];
}

function autosnapshots({ services }: ApiDeps): readonly Operation[] {
  const { snapshots } = services;
  const own = { tag, path: "/v1/vms/{vm}/autosnapshot", params: VmParams } as const;
  return [
    operation({
      ...own,
      id: "getAutosnapshot",
      method: "GET",
      scope: "vm:read",
      summary: "Read how a VM is snapshotted by itself",
      description: "404 where it is not.",
      answers: { 200: json("How often, and what stays.", Autosnapshot) },
      problems: ["vm-not-found", "autosnapshot-not-found"],
      handle: ({ params }) => snapshots.autosnapshot(params.vm),
    }),
    operation({
      ...own,
      id: "putAutosnapshot",
      method: "PUT",
      scope: "vm:write",
      summary: "Snapshot a VM every so many seconds",
      description:
        "While it is active. A crash of this host then loses what came after the newest one: the " +
        "VM is `lost`, its `stateReason` names it, and :restore goes on from there.",
      body: AutosnapshotPut,
      answers: { 200: json("As it is in force.", Autosnapshot) },
      problems: ["vm-not-found", "migration-in-progress", "vm-migrated", "store-unavailable"],
      handle: ({ params, body }) => snapshots.setAutosnapshot(params.vm, body),
    }),
    operation({
      ...own,
      id: "deleteAutosnapshot",
      method: "DELETE",
      scope: "vm:write",
      summary: "Snapshot a VM no longer by itself",
      description: "Those that there are stay.",
      answers: { 204: empty("No more are taken.") },
      problems: ["vm-not-found", "migration-in-progress"],
      handle: async ({ params, reply }) => {
        await snapshots.clearAutosnapshot(params.vm);
        return reply.code(204).send();
      },
    }),
  ];
}

export function snapshotOperations(deps: ApiDeps): readonly Operation[] {
  return [...changes(deps), ...reads(deps), ...restores(deps), ...autosnapshots(deps)];
}
