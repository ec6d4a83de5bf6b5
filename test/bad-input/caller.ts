// Owns: requests as they stand, and what must be true of every answer: it is documented, it is a
// problem when it refuses, and it is no 5xx but the allowed ones. Test process.
import { type Dispatcher, Pool } from "undici";
import { Contract } from "../support/contract.js";

const ALLOWED_5XX = new Set([501, 503, 507]);
const ANSWER_MS = 30_000;

export interface Message {
  readonly method: string;
  /** Path and query; sent as it is. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer | undefined;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly bytes: Buffer;
  readonly text: string;
  /** Parsed when it is JSON, else undefined. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers freely
  readonly json: any;
}

const PROBLEM = "application/problem+json";

/** One line about a message, for failures. */
export function told(message: Message, answer?: Answer): string {
  const body = message.body === undefined ? "" : ` ${String(message.body).slice(0, 600)}`;
  const headers = JSON.stringify(message.headers ?? {});
  const got = answer === undefined ? "" : `\n→ ${answer.status} ${answer.text.slice(0, 600)}`;
  return `${message.method} ${message.path} ${headers}${body}${got}`;
}

export class Caller {
  readonly contract: Contract;
  readonly #pool: Pool;

  private constructor(pool: Pool, contract: Contract) {
    this.#pool = pool;
    this.contract = contract;
  }

  static async open(origin: string): Promise<Caller> {
    const pool = new Pool(origin, {
      connections: 64,
      headersTimeout: ANSWER_MS,
      bodyTimeout: ANSWER_MS,
    });
    const document = await pool.request({ path: "/openapi.json", method: "GET" });
    return new Caller(pool, new Contract((await document.body.json()) as Record<string, unknown>));
  }

  /** Sends it and checks the answer. @throws Error that tells both, when a rule is broken */
  async send(message: Message): Promise<Answer> {
    const answer = await this.sendUnchecked(message);
    this.check(message, answer);
    return answer;
  }

  async sendUnchecked(message: Message): Promise<Answer> {
    let response: Dispatcher.ResponseData;
    let bytes: Buffer;
    try {
      response = await this.#pool.request({
        path: message.path,
        method: message.method as Dispatcher.HttpMethod,
        headers: message.headers ?? {},
        body: message.body ?? null,
      });
      bytes = Buffer.from(await response.body.arrayBuffer());
    } catch (error) {
      throw new Error(`no answer (${(error as Error).message}) to ${told(message)}`);
    }
    const type = String(response.headers["content-type"] ?? "");
    const text = type.includes("octet-stream") ? `(${bytes.length} bytes)` : bytes.toString("utf8");
    const json = type.includes("json") && text !== "" ? JSON.parse(text) : undefined;
    return { status: response.statusCode, headers: response.headers, bytes, text, json };
  }

  check(message: Message, answer: Answer): void {
    const { status, headers } = answer;
    const fail = (why: string): never => {
      throw new Error(`${why}\n${told(message, answer)}`);
    };
    if (status >= 500 && !ALLOWED_5XX.has(status)) fail(`a ${status}`);
    if (status >= 400) {
      const type = String(headers["content-type"]);
      if (!type.startsWith(PROBLEM)) fail(`a refusal of type ${type}`);
      if (answer.json.status !== status) fail("the problem has another status");
      if (headers["traceparent"] === undefined) fail("a refusal without traceparent");
    }
    try {
      // What is said to be a path may be any text; only documented ones have a page.
      const body = answer.json ?? answer.bytes;
      const text = answer.json === undefined ? (answer.bytes.length === 0 ? "" : "x") : answer.text;
      const isOdd = status >= 400 && /[^!-~]|\.\.|%|\/\//.test(message.path.split("?")[0] ?? "");
      if (!isOdd)
        this.contract.check(message.method, message.path, { status, headers, body, text });
    } catch (error) {
      fail((error as Error).message);
    }
  }

  async get(path: string): Promise<Answer> {
    return this.send({ method: "GET", path });
  }

  async json(method: string, path: string, body?: unknown, headers = {}): Promise<Answer> {
    const isPatch = method === "PATCH";
    const type = { "content-type": isPatch ? "application/merge-patch+json" : "application/json" };
    return this.send({
      method,
      path,
      headers: body === undefined ? headers : { ...type, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}
