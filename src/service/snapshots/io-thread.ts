// Owns: the snapshot thread as the HTTP thread sees it: begun with the first call. HTTP thread.
import { Worker } from "node:worker_threads";
import { fromRefusal, ServiceError } from "../../base/errors.js";
import type { IoAnswer, IoCall } from "./io-loop.js";
import type { Finished, Opened, SnapshotIo, Step, Written } from "./snapshot-io.js";

/** The compiled thread entry; there is none beside the TypeScript sources. */
const WORKER_FILE = new URL("./snapshot.worker.js", import.meta.url);

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class ThreadSnapshotIo implements SnapshotIo {
  #worker: Worker | null = null;
  #nextId = 1;
  readonly #waiting = new Map<number, Waiting>();

  create(...args: Parameters<SnapshotIo["create"]>): Promise<number> {
    return this.#call("create", args);
  }

  pages(...args: Parameters<SnapshotIo["pages"]>): Promise<Written> {
    return this.#call("pages", args);
  }

  sequences(...args: Parameters<SnapshotIo["sequences"]>): Promise<number> {
    return this.#call("sequences", args);
  }

  finish(...args: Parameters<SnapshotIo["finish"]>): Promise<Finished> {
    return this.#call("finish", args);
  }

  abort(...args: Parameters<SnapshotIo["abort"]>): Promise<void> {
    return this.#call("abort", args);
  }

  open(...args: Parameters<SnapshotIo["open"]>): Promise<Opened> {
    return this.#call("open", args);
  }

  next(...args: Parameters<SnapshotIo["next"]>): Promise<Step> {
    return this.#call("next", args);
  }

  leave(...args: Parameters<SnapshotIo["leave"]>): Promise<void> {
    return this.#call("leave", args);
  }

  remove(...args: Parameters<SnapshotIo["remove"]>): Promise<void> {
    return this.#call("remove", args);
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    if (worker === null) return;
    await this.#call("close", []);
    this.#worker = null;
    await worker.terminate();
  }

  #call<T>(name: IoCall["name"], args: readonly unknown[]): Promise<T> {
    const worker = this.#started();
    const id = this.#nextId++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as T), reject });
      worker.postMessage({ id, name, args } satisfies IoCall);
    });
  }

  #started(): Worker {
    if (this.#worker !== null) return this.#worker;
    const worker = new Worker(WORKER_FILE);
    worker.on("message", (answer: IoAnswer) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if ("refusal" in answer) waiting?.reject(fromRefusal(answer.refusal));
      else waiting?.resolve(answer.value);
    });
    worker.on("error", (error) => this.#ended(worker, error.message));
    worker.on("exit", () => this.#ended(worker, "it ended"));
    this.#worker = worker;
    return worker;
  }

  /** The next call begins another one; what this one wrote is swept away with the next start. */
  #ended(worker: Worker, why: string): void {
    if (this.#worker === worker) this.#worker = null;
    const left = [...this.#waiting.values()];
    this.#waiting.clear();
    const sentence = `The thread that writes snapshots failed: ${why}.`;
    for (const { reject } of left) reject(new ServiceError("snapshot-file", sentence));
  }
}
