// Owns: threads that wait for a VM: what a VM needs is loaded and practised before anybody asks,
// so that a VM that arrives by migration is built in milliseconds. HTTP thread.
//
//   starting ──has practised──▶ waiting ──take──▶ a VM's thread; the next one starts a while later
import { Worker } from "node:worker_threads";
import type { Clock } from "../base/clock.js";
import { VM_HEAP_MIB_MAX } from "../base/limits.js";
import type { FromVm, SpareSetup, ThreadSetup } from "./protocol.js";
import { ThreadControl } from "./thread-control.js";

/** The compiled thread entry; there is none beside the TypeScript sources. */
export const WORKER_FILE = new URL("./vm.worker.js", import.meta.url);

/** A thread's two ends on this side. */
export interface Thread {
  readonly worker: Worker;
  readonly control: ThreadControl;
}

/** Since a VM was started last, and at first: whoever has just begun needs the CPUs more. */
const REFILL_MS = 2_000;

/** Filled by the first VM that runs code, given to every later one. */
export interface CodeShare {
  tier0: ThreadSetup["tier0"];
}

export function startThread(workerFile: URL, workerData: ThreadSetup | SpareSetup): Worker {
  return new Worker(workerFile, {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: VM_HEAP_MIB_MAX },
  });
}

export class SpareThreads {
  readonly #count: number;
  readonly #clock: Clock;
  readonly #code: CodeShare;
  readonly #workerFile: URL;
  readonly #waiting: Thread[] = [];
  /** All that no VM has taken. */
  readonly #own = new Set<Thread>();
  #cancel: (() => void) | null = null;
  #isClosed = false;

  /** @param count threads that wait; none: every VM starts its own */
  constructor(count: number, clock: Clock, code: CodeShare, workerFile: URL) {
    this.#count = count;
    this.#clock = clock;
    this.#code = code;
    this.#workerFile = workerFile;
    this.#refillLater();
  }

  /** Threads that wait. */
  get ready(): number {
    return this.#waiting.length;
  }

  /** @returns a thread that waits for its setup, or null: there is none now */
  take(): Thread | null {
    const thread = this.#waiting.shift() ?? null;
    if (thread !== null) {
      this.#own.delete(thread);
      // Only ours: a worker listens to itself, too.
      for (const event of ["message", "error", "exit"]) thread.worker.removeAllListeners(event);
    }
    // Where many VMs start one after the other, there is no time to practise.
    this.#cancel?.();
    this.#cancel = null;
    this.#refillLater();
    return thread;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel?.();
    await Promise.all([...this.#own].map(({ worker }) => worker.terminate()));
  }

  #refillLater(): void {
    if (this.#isClosed || this.#cancel !== null || this.#own.size >= this.#count) return;
    this.#cancel = this.#clock.timer(REFILL_MS, () => {
      this.#cancel = null;
      this.#start();
    });
  }

  #start(): void {
    const control = ThreadControl.create();
    const { tier0 } = this.#code;
    const worker = startThread(this.#workerFile, { control: control.shared, tier0 });
    const thread = { worker, control };
    this.#own.add(thread);
    worker.on("message", (message: FromVm) => {
      if (message.kind === "tier0") this.#code.tier0 ??= message.code;
      if (message.kind !== "waiting") return;
      this.#waiting.push(thread);
      this.#refillLater();
    });
    // It is nobody's VM: the next one that starts says what is wrong.
    worker.on("error", () => this.#forget(thread));
    worker.on("exit", () => this.#forget(thread));
  }

  #forget(thread: Thread): void {
    this.#own.delete(thread);
    const at = this.#waiting.indexOf(thread);
    if (at >= 0) this.#waiting.splice(at, 1);
  }
}
