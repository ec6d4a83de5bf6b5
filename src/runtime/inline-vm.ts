// Owns: a VM in the calling thread, advanced step by step: simulation and tests (DESIGN 2). The
// same core as in a thread, so several inline VMs can share eventfds and a budget.
import { type Clock, ManualClock } from "../base/clock.js";
import { toRefusal } from "../base/errors.js";
import type { EventfdCounters } from "../base/eventfd-counters.js";
import type { MemoryBudget } from "../base/memory-budget.js";
import type { InstanceDeps, VmInstance } from "../vmm/index.js";
import { EventfdOwners } from "./eventfd-owners.js";
import { EventfdPins } from "./eventfd-pins.js";
import type { ToVm, VmRequest } from "./protocol.js";
import { type InstanceFactory, VmCore } from "./vm-core.js";
import { VmDoor } from "./vm-door.js";

interface InlineParts {
  /** The VM's own account; closed when the VM is. */
  readonly budget: MemoryBudget;
  readonly eventfds: EventfdCounters;
  /** Of all VMs that share the counters; its own unless given. */
  readonly owners?: EventfdOwners;
  readonly createInstance: InstanceFactory;
  /** "seeded" by default: every choice of the scheduler comes from the VM's seed. */
  readonly schedule?: InstanceDeps["schedule"];
  /** One that moves only when told, by default. */
  readonly clock?: Clock;
  /** Called once when the VM is closed, or could not be built. */
  readonly onClosed?: () => void;
}

/** A door whose VM moves only inside pump(); results arrive as resolved promises after it. */
export class InlineVm extends VmDoor {
  readonly instance: VmInstance;
  readonly #core: VmCore;
  readonly #inbox: ToVm[];

  /** @throws KvmError or ServiceError as the VM's creation */
  static create(request: VmRequest, parts: InlineParts): InlineVm {
    let vm: InlineVm | null = null;
    try {
      const core = new VmCore({
        request,
        budget: parts.budget,
        eventfds: parts.eventfds,
        schedule: parts.schedule ?? "seeded",
        clock: parts.clock ?? new ManualClock(),
        createInstance: parts.createInstance,
        send: (message) => vm?.deliver(message),
      });
      vm = new InlineVm(core, request, parts);
      return vm;
    } catch (error) {
      parts.budget.closeAccount();
      parts.onClosed?.();
      throw error;
    }
  }

  private constructor(core: VmCore, request: VmRequest, parts: InlineParts) {
    const inbox: ToVm[] = [];
    const post = (message: ToVm): void => void inbox.push(message);
    const end = (): Promise<void> => {
      inbox.length = 0;
      return Promise.resolve();
    };
    const { eventfds, budget, owners = new EventfdOwners(eventfds) } = parts;
    const pins = new EventfdPins(eventfds, budget.accountIndex, owners, request.replay);
    super({ post, end }, pins, () => {
      parts.budget.closeAccount();
      parts.onClosed?.();
    });
    this.instance = core.instance;
    this.#core = core;
    this.#inbox = inbox;
  }

  /**
   * Takes in what was called since, then runs at most `steps` scheduler steps; 0 only takes in.
   * While a log is replayed, it runs to the next entry of it, at most.
   */
  pump(steps: number): "idle" | "runnable" {
    if (this.isGone()) return "idle";
    try {
      for (const message of this.#inbox.splice(0)) this.#core.receive(message);
      return steps > 0 ? this.#core.advance(steps, () => false) : "runnable";
    } catch (error) {
      this.died(toRefusal(error).detail);
      return "idle";
    }
  }

  override close(): Promise<void> {
    if (!this.isGone()) this.#core.close();
    return super.close();
  }
}
