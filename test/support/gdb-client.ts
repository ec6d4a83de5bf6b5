// Owns: a small client of GDB's remote protocol that hides nothing: raw bytes out, packets and
// acknowledgements in. Test process.
// @source GDB manual, appendix E
import { connect, type Socket } from "node:net";

const WAIT_MS = 20_000;

export function checksum(body: string): string {
  let sum = 0;
  for (let at = 0; at < body.length; at++) sum += body.charCodeAt(at);
  return (sum & 0xff).toString(16).padStart(2, "0");
}

export class GdbClient {
  readonly #socket: Socket;
  /** What has come and nobody took: "+", "-" and bodies of packets behind "$". */
  readonly #come: string[] = [];
  #rest = "";
  #isClosed = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes) => this.#take(bytes.toString("latin1")));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#isClosed = true;
      this.#wake();
    });
  }

  static open(at: { path: string } | { port: number }): Promise<GdbClient> {
    return new Promise((resolve, reject) => {
      const socket = "path" in at ? connect(at.path) : connect(at.port, "127.0.0.1");
      socket.once("connect", () => resolve(new GdbClient(socket)));
      socket.once("error", reject);
    });
  }

  #take(text: string): void {
    this.#rest += text;
    for (;;) {
      const one = /^(?:([+-])|\$([^#]*)#([0-9a-f]{2}))/.exec(this.#rest);
      if (one === null) break;
      const [all, sign, body = "", sum] = one;
      if (sign === undefined && sum !== checksum(body)) throw new Error(`bad checksum: ${all}`);
      this.#come.push(sign ?? `$${body}`);
      this.#rest = this.#rest.slice(all.length);
    }
    this.#wake();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  raw(bytes: string): void {
    this.#socket.write(bytes, "latin1");
  }

  send(body: string): void {
    this.raw(`$${body}#${checksum(body)}`);
  }

  /** The next "+", "-" or "$body"; null once the connection has ended. */
  async next(): Promise<string | null> {
    const end = performance.now() + WAIT_MS;
    while (this.#come.length === 0 && !this.#isClosed) {
      const left = end - performance.now();
      if (left <= 0) throw new Error(`nothing came; unread: ${JSON.stringify(this.#rest)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.#come.shift() ?? null;
  }

  /** The next packet's body, whatever acknowledgements come before it. */
  async packet(): Promise<string> {
    for (;;) {
      const one = await this.next();
      if (one === null) throw new Error("the stub is gone");
      if (one.startsWith("$")) return one.slice(1);
    }
  }

  /** Whatever still comes, until the connection ends. */
  async gone(): Promise<void> {
    while ((await this.next()) !== null);
  }

  async ask(body: string): Promise<string> {
    this.send(body);
    return this.packet();
  }

  /** By number, 64 bits. */
  async register(number: number): Promise<bigint> {
    const answer = await this.ask(`p${number.toString(16)}`);
    return Buffer.from(answer, "hex").readBigUInt64LE();
  }

  interrupt(): void {
    this.raw("\x03");
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    const closed = new Promise((resolve) => this.#socket.once("close", resolve));
    this.#socket.destroy();
    await closed;
  }
}
