// Planted defects of dirty rings and of harvests that are kept.
import { type Planting, running } from "../plant.js";

const RESET = "resetDirtyRings";
const DIRTY_FLAG = 1;
const RESET_FLAG = 2;
const RESERVED_ENTRIES = 64;

/** The word without its highest bit. */
function withoutLast(lo: number, hi: number): [number, number] {
  if (hi !== 0) return [lo, (hi & ~(1 << (31 - Math.clz32(hi)))) >>> 0];
  return [(lo & ~(1 << (31 - Math.clz32(lo)))) >>> 0, 0];
}

export const RING_PLANTS = {
  "ring-drops-at-limit": ({ kvm: { vm } }) => {
    for (const { ring } of vm.vcpus) {
      if (ring === null) continue;
      const push = ring.push.bind(ring);
      ring.push = (slot, offset) => {
        const used = ring.dirtyIndex - ring.resetIndex;
        if (used + 1 < ring.size - RESERVED_ENTRIES) push(slot, offset);
        else ring.softFullRequested = true;
      };
    }
  },
  "reset-no-rearm": (machine) => {
    const { log } = machine.kvm;
    const protect = log.protectMasked.bind(log);
    log.protectMasked = (slot, page, lo, hi) => {
      if (!running(machine, RESET)) protect(slot, page, lo, hi);
    };
  },
  "reset-forgets-run-end": (machine) => {
    const { log } = machine.kvm;
    const protect = log.protectMasked.bind(log);
    log.protectMasked = (slot, page, lo, hi) => {
      const [low, high] = running(machine, RESET) ? withoutLast(lo, hi) : [lo, hi];
      if (low !== 0 || high !== 0) protect(slot, page, low, high);
    };
  },
  "reset-takes-unharvested": ({ kvm: { vm } }) => {
    for (const { ring } of vm.vcpus) {
      if (ring === null) continue;
      const take = ring.takeHarvested.bind(ring);
      ring.takeHarvested = () => {
        const { flags } = ring.entry(ring.resetIndex);
        if (flags === DIRTY_FLAG) ring.setFlags(ring.resetIndex, RESET_FLAG);
        return take();
      };
    }
  },
  "harvest-not-kept": ({ harvests }) => {
    const take = harvests.take.bind(harvests);
    const last = new Map<number, string>();
    harvests.take = function* (slot, consume): ReturnType<typeof harvests.take> {
      const kept = last.get(slot);
      if (kept !== undefined) harvests.acknowledge(slot, kept);
      const taken = yield* take(slot, consume);
      last.set(slot, taken.id);
      return taken;
    };
  },
} as const satisfies Record<string, Planting>;
