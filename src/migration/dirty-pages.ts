// Owns: sets of dirty pages, put together. Any thread.
import type { DirtyPages, MemoryMap } from "../runtime/index.js";

type DirtyBlock = DirtyPages["blocks"][number];

export const NO_PAGES: DirtyPages = { blocks: [], pages: 0 };

function countBits(bitmap: Uint8Array): number {
  let count = 0;
  for (const byte of bitmap) {
    for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  }
  return count;
}

function join(first: DirtyBlock, second: DirtyBlock): DirtyBlock {
  const [long, short] =
    first.bitmap.length >= second.bitmap.length ? [first, second] : [second, first];
  const bitmap = long.bitmap.slice();
  for (const [at, byte] of short.bitmap.entries()) bitmap[at] = (bitmap[at] ?? 0) | byte;
  return { object: first.object, pages: countBits(bitmap), bitmap };
}

/** @returns every page that is in one of them */
export function joinPages(first: DirtyPages, second: DirtyPages): DirtyPages {
  if (first.pages === 0) return second;
  if (second.pages === 0) return first;
  const byObject = new Map(first.blocks.map((block) => [block.object, block]));
  for (const block of second.blocks) {
    const known = byObject.get(block.object);
    byObject.set(block.object, known === undefined ? block : join(known, block));
  }
  const blocks = [...byObject.values()].sort((a, b) => a.object - b.object);
  return { blocks, pages: blocks.reduce((sum, block) => sum + block.pages, 0) };
}

/** Bytes of all blocks that move. */
export function bytesOf({ blocks }: MemoryMap): number {
  return blocks.reduce((sum, { backing, bytes }) => sum + (backing === "device" ? 0 : bytes), 0);
}
