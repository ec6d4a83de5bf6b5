// Owns: a guest's console on this one: what it prints, and what is typed. CLI process.
import { systemClock } from "../base/clock.js";
import { type Client, Refused } from "./client.js";
import type { Terminal } from "./ending.js";
import { Failure } from "./failure.js";

const RETRY_MS = 200;
/** A stream that was cut is taken up again this often. */
const RETRIES_MAX = 25;

interface State {
  readonly state: string;
  readonly reason: string | null;
}

/** Prints the console until the guest has ended. @returns how it ended */
export async function follow(
  client: Client,
  vm: string,
  terminal: Terminal,
  print: (text: string) => void,
  signal: AbortSignal,
): Promise<State> {
  let last = "";
  for (let tries = 0; ; tries++) {
    try {
      for await (const { id, event, data } of client.follow("readConsole", { vm }, last, signal)) {
        last = id;
        tries = 0;
        if (event === "console.output") {
          print((data as { text: string }).text);
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

/** Types bytes; a guest that has too many to read is waited for. */
export async function type(client: Client, vm: string, bytes: Uint8Array): Promise<void> {
  for (;;) {
    try {
      await client.call("typeConsole", { vm }, bytes);
      return;
    } catch (error) {
      if (!(error instanceof Refused) || error.problem !== "console-full") throw error;
      await systemClock.sleep(RETRY_MS);
    }
  }
}

/** Ends like the guest did. @throws Failure where it crashed */
export function checkEnd({ state, reason }: State): void {
  if (state === "crashed") throw new Failure(`The guest crashed: ${reason ?? "no reason known"}`);
}
