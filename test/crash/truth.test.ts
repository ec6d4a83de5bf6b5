// Goal: whoever judges what two hosts say after a kill passes what is true, and finds each lie.
// Method: true tellings of every end that a migration can have, and each of them with one thing
// changed.
import { describe, expect, it } from "vitest";
import { judge, type Told } from "../../tools/migrate/truth.js";

type Session = NonNullable<Told["source"]>;
type Vm = Told["vms"]["host-a"][number];

const session = (id: string, peerSession: string, more: Partial<Session>): Session =>
  ({
    ...{ id, peerSession, state: "completed", failure: null, endedAt: "then", progress: null },
    parameters: { strategy: "post-copy" },
    ...more,
  }) as Session;
const source = (more: Partial<Session>) => session("mig_a", "mig_b", more);
const target = (more: Partial<Session>) => session("mig_b", "mig_a", more);

const failed = (side: "source" | "target", code: string, during = "postcopy-active") => ({
  state: "failed" as const,
  failure: { side, during, code, detail: "Why.", causes: [] } as unknown as Session["failure"],
});
const vm = (state: Vm["state"], stateReason: string | null = null): Vm =>
  ({ state, stateReason }) as Vm;
const MIGRATED = vm("migrated", "It moved.");
const LOST = vm("lost", "It died.");

const FROM_A = { from: "host-a", seen: "postcopy-active" } as const;
const MOVED: Told = {
  ...FROM_A,
  killed: ["host-a"],
  source: source({ point: "released" }),
  target: target({ point: "running" }),
  vms: { "host-a": [MIGRATED], "host-b": [vm("active")] },
};
const LOST_WITH_TARGET: Told = {
  ...FROM_A,
  killed: ["host-b"],
  source: source({ point: "released", ...failed("target", "lost-in-postcopy") }),
  target: target({ point: "running", ...failed("target", "lost-in-postcopy") }),
  vms: { "host-a": [MIGRATED], "host-b": [LOST] },
};
const LOST_WITH_SOURCE: Told = {
  ...LOST_WITH_TARGET,
  killed: ["host-a"],
  source: source({ point: "released", ...failed("source", "host-restarted") }),
  target: target({ point: "running", ...failed("source", "lost-in-postcopy") }),
};
const STAYS: Told = {
  ...FROM_A,
  killed: ["host-b"],
  source: source({ point: "aborted", ...failed("target", "target-lost") }),
  target: target({ point: "aborted", ...failed("target", "host-restarted") }),
  vms: { "host-a": [vm("active")], "host-b": [] },
};
const LOST_AT_SOURCE: Told = {
  ...FROM_A,
  killed: ["host-a"],
  source: source({ point: "aborted", ...failed("source", "host-restarted") }),
  target: target({ point: "aborted", ...failed("source", "aborted") }),
  vms: { "host-a": [LOST], "host-b": [] },
};

describe("what both hosts say after a kill", () => {
  it("is true of every end that a migration can have", () => {
    const words = [MOVED, LOST_WITH_TARGET, LOST_WITH_SOURCE, STAYS, LOST_AT_SOURCE].map(judge);
    expect(words.flatMap(({ lies }) => lies)).toEqual([]);
    expect(words.map(({ word }) => word)).toEqual([
      ...["moved", "lost at the target", "lost at the target", "stays", "lost at the source"],
    ]);
  });

  const inPreCopy = { parameters: { strategy: "pre-copy" } as Session["parameters"] };
  const whole = { progress: { bytesRemaining: 0 } as Session["progress"] };
  const both = (told: Told, more: Partial<Session>): Told => ({
    ...told,
    source: { ...(told.source as Session), ...more },
    target: { ...(told.target as Session), ...more },
  });
  const at = (told: Told, hostA: readonly Vm[], hostB: readonly Vm[]): Told => ({
    ...told,
    vms: { "host-a": hostA, "host-b": hostB },
  });
  const LIES: readonly (readonly [string, Told, string])[] = [
    ["two copies run", at(MOVED, [vm("active")], [vm("active")]), "active 2 times"],
    ["it moved, and is lost without a death", at(MOVED, [MIGRATED], [LOST]), "which lives at"],
    ["it is lost, and one runs on", at(LOST_WITH_SOURCE, [MIGRATED], [vm("active")]), "which died"],
    ["it is lost without a reason", at(LOST_WITH_TARGET, [MIGRATED], [vm("lost")]), "a reason"],
    [
      "the source says that it went well",
      { ...LOST_WITH_TARGET, source: source({ point: "released" }) },
      "says completed at released",
    ],
    [
      "the target says that it went well",
      { ...LOST_WITH_SOURCE, target: target({ point: "running" }) },
      "the only copy, which lives",
    ],
    ["it is lost after its last page", both(LOST_WITH_SOURCE, whole), "its last page had come"],
    ["it is lost after the end was seen", { ...LOST_WITH_SOURCE, seen: "completed" }, "completed"],
    ["it is lost where no page follows", both(LOST_WITH_TARGET, inPreCopy), "by pre-copy"],
    [
      "it is lost by something else",
      both(LOST_WITH_TARGET, failed("target", "vm-died")),
      "lost it by vm-died",
    ],
    [
      "it is lost before it lacked pages",
      both(LOST_WITH_TARGET, failed("target", "lost-in-postcopy", "device")),
      "lost it in device",
    ],
    ["the wrong one is blamed", { ...LOST_WITH_SOURCE, killed: ["host-b"] }, "not killed"],
    // Released early, and the target was never ready: nobody has it, nobody may start it.
    [
      "it moved, and nobody has it",
      at(
        {
          ...LOST_AT_SOURCE,
          source: source({ point: "released", ...failed("source", "host-restarted") }),
        },
        [MIGRATED],
        [],
      ),
      "is migrated there",
    ],
  ];

  it.each(LIES)("is found untrue where %s", (_what, told, lie) => {
    const { word, lies } = judge(told);
    expect(word).toBe("untrue");
    expect(lies.join("; ")).toContain(lie);
  });
});
