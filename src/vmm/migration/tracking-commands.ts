// Owns: what each command of dirty tracking does: one row per name of TrackingCommands. VM thread.
import { ServiceError } from "../../base/errors.js";
import { THROTTLE_PERCENT_MAX } from "../../kvm/index.js";
import type { Row } from "../command-row.js";
import type { CommandArgs } from "../commands.js";
import type { Machine } from "../machine.js";
import type { ThrottleView, TrackingCommands, TrackingMethod } from "./commands.js";
import { METHODS } from "./track-methods.js";

/** @throws ServiceError "validation" */
function methodOf(name: string | null): TrackingMethod | null {
  if (name === null) return null;
  const found = METHODS.find((method) => method === name);
  if (found !== undefined) return found;
  throw new ServiceError("validation", `method must be one of ${METHODS.join(", ")}.`);
}

function throttleView({ kvm: { vm } }: Machine): ThrottleView {
  const vcpus = vm.vcpus.map(({ id, dirtied, throttledNs }) => ({
    vcpu: id,
    dirtied,
    throttledNs,
  }));
  return { percent: vm.throttle.percent, dirtyLimit: vm.throttle.dirtyLimit, vcpus };
}

function setThrottle(m: Machine, args: CommandArgs<"setThrottle">): ThrottleView {
  const { percent, dirtyLimit } = args;
  if (!Number.isInteger(percent) || percent < 0 || percent > THROTTLE_PERCENT_MAX) {
    throw new ServiceError("validation", `percent must be 0 to ${THROTTLE_PERCENT_MAX}.`);
  }
  if (!Number.isSafeInteger(dirtyLimit) || dirtyLimit < 0) {
    throw new ServiceError("validation", "dirtyLimit must be pages per second, 0 for no limit.");
  }
  m.kvm.vm.throttle.set(percent, dirtyLimit);
  return throttleView(m);
}

export const TRACKING_COMMANDS: { readonly [K in keyof TrackingCommands]: Row<K> } = {
  describeTracking: { now: (m) => m.tracking.view() },
  trackDirty: {
    *op(m, { consumer, on, method }) {
      const wanted = methodOf(method);
      const view = on ? yield* m.tracking.begin(consumer, wanted) : yield* m.tracking.end(consumer);
      m.shadow?.slotsChanged();
      return view;
    },
  },
  harvestDirty: { op: (m, { consumer, last }) => m.tracking.harvest(consumer, last) },
  peekDirty: { now: (m, { consumer }) => m.tracking.peek(consumer) },
  returnDirty: {
    now: (m, { consumer, pages }) => {
      m.tracking.giveBack(consumer, pages);
      return null;
    },
  },
  setThrottle: { now: setThrottle },
  describeThrottle: { now: throttleView },
};
