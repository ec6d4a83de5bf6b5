// Owns: arguments that pass and that don't of each command around a VM's state, and the VM that
// they are for: nothing keeps it on its host, and it is held where it has to be. Test process.
import { PageRequests } from "../../../src/base/page-requests.js";
import type { CommandName } from "../../../src/vmm/commands.js";
import type { StateCommands } from "../../../src/vmm/migration/commands.js";
import { Inline } from "../../support/inline.js";
import type { Case } from "./device-cases.table.js";

const none = {};
const HELD: ReadonlySet<CommandName> = new Set<CommandName>([
  ...(["saveState", "loadState", "awaitPages"] as const),
]);

/** Objects 1 with bytes and 2 without, vCPU 0. */
export function stateVm(name: CommandName): Inline {
  const vm = new Inline();
  vm.slot(0, 64);
  vm.slot(1, 64, { gpa: 0x9000_0000, backing: "unbacked" });
  vm.vcpu();
  if (HELD.has(name)) vm.call("holdVm", { hold: true, why: "It is being tested." });
  return vm;
}

const { parts } = stateVm("saveState").call("saveState", none);
const [first, ...others] = parts;
const unknown = { kind: "unknown", version: 1, data: null };
const sequences = Uint32Array.of(3, 4);

export const STATE_CASES: { readonly [K in keyof StateCommands]: Case<K> } = {
  describeMemory: { good: none, bad: [] },
  holdVm: { good: { hold: true, why: "It is being tested." }, bad: [] },
  saveState: { good: none, bad: [] },
  loadState: {
    good: { parts, eventfds: [] },
    bad: [
      [{ parts: [] }, "state-mismatch"],
      [{ parts: others }, "state-mismatch"],
      [{ parts: [{ ...first!, version: 99 }, ...others] }, "state-mismatch"],
      [{ parts: [...parts, unknown] }, "state-leftover"],
      [{ parts: [...parts, first!] }, "state-leftover"],
    ],
  },
  awaitPages: {
    good: { present: new Map(), requests: new PageRequests().shared },
    bad: [],
  },
  pagesArrived: { good: none, bad: [] },
  allPagesHere: { good: none, bad: [] },
  readSequences: {
    good: { object: 2, first: 0, count: 64 },
    bad: [
      [{ object: 9, first: 0, count: 1 }, "memory-object-not-found"],
      [{ object: 1, first: 0, count: 1 }, "out-of-range"],
      [{ object: 2, first: 1, count: 64 }, "out-of-range"],
    ],
  },
  writeSequences: {
    good: { object: 2, pages: Uint32Array.of(0, 63), sequences },
    bad: [
      [{ object: 9, pages: Uint32Array.of(0, 1), sequences }, "memory-object-not-found"],
      [{ object: 1, pages: Uint32Array.of(0, 1), sequences }, "out-of-range"],
      [{ object: 2, pages: Uint32Array.of(0, 64), sequences }, "out-of-range"],
      [{ object: 2, pages: Uint32Array.of(0), sequences }, "out-of-range"],
    ],
  },
};
