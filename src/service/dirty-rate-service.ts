// Owns: how fast VMs dirty their memory, measured beside whatever else tracks it. HTTP thread.
import { type Clock, timestamp } from "../base/clock.js";
import { ServiceError } from "../base/errors.js";
import type { CommandResult } from "../runtime/index.js";
import type { DirtyRateResource, DirtyRateService, VmService } from "./services.js";
import type { VmRegistry } from "./vm-registry.js";

const MS_PER_S = 1000;
const MIB = 2 ** 20;

interface Deps {
  readonly vms: Pick<VmService, "command" | "get">;
  readonly registry: VmRegistry;
  readonly clock: Clock;
}

type Vcpus = NonNullable<CommandResult<"describeThrottle">["vcpus"]>;

export class DirtyRates implements DirtyRateService {
  readonly #deps: Deps;
  readonly #running = new Set<string>();
  readonly #last = new Map<string, DirtyRateResource>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  async measure(vmId: string, periodMs: number): Promise<DirtyRateResource> {
    if (this.#running.has(vmId)) {
      throw new ServiceError(
        "dirty-rate-running",
        "The VM's dirty rate is being measured already.",
      );
    }
    this.#running.add(vmId);
    try {
      const rate = await this.#measure(vmId, periodMs);
      for (const id of this.#last.keys()) if (!this.#deps.registry.has(id)) this.#last.delete(id);
      this.#last.set(vmId, rate);
      return rate;
    } finally {
      this.#running.delete(vmId);
    }
  }

  async #measure(vmId: string, periodMs: number): Promise<DirtyRateResource> {
    const { vms, clock } = this.#deps;
    const consumer = `vms/${vmId}/dirty-rate`;
    const { definition } = await vms.get(vmId);
    const began = await vms.command(vmId, "trackDirty", { consumer, on: true, method: null });
    try {
      const before = await this.#dirtied(vmId);
      const startMs = clock.monotonicMs();
      await clock.sleep(periodMs);
      const { value: dirty } = await vms.command(vmId, "harvestDirty", { consumer });
      const durationMs = clock.monotonicMs() - startMs;
      const after = await this.#dirtied(vmId);
      const perSecond = (pages: number) => (pages * MS_PER_S) / Math.max(1, durationMs);
      const pagesPerSecond = perSecond(dirty.pages);
      return {
        vmId,
        method: began.value.method ?? "bitmap",
        durationMs,
        pages: dirty.pages,
        pagesPerSecond,
        mibPerSecond: (pagesPerSecond * definition.pageSize) / MIB,
        vcpus: after.map(({ vcpu, dirtied }) => {
          const first = before.find((each) => each.vcpu === vcpu)?.dirtied ?? 0;
          return { vcpu, pagesPerSecond: perSecond(dirtied - first) };
        }),
        measuredAt: timestamp(clock),
      };
    } finally {
      await this.#end(vmId, consumer);
    }
  }

  async #dirtied(vmId: string): Promise<Vcpus> {
    return (await this.#deps.vms.command(vmId, "describeThrottle", {})).value.vcpus ?? [];
  }

  /** A VM that ended meanwhile tracks nothing any more. */
  async #end(vmId: string, consumer: string): Promise<void> {
    try {
      await this.#deps.vms.command(vmId, "trackDirty", { consumer, on: false, method: null });
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
    }
  }

  async get(vmId: string): Promise<DirtyRateResource> {
    await this.#deps.vms.get(vmId);
    const last = this.#last.get(vmId);
    if (last !== undefined) return last;
    throw new ServiceError("dirty-rate-not-found", `The dirty rate of ${vmId} was not measured.`);
  }
}
