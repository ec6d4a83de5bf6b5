// One inline VM and the way commands reach it: recorded with their stamps, so that a run can be
// replayed; failures that are no refusals are kept instead of thrown into the VM's own step.
import { KvmError, ServiceError } from "../../src/base/errors.js";
import { EventfdCounters } from "../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../src/base/memory-budget.js";
import type { Prng } from "../../src/base/prng.js";
import type {
  Command,
  CommandArgs,
  CommandName,
  CommandResult,
  InstanceDeps,
  Stamp,
  VmDefinition,
} from "../../src/vmm/index.js";
import { createInstance, type Instance } from "../../src/vmm/instance.js";
import { SOON } from "../support/inline.js";
import type { DrawnFault } from "./hardware/draw.js";

export type Reply<K extends CommandName> =
  | { readonly ok: true; readonly value: CommandResult<K> }
  | { readonly ok: false; readonly error: KvmError | ServiceError };

/** Before scheduler step `step`, context `id` was put first. */
export interface Nudge {
  readonly step: number;
  readonly id: number;
}

export interface Recorded {
  readonly stamp: Stamp;
  readonly command: Command;
}

const BUDGET_BYTES = 2 ** 34;

/** What a VM is built from, again for a replay. */
export interface Built {
  readonly definition: VmDefinition;
  readonly faults: readonly DrawnFault[];
  readonly downCpus: readonly number[];
}

function build(built: Built, translation: InstanceDeps["translation"]): Instance {
  const instance = createInstance(built.definition, {
    translation: translation ? { hotAfter: SOON, ...translation } : null,
    budget: MemoryBudget.create(BUDGET_BYTES),
    eventfds: EventfdCounters.create(1),
    schedule: "seeded",
  });
  for (const fault of built.faults) instance.machine.kvm.vm.host.faults.arm(fault);
  for (const cpu of built.downCpus) instance.machine.kvm.hacdbs.cpuDown(cpu);
  return instance;
}

export class Link {
  readonly instance: Instance;
  readonly recorded: Recorded[] = [];
  /** Commands sent and not answered yet: runs, and everything else. */
  runsInFlight = 0;
  othersInFlight = 0;
  /**
   * Set while one context at a time is held back for some steps, as if its CPU were slow: races
   * that need a long stay at one point get likely. Choices come from this generator.
   */
  slowness: Prng | null = null;
  /** Whom the simulation put first, by scheduler step; part of the recording. */
  readonly nudges: Nudge[] = [];
  #held = -1;
  #heldSteps = 0;
  /** An error that is no refusal: an assertion of the VM, or a bug of the simulation. */
  broken: string | null = null;

  constructor(built: Built, translation: InstanceDeps["translation"] = null) {
    this.instance = build(built, translation);
  }

  /** Sends a command; `done` comes during this call or during a later advance(). */
  call<K extends CommandName>(
    name: K,
    args: CommandArgs<K>,
    done: (reply: Reply<K>) => void = () => {},
  ): void {
    const command: Command = { name, args };
    const isRun = name === "run";
    if (isRun) this.runsInFlight++;
    else this.othersInFlight++;
    const stamp = this.instance.submit(command, (outcome) => {
      if (isRun) this.runsInFlight--;
      else this.othersInFlight--;
      try {
        if (outcome.ok) {
          done({ ok: true, value: outcome.value as CommandResult<K> });
        } else if (outcome.error instanceof KvmError || outcome.error instanceof ServiceError) {
          done({ ok: false, error: outcome.error });
        } else {
          this.#break(name, outcome.error);
        }
      } catch (error) {
        this.#break(name, error);
      }
    });
    this.recorded.push({ stamp, command });
  }

  #break(name: string, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.broken ??= `${name}: ${text}`;
  }

  /** A command that is answered at once and must not be refused. */
  now<K extends CommandName>(name: K, args: CommandArgs<K>): CommandResult<K> {
    let got: Reply<K> | null = null;
    this.call(name, args, (reply) => {
      got = reply;
    });
    const reply = got as Reply<K> | null;
    if (reply === null) throw new Error(`${name} was not answered at once`);
    if (!reply.ok) throw reply.error;
    return reply.value;
  }

  advance(steps: number): "idle" | "runnable" {
    const { slowness } = this;
    if (slowness === null) return this.instance.advance(steps, () => false);
    for (let n = 0; n < steps; n++) {
      this.#nudge(slowness);
      if (this.instance.advance(1, () => false) === "idle") return "idle";
    }
    return "runnable";
  }

  /** Holds a command's context back for some steps, if it is under way and slowness is on. */
  holdBack(command: CommandName, steps: number): void {
    const { contexts } = this.instance.machine.kvm.vm.sched;
    const context = contexts.find(({ label }) => label === command);
    if (context === undefined) return;
    this.#held = context.id;
    this.#heldSteps = steps;
  }

  /** Holds one context back by putting another one first. */
  #nudge(prng: Prng): void {
    const { sched } = this.instance.machine.kvm.vm;
    const runnable = sched.contexts.filter((context) => context.blockedOn === null);
    if (runnable.length < 2) return;
    if (this.#heldSteps-- <= 0) {
      const ioctls = runnable.filter((context) => !context.isVcpu);
      this.#held = prng.pick(ioctls.length > 0 && prng.below(3) > 0 ? ioctls : runnable).id;
      this.#heldSteps = 4 + prng.below(80);
    }
    const others = runnable.filter((context) => context.id !== this.#held);
    if (others.length === runnable.length) return;
    const { id } = prng.pick(others);
    this.nudges.push({ step: sched.steps, id });
    putFirst(this.instance, id);
  }
}

function putFirst(instance: Instance, id: number): void {
  const { contexts } = instance.machine.kvm.vm.sched;
  for (const context of contexts) context.urgent = context.id === id;
}

/** Steps a VM as it was stepped when its commands were recorded. */
class Stepper {
  readonly #instance: Instance;
  readonly #nudges: readonly Nudge[];
  #at = 0;

  constructor(instance: Instance, nudges: readonly Nudge[]) {
    this.#instance = instance;
    this.#nudges = nudges;
  }

  /** @returns false when nothing is runnable before `step` */
  to(step: number): boolean {
    const { sched } = this.#instance.machine.kvm.vm;
    while (sched.steps < step) {
      const nudge = this.#nudges[this.#at];
      if (nudge?.step === sched.steps) {
        putFirst(this.#instance, nudge.id);
        this.#at++;
      }
      if (!sched.step()) return false;
    }
    return true;
  }
}

/**
 * Runs recorded commands again on a fresh VM, each at its stamp.
 * @returns null when the VM ends in the same state, or how it diverged
 */
export function replay(
  built: Built,
  link: Pick<Link, "recorded" | "nudges">,
  end: { readonly steps: number; readonly parts: Readonly<Record<string, string>> },
  translation: InstanceDeps["translation"] = null,
): string | null {
  const instance = build(built, translation);
  const stepper = new Stepper(instance, link.nudges);
  try {
    for (const { stamp, command } of link.recorded) {
      stepper.to(stamp.step);
      const diverged = instance.advanceTo(stamp);
      if (diverged !== null) return `command ${stamp.seq} (${command.name}): ${diverged}`;
      const again = instance.submit(command, () => {});
      if (again.seq !== stamp.seq) return `command ${stamp.seq} became ${again.seq}`;
    }
    stepper.to(end.steps);
    const { parts } = instance.digest();
    const names = Object.keys(parts).filter((name) => parts[name] !== end.parts[name]);
    return names.length === 0 ? null : `other digests of ${names.join(", ")}`;
  } finally {
    instance.close();
  }
}
