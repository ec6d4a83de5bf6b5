// Goal: a case counts only for what its tests did. Method: results made by hand, and names of every
// kind. Test process.
import { describe, expect, it } from "vitest";
import { caseOf, numbersIn, type Specification } from "./cases.js";
import { coverageOf, type Ended, report } from "./coverage.js";

const specification: Specification = {
  name: "toy",
  folder: "test/toy",
  cases: ["T-01", "T-02"].map((number) => ({ number, says: "…" })),
  defectsOf: (number) => (number === "T-02" ? ["B1"] : []),
};

const test = (name: string, more: Partial<Ended> = {}): Ended => ({
  file: "test/toy/a.test.ts",
  name,
  state: "passed",
  assertions: 1,
  ...more,
});

const linesOf = (...tests: readonly Ended[]) => report(coverageOf(specification, tests));

describe("the list of numbered cases", () => {
  it("is fine when each case passed with an assertion, and was broken by its defect", () => {
    const run = linesOf(test("T-01: a"), test("T-02: b"), test("T-02 with B1: b"));
    expect(run.ok).toBe(true);
    expect(run.lines).toEqual([
      "toy T-01 · test/toy/a.test.ts · passed",
      "toy T-02 · test/toy/a.test.ts · passed · with B1: caught",
      "toy: 2 of 2 cases covered",
    ]);
  });

  it("misses a case, and a run with its defect", () => {
    const run = linesOf(test("T-02: b"));
    expect(run.ok).toBe(false);
    expect(run.lines).toEqual([
      "toy T-01 · - · missing",
      "toy T-02 · test/toy/a.test.ts · passed · with B1: missing",
      "toy: 0 of 2 cases covered",
    ]);
  });

  it.each<[string, Partial<Ended>]>([
    ["no assertion", { assertions: 0 }],
    ["failed", { state: "failed" }],
    ["skipped", { state: "skipped", assertions: 0 }],
  ])("tells of one that ended with %s, beside one that passed", (state, ending) => {
    const run = linesOf(test("T-01: a"), test("T-01: b", { file: "b", ...ending }));
    expect(run.ok).toBe(false);
    expect(run.lines[0]).toBe(`toy T-01 · test/toy/a.test.ts, b · ${state}`);
  });

  it("tells of a defect that nothing noticed", () => {
    const run = linesOf(
      test("T-01: a"),
      test("T-02: b"),
      test("T-02 with B1: b", { state: "failed" }),
    );
    expect(run.ok).toBe(false);
    expect(run.lines[1]).toContain("with B1: not caught");
  });

  it("takes no number that isn't in the table", () => {
    const all = [test("T-01: a"), test("T-02: b"), test("T-02 with B1: b")];
    const run = linesOf(...all, test("T-99: c"), test("says nothing of a case"));
    expect(run.ok).toBe(false);
    expect(run.lines).toContain("toy: no such case · test/toy/a.test.ts: T-99: c");
  });
});

describe("a test's name", () => {
  it("says its case and its defect", () => {
    expect(caseOf("T-30: enable")).toEqual({ number: "T-30", bug: null });
    expect(caseOf("T-30 with B1: enable")).toEqual({ number: "T-30", bug: "B1" });
    expect(caseOf("T-38 with hdbss.sync=request-nowait: GET")?.bug).toBe(
      "hdbss.sync=request-nowait",
    );
    expect(caseOf("M12: maintenance")).toEqual({ number: "M12", bug: null });
    expect(caseOf("T-30 enables")).toBeNull();
  });

  it("is found in a file's text, however it is written", () => {
    const source =
      'it("T-01: a") twice(\n "T-02", "b", { bug: "B2" }) it(`T-12: size 4`) // T-77 is elsewhere';
    expect(numbersIn(source)).toEqual(["T-01", "T-02", "T-12"]);
  });
});
