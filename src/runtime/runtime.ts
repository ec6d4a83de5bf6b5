// Owns: all VM threads of the process: how many, how they start, what they may use. HTTP thread.
import type { Clock } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import { EventfdCounters } from "../base/eventfd-counters.js";
import { Gate } from "../base/gate.js";
import { INPUT_LOG_BYTES_MAX, VM_STARTS_MAX, VM_THREADS_MAX } from "../base/limits.js";
import type { Log } from "../base/log.js";
import { MemoryBudget } from "../base/memory-budget.js";
import { digestOf } from "../base/saved.js";
import type { VmDefinition } from "../vmm/index.js";
import { EventfdOwners } from "./eventfd-owners.js";
import { SharedEventfdTable } from "./eventfd-table.js";
import type {
  EventfdTable,
  InputLog,
  Runtime,
  RuntimeOptions,
  RuntimeUsage,
  VmHandle,
} from "./handle.js";
import type { VmRequest } from "./protocol.js";
import { type CodeShare, SpareThreads, WORKER_FILE } from "./spare-threads.js";
import { startVmThread, type VmParts } from "./vm-thread.js";

/**
 * Brings one VM to life. On failure, too, it closes the account and calls onClosed.
 * startVmThread unless a test runs its VMs elsewhere.
 */
type VmStarter = (request: VmRequest, parts: VmParts) => Promise<VmHandle>;

interface RuntimeDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly startVm?: VmStarter;
}

export function createRuntime(options: RuntimeOptions, deps: RuntimeDeps): Runtime {
  return new ThreadRuntime(options, deps);
}

/** One admitted VM, from before its thread exists until nothing of it is left. */
interface Slot {
  started: Promise<VmHandle> | null;
}

class ThreadRuntime implements Runtime {
  readonly eventfds: EventfdTable;
  readonly #inputLog: VmRequest["inputLog"];
  readonly #translationDelay: number;
  readonly #maxVms: number;
  readonly #deps: RuntimeDeps;
  readonly #budget: MemoryBudget;
  readonly #counters = EventfdCounters.create();
  readonly #owners = new EventfdOwners(this.#counters);
  readonly #starts = new Gate(VM_STARTS_MAX);
  readonly #slots = new Set<Slot>();
  readonly #code: CodeShare = { tier0: null };
  readonly #spares: SpareThreads;
  #closing = false;

  constructor(options: RuntimeOptions, deps: RuntimeDeps) {
    this.#deps = deps;
    this.#maxVms = Math.min(options.maxVms, VM_THREADS_MAX);
    this.#translationDelay = options.translationDelay ?? 0;
    this.#inputLog = { entriesMax: options.inputLogEntries, bytesMax: INPUT_LOG_BYTES_MAX };
    this.#budget = MemoryBudget.create(options.memoryBudgetBytes);
    this.#spares = new SpareThreads(options.spareThreads ?? 0, deps.clock, this.#code, WORKER_FILE);
    this.eventfds = new SharedEventfdTable(this.#counters, this.#owners, deps.clock);
  }

  async start(definition: VmDefinition, replay?: InputLog): Promise<VmHandle> {
    if (replay !== undefined) checkReplay(definition, replay);
    const budget = this.#admit();
    const slot: Slot = { started: null };
    this.#slots.add(slot);
    const request = {
      definition,
      replay: replay ?? null,
      inputLog: this.#inputLog,
      translationDelay: this.#translationDelay,
    };
    const onClosed = (): void => void this.#slots.delete(slot);
    slot.started = this.#starts.run(() => this.#startAdmitted(request, budget, onClosed));
    const handle = await slot.started;
    handle.onNews((news) => {
      if (news.kind !== "died") return;
      this.#deps.log.error({ room: "runtime", reason: news.reason }, "a VM's thread died");
    });
    return handle;
  }

  usage(): RuntimeUsage {
    return {
      vms: this.#slots.size,
      maxVms: this.#maxVms,
      memoryBudgetBytes: this.#budget.totalBytes(),
      memoryUsedBytes: this.#budget.usedBytes(),
    };
  }

  async close(): Promise<void> {
    this.#closing = true;
    const spares = this.#spares.close();
    const ends = [...this.#slots].map(({ started }) =>
      started?.then(
        (handle) => handle.close(),
        // A start that failed has left nothing behind.
        () => {},
      ),
    );
    await Promise.all([spares, ...ends]);
  }

  /** @returns the new VM's account */
  #admit(): MemoryBudget {
    if (this.#closing) throw draining();
    const budget = this.#slots.size < this.#maxVms ? this.#budget.account() : null;
    if (budget !== null) return budget;
    const why = `This host runs at most ${this.#maxVms} VMs at a time; stop or delete one first.`;
    throw new ServiceError("vm-limit", why, { maxVms: this.#maxVms });
  }

  async #startAdmitted(
    request: VmRequest,
    budget: MemoryBudget,
    onClosed: () => void,
  ): Promise<VmHandle> {
    const { clock, startVm = startVmThread } = this.#deps;
    if (!this.#closing) {
      const shared = { eventfds: this.#counters, owners: this.#owners, code: this.#code };
      return startVm(request, { budget, ...shared, spares: this.#spares, clock, onClosed });
    }
    budget.closeAccount();
    onClosed();
    throw draining();
  }
}

function draining(): ServiceError {
  return new ServiceError("draining", "The service is shutting down and starts no more VMs.");
}

/** @returns a text that two definitions share only when they are equal. */
function identity(definition: VmDefinition): string {
  return digestOf([{ kind: "definition", version: 1, data: definition }]);
}

/** A log leads to its own VM only, and only exactly when nothing was dropped from it. */
function checkReplay(definition: VmDefinition, log: InputLog): void {
  const bad = (why: string): never => {
    throw new ServiceError("bad-input-log", why);
  };
  const truncated = "The input log is truncated: its first inputs are gone, so it can't replay.";
  if (log.truncated) bad(log.why ?? truncated);
  if (identity(definition) !== identity(log.definition)) {
    bad("The input log belongs to a VM with another definition.");
  }
  if (definition.clock.mode !== "virtual") {
    bad("Only a VM with a virtual clock can replay an input log.");
  }
}
