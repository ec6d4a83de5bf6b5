// Owns: /v1/eventfds: counters that cross VMs. HTTP thread.
import Type from "typebox";
import { hex } from "../../base/hex.js";
import { EVENT_STREAM, JSON_TYPE, negotiate } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { followEventfd } from "../eventfd-stream.js";
import { type Answer, empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { LIMIT_DEFAULT } from "../schemas/common.schema.js";
import { AfterQuery } from "../schemas/dirty.schema.js";
import {
  Eventfd,
  EventfdCreate,
  EventfdListQuery,
  EventfdPage,
  EventfdParams,
  EventfdRead,
  EventfdWrite,
  WaitQuery,
} from "../schemas/io.schema.js";
import { DrainQuery } from "../schemas/irqfds.schema.js";
import { streamOf } from "../sse.js";
import {
  big,
  bigOr,
  consumeOf,
  created,
  LOCATION,
  linkNext,
  MS_PER_S,
  NEXT_LINK,
} from "../support.js";
import { eventfdView } from "../views/eventfd.js";

const path = "/v1/eventfds";
const one = { tag: "eventfds", path: `${path}/{id}`, params: EventfdParams } as const;

function collection({ services }: ApiDeps): readonly Operation[] {
  const { eventfds } = services;
  return [
    operation({
      id: "createEventfd",
      method: "POST",
      path,
      tag: "eventfds",
      scope: "vm:write",
      summary: "Create an eventfd",
      description:
        "eventfd2 with EFD_NONBLOCK, and with EFD_SEMAPHORE where asked for. Lives as long as " +
        "the service's process.",
      body: EventfdCreate,
      bodyOptional: true,
      answers: { 201: withHeaders(json("The eventfd.", Eventfd), LOCATION) },
      problems: ["validation"],
      handle: async ({ body, reply }) => {
        const eventfd = await eventfds.create(bigOr(body.count, 0n), body.semaphore ?? false);
        return created(reply, `${path}/${eventfd.id}`).send(eventfdView(eventfd));
      },
    }),
    operation({
      id: "listEventfds",
      method: "GET",
      path,
      tag: "eventfds",
      scope: "vm:read",
      summary: "List eventfds",
      description: "In order of creation.",
      query: EventfdListQuery,
      answers: { 200: withHeaders(json("One page.", EventfdPage), NEXT_LINK) },
      problems: ["cursor-invalid"],
      handle: async ({ query, request, reply }) => {
        const page = await eventfds.list(query.limit ?? LIMIT_DEFAULT, query.cursor ?? null);
        linkNext(request, reply, "cursor", page.nextCursor);
        return { items: page.items.map(eventfdView), nextCursor: page.nextCursor };
      },
    }),
  ];
}

const peeked: Answer = {
  description: "The eventfd.",
  content: {
    [JSON_TYPE]: { schema: Eventfd },
    [EVENT_STREAM]: {
      schema: Type.String({
        description: "Server-sent events; each data line is an Eventfd.",
        examples: ["event: eventfd.readable\ndata: {}\n\n"],
      }),
    },
  },
};

function readAndDelete(deps: ApiDeps): readonly Operation[] {
  const { eventfds } = deps.services;
  return [
    operation({
      ...one,
      id: "getEventfd",
      method: "GET",
      scope: "vm:read",
      summary: "Peek at an eventfd",
      description:
        "Consumes nothing. With `wait` the answer comes when the count is not zero. With Accept: " +
        "text/event-stream `eventfd.readable` comes with each change that leaves a count, first " +
        "with the one that is there, and `eventfd.closed` at the end: that waits for resamples.",
      query: WaitQuery,
      sse: true,
      answers: { 200: peeked },
      problems: ["eventfd-not-found", "not-acceptable"],
      handle: async ({ params, query, request, reply }) => {
        const type = negotiate(request, [JSON_TYPE, EVENT_STREAM]);
        const sse = streamOf(reply);
        const look = (ms: number) => eventfds.get(params.id, ms);
        if (type === EVENT_STREAM && sse !== undefined && request.method === "GET") {
          // What isn't there is a problem, not a stream.
          await look(0);
          return followEventfd(deps, sse, params.id);
        }
        const waitMs = (query.wait ?? 0) * MS_PER_S;
        if (waitMs === 0) return eventfdView(await look(0));
        return eventfdView(await deps.lifecycle.unlessDraining(look(waitMs), () => look(0)));
      },
    }),
    operation({
      ...one,
      id: "deleteEventfd",
      method: "DELETE",
      scope: "vm:write",
      summary: "Close an eventfd",
      description:
        "The counter lives on while a VM refers to it; an irqfd that waits on it is detached.",
      query: DrainQuery,
      answers: { 204: empty("Closed.") },
      problems: ["eventfd-not-found"],
      handle: async ({ params, query, reply }) => {
        await eventfds.delete(params.id, query.drain ?? true);
        return reply.code(204).send();
      },
    }),
  ];
}

function change({ services }: ApiDeps): readonly Operation[] {
  const { eventfds } = services;
  return [
    operation({
      ...one,
      id: "writeEventfd",
      method: "POST",
      path: `${one.path}/writes`,
      scope: "vm:write",
      summary: "Add to an eventfd",
      description:
        "write(2): adds to the count and wakes who waits. An irqfd on it takes the count (of a " +
        "semaphore: 1), and has injected its interrupt when the answer comes.",
      query: DrainQuery,
      body: EventfdWrite,
      answers: { 200: json("The eventfd now.", Eventfd) },
      problems: ["eventfd-not-found", "eventfd-overflow", "kvm-errno"],
      handle: async ({ params, query, body }) =>
        eventfdView(await eventfds.write(params.id, big(body.value), query.drain ?? true)),
    }),
    operation({
      ...one,
      id: "readEventfd",
      method: "POST",
      path: `${one.path}/reads`,
      scope: "vm:write",
      summary: "Take an eventfd's count",
      description:
        "read(2): takes the whole count, or 1 of a semaphore; EAGAIN when it is zero. Kept until " +
        "acknowledged: repeat with the same Idempotency-Key or `after` and the same value comes " +
        "again.",
      query: AfterQuery,
      answers: { 200: json("What was taken.", EventfdRead) },
      problems: ["eventfd-not-found", "harvest-unacknowledged"],
      handle: async ({ params, query, request }) => {
        const read = await eventfds.read(params.id, consumeOf(request, query.after));
        return { id: read.id, value: hex(read.value), repeated: read.repeated };
      },
    }),
  ];
}

export function eventfdOperations(deps: ApiDeps): readonly Operation[] {
  return [...collection(deps), ...readAndDelete(deps), ...change(deps)];
}
