// Owns: calls of the API, typed by its own document. CLI process.
import { type Operations, ROUTES } from "../generated/client.js";
import { Failure } from "./failure.js";

const OCTETS = "application/octet-stream";
const JSON_TYPE = "application/json";
const EVENT_STREAM = "text/event-stream";
/** Of a body that is sent in steps. */
const CHUNK_BYTES = 256 * 1024;

type Name = keyof Operations;
type Params = Readonly<Record<string, string>>;

/** One server-sent event. */
export interface ServerEvent {
  readonly id: string;
  readonly event: string;
  readonly data: unknown;
}

/** A refusal of the API. */
export class Refused extends Failure {
  readonly status: number;
  readonly problem: string;
  /** The problem's own members. */
  readonly members: Readonly<Record<string, unknown>>;

  constructor(
    status: number,
    problem: string,
    detail: string,
    members: Readonly<Record<string, unknown>> = {},
  ) {
    super(detail);
    this.status = status;
    this.problem = problem;
    this.members = members;
  }
}

export class Client {
  readonly #origin: string;
  readonly #token: string | null;

  constructor(origin: string, token: string | null) {
    this.#origin = origin.replace(/\/+$/, "");
    this.#token = token;
  }

  /** @throws Refused; Failure when nobody answers */
  async call<K extends Name>(
    name: K,
    params: Params = {},
    body?: Operations[K]["body"] | Uint8Array,
    query: Params = {},
  ): Promise<Operations[K]["answer"]> {
    const isBytes = body instanceof Uint8Array;
    const type = isBytes ? OCTETS : JSON_TYPE;
    const answer = await this.#send(name, params, query, {
      headers: { accept: JSON_TYPE, ...(body === undefined ? {} : { "content-type": type }) },
      ...(body === undefined ? {} : { body: isBytes ? body : JSON.stringify(body) }),
    });
    const text = await answer.text();
    return (text === "" ? null : JSON.parse(text)) as Operations[K]["answer"];
  }

  /** A call with a long body. @param onSent hears how many bytes are on their way */
  async upload(
    name: Name,
    params: Params,
    bytes: Uint8Array,
    onSent: (sent: number) => void,
  ): Promise<void> {
    let sent = 0;
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        const chunk = bytes.subarray(sent, sent + CHUNK_BYTES);
        if (chunk.length === 0) return controller.close();
        controller.enqueue(chunk);
        sent += chunk.length;
        onSent(sent);
      },
    });
    const headers = { accept: JSON_TYPE, "content-type": OCTETS };
    const answer = await this.#send(name, params, {}, { headers, body, duplex: "half" });
    await answer.arrayBuffer();
  }

  /** An answer that is no JSON, as text. @throws as call */
  async text(name: Name, params: Params, query: Params = {}): Promise<string> {
    const answer = await this.#send(name, params, query, { headers: { accept: "*/*" } });
    return answer.text();
  }

  /** A call whose answer is wanted as bytes, with the headers that belong to them. */
  async answer(
    name: Name,
    params: Params,
    query: Params = {},
  ): Promise<{ readonly bytes: Uint8Array; readonly headers: Headers }> {
    const answer = await this.#send(name, params, query, { headers: { accept: OCTETS } });
    return { bytes: new Uint8Array(await answer.arrayBuffer()), headers: answer.headers };
  }

  async bytes(name: Name, params: Params): Promise<Uint8Array> {
    return (await this.answer(name, params)).bytes;
  }

  /** Follows an event stream until it ends. */
  async *follow(
    name: Name,
    params: Params,
    lastId: string,
    signal: AbortSignal,
  ): AsyncGenerator<ServerEvent> {
    const headers = { accept: EVENT_STREAM, ...(lastId === "" ? {} : { "last-event-id": lastId }) };
    const answer = await this.#send(name, params, {}, { headers, signal });
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of answer.body ?? []) {
      rest += decoder.decode(chunk as Uint8Array, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event !== null) yield event;
      }
    }
  }

  async #send(name: Name, params: Params, query: Params, init: RequestInit): Promise<Response> {
    const [method, template] = ROUTES[name];
    const path = template.replace(/\{(\w+)\}/g, (_all: string, param: string) =>
      encodeURIComponent(params[param] ?? ""),
    );
    const search = new URLSearchParams(query).toString();
    const url = `${this.#origin}${path}${search === "" ? "" : `?${search}`}`;
    const auth = this.#token === null ? {} : { authorization: `Bearer ${this.#token}` };
    let answer: Response;
    try {
      answer = await fetch(url, { ...init, method, headers: { ...init.headers, ...auth } });
    } catch (error) {
      if ((error as Error).name === "AbortError") throw error;
      const { cause, message } = error as Error & { readonly cause?: Error };
      throw new Failure(`No answer from ${this.#origin}: ${cause?.message ?? message}`);
    }
    if (answer.ok) return answer;
    throw await refusalOf(answer);
  }
}

async function refusalOf(answer: Response): Promise<Refused> {
  const text = await answer.text();
  try {
    const members = JSON.parse(text) as Readonly<Record<string, string>>;
    const { code, title, detail } = members;
    return new Refused(answer.status, code ?? "", detail ?? title ?? text, members);
  } catch {
    return new Refused(answer.status, "", `HTTP ${answer.status}: ${text.slice(0, 200)}`);
  }
}

/** @returns null for a comment, which keeps the connection alive */
function parseEvent(block: string): ServerEvent | null {
  const fields = new Map<string, string>();
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const value = line.slice(at + 1).replace(/^ /, "");
    const name = line.slice(0, at);
    const before = fields.get(name);
    fields.set(name, before === undefined ? value : `${before}\n${value}`);
  }
  const data = fields.get("data");
  if (data === undefined) return null;
  const event = fields.get("event") ?? "message";
  return { id: fields.get("id") ?? "", event, data: JSON.parse(data) as unknown };
}
