// Owns: the compiled command as a child process, with a folder of its own. Test process.
import { type ChildProcess, spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { ROOT, temporary } from "../support/real-service.js";

export const MAIN = join(ROOT, "dist", "cli", "main.js");

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves once standard output has a text. */
  shows(text: string): Promise<void>;
}

export interface Command {
  readonly folder: string;
  start(...args: string[]): Started;
  runToEnd(...args: string[]): Promise<Ended>;
  /** Own hosts that left their records behind. */
  leftovers(): Promise<readonly string[]>;
  close(): Promise<void>;
}

function startIn(folder: string, args: readonly string[]): Started {
  const env = { PATH: process.env["PATH"], TMPDIR: folder };
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: "pipe" });
  let out = "";
  let err = "";
  const waiting: (() => void)[] = [];
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString();
    for (const look of waiting) look();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    err += chunk.toString();
  });
  const ended = new Promise<Ended>((resolve) => {
    child.once("close", (code) => resolve({ code, out, err }));
  });
  const shows = (text: string) =>
    new Promise<void>((resolve, reject) => {
      waiting.push(() => out.includes(text) && resolve());
      waiting.at(-1)?.();
      void ended.then(() => reject(new Error(`it ended without "${text}": ${out}${err}`)));
    });
  return { child, ended, shows };
}

export async function openCommand(name: string): Promise<Command> {
  const files = await temporary(name);
  const start = (...args: string[]) => startIn(files.path, args);
  return {
    folder: files.path,
    start,
    runToEnd: (...args) => {
      const { child, ended } = start(...args);
      child.stdin?.end();
      return ended;
    },
    leftovers: async () =>
      (await readdir(files.path)).filter((one) => one.startsWith("tidemark-run-")),
    close: () => files.remove(),
  };
}
