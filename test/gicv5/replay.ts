// Owns: replaying recordings of a live GICv5 against ours.
// A recording is a header and one step per line: what was done, and what came of it. `ideal` is the
// answer without the reference's defects; it wins.
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Irs } from "../../src/machine/gic/gicv5/irs.js";
import type { TableMemory } from "../../src/machine/gic/gicv5/ist.js";
import { DirectCpu, InstructionCpu, parseEncoding, type ReplayCpu } from "./cpus.js";

interface Do {
  readonly kind: string;
  readonly frame?: string;
  readonly offset?: string;
  readonly size?: number;
  readonly value?: string;
  readonly enc?: string;
  readonly reg?: string;
  readonly insn?: string;
  readonly address?: string;
  readonly spi?: number;
  readonly ppi?: number;
  readonly level?: number;
}
interface Expected {
  readonly value?: string;
  readonly ok?: boolean;
  readonly exception?: string;
}
interface Step {
  readonly step: number;
  readonly cpu: number;
  readonly do: Do;
  readonly expect: Expected;
  readonly ideal?: Expected;
}
interface Header {
  readonly cpus: number;
  readonly spis?: number;
}

/** Encodings that are UNDEFINED at EL1. */
interface Undefined {
  readonly undefined_at_el1?: Readonly<Record<"mrs" | "msr" | "sys" | "sysl", readonly string[]>>;
}

export interface ReplayResult {
  readonly file: string;
  compared: number;
  /** What the recording says isn't to be compared, by reason. */
  readonly skipped: Record<string, number>;
  readonly failures: string[];
}

/** What the reference has at reset where a header doesn't say. */
const SPIS = 256;
const RAM = { base: 0x4000_0000, bytes: 256 * 2 ** 20 } as const;
/** Below it there is memory that reads as zero and keeps nothing. */
const ROM_END = 0x0800_0000;
/** ALLINT: no part of a GIC. */
const IGNORED = new Set(["s3_0_c4_c3_0"]);
const LPI_PENDING = 1;

/** Bits that a register has (D6: the reference keeps the others as well). */
const MMIO_BITS: ReadonlyMap<number, bigint> = new Map([
  [0x084, 0xffffn],
  [0x140, 0xffffn],
  [0x180, 0x00ff_ffff_ffff_ffc1n],
  [0x184, 0x00ff_ffffn],
  [0x190, 0x1_01ffn],
]);
const PRIORITY_BITS = 0x1f1f_1f1f_1f1f_1f1fn;

/** Memory of the reference's board, in pages that are there once written. */
class Ram implements TableMemory {
  readonly #words = new Map<number, number>();

  read32(pa: number): number {
    if (pa >= RAM.base && pa < RAM.base + RAM.bytes) return this.#words.get(pa) ?? 0;
    return pa < ROM_END ? 0 : -1;
  }

  write32(pa: number, word: number): void {
    if (pa >= RAM.base && pa < RAM.base + RAM.bytes) this.#words.set(pa, word >>> 0);
  }

  write(pa: number, bytes: number, value: bigint): void {
    for (let at = 0; at < bytes; at++) {
      const [word, shift] = [pa + at - ((pa + at) % 4), 8 * ((pa + at) % 4)];
      const byte = Number((value >> BigInt(8 * at)) & 0xffn);
      const old = this.read32(word);
      if (old >= 0) this.write32(word, (old & ~(0xff << shift)) | (byte << shift));
    }
  }

  read(pa: number, bytes: number): bigint {
    let value = 0n;
    for (let at = 0; at < bytes; at++) {
      const word = this.read32(pa + at - ((pa + at) % 4));
      const byte = (word >>> (8 * ((pa + at) % 4))) & 0xff;
      value |= BigInt(word < 0 ? 0 : byte) << BigInt(8 * at);
    }
    return value;
  }
}

/** One board, from reset. */
class Board {
  readonly #ram = new Ram();
  readonly #irs: Irs;
  readonly #cpus: readonly ReplayCpu[];

  constructor({ cpus, spis }: Header, make: (irs: Irs, cpus: number) => readonly ReplayCpu[]) {
    this.#irs = new Irs(this.#ram, {
      irsId: 0,
      hasVirtualization: false,
      spis: spis ?? SPIS,
      pes: () => cpus,
      vdpendLatency: () => 0,
    });
    this.#cpus = make(this.#irs, cpus);
  }

  do({ cpu: index, do: what }: Step): bigint | "ok" | "data-abort" | "undefined" | "ignored" {
    const cpu = this.#cpus[index]!;
    const value = BigInt(what.value ?? 0);
    const size = what.size ?? 4;
    switch (what.kind) {
      case "mmio-read": {
        const read = this.#irs.read(Number(what.offset), size);
        return read === "abort" ? "data-abort" : read;
      }
      case "mmio-write":
        return this.#irs.write(Number(what.offset), size, value) === "abort" ? "data-abort" : "ok";
      case "ram-read":
        return this.#ram.read(Number(what.address), size);
      case "ram-write":
        this.#ram.write(Number(what.address), size, value);
        return "ok";
      case "ram-fill":
        this.#fill(Number(what.address), size, value);
        return "ok";
      case "spi-line":
        this.#irs.setSpiLine(what.spi!, what.level === 1);
        return "ok";
      case "ppi-line":
        cpu.gic.setPpiLine(what.ppi!, what.level === 1);
        return "ok";
      case "insn":
      case "sysreg-write":
        return IGNORED.has(what.enc!) ? "ignored" : cpu.write(parseEncoding(what.enc!), value);
      case "insn-result":
      case "sysreg-read":
        return IGNORED.has(what.enc!) ? "ignored" : cpu.read(parseEncoding(what.enc!));
      default:
        throw new Error(`unknown step: ${what.kind}`);
    }
  }

  undefined(lists: NonNullable<Undefined["undefined_at_el1"]>, result: ReplayResult): void {
    const cpu = this.#cpus[0]!;
    for (const kind of ["mrs", "msr", "sys", "sysl"] as const) {
      for (const text of lists[kind]) {
        const encoding = parseEncoding(text);
        const isRead = kind === "mrs" || kind === "sysl";
        const got = isRead ? cpu.read(encoding) : cpu.write(encoding, 0n);
        result.compared++;
        if (got !== "undefined") result.failures.push(`${kind} ${text}: not UNDEFINED`);
      }
    }
  }

  #fill(address: number, size: number, value: bigint): void {
    for (let at = 0; at < size; at += 4) this.#ram.write(address + at, 4, value);
  }
}

/** Bits of an answer that are compared. */
function bitsOf({ kind, offset, reg }: Do): bigint {
  if (kind === "mmio-read") return MMIO_BITS.get(Number(offset)) ?? ~0n;
  return reg?.startsWith("ICC_PPI_PRIORITYR") === true ? PRIORITY_BITS : ~0n;
}

/** An entry of an LPI that pends may be in memory or not yet. */
function isWriteBack(step: Step, got: bigint, wanted: bigint): boolean {
  const isEntry = step.do.kind === "ram-read" && step.do.size === 4;
  return isEntry && ((Number(got & 1n) | Number(wanted & 1n)) & LPI_PENDING) !== 0;
}

/** By calling functions, or by instructions that a PE decodes. */
export const WAYS = { calls: DirectCpu.all, instructions: InstructionCpu.all } as const;
export type Way = keyof typeof WAYS;

/** @param edit of each line, for tests of the replay itself */
export function replay(
  file: string,
  way: Way,
  edit = (line: string): string => line,
): ReplayResult {
  const lines = readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "");
  const header = JSON.parse(lines[0]!) as Header;
  const board = new Board(header, WAYS[way]);
  const result: ReplayResult = { file: basename(file), compared: 0, skipped: {}, failures: [] };
  for (const line of lines.slice(1)) {
    const step = JSON.parse(edit(line)) as Partial<Step> & Undefined;
    if (step.undefined_at_el1 !== undefined) board.undefined(step.undefined_at_el1, result);
    if (step.do === undefined) continue;
    compare(result, step as Step, board.do(step as Step));
  }
  return result;
}

function compare(result: ReplayResult, step: Step, got: ReturnType<Board["do"]>): void {
  const expected = step.ideal ?? step.expect;
  const skip = (why: string) => {
    result.skipped[why] = (result.skipped[why] ?? 0) + 1;
  };
  if (got === "ignored") {
    skip("no part of a GIC");
    return;
  }
  const bits = bitsOf(step.do);
  if (expected.value !== undefined && typeof got === "bigint") {
    const [ours, theirs] = [got & bits, BigInt(expected.value) & bits];
    if (ours !== theirs && isWriteBack(step, ours, theirs)) {
      skip("entry of a pending LPI in memory");
      return;
    }
  }
  result.compared++;
  const wanted =
    expected.value === undefined ? (expected.exception ?? "ok") : BigInt(expected.value) & bits;
  const ours = typeof got === "bigint" ? got & bits : got;
  if (ours === wanted) return;
  const what = JSON.stringify(step.do);
  const show = (value: bigint | string) =>
    typeof value === "bigint" ? `0x${value.toString(16)}` : value;
  result.failures.push(
    `step ${step.step} cpu ${step.cpu} ${what}: ${show(ours)}, not ${show(wanted)}`,
  );
}

/** Recordings in a folder: files whose first line is a header of one. */
export function recordings(directories: readonly string[]): readonly string[] {
  return directories.flatMap((directory) =>
    readdirSync(directory)
      .filter((name) => name.endsWith(".jsonl"))
      .sort()
      .map((name) => join(directory, name)),
  );
}
