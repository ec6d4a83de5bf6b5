// Goal: an experiment gets every default, and is refused where no VM could do it.
// Method: small requests; each refusal names its place.
import { expect, it } from "vitest";
import { ServiceError } from "../../../../src/base/errors.js";
import { completeSpec } from "../../../../src/service/experiments/spec.js";
import { definitionOf } from "../../../../src/service/experiments/strategy-vm.js";
import type {
  SyntheticWorkload,
  TrackingRequest,
} from "../../../../src/service/experiments/types.js";

const WORKLOAD = { vcpus: 2, bytesPerVcpu: 65_536, storesPerRound: 16, rounds: 2 };
const request = (
  workload: Partial<Omit<SyntheticWorkload, "kind">> = {},
  ...strategies: TrackingRequest["strategies"][number][]
): TrackingRequest => ({
  workload: { ...WORKLOAD, ...workload },
  strategies: strategies.length === 0 ? [{ tracking: "write-protect" }] : strategies,
});

function pointer(asked: TrackingRequest): string | null {
  try {
    completeSpec(asked);
    return null;
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    const [first] = error.extensions["errors"] as { pointer: string }[];
    return `${error.code} ${first?.pointer}`;
  }
}

it("names strategies after what they are", () => {
  const { strategies } = completeSpec(
    request(
      {},
      { tracking: "dbm" },
      { tracking: "dirty-ring" },
      { tracking: "hdbss", hdbssOrder: 3, clean: "hacdbs", seedBugs: ["D4"] },
      { tracking: "hdbss", settings: { "hdbss.dbm": "all-writable-from-start" } },
      { tracking: "hdbss", name: "mine" },
    ),
  );
  expect(strategies.map(({ name }) => name)).toEqual([
    "DBM + scan",
    "dirty ring",
    "HDBSS order 3 + HACDBS, D4",
    "HDBSS order 0, hdbss.dbm=all-writable-from-start",
    "mine",
  ]);
});

it("says whether HACDBS is used by settings of the VM", () => {
  const { workload, strategies } = completeSpec(
    request(
      { seed: "0xfffffffffffffffe" },
      { tracking: "hdbss" },
      { tracking: "hdbss", clean: "hacdbs", seedBugs: ["D4"] },
      { tracking: "dbm", clean: "hacdbs", settings: { "hacdbs.quantumUs": 5 } },
    ),
  );
  const definitions = strategies.map((strategy) => definitionOf(workload, strategy));
  expect(definitions.map(({ seed, dirtyTracking, dirty }) => [seed, dirtyTracking, dirty])).toEqual(
    [
      [2n ** 64n - 2n, "write-protect", { settings: { "hacdbs.use": "off" }, seedBugs: [] }],
      [
        2n ** 64n - 2n,
        "write-protect",
        { settings: { "hacdbs.use": "with-hdbss" }, seedBugs: ["D4"] },
      ],
      [
        2n ** 64n - 2n,
        "dbm",
        { settings: { "hacdbs.use": "with-dbm", "hacdbs.quantumUs": 5 }, seedBugs: [] },
      ],
    ],
  );
});

it.each([
  ["half a page", request({ bytesPerVcpu: 6144 }), "/workload/bytesPerVcpu"],
  ["too many pages", request({ vcpus: 64, bytesPerVcpu: 2 ** 34 }), "/workload/bytesPerVcpu"],
  ["too much RAM", request({ backing: "ram", bytesPerVcpu: 2 ** 31 }), "/workload/backing"],
  ["too many stores", request({ storesPerRound: 2 ** 30 }), "/workload/storesPerRound"],
  ["odd parts of a CLEAR", request({ clearPages: 63 }), "/workload/clearPages"],
  ["odd strides", request({ strides: [4096, 100] }), "/workload/strides/1"],
  ["an empty hot set", request({ pattern: "hot-set", skew: 0 }), "/workload/skew"],
  [
    "an odd ring",
    request({}, { tracking: "dirty-ring", ringEntries: 300 }),
    "/strategies/0/ringEntries",
  ],
  [
    "HACDBS without DBM",
    request({}, { tracking: "write-protect", clean: "hacdbs" }),
    "/strategies/0/clean",
  ],
  ["twice the same", request({}, { tracking: "dbm" }, { tracking: "dbm" }), "/strategies/1/name"],
])("refuses %s", (_what, asked, place) => {
  expect(pointer(asked)).toBe(`validation ${place}`);
});

it("lets one pass over a window count as its pages", () => {
  expect(
    pointer(request({ storesPerRound: 0, vcpus: 64, bytesPerVcpu: 2 ** 31, rounds: 100 })),
  ).toBe("validation /workload/storesPerRound");
});
