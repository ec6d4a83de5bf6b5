// Owns: KVM_RUN as a resource: start, wait, kick. HTTP thread.
import type { Clock } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import type { VmHandle } from "../runtime/index.js";
import type { RunResource, RunService } from "./services.js";
import { type Run, VcpuRuns } from "./vcpu-runs.js";
import type { VmEntry } from "./vm-entry.js";
import type { VmRegistry } from "./vm-registry.js";

interface Deps {
  readonly registry: VmRegistry;
  readonly clock: Clock;
  readonly runsPerVcpu: number;
}

export class Runs implements RunService {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  async start(
    vmId: string,
    vcpu: number,
    options: { immediateExit: boolean; mmioData: Uint8Array | null; timeoutMs: number | null },
  ): Promise<RunResource> {
    const entry = this.#deps.registry.require(vmId);
    const handle = entry.requireHandle();
    await requireVcpu(entry, vcpu);
    if (entry.definition.board !== undefined) {
      const why = "The VM has a board, which runs the vCPUs itself: use its actions.";
      throw new ServiceError("owned-by-board", why);
    }
    entry.refuseIfDebugged();
    const runs = this.#runsOf(entry, vcpu);
    const active = runs.active;
    if (active !== null) {
      throw new ServiceError(
        "vcpu-running",
        `vCPU ${vcpu} runs already as ${active.id}: wait for its exit, or kick it.`,
        { runId: active.id },
      );
    }
    const { timeoutMs } = options;
    const run = this.begin(entry, handle, vcpu, options);
    if (timeoutMs !== null) {
      const cancel = this.#deps.clock.timer(timeoutMs, () => {
        // Whatever becomes of the kick, the run's own result tells.
        void this.#kickRun(entry, vcpu, run).catch(() => {});
      });
      void run.exited.then(cancel);
    }
    return runs.resource(run);
  }

  /** KVM_RUN without asking whether anybody else runs the vCPU. */
  begin(
    entry: VmEntry,
    handle: VmHandle,
    vcpu: number,
    { immediateExit, mmioData }: { immediateExit: boolean; mmioData: Uint8Array | null },
  ): Run {
    const running = handle.call("run", { vcpu, immediateExit, mmioData });
    const result = running.then((stamped) => stamped.value);
    return this.#runsOf(entry, vcpu).add(entry.record.starts, result);
  }

  /** Kicks every vCPU out of KVM_RUN, and waits until none is in it. */
  async halt(entry: VmEntry): Promise<void> {
    const active = [...entry.runs].flatMap(([vcpu, { active: run }]) => {
      return run === null ? [] : [{ vcpu, run }];
    });
    for (const { vcpu, run } of active) await this.#kickRun(entry, vcpu, run);
    for (const { run } of active) await run.exited;
  }

  async get(vmId: string, vcpu: number, runId: string, waitMs: number): Promise<RunResource> {
    const { runs, run } = await this.#find(vmId, vcpu, runId);
    if (run.result === null && waitMs > 0) await this.#exitOrTimeout(run, waitMs);
    return runs.resource(run);
  }

  async list(vmId: string, vcpu: number): Promise<readonly RunResource[]> {
    const entry = this.#deps.registry.require(vmId);
    await requireVcpu(entry, vcpu);
    return entry.runs.get(vcpu)?.list() ?? [];
  }

  async kick(vmId: string, vcpu: number, runId: string | null): Promise<RunResource | null> {
    if (runId !== null) {
      const { entry, runs, run } = await this.#find(vmId, vcpu, runId);
      await this.#kickRun(entry, vcpu, run);
      return runs.resource(run);
    }
    const entry = this.#deps.registry.require(vmId);
    const handle = entry.requireHandle();
    const active = entry.runs.get(vcpu)?.active ?? null;
    if (active !== null) active.kickRequested = true;
    await handle.call("kick", { vcpu });
    if (active === null) return null;
    return entry.runs.get(vcpu)?.resource(active) ?? null;
  }

  async #kickRun(entry: VmEntry, vcpu: number, run: Run): Promise<void> {
    // Once is enough, and after the exit it would hit the next run.
    if (run.result !== null || run.kickRequested) return;
    run.kickRequested = true;
    await entry.requireHandle().call("kick", { vcpu });
  }

  async #find(
    vmId: string,
    vcpu: number,
    runId: string,
  ): Promise<{ entry: VmEntry; runs: VcpuRuns; run: Run }> {
    const entry = this.#deps.registry.require(vmId);
    await requireVcpu(entry, vcpu);
    const runs = this.#runsOf(entry, vcpu);
    const run = runs.require(runId, entry.record.starts, entry.handle !== null);
    return { entry, runs, run };
  }

  /** Only for a vCPU that exists, so that the map is bounded. */
  #runsOf(entry: VmEntry, vcpu: number): VcpuRuns {
    let runs = entry.runs.get(vcpu);
    if (runs === undefined) {
      runs = new VcpuRuns(entry.id, vcpu, this.#deps.runsPerVcpu);
      entry.runs.set(vcpu, runs);
    }
    return runs;
  }

  #exitOrTimeout(run: Run, waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#deps.clock.timer(waitMs, resolve);
      void run.exited.then(() => {
        cancel();
        resolve();
      });
    });
  }
}

/** @throws ServiceError "vcpu-not-found" */
async function requireVcpu(entry: VmEntry, vcpu: number): Promise<void> {
  if (entry.shape.hasVcpu(vcpu)) return;
  // A VM that replays a log may have vCPUs that are not recorded yet: it knows.
  if (entry.handle !== null) await entry.handle.call("describeVcpu", { vcpu });
  else throw new ServiceError("vcpu-not-found", `VM ${entry.id} has no vCPU ${vcpu}.`);
}
