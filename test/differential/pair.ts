// Owns: a block in tier 0 and in tier 1, sliced differently, compared at random stops.
// Test process.
import { Prng } from "../../src/base/prng.js";
import type { Insn } from "../../src/machine/a64/insn.js";
import type { Decoder } from "../../src/machine/a64/pattern.js";
import { FlatMachine } from "../vectors/flat-machine.js";
import type { Block } from "./block.js";
import { metered } from "./meter.js";
import { differencesOf, Side, slicesOf } from "./side.js";

const STOPS_MAX = 6;
const REGION_SIZES = [1, 3, 10, 40, 160, 160, 160] as const;

export interface Outcome {
  /** By tier 0. */
  readonly retired: number;
  readonly events: number;
  /** How tier 1 differs at the first stop where it does; empty: nowhere. */
  readonly differences: readonly string[];
}

/** What the translation does with the present block. */
class Knobs {
  prng = new Prng(0n);
  most = 0;
  regionMax = 160;

  set(prng: Prng): void {
    this.prng = prng;
    this.most = prng.below(4) === 0 ? 4 : 0;
    this.regionMax = prng.pick(REGION_SIZES);
  }
}

export class Pair {
  readonly #tier0 = new Side(new FlatMachine());
  readonly #tier1: Side;
  readonly #knobs = new Knobs();
  /** Sees each instruction of tier 0 that is about to be executed, where it is stepped. */
  readonly #onStep: (word: number) => void;

  constructor(decoder: Decoder<Insn> | undefined, onStep: (word: number) => void) {
    const knobs = this.#knobs;
    const translation = {
      delay: () => knobs.prng.below(knobs.most + 1),
      get regionMax() {
        return knobs.regionMax;
      },
    };
    this.#tier1 = new Side(new FlatMachine(translation, decoder));
    this.#onStep = onStep;
  }

  run(block: Block): Outcome {
    const prng = new Prng(block.seed ^ 0x5eedn);
    const [a, b] = [this.#tier0, this.#tier1];
    a.load(block);
    b.load(block);
    const [own0, own1] = [new Prng(prng.u64()), new Prng(prng.u64())];
    this.#knobs.set(own1);
    const isStepped = prng.below(4) === 0;
    const slices = [
      isStepped ? () => 1 : slicesOf(own0),
      own1.below(2) === 0 ? whole : slicesOf(own1),
    ] as const;
    const step = isStepped ? () => this.#onStep(a.word) : () => {};
    const often = 1 + own1.below(2);
    const translate = (): void => {
      if (own1.below(often) === 0) b.machine.translate();
    };
    for (const at of placesOf(own1, block)) {
      b.machine.pc = BigInt(at);
      b.machine.translate();
    }
    b.machine.pc = BigInt(block.at);
    for (const total of stops(prng, block.most)) {
      a.advance(total, slices[0], step);
      b.advance(total, slices[1], translate);
      const differences = differencesOf(a, b);
      if (differences.length > 0) {
        return { retired: a.retired, events: a.events.length, differences };
      }
      if (a.ended) break;
    }
    return { retired: a.retired, events: a.events.length, differences: [] };
  }

  get regions(): number {
    return this.#tier1.machine.translated?.regions ?? 0;
  }

  get inTier1(): number {
    return metered(this.#tier1.machine.u8);
  }
}

/** Places of a block's code that are translated before it begins. */
function placesOf(prng: Prng, { at, words }: Block): number[] {
  return Array.from({ length: prng.below(12) }, () => at + 4 * prng.below(words.length));
}

const whole = (left: number): number => left;

/** Totals at which both sides stop and are compared, the last of them `most`. */
function stops(prng: Prng, most: number): number[] {
  const between = Array.from({ length: prng.below(STOPS_MAX) }, () => 1 + prng.below(most));
  return [...between, most].sort((x, y) => x - y);
}
