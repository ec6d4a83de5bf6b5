// Goal: the walker finds the same leaf, or faults at the same level, as the manual's translation.
// Method: tables of random descriptors at every granule; a second walker in bigint, from the text.
import fc from "fast-check";
import { expect, it } from "vitest";
import { PAGE_SIZES, type PageSize, pageGeometry } from "../../../src/base/page.js";
import { Prng } from "../../../src/base/prng.js";
import { HostMemory } from "../../../src/machine/host-memory.js";
import {
  decodeRegime,
  emptyWalk,
  encodeVtcr,
  encodeVttbr,
  outputAddress,
  startEntriesFor,
  startLevelFor,
  walkStage2,
} from "../../../src/machine/index.js";

interface Found {
  found: boolean;
  level: number;
  descriptorPa: number;
  output?: bigint;
}

/** Levels at which a block may lie. @source Arm ARM D8.3, without LPA2 */
const BLOCK_LEVELS: Readonly<Record<PageSize, readonly number[]>> = {
  4096: [1, 2],
  16384: [2],
  65536: [2],
};

/** One level after the other, each index a bit field of the address. */
function textbook(
  read: (pa: number) => bigint,
  size: PageSize,
  regime: { root: number; startLevel: number; ipaBits: number },
  ipa: bigint,
): Found {
  const shift = BigInt(Math.log2(size));
  const stride = shift - 3n;
  let table = BigInt(regime.root);
  for (let level = regime.startLevel; ; level++) {
    const low = shift + stride * BigInt(3 - level);
    const top = level === regime.startLevel ? BigInt(regime.ipaBits) : low + stride;
    const width = top > low ? top - low : 0n;
    const index = (ipa >> low) & ((1n << width) - 1n);
    const descriptorPa = Number(table + index * 8n);
    const descriptor = read(descriptorPa);
    const kind = descriptor & 3n;
    const fault = { found: false, level, descriptorPa };
    if ((kind & 1n) === 0n) return fault;
    const isLeaf = level === 3 || kind === 1n;
    if (level === 3 && kind !== 3n) return fault;
    if (level < 3 && isLeaf && !BLOCK_LEVELS[size].includes(level)) return fault;
    const address = descriptor & ((1n << 48n) - 1n);
    if (isLeaf) {
      return { found: true, level, descriptorPa, output: (address >> low) << low };
    }
    table = (address >> shift) << shift;
  }
}

/** Fills tables so that walks go deep: mostly table descriptors, every other bit at random. */
function randomTables(size: PageSize, ipaBits: number, seed: number) {
  const geometry = pageGeometry(size);
  const prng = new Prng(BigInt(seed));
  const startLevel = startLevelFor(geometry, ipaBits);
  const rootBytes = startEntriesFor(geometry, ipaBits, startLevel) * 8;
  const rootPages = Math.max(1, rootBytes / size);
  const root = rootPages * size;
  const tables = Array.from({ length: 5 }, (_, i) => 2 * root + i * size);
  const memory = new HostMemory(2 * root + 5 * size);
  memory.ensure(2 * root + 5 * size);
  const fill = (from: number, bytes: number) => {
    for (let pa = from; pa < from + bytes; pa += 8) {
      const draw = prng.below(100);
      const kind = draw < 60 ? 3 : draw < 80 ? 1 : draw < 90 ? 2 : 0;
      const target = prng.pick(tables);
      memory.u32[pa >>> 2] = (target | (prng.u32() & 0xffc) | kind) >>> 0;
      // Bits 47:32 of the address stay 0, or a table would lie outside the memory.
      memory.u32[(pa >>> 2) + 1] = prng.u32() & 0xffff_0000;
    }
  };
  fill(root, rootPages * size);
  for (const table of tables) fill(table, size);
  const regime = decodeRegime(encodeVtcr(geometry, ipaBits, true), encodeVttbr(root, 1));
  return { memory, regime };
}

const scene = fc.record({
  size: fc.constantFrom(...PAGE_SIZES),
  ipaBits: fc.integer({ min: 32, max: 48 }),
  seed: fc.integer(),
});

it("walks random tables as the manual does", () => {
  const met = { found: 0, fault: 0, block: 0, page: 0 };
  fc.assert(
    fc.property(scene, ({ size, ipaBits, seed }) => {
      const { memory, regime } = randomTables(size, ipaBits, seed);
      const prng = new Prng(BigInt(seed) + 1n);
      const out = emptyWalk();
      for (let n = 0; n < 40; n++) {
        const ipa = prng.below(2 ** ipaBits);
        const visited: number[] = [];
        walkStage2(memory, regime, ipa, out, null, (level) => visited.push(level));
        const expected = textbook((pa) => memory.read64(pa), size, regime, BigInt(ipa));
        const got: Found = {
          found: out.found,
          level: out.level,
          descriptorPa: out.descriptorPa,
        };
        if (out.found) got.output = BigInt(outputAddress(out.lo, out.hi, out.size));
        expect(got).toEqual(expected);
        expect(visited.at(0)).toBe(regime.startLevel);
        expect(visited.at(-1)).toBe(out.level);
        met[out.found ? "found" : "fault"]++;
        if (out.found) met[out.level === 3 ? "page" : "block"]++;
      }
    }),
    { numRuns: 60 },
  );
  // The tables must not be such that only one kind of answer ever comes.
  for (const count of Object.values(met)) expect(count).toBeGreaterThan(50);
});
