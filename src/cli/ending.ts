// Owns: how a long command ends before its time, and what it takes back then. CLI process.
import { systemClock } from "../base/clock.js";
import { EXIT, Failure } from "./failure.js";

/** What a run reads from and writes to. */
export interface Terminal {
  readonly input: AsyncIterable<Uint8Array> & { destroy(): void };
  write(text: string): void;
  warn(text: string): void;
  /** Draws over the line where a person looks; null where none does. */
  readonly draw: ((text: string) => void) | null;
  /** Every key is input from now on, unseen and at once. @returns the end of it */
  raw(): () => void;
  /** Calls back on Ctrl-C or SIGTERM. @returns the end of it */
  onInterrupt(callback: () => void): () => void;
}

interface Ending {
  readonly controller: AbortController;
  cause: Failure | null;
}

/** Things to take back, the last one first. */
export class Cleanup {
  readonly #steps: (() => Promise<unknown>)[] = [];

  add(step: () => Promise<unknown>): void {
    this.#steps.push(step);
  }

  async run(): Promise<void> {
    for (const step of this.#steps.reverse()) {
      // What is gone already needs no taking back.
      await step().catch((error: unknown) => {
        if (!(error instanceof Failure)) throw error;
      });
    }
  }
}

/** Watches for Ctrl-C and the end of time. @param who ran too long */
export function endings(
  who: string,
  timeoutS: number | null,
  terminal: Terminal,
): { ending: Ending; stop(): void } {
  const ending: Ending = { controller: new AbortController(), cause: null };
  const end = (cause: Failure) => {
    ending.cause ??= cause;
    ending.controller.abort();
  };
  const withdraw = terminal.onInterrupt(() => end(new Failure("Interrupted.", EXIT.interrupted)));
  const late = () => end(new Failure(`${who} ran longer than ${timeoutS} s.`, EXIT.timeout));
  const cancel = timeoutS === null ? () => {} : systemClock.timer(timeoutS * 1000, late);
  return {
    ending,
    stop: () => {
      withdraw();
      cancel();
    },
  };
}
