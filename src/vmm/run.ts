// Owns: KVM_RUN as a command: of one vCPU, or of several that are waited for together. VM thread.
import { ServiceError } from "../base/errors.js";
import { type Op, type RunOutcome, type Vcpu, Waitable } from "../kvm/index.js";
import type { CommandArgs, CommandResult, RunResult } from "./commands.js";
import type { Machine } from "./machine.js";
import { runLabel } from "./run-label.js";
import { idleVcpu, vcpuOf } from "./vcpu-of.js";

/** Accepted when it comes in, so that a kick that follows finds the vCPU running. */
export function run(m: Machine, args: CommandArgs<"run">): Op<CommandResult<"run">> {
  const vcpu = vcpuOf(m, args.vcpu);
  return reported(vcpu, vcpu.engine.retired, m.kvm.runs.run(vcpu, args));
}

function* reported(vcpu: Vcpu, before: number, op: Op<RunOutcome>): Op<CommandResult<"run">> {
  const outcome = yield* op;
  return {
    ...outcome,
    deviceIrqLevel: vcpu.deviceIrqLevel,
    retired: vcpu.engine.retired - before,
    program: { completed: vcpu.synthetic.completed, finished: vcpu.synthetic.finished },
  };
}

type Ended =
  | { readonly ok: true; readonly value: RunResult }
  | { readonly ok: false; readonly error: unknown };

/**
 * A thread per vCPU, begun in one step: which of them goes first never depends on when requests
 * came in.
 * @throws ServiceError as run, before any of them runs
 */
export function runVcpus(m: Machine, ids: readonly number[]): Op<readonly RunResult[]> {
  for (const id of ids) idleVcpu(m, id);
  if (new Set(ids).size < ids.length) {
    throw new ServiceError("vcpu-running", "a vCPU can't be in KVM_RUN twice: name each once");
  }
  const runs = ids.map((vcpu) => ({
    vcpu,
    op: run(m, { vcpu, immediateExit: false, mmioData: null }),
  }));
  const ended: Ended[] = [];
  const left = new Waitable("runs");
  for (const [at, { vcpu, op }] of runs.entries()) {
    m.kvm.vm.sched.add(runLabel(vcpu), true, op, (outcome) => {
      ended[at] = outcome as Ended;
      left.wake();
    });
  }
  return collected(ended, ids.length, left);
}

function* collected(
  ended: readonly Ended[],
  count: number,
  left: Waitable,
): Op<readonly RunResult[]> {
  while (ended.filter(() => true).length < count) yield left;
  return ended.map((end) => {
    if (!end.ok) throw end.error;
    return end.value;
  });
}
