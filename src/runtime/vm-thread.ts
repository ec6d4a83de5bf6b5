// Owns: one VM's thread as seen from the HTTP thread: start, messages, end. HTTP thread.
import type { Worker } from "node:worker_threads";
import type { Clock } from "../base/clock.js";
import { fromRefusal, ServiceError } from "../base/errors.js";
import type { EventfdCounters } from "../base/eventfd-counters.js";
import { urge } from "../base/give-way.js";
import { VM_END_GRACE_MS } from "../base/limits.js";
import type { MemoryBudget } from "../base/memory-budget.js";
import type { EventfdOwners } from "./eventfd-owners.js";
import { EventfdPins } from "./eventfd-pins.js";
import { type FromVm, isHold, isUrgent, type ThreadSetup, type VmRequest } from "./protocol.js";
import {
  type CodeShare,
  type SpareThreads,
  startThread,
  type Thread,
  WORKER_FILE,
} from "./spare-threads.js";
import { ThreadControl } from "./thread-control.js";
import { type VmCarrier, VmDoor } from "./vm-door.js";

/** What a VM is started with, beside its definition. */
export interface VmParts {
  /** The VM's own account; closed when the VM is. */
  readonly budget: MemoryBudget;
  readonly eventfds: EventfdCounters;
  readonly owners: EventfdOwners;
  readonly clock: Clock;
  /** The engine's code, once any of the process's threads has built it. */
  readonly code: CodeShare;
  /** Threads that wait for a VM; absent: it starts its own. */
  readonly spares?: SpareThreads;
  /** Called once when nothing of the VM runs any more. */
  readonly onClosed: () => void;
}

/**
 * Starts a thread and builds the VM in it.
 * @throws KvmError or ServiceError as the VM's creation; ServiceError "vm-start-failed" when the
 * thread can't start or dies before its VM is built
 */
export async function startVmThread(
  request: VmRequest,
  parts: VmParts,
  workerFile: URL = WORKER_FILE,
): Promise<VmDoor> {
  const { worker, control } = threadFor(request, parts, workerFile);
  const { eventfds, owners, budget } = parts;
  const pins = new EventfdPins(eventfds, budget.accountIndex, owners, request.replay);
  const carrier = threadCarrier(worker, control, parts.clock);
  const door = new VmDoor(carrier, pins, () => {
    parts.budget.closeAccount();
    parts.onClosed();
  });
  try {
    await started(worker, door, parts.code);
  } catch (error) {
    await door.close();
    throw error;
  }
  return door;
}

function threadFor(request: VmRequest, parts: VmParts, workerFile: URL): Thread {
  const spare = parts.spares?.take() ?? null;
  if (spare !== null) {
    spare.worker.postMessage(threadSetup(request, parts, spare.control));
    spare.control.announce(false);
    return spare;
  }
  const control = ThreadControl.create();
  return { worker: startThread(workerFile, threadSetup(request, parts, control)), control };
}

function threadSetup(request: VmRequest, parts: VmParts, control: ThreadControl): ThreadSetup {
  return {
    request,
    budget: parts.budget.shared,
    budgetAccount: parts.budget.accountIndex,
    eventfds: parts.eventfds.shared,
    control: control.shared,
    tier0: parts.code.tier0,
  };
}

/**
 * Resolves when the VM is built. Every later message and the thread's end go to the door; then the
 * promise is settled and a failure is the door's news alone.
 */
function started(worker: Worker, door: VmDoor, share: CodeShare): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (reason: string): void => {
      const why = `The VM's thread did not start: ${reason.split("\n", 1)[0]}`;
      reject(new ServiceError("vm-start-failed", why));
      door.died(reason);
    };
    worker.on("message", (message: FromVm) => {
      if (message.kind === "ready") resolve();
      else if (message.kind === "refused-start") reject(fromRefusal(message.refusal));
      else if (message.kind === "tier0") share.tier0 ??= message.code;
      else if (message.kind === "died") failed(message.reason);
      else door.deliver(message);
    });
    worker.on("error", (error) => failed(error.stack ?? error.message));
    worker.on("exit", (code) => failed(`it ended with code ${code}`));
  });
}

function threadCarrier(worker: Worker, control: ThreadControl, clock: Clock): VmCarrier {
  const exited = new Promise<void>((resolve) => {
    worker.once("exit", () => resolve());
  });
  return {
    post: (message, transfer) => {
      worker.postMessage(message, [...transfer]);
      control.announce(isUrgent(message));
      // Among busy guests it would hear of it too late by a tenth of a second.
      if (isHold(message)) urge(control.thread);
    },
    // A thread that does not leave its loop in time, whatever it runs, is terminated.
    end: async () => {
      control.end();
      const cancel = clock.timer(VM_END_GRACE_MS, () => void worker.terminate());
      await exited;
      cancel();
    },
  };
}
