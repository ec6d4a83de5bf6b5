// Owns: the same random blocks in tier 0 and under qemu-aarch64, compared at their ends.
// Test process; starts one child at a time and waits for it.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { program } from "../../tools/debian.mjs";
import { END, FlatMachine } from "../vectors/flat-machine.js";
import { type Block, newBlock } from "./block.js";
import { blockSeed } from "./campaign.js";
import { CODE, CODE_PAGES, DATA, DATA_PAGES, PAGE } from "./layout.js";
import { minimised } from "./minimise.js";
import { AT, doneFrom, elf, RECORD_BYTES } from "./qemu-loader.js";
import { Side } from "./side.js";

export const QEMU = "qemu-aarch64";
/** A CPU that has what our PE has: v8.2 with LSE, RDM, DotProd, LRCPC and the crypto extension. */
const CPU = "neoverse-n1";
const BATCH = 64;
const TIMEOUT_MS = 60_000;

const CODE_BYTES = CODE_PAGES * PAGE;
const DATA_BYTES = DATA_PAGES * PAGE;
const STATE_AT = CODE_BYTES + DATA_BYTES;

/** What the loader reads before a block: its code, data and registers. */
function record({ at, words, state }: Block): Uint8Array {
  const bytes = new Uint8Array(RECORD_BYTES).fill(0xa5, 0, CODE_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of words.entries()) {
    const address = at + 4 * i;
    view.setUint32(address - CODE, word === END ? doneFrom(address) : word, true);
  }
  bytes.set(state.data, CODE_BYTES);
  const set = (offset: number, value: bigint): void =>
    view.setBigUint64(STATE_AT + offset, BigInt.asUintN(64, value), true);
  for (const [n, value] of state.x.entries()) set(AT.x + 8 * n, value);
  for (const [n, value] of state.v.entries()) {
    set(AT.v + 16 * n, value);
    set(AT.v + 16 * n + 8, value >> 64n);
  }
  set(AT.sp, state.sp);
  set(AT.nzcv, BigInt(state.nzcv) << 28n);
  set(AT.fpcr, BigInt(state.fpcr));
  set(AT.fpsr, BigInt(state.fpsr));
  set(AT.tpidr, state.tpidr);
  return bytes;
}

/** The same record of a machine that is at END. */
function recordOf({ machine }: Side, block: Block): Uint8Array {
  const { registers } = machine;
  const state = {
    x: Array.from({ length: 31 }, (_, n) => registers.x(n)),
    v: Array.from({ length: 32 }, (_, n) => registers.v(n)),
    sp: machine.sp,
    nzcv: registers.nzcv,
    fpcr: registers.fpcr,
    fpsr: registers.fpsr,
    tpidr: registers.get("TPIDR_EL0"),
    data: machine.u8.slice(machine.host(DATA), machine.host(DATA) + DATA_BYTES),
  };
  const bytes = record({ ...block, state });
  const code = machine.host(CODE);
  bytes.set(machine.u8.subarray(code, code + CODE_BYTES));
  // END stands for the branch back.
  for (const [i, word] of block.words.entries()) {
    if (word !== END) continue;
    const address = block.at + 4 * i;
    new DataView(bytes.buffer).setUint32(address - CODE, doneFrom(address), true);
  }
  return bytes;
}

function nameOf(at: number): string {
  if (at < CODE_BYTES) return `code 0x${(CODE + at).toString(16)}`;
  if (at < STATE_AT) return `byte 0x${(DATA + at - CODE_BYTES).toString(16)}`;
  const offset = at - STATE_AT;
  if (offset < AT.sp) return `x${Math.floor(offset / 8)}`;
  if (offset < AT.v) return "sp";
  if (offset < AT.nzcv) return `v${Math.floor((offset - AT.v) / 16)}`;
  return ["nzcv", "fpcr", "fpsr", "tpidr"][Math.floor((offset - AT.nzcv) / 8)]!;
}

function differencesOf(ours: Uint8Array, theirs: Uint8Array): string[] {
  if (Buffer.compare(ours, theirs) === 0) return [];
  const found = new Set<string>();
  const [a, b] = [new DataView(ours.buffer), new DataView(theirs.buffer, theirs.byteOffset)];
  for (let at = 0; at < RECORD_BYTES && found.size < 20; at += 8) {
    const [x, y] = [a.getBigUint64(at, true), b.getBigUint64(at, true)];
    if (x === y) continue;
    const half = at >= STATE_AT + AT.v && at < STATE_AT + AT.nzcv && at % 16 !== 0 ? " high" : "";
    found.add(`${nameOf(at)}${half} is 0x${x.toString(16)}, QEMU has 0x${y.toString(16)}`);
  }
  // Registers first: memory follows from them.
  return [...found].sort((p, q) => Number(/^(byte|code)/.test(p)) - Number(/^(byte|code)/.test(q)));
}

export interface QemuTotals {
  blocks: number;
  /** Blocks that didn't come to their end, or faulted: nothing to compare. */
  skipped: number;
  instructions: number;
  failure: {
    readonly number: number;
    readonly block: Block;
    readonly small: Block;
    readonly differences: readonly string[];
    readonly smallDifferences: readonly string[];
  } | null;
}

interface Ready {
  readonly number: number;
  readonly block: Block;
  readonly ours: Uint8Array;
  readonly retired: number;
}

class Comparison {
  readonly #file: string;
  readonly #side = new Side(new FlatMachine());

  /** What QEMU gets in a word's place. */
  readonly #plant: (word: number) => number;

  constructor(file: string, plant: (word: number) => number) {
    this.#file = file;
    this.#plant = plant;
  }

  /** Runs a block here; null when QEMU couldn't run it to its end either. */
  here(block: Block, number: number): Ready | null {
    const side = this.#side;
    side.load(block);
    side.advance(
      block.most,
      (left) => left,
      () => {},
    );
    if (!side.ended || side.events.length > 0) return null;
    return { number, block, ours: recordOf(side, block), retired: side.retired };
  }

  /** Runs blocks under QEMU. @returns each one's differences */
  there(batch: readonly Ready[]): readonly (readonly string[])[] {
    const input = Buffer.concat(
      batch.map(({ block }) => {
        return record({ ...block, words: block.words.map(this.#plant) });
      }),
    );
    const { stdout, signal, stderr } = spawnSync(program(QEMU), ["-cpu", CPU, this.#file], {
      input,
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL",
      maxBuffer: 2 * input.length + 2 ** 20,
    });
    return batch.map(({ ours }, i) => {
      const theirs = stdout.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES);
      if (theirs.length === RECORD_BYTES) {
        return differencesOf(this.#planted(ours), Uint8Array.from(theirs));
      }
      if (stdout.length < i * RECORD_BYTES) return [];
      return [`QEMU didn't come to its end (${signal ?? stderr.toString().trim()})`];
    });
  }

  /** A plant is no difference of the code itself. */
  #planted(record: Uint8Array): Uint8Array {
    const copy = record.slice();
    const view = new DataView(copy.buffer);
    for (let at = 0; at < CODE_BYTES; at += 4) {
      view.setUint32(at, this.#plant(view.getUint32(at, true)), true);
    }
    return copy;
  }

  /** Of one block, for making it small. */
  differences(block: Block): readonly string[] {
    const ready = this.here(block, 0);
    return ready === null ? [] : this.there([ready])[0]!;
  }
}

export interface QemuCampaign {
  readonly seed: bigint;
  readonly instructions: number;
  /** Number of the first block. */
  readonly first?: number;
  /** A planted difference: the word that QEMU gets instead. */
  readonly plant?: (word: number) => number;
}

/** Compares random blocks until so many instructions agreed. */
export function compareWithQemu(
  { seed, instructions, first = 0, plant = (word) => word }: QemuCampaign,
  progress: (totals: QemuTotals) => void,
): QemuTotals {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-qemu-user-"));
  const file = join(folder, "loader");
  writeFileSync(file, elf(), { mode: 0o755 });
  const comparison = new Comparison(file, plant);
  const totals: QemuTotals = { blocks: 0, skipped: 0, instructions: 0, failure: null };
  try {
    for (let number = first; totals.instructions < instructions; ) {
      const batch: Ready[] = [];
      for (; batch.length < BATCH; number++) {
        const block = newBlock(blockSeed(seed, number), { strict: true });
        const ready = comparison.here(block, number);
        if (ready === null) totals.skipped++;
        else batch.push(ready);
      }
      if (!compared(comparison, batch, totals)) return totals;
      progress(totals);
    }
    return totals;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function compared(comparison: Comparison, batch: readonly Ready[], totals: QemuTotals): boolean {
  const results = comparison.there(batch);
  for (const [i, { number, block, retired }] of batch.entries()) {
    const differences = results[i]!;
    if (differences.length > 0) {
      const small = minimised(block, (one) => comparison.differences(one));
      totals.failure = { number, block, differences, ...small };
      return false;
    }
    totals.blocks++;
    totals.instructions += retired;
  }
  return true;
}
