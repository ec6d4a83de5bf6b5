// Owns: one HTTP request to a peer: token, certificate, time limits, problems as errors.
// HTTP thread.
import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import { connectTls, PeerError, type PeerTrust } from "../../migration/index.js";
import { type PeerEntry, trustOf } from "./peers.js";

const JSON_TYPE = "application/json";
const OCTETS = "application/octet-stream";
/** Of a request that has no limit of its own. */
const CONNECT_MS_MAX = 15_000;
/** Of an answer; a session with its decisions and records is a few KiB. */
const ANSWER_BYTES_MAX = 4 * 2 ** 20;
/** Characters of an answer that is no problem, in an error. */
const QUOTED = 200;

export interface PeerRequest {
  readonly method: "GET" | "POST" | "PUT";
  readonly path: string;
  readonly body?: Uint8Array | object;
  /** Without a byte from the peer for so long, it is given up. */
  readonly timeoutMs: number;
}

/** What the peer answered: JSON, or a problem. */
interface Answer {
  readonly status: number;
  readonly text: string;
}

/** A problem of the peer, with its members. */
export class PeerProblem extends PeerError {
  readonly members: Readonly<Record<string, unknown>>;

  constructor(code: string, detail: string, members: Readonly<Record<string, unknown>>) {
    super(code, detail, members["status"] === 503 || members["status"] === 429, true);
    this.members = members;
  }
}

/** Connections whose certificate has been looked at before anything is sent. */
class PeerAgent extends Agent {
  readonly #trust: PeerTrust;

  constructor(trust: PeerTrust) {
    super({ keepAlive: true });
    this.#trust = trust;
  }

  override createConnection(
    { host, port, timeout = CONNECT_MS_MAX }: RequestOptions,
    callback?: (error: Error | null, socket: Socket) => void,
  ): undefined {
    const to = { host: host ?? "localhost", port: Number(port) };
    const socket = connectTls(to, this.#trust, (error) => {
      socket.off("timeout", mute);
      socket.setTimeout(0);
      callback?.(error, socket);
    });
    // The request's own time limit begins when it has its connection.
    const mute = (): void => {
      socket.destroy(new Error(`no answer within ${timeout} ms`));
    };
    socket.setTimeout(timeout);
    socket.on("timeout", mute);
    return undefined;
  }
}

/** The way to one peer. */
export class PeerClient {
  readonly #peer: PeerEntry;
  readonly #agent: Agent | null;

  constructor(peer: PeerEntry) {
    this.#peer = peer;
    this.#agent = peer.url.startsWith("https:") ? new PeerAgent(trustOf(peer)) : null;
  }

  /** @throws PeerError; PeerProblem when the peer answered and refuses */
  async send(request: PeerRequest): Promise<unknown> {
    const { status, text } = await this.#exchange(request);
    const isFine = status >= 200 && status < 300;
    let parsed: unknown;
    try {
      parsed = text === "" ? null : JSON.parse(text);
    } catch {
      throw this.#error("peer-answer", `answers ${status} with no JSON: ${text.slice(0, QUOTED)}`);
    }
    if (isFine) return parsed;
    const members = (parsed ?? {}) as Readonly<Record<string, unknown>>;
    const { code, detail } = members;
    const said = typeof detail === "string" ? detail : `HTTP ${status}.`;
    // Which of the engine's words it was, where the problem stands for several.
    const isEngines = code === "session-refused" || code === "session-later";
    const word = isEngines ? (members["reason"] ?? code) : code;
    const known = typeof word === "string" ? word : "peer-answer";
    throw new PeerProblem(known, `${this.#peer.name} refuses: ${said}`, { ...members, status });
  }

  close(): void {
    this.#agent?.destroy();
  }

  #exchange({ method, path, body, timeoutMs }: PeerRequest): Promise<Answer> {
    const { url, token } = this.#peer;
    const bytes = bytesOf(body);
    const headers = {
      accept: JSON_TYPE,
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(bytes === null
        ? {}
        : {
            "content-type": body instanceof Uint8Array ? OCTETS : JSON_TYPE,
            "content-length": bytes.byteLength,
          }),
    };
    const options = { method, headers, timeout: timeoutMs };
    return new Promise((resolve, reject) => {
      const fail = (error: Error): void =>
        reject(error instanceof PeerError ? error : this.#error("peer-unreachable", error.message));
      const answered = (answer: IncomingMessage): void => {
        readAnswer(answer).then(resolve, fail);
      };
      const target = new URL(path, url);
      const sent = url.startsWith("https:")
        ? httpsRequest(target, { ...options, agent: this.#agent ?? undefined }, answered)
        : httpRequest(target, options, answered);
      sent.once("error", fail);
      sent.once("timeout", () => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)));
      if (bytes === null) sent.end();
      else sent.end(bytes);
    });
  }

  #error(code: "peer-answer" | "peer-unreachable", what: string): PeerError {
    const says = code === "peer-answer" ? what : `can't be reached: ${what}`;
    return new PeerError(code, `Peer ${this.#peer.name} ${says}.`, code === "peer-unreachable");
  }
}

function bytesOf(body: Uint8Array | object | undefined): Uint8Array | null {
  if (body === undefined) return null;
  return body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body));
}

async function readAnswer(answer: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > ANSWER_BYTES_MAX) throw new Error("its answer is too long");
    chunks.push(chunk);
  }
  return { status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") };
}
