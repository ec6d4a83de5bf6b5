// Owns: an HTTP proxy between two hosts that may delay, drop, repeat or change what they ask each
// other. Test process.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface Answered {
  readonly status: number;
  readonly type: string;
  readonly body: Buffer;
}

/** What becomes of a request; null: the connection is cut without an answer. */
export type Hop = (asked: Asked, forward: Forward) => Promise<Answered | null>;
export type Forward = (asked: Asked) => Promise<Answered>;

const KEPT_HEADERS = ["accept", "authorization", "content-type"] as const;
const straight: Hop = (asked, forward) => forward(asked);

export class RequestProxy {
  hop: Hop = straight;
  /** Every request that came, as it came. */
  readonly asked: Asked[] = [];
  readonly #target: string;
  readonly #server: Server;

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer((request, answer) => {
      this.#serve(request, answer).catch(() => request.socket.destroy());
    });
  }

  static async start(target: string): Promise<RequestProxy> {
    const proxy = new RequestProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  reset(): void {
    this.hop = straight;
    this.asked.length = 0;
  }

  readonly forward: Forward = async ({ method, path, headers, body }) => {
    const more = method === "GET" ? {} : { body: Uint8Array.from(body) };
    const answer = await fetch(`${this.#target}${path}`, { method, headers, ...more });
    return {
      status: answer.status,
      type: answer.headers.get("content-type") ?? "",
      body: Buffer.from(await answer.arrayBuffer()),
    };
  };

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, answer: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const { method = "GET", url: path = "/" } = request;
    const headers: Record<string, string> = {};
    for (const name of KEPT_HEADERS) {
      const value = request.headers[name];
      if (value !== undefined) headers[name] = value;
    }
    const asked = { method, path, headers, body: Buffer.concat(chunks) };
    this.asked.push(asked);
    const answered = await this.hop(asked, this.forward);
    if (answered === null) {
      request.socket.destroy();
      return;
    }
    const { status, type, body } = answered;
    answer.writeHead(status, { "content-type": type, "content-length": body.length });
    answer.end(body);
  }
}
