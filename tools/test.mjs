// Owns: `npm test`: build, missing tools, every test, every check, one total. Own process.
// `-- --no-fetch` downloads no tools; tests that need them are then skipped, and named at the end.
// A failure does not hide the rest; the last line counts all of it.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "./build.mjs";
import { check } from "./check.mjs";
import { fetchGuests, fetchTools } from "./debian-fetch.mjs";
import { SKIPPED_FILE } from "./skipped.mjs";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

const SKIPPED = "skipped.txt";

/** Each skipped test and its reason. */
function skippedIn(folder) {
  try {
    return readFileSync(join(folder, SKIPPED), "utf8").split("\n").filter(Boolean);
  } catch {
    return []; // the run never came to its end, and has failed
  }
}

/** @returns counts of tests; a file that can't even be loaded counts as one failure. */
function runTests(folder) {
  const report = join(folder, "vitest.json");
  const vitest = join("node_modules", ".bin", "vitest");
  const reporters = ["default", "json", "./tools/skipped.mjs"].map((name) => `--reporter=${name}`);
  const { status } = spawnSync(vitest, ["run", ...reporters, `--outputFile.json=${report}`], {
    cwd: ROOT,
    stdio: "inherit",
    env: { ...process.env, [SKIPPED_FILE]: join(folder, SKIPPED) },
  });
  let result;
  try {
    result = JSON.parse(readFileSync(report, "utf8"));
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const broken = result.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.every((t) => t.status !== "failed"),
  ).length;
  const failed = result.numFailedTests + broken;
  return {
    passed: result.numPassedTests,
    // Vitest also fails for errors outside any test, such as an unhandled rejection.
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skipped: result.numPendingTests + result.numTodoTests,
  };
}

const folder = mkdtempSync(join(tmpdir(), "tidemark-test-"));
try {
  build();
  if (!process.argv.includes("--no-fetch")) {
    const say = (line) => console.log(`fetch: ${line}`);
    fetchTools(say, () => true);
    fetchGuests(say, ({ inTests }) => inTests === true);
  }
  const tests = runTests(folder);
  const checks = await check(["tidy"]); // it is among the tests above
  const failed = tests.failed + checks.failed;
  for (const line of skippedIn(folder)) console.log(`skipped: ${line}`);
  console.log(`tests: ${tests.passed} passed; checks: ${checks.passed} passed`);
  console.log(`${tests.passed + checks.passed} passed, ${failed} failed, ${tests.skipped} skipped`);
  process.exitCode = failed > 0 ? 1 : 0;
} catch (error) {
  console.error(`test: ${error.message}`);
  console.log("0 passed, 1 failed, 0 skipped");
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
