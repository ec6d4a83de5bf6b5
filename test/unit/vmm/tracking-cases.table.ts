// Owns: how each command of dirty tracking is asked in commands.test.ts, and the VM that passes.
// Test process.
import type { TrackingCommands } from "../../../src/vmm/migration/commands.js";
import { BASE, Inline } from "../../support/inline.js";
import type { Case } from "./device-cases.table.js";

const none = {};
const CONSUMER = "migrations/m1";
const bits = new Uint8Array(8).fill(0xff);
const taken = { blocks: [{ object: 1, pages: 8, bitmap: bits }], pages: 8 };

/** The host tracks dirty pages, so the client's slot doesn't log. */
export function setUpTracked(): Inline {
  const vm = new Inline();
  vm.slot(0, 64);
  vm.vcpu();
  vm.call("trackDirty", { consumer: CONSUMER, on: true, method: null });
  vm.store(0, [BASE]);
  return vm;
}

export const TRACKING_CASES: { readonly [K in keyof TrackingCommands]: Case<K> } = {
  describeTracking: { good: none, bad: [] },
  trackDirty: {
    good: { consumer: "other", on: true, method: null },
    bad: [
      [{ consumer: CONSUMER, on: true, method: null }, "dirty-log-owned"],
      [{ consumer: CONSUMER, on: true, method: "guessing" }, "validation"],
    ],
  },
  harvestDirty: {
    good: { consumer: CONSUMER },
    bad: [[{ consumer: CONSUMER }, "consumer-not-found"]],
  },
  peekDirty: {
    good: { consumer: CONSUMER },
    bad: [[{ consumer: CONSUMER }, "consumer-not-found"]],
  },
  returnDirty: {
    good: { consumer: CONSUMER, pages: taken },
    bad: [[{ consumer: CONSUMER, pages: taken }, "consumer-not-found"]],
  },
  setThrottle: {
    good: { percent: 99, dirtyLimit: 1000 },
    bad: [
      [{ percent: 100, dirtyLimit: 0 }, "validation"],
      [{ percent: 0, dirtyLimit: 0.5 }, "validation"],
    ],
  },
  describeThrottle: { good: none, bad: [] },
};
