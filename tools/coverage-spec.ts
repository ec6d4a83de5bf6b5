// Owns: `npm run coverage:spec`: every numbered case of the specifications, its test and how that
// ended. A process of its own; the tests run in children of vitest.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Reporter, TestModule } from "vitest/node";
import { startVitest } from "vitest/node";
import { numbersIn, SPECIFICATIONS, type Specification } from "../test/spec-cases/cases.js";
import { coverageOf, type Ended, report } from "../test/spec-cases/coverage.js";

const USAGE = `usage: npm run coverage:spec -- [options] [NAME…]
Runs the tests that carry a specification's numbers and prints, for every case:
  NAME NUMBER · file · passed | failed | skipped | no assertion | missing · with DEFECT: caught
A case counts if its test passed and made an assertion in this run; one that a defect must break
runs with it too, and there an assertion has to fail.
  --list            which files name which case, without running them
  NAME…             these specifications: ${SPECIFICATIONS.map(({ name }) => name).join(", ")}
Exit status 1 when a case is missing or failed, 2 on a wrong call.`;

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

function listed({ name, folder, cases }: Specification): void {
  const root = join(ROOT, folder);
  const names = existsSync(root) ? readdirSync(root, { recursive: true, encoding: "utf8" }) : [];
  const files = names
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => join(folder, file))
    .sort();
  const numbers = new Map(
    files.map((file) => [file, numbersIn(readFileSync(join(ROOT, file), "utf8"))]),
  );
  for (const { number, says } of cases) {
    const where = files.filter((file) => numbers.get(file)?.includes(number));
    console.log(`${name} ${number} · ${where.join(", ") || "missing"} · ${says}`);
  }
}

/** @returns every test as it ended; errors outside of tests are printed */
async function execute(folder: string): Promise<{ tests: readonly Ended[]; broken: boolean }> {
  const tests: Ended[] = [];
  let broken = false;
  const complain = (where: string, message: string) => {
    broken = true;
    console.error(`${where}: ${message}`);
  };
  const collect = (module: TestModule) => {
    const file = relative(ROOT, module.moduleId);
    for (const error of module.errors()) complain(file, error.message);
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      const assertions = test.meta().assertions ?? 0;
      tests.push({
        file,
        name: test.name,
        state: state === "pending" ? "failed" : state,
        assertions,
      });
      for (const error of test.result().errors ?? [])
        console.error(`${test.name}: ${error.message}`);
    }
  };
  const reporter: Reporter = {
    onTestRunEnd: (modules, errors) => {
      for (const module of modules) collect(module);
      for (const error of errors) complain(folder, error.message);
    },
  };
  const vitest = await startVitest("test", [`${folder}/`], {
    root: ROOT,
    watch: false,
    passWithNoTests: true,
    reporters: [reporter],
    setupFiles: [join(ROOT, "test/spec-cases/count-assertions.ts")],
  });
  await vitest.close();
  return { tests, broken };
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const known = SPECIFICATIONS.map(({ name }) => name);
  if (values.help || positionals.some((name) => !known.includes(name))) {
    console.log(USAGE);
    return values.help ? 0 : 2;
  }
  const asked = SPECIFICATIONS.filter(
    ({ name }) => positionals.length === 0 || positionals.includes(name),
  );
  let isFine = true;
  for (const specification of asked) {
    if (values.list) {
      listed(specification);
      continue;
    }
    const { tests, broken } = await execute(specification.folder);
    const { lines, ok } = report(coverageOf(specification, tests));
    for (const line of lines) console.log(line);
    isFine &&= ok && !broken;
  }
  return isFine ? 0 : 1;
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
  },
);
