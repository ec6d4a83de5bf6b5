// Owns: `tidemark run`: an image from a file to its end, its console on this one. CLI process.
//
//   upload ─▶ create ─▶ follow console ─▶ start ─▶ … shutdown | crashed ─▶ delete ─▶ exit code
import type { Client } from "./client.js";
import { checkEnd, follow, type } from "./console.js";
import { Cleanup, endings, type Terminal } from "./ending.js";
import { ExitStatus } from "./exit-status.js";
import { type HostOptions, openHost } from "./host.js";
import { createMachine, type MachineOptions } from "./machine.js";

export interface RunOptions extends HostOptions, MachineOptions {
  readonly timeoutS: number | null;
}

/** Types what comes in until there is no more, or the run ends. */
async function typeInput(client: Client, vm: string, terminal: Terminal): Promise<void> {
  for await (const bytes of terminal.input) await type(client, vm, new Uint8Array(bytes));
}

/** @returns the exit code */
export async function run(options: RunOptions, terminal: Terminal): Promise<number> {
  const { ending, stop } = endings("The guest", options.timeoutS, terminal);
  const cleanup = new Cleanup();
  const { signal } = ending.controller;
  try {
    const { client, close } = await openHost(options);
    cleanup.add(close);
    signal.throwIfAborted();
    const vm = await createMachine(client, options, cleanup, terminal);
    signal.throwIfAborted();
    const status = new ExitStatus();
    const print = (text: string) => {
      terminal.write(text);
      status.add(text);
    };
    const ended = follow(client, vm, terminal, print, signal);
    // It is awaited below; a refused start comes first.
    ended.catch(() => {});
    await client.call("startVm", { vm });
    const typing = typeInput(client, vm, terminal).catch(() => {});
    checkEnd(await ended);
    terminal.input.destroy();
    await typing;
    return status.code;
  } catch (error) {
    throw ending.cause ?? error;
  } finally {
    terminal.input.destroy();
    stop();
    await cleanup.run();
  }
}
