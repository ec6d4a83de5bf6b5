// Goal: tests and the tables of numbered cases name the same cases. Method: the text of both.
// Test process.
import { describe, expect, it } from "vitest";
import { SEED_BUGS } from "../../src/kvm/dirty/seed-bug.table.js";
import { numbersIn, SPECIFICATIONS } from "../spec-cases/cases.js";
import { paths, read } from "./tree.js";

describe.each(SPECIFICATIONS)("numbered cases: $name", ({ folder, cases }) => {
  const numbers = cases.map(({ number }) => number);
  const files = paths.filter((path) => path.startsWith(`${folder}/`) && path.endsWith(".test.ts"));

  it("are each in the table once, with a sentence", () => {
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(cases.filter(({ says }) => !/^\S.+\.$/.test(says))).toEqual([]);
  });

  it("are in the table, if a test names them", () => {
    const strays = files.flatMap((file) =>
      numbersIn(read(file))
        .filter((number) => !numbers.includes(number))
        .map((number) => `${file}: ${number}`),
    );
    expect(strays).toEqual([]);
  });
});

it("every seed defect names cases that exist", () => {
  const known = new Set(SPECIFICATIONS.flatMap(({ cases }) => cases.map(({ number }) => number)));
  const lost = Object.entries(SEED_BUGS)
    .flatMap(([bug, { test }]) => (test as string).split(", ").map((number) => ({ bug, number })))
    .filter(({ number }) => !known.has(number));
  expect(lost).toEqual([]);
});
