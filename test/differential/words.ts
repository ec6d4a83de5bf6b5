// Owns: random words of a row of the instruction tables: fields by their names. Test process.
import type { Prng } from "../../src/base/prng.js";
import type { Insn } from "../../src/machine/a64/insn.js";
import { newDecoder } from "../../src/machine/a64/isa.js";
import type { Fields } from "../../src/machine/a64/pattern.js";
import { GROUPS, type Group, STOPPING } from "./groups.table.js";
import { BASES, CODE, DATA, INDEXES, RESERVED } from "./layout.js";

/** Draws until a row has a valid word; rows with narrow validity need many. */
const TRIES_MAX = 60;
const ANY_REGISTER = Array.from({ length: 31 }, (_, n) => n);
const DESTINATIONS = ANY_REGISTER.filter((n) => !RESERVED.has(n) && !isBase(n));

function isBase(n: number): boolean {
  return (BASES as readonly number[]).includes(n);
}

export interface Word {
  readonly word: number;
  readonly group: Group;
  readonly row: Insn;
  readonly fields: Fields;
}

export interface WordOptions {
  /** Nothing that stops a run, faults often, or is CONSTRAINED UNPREDICTABLE. */
  readonly strict: boolean;
}

export function encode({ pattern }: Insn, fields: Fields): number {
  let word = pattern.value;
  for (const { name, shift } of pattern.fields) word |= fields[name]! << shift;
  return word >>> 0;
}

export class WordMaker {
  readonly #prng: Prng;
  readonly #decoder = newDecoder();
  readonly #groups: readonly Group[];
  readonly #weights: number;
  readonly #strict: boolean;
  /** Few registers, so that instructions depend on each other. */
  #pool: readonly number[] = DESTINATIONS;

  constructor(prng: Prng, { strict }: WordOptions) {
    this.#prng = prng;
    this.#strict = strict;
    this.#groups = strict ? GROUPS : [...GROUPS, STOPPING];
    this.#weights = this.#groups.reduce((sum, { weight }) => sum + weight, 0);
  }

  /** Chooses the registers that most of a block's instructions use. */
  newPool(): void {
    const size = 3 + this.#prng.below(8);
    this.#pool = Array.from({ length: size }, () => this.#prng.pick(DESTINATIONS));
  }

  #group(): Group {
    let left = this.#prng.fraction() * this.#weights;
    for (const group of this.#groups) {
      left -= group.weight;
      if (left < 0) return group;
    }
    return this.#groups[0]!;
  }

  /** A word of any group. */
  any(): Word {
    for (;;) {
      const word = this.of(this.#group());
      if (word !== null) return word;
    }
  }

  /** A word that only computes: no memory, no system side. */
  computing(): Word {
    for (;;) {
      const word = this.any();
      if (!word.group.memory && word.group.name !== "system-side") return word;
    }
  }

  of(group: Group): Word | null {
    const row = this.#prng.pick(group.rows);
    for (let n = 0; n < TRIES_MAX; n++) {
      const fields = this.#fields(group, row);
      const word = encode(row, fields);
      if (this.#decoder.find(word)?.row !== row) continue;
      if (this.#strict && !isPredictable(group, row, fields)) continue;
      return { word, group, row, fields };
    }
    return null;
  }

  #fields(group: Group, row: Insn): Fields {
    const fields: Record<string, number> = {};
    for (const { name, width } of row.pattern.fields) {
      fields[name] = this.#field(group, row, name, width);
    }
    // CASP's pairs: even, and not the one that holds a counter.
    if (row.name.startsWith("CASP")) {
      fields["Rs"] = 2 * this.#prng.below(9);
      fields["Rt"] = 2 * this.#prng.below(9);
    }
    return fields;
  }

  #field(group: Group, row: Insn, name: string, width: number): number {
    const prng = this.#prng;
    const any = (): number => Math.floor(prng.fraction() * 2 ** width);
    if (name === "Rn" && group.memory) return prng.pick(BASES);
    if (name === "Rm" && group.memory) return this.#index(group);
    if (/^R[a-z]2?$/.test(name)) return this.#register(group, row, name, width);
    // Where a base is prepared, small offsets stay near it.
    if (!group.memory || (!this.#strict && prng.below(50) === 0)) return any();
    if (name === "imm12") return prng.below(64);
    if (name === "imm19") return this.#literal();
    return any();
  }

  /** 31 as the index of a structure is the number of its bytes. */
  #index(group: Group): number {
    return group.vectors && this.#prng.below(2) === 0 ? 31 : this.#prng.pick(INDEXES);
  }

  /** Words from anywhere in the code to the data. */
  #literal(): number {
    const before = !this.#strict && this.#prng.below(10) === 0 ? 0xc00 : 0;
    return (DATA - CODE) / 4 + this.#prng.below(0x800) - before;
  }

  #register(group: Group, row: Insn, name: string, width: number): number {
    const prng = this.#prng;
    const isTarget = name === "Rd" || name === "Rt" || name === "Rt2" || name === "Rs";
    const isVector = group.vectors || hasNoGeneral(row);
    if (width < 5 || isVector) return Math.floor(prng.fraction() * 2 ** width);
    if (prng.below(12) === 0) return 31;
    if (prng.below(4) !== 0) return prng.pick(this.#pool);
    return prng.pick(isTarget ? DESTINATIONS : ANY_REGISTER);
  }
}

const generalOf = new Map<Insn, boolean>();

/** Whether every register of a row is a vector register. */
function hasNoGeneral(row: Insn): boolean {
  let known = generalOf.get(row);
  if (known === undefined) {
    const zeros = Object.fromEntries(row.pattern.fields.map(({ name }) => [name, 0]));
    const kinds = Object.values(row.spec.ops(zeros)).map(({ kind }) => kind);
    known = kinds.includes("v") && !kinds.includes("x");
    generalOf.set(row, known);
  }
  return known;
}

const EXCLUSIVE = /^(LDXR|STXR|LDXP|STXP)_/;

/** Nothing that the Arm ARM leaves open, or that another implementation has to fault at. */
function isPredictable(group: Group, { name }: Insn, fields: Fields): boolean {
  const { Rn, Rt, Rt2, Rs } = fields;
  if (EXCLUSIVE.test(name) || name.startsWith("MSR_FPCR")) return false;
  // Fields that should be one, and registers that are written twice.
  if (/_ldstord$/.test(name) && (Rs !== 31 || Rt2 !== 31)) return false;
  if (/^LDAPR/.test(name) && Rs !== 31) return false;
  if (!group.memory || group.vectors || Rn === undefined) return true;
  if (Rn !== 31 && (Rt === Rn || Rt2 === Rn || Rs === Rn)) return false;
  return !name.startsWith("STP_LDP") || Rt !== Rt2;
}
