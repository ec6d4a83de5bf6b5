// Owns: `npm run gicv5 -- DIR…`: replays recordings of a live GICv5. A process of its own.
import { parseArgs } from "node:util";
import { recordings, replay, WAYS, type Way } from "../test/gicv5/replay.js";

const USAGE = `usage: npm run gicv5 -- [options] DIR…
Replays every recording (*.jsonl directly in DIR…) against the GICv5 of the machine.
  --file NAME     only files whose name contains it
  --way NAME      calls (of functions) or instructions (that a PE decodes); both by default
  --all           every difference, not only the first five of a file
Ends with "N compared, N different, N skipped"; exit status 1 when anything differed.`;

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      file: { type: "string" },
      way: { type: "string" },
      all: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true || positionals.length === 0) {
    console.log(USAGE);
    return values.help === true ? 0 : 2;
  }
  const ways = (Object.keys(WAYS) as Way[]).filter((way) => (values.way ?? way) === way);
  let [compared, different, skipped] = [0, 0, 0];
  for (const file of recordings(positionals)) {
    if (values.file !== undefined && !file.includes(values.file)) continue;
    for (const way of ways) {
      const result = replay(file, way);
      const left = Object.entries(result.skipped);
      const why = left.map(([reason, count]) => `, ${count} skipped: ${reason}`).join("");
      console.log(`${way}, ${result.file}: ${result.compared} compared${why}`);
      const shown = values.all === true ? result.failures : result.failures.slice(0, 5);
      for (const failure of shown) console.log(`  ${failure}`);
      compared += result.compared;
      different += result.failures.length;
      skipped += left.reduce((sum, [, count]) => sum + count, 0);
    }
  }
  console.log(`${compared} compared, ${different} different, ${skipped} skipped`);
  return different === 0 && compared > 0 ? 0 : 1;
}

process.exitCode = main();
