// Owns: random blocks: what a seed makes of code, registers and memory. Test process.
//
//   items: instructions, forward branches, counted loops, calls, indirect branches, exclusives,
//          patched code, then END, then the functions that were called
//
// A block need not end by itself: whoever runs it stops after `most` instructions.
import { Prng } from "../../src/base/prng.js";
import { END } from "../vectors/flat-machine.js";
import {
  addImm,
  andFpcr,
  b,
  bCond,
  bl,
  blr,
  br,
  cb,
  eorw,
  ldrw,
  maintain,
  movn,
  movw,
  movz,
  msrFpcr,
  ret,
  strw,
  subImm,
  subsImm,
  tb,
} from "./a64.js";
import { Emitter, type Label } from "./emitter.js";
import { EXCLUSIVE_ROWS } from "./exclusive.table.js";
import { CODE, CODE_BASE, DATA_BASE, INDEXES, INNER, LINK, OUTER, PAGE, TARGET } from "./layout.js";
import { type State, stateOf } from "./state.js";
import { encode, type Word, WordMaker, type WordOptions } from "./words.js";

export interface Block {
  readonly seed: bigint;
  /** Address of the first word. */
  readonly at: number;
  readonly words: readonly number[];
  readonly state: State;
  /** Instructions and faults after which it is stopped. */
  readonly most: number;
  /** Floating point is off: every instruction that uses it asks the system side. */
  readonly fpTrap: boolean;
}

const SP = 31;
const ITEMS_MAX = 40;
/** Strict blocks come to their end, unless they loop for ever. */
const STRICT_MOST = 20_000;
/** A counted loop: so often that it gets hot, at times. */
const HOT_TURNS = 70;

class BlockMaker {
  readonly #prng: Prng;
  readonly #words: WordMaker;
  readonly #strict: boolean;
  readonly #e = new Emitter();
  readonly #functions: Label[] = [];
  /** A patch drops the code of its page, so most blocks have none. */
  readonly #patches: boolean;
  #depth = 0;

  constructor(prng: Prng, options: WordOptions) {
    this.#prng = prng;
    this.#words = new WordMaker(prng, options);
    this.#strict = options.strict;
    this.#patches = prng.below(3) === 0;
  }

  words(): readonly number[] {
    this.#words.newPool();
    this.#items(3 + this.#prng.below(ITEMS_MAX));
    this.#e.put(END);
    for (const label of this.#functions) {
      this.#e.place(label);
      this.#plain(1 + this.#prng.below(6));
      this.#e.put(ret(LINK));
    }
    return this.#e.finish();
  }

  #items(count: number): void {
    for (let n = 0; n < count; n++) this.#item();
  }

  #plain(count: number): void {
    for (let n = 0; n < count; n++) this.#instruction();
  }

  #item(): void {
    const roll = this.#prng.below(100);
    if (roll < 66) this.#instruction();
    else if (roll < 76) this.#skip();
    else if (roll < 86) this.#loop();
    else if (roll < 90) this.#call();
    else if (roll < 93) this.#indirect();
    else if (roll < 96) this.#exclusive();
    else if (roll < 99 && this.#patches) this.#patch();
    else this.#control();
  }

  // ── instructions ────────────────────────────────────────────────────────────────────────────

  #instruction(): void {
    const word = this.#words.any();
    if (word.group.memory) this.#prepare(word);
    this.#e.put(word.word);
  }

  /** Points the base near the data, most of the time. */
  #prepare({ row, fields }: Word): void {
    const { Rn, Rm, Rt } = fields;
    if (row.name === "DC_ZVA") {
      if (Rt !== SP) this.#point(Rt!);
      return;
    }
    if (Rn !== undefined && (this.#strict || this.#prng.below(4) !== 0)) this.#point(Rn);
    if (Rm === undefined || Rm === SP) return;
    const roll = this.#strict ? 9 : this.#prng.below(10);
    if (roll > 1) this.#e.put(movz(Rm, this.#prng.below(256)));
    else if (roll === 1) this.#e.put(movn(Rm, this.#prng.below(256)));
  }

  #point(register: number): void {
    const prng = this.#prng;
    const kind = prng.below(10);
    const aligned = this.#strict || kind < 6;
    let by = aligned ? 16 * prng.below(256) : prng.below(PAGE);
    // X28 is in the middle of a page: around the page's ends.
    if (kind === 9 && !(this.#strict && register === SP)) by = 0x7f0 + prng.below(32);
    this.#e.put(
      prng.below(2) === 0 ? addImm(register, DATA_BASE, by) : subImm(register, DATA_BASE, by),
    );
  }

  /** FPCR, for which strict blocks use only the bits that everybody has. */
  #control(): void {
    const index = this.#prng.pick(INDEXES);
    this.#e.put(andFpcr(index, this.#prng.below(24)), msrFpcr(index));
  }

  /** LDXR … STXR at one address, with something in between. */
  #exclusive(): void {
    const { load, store } = this.#prng.pick(EXCLUSIVE_ROWS);
    const [n, t, t2, s] = [19 + this.#prng.below(4), 1, 2, 3 + this.#prng.below(2)];
    const size = this.#prng.below(4);
    const fields = { size, sz: size & 1, o0: size >> 1, Rn: n };
    this.#e.put(addImm(n, DATA_BASE, 16 * this.#prng.below(255)));
    const second = load.name.startsWith("LDXP") ? t2 : SP;
    this.#e.put(encode(load, { ...fields, Rt: t, Rt2: second, Rs: 31 }));
    if (this.#prng.below(3) !== 0) this.#e.put(this.#words.computing().word);
    this.#e.put(encode(store, { ...fields, Rt: t, Rt2: second, Rs: s }));
  }

  // ── control flow ────────────────────────────────────────────────────────────────────────────

  /** One conditional branch, or now and then one that is always taken. */
  #branch(to: Label): void {
    const prng = this.#prng;
    const [kind, op, register] = [prng.below(8), prng.below(2), prng.below(32)];
    const [cond, bit] = [prng.below(16), prng.below(64)];
    this.#e.towards(to, (at, target) => {
      const by = target - at;
      if (kind < 4) return bCond(cond, by);
      if (kind < 6) return cb(bit & 1, op, register, by);
      return kind === 6 ? tb(bit, op, register, by) : b(by);
    });
  }

  #skip(): void {
    const end = this.#e.label();
    this.#branch(end);
    this.#items(1 + this.#prng.below(4));
    this.#e.place(end);
  }

  #loop(): void {
    if (this.#depth === 2) return;
    const counter = this.#depth++ === 0 ? OUTER : INNER;
    const prng = this.#prng;
    const turns = prng.below(12) === 0 ? HOT_TURNS + prng.below(30) : 1 + prng.below(9);
    this.#e.put(movz(counter, turns));
    const head = this.#e.here();
    this.#items(1 + prng.below(5));
    if (prng.below(2) === 0) {
      this.#e.put(subsImm(counter, counter, 1));
      this.#e.towards(head, (at, to) => bCond(1, to - at));
    } else {
      this.#e.put(subImm(counter, counter, 1));
      this.#e.towards(head, (at, to) => cb(1, 1, counter, to - at));
    }
    this.#depth--;
  }

  #call(): void {
    const known = this.#functions.length;
    const isNew = known === 0 || (known < 4 && this.#prng.below(2) === 0);
    if (isNew) this.#functions.push(this.#e.label());
    const to = isNew ? this.#functions.at(-1)! : this.#prng.pick(this.#functions);
    if (this.#prng.below(2) === 0) {
      this.#e.towards(to, (at, target) => bl(target - at));
      return;
    }
    this.#address(to);
    this.#e.put(blr(TARGET));
  }

  /** X26 = a label's address; a block is shorter than the immediate's range. */
  #address(to: Label): void {
    this.#e.towards(to, (_, target) => addImm(TARGET, CODE_BASE, 4 * target));
  }

  /** Forward, over something. */
  #indirect(): void {
    const end = this.#e.label();
    this.#address(end);
    this.#e.put(this.#prng.below(2) === 0 ? br(TARGET) : ret(TARGET));
    this.#plain(this.#prng.below(3));
    this.#e.place(end);
  }

  /** Changes an instruction ahead or behind to another one and back, then maintains it. */
  #patch(): void {
    const [first, second] = [this.#words.computing().word, this.#words.computing().word];
    const place = this.#e.label();
    const isBehind = this.#prng.below(2) === 0;
    if (isBehind) this.#patched(place, first);
    this.#address(place);
    this.#e.put(ldrw(INDEXES[0], TARGET), ...movw(INDEXES[1], first ^ second));
    this.#e.put(eorw(INDEXES[0], INDEXES[1]), strw(INDEXES[0], TARGET), ...maintain(TARGET));
    if (!isBehind) this.#patched(place, first);
  }

  #patched(place: Label, word: number): void {
    this.#plain(this.#prng.below(2));
    this.#e.place(place);
    this.#e.put(word);
  }
}

/** Anywhere in the first page; often so that the code straddles its end. */
function placeOf(prng: Prng, words: number): number {
  if (prng.below(3) !== 0) return CODE + 4 * prng.below(64);
  return CODE + PAGE - 4 * (1 + prng.below(Math.min(words, 1000)));
}

export function newBlock(seed: bigint, options: WordOptions): Block {
  const prng = new Prng(seed);
  let words = new BlockMaker(prng, options).words();
  while (words.length > 1000) words = new BlockMaker(prng, options).words();
  const at = placeOf(prng, words.length);
  const most = options.strict ? STRICT_MOST : 32 + prng.below(prng.below(4) === 0 ? 6000 : 1200);
  const fpTrap = !options.strict && prng.below(32) === 0;
  return { seed, at, words, state: stateOf(prng, at), most, fpTrap };
}
