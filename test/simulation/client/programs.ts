// What simulated vCPUs do: stores and loads that meet on few pages, at word edges of the bitmap,
// across page ends and now and then outside every slot.
import type { Access, Program } from "../../../src/vmm/index.js";
import { chance, type World } from "../world.js";

/** Page offsets where bitmap code goes wrong: bits 0, 31, 32, 63 of words, and the last page. */
const EDGES = [0, 1, 31, 32, 33, 62, 63, 64, 95, 96, 127, 128] as const;
const LENGTHS = [1, 2, 4, 8, 8, 8] as const;

/** Pages that all vCPUs store to for a while. */
export function drawHot(world: World): readonly number[] {
  const { prng, oracle } = world;
  const pages: number[] = [];
  for (const slot of oracle.model.slots.values()) {
    const place = slot.current;
    if (place === null || slot.id === world.layout.guest?.home.slot) continue;
    const count = 1 + prng.below(10);
    for (let i = 0; i < count; i++) {
      const kind = prng.below(10);
      let offset = prng.below(place.npages);
      if (kind < 4) offset = Math.min(place.npages - 1, prng.pick(EDGES));
      else if (kind < 6) offset = Math.max(0, place.npages - 1 - prng.below(3));
      pages.push(place.baseGfn + offset);
    }
  }
  return pages;
}

function drawPage(world: World): number {
  const { prng, layout, hot, oracle } = world;
  if (hot.length > 0 && chance(world, 75)) return prng.pick(hot);
  const place = oracle.model.slot(prng.pick(layout.homes).slot).current;
  if (place !== null && chance(world, 95)) return place.baseGfn + prng.below(place.npages);
  const home = prng.pick(layout.homes);
  return home.first + prng.below(home.pages);
}

function drawAccess(world: World, pageSize: number): Access[] {
  const { prng } = world;
  const length = prng.pick(LENGTHS);
  const isStraddling = length > 1 && chance(world, 6);
  const offset = isStraddling
    ? pageSize - 1 - prng.below(length - 1)
    : prng.below(pageSize / length) * length;
  const address = BigInt(drawPage(world)) * BigInt(pageSize) + BigInt(offset);
  const read: Access = { op: "read", address, length };
  const write: Access = { op: "write", address, length, value: prng.u64() };
  // Load, then store: the page is mapped clean first.
  const kind = prng.below(100);
  if (kind < 20) return [read];
  return kind < 50 ? [read, write] : [write];
}

/** Accesses around the hot pages. */
export function drawList(world: World): Program {
  const { prng, layout } = world;
  const count = 8 + prng.below(160);
  const accesses: Access[] = [];
  while (accesses.length < count) {
    accesses.push(...drawAccess(world, layout.definition.pageSize));
  }
  return { kind: "accesses", accesses };
}

/** A list of one's own or the common one, or a pattern over a slot. */
export function drawProgram(world: World): Program {
  const { prng, layout, oracle } = world;
  const { pageSize } = layout.definition;
  const slots = [...oracle.model.slots.values()].filter(({ id }) => id !== layout.guest?.home.slot);
  const places = slots.flatMap((slot) => slot.current ?? []);
  if (places.length === 0 || chance(world, layout.isFlooded ? 20 : 70)) {
    return chance(world, 45) ? world.common : drawList(world);
  }
  const place = prng.pick(places);
  const isWhole = layout.isFlooded || chance(world, 50);
  const pages = isWhole ? place.npages : Math.min(place.npages, 1 + prng.below(80));
  const first = place.baseGfn + prng.below(place.npages - pages + 1);
  return {
    kind: "pattern",
    pattern: prng.pick(["uniform", "sequential", "hot-set", "zipf"]),
    base: BigInt(first) * BigInt(pageSize),
    bytes: BigInt(pages) * BigInt(pageSize),
    count: chance(world, 30) ? 0 : 20 + prng.below(2000),
    writePercent: layout.isFlooded ? 100 : prng.pick([30, 70, 100]),
    length: prng.pick([1, 4, 8]),
    stride: prng.pick([0, pageSize, pageSize / 2]),
    skew: prng.pick([10, 60, 100]),
    seed: prng.u64(),
  };
}

/** One access in every block's reach of a slot, so that blocks get mapped. */
export function warmProgram(world: World, slot: number): Program {
  const { layout, oracle, prng } = world;
  const { pageSize } = layout.definition;
  const place = oracle.model.slot(slot).current;
  const accesses: Access[] = [];
  for (let at = 0; at < (place?.npages ?? 0); at += layout.blockPages >>> 1) {
    const address = BigInt((place!.baseGfn + at) * pageSize);
    accesses.push({ op: prng.pick(["read", "write"]), address, length: 8, value: 1n });
  }
  return { kind: "accesses", accesses };
}
