// Owns: a QMP client as far as the benchmark needs one: commands, events with the time they came.
// Bench process.
import { connect, type Socket } from "node:net";

interface Reply {
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** Milliseconds of this process's clock. */
  readonly at: number;
}

const RETRY_MS = 20;
const CONNECT_MS = 20_000;

async function opened(path: string): Promise<Socket> {
  const deadline = performance.now() + CONNECT_MS;
  for (;;) {
    const socket = connect(path);
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    if (isOpen) return socket;
    if (performance.now() > deadline) throw new Error("QEMU opened no monitor");
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

export class Qmp {
  readonly events: QmpEvent[] = [];
  readonly #socket: Socket;
  readonly #waiting: ((reply: Reply) => void)[] = [];
  readonly #listeners = new Set<() => void>();
  #rest = "";

  /** Connects, and negotiates. */
  static async open(path: string): Promise<Qmp> {
    const qmp = new Qmp(await opened(path));
    await qmp.run("qmp_capabilities");
    return qmp;
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#take(text));
    socket.on("error", () => socket.destroy());
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line.trim() === "") continue;
      const reply = JSON.parse(line) as Reply;
      if (reply.event !== undefined) {
        this.events.push({ event: reply.event, data: reply.data ?? {}, at: performance.now() });
        for (const listener of this.#listeners) listener();
      } else if ("return" in reply || reply.error !== undefined) this.#waiting.shift()?.(reply);
    }
  }

  async run(execute: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const reply = await new Promise<Reply>((resolve) => {
      this.#waiting.push(resolve);
      this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    });
    if (reply.error !== undefined) throw new Error(`${execute}: ${reply.error.desc}`);
    return reply.return;
  }

  /** @returns the first such event, seen or to come; null after the time */
  async until(is: (event: QmpEvent) => boolean, ms: number): Promise<QmpEvent | null> {
    const deadline = performance.now() + ms;
    for (;;) {
      const found = this.events.find(is);
      if (found !== undefined) return found;
      const left = deadline - performance.now();
      if (left <= 0) return null;
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          this.#listeners.delete(done);
          resolve();
        };
        const timer = setTimeout(done, left);
        this.#listeners.add(done);
      });
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
