// Goal: the picture of a migration says what its rounds say: each figure under its name, where the
// VM moved, and the pause beside what was predicted. Method: the texts and lines of its SVG.
import { describe, expect, it } from "vitest";
import { migrationChart } from "../../../src/api/views/migration-chart.js";
import { DEFAULT_PARAMETERS, type RoundRecord } from "../../../src/migration/index.js";
import type { MigrationResource } from "../../../src/service/index.js";

const PAGE_BYTES = 4096; // tidy: the guest's page size
const NOW = "2026-11-20T12:00:00.000Z";
const TRAFFIC = { pagesSent: 900, pagesZero: 100, pagesDuplicate: 0, bytes: 3_700_000 };

function round(at: number, more: Partial<RoundRecord>): RoundRecord {
  return {
    ...{ round: at, startMs: at * 1000, durationMs: 900, pagesDirty: 1000 / at, ...TRAFFIC },
    ...{ dirtyPagesPerSecond: 300, bytesPerSecond: 4e6, throttlePercent: 0, downtimeMs: null },
    ...{ dirtyLimitPagesPerSecond: 0, predictedDowntimeMs: 300 / at },
    decision: { action: "next-round", why: "more than the limit", isConverging: true },
    ...more,
  };
}

const decided = (action: RoundRecord["decision"]["action"]) => ({
  decision: { action, why: "so", isConverging: true },
});
const held = (at: number, more = {}) =>
  round(at, { predictedDowntimeMs: null, durationMs: 40, ...decided("switchover"), ...more });
const push = (at: number) => round(at, { predictedDowntimeMs: null, ...decided("push") });

function session(downtimeMs: number | null): MigrationResource {
  const none = { setupMs: 1, holdMs: null, saveMs: null, lastRoundMs: null, finishMs: null };
  const figures = { ...none, releaseMs: null, commitMs: null, stateBytes: null };
  return {
    ...{ id: "mig_1", direction: "outgoing", vmId: "vm_1", vmUuid: "u", vmName: "guest-1" },
    ...{ peer: "host-b", peerSession: "mig_9", state: "completed", stateReason: null },
    ...{ queuePosition: null, point: "released", cancelRequested: false },
    parameters: { ...DEFAULT_PARAMETERS, downtimeMs: 150 },
    progress: {
      ...{ ...TRAFFIC, bytesTotal: 1000 * PAGE_BYTES, bytesRemaining: 0, round: 4 },
      ...{ bytesPerSecond: 1e6, dirtyPagesPerSecond: 0, throttlePercent: 0 },
      ...{ predictedDowntimeMs: 12.5, pagesRequested: 0, pagesPushed: 0 },
    },
    ...{ decision: null, failure: null, resolution: null },
    statistics: downtimeMs === null ? null : { ...figures, totalMs: 5000, downtimeMs },
    ...{ version: 1, createdAt: NOW, startedAt: NOW, endedAt: NOW },
  };
}

/** What stands in the picture. */
async function textsOf(rounds: readonly RoundRecord[], downtimeMs: number | null = 44.4) {
  const svg = await migrationChart(session(downtimeMs), rounds);
  expect(svg).toMatch(/^<svg/);
  const texts = [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text);
  return { svg, texts, marks: texts.filter((text) => /^switchover|again$/.test(text!)) };
}

const PRECOPY = [round(1, {}), round(2, decided("switchover")), held(3, { downtimeMs: 44.4 })];
const NAMES = [
  ...["to send in the round", "dirtied per second", "sent per second", "throttle, percent"],
  ...["predicted downtime", "real downtime"],
];

describe("the picture of a migration", () => {
  it("has each figure under its name, with its unit", async () => {
    const { texts } = await textsOf(PRECOPY);
    expect(texts).toEqual(expect.arrayContaining(NAMES));
    expect(texts).toEqual(expect.arrayContaining(["bytes", "bytes/s", "throttle %", "ms"]));
    expect(texts).toContain("Migration of guest-1");
  });

  it("says the pause beside what was predicted of it, and draws both", async () => {
    const { texts, svg } = await textsOf(PRECOPY);
    const said = "downtime: predicted 150 ms, really 44 ms, at most 150 ms planned";
    expect(texts).toContain(said);
    const without = PRECOPY.map((one) => ({ ...one, downtimeMs: null }));
    const other = await textsOf(without, null);
    expect(other.texts).toContain("downtime: predicted 150 ms, at most 150 ms planned");
    // The real one is a mark of its own.
    const colour = (text: string) => text.split("#c0392b").length;
    expect(colour(svg)).toBeGreaterThan(colour(other.svg));
  });

  it("marks once where every vCPU was held, whatever was decided before", async () => {
    expect((await textsOf(PRECOPY)).marks).toEqual(["switchover"]);
    const paused = [round(1, decided("switchover")), round(2, decided("switchover")), held(3)];
    expect((await textsOf(paused)).marks).toEqual(["switchover"]);
    const still = [round(1, {}), round(2, decided("cancel"))];
    expect((await textsOf(still, null)).marks).toEqual([]);
  });

  it("marks the switchover to post-copy, and where a cut push went on", async () => {
    const moved = [round(1, {}), round(2, decided("postcopy")), push(3)];
    const { texts } = await textsOf(moved);
    const said =
      "downtime: predicted 150 ms without post-copy, really 44 ms, at most 150 ms planned";
    expect(texts).toContain(said);
    expect((await textsOf(moved)).marks).toEqual(["switchover to post-copy"]);
    expect((await textsOf([push(1)])).marks).toEqual(["switchover to post-copy"]);
    const cut = await textsOf([...moved, push(4)]);
    expect(cut.marks).toEqual(["switchover to post-copy", "pushed again"]);
  });

  it("is a picture, too, before there is a round", async () => {
    const { texts, marks } = await textsOf([], null);
    expect(texts).toContain("downtime: at most 150 ms planned");
    expect(marks).toEqual([]);
  });
});
