// Owns: a run of the guest image on qemu-system-aarch64 under TCG, and its migration log over QMP.
// Bench process; starts one child and ends it.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { program } from "../../../tools/debian.mjs";
import { imageFor, type Work } from "./image.js";
import { type Sample, Transcript } from "./transcript.js";

export const QEMU = "qemu-system-aarch64";
/** A run that takes longer hangs. */
const RUN_MS_MAX = 10 * 60_000;

export interface QemuOptions {
  /** -icount: time is instructions, as in a VM of the virtual clock. */
  readonly icount?: boolean;
  /** The repetition of a waiting phase before which a migration is started, for its dirty log. */
  readonly logFrom?: number;
}

class Qmp {
  readonly #socket: Socket;
  readonly #waiting: ((answer: unknown) => void)[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface({ input: socket }).on("line", (line) => {
      const message = JSON.parse(line) as { return?: unknown; error?: { desc: string } };
      if ("return" in message) this.#waiting.shift()?.(message.return);
      if ("error" in message) throw new Error(`QMP: ${message.error?.desc}`);
    });
    // The guest powers off, and QEMU goes.
    socket.on("error", () => {});
  }

  static async open(path: string): Promise<Qmp> {
    for (;;) {
      const socket = await new Promise<Socket | null>((resolve) => {
        const attempt = connect(path, () => resolve(attempt));
        attempt.once("error", () => resolve(null));
      });
      if (socket !== null) {
        const qmp = new Qmp(socket);
        await qmp.execute("qmp_capabilities");
        return qmp;
      }
      await sleep(10);
    }
  }

  execute(execute: string, args: object = {}): Promise<unknown> {
    const answer = new Promise((resolve) => this.#waiting.push(resolve));
    this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    return answer;
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** A migration that never ends: its log is on as soon as it is active. */
async function startLog(qmp: Qmp): Promise<void> {
  await qmp.execute("migrate-set-parameters", { "max-bandwidth": 4096 });
  await qmp.execute("migrate", { uri: "exec:cat >/dev/null" });
  for (;;) {
    const { status } = (await qmp.execute("query-migrate")) as { status?: string };
    if (status === "active") return;
    if (status === "failed") throw new Error("QEMU's migration failed");
    await sleep(5);
  }
}

function argumentsFor(image: string, qmp: string, options: QemuOptions): string[] {
  return [
    ..."-M virt -cpu cortex-a72 -m 1024 -display none -nodefaults -serial stdio".split(" "),
    ..."-accel tcg,thread=single".split(" "),
    ...(options.icount === true ? ["-icount", "shift=0,sleep=off"] : []),
    ...["-qmp", `unix:${qmp},server=on,wait=off`, "-kernel", image],
  ];
}

/**
 * Runs the image to its end.
 * @throws Error when QEMU or the guest fails
 */
export async function runOnQemu(work: Work, options: QemuOptions = {}): Promise<readonly Sample[]> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-qemu-"));
  const image = join(folder, "bench.bin");
  const socket = join(folder, "qmp");
  writeFileSync(image, imageFor(work));
  const child = spawn(program(QEMU), argumentsFor(image, socket, options));
  const limit = setTimeout(() => child.kill("SIGKILL"), RUN_MS_MAX);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  let errors = "";
  let failure: unknown = null;
  let qmp: Qmp | null = null;
  let waits = 0;
  const goOn = async () => {
    if (waits++ === options.logFrom) {
      qmp = await Qmp.open(socket);
      await startLog(qmp);
    }
    child.stdin.write("\n");
  };
  const transcript = new Transcript(() => {
    goOn().catch((error: unknown) => {
      failure = error;
      child.kill();
    });
  });
  child.stderr.on("data", (bytes: Buffer) => {
    errors += bytes.toString();
  });
  child.stdout.on("data", (bytes: Buffer) => {
    const now = performance.now();
    for (const character of bytes.toString("latin1")) transcript.take(character, now);
  });
  try {
    await ended;
    if (failure !== null) throw failure;
    if (!transcript.ended) throw new Error(`QEMU ended early: ${errors}`);
    return transcript.samples;
  } finally {
    clearTimeout(limit);
    (qmp as Qmp | null)?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
