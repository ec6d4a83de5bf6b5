// Owns: `npm run lockstep -- IMAGE.flat`: an image in tier 0 against tier 1, or against QEMU.
// A process of its own.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { lockstep } from "../test/differential/lockstep.js";
import { LockstepGuest } from "../test/differential/lockstep-guest.js";
import { lockstepWithQemu, QEMU } from "../test/differential/lockstep-qemu.js";
import { missing, programVersion } from "./debian.mjs";

const USAGE = `usage: npm run lockstep -- [options] IMAGE.flat
Runs a flat image (RAM at 0x4000_0000, image at 0x4008_0000, a PL011, PSCI SYSTEM_OFF ends) in
tier 0 and in tier 1, and names the first instruction after which registers or memory differ.
  --instructions N   stop after so many (default 20000000; with --qemu 100000)
  --every N          instructions between two comparisons (default 9973)
  --ram MIB          (default 512)
  --qemu             tier 0 against qemu-system-aarch64 instead, an instruction at a time
Exit status 1 when something differed; 2 on a wrong call or without QEMU.`;

function compareTiers(image: Uint8Array, every: number, instructions: number, ram: number): number {
  const ramBytes = ram * 2 ** 20;
  const result = lockstep({
    guests: () => [
      new LockstepGuest(image, { translation: null, ramBytes }),
      new LockstepGuest(image, { translation: {}, ramBytes }),
    ],
    every,
    instructions,
    progress: (retired) => console.log(`${retired} instructions agree`),
  });
  const { ended, slices, output, differences, culprit } = result;
  console.log(`${result.instructions} instructions, ${slices} comparisons, ended: ${ended}`);
  if (output !== "") console.log(`UART, its end: ${JSON.stringify(output.slice(-200))}`);
  if (differences.length === 0) return 0;
  console.log(`first difference after ${culprit}`);
  for (const text of differences.slice(0, 12)) console.log(`  ${text}`);
  return 1;
}

async function compareQemu(image: Uint8Array, instructions: number, ram: number): Promise<number> {
  const version = programVersion(QEMU);
  if (version === null) {
    console.error(`NOTHING WAS COMPARED: ${missing(QEMU)}`);
    return 2;
  }
  const result = await lockstepWithQemu(image, {
    instructions,
    ramBytes: ram * 2 ** 20,
    progress: (steps) => console.log(`${steps} steps agree`),
  });
  const copied = [...result.copied].map(([name, count]) => `${name} ${count}`).join(", ");
  console.log(`${version}: ${result.instructions} instructions, ended: ${result.ended}`);
  console.log(`copied from QEMU: ${copied === "" ? "nothing" : copied}`);
  if (result.differences.length === 0) return 0;
  console.log(`first difference after ${result.culprit}`);
  for (const text of result.differences) console.log(`  ${text}`);
  return 1;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      instructions: { type: "string" },
      every: { type: "string", default: "9973" },
      ram: { type: "string", default: "512" },
      qemu: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  const [path] = positionals;
  if (values.help === true || path === undefined) {
    console.log(USAGE);
    return values.help === true ? 0 : 2;
  }
  const image = Uint8Array.from(readFileSync(path));
  const ram = Number(values.ram);
  if (values.qemu === true) return compareQemu(image, Number(values.instructions ?? 100_000), ram);
  return compareTiers(image, Number(values.every), Number(values.instructions ?? 20_000_000), ram);
}

process.exitCode = await main();
