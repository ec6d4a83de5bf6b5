// Owns: running dependency-cruiser, and proof that it saw every file. Own process.
// A cruiser that understands no TypeScript finds no violation in no module and calls that success.
import { readdirSync } from "node:fs";
import { cruise } from "dependency-cruiser";
import extractDepcruiseOptions from "dependency-cruiser/config-utl/extract-depcruise-options";
import extractTSConfig from "dependency-cruiser/config-utl/extract-ts-config";

const options = await extractDepcruiseOptions("./.dependency-cruiser.cjs");
const { output } = await cruise(["src"], options, undefined, {
  tsConfig: extractTSConfig("tsconfig.json"),
});
const seen = output.modules.filter(({ source }) => /^src\/.*\.ts$/.test(source)).length;
const files = readdirSync("src", { recursive: true }).filter((f) => f.endsWith(".ts")).length;
for (const { rule, from, to, cycle } of output.summary.violations) {
  const route = cycle === undefined ? to : cycle.map((step) => step.name ?? step).join(" -> ");
  console.log(`${rule.name}: ${from} -> ${route}`);
}
const violations = output.summary.violations.length;
console.log(`${violations} violations; ${seen} modules cruised, src has ${files} files`);
if (seen < files) console.log("cruised fewer modules than src has files");
process.exitCode = violations > 0 || seen < files || files === 0 ? 1 : 0;
