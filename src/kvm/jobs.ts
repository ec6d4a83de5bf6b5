// Owns: work that KVM put off: one queue per VM, first in, first out. VM thread.
// The kernel's work queues run at some time of their own; here a command drains the queue unless
// its caller wants to look between, and a vCPU drains it before it enters the guest.
import type { Saved } from "../base/saved.js";

/** inject: irqfd_inject; shutdown: irqfd_shutdown. */
export type JobKind = "inject" | "shutdown";

interface Job {
  readonly kind: JobKind;
  /** Number of the irqfd. */
  readonly irqfd: number;
}

export class Jobs {
  /** Set once, by who knows irqfds. */
  run: ((kind: JobKind, irqfd: number) => void) | null = null;
  #queue: Job[] = [];

  get length(): number {
    return this.#queue.length;
  }

  /** schedule_work: what is queued already is queued once. */
  add(kind: JobKind, irqfd: number): void {
    if (this.#queue.some((job) => job.kind === kind && job.irqfd === irqfd)) return;
    this.#queue.push({ kind, irqfd });
  }

  /** Runs the queue empty, with what the jobs themselves add. */
  drain(): void {
    for (let job = this.#queue.shift(); job !== undefined; job = this.#queue.shift()) {
      this.run?.(job.kind, job.irqfd);
    }
  }

  /** flush_workqueue of one kind: the others stay where they are. */
  flush(kind: JobKind): void {
    const due = this.#queue.filter((job) => job.kind === kind);
    this.#queue = this.#queue.filter((job) => job.kind !== kind);
    for (const { irqfd } of due) this.run?.(kind, irqfd);
  }

  save(): Saved {
    return { kind: "jobs", version: 1, data: { queue: this.#queue.map((job) => ({ ...job })) } };
  }

  load(saved: Saved): void {
    this.#queue = [...(saved.data as { queue: Job[] }).queue];
  }
}
