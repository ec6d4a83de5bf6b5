// Owns: recording what commands changed in a VM's shape, before they are answered. HTTP thread.
import type { Clock } from "../base/clock.js";
import type { CommandArgs, CommandName, CommandResult } from "../runtime/index.js";
import { DURABLE } from "./durable.table.js";
import type { EventLog } from "./event-log.js";
import { RESAVE_MS } from "./limits.js";
import type { Recorder } from "./recorder.js";
import type { VmEntry } from "./vm-entry.js";

interface Deps {
  readonly recorder: Recorder;
  readonly events: EventLog;
  readonly clock: Clock;
}

export class VmParts {
  readonly #deps: Deps;
  readonly #unsaved = new Set<VmEntry>();
  #cancelTimer: (() => void) | null = null;
  #closed = false;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** VMs whose parts are ahead of the store. */
  get unsaved(): number {
    return this.#unsaved.size;
  }

  /**
   * Records a command that the VM took; durable when it resolves. To be called in the order of the
   * results, which is the order of their effects.
   * @throws ServiceError "store-unavailable": the command took effect, its record follows later
   */
  async record<K extends CommandName>(
    entry: VmEntry,
    name: K,
    args: CommandArgs<K>,
    result: CommandResult<K>,
  ): Promise<void> {
    const recorded = DURABLE[name]?.(entry.shape, args, result) ?? null;
    if (recorded === null) return;
    for (const change of recorded.changes) entry.shape.apply(change);
    if (entry.isDeleted) return;
    if (this.#unsaved.has(entry)) {
      await this.saveAll(entry);
    } else {
      const vmId = entry.id;
      try {
        await this.#deps.recorder.commit(
          recorded.changes.map((change) => ({ kind: "put-part", vmId, change })),
        );
      } catch (error) {
        this.#retryLater(entry);
        throw error;
      }
    }
    this.#deps.events.announce(recorded.event.type, `vms/${entry.id}`, recorded.event.data);
  }

  /** Writes every part of a VM, whatever the store has of it. */
  async saveAll(entry: VmEntry): Promise<void> {
    this.#unsaved.delete(entry);
    if (entry.isDeleted) return;
    try {
      const shape = entry.shape.records();
      await this.#deps.recorder.commit([{ kind: "put-shape", vmId: entry.id, shape }]);
    } catch (error) {
      this.#retryLater(entry);
      throw error;
    }
  }

  /** Last try, then no more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelTimer?.();
    await this.#retry();
  }

  #retryLater(entry: VmEntry): void {
    this.#unsaved.add(entry);
    if (this.#closed || this.#cancelTimer !== null) return;
    this.#cancelTimer = this.#deps.clock.timer(RESAVE_MS, () => {
      this.#cancelTimer = null;
      void this.#retry();
    });
  }

  async #retry(): Promise<void> {
    // A refused write was logged, and its VM is in the set again.
    for (const entry of [...this.#unsaved]) await this.saveAll(entry).catch(() => {});
  }
}
