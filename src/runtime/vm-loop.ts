// Owns: the loop of a VM's thread: drain commands, run, sleep when nothing can happen. VM thread.
//
//        ┌──────────────────────────────────────────────┐
//        ▼                                              │ announced
//   mark ──▶ drain port ──▶ advance ──▶ runnable ──┐    │
//    ▲                         │ idle              │    │
//    └─────────────────────────┼───────────────────┘    │
//                              └──▶ sleep on the control word
//
// The thread never returns to Node's event loop while the VM lives: the port is read synchronously
// and what is posted leaves at once. Only what was announced before `mark` is drained, so callers
// can't keep the guest from its next step; what came later is seen by the sleep. An input that cut
// a step short was announced by then, so every cut is followed by the input that it was made for.
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { assert } from "../base/assert.js";
import { systemClock } from "../base/clock.js";
import { KvmError, ServiceError, toRefusal } from "../base/errors.js";
import { EventfdCounters } from "../base/eventfd-counters.js";
import { giveWay, NICE, systemThread } from "../base/give-way.js";
import { STEPS_PER_TURN } from "../base/limits.js";
import { MemoryBudget } from "../base/memory-budget.js";
import type { shareTier0 } from "../vmm/index.js";
import {
  isHold,
  isUrgent,
  type SendFromVm,
  type SpareSetup,
  type ThreadSetup,
  type ToVm,
} from "./protocol.js";
import { ThreadControl } from "./thread-control.js";
import { type InstanceFactory, VmCore } from "./vm-core.js";

/** Runs a VM in this thread until it is told to end or dies of one of our own bugs. */
export function runVmThread(createInstance: InstanceFactory, share?: typeof shareTier0): void {
  assert(parentPort !== null, "a VM's loop runs in a worker thread");
  const port = parentPort;
  const send: SendFromVm = (message, transfer) => port.postMessage(message, [...transfer]);
  const given = workerData as ThreadSetup | SpareSetup;
  const control = new ThreadControl(given.control);
  const receive = (): unknown => receiveMessageOnPort(port)?.message;
  const setup = "request" in given ? given : awaitSetup(control, receive, send);
  if (setup === null) return;
  control.introduce(systemThread());
  share?.(setup.tier0, (code) => send({ kind: "tier0", code }, []));
  try {
    const urgency = new Urgency();
    const core = startCore(setup, createInstance, urgency, send);
    if (core === null) return;
    send({ kind: "ready" }, []);
    loop(core, control, urgency, receive as () => ToVm | undefined);
    core.close();
  } catch (error) {
    // One of our own bugs: this VM ends, the process and its other VMs do not (DESIGN 16).
    send({ kind: "died", reason: toRefusal(error).detail }, []);
  }
}

/** A spare thread: until it is given a VM, or told to end. */
function awaitSetup(
  control: ThreadControl,
  receive: () => unknown,
  send: SendFromVm,
): ThreadSetup | null {
  send({ kind: "waiting" }, []);
  for (;;) {
    control.mark();
    if (control.isEnding()) return null;
    if (control.hasMore()) {
      control.take(false);
      // From now on it is a VM's thread like any other.
      giveWay(NICE.vm);
      return receive() as ThreadSetup;
    }
    control.sleep();
  }
}

/** @returns null after a refusal, which the HTTP thread has been told. */
function startCore(
  setup: ThreadSetup,
  createInstance: InstanceFactory,
  urgency: Urgency,
  send: SendFromVm,
): VmCore | null {
  try {
    return new VmCore({
      request: setup.request,
      budget: new MemoryBudget(setup.budget, setup.budgetAccount),
      eventfds: new EventfdCounters(setup.eventfds),
      schedule: "round-robin",
      clock: systemClock,
      createInstance,
      onHeld: (isHeld) => urgency.held(isHeld),
      send,
    });
  } catch (error) {
    if (!(error instanceof KvmError || error instanceof ServiceError)) throw error;
    send({ kind: "refused-start", refusal: toRefusal(error) }, []);
    return null;
  }
}

/** A held guest waits for this thread to save, load and let go. */
class Urgency {
  #isHeld = false;

  held(isHeld: boolean): void {
    this.#isHeld = isHeld;
    giveWay(isHeld ? NICE.awaited : NICE.vm);
  }

  /** The HTTP thread has urged this one to hear it, and can't know whether its VM will be held. */
  heard(message: ToVm): void {
    if (isHold(message) && !this.#isHeld) giveWay(NICE.vm);
  }
}

function loop(
  core: VmCore,
  control: ThreadControl,
  urgency: Urgency,
  receive: () => ToVm | undefined,
): void {
  const interrupted = (): boolean => control.isInterrupted();
  for (;;) {
    control.mark();
    while (control.hasMore()) {
      const message = receive();
      if (message === undefined) break;
      control.take(isUrgent(message));
      core.receive(message);
      urgency.heard(message);
    }
    if (control.isEnding()) return;
    const state = core.advance(STEPS_PER_TURN, interrupted);
    // Timers of a wall clock, or of a paced virtual one, wake it too; "jump" never sleeps for them.
    if (state === "idle") control.sleep(core.msToSleep());
  }
}
