// Owns: the runs of one vCPU: at most one active, the last results (DESIGN 12). HTTP thread.
import { KvmError, ServiceError } from "../base/errors.js";
import type { RunResult } from "../runtime/index.js";
import type { RunResource } from "./services.js";

/** One KVM_RUN from its start to its exit. */
export interface Run {
  readonly id: string;
  kickRequested: boolean;
  /** null while it runs. */
  result: RunResult | null;
  /** Resolves at the exit. */
  readonly exited: Promise<void>;
}

interface RunName {
  readonly start: number;
  readonly number: number;
}

export class VcpuRuns {
  readonly #vmId: string;
  readonly #vcpu: number;
  readonly #keep: number;
  /** The oldest first; the active one, if any, is the last. */
  readonly #kept: Run[] = [];
  #issued = 0;

  constructor(vmId: string, vcpu: number, keep: number) {
    this.#vmId = vmId;
    this.#vcpu = vcpu;
    this.#keep = keep;
  }

  get active(): Run | null {
    const last = this.#kept.at(-1);
    return last !== undefined && last.result === null ? last : null;
  }

  /**
   * Adds the next run. Its id is "run_S-N": the VM's S-th start, the vCPU's N-th run since the
   * service started, so an id of an earlier life is never one of this.
   */
  add(starts: number, running: Promise<RunResult>): Run {
    this.#issued += 1;
    const ended = running.catch(failedRun);
    const run: Run = {
      id: `run_${starts}-${this.#issued}`,
      kickRequested: false,
      result: null,
      exited: ended.then((result) => {
        run.result = result;
      }),
    };
    this.#kept.push(run);
    if (this.#kept.length > this.#keep) this.#kept.shift();
    return run;
  }

  /**
   * @param starts how often the VM was started
   * @param isActive whether the VM has a thread now
   * @throws ServiceError "run-gone" when its result was dropped; "run-not-found"
   */
  require(id: string, starts: number, isActive: boolean): Run {
    const found = this.#kept.find((run) => run.id === id);
    if (found !== undefined) return found;
    const name = parse(id);
    const isOld =
      name !== null &&
      name.number > 0 &&
      (name.start === starts ? name.number <= this.#issued || !isActive : name.start < starts);
    if (isOld && name.start > 0) {
      throw new ServiceError(
        "run-gone",
        `The result of ${id} is gone: only the last ${this.#keep} runs of a vCPU are kept.`,
      );
    }
    throw new ServiceError("run-not-found", `vCPU ${this.#vcpu} has no run ${id}.`);
  }

  list(): readonly RunResource[] {
    return this.#kept.map((run) => this.resource(run));
  }

  resource(run: Run): RunResource {
    const { id, result, kickRequested } = run;
    const state = result === null ? "running" : "exited";
    return { id, vmId: this.#vmId, vcpu: this.#vcpu, state, result, kickRequested };
  }
}

/** A run that ended without an exit: refused, or its VM went away under it. */
function failedRun(error: unknown): RunResult {
  // EIO is what Linux answers for a vCPU whose VM is gone.
  const errno = error instanceof KvmError ? error.errno : "EIO";
  return {
    errno,
    exitReason: "KVM_EXIT_UNKNOWN",
    deviceIrqLevel: 0,
    retired: 0,
    program: { completed: 0, finished: false },
  };
}

function parse(id: string): RunName | null {
  const match = /^run_([0-9]{1,9})-([0-9]{1,15})$/.exec(id);
  return match === null ? null : { start: Number(match[1]), number: Number(match[2]) };
}
