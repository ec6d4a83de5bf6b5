// Owns: dirty pages as the host tracks them: consumers, looks at their pages, dirty rates; and what
// slows vCPUs down. HTTP thread.
import { rangesOf } from "../bitmap-json.js";
import { invalid, JSON_TYPE, negotiate, OCTETS, sendBytes } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { VmParams } from "../schemas/common.schema.js";
import {
  DirtyPages,
  DirtyPagesQuery,
  DirtyRate,
  DirtyRateMeasure,
  PageBitmap,
  Throttle,
  ThrottleSet,
  Tracking,
} from "../schemas/tracking.schema.js";
import type { DirtyRateResource, ResultOf } from "../services.js";

const PERIOD_MS_DEFAULT = 1000;
const NS_PER_US = 1000;
const common = { tag: "tracking", params: VmParams } as const;
const problems = ["vm-not-found", "vm-not-active"] as const;

function consumers({ services }: ApiDeps): Operation {
  return operation({
    ...common,
    id: "getVmDirtyTracking",
    method: "GET",
    path: "/v1/vms/{vm}/dirty-tracking/consumers",
    scope: "vm:read",
    summary: "Read who is told of dirty pages",
    description:
      "KVM's log has one owner. While the host has consumers, each harvest goes to all of them, " +
      "and the client's GET, CLEAR and rings are 409.",
    answers: { 200: json("Owner, methods, consumers.", Tracking) },
    problems,
    handle: async ({ params }) =>
      (await services.vms.command(params.vm, "describeTracking", {})).value,
  });
}

function dirtyPages({ services, clock }: ApiDeps): Operation {
  const answer = json("Pages, by memory object.", DirtyPages);
  return operation({
    ...common,
    id: "getVmDirtyPages",
    method: "GET",
    path: "/v1/vms/{vm}/dirty-pages",
    scope: "vm:read",
    summary: "Look at a consumer's dirty pages",
    description:
      "What was harvested for it and it has not taken. Reads nothing from KVM and takes nothing, " +
      "so it is always safe.",
    query: DirtyPagesQuery,
    answers: {
      200: { ...answer, content: { ...answer.content, [OCTETS]: { schema: PageBitmap } } },
    },
    problems: [...problems, "consumer-not-found", "not-acceptable"],
    handle: async ({ params, query, request, reply }) => {
      const type = negotiate(request, [JSON_TYPE, OCTETS]);
      const { consumer, memoryObject } = query;
      if (type === OCTETS && memoryObject === undefined) {
        throw invalid("/query/memoryObject", "is required for octet-stream");
      }
      const { value } = await services.vms.command(params.vm, "peekDirty", { consumer });
      const blocks = value.blocks.filter(
        ({ object }) => memoryObject === undefined || object === memoryObject,
      );
      reply.header("cache-control", "no-store");
      if (type === OCTETS) return sendBytes(reply, blocks[0]?.bitmap ?? new Uint8Array(0));
      const objects = [];
      for (const { object, bitmap } of blocks) {
        const { count, ranges } = await rangesOf(bitmap, bitmap.length * 8, clock);
        objects.push({ memoryObject: object, count, ranges });
      }
      const pages = objects.reduce((sum, { count }) => sum + count, 0);
      return { consumer, pages, objects };
    },
  });
}

function rateView(rate: DirtyRateResource) {
  const { method, durationMs, pages, pagesPerSecond, mibPerSecond, vcpus, measuredAt } = rate;
  return { method, durationMs, pages, pagesPerSecond, mibPerSecond, vcpus, measuredAt };
}

function dirtyRate({ services }: ApiDeps): readonly Operation[] {
  const path = "/v1/vms/{vm}/dirty-rate";
  return [
    operation({
      ...common,
      id: "measureVmDirtyRate",
      method: "POST",
      path,
      scope: "vm:write",
      summary: "Measure how fast a VM dirties its memory",
      description:
        "Answers when the period is over. It is a consumer of its own, so a migration under way " +
        "keeps all of its pages.",
      body: DirtyRateMeasure,
      bodyOptional: true,
      answers: { 200: json("The rate.", DirtyRate) },
      problems: [
        ...problems,
        "dirty-rate-running",
        "dirty-log-owned",
        "tracking-unavailable",
        "kvm-errno",
      ],
      handle: async ({ params, body }) => {
        const asked = body as { periodMs?: number } | undefined;
        const periodMs = asked?.periodMs ?? PERIOD_MS_DEFAULT;
        return rateView(await services.dirtyRates.measure(params.vm, periodMs));
      },
    }),
    operation({
      ...common,
      id: "getVmDirtyRate",
      method: "GET",
      path,
      scope: "vm:read",
      summary: "Read the dirty rate that was measured last",
      description: "Of this life of the service.",
      answers: { 200: json("The rate.", DirtyRate) },
      problems: ["vm-not-found", "dirty-rate-not-found"],
      handle: async ({ params }) => rateView(await services.dirtyRates.get(params.vm)),
    }),
  ];
}

function throttleView({ percent, dirtyLimit, vcpus = [] }: ResultOf<"describeThrottle">) {
  return {
    percent,
    dirtyLimitPagesPerSecond: dirtyLimit,
    vcpus: vcpus.map(({ vcpu, dirtied, throttledNs }) => ({
      vcpu,
      dirtied,
      throttledUs: Math.floor(throttledNs / NS_PER_US),
    })),
  };
}

function throttle({ services }: ApiDeps): readonly Operation[] {
  const path = "/v1/vms/{vm}/throttle";
  const { vms } = services;
  return [
    operation({
      ...common,
      id: "getVmThrottle",
      method: "GET",
      path,
      scope: "vm:read",
      summary: "Read what slows a VM's vCPUs down",
      description: "The setting, and what it has cost each vCPU so far.",
      answers: { 200: json("The throttle.", Throttle) },
      problems,
      handle: async ({ params }) =>
        throttleView((await vms.command(params.vm, "describeThrottle", {})).value),
    }),
    operation({
      ...common,
      id: "setVmThrottle",
      method: "PUT",
      path,
      scope: "vm:write",
      summary: "Slow a VM's vCPUs down",
      description:
        "By a share of time, by a limit of new dirty pages, or by both; zeros end it. A " +
        "migration with auto-converge sets it too.",
      body: ThrottleSet,
      answers: { 200: json("The throttle.", Throttle) },
      problems,
      handle: async ({ params, body }) => {
        const { percent, dirtyLimitPagesPerSecond: dirtyLimit } = body;
        const args = { percent, dirtyLimit };
        return throttleView((await vms.command(params.vm, "setThrottle", args)).value);
      },
    }),
  ];
}

export function trackingOperations(deps: ApiDeps): readonly Operation[] {
  return [consumers(deps), dirtyPages(deps), ...dirtyRate(deps), ...throttle(deps)];
}
