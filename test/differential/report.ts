// Owns: what a campaign says: figures, and a failure as assembler. Test process.
import { disassembled } from "../support/objdump.js";
import { NOP } from "./a64.js";
import type { Block } from "./block.js";
import type { Failure, Totals } from "./campaign.js";
import { hex32 } from "./layout.js";

/** The words that are no NOPs, with their places. */
export function listing({ words, at }: Block): string[] {
  const texts = disassembled(words);
  return words.flatMap((word, i) => {
    if (word === NOP) return [];
    return [`  ${hex32(at + 4 * i)}: .inst ${hex32(word)}  // ${texts[i] ?? ""}`];
  });
}

export function failureLines(failure: Failure, seed: bigint): string[] {
  const { number, differences, small, smallDifferences, block } = failure;
  return [
    `block ${number} differs: --seed ${seed} --block ${number}`,
    ...differences.slice(0, 6).map((text) => `  ${text}`),
    `smallest, with NOPs for the rest (${block.words.length} words, stopped after ${block.most}):`,
    ...listing(small),
    ...smallDifferences.slice(0, 6).map((text) => `  ${text}`),
  ];
}

const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(1)} %`;

export function figures(totals: Totals): string[] {
  const { blocks, instructions, inTier1, regions, events, groups } = totals;
  const counted = [...groups.values()].reduce((sum, n) => sum + n, 0);
  const shares = [...groups]
    .sort(([, a], [, b]) => b - a)
    .map(([name, n]) => `${name} ${percent(n, counted)}`);
  return [
    `${blocks} blocks, ${instructions} instructions, ${events} faults and system calls`,
    `in tier 1: ${inTier1} (${percent(inTier1, instructions)}) in ${regions} regions`,
    `by group, of ${counted} that were stepped: ${shares.join(", ")}`,
  ];
}
