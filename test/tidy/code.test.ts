// Owns: house rules on code, applied to the repository. Test process.
import { describe, expect, it } from "vitest";
import * as rules from "./code-rules.js";
import * as text from "./text-rules.js";
import { code, paths, read, source } from "./tree.js";

const TABLE = "test/unit/state-roundtrip.table.ts";

describe("house rules on code", () => {
  it.each([
    ["no page size as a literal", rules.noPageLiterals, source],
    ["environment only in config.ts", rules.environmentOnlyInConfig, source],
    ["time and chance only from base", rules.timeOnlyFromClock, source],
    ["no console", rules.noConsole, source],
    ["threads begin in .worker.ts", rules.threadsBeginInWorkerFiles, source],
    ["lines of 100 columns at most", text.lineLength, code],
    ["every file says what it owns", text.headerComment, code],
    ["files of 600 lines at most", text.fileLength, code],
  ] as const)("%s", (_name, rule, files) => {
    expect(rule(files)).toEqual([]);
  });

  it("lists files that grow long", () => {
    const long = text.fileLengthWarning(code);
    if (long.length > 0) console.warn(`over ${text.FILE_LINES_WARN} lines:\n${long.join("\n")}`);
    expect(long.length).toBeLessThan(code.length);
  });

  it("every stateful part has a round trip", () => {
    const table = paths.includes(TABLE) ? read(TABLE) : "";
    expect(rules.roundTripsMissing(source, table)).toEqual([]);
  });
});
