// Owns: `npm run differential`: random A64 blocks in tier 0 against tier 1, or against QEMU.
// A process of its own.
import { parseArgs } from "node:util";
import { runCampaign, type Totals } from "../test/differential/campaign.js";
import { PLANTS, plantedDecoder } from "../test/differential/plants.table.js";
import { compareWithQemu, QEMU } from "../test/differential/qemu.js";
import { failureLines, figures } from "../test/differential/report.js";
import { missing, programVersion } from "./debian.mjs";

const USAGE = `usage: npm run differential -- [options]
Runs random blocks of valid A64 instructions in tier 0 and in tier 1, with different slices and
translation at different times, and compares registers, memory and the number of instructions.
  --seed N           replays a run (default: 1)
  --instructions N   at least so many in tier 0 (default 1000000)
  --block N          this block of the seed alone
  --plant NAME|all   plant defects in tier 1 (test/differential/plants.table.ts); each must be found
  --qemu             tier 0 against qemu-aarch64 instead (Debian: qemu-user)
Exit status 1 when a block differed or a plant was not found; 2 on a wrong call or without QEMU.`;

const REPORT_EVERY = 200_000;

interface Options {
  readonly seed: bigint;
  readonly instructions: number;
  readonly block?: number;
}

function compareTiers(options: Options): number {
  let next = REPORT_EVERY;
  const totals = runCampaign(options, ({ instructions, blocks }: Totals) => {
    if (instructions < next) return;
    next += REPORT_EVERY;
    console.log(`${instructions} instructions, ${blocks} blocks agree`);
  });
  for (const line of figures(totals)) console.log(line);
  if (totals.failure === null) return 0;
  for (const line of failureLines(totals.failure, options.seed)) console.log(line);
  return 1;
}

function compareQemu({ block, ...options }: Options): number {
  const version = programVersion(QEMU);
  if (version === null) {
    console.error(`NOTHING WAS COMPARED: ${missing(QEMU)}`);
    return 2;
  }
  let next = REPORT_EVERY;
  const range = block === undefined ? options : { ...options, first: block, instructions: 1 };
  const totals = compareWithQemu(range, ({ instructions, blocks }) => {
    if (instructions < next) return;
    next += REPORT_EVERY;
    console.log(`${instructions} instructions, ${blocks} blocks agree`);
  });
  const { blocks, skipped, instructions, failure } = totals;
  console.log(`${version}: ${instructions} instructions of ${blocks} blocks agree`);
  console.log(`${skipped} blocks had faults or no end, and were left out`);
  if (failure === null) return 0;
  for (const line of failureLines(failure, options.seed)) console.log(line);
  return 1;
}

function plant(name: string, options: Options): number {
  const plants = PLANTS.filter((one) => name === "all" || one.name === name);
  if (plants.length === 0) return 2;
  let missed = 0;
  for (const one of plants) {
    const { failure } = runCampaign({ ...options, decoder: plantedDecoder(one) }, () => {});
    console.log(`${one.name}: ${failure === null ? "NOT FOUND" : `block ${failure.number}`}`);
    if (failure === null) missed++;
    else for (const line of failureLines(failure, options.seed).slice(-8)) console.log(`  ${line}`);
  }
  return missed === 0 ? 0 : 1;
}

function main(): number {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: "1" },
      instructions: { type: "string", default: "1000000" },
      block: { type: "string" },
      plant: { type: "string" },
      qemu: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const options: Options = {
    seed: BigInt(values.seed),
    instructions: Number(values.instructions),
    ...(values.block === undefined ? {} : { block: Number(values.block) }),
  };
  if (values.qemu === true) return compareQemu(options);
  return values.plant === undefined ? compareTiers(options) : plant(values.plant, options);
}

process.exitCode = main();
