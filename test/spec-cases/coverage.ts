// Owns: what a run of tests says of each numbered case, and the list that people read.
// Test process.
import { caseOf, type Specification } from "./cases.js";

/** One test as it ended. */
export interface Ended {
  readonly file: string;
  readonly name: string;
  readonly state: "passed" | "failed" | "skipped";
  readonly assertions: number;
}

type State = "passed" | "failed" | "skipped" | "no assertion" | "missing";

interface Covered {
  readonly number: string;
  readonly files: readonly string[];
  readonly state: State;
  /** Bug → how the run with it ended. */
  readonly bugs: ReadonlyMap<string, State>;
}

export interface Coverage {
  readonly specification: string;
  readonly cases: readonly Covered[];
  /** Tests with a number that no case has. */
  readonly unknown: readonly string[];
}

/** Of several tests of a case the worst one counts. */
const WORST: readonly State[] = ["failed", "skipped", "no assertion", "passed"];

function stateOf(tests: readonly Ended[]): State {
  const states = tests.map(({ state, assertions }): State => {
    return state === "passed" && assertions === 0 ? "no assertion" : state;
  });
  return WORST.find((state) => states.includes(state)) ?? "missing";
}

export function coverageOf(specification: Specification, tests: readonly Ended[]): Coverage {
  const numbered = tests.flatMap((test) => {
    const found = caseOf(test.name);
    return found === null ? [] : [{ ...found, test }];
  });
  const known = new Set(specification.cases.map(({ number }) => number));
  const cases = specification.cases.map(({ number }): Covered => {
    const mine = numbered.filter((one) => one.number === number);
    const bugs = new Set([...specification.defectsOf(number), ...mine.map(({ bug }) => bug)]);
    bugs.delete(null);
    const runs = (bug: string | null) =>
      mine.filter((one) => one.bug === bug).map(({ test }) => test);
    return {
      number,
      files: [...new Set(mine.map(({ test }) => test.file))],
      state: stateOf(runs(null)),
      bugs: new Map([...bugs].map((bug) => [bug as string, stateOf(runs(bug))])),
    };
  });
  const unknown = numbered
    .filter(({ number }) => !known.has(number))
    .map(({ test }) => `${test.file}: ${test.name}`);
  return { specification: specification.name, cases, unknown };
}

function isCovered({ state, bugs }: Covered): boolean {
  return state === "passed" && [...bugs.values()].every((one) => one === "passed");
}

/** A run with a defect passes if the defect was noticed. */
function bugText(bug: string, state: State): string {
  const said = state === "passed" ? "caught" : state === "failed" ? "not caught" : state;
  return `with ${bug}: ${said}`;
}

/** A line for each case and one for all of them. */
export function report({ specification, cases, unknown }: Coverage): {
  readonly lines: readonly string[];
  readonly ok: boolean;
} {
  const lines = cases.map(({ number, files, state, bugs }) =>
    [
      `${specification} ${number}`,
      files.length === 0 ? "-" : files.join(", "),
      state,
      ...[...bugs].map(([bug, one]) => bugText(bug, one)),
    ].join(" · "),
  );
  const covered = cases.filter(isCovered).length;
  const strays = unknown.map((name) => `${specification}: no such case · ${name}`);
  const total = `${specification}: ${covered} of ${cases.length} cases covered`;
  return {
    lines: [...lines, ...strays, total],
    ok: covered === cases.length && strays.length === 0,
  };
}
