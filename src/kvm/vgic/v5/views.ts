// Owns: a GICv5 as others look at it: pure looks, nothing is counted. VM thread.
// Commands come between steps, when no CPU interface of a vCPU that isn't in the guest holds
// anything that KVM doesn't have.
import type { V5Context } from "./context.js";
import { istBaserOf } from "./irs.js";
import { V5_NR_PPIS, type V5Cpu } from "./state.js";
import type { V5CpuView, V5SpiView, V5View } from "./view.js";

export function viewOf({ state, tracking }: V5Context): V5View {
  return {
    isInitialized: state.isInitialized,
    isReady: state.isReady,
    irsBase: state.irsBase < 0 ? null : BigInt(state.irsBase),
    nrSpis: state.nrSpis,
    enabled: state.enabled,
    cr1: state.cr1,
    istBaser: istBaserOf(state),
    istCfgr: state.istCfgr,
    lpiIdBits: state.lpiIstBits,
    tracking: tracking.policy,
    inFlight: tracking.inFlight(),
    counters: { ...state.counters },
    cpus: state.cpus.map(viewOfCpu),
  };
}

export function viewOfSpi({ state, tables, tracking }: V5Context, id: number): V5SpiView | null {
  const spi = state.spi(id);
  if (spi === null) return null;
  const { config, lineLevel, pendingLatch, pending, active, intid } = spi;
  return {
    id,
    config,
    lineLevel,
    pendingLatch,
    pending,
    active,
    isListed: tracking.isListed(spi),
    hasNotifier: tracking.hasNotifier(spi),
    isUnacknowledged: spi.owedSince >= 0,
    iste: tables.domain?.entry(intid) ?? -1,
  };
}

function viewOfCpu({ index, vcpuId, state, lines, owners, visible }: V5Cpu): V5CpuView {
  const { cr0, pcr, apr, icsr, ppi } = state;
  const mine = Array.from({ length: V5_NR_PPIS }, (_, id) => id);
  return {
    vcpu: vcpuId,
    index,
    iaffid: vcpuId,
    cr0,
    pcr,
    apr: apr >>> 0,
    icsr,
    ppis: mine
      .filter((id) => ((visible >> BigInt(id)) & 1n) === 1n)
      .map((id) => ({
        id,
        enabled: ppi.get("enable", id),
        pending: ppi.get("pend", id),
        active: ppi.get("active", id),
        level: ppi.get("hm", id),
        priority: ppi.priorityOf(id),
        lineLevel: lines[id] === 1,
        owner: owners.get(id) ?? null,
      })),
  };
}
