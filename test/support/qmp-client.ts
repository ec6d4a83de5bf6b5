// Owns: a small client of QMP that hides nothing: raw bytes out, lines and events in. Test process.
import { connect, type Socket } from "node:net";

const WAIT_MS = 60_000;

export type Message = Record<string, unknown>;

export class QmpClient {
  readonly #socket: Socket;
  /** What has come and nobody took. */
  readonly #messages: Message[] = [];
  /** Every event so far, "NAME" or "NAME last-value". */
  readonly events: string[] = [];
  #rest = "";
  #isClosed = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#take(text));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#isClosed = true;
      this.#wake();
    });
  }

  static connect(at: { path: string } | { port: number }): Promise<QmpClient> {
    return new Promise((resolve, reject) => {
      const socket = "path" in at ? connect(at.path) : connect(at.port, "127.0.0.1");
      socket.once("connect", () => resolve(new QmpClient(socket)));
      socket.once("error", reject);
    });
  }

  /** Takes the greeting and agrees on no capabilities. */
  static async open(at: { path: string } | { port: number }): Promise<QmpClient> {
    const client = await QmpClient.connect(at);
    await client.message();
    await client.done("qmp_capabilities");
    return client;
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const message = JSON.parse(line) as Message;
      if (typeof message["event"] !== "string") this.#messages.push(message);
      else {
        const value = Object.values((message["data"] ?? {}) as Message).at(-1);
        this.events.push(`${message["event"]}${value === undefined ? "" : ` ${value}`}`);
      }
    }
    this.#wake();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  raw(bytes: string | Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Takes no more, so that what comes waits on the other side. */
  pause(): void {
    this.#socket.pause();
  }

  /** The next answer. @throws Error when none comes, or the socket ends */
  async message(): Promise<Message> {
    await this.until(() => this.#messages.length > 0);
    return this.#messages.shift() ?? {};
  }

  async ask(execute: string, args?: object): Promise<Message> {
    this.raw(JSON.stringify({ execute, arguments: args }));
    return this.message();
  }

  /** @throws Error for an answer that is an error @returns what comes back */
  async done(execute: string, args?: object): Promise<unknown> {
    const answer = await this.ask(execute, args);
    if ("return" in answer) return answer["return"];
    throw new Error(`${execute}: ${JSON.stringify(answer)}`);
  }

  async until(what: () => boolean): Promise<void> {
    for (const end = performance.now() + WAIT_MS; performance.now() < end; ) {
      if (what()) return;
      if (this.#isClosed) throw new Error(`the socket ended; events: ${this.events.join(", ")}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 50);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    throw new Error(`it did not happen in time; events: ${this.events.join(", ")}`);
  }

  /** Resolves when the other side has ended it. */
  gone(): Promise<void> {
    return this.#isClosed
      ? Promise.resolve()
      : new Promise((resolve) => this.#socket.once("close", () => resolve()));
  }

  close(): void {
    this.#socket.destroy();
  }
}
