// Goal: every refusal that any room can throw has its row and page, and no row is left over.
// Method: reads the sources; a code is ServiceError's first argument or KvmError's fourth.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { ERRNO_STATUS, PROBLEMS } from "../../src/api/problem.table.js";
import { ERRNO } from "../../src/base/errno.table.js";

const ROOT = new URL("../../src/", import.meta.url).pathname;

const sources = readdirSync(ROOT, { recursive: true })
  .map(String)
  .filter((file) => file.endsWith(".ts") && !file.startsWith("generated"))
  .map((file) => ({ file, text: readFileSync(join(ROOT, file), "utf8") }));

function codesThrown(): Map<string, string> {
  const codes = new Map<string, string>();
  for (const { file, text } of sources) {
    for (const [, code] of text.matchAll(/new ServiceError\(\s*"([a-z-]+)"/g)) {
      codes.set(code ?? "", file);
    }
    for (const [call] of text.matchAll(/new KvmError\([^;]*;/g)) {
      const code = /"([a-z]+(?:-[a-z]+)+)",?\s*(?:\)|\{)/.exec(call)?.[1];
      if (code !== undefined) codes.set(code, file);
    }
  }
  return codes;
}

it("has a row for every code that is thrown", () => {
  const missing = [...codesThrown()].filter(([code]) => !Object.hasOwn(PROBLEMS, code));
  expect(missing, "add a row to src/api/problem.table.ts").toEqual([]);
});

it("has no row that nothing throws", () => {
  const rest = sources.filter(({ file }) => file !== "api/problem.table.ts");
  const unused = Object.keys(PROBLEMS).filter(
    (code) => !rest.some(({ text }) => text.includes(`"${code}"`)),
  );
  expect(unused).toEqual([]);
});

it("answers only the 5xx that are allowed, but for a defect", () => {
  const statuses = [
    ...Object.entries(PROBLEMS).map(([code, row]) => [code, row.status] as const),
    ...Object.entries(ERRNO_STATUS),
  ];
  const bad = statuses.filter(([, status]) => status >= 500 && ![501, 503, 507].includes(status));
  expect(bad).toEqual([["internal", 500]]);
  expect(Object.keys(ERRNO_STATUS).sort()).toEqual(Object.keys(ERRNO).sort());
});
