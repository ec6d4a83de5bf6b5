// Owns: running a VM whose VMM is the client: the debugger calls KVM_RUN in its place. HTTP thread.
// Exits that only the client can answer stop for the debugger; they stand in the list of runs.
import type { RunResult } from "../../runtime/index.js";
import type { Resumed, RunControl, Stopped } from "./target.js";

/** KVM_SYSTEM_EVENT_SHUTDOWN. */
const SHUTDOWN = 1;

/** KVM_RUN of one vCPU, as far as a debugger needs it. */
export interface VcpuRunner {
  run(vcpu: number): Promise<RunResult>;
  kick(vcpu: number): Promise<void>;
  /** Ends every run that is under way. */
  halt(): Promise<void>;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

/** Why a run ended, for the debugger; null for a signal, after which it is just run again. */
function stoppedBy(vcpu: number, result: RunResult): Stopped | null {
  const { errno, exitReason, debug, mmio, systemEvent } = result;
  if (errno === "EINTR") return null;
  if (errno === null && debug !== undefined) return { kind: "debug", vcpu, ...debug };
  if (errno === null && mmio !== undefined) {
    const how = mmio.isWrite ? `store of 0x${Buffer.from(mmio.data).toString("hex")}` : "load";
    const why = `vCPU ${vcpu}: MMIO ${how}, ${mmio.len} bytes at ${hex(mmio.physAddr)}`;
    return { kind: "mmio", vcpu, why };
  }
  if (errno === null && systemEvent?.type === SHUTDOWN) return { kind: "off" };
  const what = errno === null ? exitReason : `${exitReason}, ${errno}`;
  const event = systemEvent === undefined ? "" : ` ${systemEvent.type}`;
  return { kind: "exit", vcpu, why: `vCPU ${vcpu}: ${what}${event}` };
}

export class ClientRunControl implements RunControl {
  readonly #runner: VcpuRunner;
  readonly #active = new Set<number>();
  /** Exits beside the one that was told; they are told by the next resumes. */
  #untold: Stopped[] = [];
  #isStopping = false;

  constructor(runner: VcpuRunner) {
    this.#runner = runner;
  }

  attach(): Promise<void> {
    return this.#runner.halt();
  }

  async resume(plan: readonly Resumed[]): Promise<Stopped> {
    const untold = this.#untold.shift();
    if (untold !== undefined) return untold;
    this.#isStopping = false;
    const stops: Stopped[] = [];
    await Promise.all(plan.map(({ vcpu }) => this.#run(vcpu, stops)));
    const [first = { kind: "interrupted" }, ...others] = stops;
    // A debug exception comes again, from the same instruction; an exit does not.
    this.#untold = others.filter(({ kind }) => kind !== "debug");
    return first;
  }

  async #run(vcpu: number, stops: Stopped[]): Promise<void> {
    this.#active.add(vcpu);
    for (;;) {
      const stopped = stoppedBy(vcpu, await this.#runner.run(vcpu));
      if (stopped !== null) stops.push(stopped);
      if (stopped !== null || this.#isStopping) break;
    }
    this.#active.delete(vcpu);
    this.interrupt();
  }

  interrupt(): void {
    if (this.#isStopping) return;
    this.#isStopping = true;
    // Whatever becomes of a kick, the runs themselves tell.
    for (const vcpu of this.#active) void this.#runner.kick(vcpu).catch(() => {});
  }

  /** The vCPUs wait for whoever calls KVM_RUN next. */
  async detach(): Promise<void> {}
}
