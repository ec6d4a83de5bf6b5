// Owns: a measured dirty rate without a VM below it. Test process.
import { ServiceError } from "../../src/base/errors.js";
import type { DirtyRateService, VmResource } from "../../src/service/index.js";

/** @param vmOf throws for an unknown VM */
export function fakeDirtyRates(vmOf: (id: string) => VmResource): DirtyRateService {
  const rates = new Map<string, number>();
  const rateOf = (vmId: string, durationMs: number) => ({
    vmId,
    method: "hdbss+hacdbs" as const,
    durationMs,
    pages: 100,
    pagesPerSecond: 1000,
    mibPerSecond: 3.90625,
    vcpus: [{ vcpu: 0, pagesPerSecond: 1000 }],
    measuredAt: "2026-11-20T12:00:00.000Z",
  });
  return {
    measure: async (vmId, periodMs) => {
      if (vmOf(vmId).state !== "active") {
        throw new ServiceError("vm-not-active", "The VM is not active.");
      }
      rates.set(vmId, periodMs);
      return rateOf(vmId, periodMs);
    },
    get: async (vmId) => {
      const periodMs = rates.get(vmOf(vmId).id);
      if (periodMs !== undefined) return rateOf(vmId, periodMs);
      throw new ServiceError("dirty-rate-not-found", "The VM's dirty rate was not measured.");
    },
  };
}
