// Owns: the benchmark's guest image: how it is built, the words that a host patches, its phases.
// Bench and test process.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { program } from "../../../tools/debian.mjs";

const FOLDER = fileURLToPath(new URL("..", import.meta.url));
const SOURCES = join(FOLDER, "src");
const IMAGE = join(FOLDER, "bench.bin");
/** What the committed image was made from. */
const RECORD = join(FOLDER, "bench.json");

export const IMAGE_BASE = 0x4008_0000;
export const RAM_BASE = 0x4000_0000;
export const RAM_BYTES = 512 * 2 ** 20;

/** By bit in the image's masks: the order of `phases` in src/main.c. */
export const PHASES = [
  "alu",
  "dhrystone",
  "calls",
  "indirect",
  "sum",
  "memcpy",
  "sha256",
  "matrix",
  "vectoradd",
  "memchr",
  "touch",
  "retouch",
  "random",
  "hot4m",
  "hot512k",
] as const;
export type Phase = (typeof PHASES)[number];

export interface Work {
  readonly phases: readonly Phase[];
  readonly repetitions: number;
  /** Phases that wait for a byte on the UART before each repetition. */
  readonly waiting?: readonly Phase[];
  /** Every phase does 2^-shift of its work. */
  readonly shift?: number;
}

const PARAMETERS_AT = 16;

function maskOf(phases: readonly Phase[]): number {
  return phases.reduce((mask, phase) => mask | (1 << PHASES.indexOf(phase)), 0) >>> 0;
}

/** The image with what it shall do patched in. */
export function imageFor(work: Work, image: Uint8Array = committedImage()): Uint8Array {
  const bytes = Uint8Array.from(image);
  const { phases, repetitions, waiting = [], shift = 0 } = work;
  const view = new DataView(bytes.buffer);
  for (const [at, word] of [maskOf(phases), repetitions, maskOf(waiting), shift].entries()) {
    view.setUint32(PARAMETERS_AT + 4 * at, word, true);
  }
  return bytes;
}

export function committedImage(): Uint8Array {
  return Uint8Array.from(readFileSync(IMAGE));
}

const sha256 = (bytes: Uint8Array | string): string =>
  createHash("sha256").update(bytes).digest("hex");

export interface BuildRecord {
  readonly compiler: string;
  /** Digest of src and of this file's flags. */
  readonly sources: string;
  readonly image: string;
  /** What QEMU's guest found, by phase, in work of RECORDED_SHIFT. */
  readonly sums: Readonly<Record<string, string>>;
}

/** Little enough for a test. */
export const RECORDED_SHIFT = 8;

/** What made the committed image. */
export function committedRecord(): BuildRecord {
  return JSON.parse(readFileSync(RECORD, "utf8")) as BuildRecord;
}

const PREFIX = "aarch64-linux-gnu-";
const FLAGS = [
  "-O2 -march=armv8-a -std=gnu11 -Wall -Wextra -Werror -ffreestanding -fno-builtin",
  "-fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables",
  "-fno-tree-loop-distribute-patterns -mno-outline-atomics",
].flatMap((line) => line.split(" "));
/** Only simd.c may touch V registers. */
const UNITS = [
  ["start.S", []],
  ["main.c", ["-mgeneral-regs-only"]],
  ["integer.c", ["-mgeneral-regs-only"]],
  ["memory.c", ["-mgeneral-regs-only"]],
  ["simd.c", []],
] as const;
const LINK = ["-T", "link.ld", "--no-warn-rwx-segments", "--build-id=none"];

export function sourcesDigest(): string {
  const files = readdirSync(SOURCES).sort();
  const texts = files.map((file) => `${file}\n${readFileSync(join(SOURCES, file), "utf8")}`);
  return sha256(JSON.stringify([FLAGS, UNITS, LINK, texts]));
}

export const imageDigest = (image: Uint8Array): string => sha256(image);

function tool(name: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program(PREFIX + name), args, {
    cwd: SOURCES,
    encoding: "utf8",
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${name} ${args.join(" ")}: ${stderr}`);
  return stdout;
}

/** The cross compiler's name and version, or null where there is none. */
export function compiler(): string | null {
  try {
    return tool("gcc", ["--version"]).split("\n")[0] ?? null;
  } catch {
    return null;
  }
}

/** Builds the image. @throws Error where a tool is missing or has something to say */
export function buildImage(): Uint8Array {
  const work = mkdtempSync(join(tmpdir(), "tidemark-guest-"));
  try {
    const objects = UNITS.map(([file, flags]) => {
      const object = join(work, `${file}.o`);
      tool("gcc", [...FLAGS, ...flags, "-c", file, "-o", object]);
      return object;
    });
    const elf = join(work, "bench.elf");
    tool("ld", [...LINK, "-o", elf, ...objects]);
    tool("objcopy", ["-O", "binary", elf, join(work, "bench.bin")]);
    return Uint8Array.from(readFileSync(join(work, "bench.bin")));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Replaces the committed image. @returns what is to be recorded with it, but for the sums */
export function replaceImage(): Omit<BuildRecord, "sums"> {
  const image = buildImage();
  writeFileSync(IMAGE, image);
  return { compiler: compiler() ?? "", sources: sourcesDigest(), image: imageDigest(image) };
}

export function replaceRecord(record: BuildRecord): void {
  writeFileSync(RECORD, `${JSON.stringify(record, null, 2)}\n`);
}
