// Owns: the way to the target over HTTP: for each channel one long POST whose answer tells line by
// line how far the target is; another whose answer tells which pages it waits for. Data-plane
// thread.
//
// From version 2 on a channel's POST asks for an upgrade: then frames and lines are all that the
// connection carries. Of a POST's body each write would be three, and each read one more.
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { Duplex, Readable } from "node:stream";
import type { Clock } from "../../base/clock.js";
import type { OutgoingSpec } from "../ports.js";
import type { PageRequest } from "../wire/demands.js";
import { isUpgraded } from "../wire/frame.js";
import type {
  Applied,
  ChannelConnection,
  ChannelListener,
  ChannelTransport,
  DemandTransport,
} from "../wire/transport.js";
import { bodyOf, errorOfProblem } from "./problem.js";
import { openSocket, UPGRADE } from "./socket.js";

/** A line of an answer is shorter. */
const LINE_CHARS_MAX = 16_384;

type Spec = Omit<OutgoingSpec, "sequences">;
/** What a request carries: nothing, frames as its body, or frames in its place. */
type Carries = "nothing" | "body" | "upgrade";

const HEADERS: Readonly<Record<Carries, Readonly<Record<string, string>>>> = {
  nothing: { connection: "close" },
  body: {
    connection: "close",
    "content-type": "application/octet-stream",
    "transfer-encoding": "chunked",
  },
  upgrade: {
    connection: "upgrade",
    upgrade: UPGRADE,
    "content-type": "application/octet-stream",
    "content-length": "0",
  },
};

async function requestTo(
  spec: Spec,
  clock: Clock,
  method: "GET" | "POST",
  path: string,
  carries: Carries,
): Promise<ClientRequest> {
  const socket = await openSocket(spec, clock);
  return request({
    method,
    path: `/v1/streams/${encodeURIComponent(spec.session)}/${path}`,
    createConnection: () => socket,
    headers: {
      host: new URL(spec.url).host,
      authorization: `Bearer ${spec.secret}`,
      ...HEADERS[carries],
    },
  });
}

export class HttpTransport implements ChannelTransport {
  readonly #spec: Spec;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #stallMs: number;

  /** @param stallMs longest time without an answer */
  constructor(spec: Spec, channel: number, clock: Clock, stallMs: number) {
    this.#spec = spec;
    this.#clock = clock;
    this.#stallMs = stallMs;
    this.#path = `channels/${channel}`;
  }

  async applied(): Promise<Applied> {
    const call = await requestTo(this.#spec, this.#clock, "GET", this.#path, "nothing");
    call.setTimeout(this.#stallMs, () => call.destroy(new Error("the target says nothing")));
    call.end();
    const { answer } = await answered(call, this.#clock, this.#stallMs);
    const text = await bodyOf(answer);
    if (answer.statusCode !== 200) throw refusalOf(answer, text);
    const applied = appliedOf(text);
    if (applied === null) throw new Error("the target's answer can't be read");
    return applied;
  }

  async connect(offset: number, listener: ChannelListener): Promise<ChannelConnection> {
    const path = `${this.#path}?offset=${offset}`;
    const carries = isUpgraded(this.#spec.stream) ? "upgrade" : "body";
    const call = await requestTo(this.#spec, this.#clock, "POST", path, carries);
    // The target answers before it has read anything; so a refusal costs no pages.
    if (carries === "body") call.flushHeaders();
    else call.end();
    const { answer, connection } = await answered(call, this.#clock, this.#stallMs);
    const isMine = carries === "body" ? answer.statusCode === 200 : connection !== null;
    if (!isMine) throw refusalOf(answer, await bodyOf(answer));
    const lines = new AnswerLines(
      connection ?? call,
      connection ?? answer,
      (line) => {
        const applied = appliedOf(line);
        if (applied !== null) listener.onApplied(applied);
        return applied !== null;
      },
      listener,
    );
    const out = connection ?? call;
    return {
      write: (bytes) => {
        if (lines.isOpen) out.write(bytes);
      },
      close: () => lines.close(),
    };
  }
}

/** Which pages the target asks for: lines of one long answer. */
export class HttpDemands implements DemandTransport {
  readonly #spec: Spec;
  readonly #clock: Clock;
  readonly #stallMs: number;

  /** @param stallMs longest time without a sign of life */
  constructor(spec: Spec, clock: Clock, stallMs: number) {
    this.#spec = spec;
    this.#clock = clock;
    this.#stallMs = stallMs;
  }

  async listen(listener: {
    onRequest(object: number, page: number): void;
    onClosed(error: Error): void;
  }): Promise<{ close(): void }> {
    const call = await requestTo(this.#spec, this.#clock, "POST", "demands", "nothing");
    // The target says something every second, if only that it is there.
    call.setTimeout(this.#stallMs, () => call.destroy(new Error("the target says nothing")));
    call.end();
    const { answer } = await answered(call, this.#clock, this.#stallMs);
    if (answer.statusCode !== 200) throw refusalOf(answer, await bodyOf(answer));
    return new AnswerLines(
      call,
      answer,
      (line) => {
        const asked = requestOf(line);
        if (asked !== null) listener.onRequest(asked.object, asked.page);
        return asked !== null;
      },
      listener,
    );
  }
}

interface Answered {
  readonly answer: IncomingMessage;
  /** What is left when HTTP has let go of it; null: HTTP goes on. */
  readonly connection: Duplex | null;
}

function answered(call: ClientRequest, clock: Clock, withinMs: number): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const cancel = clock.timer(withinMs, () => call.destroy(new Error("the target says nothing")));
    call.once("response", (answer) => resolve({ answer, connection: null }));
    call.once("upgrade", (answer, connection, head) => {
      if (head.length > 0) connection.unshift(head);
      resolve({ answer, connection });
    });
    call.once("error", reject);
    call.once("close", () => reject(new Error("the connection ended without an answer")));
    for (const event of ["response", "upgrade", "close"]) call.once(event, cancel);
  });
}

function refusalOf(answer: IncomingMessage, text: string): Error {
  return errorOfProblem(text) ?? new Error(`the target answers ${answer.statusCode}`);
}

function appliedOf(line: string): Applied | null {
  try {
    const { offset, frame } = JSON.parse(line) as Partial<Applied>;
    return typeof offset === "number" && typeof frame === "number" ? { offset, frame } : null;
  } catch {
    return null;
  }
}

function requestOf(line: string): PageRequest | null {
  try {
    const { object, page } = JSON.parse(line) as Partial<PageRequest>;
    return typeof object === "number" && typeof page === "number" ? { object, page } : null;
  } catch {
    return null;
  }
}

/** An answer that comes line by line for as long as the connection lives. */
class AnswerLines {
  readonly #call: ClientRequest | Duplex;
  readonly #take: (line: string) => boolean;
  readonly #listener: { onClosed(error: Error): void };
  #rest = "";
  isOpen = true;

  /** @param take says whether it knows what the line is; else it may be a refusal */
  constructor(
    call: ClientRequest | Duplex,
    answer: Readable,
    take: (line: string) => boolean,
    listener: { onClosed(error: Error): void },
  ) {
    this.#call = call;
    this.#take = take;
    this.#listener = listener;
    answer.setEncoding("utf8");
    answer.on("data", (text: string) => this.#read(text));
    const ended = (): void => this.#end(new Error("the target has ended the connection"));
    answer.once("end", ended);
    answer.once("close", ended);
    answer.once("error", (error) => this.#end(error));
    call.on("error", (error) => this.#end(error));
  }

  close(): void {
    this.isOpen = false;
    // What the target has confirmed is there; nothing else is worth a wait.
    this.#call.destroy();
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!this.isOpen) return;
      if (line === "" || this.#take(line)) continue;
      this.#end(errorOfProblem(line) ?? new Error("the target's answer can't be read"));
    }
    if (this.#rest.length > LINE_CHARS_MAX) this.#end(new Error("the target's answer has no end"));
  }

  #end(error: Error): void {
    if (!this.isOpen) return;
    this.close();
    this.#listener.onClosed(error);
  }
}
