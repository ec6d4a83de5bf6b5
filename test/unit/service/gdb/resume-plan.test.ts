// Goal: what vCont asks of each thread is what its vCPU does.
// Method: a table of actions over vCPUs 0, 1 and 5.
import { describe, expect, it } from "vitest";
import { parseThread, resumePlan, threadOf } from "../../../../src/service/gdb/resume-plan.js";

const VCPUS = [0, 1, 5];
const plan = (actions: string) =>
  resumePlan(actions, VCPUS)?.map(({ vcpu, mode }) => `${mode[0]}${vcpu}`);

describe("thread ids", () => {
  it("are a vCPU's id and one more", () => {
    expect([threadOf(0), threadOf(255), parseThread("100"), parseThread("1")]).toEqual([
      "1",
      "100",
      255,
      0,
    ]);
    expect([parseThread("-1"), parseThread("0")]).toEqual(["all", "any"]);
    const bad = ["", "-2", "x", "p1.1", "123456789"];
    expect(bad.map(parseThread)).toEqual(bad.map(() => null));
  });
});

describe("vCont", () => {
  it.each([
    ["c", ["c0", "c1", "c5"]],
    ["s", ["s0", "s1", "s5"]],
    ["s:2;c", ["s1", "c0", "c5"]],
    ["C05:1", ["c0"]],
    ["S0b:6;t", ["s5"]],
    ["c:-1", ["c0", "c1", "c5"]],
    ["s:0", ["s0"]],
    ["t:1;c", ["c1", "c5"]],
    ["t", []],
    ["c:3", []],
    ["s:1;c:1", ["s0"]],
  ])("%s", (actions, expected) => {
    expect(plan(actions)).toEqual(expected);
  });

  it.each(["", "x", "c;", "C", "C1", "c:", "c:zz", "r0,4:1", "s:p1.1"])(
    "%j is refused",
    (actions) => {
      expect(resumePlan(actions, VCPUS)).toBe(null);
    },
  );
});
