// Owns: GNU objdump as a second opinion on A64 words, where binutils are installed. Test process.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { program } from "../../tools/debian.mjs";
import { bytesOf } from "./a64.js";

/** Each word's disassembly; empty where binutils for aarch64 aren't installed. */
export function disassembled(words: readonly number[]): readonly string[] {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-words-"));
  const file = join(folder, "words.bin");
  writeFileSync(file, bytesOf(words));
  const args = ["-D", "-z", "-b", "binary", "-m", "aarch64", file];
  const { status, stdout } = spawnSync(program("aarch64-linux-gnu-objdump"), args, {
    encoding: "utf8",
    maxBuffer: 2 ** 30,
  });
  rmSync(folder, { recursive: true, force: true });
  if (status !== 0) return [];
  return [...stdout.matchAll(/^ +[0-9a-f]+:\t[0-9a-f]{8} \t(.*)$/gm)].map(([, text]) =>
    text!.replace(/\s+/g, " "),
  );
}
