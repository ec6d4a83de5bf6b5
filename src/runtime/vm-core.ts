// Owns: the VM's side of the door: commands in, stamped answers out, log and replay. The same code
// runs in a VM's thread (vm-loop.ts) and inline (inline-vm.ts); nothing here is asynchronous.
//
//   call ──▶ not logged ──────────────▶ submit ──▶ reply          (a pure read)
//        └─▶ logged, replaying ───────▶ refused "vm-replaying"
//        └─▶ logged, live ──▶ submit ─▶ recorder ──▶ reply when done
//   replay entry ──▶ advanceTo(stamp) ──▶ submit ──▶ recorder      until the log's end

import type { Clock } from "../base/clock.js";
import { KvmError, ServiceError, toRefusal } from "../base/errors.js";
import type { EventfdCounters, EventfdFound } from "../base/eventfd-counters.js";
import type { MemoryBudget } from "../base/memory-budget.js";
import { Prng } from "../base/prng.js";
import type {
  Command,
  InstanceDeps,
  Outcome,
  Stamp,
  VmDefinition,
  VmInstance,
} from "../vmm/index.js";
import { localsOf } from "./eventfd-pins.js";
import type { InputLog, LoggedCommand } from "./handle.js";
import { InputRecorder } from "./input-log.js";
import { COMMAND_ROWS } from "./logged.table.js";
import type { SendFromVm, ToVm, VmRequest } from "./protocol.js";
import { movableBuffers } from "./transfer.js";
import { VmEventfds } from "./vm-eventfds.js";

export type InstanceFactory = (definition: VmDefinition, deps: InstanceDeps) => VmInstance;

export interface CoreParts {
  readonly request: VmRequest;
  /** The VM's own account. */
  readonly budget: MemoryBudget;
  readonly eventfds: EventfdCounters;
  readonly schedule: InstanceDeps["schedule"];
  readonly clock: Clock;
  readonly createInstance: InstanceFactory;
  readonly onHeld?: InstanceDeps["onHeld"];
  readonly send: SendFromVm;
}

/** When hot code is translated is nothing that a VM's state tells; a delay proves that. */
function translationOf({ translationDelay = 0, definition }: VmRequest) {
  if (translationDelay === 0) return {};
  const prng = new Prng(definition.seed);
  return { translation: { delay: () => prng.below(translationDelay + 1) } };
}

interface Replay {
  readonly log: InputLog;
  /** Index of the next entry. */
  next: number;
  /** Scheduler steps that are surely done. */
  step: number;
}

export class VmCore {
  readonly instance: VmInstance;
  readonly #recorder: InputRecorder;
  readonly #eventfds: VmEventfds;
  readonly #send: SendFromVm;
  /** What is left to replay, next first; null when the VM is live. */
  #replay: Replay | null;

  /** @throws KvmError as CREATE_VM */
  constructor(parts: CoreParts) {
    const { request, budget } = parts;
    this.#send = parts.send;
    this.#eventfds = new VmEventfds(parts.eventfds.shared, budget.accountIndex, {
      forgotten: (local, ordinal) => this.#send({ kind: "unbound", local, ordinal }, []),
      signalled: (index) => this.#send({ kind: "eventfd-signalled", index }, []),
      waits: (index, isWaiting) => this.#send({ kind: "eventfd-waits", index, isWaiting }, []),
      released: (index) => this.#send({ kind: "eventfd-released", index }, []),
    });
    this.#recorder = new InputRecorder(request.definition, request.inputLog, budget);
    const log = request.replay;
    this.#replay = log === null ? null : { log, next: 0, step: 0 };
    this.instance = parts.createInstance(request.definition, {
      budget,
      eventfds: this.#eventfds,
      schedule: parts.schedule,
      clock: parts.clock,
      ...(parts.onHeld === undefined ? {} : { onHeld: parts.onHeld }),
      ...translationOf(request),
    });
  }

  /** Takes one message in. An error that leaves this function is a bug and ends the VM. */
  receive(message: ToVm): void {
    if (message.kind === "input-log") {
      const log = this.#recorder.log(this.#present());
      this.#send({ kind: "input-log", id: message.id, log }, []);
      return;
    }
    const { id, command, bindings } = message;
    const { logged } = COMMAND_ROWS[command.name];
    this.#eventfds.bind(bindings);
    const locals = bindings.map(({ local }) => local);
    if (logged && this.#replay !== null) {
      this.#eventfds.commandDone(locals);
      const why = "The VM replays its input log; until that has finished it takes only reads.";
      this.#refuse(id, new ServiceError("vm-replaying", why));
      return;
    }
    this.#submit(command, locals, (outcome, stamp) => this.#answer(id, command, outcome, stamp));
  }

  /**
   * Goes on with the VM.
   * @returns "idle" when only a message, or time, can change anything
   */
  advance(maxSteps: number, interrupted: () => boolean): "idle" | "runnable" {
    const state = this.#advance(maxSteps, interrupted);
    for (const news of this.instance.takeNews()) this.#send({ kind: "news", news }, []);
    return state;
  }

  #advance(maxSteps: number, interrupted: () => boolean): "idle" | "runnable" {
    const replay = this.#replay;
    if (replay === null) return this.instance.advance(maxSteps, interrupted);
    const entry = replay.log.entries[replay.next];
    const goal = entry?.stamp ?? replay.log.end;
    // A long way to the next stamp is gone in pieces, so that reads are answered on it. The last
    // step is left to advanceTo(), which knows where it was cut.
    if (goal === undefined) this.#finishReplay(null);
    else if (goal.step - replay.step > maxSteps && this.#runs(maxSteps)) replay.step += maxSteps;
    else if (entry !== undefined) this.#replayEntry(replay, entry);
    else this.#finishReplay(this.instance.advanceTo(goal));
    return "runnable";
  }

  /** After "idle": milliseconds until time changes something. */
  msToSleep(): number {
    return this.instance.msToSleep();
  }

  /** Releases what the instance holds outside itself. */
  close(): void {
    this.instance.close();
  }

  /** @returns where the VM stands: the stamp of a read, which moves nothing */
  #present(): Stamp {
    return this.instance.submit({ name: "describe", args: {} }, () => {});
  }

  /** @returns whether all the steps were done and there are more to do */
  #runs(steps: number): boolean {
    return this.instance.advance(steps, () => false, true) === "runnable";
  }

  #replayEntry(replay: Replay, { stamp, command }: LoggedCommand): void {
    const diverged = this.instance.advanceTo(stamp);
    if (diverged !== null) {
      this.#finishReplay(diverged);
      return;
    }
    const locals = localsOf(command);
    for (const local of locals) this.#eventfds.bindReplayed(local);
    // Its caller had the answer long ago.
    const again = this.#submit(command, locals, () => {});
    replay.next++;
    replay.step = stamp.step;
    if (again.instructions !== stamp.instructions || again.virtualNs !== stamp.virtualNs) {
      this.#finishReplay(
        `Input ${stamp.seq} (${command.name}) came after ${stamp.instructions} instructions, ` +
          `${stamp.virtualNs} ns; in replay after ${again.instructions}, ${again.virtualNs} ns.`,
      );
    }
  }

  #finishReplay(diverged: string | null): void {
    this.#replay = null;
    if (diverged !== null) this.#recorder.spoil(`Its replay left the log: ${diverged}`);
    this.#send({ kind: "news", news: { kind: "replay-finished", diverged } }, []);
  }

  /** Submits, records what must be, and calls `done` once, after the stamp is known. */
  #submit(
    command: Command,
    locals: readonly number[],
    done: (outcome: Outcome, stamp: Stamp) => void,
  ): Stamp {
    let stamp: Stamp | null = null;
    let early: Outcome | null = null;
    const settle = (outcome: Outcome, at: Stamp): void => {
      this.#eventfds.commandDone(locals);
      done(outcome, at);
    };
    this.#eventfds.replay(foundIn(command));
    const entered = this.instance.submit(command, (outcome) => {
      if (stamp === null) early = outcome;
      else settle(outcome, stamp);
    });
    stamp = entered;
    const { found } = this.#eventfds;
    const { logged, spoils } = COMMAND_ROWS[command.name];
    if (spoils !== undefined) this.#recorder.spoil(spoils);
    else if (logged) {
      this.#recorder.add(entered, found === null ? command : withFound(command, found));
    }
    if (early !== null) settle(early, entered);
    return entered;
  }

  #answer(id: number, command: Command, outcome: Outcome, stamp: Stamp): void {
    if (!outcome.ok) {
      this.#refuse(id, outcome.error);
      return;
    }
    let { value } = outcome;
    // Only this side knows of the replay.
    if (command.name === "describe") {
      value = { ...(value as object), replaying: this.#replay !== null };
    }
    this.#send({ kind: "reply", id, stamp, value }, movableBuffers(value));
  }

  #refuse(id: number, error: unknown): void {
    if (!(error instanceof KvmError || error instanceof ServiceError)) throw error;
    this.#send({ kind: "refused", id, refusal: toRefusal(error) }, []);
  }
}

/** What a replayed command's hook found, when it was live. */
function foundIn(command: Command): EventfdFound | null {
  return "found" in command.args ? command.args.found : null;
}

/** How a hook finds its counter is nothing that the VM decides: the log has to say. */
function withFound(command: Command, found: EventfdFound): Command {
  return { name: command.name, args: { ...command.args, found } } as Command;
}
