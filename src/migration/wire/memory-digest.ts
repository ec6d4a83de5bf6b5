// Owns: the digest of a VM's memory, the same on both sides whatever physical addresses are.
// Data-plane thread, or inline.
//
// Our choice: CRC-32 of each 64 KiB of RAM, mixed with its place, added up; unbacked pages by their
// sequences. Not cryptographic: it finds a page that was lost, not one that somebody forged.
import { crc32 } from "node:zlib";
import type { Clock } from "../../base/clock.js";
import { mix32 } from "../../base/prng.js";
import type { MemoryMap } from "../../runtime/index.js";
import type { Sequences } from "../ports.js";
import { Ram, type RamBlock } from "./ram.js";

const PIECE_BYTES = 65_536;
/** Between two looks of the thread at its sockets. */
const TURN_BYTES = 4 * 2 ** 20;
const SEQUENCES_AT_ONCE = 65_536;
const SALT = 0x7f4a_7c15;

class Sum {
  #a = 0;
  #b = 0;

  add(object: number, place: number, value: number): void {
    this.#a = (this.#a + mix32(object, place, value)) >>> 0;
    this.#b = (this.#b + mix32(value, object ^ SALT, place)) >>> 0;
  }

  hex(): string {
    return [this.#a, this.#b].map((word) => word.toString(16).padStart(8, "0")).join("");
  }
}

export async function memoryDigest(
  map: MemoryMap,
  sequences: Sequences,
  clock: Clock,
): Promise<string> {
  const sum = new Sum();
  const ram = new Ram(map);
  ram.refresh();
  for (const block of map.blocks) {
    if (block.backing === "ram") await addRam(sum, ram, block, clock);
    else if (block.backing === "unbacked") await addUnbacked(sum, map, block, sequences);
  }
  return sum.hex();
}

async function addRam(sum: Sum, ram: Ram, block: RamBlock, clock: Clock): Promise<void> {
  for (let at = 0; at < block.bytes; at += PIECE_BYTES) {
    const bytes = Math.min(PIECE_BYTES, block.bytes - at);
    sum.add(block.object, at / PIECE_BYTES, crc32(ram.bytes(block.pa + at, bytes)));
    if (at % TURN_BYTES === 0) await clock.yieldToLoop();
  }
}

async function addUnbacked(
  sum: Sum,
  map: MemoryMap,
  block: RamBlock,
  sequences: Sequences,
): Promise<void> {
  const pages = block.bytes / map.pageSize;
  for (let first = 0; first < pages; first += SEQUENCES_AT_ONCE) {
    const count = Math.min(SEQUENCES_AT_ONCE, pages - first);
    const numbers = await sequences.read(block.object, first, count);
    for (let i = 0; i < count; i++) {
      const sequence = numbers[i] as number;
      if (sequence !== 0) sum.add(block.object, first + i, sequence);
    }
  }
}
