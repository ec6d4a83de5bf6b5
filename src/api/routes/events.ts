// Owns: /v1/events: the service's history as a list, or as server-sent events. HTTP thread.
//
//   server.ready ─▶ (gap)? ─▶ what was missed ─▶ what happens ─▶ … ─▶ server.draining
// The stream pulls from the history, so a slow reader costs no memory: it only falls behind.
import type { FastifyRequest } from "fastify";
import Type from "typebox";
import { EVENT_STREAM, invalid, JSON_TYPE, negotiate } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { Events, EventsQuery } from "../schemas/service.schema.js";
import { type Stream, streamOf } from "../sse.js";
import { linkNext } from "../support.js";

const LIMIT_DEFAULT = 100;
/** Events fetched from the history at a time. */
const BATCH = 500;
/** What a client waits before it connects again, milliseconds. */
const RETRY_MS = 2000;

/** Last-Event-ID, else `after`, else null: only what happens from now on. */
function startOf(request: FastifyRequest, after: number | undefined): number | null {
  const header = request.headers["last-event-id"];
  if (header === undefined || header === "") return after ?? null;
  const id = Number(header);
  if (Number.isSafeInteger(id) && id >= 0) return id;
  throw invalid("/header/Last-Event-ID", "is not an event id");
}

/** A stream's cursor through the history. */
class Follower {
  readonly #deps: ApiDeps;
  readonly #stream: Stream;
  #cursor: number;
  #wake: () => void = () => {};
  #ended: "no" | "closed" | "draining" = "no";
  readonly #closed: Promise<void>;

  constructor(deps: ApiDeps, stream: Stream, cursor: number) {
    this.#deps = deps;
    this.#stream = stream;
    this.#cursor = cursor;
    this.#closed = new Promise((resolve) => {
      stream.onClose(() => {
        this.#ended = "closed";
        this.#wake();
        resolve();
      });
    });
  }

  /** Runs until the client goes or the service drains. */
  async follow(): Promise<void> {
    const { events } = this.#deps.services;
    const withdraw = this.#deps.lifecycle.onDrain(() => {
      this.#ended = "draining";
      this.#wake();
    });
    const unsubscribe = events.subscribe(() => this.#wake());
    try {
      await this.#ready();
      while (this.#ended === "no") await this.#step();
      if (this.#ended === "draining") await this.#send("server.draining", {}, null);
    } finally {
      unsubscribe();
      withdraw();
    }
  }

  async #ready(): Promise<void> {
    const { events } = this.#deps.services;
    const data = { oldest: events.oldest(), newest: events.newest(), after: this.#cursor };
    await this.#write({ id: String(this.#cursor), event: "server.ready", data, retry: RETRY_MS });
  }

  async #step(): Promise<void> {
    const { events } = this.#deps.services;
    // Armed before the look, so that an event between the two wakes us.
    const news = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const { items, gap } = await events.list(this.#cursor, BATCH);
    if (gap && items.length === 0) await this.#gap(events.newest() + 1);
    for (const event of items) {
      if (this.#ended === "closed") return;
      // Told where it is: what came before it in this batch is whole.
      if (event.id !== this.#cursor + 1) await this.#gap(event.id);
      await this.#send(event.type, event, event.id);
      this.#cursor = event.id;
    }
    if (items.length === 0 && this.#ended === "no") await news;
  }

  /** History between the cursor and `next` is lost; says so once. */
  async #gap(next: number): Promise<void> {
    const data = { after: this.#cursor, next };
    this.#cursor = Math.max(0, next - 1);
    await this.#send("gap", data, this.#cursor);
  }

  #send(event: string, data: unknown, id: number | null): Promise<void> {
    return this.#write({ ...(id === null ? {} : { id: String(id) }), event, data });
  }

  /** Never hangs on a reader that is gone. */
  async #write(message: Parameters<Stream["send"]>[0]): Promise<void> {
    if (!this.#stream.isConnected) return;
    await Promise.race([this.#stream.send(message), this.#closed]);
  }
}

async function stream(deps: ApiDeps, sse: Stream, start: number | null): Promise<void> {
  const cursor = start ?? deps.services.events.newest();
  deps.metrics.streams(1);
  try {
    sse.sendHeaders();
    await new Follower(deps, sse, cursor).follow();
  } finally {
    deps.metrics.streams(-1);
  }
}

export function eventOperations(deps: ApiDeps): readonly Operation[] {
  const { events } = deps.services;
  return [
    operation({
      id: "listEvents",
      method: "GET",
      path: "/v1/events",
      tag: "events",
      scope: "events:read",
      sse: true,
      summary: "Read or follow the service's history",
      description:
        "A list, or with Accept: text/event-stream a stream: first `server.ready`, then what " +
        "was missed since Last-Event-ID (or `after`), then what happens. `gap` says that events " +
        "were lost: read the resources anew. A comment line comes at least every 15 seconds.",
      query: EventsQuery,
      headers: {
        "Last-Event-ID": {
          description: "Id of the last event that was seen.",
          schema: Type.String({ maxLength: 20 }),
        },
      },
      answers: {
        200: {
          ...json("The events.", Events),
          headers: { Link: { description: 'rel="next".', schema: Type.String() } },
          content: {
            [JSON_TYPE]: { schema: Events },
            [EVENT_STREAM]: {
              schema: Type.String({
                description: "Server-sent events; each data line is an Event.",
                examples: ["id: 42\nevent: vm.created\ndata: {}\n\n"],
              }),
            },
          },
        },
      },
      problems: ["not-acceptable"],
      handle: async ({ query, request, reply }) => {
        const type = negotiate(request, [JSON_TYPE, EVENT_STREAM]);
        const sse = streamOf(reply);
        // HEAD asks for the headers of an answer that ends.
        if (type === EVENT_STREAM && sse !== undefined && request.method === "GET") {
          return stream(deps, sse, startOf(request, query.after));
        }
        const after = query.after ?? Math.max(0, events.oldest() - 1);
        const limit = query.limit ?? LIMIT_DEFAULT;
        const { items, gap } = await events.list(after, limit);
        const last = items.length === limit ? items.at(-1) : undefined;
        linkNext(request, reply, "after", last === undefined ? null : String(last.id));
        return { items, gap, oldest: events.oldest(), newest: events.newest() };
      },
    }),
  ];
}
