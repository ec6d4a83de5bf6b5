// Owns: the bench's HTTP client: one keep-alive connection that costs as little as it can, because
// whatever it costs is in both sides of a ratio and hides the difference. Bench process.
import { connect, type Socket } from "node:net";

export interface Answer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  /** Bytes of the body; it is kept only where the request said so. */
  readonly bytes: number;
  readonly body: Buffer;
}

export interface RequestOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Keep the body's bytes; counted only by default. */
  readonly keep?: boolean;
}

const HEAD_END = Buffer.from("\r\n\r\n");
const EMPTY = Buffer.alloc(0);
const WITHOUT_BODY = new Set([204, 304]);

interface Waiting {
  readonly keep: boolean;
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

/** One request at a time; the next may be sent when the last was answered. */
export class Connection {
  readonly #port: number;
  #socket: Socket;
  #waiting: Waiting | null = null;
  #head: Buffer = EMPTY;
  #status = 0;
  #headers = new Map<string, string>();
  /** Bytes of the body that are still to come; -1 while the head is read. */
  #left = -1;
  #bytes = 0;
  #kept: Buffer[] = [];

  static open(port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const connection = new Connection(port);
      connection.#socket.once("error", reject);
      connection.#socket.once("connect", () => resolve(connection));
    });
  }

  private constructor(port: number) {
    this.#port = port;
    this.#socket = this.#connect();
  }

  #connect(): Socket {
    const socket = connect({ port: this.#port, host: "127.0.0.1", noDelay: true });
    const fail = (error: Error) => {
      if (socket === this.#socket) this.#fail(error);
    };
    socket.on("data", (chunk) => this.#data(chunk));
    socket.on("error", fail);
    socket.on("close", () => fail(new Error("the service closed the connection")));
    return socket;
  }

  request(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    const { headers = {}, body, keep = false } = options;
    // A service closes what was idle for long.
    if (this.#socket.destroyed) this.#socket = this.#connect();
    let head = `${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1:${this.#port}\r\n`;
    for (const [name, value] of Object.entries(headers)) head += `${name}: ${value}\r\n`;
    if (body !== undefined) head += `content-length: ${body.length}\r\n`;
    return new Promise((resolve, reject) => {
      if (this.#waiting !== null) throw new Error("the last request is not answered yet");
      this.#waiting = { keep, resolve, reject };
      this.#socket.cork();
      this.#socket.write(`${head}\r\n`);
      if (body !== undefined) this.#socket.write(body);
      this.#socket.uncork();
    });
  }

  close(): void {
    this.#waiting = null;
    this.#socket.destroy();
  }

  #fail(error: Error): void {
    this.#waiting?.reject(error);
    this.#waiting = null;
  }

  #data(chunk: Buffer): void {
    let rest = chunk;
    if (this.#left < 0) {
      const all = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
      const end = all.indexOf(HEAD_END);
      if (end < 0) {
        this.#head = all;
        return;
      }
      this.#readHead(all.toString("latin1", 0, end));
      this.#head = EMPTY;
      rest = all.subarray(end + HEAD_END.length);
    }
    if (rest.length > 0 && this.#waiting?.keep === true) this.#kept.push(rest);
    this.#bytes += rest.length;
    this.#left -= rest.length;
    if (this.#left === 0) this.#answered();
  }

  #readHead(text: string): void {
    const [first = "", ...lines] = text.split("\r\n");
    this.#status = Number(first.split(" ")[1]);
    this.#headers = new Map();
    for (const line of lines) {
      const at = line.indexOf(":");
      this.#headers.set(line.slice(0, at).toLowerCase(), line.slice(at + 1).trim());
    }
    const length = this.#headers.get("content-length");
    if (length === undefined && !WITHOUT_BODY.has(this.#status)) {
      this.#fail(new Error(`an answer without content-length: ${first}`));
    }
    this.#left = WITHOUT_BODY.has(this.#status) ? 0 : Number(length ?? 0);
    this.#bytes = 0;
    this.#kept = [];
  }

  #answered(): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    this.#left = -1;
    const body = waiting?.keep === true ? Buffer.concat(this.#kept) : EMPTY;
    const { status, headers } = { status: this.#status, headers: this.#headers };
    waiting?.resolve({ status, headers, bytes: this.#bytes, body });
  }
}

/** A connection that speaks JSON and insists on success. */
export class Api {
  readonly connection: Connection;

  static async open(port: number): Promise<Api> {
    return new Api(await Connection.open(port));
  }

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** @returns the answer's JSON, or null without a body. @throws Error on 4xx and 5xx */
  async json<T>(method: string, path: string, body?: unknown, prefer?: string): Promise<T> {
    const answer = await this.connection.request(method, path, {
      keep: true,
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(prefer === undefined ? {} : { prefer }),
      },
      ...(body === undefined ? {} : { body: Buffer.from(JSON.stringify(body)) }),
    });
    const text = answer.body.toString("utf8");
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return (text === "" ? null : JSON.parse(text)) as T;
  }

  /** A request whose answer's bytes are only counted. @throws Error unless 200 */
  async bytes(method: string, path: string, body?: Uint8Array): Promise<number> {
    const options =
      body === undefined
        ? { headers: { accept: "application/octet-stream" } }
        : { headers: { "content-type": "application/octet-stream" }, body };
    const answer = await this.connection.request(method, path, options);
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${answer.status}`);
    return answer.bytes;
  }

  close(): void {
    this.connection.close();
  }
}
