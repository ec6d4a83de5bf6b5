// Owns: the block sum of a page stream as docs/migration-wire.md words it, a word at a time.
const BLOCK = 4096; // tidy: a block's bytes
const PRIME = 0x85eb_ca77;
const LANES = 32;

function step(sum: number, word: number): number {
  const x = Math.imul(sum + word, PRIME) >>> 0;
  return (x ^ (x >>> 15)) >>> 0;
}

/** @param content whole blocks */
export function blockSum(content: Uint8Array): number {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  let sum = 0;
  for (let block = 0; block < content.length; block += BLOCK) {
    const lanes = Array.from({ length: LANES }, (_, lane) => Math.imul(lane + 1, PRIME) >>> 0);
    for (let word = 0; word < BLOCK / 4; word++) {
      const lane = word % LANES;
      lanes[lane] = step(lanes[lane]!, view.getUint32(block + word * 4, true));
    }
    const joined = [0, 1, 2, 3].map((lane) =>
      lanes.filter((_, at) => at % 4 === lane).reduce(step, 0),
    );
    sum = step(sum, joined.reduce(step, 0));
  }
  return sum;
}
