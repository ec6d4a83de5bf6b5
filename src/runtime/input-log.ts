// Owns: a VM's bounded record of what entered it (DESIGN 4). VM thread, or inline.
import type { Command, Stamp, VmDefinition } from "../vmm/index.js";
import type { InputLog, LoggedCommand } from "./handle.js";

/** What any entry weighs: object, stamp, a few small arguments. Our estimate. */
const ENTRY_BYTES = 256;

/** @returns about how many bytes a command's arguments hold; a scalar counts as 16. */
function weigh(value: unknown): number {
  if (value instanceof Uint8Array) return value.byteLength;
  if (typeof value === "string") return 16 + value.length * 2;
  if (typeof value !== "object" || value === null) return 16;
  let bytes = 0;
  for (const item of Object.values(value)) bytes += weigh(item);
  return bytes;
}

/** @returns what an entry weighs above the usual: memory contents, long programs. */
export function contentBytes(command: Command): number {
  return Math.max(0, weigh(command.args) - ENTRY_BYTES);
}

/** Where the contents that a log keeps are booked: the VM's memory budget. */
export interface LogBudget {
  charge(bytes: number): boolean;
  release(bytes: number): void;
}

export interface LogBounds {
  readonly entriesMax: number;
  readonly bytesMax: number;
}

/**
 * Keeps the newest inputs within two bounds and the budget. Once one was dropped the log can't be
 * replayed, but its end still tells what happened last.
 */
export class InputRecorder {
  readonly #definition: VmDefinition;
  readonly #bounds: LogBounds;
  readonly #budget: LogBudget;
  /** Entries from #first on are kept; the ones before it are already dropped. */
  #entries: (LoggedCommand & { readonly contents: number })[] = [];
  #first = 0;
  #bytes = 0;
  #truncated = false;
  #why: string | null = null;

  constructor(definition: VmDefinition, bounds: LogBounds, budget: LogBudget) {
    this.#definition = definition;
    this.#bounds = bounds;
    this.#budget = budget;
  }

  /** The command's arguments are kept as they are; nobody may change them afterwards. */
  add(stamp: Stamp, command: Command): void {
    const contents = contentBytes(command);
    if (contents > this.#bounds.bytesMax || !this.#budget.charge(contents)) {
      // A log with a hole in the middle would mislead; one that starts late does not.
      this.#dropOldest(0);
      this.#truncated = true;
      return;
    }
    this.#entries.push({ stamp, command, contents });
    this.#bytes += ENTRY_BYTES + contents;
    this.#dropOldest(this.#bounds.entriesMax);
  }

  /**
   * The VM left the course of its log: what is kept does not lead to its state.
   * @param why a sentence for whoever wants to replay it
   */
  spoil(why: string): void {
    this.#truncated = true;
    this.#why ??= why;
  }

  /** @param end where the VM stands now */
  log(end: Stamp): InputLog {
    const kept = this.#entries.slice(this.#first);
    return {
      version: 1,
      definition: this.#definition,
      entries: kept.map(({ stamp, command }) => ({ stamp, command })),
      end,
      truncated: this.#truncated,
      ...(this.#why === null ? {} : { why: this.#why }),
    };
  }

  #dropOldest(keep: number): void {
    for (;;) {
      const oldest = this.#entries[this.#first];
      if (oldest === undefined) break;
      const fits = this.#bytes <= this.#bounds.bytesMax;
      if (fits && this.#entries.length - this.#first <= keep) break;
      this.#bytes -= ENTRY_BYTES + oldest.contents;
      this.#budget.release(oldest.contents);
      this.#first++;
      this.#truncated = true;
    }
    // Dropped entries are cut off in large pieces; one at a time would be quadratic.
    if (this.#first > 1024 || this.#first === this.#entries.length) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
  }
}
