// Owns: a board's console: reading, following, typing. HTTP thread.
//
//   follow:  (gap)? ─▶ what is kept ─▶ what comes ─▶ … ─▶ server.draining
// The stream pulls from the VM, so a slow reader costs no memory: it falls behind, then a gap.
import type { FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../../base/errors.js";
import { EVENT_STREAM, invalid, negotiate, TEXT_TYPE } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import {
  ConsoleQuery,
  ConsoleStream,
  ConsoleText,
  TYPED_BYTES_MAX,
  Typed,
  TypedAnswer,
  TypedBytes,
} from "../schemas/board.schema.js";
import { count, VmParams } from "../schemas/common.schema.js";
import { type Stream, streamOf } from "../sse.js";

const LIMIT_MAX = 1 << 20;
/** Bytes of one event of a stream. */
const PIECE_BYTES = 16_384;
/** A guest sends byte by byte: what comes within this time is one event. Milliseconds. */
const GATHER_MS = 15;
const RETRY_MS = 2000;

const at = { tag: "boards", path: "/v1/vms/{vm}/console", params: VmParams } as const;
const problems = ["vm-not-found", "vm-not-active", "no-board"] as const;

/** A stream's place in the console. */
class Follower {
  readonly #deps: ApiDeps;
  readonly #vm: string;
  readonly #stream: Stream;
  readonly #closed: Promise<void>;
  #next: number;
  #state = "";
  #decoder = new TextDecoder();
  #wake: () => void = () => {};
  #ended: "no" | "closed" | "draining" = "no";

  constructor(deps: ApiDeps, vm: string, stream: Stream, next: number) {
    this.#deps = deps;
    this.#vm = vm;
    this.#stream = stream;
    this.#next = next;
    this.#closed = new Promise((resolve) => {
      stream.onClose(() => {
        this.#end("closed");
        resolve();
      });
    });
  }

  /** Runs until the client goes, the VM ends or the service drains. */
  async follow(): Promise<void> {
    const { services, lifecycle } = this.#deps;
    const withdraw = lifecycle.onDrain(() => this.#end("draining"));
    const unsubscribe = [
      services.vms.onBoardNews(this.#vm, () => this.#wake()),
      // A VM that is stopped or deleted has no more news of its own.
      services.events.subscribe(({ subject }) => {
        if (subject === `vms/${this.#vm}`) this.#wake();
      }),
    ];
    try {
      while (this.#ended === "no") await this.#step();
      if (this.#ended === "draining") await this.#send("server.draining", {});
    } catch (error) {
      // The VM ended: so does what its console says.
      if (!(error instanceof ServiceError)) throw error;
      await this.#send("console.end", { reason: error.message });
    } finally {
      for (const end of unsubscribe) end();
      withdraw();
    }
  }

  #end(how: "closed" | "draining"): void {
    this.#ended = how;
    this.#wake();
  }

  async #step(): Promise<void> {
    // Armed before the look, so that news between the two wakes us.
    const news = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const { vms } = this.#deps.services;
    // The state first: what a guest said before it went off is never behind the news of it.
    const board = (await vms.command(this.#vm, "describeBoard", {})).value;
    const args = { offset: this.#next, limit: PIECE_BYTES };
    const { offset, bytes } = (await vms.command(this.#vm, "readConsole", args)).value;
    if (offset !== this.#next) await this.#gap(offset);
    if (bytes.length > 0) await this.#output(bytes);
    if (bytes.length === PIECE_BYTES) return;
    if (board.state !== this.#state) {
      this.#state = board.state;
      await this.#send("board.state", { state: board.state, reason: board.reason });
    }
    if (this.#ended === "no") await news;
    if (this.#ended === "no") await this.#deps.clock.sleep(GATHER_MS);
  }

  async #output(bytes: Uint8Array): Promise<void> {
    const offset = this.#next;
    this.#next += bytes.length;
    const text = this.#decoder.decode(bytes, { stream: true });
    await this.#send("console.output", { offset, next: this.#next, text });
  }

  async #gap(next: number): Promise<void> {
    const data = { after: this.#next, next };
    this.#next = next;
    this.#decoder = new TextDecoder();
    await this.#send("gap", data);
  }

  /** Never hangs on a reader that is gone. */
  async #send(event: string, data: unknown): Promise<void> {
    if (!this.#stream.isConnected) return;
    const message = { id: String(this.#next), event, data, retry: RETRY_MS };
    await Promise.race([this.#stream.send(message), this.#closed]);
  }
}

/** Last-Event-ID, else `offset`, else the beginning. */
function startOf(request: FastifyRequest, offset: number | undefined): number {
  const header = request.headers["last-event-id"];
  if (header === undefined || header === "") return offset ?? 0;
  const next = Number(header);
  if (Number.isSafeInteger(next) && next >= 0) return next;
  throw invalid("/header/Last-Event-ID", "is not an offset");
}

async function sendText(
  deps: ApiDeps,
  reply: FastifyReply,
  vm: string,
  query: { readonly offset?: number; readonly limit?: number },
): Promise<FastifyReply> {
  const args = { offset: query.offset ?? 0, limit: query.limit ?? LIMIT_MAX };
  const { vms } = deps.services;
  const { offset, bytes, oldest, end } = (await vms.command(vm, "readConsole", args)).value;
  if (query.offset !== undefined && query.offset < oldest) {
    throw new ServiceError(
      "console-lost",
      `Output before offset ${oldest} is not kept: read on from there.`,
      { oldest, end },
    );
  }
  return reply
    .type(`${TEXT_TYPE}; charset=utf-8`)
    .header("console-offset", String(offset))
    .header("console-next", String(offset + bytes.length))
    .header("console-end", String(end))
    .header("cache-control", "no-store")
    .send(Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength));
}

function read(deps: ApiDeps): Operation {
  return operation({
    ...at,
    id: "readConsole",
    method: "GET",
    scope: "vm:read",
    sse: true,
    summary: "Read or follow the console",
    description:
      "What the guest sent, as text/plain from `offset` on; Console-Next is the offset to go on " +
      "from. The newest mebibyte is kept. With Accept: text/event-stream: from `offset` or " +
      "Last-Event-ID on, and then what comes.",
    query: ConsoleQuery,
    headers: {
      "Last-Event-ID": { description: "Id of the last event that was seen.", schema: ConsoleText },
    },
    answers: {
      200: {
        description: "The output.",
        content: {
          [TEXT_TYPE]: { schema: ConsoleText },
          [EVENT_STREAM]: { schema: ConsoleStream },
        },
        headers: {
          "Console-Offset": { description: "Offset of the first byte.", schema: count("") },
          "Console-Next": { description: "Offset behind the last byte.", schema: count("") },
          "Console-End": { description: "Offset behind all output so far.", schema: count("") },
        },
      },
    },
    problems: [...problems, "console-lost", "not-acceptable"],
    handle: async ({ params, query, request, reply }) => {
      const type = negotiate(request, [TEXT_TYPE, EVENT_STREAM]);
      const sse = streamOf(reply);
      if (type !== EVENT_STREAM || sse === undefined || request.method !== "GET") {
        return sendText(deps, reply, params.vm, query);
      }
      const start = startOf(request, query.offset);
      // A refusal while there is still an answer to be one.
      await deps.services.vms.command(params.vm, "describeBoard", {});
      deps.metrics.streams(1);
      try {
        sse.sendHeaders();
        await new Follower(deps, params.vm, sse, start).follow();
      } finally {
        deps.metrics.streams(-1);
      }
      return undefined;
    },
  });
}

function type({ services }: ApiDeps): Operation {
  return operation({
    ...at,
    id: "typeConsole",
    method: "POST",
    scope: "vm:write",
    summary: "Type on the console",
    description:
      "Bytes that the UART receives, in order, as fast as the guest takes them; all or none: " +
      "octet-stream as it is, or JSON text as UTF-8. An input of the VM like any other: a replay " +
      "types the same at the same instruction.",
    body: Typed,
    octets: { schema: TypedBytes, limit: TYPED_BYTES_MAX },
    answers: { 200: json("What was taken.", TypedAnswer) },
    problems: [...problems, "console-full", "vm-replaying"],
    handle: async ({ params, body }) => {
      const bytes = body instanceof Uint8Array ? body : new TextEncoder().encode(body.text);
      return (await services.vms.command(params.vm, "typeConsole", { bytes })).value;
    },
  });
}

export function consoleOperations(deps: ApiDeps): readonly Operation[] {
  return [read(deps), type(deps)];
}
