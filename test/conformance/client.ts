// Owns: HTTP towards the service under test: kept-alive connections, problems with their errno.
// Any thread.
import { Pool } from "undici";
import type { Args, Outcome } from "./line.js";

export interface RequestOptions {
  /** A JSON body. */
  readonly json?: unknown;
  /** An application/octet-stream body. */
  readonly bytes?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** Enough of a request to repeat it by hand. */
const REQUEST_TEXT_MAX = 300;

export class Client {
  readonly #pool: Pool;
  readonly #token: string | null;
  /** The last request, for the report of a difference. */
  lastRequest = "none";
  requests = 0;

  constructor(origin: string, token: string | null = null) {
    this.#pool = new Pool(origin, { connections: 4, pipelining: 1 });
    this.#token = token;
  }

  async send(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    const headers: Record<string, string> = { ...options.headers };
    let body: string | Uint8Array | null = null;
    if (options.bytes !== undefined) {
      headers["content-type"] = "application/octet-stream";
      body = options.bytes;
    } else if (options.json !== undefined) {
      headers["content-type"] = "application/json";
      body = JSON.stringify(options.json);
    }
    if (this.#token !== null) headers["authorization"] = `Bearer ${this.#token}`;
    this.lastRequest = requestText(method, path, body);
    this.requests += 1;
    const answer = await this.#pool.request({
      method: method as "GET",
      path,
      headers,
      body: body as string | null,
    });
    const bytes = Buffer.from(await answer.body.arrayBuffer());
    return { status: answer.statusCode, headers: answer.headers, body: bytes };
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}

function requestText(method: string, path: string, body: string | Uint8Array | null): string {
  if (body === null) return `${method} ${path}`;
  const text = typeof body === "string" ? body : `<${body.length} bytes>`;
  const cut = text.length > REQUEST_TEXT_MAX ? `${text.slice(0, REQUEST_TEXT_MAX)}…` : text;
  return `${method} ${path} ${cut}`;
}

export function isOk(answer: Answer): boolean {
  return answer.status >= 200 && answer.status < 300;
}

/** A JSON object answer. */
export function jsonOf(answer: Answer): Record<string, unknown> {
  const value: unknown = JSON.parse(answer.body.toString("utf8"));
  if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  throw new Error(`answer is not a JSON object: ${answer.body.toString("utf8").slice(0, 200)}`);
}

/**
 * A refusal in the recorder's words. The errno is the problem's own; it is never guessed from the
 * status, so a problem without one shows as a text that equals no errno.
 */
export function refusal(answer: Answer): Outcome {
  const text = answer.body.toString("utf8");
  let problem: Record<string, unknown> = {};
  try {
    problem = jsonOf(answer);
  } catch {
    // Not a problem document; the text below says what came instead.
  }
  // An answer to HEAD has no body; a refusal says its errno in a header too.
  const errno = problem["errno"] ?? answer.headers["errno"];
  if (typeof errno === "string") return { ret: -1, errno, out: {} };
  const code = String(problem["code"] ?? "no code");
  const detail = String(problem["detail"] ?? text).slice(0, 200);
  const sentence = `refusal without errno (status ${answer.status}, ${code}: ${detail})`;
  return { ret: -1, errno: sentence, out: {} };
}

export function success(out: Args = {}, ret = 0): Outcome {
  return { ret, errno: null, out };
}

/** Success with a fixed out, or the refusal. */
export function plainOutcome(answer: Answer, out: Args = {}): Outcome {
  return isOk(answer) ? success(out) : refusal(answer);
}
