// Owns: what a guest's console says, gathered while it runs and across hosts. Tool and bench
// process.
import type { Client } from "../../dist/cli/client.js";

const POLL_MS = 20;

export class ConsoleWatch {
  text = "";
  readonly #abort = new AbortController();
  #ended = false;
  readonly #following: Promise<void>;

  /** @param after how much of it is known; the console's offsets go on at another host */
  constructor(client: Client, vm: string, after = 0) {
    this.#following = this.#follow(client, vm, after === 0 ? "" : String(after));
  }

  async #follow(client: Client, vm: string, after: string): Promise<void> {
    try {
      const events = client.follow("readConsole", { vm }, after, this.#abort.signal);
      for await (const { event, data } of events) {
        if (event === "console.output") this.text += (data as { text: string }).text;
      }
    } catch {
      // The VM has moved, or its host is gone: whoever waits is told by until().
    }
    this.#ended = true;
  }

  /** Resolves when what it said matches. @throws Error after the time, with the last it said */
  async until(is: (text: string) => boolean, limitMs: number): Promise<void> {
    const deadline = performance.now() + limitMs;
    while (!is(this.text)) {
      if (performance.now() > deadline) {
        const why = this.#ended ? "the console ended" : `not within ${limitMs} ms`;
        throw new Error(`${why}; it said: ${this.text.slice(-400)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#following;
  }
}

/** Reports of `dirty`, in order: seconds that it ran, stamps that were wrong. */
export function reportsIn(text: string): readonly { readonly t: number; readonly bad: number }[] {
  return [...text.matchAll(/^dirty t=([0-9]+) writes=[0-9]+ bad=([0-9]+)\r?$/gm)].map(
    ([, t, bad]) => ({ t: Number(t), bad: Number(bad) }),
  );
}
