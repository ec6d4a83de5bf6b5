// Goal: a comparison of interrupt controllers gets every default and is refused where no VM could
// do it; acknowledgements are matched with what they are for; devices behave as VFIO's do.
// Method: small requests, moments by hand, devices without a VM.
import { describe, expect, it } from "vitest";
import { ServiceError } from "../../../../src/base/errors.js";
import { costModel } from "../../../../src/service/experiments/cost-model.table.js";
import {
  checkAcks,
  type Moment,
} from "../../../../src/service/experiments/interrupts/ack-check.js";
import { cyclesOfInterrupts } from "../../../../src/service/experiments/interrupts/cost.js";
import { Devices } from "../../../../src/service/experiments/interrupts/devices.js";
import {
  completeInterrupts,
  hasNotifier,
  stopsOf,
} from "../../../../src/service/experiments/interrupts/spec.js";
import { completeSpec } from "../../../../src/service/experiments/spec.js";
import type {
  InterruptRequest,
  TrackingRequest,
} from "../../../../src/service/experiments/types.js";

type Asked = Partial<InterruptRequest["workload"]>;
type Strategies = InterruptRequest["strategies"];

const request = (
  workload: Asked = {},
  strategies: Strategies = [{ gic: 3 }, { gic: 5 }],
): InterruptRequest => ({ workload: { kind: "interrupts", rounds: 2, ...workload }, strategies });

function pointer(act: () => unknown): string | null {
  try {
    act();
    return null;
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    const [first] = error.extensions["errors"] as { pointer: string }[];
    return `${error.code} ${first?.pointer}`;
  }
}

describe("a request", () => {
  it("names strategies after what they are, and has exact where nothing is said", () => {
    const { strategies } = completeInterrupts(
      request({}, [
        { gic: 3 },
        { gic: 5 },
        { gic: 5, spiTracking: "seed004", settings: { "irq.era": "pre617" } },
        { gic: 5, spiTracking: "none", name: "mine" },
      ]),
    );
    expect(strategies.map(({ name, spiTracking }) => [name, spiTracking])).toEqual([
      ["GICv3", null],
      ["GICv5 exact", "exact"],
      ["GICv5 seed004, irq.era=pre617", "seed004"],
      ["mine", "none"],
    ]);
  });

  it.each([
    [
      "too many interrupts",
      request({ interruptsPerRound: 100_000, rounds: 100 }),
      "/workload/interruptsPerRound",
    ],
    [
      "too long",
      request({ interruptsPerSecond: 10, exitsPerSecond: 1, vcpus: 64 }),
      "/workload/interruptsPerSecond",
    ],
    [
      "too many stops",
      request({ exitsPerSecond: 1e6, interruptsPerSecond: 100, rounds: 10 }),
      "/workload/exitsPerSecond",
    ],
    ["SPIs that no GICv3 has", request({ spis: 961 }), "/workload/spis"],
    [
      "tracking of a GICv3",
      request({}, [{ gic: 3, spiTracking: "none" }]),
      "/strategies/0/spiTracking",
    ],
    ["the same twice", request({}, [{ gic: 5 }, { gic: 5 }]), "/strategies/1/name"],
    [
      "strategies of the other kind",
      request({}, [{ tracking: "dbm" }] as unknown as Strategies),
      "/strategies/0",
    ],
  ])("is refused: %s", (_why, asked, where) => {
    expect(pointer(() => completeInterrupts(asked))).toBe(`validation ${where}`);
  });

  it("is refused where stores are to be tracked by a controller", () => {
    const workload = { vcpus: 1, bytesPerVcpu: 65_536, storesPerRound: 1, rounds: 1 };
    const asked = { workload, strategies: [{ gic: 5 }] } as unknown as TrackingRequest;
    expect(pointer(() => completeSpec(asked))).toBe("validation /strategies/0");
  });

  it("spreads notifiers evenly, and stops as often as its rate says", () => {
    const { workload } = completeInterrupts(request({ notifierPercent: 25, spis: 8 }));
    const listened = Array.from({ length: 8 }, (_, spi) => hasNotifier(workload, spi));
    expect(listened.filter((is) => is)).toHaveLength(2);
    expect([listened.indexOf(true), listened.lastIndexOf(true)]).toEqual([3, 7]);
    // 500 interrupts at 20000 a second are 25 ms.
    expect(stopsOf(workload)).toBe(500);
  });
});

const at = (...pairs: readonly (readonly [spi: number, ns: number])[]): Moment[] =>
  pairs.map(([spi, ns]) => ({ spi, ns }));

describe("acknowledgements", () => {
  it("are in time, late, missed or needless", () => {
    const ends = at([1, 100], [1, 5000], [2, 200], [3, 300]);
    const acks = at([1, 104], [1, 9000], [2, 150], [2, 210]);
    expect(checkAcks(ends, acks, 1000)).toEqual({
      ...{ acks: 4, late: 1, missed: 1, needless: 1 },
      latencyNs: { mean: (4 + 4000 + 10) / 3, max: 4000 },
    });
  });

  it("that are given once for two ends miss one", () => {
    const found = checkAcks(at([1, 10], [1, 20]), at([1, 30]), 1000);
    expect([found.missed, found.needless]).toEqual([1, 0]);
  });

  it("are none where there is nothing", () => {
    const nothing = { acks: 0, late: 0, missed: 0, needless: 0, latencyNs: null };
    expect(checkAcks([], [], 0)).toEqual(nothing);
  });
});

describe("a VFIO device", () => {
  const { workload } = completeInterrupts(request({ spis: 1 }));

  it("stays masked until it is acknowledged, and fires again if it has work left", () => {
    const devices = new Devices(workload);
    const fires = [{ kind: "trigger", spi: 0 }];
    expect(devices.raise(1)).toEqual(fires);
    expect(devices.raise(1)).toEqual([]);
    expect(devices.acknowledged(0, 1)).toEqual(fires);
    expect(devices.acknowledged(0, 2)).toEqual([]);
    expect([devices.raised, devices.usedOf(0), devices.usedBytes()]).toEqual([
      ...[2, 2, new Uint8Array([2, 0, 0, 0])],
    ]);
  });

  it("whose line userspace drives is lowered by its driver, and by nobody twice", () => {
    const devices = new Devices({ ...workload, trigger: "level-quieted" });
    expect(devices.raise(2)).toEqual([{ kind: "line", spi: 0, level: 1 }]);
    expect(devices.quiet(0)).toEqual([{ kind: "line", spi: 0, level: 0 }]);
    expect([devices.quiet(0), devices.acknowledged(0, 1)]).toEqual([[], []]);
  });
});

it("costs what its events cost, the list's lock more with each vCPU", () => {
  const model = costModel({ spiListLock: 100, spiListContention: 0.5, vdrcfgRead: 10 });
  const counted = {
    ...{ raised: 0, roundTrips: 2, forNothing: 0, exits: 1, maintenanceExits: 1 },
    ...{ acks: 0, vdrcfgReads: 7, listLocks: 2 },
  };
  const { byEvent, total, perRoundTrip } = cyclesOfInterrupts(counted, model, 3);
  expect(byEvent).toEqual({
    exitEntry: 2 * model.exitEntry,
    irqTaken: 2 * model.irqTaken,
    vdrcfgRead: 70,
    spiListLock: 2 * 100 * 2,
  });
  expect(perRoundTrip).toBe(total / 2);
});
