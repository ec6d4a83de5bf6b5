// Owns: a channel's connection at the target once HTTP has let go of it: bytes in, lines out.
// Data-plane thread.
import type { Socket } from "node:net";
import type { Clock } from "../../base/clock.js";
import { readLarge } from "./large-reads.js";
import { IDLE_MS_MAX, LINGER_MS } from "./patience.js";
import { problemOf, streamErrorOf } from "./problem.js";
import { UPGRADE } from "./socket.js";

/** Read at once, and still in the cache when it is summed where it has landed. */
const READ_BYTES = 2 ** 18;

export class RawAnswer {
  readonly #clock: Clock;
  #socket: Socket;
  #push: ((chunk: Uint8Array) => Promise<void> | null) | null = null;
  #hasBegun = false;
  #isEnding = false;
  #isTaken = false;

  constructor(socket: Socket, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    socket.on("error", () => {});
  }

  /**
   * Says yes, and takes bytes from now on.
   * @param push returns a promise when the next bytes have to wait
   * @param ended called once
   */
  begin(push: (chunk: Uint8Array) => Promise<void> | null, ended: () => void): void {
    // Bytes that came before the answer belong to nothing.
    if (this.#socket.readableLength > 0) this.#socket.destroy();
    if (this.#socket.destroyed) {
      ended();
      return;
    }
    this.#push = push;
    this.#hasBegun = true;
    const socket = readLarge(this.#socket, READ_BYTES, (chunk) => this.#take(chunk));
    this.#isTaken = socket !== this.#socket;
    this.#socket = socket;
    socket.on("error", () => {});
    socket.once("close", ended);
    socket.once("end", () => socket.end());
    socket.setTimeout(IDLE_MS_MAX, () => socket.destroy());
    const lines = [
      "HTTP/1.1 101 Switching Protocols",
      "connection: upgrade",
      `upgrade: ${UPGRADE}`,
    ];
    socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  }

  /** Whether the listener's server knows nothing of the connection any more. */
  get isTaken(): boolean {
    return this.#isTaken;
  }

  #take(chunk: Uint8Array): boolean {
    try {
      const wait = this.#push?.(chunk) ?? null;
      if (wait === null) return true;
      wait.then(
        () => this.#socket.resume(),
        (error) => this.refuse(error),
      );
      return false;
    } catch (error) {
      this.refuse(error);
      return true;
    }
  }

  line(value: object): void {
    if (!this.#isEnding) this.#socket.write(`${JSON.stringify(value)}\n`);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** In place of the answer if that is still to come, else as its last line. */
  refuse(error: unknown): void {
    const socket = this.#socket;
    // Closing with bytes unread would reset the connection, and the refusal would be lost.
    this.#push = null;
    socket.resume();
    if (this.#isEnding || socket.destroyed) return;
    this.#isEnding = true;
    const problem = problemOf(streamErrorOf(error));
    const body = JSON.stringify(problem);
    const head = [
      `HTTP/1.1 ${problem.status} ${problem.title}`,
      "content-type: application/problem+json",
      `content-length: ${Buffer.byteLength(body)}`,
      "connection: close",
      ...(problem.status === 401 ? ["www-authenticate: Bearer"] : []),
    ];
    socket.end(this.#hasBegun ? `${body}\n` : `${head.join("\r\n")}\r\n\r\n${body}`);
    const cancel = this.#clock.timer(LINGER_MS, () => socket.destroy());
    socket.once("close", cancel);
  }
}
