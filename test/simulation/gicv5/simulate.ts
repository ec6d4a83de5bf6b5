// Owns: one seeded interleaving: what the guest's vCPUs do, what comes from outside and when, and
// what must be so at its end. Test process.
import { Prng } from "../../../src/base/prng.js";
import type { Item } from "./agent.js";
import type { Total } from "./oracle.js";
import { Broken, type GicWorld, ROWS, VCPUS } from "./world.js";

/** What a seed may do; fewer kinds keep a rule apart from others. */
export interface Flavour {
  readonly name: string;
  /** Guests that clear or set pending bits, disable, and deactivate what they didn't take. */
  readonly isRude: boolean;
  /** Userspace lowers lines of its own, too. */
  readonly lowers: boolean;
  /** irqfds come and go. */
  readonly changes: boolean;
}

export const FLAVOURS: readonly Flavour[] = [
  { name: "as VFIO", isRude: false, lowers: false, changes: false },
  { name: "lines that fall", isRude: false, lowers: true, changes: false },
  { name: "everything", isRude: true, lowers: true, changes: true },
];

export interface SeedResult {
  readonly seed: number;
  readonly flavour: string;
  /** null: every rule held. */
  readonly why: string | null;
  readonly totals: Readonly<Record<Total, number>>;
  readonly counters: Readonly<Record<string, number>>;
  readonly steps: number;
  readonly items: number;
}

/** Counters that the oracle and KVM must agree on. */
const AGREED: Readonly<Record<string, Total>> = {
  vdrcfgCalls: "vdrcfg",
  vdrcfgSkippedNoNotifier: "skipped",
};
export const COUNTED = [
  ...["acks", "spuriousAcks", "lateAcks", "completions", "missedAcks", "stormsDetected"],
  ...["vdrcfgCalls", "vdrcfgSkippedNoNotifier", "acksWithoutNotifier", "deactivationTraps"],
] as const;

const typed = (routine: Item["routine"], spi: number, isOn = false): Item => {
  return { routine, spi, isOn };
};

/**
 * A guest that takes interrupts as Linux does, sometimes one more before the first is done, with
 * gaps, exits, and bad manners in between.
 */
function listOf(prng: Prng, flavour: Flavour): readonly Item[] {
  const items: Item[] = [];
  const add = (item: Item) => {
    items.push(item);
    for (let n = prng.below(3); n > 0; n--) items.push({ routine: "nothing" });
    if (prng.below(4) === 0) items.push({ routine: "exit" });
    if (flavour.isRude && prng.below(6) === 0) items.push(rude(prng));
  };
  for (let turns = 1 + prng.below(5); turns > 0; turns--) {
    const isNested = prng.below(4) === 0;
    for (let takes = isNested ? 2 : 1; takes > 0; takes--) {
      add({ routine: "take" });
      add({ routine: "eoi" });
    }
    add({ routine: "deactivateTaken" });
    if (isNested) for (const { id } of ROWS) items.push(typed("deactivate", id));
  }
  return items;
}

function rude(prng: Prng): Item {
  const { id } = prng.pick(ROWS);
  return prng.pick([
    typed("disable", id),
    typed("enable", id),
    typed("pend", id, false),
    typed("deactivate", id),
  ]);
}

interface Event {
  readonly step: number;
  act(world: GicWorld): void;
}

function eventOf(prng: Prng, flavour: Flavour, chosen: readonly number[]): Event["act"] {
  const id = prng.pick(chosen);
  const isEdge = ROWS.some((row) => row.id === id && row.config === "edge");
  const kind = prng.below(8);
  if (flavour.changes && kind === 0) return (world) => world.attach(id, !world.isAttached(id));
  if (flavour.lowers && kind <= 3) return (world) => world.line(id, isEdge || kind === 3);
  return (world) => (world.isAttached(id) ? world.signal(id) : world.line(id, true));
}

/** Until every device is content or nobody hears of it: takes what comes, on every vCPU. */
const settle = (takes: number): readonly Item[] =>
  Array.from({ length: takes }, (): readonly Item[] => [
    { routine: "take" },
    { routine: "eoi" },
    { routine: "deactivateTaken" },
    { routine: "exit" },
  ]).flat();
const SETTLE = settle(4);
/** Long enough for what KVM calls a storm; one seed of so many has it. */
const STORM = settle(20);
const SEEDS_OF_A_STORM = 16;

/** Everything as it was: nothing pending, active or disabled. */
const RESET: readonly Item[] = [
  { routine: "eoi" },
  ...ROWS.flatMap(({ id }) => [
    typed("deactivate", id),
    typed("pend", id, false),
    typed("enable", id),
  ]),
];

function interleave(world: GicWorld, seed: number, flavour: Flavour): number {
  const prng = new Prng(BigInt(seed));
  const some = Array.from({ length: 1 + prng.below(2) }, () => prng.pick(ROWS).id);
  // A level is always among them: it is what resampling is for.
  const chosen = [...some, 1 + prng.below(3)];
  for (const id of new Set(chosen)) if (prng.below(4) !== 0) world.attach(id, true);
  const lists = Array.from({ length: VCPUS }, () => listOf(prng, flavour));
  const events = Array.from({ length: 3 + prng.below(9) }, (): Event => {
    return { step: prng.below(20), act: eventOf(prng, flavour, chosen) };
  });
  let step = 0;
  world.runLists(lists, () => {
    for (const event of events) if (event.step === step) event.act(world);
    step++;
  });
  world.compare();
  const last = seed % SEEDS_OF_A_STORM === 0 ? STORM : SETTLE;
  world.runLists([last, last], () => {});
  world.compare();
  return lists.reduce((sum, { length }) => sum + length, 0);
}

/** After the settling: what the policy promises, in sums. */
function judge(world: GicWorld): void {
  const { totals, policy } = world.oracle;
  if (policy === "exact" && (totals.lost > 0 || totals.acks !== totals.completions)) {
    throw new Broken(`${totals.completions} completions, ${totals.acks} acks, ${totals.lost} lost`);
  }
  if (policy === "exact" && totals.redelivered > 0) throw new Broken("an end that lowers no line");
  if (policy === "none" && totals.acks > 0) throw new Broken("somebody was told");
  if (!policy.startsWith("seed004")) return;
  for (const [counter, total] of Object.entries(AGREED)) {
    const [found, wanted] = [world.counted(counter), totals[total]];
    if (found !== wanted) throw new Broken(`${counter} is ${found}, the oracle has ${wanted}`);
  }
}

function leaveClean(world: GicWorld): void {
  for (const { id, config } of ROWS) {
    world.attach(id, false);
    if (config === "level") world.line(id, false);
  }
  // Its last exit comes when all is idle: nothing is in flight then.
  world.runLists([RESET, [{ routine: "eoi" }]], () => {});
  world.compare();
}

/** @param world of this policy, as the last seed left it */
export function simulateGicv5(world: GicWorld, seed: number, flavour: Flavour): SeedResult {
  world.beginSeed(seed);
  let why: string | null = null;
  let items = 0;
  let totals = world.oracle.totals;
  const counters: Record<string, number> = {};
  try {
    items = interleave(world, seed, flavour);
    world.oracle.end();
    judge(world);
    totals = { ...world.oracle.totals };
    for (const name of COUNTED) counters[name] = world.counted(name);
    leaveClean(world);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    why = error.message;
  }
  return { seed, flavour: flavour.name, why, totals, counters, steps: world.steps, items };
}
