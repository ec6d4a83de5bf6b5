// Owns: making a failing block small. Test process.
import { NOP } from "./a64.js";
import type { Block } from "./block.js";

/** Makes NOPs of ever shorter runs of words, as long as the block still fails. */
export function minimised(
  block: Block,
  differencesOf: (block: Block) => readonly string[],
): { readonly small: Block; readonly smallDifferences: readonly string[] } {
  let small = block;
  let smallDifferences = differencesOf(block);
  for (let size = block.words.length >> 1; size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < small.words.length; at += size) {
      const words = small.words.map((word, i) => (i >= at && i < at + size ? NOP : word));
      if (words.every((word, i) => word === small.words[i])) continue;
      const candidate = { ...small, words };
      const differences = differencesOf(candidate);
      if (differences.length === 0) continue;
      small = candidate;
      smallDifferences = differences;
    }
  }
  return { small, smallDifferences };
}
