// Owns: the one queue that every write passes (DESIGN 12). HTTP thread.
// The driver has one connection and other writes slip into an open transaction; a write that was
// answered could vanish with a stranger's rollback. So nothing writes but this queue, one
// transaction at a time, each an array of statements that waits for nothing in between.
import type { Clock } from "../base/clock.js";
import type { PrismaClient } from "../generated/prisma/client.js";
import { statementsOf } from "./changes.js";
import type { Change } from "./records.js";

/** Writes that share one transaction, so one wait for the disk. */
const WRITES_PER_TRANSACTION = 64;

interface Job {
  readonly changes: readonly Change[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class WriteQueue {
  readonly #client: PrismaClient;
  readonly #clock: Clock;
  #jobs: Job[] = [];
  #pump: Promise<void> | null = null;

  constructor(client: PrismaClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /**
   * Resolves when the write is durable; writes take effect in the order of these calls.
   * Rejects with the database's error, and then nothing of this write happened.
   */
  write(changes: readonly Change[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({ changes, resolve, reject });
      this.#pump ??= this.#run();
    });
  }

  /** Resolves when everything that was queued before has ended. */
  async drained(): Promise<void> {
    while (this.#pump !== null) await this.#pump;
  }

  async #run(): Promise<void> {
    // What is asked for in the same turn of the loop shares the first transaction.
    await this.#clock.yieldToLoop();
    while (this.#jobs.length > 0) {
      const group = this.#jobs.splice(0, WRITES_PER_TRANSACTION);
      if (!(await this.#together(group))) await this.#oneByOne(group);
      // Awaited database calls never let the event loop turn by themselves.
      await this.#clock.yieldToLoop();
    }
    this.#pump = null;
  }

  /** @returns false when the group was rolled back, because of one of them or as a whole. */
  async #together(group: readonly Job[]): Promise<boolean> {
    try {
      const changes = group.flatMap((job) => job.changes);
      await this.#client.$transaction(statementsOf(this.#client, changes));
    } catch (error) {
      if (group.length > 1) return false;
      for (const job of group) job.reject(error);
      return true;
    }
    for (const job of group) job.resolve();
    return true;
  }

  /** A write that fails must fail alone. */
  async #oneByOne(group: readonly Job[]): Promise<void> {
    for (const job of group) await this.#together([job]);
  }
}
