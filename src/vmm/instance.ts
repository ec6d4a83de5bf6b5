// Owns: the VM as the runtime drives it: commands in, scheduler steps, stamps.
// VM thread, or inline.
import { systemClock } from "../base/clock.js";
import { KvmError } from "../base/errors.js";
import type { MissingPages, Op } from "../kvm/index.js";
import { refuseOwned } from "./board/owned.table.js";
import { COMMANDS } from "./command.table.js";
import type { Begun } from "./command-row.js";
import type { BoardNews, Command, FaultNews } from "./commands.js";
import type { Stamp, VmDefinition } from "./definition.js";
import { faultNews } from "./dirty.js";
import type { InstanceDeps, Outcome, VmInstance } from "./instance-door.js";
import { IOCTL_OF } from "./ioctl-of.table.js";
import { Machine } from "./machine.js";
import { WAITS_FOR_PAGES } from "./migration/absent-pages.js";
import { refuseTracked } from "./migration/track-owned.table.js";
import { runLabel } from "./run-label.js";

const NO_NEWS: readonly BoardNews[] = [];

/** A row of the table without its own types: the names of command and row agree by construction. */
interface AnyRow {
  readonly now?: (m: Machine, args: unknown) => unknown;
  readonly begin?: (m: Machine, args: unknown) => Begun<unknown>;
  readonly op?: (m: Machine, args: unknown) => Op<unknown>;
  readonly vcpu?: (args: unknown) => number;
}

export class Instance implements VmInstance {
  readonly definition: VmDefinition;
  readonly machine: Machine;
  #seq = 0;
  #hitsTold = 0;

  constructor(definition: VmDefinition, deps: InstanceDeps) {
    this.definition = definition;
    const machine = {
      budget: deps.budget,
      eventfds: deps.eventfds,
      scheduleSeed: deps.schedule === "seeded" ? definition.seed : null,
      translation: deps.translation === undefined ? {} : deps.translation,
      clock: deps.clock ?? systemClock,
    };
    this.machine = new Machine(definition, machine, deps.onHeld ?? (() => {}));
  }

  get memory(): WebAssembly.Memory {
    return this.machine.kvm.vm.host.memory.memory;
  }

  #stamp(): Stamp {
    const { sched, instructions, virtualNs } = this.machine.kvm.vm;
    return {
      seq: this.#seq++,
      step: sched.steps,
      instructions,
      virtualNs,
      cut: false,
    };
  }

  submit(command: Command, done: (outcome: Outcome) => void): Stamp {
    const stamp = this.#stamp();
    const early = this.#enter(command, done);
    if (early !== null) done(early);
    return stamp;
  }

  /** @returns the outcome of a command that is over already; null when a later step gives it */
  #enter(command: Command, done: (outcome: Outcome) => void): Outcome | null {
    const row = COMMANDS[command.name] as AnyRow;
    const ioctl = IOCTL_OF[command.name];
    try {
      if (ioctl !== undefined) this.machine.kvm.vm.checkAlive(ioctl);
      this.machine.held.refuse(command.name);
      if (this.machine.board !== null) refuseOwned(this.machine.board, this.machine.kvm, command);
      refuseTracked(this.machine.tracking, command);
      if (row.now !== undefined) {
        const { missing } = this.machine.kvm.vm;
        if (missing !== null && WAITS_FOR_PAGES.has(command.name)) {
          return this.#whenHere(missing, command, row.now, this.#traced(ioctl, done));
        }
        const value = row.now(this.machine, command.args);
        return this.#answered(ioctl, { ok: true, value });
      }
      const begun = row.begin?.(this.machine, command.args);
      if (begun !== undefined && "value" in begun) {
        return this.#answered(ioctl, { ok: true, value: begun.value });
      }
      const op = begun?.op ?? row.op?.(this.machine, command.args);
      if (op !== undefined) {
        this.#begin(command, row, op, this.#traced(ioctl, done));
      }
      return null;
    } catch (error) {
      return this.#answered(ioctl, { ok: false, error });
    }
  }

  /** Memory is touched once its pages are here. */
  #whenHere(
    missing: MissingPages,
    command: Command,
    now: NonNullable<AnyRow["now"]>,
    done: (outcome: Outcome) => void,
  ): Outcome | null {
    const act = () => now(this.machine, command.args);
    const early = missing.attempt(act);
    if (early !== null) return { ok: true, value: early.value };
    this.machine.kvm.vm.sched.add(command.name, false, missing.whenHere(act), done);
    return null;
  }

  /** Traces an ioctl that is over at once. */
  #answered(ioctl: string | undefined, outcome: Outcome): Outcome {
    const { trace } = this.machine.kvm.vm;
    if (trace.isOn && ioctl !== undefined)
      trace.add("ioctl", null, told(ioctl, outcome), trace.now);
    return outcome;
  }

  /** What an ioctl that takes steps is answered through while it is traced. */
  #traced(ioctl: string | undefined, done: (outcome: Outcome) => void): (outcome: Outcome) => void {
    const { trace } = this.machine.kvm.vm;
    if (!trace.isOn || ioctl === undefined) return done;
    const beganNs = trace.now;
    return (outcome) => {
      if (trace.isOn) trace.add("ioctl", null, told(ioctl, outcome), beganNs);
      done(outcome);
    };
  }

  #begin(command: Command, row: AnyRow, op: Op<unknown>, done: (outcome: Outcome) => void): void {
    const isRun = row.vcpu !== undefined;
    const label = isRun ? runLabel(row.vcpu(command.args)) : command.name;
    this.machine.kvm.vm.sched.add(label, isRun, op, done);
  }

  advance(maxSteps: number, interrupted: () => boolean, isReplay = false): "idle" | "runnable" {
    const { sched, timers } = this.machine.kvm.vm;
    timers.isReplaying = isReplay;
    for (let n = 0; n < maxSteps; n++) {
      if (timers.msAhead > 0 || !sched.step()) return "idle";
      if (interrupted()) return "runnable";
    }
    return sched.runnable || timers.msToSleep === 0 ? "runnable" : "idle";
  }

  msToSleep(): number {
    return this.machine.kvm.vm.timers.msToSleep;
  }

  advanceTo(stamp: Stamp): string | null {
    const { vm } = this.machine.kvm;
    vm.timers.isReplaying = true;
    while (vm.sched.steps < stamp.step && vm.sched.step());
    if (vm.sched.steps < stamp.step) {
      return `nothing was runnable at step ${vm.sched.steps}, before step ${stamp.step}`;
    }
    if (vm.sched.steps > stamp.step) return `step ${stamp.step} had passed already`;
    if (vm.instructions !== stamp.instructions) {
      const { step, instructions } = stamp;
      return `step ${step} came after ${vm.instructions} instructions, not ${instructions}`;
    }
    return null;
  }

  takeNews(): readonly (BoardNews | FaultNews)[] {
    const board = this.machine.board?.takeNews() ?? NO_NEWS;
    const { faults } = this.machine.kvm.vm.host;
    if (faults.total === this.#hitsTold) return board;
    const hits = faultNews(faults.hits.slice(this.#hitsTold - faults.total));
    this.#hitsTold = faults.total;
    return [...board, ...hits];
  }

  digest(): { digest: string; parts: Record<string, string> } {
    return this.machine.digest();
  }

  close(): void {
    const { kvm, held } = this.machine;
    // What a VM misses while it is held is never its own to take along.
    kvm.vm.close(held.isHeld);
  }
}

/** An ioctl and what it returned. */
function told(ioctl: string, outcome: Outcome): { ioctl: string; errno: string } {
  const isRefused = !outcome.ok && outcome.error instanceof KvmError;
  return { ioctl, errno: isRefused ? outcome.error.errno : "" };
}

/**
 * Builds one VM's slice.
 * @throws KvmError EINVAL the host has no such IPA size
 */
export function createInstance(definition: VmDefinition, deps: InstanceDeps): Instance {
  return new Instance(definition, deps);
}
