// Owns: the list of checks, the same here and in CI. Own process; two checks at a time.
// Prints a line per check, the output of those that failed, and `N passed, N failed, N skipped`.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const bin = (name) => join("node_modules", ".bin", name);
const node = (...args) => [process.execPath, ...args];
const DOCUMENT = "openapi/openapi.json";

/** `needs` turns a missing file into its own sentence instead of a tool's puzzle. */
const CHECKS = [
  { name: "types", command: [bin("tsc"), "-p", "tsconfig.check.json"] },
  { name: "biome", command: [bin("biome"), "ci", "--colors=off", "--error-on-warnings", "."] },
  { name: "arrows", command: node("tools/arrows.mjs") },
  { name: "unused code (knip)", command: [bin("knip")] },
  {
    name: "openapi drift",
    needs: ["tools/openapi.ts", DOCUMENT],
    command: [bin("tsx"), "tools/openapi.ts", "--check"],
  },
  {
    name: "prisma drift",
    needs: ["tools/prisma.mjs", "prisma/schema.prisma", "prisma/migrations"],
    command: ["npm", "run", "--silent", "db:drift"],
  },
  {
    name: "openapi lint",
    needs: [DOCUMENT],
    command: ["npm", "run", "--silent", "openapi:lint"],
  },
  { name: "tidy", command: [bin("vitest"), "run", "--reporter=dot", "test/tidy"] },
];

function execute([command, ...args], env) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text;
      });
    }
    child.once("error", (error) => resolve({ passed: false, output: error.message }));
    child.once("close", (status, signal) => {
      resolve({ passed: status === 0, output: signal === null ? output : `${output}${signal}` });
    });
  });
}

async function runOne(check, env) {
  const missing = (check.needs ?? []).filter((file) => !existsSync(join(ROOT, file)));
  if (missing.length > 0) return { passed: false, output: `missing: ${missing.join(", ")}` };
  return execute(check.command, env);
}

/**
 * Runs every check but those named in `without`.
 * @returns how many passed and failed
 */
export async function check(without = []) {
  // Linters that look for updates or send statistics are told not to.
  const cache = mkdtempSync(join(tmpdir(), "tidemark-check-"));
  const quiet = { REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" };
  const env = {
    ...process.env,
    ...quiet,
    DO_NOT_TRACK: "1",
    CI: "1",
    NO_COLOR: "1",
    TMPDIR: cache,
  };
  const queue = CHECKS.filter(({ name }) => !without.includes(name));
  const totals = { passed: 0, failed: 0 };
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const start = Date.now();
      const { passed, output } = await runOne(next, env);
      const seconds = ((Date.now() - start) / 1000).toFixed(1);
      totals[passed ? "passed" : "failed"] += 1;
      console.log(`check: ${passed ? "ok    " : "FAILED"} ${next.name} (${seconds} s)`);
      if (!passed) console.log(output.trimEnd().replace(/^/gm, "    "));
    }
  };
  await Promise.all([worker(), worker()]);
  rmSync(cache, { recursive: true, force: true });
  return totals;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { build } = await import("./build.mjs");
  try {
    build(); // tests import dist, so their types must be there
  } catch (error) {
    console.error(`check: ${error.message}`); // and the types check says it again, and counts it
  }
  const { passed, failed } = await check();
  console.log(`${passed} passed, ${failed} failed, 0 skipped`);
  process.exitCode = failed > 0 ? 1 : 0;
}
