// Owns: `npm run vectors -- DIR…`: replays golden instruction vectors. A process of its own.
import { parseArgs } from "node:util";
import { report, runFile, TIERS, type Tier, vectorFiles } from "../test/vectors/suite.js";

const USAGE = `usage: npm run vectors -- [options] DIR…
Runs every vector and block file (*.jsonl directly in DIR…) against the PE.
  --group NAME    only files whose name contains it
  --filter TEXT   only lines that contain it
  --tier 0|1      only this tier; both by default
A line of a feature that the ID registers don't claim is skipped, if it is UNDEFINED here.
Ends with "N passed, N failed, N skipped"; exit status 1 when a vector failed.`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      group: { type: "string" },
      filter: { type: "string" },
      tier: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true || positionals.length === 0) {
    console.log(USAGE);
    return values.help === true ? 0 : 2;
  }
  const tiers = values.tier === undefined ? TIERS : ([`tier ${values.tier}`] as Tier[]);
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const file of vectorFiles(positionals)) {
    if (values.group !== undefined && !file.includes(values.group)) continue;
    const { filter } = values;
    for (const tier of tiers) {
      const result = await runFile(tier, file, filter === undefined ? {} : { filter });
      for (const line of report(result)) console.log(`${tier}, ${line}`);
      total.passed += result.passed;
      total.failed += result.failed;
      total.skipped += result.skipped;
    }
  }
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

process.exitCode = await main();
