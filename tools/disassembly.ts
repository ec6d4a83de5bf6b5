// Owns: `npm run disassembly -- DIR…`: our disassembler against GNU objdump on every word of golden
// vectors (*.jsonl directly in DIR…). A process of its own.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { compare, OBJDUMP, wordsOf } from "../test/disassembler/objdump.js";
import { missing, programVersion } from "./debian.mjs";

const USAGE = `usage: npm run disassembly -- [options] DIR…
Says per file how many distinct words have the same text as objdump's.
  --show N   differences to print per file (10)
Exit status 1 when a text differs.`;

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { show: { type: "string", default: "10" }, help: { type: "boolean" } },
  });
  const version = programVersion(OBJDUMP);
  if (values.help === true || positionals.length === 0 || version === null) {
    console.log(version === null ? missing(OBJDUMP) : USAGE);
    return values.help === true ? 0 : 2;
  }
  console.log(version);
  const total = { agreed: 0, words: 0 };
  for (const folder of positionals) {
    for (const file of readdirSync(folder).filter((name) => name.endsWith(".jsonl"))) {
      const words = wordsOf(join(folder, file));
      const { agreed, differences } = compare(words);
      total.agreed += agreed;
      total.words += words.length;
      console.log(`${file}: ${agreed} of ${words.length}`);
      for (const line of differences.slice(0, Number(values.show))) console.log(`  ${line}`);
    }
  }
  console.log(`${total.agreed} of ${total.words} agree`);
  return total.agreed === total.words ? 0 : 1;
}

process.exitCode = main();
