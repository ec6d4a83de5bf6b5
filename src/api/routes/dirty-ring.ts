// Owns: dirty rings: reading, harvesting and resetting them. HTTP thread.
import Type from "typebox";
import { hex } from "../../base/hex.js";
import { JSON_TYPE, negotiate, OCTETS, sendBytes } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation, withHeaders } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import {
  RingEntry,
  RingEntryParams,
  RingFlags,
  RingHarvest,
  RingParams,
  RingQuery,
  RingRecords,
  RingsReset,
  RingWindow,
} from "../schemas/dirty.schema.js";
import type { ResultOf } from "../services.js";

type Window = ResultOf<"readDirtyRing">;
type Entry = ResultOf<"setDirtyRingFlags">;

const path = "/v1/vms/{vm}/vcpus/{n}/dirty-ring";
const LIMIT_DEFAULT = 1000;
const RING_PROBLEMS = [
  "vm-not-found",
  "vcpu-not-found",
  "vm-not-active",
  "dirty-log-owned",
  "kvm-errno",
] as const;
/** sizeof(struct kvm_dirty_gfn). @source linux/kvm.h */
const RECORD_BYTES = 16;

const INDEXES = {
  "Tidemark-Ring-Indexes": {
    description: "dirtyIndex, resetIndex, harvestIndex, then the first record's index.",
    schema: Type.String({ examples: ["3, 0, 0, 0"] }),
  },
};

function entryView(entry: Entry) {
  return {
    index: entry.index,
    flags: entry.flags,
    slot: entry.slot,
    offset: hex(entry.offset),
  };
}

function windowView(window: Window) {
  const { size, dirtyIndex, resetIndex, harvestIndex } = window;
  const entries = window.entries.map(entryView);
  return { entries, size, dirtyIndex, resetIndex, harvestIndex };
}

function records(entries: readonly Entry[]): Uint8Array {
  const bytes = new Uint8Array(entries.length * RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, entry] of entries.entries()) {
    view.setUint32(i * RECORD_BYTES, entry.flags, true);
    view.setUint32(i * RECORD_BYTES + 4, entry.slot, true);
    view.setBigUint64(i * RECORD_BYTES + 8, entry.offset, true);
  }
  return bytes;
}

function readRing({ services }: ApiDeps): Operation {
  const { vms } = services;
  const answer = json("The entries, whatever their flags.", RingWindow);
  return operation({
    id: "getDirtyRing",
    method: "GET",
    path,
    tag: "dirty-ring",
    scope: "vm:read",
    summary: "Read a vCPU's dirty ring",
    description: "What a VMM sees in the mapped ring, from an absolute index. Changes nothing.",
    params: RingParams,
    query: RingQuery,
    answers: {
      200: withHeaders(
        { ...answer, content: { ...answer.content, [OCTETS]: { schema: RingRecords } } },
        INDEXES,
      ),
    },
    problems: [...RING_PROBLEMS, "not-acceptable"],
    handle: async ({ params, query, request, reply }) => {
      const type = negotiate(request, [JSON_TYPE, OCTETS]);
      const vcpu = params.n;
      const from = query.from ?? (await harvestIndex(params.vm, vcpu));
      const args = { vcpu, from, limit: query.limit ?? LIMIT_DEFAULT };
      const { value } = await vms.command(params.vm, "readDirtyRing", args);
      reply.header("cache-control", "no-store");
      if (type === JSON_TYPE) return windowView(value);
      const indexes = [value.dirtyIndex, value.resetIndex, value.harvestIndex, from];
      reply.header("tidemark-ring-indexes", indexes.join(", "));
      return sendBytes(reply, records(value.entries));
    },
  });

  async function harvestIndex(vm: string, vcpu: number): Promise<number> {
    const { value } = await vms.command(vm, "readDirtyRing", { vcpu, from: 0, limit: 0 });
    return value.harvestIndex;
  }
}

function changeRing({ services }: ApiDeps): readonly Operation[] {
  const { vms } = services;
  const common = { tag: "dirty-ring", scope: "vm:write" } as const;
  return [
    operation({
      ...common,
      id: "harvestDirtyRing",
      method: "POST",
      path: `${path}/harvested`,
      params: RingParams,
      summary: "Mark entries as harvested",
      description:
        "Sets the flags of every entry before `upTo` to 2, as a VMM does once it has noted the " +
        "page. Absolute, so a repeat changes nothing; back, or past the last served entry: 409.",
      body: RingHarvest,
      answers: { 200: json("The ring's indexes now.", RingWindow) },
      problems: [...RING_PROBLEMS, "ring-index"],
      handle: async ({ params, body }) => {
        const args = { vcpu: params.n, upTo: body.upTo };
        return windowView((await vms.command(params.vm, "harvestDirtyRing", args)).value);
      },
    }),
    operation({
      ...common,
      id: "setDirtyRingEntry",
      method: "PUT",
      path: `${path}/entries/{index}`,
      params: RingEntryParams,
      summary: "Write one entry's flags",
      description: "Any value, as a VMM may through its mapping.",
      body: RingFlags,
      answers: { 200: json("The entry now.", RingEntry) },
      problems: [...RING_PROBLEMS, "ring-index"],
      handle: async ({ params, body }) => {
        const args = { vcpu: params.n, index: params.index, flags: body.flags };
        return entryView((await vms.command(params.vm, "setDirtyRingFlags", args)).value);
      },
    }),
    operation({
      ...common,
      id: "resetDirtyRings",
      method: "POST",
      path: "/v1/vms/{vm}/dirty-rings/resets",
      params: VmParams,
      summary: "Take harvested entries back",
      description: "KVM_RESET_DIRTY_RINGS: every vCPU's ring, up to its first unharvested entry.",
      answers: { 200: json("How many.", RingsReset) },
      problems: ["vm-not-found", "vm-not-active", "dirty-log-owned", "kvm-errno"],
      handle: async ({ params }) => (await vms.command(params.vm, "resetDirtyRings", {})).value,
    }),
  ];
}

export function dirtyRingOperations(deps: ApiDeps): readonly Operation[] {
  return [readRing(deps), ...changeRing(deps)];
}
