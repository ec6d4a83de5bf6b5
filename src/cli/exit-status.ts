// Owns: the guest's verdict in what it prints: `EXIT: STATUS=n`. CLI process.
// @source guest-payloads.md 2.3
import { EXIT } from "./failure.js";

/** A line that is longer is none of ours. */
const LINE_MAX = 4096; // tidy: characters

/** Reads output as it comes; the last line that tells a status counts. */
export class ExitStatus {
  #line = "";
  #status: number | null = null;

  add(text: string): void {
    const lines = (this.#line + text).split("\n");
    this.#line = (lines.pop() ?? "").slice(-LINE_MAX);
    for (const line of lines) this.#read(line);
  }

  #read(line: string): void {
    const match = /^EXIT: STATUS=([0-9]{1,9})\r?$/.exec(line);
    if (match !== null) this.#status = Number(match[1]);
  }

  /** 0 for status 1, or none; else the code in the status, and 1 where that is 0. */
  get code(): number {
    this.#read(this.#line);
    if (this.#status === null || this.#status === 1) return EXIT.ok;
    return this.#status >> 1 || 1;
  }
}
