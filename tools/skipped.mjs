// Owns: a Vitest reporter that lists skipped tests and why. Test runner's process.
// The JSON reporter leaves the reason out.
import { writeFileSync } from "node:fs";
import { relative } from "node:path";

/** Where the list goes, one line per test. */
export const SKIPPED_FILE = "TIDEMARK_SKIPPED_FILE";

export default class Skipped {
  onTestRunEnd(modules) {
    const lines = modules.flatMap((module) =>
      [...module.children.allTests("skipped")].map((test) => {
        const { note } = test.result();
        const why = note === undefined ? "" : `: ${note}`;
        return `${relative(process.cwd(), module.moduleId)} > ${test.fullName}${why}`;
      }),
    );
    writeFileSync(process.env[SKIPPED_FILE], lines.join("\n"));
  }
}
