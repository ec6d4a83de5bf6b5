// Owns: bytes on a socket, well-formed or not, and what comes back. Test process.
import { connect, type Socket } from "node:net";
import { systemClock } from "../../src/base/clock.js";

const QUIET_MS = 5000;

export interface RawAnswer {
  /** null: the peer closed without a word. */
  readonly status: number | null;
  readonly code: string | null;
  readonly text: string;
}

function read(text: string): RawAnswer {
  const status = /^HTTP\/1\.1 ([0-9]{3})/.exec(text)?.[1];
  const code = /"code":"([a-z-]+)"/.exec(text)?.[1] ?? null;
  return { status: status === undefined ? null : Number(status), code, text };
}

/** Writes the pieces, a moment apart, and reads until the peer closes or is quiet for long. */
export function exchange(
  port: number,
  pieces: readonly (string | Buffer)[],
  then: "wait" | "half-close" | "destroy" = "wait",
): Promise<RawAnswer> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    const done = () => {
      socket.destroy();
      resolve(read(text));
    };
    socket.setTimeout(QUIET_MS, done);
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
    socket.on("end", done);
    socket.on("error", done);
    socket.on("connect", async () => {
      for (const piece of pieces) {
        if (socket.writable) socket.write(piece);
        await systemClock.sleep(5);
      }
      if (then === "half-close") socket.end();
      if (then === "destroy") done();
    });
  });
}

/** A request that nobody reads the answer of; the caller destroys it. */
export function unread(port: number, path: string, headers = ""): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" }, () => {
      socket.pause();
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}`, () => resolve(socket));
    });
    socket.on("error", reject);
  });
}

/** Head of a request with these header lines. */
export function head(method: string, path: string, ...lines: readonly string[]): string {
  return [`${method} ${path} HTTP/1.1`, "Host: x", ...lines, "", ""].join("\r\n");
}
