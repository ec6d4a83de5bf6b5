// Owns: many random blocks from one seed: figures, the first failure, and it made small.
// Test process.
import { mix32 } from "../../src/base/prng.js";
import type { Insn } from "../../src/machine/a64/insn.js";
import { newDecoder } from "../../src/machine/a64/isa.js";
import type { Decoder } from "../../src/machine/a64/pattern.js";
import { type Block, newBlock } from "./block.js";
import { GROUPS, STOPPING } from "./groups.table.js";
import { withMeter } from "./meter.js";
import { minimised } from "./minimise.js";
import { Pair } from "./pair.js";

export interface Campaign {
  readonly seed: bigint;
  /** At least so many instructions in tier 0. */
  readonly instructions: number;
  /** What tier 1 takes instructions for; another one is a planted defect. */
  readonly decoder?: Decoder<Insn>;
  /** This block alone. */
  readonly block?: number;
}

export interface Failure {
  readonly number: number;
  readonly differences: readonly string[];
  readonly block: Block;
  /** With every word that isn't needed made a NOP. */
  readonly small: Block;
  readonly smallDifferences: readonly string[];
}

export interface Totals {
  blocks: number;
  instructions: number;
  inTier1: number;
  regions: number;
  events: number;
  /** Instructions by group, where they were stepped. */
  readonly groups: Map<string, number>;
  failure: Failure | null;
}

/** Each block has a seed of its own, so one can be replayed without those before it. */
export function blockSeed(seed: bigint, number: number): bigint {
  const low = Number(seed & 0xffff_ffffn);
  const high = Number((seed >> 32n) & 0xffff_ffffn);
  return (BigInt(mix32(low, high, number)) << 32n) | BigInt(mix32(number, low, high));
}

const BRANCH = "branch";

class GroupCounter {
  readonly counts = new Map<string, number>();
  readonly #decoder = newDecoder();
  readonly #names = new Map<Insn, string>();
  readonly #byWord = new Map<number, string>();

  constructor() {
    for (const { name, rows } of [...GROUPS, STOPPING]) {
      for (const row of rows) this.#names.set(row, name);
    }
  }

  count(word: number): void {
    let name = this.#byWord.get(word);
    if (name === undefined) {
      const found = this.#decoder.find(word);
      name = found === null ? "undefined" : (this.#names.get(found.row) ?? BRANCH);
      this.#byWord.set(word, name);
    }
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }
}

export function runCampaign(campaign: Campaign, progress: (totals: Totals) => void): Totals {
  return withMeter(() => runMetered(campaign, progress));
}

function runMetered(campaign: Campaign, progress: (totals: Totals) => void): Totals {
  const counter = new GroupCounter();
  const pair = new Pair(campaign.decoder, (word) => counter.count(word));
  const totals: Totals = {
    blocks: 0,
    instructions: 0,
    inTier1: 0,
    regions: 0,
    events: 0,
    groups: counter.counts,
    failure: null,
  };
  const first = campaign.block ?? 0;
  for (let n = first; totals.instructions < campaign.instructions; n++) {
    const block = newBlock(blockSeed(campaign.seed, n), { strict: false });
    const { retired, events, differences } = pair.run(block);
    totals.blocks++;
    totals.instructions += retired;
    totals.events += events;
    totals.inTier1 = pair.inTier1;
    totals.regions = pair.regions;
    if (differences.length > 0) {
      const small = minimised(block, (one) => pair.run(one).differences);
      totals.failure = { number: n, differences, block, ...small };
      return totals;
    }
    progress(totals);
    if (campaign.block !== undefined) break;
  }
  return totals;
}
