// Owns: GNU objdump as the disassembler's judge: texts of words, and what of ours agrees.
// Test and tool process.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { disassemble } from "../../src/machine/a64/disassembler/disassembler.js";
import { program } from "../../tools/debian.mjs";

export const OBJDUMP = "aarch64-linux-gnu-objdump";
export const BASE = 0x4008_0000;
const LINE = /^\s*[0-9a-f]+:\s+[0-9a-f]{8} +\t(.*)$/;
const OUTPUT_MAX = 2 ** 30;

/** What objdump says of words from BASE on: blanks made one, remarks of its own left out. */
export function objdump(words: readonly number[]): readonly string[] {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-objdump-"));
  try {
    const file = join(folder, "words.bin");
    writeFileSync(file, new Uint8Array(Uint32Array.from(words).buffer));
    const args = ["-D", "-z", "-b", "binary", "-m", "aarch64", `--adjust-vma=${BASE}`, file];
    const { stdout } = spawnSync(program(OBJDUMP), args, {
      encoding: "utf8",
      maxBuffer: OUTPUT_MAX,
    });
    const texts = stdout.split("\n").flatMap((line) => LINE.exec(line)?.[1] ?? []);
    if (texts.length !== words.length) throw new Error(`objdump: ${texts.length} lines`);
    return texts.map(normal);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What is no instruction is ".inst 0x…" there and ".word 0x…" here. */
function normal(text: string): string {
  const unknown = /^\.inst\s+0x([0-9a-f]{8}) ; undefined$/.exec(text)?.[1];
  if (unknown !== undefined) return `.word 0x${unknown}`;
  return text
    .replace(/\s*\/\/.*$/, "")
    .replace(/\s+/g, " ")
    .trim();
}

export interface Agreement {
  readonly agreed: number;
  /** "word: theirs | ours". */
  readonly differences: readonly string[];
}

export function compare(words: readonly number[]): Agreement {
  const theirs = objdump(words);
  let agreed = 0;
  const differences: string[] = [];
  for (const [at, word] of words.entries()) {
    const text = theirs[at] ?? "";
    const ours = disassemble(word, BigInt(BASE + 4 * at));
    if (ours === text) agreed++;
    else differences.push(`${word.toString(16).padStart(8, "0")}: ${text} | ${ours}`);
  }
  return { agreed, differences };
}

/** Every word of a file of golden vectors, once. */
export function wordsOf(file: string): readonly number[] {
  const words = new Set<number>();
  for (const line of readFileSync(file, "utf8").split("\n")) {
    if (line === "") continue;
    const { insn, code = [] } = JSON.parse(line) as { insn?: string; code?: string[] };
    for (const word of insn === undefined ? code : [insn]) words.add(Number.parseInt(word, 16));
  }
  return [...words];
}
