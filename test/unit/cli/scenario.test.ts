// Owns: a scenario's verdict and its picture: what is lost, what is stuck, what a text may hold.
// Test process.
import { describe, expect, it } from "vitest";
import { diagram, escapeXml } from "../../../src/cli/scenario/diagram.js";
import { eventOf, traced } from "../../../src/cli/scenario/events.js";
import { differences, type Observed, outcomeOf } from "../../../src/cli/scenario/judge.js";
import type { Restart } from "../../../src/cli/scenario/restart.js";
import { pictureOf } from "../../../src/cli/scenario/text.js";
import { EXPECTED } from "../../../src/cli/scenario/variants.table.js";
import { malformed } from "../../support/well-formed.js";

const QUIET: Observed = {
  taken: [true],
  acks: 1,
  early: 0,
  interrupts: 1,
  unmasks: 1,
  isHigh: false,
  isMasked: false,
  isPending: false,
  servesNext: true,
};
const NONE: Observed = { ...QUIET, taken: [], acks: 0, isHigh: true, isMasked: true };

describe("the outcome", () => {
  it.each([
    ["recovered", QUIET],
    ["served twice", { ...QUIET, taken: [true, true] }],
    ["for nothing", { ...QUIET, taken: [false] }],
    ["waiting", { ...NONE, isPending: true, servesNext: null }],
    ["lost", { ...NONE, servesNext: false }],
    ["lost", { ...NONE, servesNext: null }],
    // Enabled and pending, and yet never delivered.
    ["stuck", { ...NONE, isPending: true, servesNext: false }],
    ["stuck", { ...NONE, isMasked: false, servesNext: false }],
    ["stuck", { ...QUIET, isHigh: true }],
    ["stuck", { ...QUIET, isMasked: true }],
    ["stuck", { ...QUIET, isPending: true }],
    ["stuck", { ...QUIET, servesNext: false }],
    ["stuck", { ...QUIET, servesNext: null }],
  ])("%s", (outcome, seen) => {
    expect(outcomeOf(seen)).toBe(outcome);
  });

  it("differs in each thing that is told", () => {
    expect(differences(QUIET, EXPECTED.mainline.B)).toEqual([]);
    expect(differences({ ...QUIET, acks: 2, early: 1 }, EXPECTED.mainline.C)).toEqual([
      "outcome: recovered, but told is lost",
      "taken: 1, but told is 0",
      "acks: 2, but told is 0",
      "early: 1, but told is 0",
    ]);
  });
});

const HOSTILE = `</text><script>alert("1")</script> & '\u0000\u001b' ]]> <!--`;

function restartOf(...texts: readonly string[]): Restart {
  return {
    ...{ variant: "C", gic: 3, policy: "mainline", settings: {}, isVfioFirst: false },
    ...{ outcome: "lost", seen: NONE, expected: EXPECTED.mainline.C, differences: [] },
    events: [
      eventOf(1, { text: HOSTILE, detail: HOSTILE }),
      ...texts.map((text) => eventOf(1, { from: "kvm", text, detail: text })),
      eventOf(2, { from: "device", to: "guest", text: HOSTILE, change: { isHigh: true } }),
      eventOf(2, { from: "vfio", text: "masked", change: { isMasked: true } }),
      eventOf(2, { from: "vfio", text: "unmasked", change: { isMasked: false } }),
      eventOf(2, { from: "guest", text: "of the set-up", isSetUp: true }),
    ],
  };
}

describe("the picture", () => {
  it("is well-formed whatever its texts are, and shows them as they are", () => {
    const svg = diagram(pictureOf(restartOf(HOSTILE, "plain")));
    expect(malformed(svg)).toBeNull();
    expect(svg).not.toContain("<script>");
    expect(svg).toContain(`&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;\ufffd`);
    expect(svg).toContain(">plain</text>");
    expect(svg).not.toContain("of the set-up");
    expect(svg).toContain("prefers-color-scheme:dark");
  });

  it("has a bar for as long as the line is high, or the interrupt masked", () => {
    const svg = diagram(pictureOf(restartOf()));
    const bars = [...svg.matchAll(/<rect[^>]* height="(\d+)" class="(high|masked)"/g)];
    // Two of the legend are as high as its text.
    expect(bars.map(([, height, name]) => [name, Number(height)])).toEqual([
      ["high", 75],
      ["masked", 25],
      ["high", 12],
      ["masked", 12],
    ]);
  });

  it("is told apart from what is broken", () => {
    expect(escapeXml(`<&>"'`)).toBe("&lt;&amp;&gt;&quot;&#39;");
    for (const bad of [
      "<a>",
      "<a></b>",
      "<a/><a/>",
      "<a>&b</a>",
      '<a b="<"/>',
      "<a b/>",
      "x",
      "",
    ]) {
      expect([bad, malformed(bad)]).not.toEqual([bad, null]);
    }
    expect(malformed('<a b="1" b="2"/>')).toMatch(/twice/);
    expect(malformed('<a b="1"><!-- c --><d/>e &amp; f</a>\n')).toBeNull();
  });
});

it("an event of the trace that our own step tells already is left out", () => {
  const row = { ph: "i", pid: 1, tid: 1, ts: 1 };
  expect(traced(1, { ...row, name: "kvm_mmio", args: {} })).toBeNull();
  expect(traced(2, { ...row, name: "kvm_set_irq", args: { gsi: 8, level: 1 } })).toMatchObject({
    ...{ vm: 2, us: 1, from: "vfio", to: "kvm", detail: "kvm_set_irq gsi=8 level=1" },
  });
});
