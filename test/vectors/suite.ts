// Owns: running directories of vector files, skip rules, and the report. Test process.
import { createReadStream, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { type Feature, IMPLEMENTED } from "../../src/machine/a64/features.table.js";
import { FlatMachine } from "./flat-machine.js";
import { type Header, runVector, type Vector } from "./vector.js";

/** Groups whose instructions belong to features; a group is skipped when the PE has none of it. */
const FEATURES_OF: Readonly<Record<string, readonly Feature[]>> = {
  "opt-lse": ["FEAT_LSE"],
  "opt-rcpc": ["FEAT_LRCPC", "FEAT_LRCPC2"],
  "opt-flagm": ["FEAT_FlagM", "FEAT_FlagM2"],
  "opt-dotprod": ["FEAT_DotProd", "FEAT_I8MM"],
  "opt-rdm": ["FEAT_RDM"],
  "opt-fp16": ["FEAT_FP16", "FEAT_FHM"],
  "opt-fcma": ["FEAT_FCMA"],
  "opt-bf16": ["FEAT_BF16"],
  "opt-frintts-jscvt": ["FEAT_FRINTTS", "FEAT_JSCVT"],
  "opt-crypto": ["FEAT_SHA512", "FEAT_SHA3", "FEAT_SM3", "FEAT_SM4"],
};

export interface GroupResult {
  readonly group: string;
  passed: number;
  failed: number;
  skipped: number;
  /** Failed lines by mnemonic. */
  readonly mnemonics: Map<string, number>;
  /** First differences, for people. */
  readonly first: string[];
}

const FIRST_MAX = 5;

export function vectorFiles(directories: readonly string[]): string[] {
  return directories.flatMap((directory) =>
    readdirSync(directory)
      .filter((name) => name.endsWith(".jsonl"))
      .sort()
      .map((name) => join(directory, name)),
  );
}

/** Features that the group asks for and the PE hasn't. */
function missing(header: Header): readonly Feature[] {
  return (FEATURES_OF[header.group] ?? []).filter((feature) => !IMPLEMENTED.has(feature));
}

export interface SuiteOptions {
  /** Only lines whose text or disassembly contains it. */
  readonly filter?: string;
  /** Every nth line only, for a short form. */
  readonly every?: number;
}

/** Runs one file. A line of a feature that the PE hasn't is skipped when it is UNDEFINED here. */
export async function runFile(
  tier: Tier,
  file: string,
  { filter, every = 1 }: SuiteOptions = {},
): Promise<GroupResult> {
  const lines = createInterface({
    input: createReadStream(file),
    crlfDelay: Number.POSITIVE_INFINITY,
  });
  let header: Header | null = null;
  let machine: FlatMachine | null = null;
  let number = 0;
  const result: GroupResult = {
    group: basename(file, ".jsonl"),
    passed: 0,
    failed: 0,
    skipped: 0,
    mnemonics: new Map(),
    first: [],
  };
  for await (const line of lines) {
    number++;
    if (header === null) {
      header = JSON.parse(line) as Header;
      if (header.format !== "a64-vectors") throw new Error(`${file} is no vector file`);
      machine = newMachine(tier, header.kind);
      continue;
    }
    if (line === "" || (number - 2) % every !== 0) continue;
    if (filter !== undefined && !line.includes(filter)) continue;
    const vector = JSON.parse(line) as Vector;
    const found = runVector(machine!, header, vector);
    if (found.length === 0) result.passed++;
    else if (found[0] === "UNDEFINED" && missing(header).length > 0) result.skipped++;
    else {
      result.failed++;
      const mnemonic = String(vector.asm ?? "block").split(/[\s,]/)[0]!;
      result.mnemonics.set(mnemonic, (result.mnemonics.get(mnemonic) ?? 0) + 1);
      if (result.first.length < FIRST_MAX) {
        const name = vector.asm === undefined ? (vector.insn ?? "block") : String(vector.asm);
        result.first.push(`line ${number}: ${name.slice(0, 80)}: ${found.slice(0, 3).join("; ")}`);
      }
    }
  }
  return result;
}

/** The lines of a report for one group. */
export function report(result: GroupResult): string[] {
  const { group, passed, failed, skipped, mnemonics, first } = result;
  const counts = `${group}: ${passed} passed, ${failed} failed, ${skipped} skipped`;
  if (failed === 0) return [counts];
  const names = [...mnemonics].map(([name, count]) => `${name} ${count}`).join(", ");
  return [counts, `  failed: ${names}`, ...first.map((text) => `  ${text}`)];
}

export const TIERS = ["tier 0", "tier 1"] as const;
export type Tier = (typeof TIERS)[number];

/** In tier 1, single vectors are regions of one instruction, and blocks are whole. */
function newMachine(tier: Tier, kind: Header["kind"]): FlatMachine {
  if (tier === "tier 0") return new FlatMachine();
  return new FlatMachine(kind === "single" ? { regionMax: 1 } : {});
}
