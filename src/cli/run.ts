// Owns: `tidemark run`: an image from a file to its end, its console on this one. CLI process.
//
//   upload ─▶ create ─▶ follow console ─▶ start ─▶ … shutdown | crashed ─▶ delete ─▶ exit code
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { systemClock } from "../base/clock.js";
import { type Client, Refused } from "./client.js";
import { Cleanup, endings, type Terminal } from "./ending.js";
import { ExitStatus } from "./exit-status.js";
import { Failure } from "./failure.js";
import { type HostOptions, openHost } from "./host.js";

export interface RunOptions extends HostOptions {
  readonly file: string;
  readonly initrd: string | null;
  readonly append: string;
  readonly smp: number;
  readonly memMiB: number;
  readonly clock: "wall" | "virtual";
  readonly timeoutS: number | null;
}

const RETRY_MS = 200;
/** A stream that was cut is taken up again this often. */
const RETRIES_MAX = 25;

async function readImage(path: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (error) {
    throw new Failure(`${path} can't be read: ${(error as Error).message}.`);
  }
}

/** @returns the image's name, by its content: the same file twice is one image */
async function upload(client: Client, path: string, cleanup: Cleanup): Promise<string> {
  const bytes = await readImage(path);
  const name = `run-${createHash("sha256").update(bytes).digest("hex").slice(0, 32)}`;
  const isNew = await client.call("getImage", { image: name }).then(
    () => false,
    () => true,
  );
  await client.call("putImage", { image: name }, bytes);
  if (isNew) cleanup.add(() => client.call("deleteImage", { image: name }));
  return name;
}

async function createVm(client: Client, options: RunOptions, cleanup: Cleanup): Promise<string> {
  const image = await upload(client, options.file, cleanup);
  const initrd =
    options.initrd === null ? {} : { initrd: await upload(client, options.initrd, cleanup) };
  const vm = await client.call(
    "createVm",
    {},
    {
      name: basename(options.file).slice(0, 128),
      clock: { mode: options.clock },
      board: {
        image,
        ...initrd,
        cmdline: options.append,
        memoryMiB: options.memMiB,
        vcpus: options.smp,
      },
    },
  );
  cleanup.add(() => client.call("deleteVm", { vm: vm.id }));
  return vm.id;
}

interface State {
  readonly state: string;
  readonly reason: string | null;
}

/** Prints the console until the guest has ended. @returns how it ended */
async function follow(
  client: Client,
  vm: string,
  terminal: Terminal,
  status: ExitStatus,
  signal: AbortSignal,
): Promise<State> {
  let last = "";
  for (let tries = 0; ; tries++) {
    try {
      for await (const { id, event, data } of client.follow("readConsole", { vm }, last, signal)) {
        last = id;
        tries = 0;
        if (event === "console.output") {
          const { text } = data as { text: string };
          terminal.write(text);
          status.add(text);
        } else if (event === "gap") {
          terminal.warn("(some output is lost: it came faster than it could be read)");
        } else if (event === "console.end") {
          throw new Failure(`The VM is gone: ${(data as { reason: string }).reason}`);
        } else if (event === "board.state") {
          const board = data as State;
          if (board.state === "shutdown" || board.state === "crashed") return board;
        }
      }
    } catch (error) {
      if (signal.aborted || error instanceof Failure || tries >= RETRIES_MAX) throw error;
    }
    if (tries >= RETRIES_MAX) throw new Failure("The host ended the console's stream.");
    await systemClock.sleep(RETRY_MS);
  }
}

/** Types what comes in until there is no more, or the run ends. */
async function typeInput(client: Client, vm: string, terminal: Terminal): Promise<void> {
  for await (const bytes of terminal.input) {
    for (;;) {
      try {
        await client.call("typeConsole", { vm }, new Uint8Array(bytes));
        break;
      } catch (error) {
        if (!(error instanceof Refused) || error.problem !== "console-full") throw error;
        await systemClock.sleep(RETRY_MS);
      }
    }
  }
}

/** @returns the exit code */
export async function run(options: RunOptions, terminal: Terminal): Promise<number> {
  const { ending, stop } = endings("The guest", options.timeoutS, terminal);
  const cleanup = new Cleanup();
  const { signal } = ending.controller;
  try {
    const host = await openHost(options);
    cleanup.add(() => host.close());
    signal.throwIfAborted();
    const vm = await createVm(host.client, options, cleanup);
    signal.throwIfAborted();
    const status = new ExitStatus();
    const ended = follow(host.client, vm, terminal, status, signal);
    // It is awaited below; a refused start comes first.
    ended.catch(() => {});
    await host.client.call("startVm", { vm });
    const typing = typeInput(host.client, vm, terminal).catch(() => {});
    const { state, reason } = await ended;
    terminal.input.destroy();
    await typing;
    if (state === "crashed") throw new Failure(`The guest crashed: ${reason ?? "no reason known"}`);
    return status.code;
  } catch (error) {
    throw ending.cause ?? error;
  } finally {
    terminal.input.destroy();
    stop();
    await cleanup.run();
  }
}
