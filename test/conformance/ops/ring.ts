// Owns: what userspace does with a vCPU's dirty ring, as requests. Any thread.
import { isOk, jsonOf, plainOutcome, refusal, success } from "../client.js";
import { type Line, numberArg, type Outcome } from "../line.js";
import type { World } from "../world.js";

const FLAG_DIRTY = 1;
const FLAG_RESET = 2;
/** No ring is larger (KVM_DIRTY_RING_MAX_ENTRIES). */
const RING_ENTRIES_MAX = 65536;

interface Entry {
  readonly index: number;
  readonly flags: number;
  readonly slot: number;
  readonly offset: string | number;
}

interface Window {
  readonly entries: readonly Entry[];
  readonly size: number;
  readonly harvestIndex: number;
}

async function readWindow(world: World, path: string, from: number, limit: number) {
  const answer = await world.client.send("GET", `${path}/dirty-ring?from=${from}&limit=${limit}`);
  return isOk(answer) ? (jsonOf(answer) as unknown as Window) : { refused: refusal(answer) };
}

/**
 * ring_harvest: entries from `from_index` on while they are DIRTY, at most `max`, marked RESET.
 * The service's own index serves as long as the recorder's is the same; a recording may also go
 * over entries again, which is written entry by entry.
 */
export async function ringHarvest(world: World, line: Line): Promise<Outcome> {
  const { path } = world.vcpu(line.on);
  const from = numberArg(line, "from_index");
  const max = numberArg(line, "max");
  const limit = max < 0 ? RING_ENTRIES_MAX : Math.min(max, RING_ENTRIES_MAX);
  const window = await readWindow(world, path, from, Math.max(1, limit));
  if ("refused" in window) return window.refused;
  const usable = window.entries.slice(0, Math.min(limit, window.size));
  const end = usable.findIndex((entry) => entry.flags !== FLAG_DIRTY);
  const harvested = end < 0 ? usable : usable.slice(0, end);
  if (harvested.length > 0 && from === window.harvestIndex) {
    const answer = await world.client.send("POST", `${path}/dirty-ring/harvested`, {
      json: { upTo: from + harvested.length },
    });
    if (!isOk(answer)) return refusal(answer);
  } else {
    for (const [at] of harvested.entries()) {
      const answer = await setFlags(world, path, from + at, FLAG_RESET);
      if (!isOk(answer)) return refusal(answer);
    }
  }
  return success({
    entries: harvested.map((entry) => [entry.slot, Number(entry.offset)]),
    count: harvested.length,
  });
}

/** ring_peek: a raw look; indexes count modulo the ring's size. */
export async function ringPeek(world: World, line: Line): Promise<Outcome> {
  const { path } = world.vcpu(line.on);
  const window = await readWindow(world, path, numberArg(line, "first"), numberArg(line, "n"));
  if ("refused" in window) return window.refused;
  return success({
    entries: window.entries.map((entry) => [entry.flags, entry.slot, Number(entry.offset)]),
  });
}

/** ring_set_flags: userspace writes one entry's flags word. */
export async function ringSetFlags(world: World, line: Line): Promise<Outcome> {
  const { path } = world.vcpu(line.on);
  const answer = await setFlags(world, path, numberArg(line, "index"), numberArg(line, "flags"));
  return plainOutcome(answer);
}

function setFlags(world: World, path: string, index: number, flags: number) {
  return world.client.send("PUT", `${path}/dirty-ring/entries/${index}`, { json: { flags } });
}
