// Owns: what pages without bytes contain (DESIGN 5): a function of seed, page, write sequence.
// The VM reads by it; both ends of a migration check by it. Any thread.

/** First physical address that has no bytes behind it. */
export const UNBACKED_BASE = 2 ** 32;

/** Never zero, so that a page that was not copied cannot pass for one that was. */
const NON_ZERO = 0x0101_0101;

/** The two rounds of mix32 that are the same for every word of a page. */
function roundsOf(seed: number, page: number, sequence: number): number {
  let common = Math.imul(seed ^ page ^ 0x9e37_79b9, 0x85eb_ca6b);
  common = Math.imul((common ^ (common >>> 15)) + sequence, 0xc2b2_ae35);
  return common ^ (common >>> 13);
}

/**
 * Content of unbacked memory from the beginning of a page on.
 * @param seed of the memory
 * @param page by whose number the content is computed: UnbackedMemory.contentPage
 * @param sequence stores so far to the page
 */
export function fillUnbackedWords(
  seed: number,
  page: number,
  sequence: number,
  words: Uint32Array,
): void {
  const common = roundsOf(seed, page, sequence);
  for (let at = 0; at < words.length; at++) {
    const word = Math.imul(common + at, 0x27d4_eb2f);
    words[at] = (word ^ (word >>> 16)) | NON_ZERO;
  }
}

/** The same for bytes. @param out whole words, aligned to one */
export function fillUnbackedPage(
  seed: number,
  page: number,
  sequence: number,
  out: Uint8Array,
): void {
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length >>> 2);
  fillUnbackedWords(seed, page, sequence, words);
}

/** @returns whether `words` are what fillUnbackedWords would have written */
export function isUnbacked(
  words: Uint32Array,
  seed: number,
  page: number,
  sequence: number,
): boolean {
  const common = roundsOf(seed, page, sequence);
  for (let at = 0; at < words.length; at++) {
    const word = Math.imul(common + at, 0x27d4_eb2f);
    if (words[at] !== ((word ^ (word >>> 16)) | NON_ZERO) >>> 0) return false;
  }
  return true;
}
