// Owns: an image in tier 0 against qemu-system-aarch64, an instruction at a time over its GDB stub.
// Test process; starts one child and ends it.
//
// QEMU's own boot code runs first; then our registers and device tree are made what QEMU has. What
// an MRS of an identification or timer register finds, and what devices answer, is copied.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { IMAGE_BASE, RAM_BASE } from "../../bench/guest/support/image.js";
import { program } from "../../tools/debian.mjs";
import { Gdb } from "./gdb.js";
import { describe } from "./lockstep.js";
import { LockstepGuest } from "./lockstep-guest.js";

export const QEMU = "qemu-system-aarch64";
/** Of QEMU's boot code: few. */
const BOOT_STEPS_MAX = 100;
const VECTORS_BYTES = 0x800n;
const PC = 32;
const CPSR = 33;
/** NZCV, DAIF, EL, SP: what both have. */
const CPSR_MASK = 0xf000_03cfn;
const names = [...Array.from({ length: 31 }, (_, n) => `x${n}`), "sp", "pc", "cpsr"];

export interface QemuLockstep {
  readonly instructions: number;
  readonly ended: string | null;
  /** Values that were copied, by what gave them. */
  readonly copied: ReadonlyMap<string, number>;
  readonly differences: readonly string[];
  readonly culprit: string | null;
}

function ourRegisters(guest: LockstepGuest): bigint[] {
  const { registers } = guest.pe;
  const el = registers.el;
  const usesSpEl1 = el !== 0 && (registers.pstate & 1) !== 0;
  return [
    ...Array.from({ length: 31 }, (_, n) => registers.x(n)),
    registers.get(usesSpEl1 ? "SP_EL1" : "SP_EL0"),
    registers.pc,
    BigInt(registers.spsr) & CPSR_MASK,
  ];
}

/** What an instruction reads from outside the program, or null: its value may be copied. */
function outside(word: number | null, wasDevice: boolean): string | null {
  if (wasDevice) return "device";
  if (word === null) return null;
  const isMrs = (word & 0xfff0_0000) >>> 0 === 0xd530_0000;
  if (!isMrs) return null;
  const crn = (word >>> 12) & 15; // tidy: a bit position
  const crm = (word >>> 8) & 15;
  if (crn === 0) return "identification register";
  return crn === 14 && crm <= 3 ? "counter or timer" : null;
}

interface Step {
  /** The instruction, for people. */
  readonly text: () => string;
  readonly differences: readonly string[];
}

class Lockstep {
  readonly #gdb: Gdb;
  readonly #guest: LockstepGuest;
  readonly copied = new Map<string, number>();

  constructor(gdb: Gdb, guest: LockstepGuest) {
    this.#gdb = gdb;
    this.#guest = guest;
  }

  /** To the image's first instruction, with QEMU's registers and device tree. */
  async begin(): Promise<void> {
    let theirs = await this.#gdb.registers();
    for (let n = 0; n < BOOT_STEPS_MAX && theirs[PC] !== BigInt(IMAGE_BASE); n++) {
      await this.#gdb.step();
      theirs = await this.#gdb.registers();
    }
    if (theirs[PC] !== BigInt(IMAGE_BASE)) throw new Error("QEMU never came to the image");
    const { registers } = this.#guest.pe;
    for (let n = 0; n < 31; n++) registers.setX(n, theirs[n]!);
    registers.set("SP_EL1", theirs[31]!);
    registers.nzcv = Number(theirs[CPSR]! >> 28n);
    await this.#copyTree(Number(theirs[0]!));
  }

  /** A flattened device tree says its size in bytes 4 to 7, big-endian. */
  async #copyTree(at: number): Promise<void> {
    if (at < RAM_BASE) return;
    const header = Buffer.from(await this.#gdb.memory(at, 8));
    if (header.readUInt32BE(0) !== 0xd00d_feed) return;
    const bytes = header.readUInt32BE(4);
    for (let from = 0; from < bytes; from += 1024) {
      const part = await this.#gdb.memory(at + from, Math.min(1024, bytes - from));
      this.#guest.vm.call("writePhysicalMemory", { gpa: BigInt(at + from), bytes: part });
    }
  }

  #count(what: string): void {
    this.copied.set(what, (this.copied.get(what) ?? 0) + 1);
  }

  /** An exception was taken: the Arm ARM keeps NZCV, and QEMU clears it. */
  #atVector(cpsr: bigint): boolean {
    const { registers } = this.#guest.pe;
    const past = registers.pc - registers.get("VBAR_EL1");
    return cpsr >> 28n === 0n && past >= 0n && past < VECTORS_BYTES && past % 128n === 0n;
  }

  /** One instruction on both sides. @returns differences, or null at the end */
  async step(): Promise<Step | null> {
    const guest = this.#guest;
    const before = ourRegisters(guest);
    const pc = Number(before[PC]!);
    const word = guest.word(pc);
    const { retired } = guest;
    const text = (): string => describe(retired + 1, pc, word);
    const exits = guest.deviceReads;
    while (guest.ended === null && guest.retired === retired) {
      guest.slice(1);
      // An exception entry retires nothing, and is a step of QEMU's as well.
      if (guest.pe.registers.pc !== before[PC] && !guest.isWaiting) break;
    }
    if (guest.ended !== null) return null;
    if (!(await this.#gdb.step())) return { text, differences: ["QEMU ended"] };
    const theirs = await this.#gdb.registers();
    const ours = ourRegisters(guest);
    const masked = (value: bigint, n: number): bigint => (n === CPSR ? value & CPSR_MASK : value);
    const wrong = ours.flatMap((value, n) => (value === masked(theirs[n]!, n) ? [] : [n]));
    if (wrong.length === 1 && wrong[0] === CPSR && this.#atVector(theirs[CPSR]!)) {
      guest.pe.registers.nzcv = 0;
      this.#count("flags at an exception");
      return { text, differences: [] };
    }
    const why = outside(word, guest.deviceReads !== exits);
    if (wrong.length === 1 && wrong[0]! < 31 && why !== null) {
      guest.pe.registers.setX(wrong[0]!, theirs[wrong[0]!]!);
      this.#count(why);
      return { text, differences: [] };
    }
    const differences = wrong.map((n) => {
      return `${names[n]} is 0x${ours[n]!.toString(16)}, QEMU has 0x${theirs[n]!.toString(16)}`;
    });
    return { text, differences };
  }
}

async function attached(child: ChildProcess, path: string): Promise<Gdb> {
  while (child.exitCode === null) {
    const gdb = await Gdb.open(path);
    if (gdb !== null) return gdb;
    await sleep(20);
  }
  throw new Error("QEMU ended before it listened");
}

export async function lockstepWithQemu(
  image: Uint8Array,
  options: {
    readonly instructions: number;
    readonly ramBytes: number;
    /** A planted difference: the image that QEMU gets instead. */
    readonly theirs?: Uint8Array;
    readonly progress: (n: number) => void;
  },
): Promise<QemuLockstep> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-gdb-"));
  const [file, socket] = [join(folder, "image.bin"), join(folder, "gdb")];
  writeFileSync(file, options.theirs ?? image);
  const megabytes = options.ramBytes / 2 ** 20;
  const child = spawn(program(QEMU), [
    ..."-M virt -cpu cortex-a72 -display none -nodefaults -serial null -S".split(" "),
    ...["-m", String(megabytes), "-accel", "tcg,thread=single", "-kernel", file],
    ...["-gdb", `unix:${socket},server=on,wait=off`],
  ]);
  const guest = new LockstepGuest(image, { translation: null, ramBytes: options.ramBytes });
  let gdb: Gdb | null = null;
  try {
    gdb = await attached(child, socket);
    const both = new Lockstep(gdb, guest);
    await both.begin();
    let found: Step | null = null;
    for (let n = 0; n < options.instructions; n++) {
      if (n > 0 && n % 10_000 === 0) options.progress(n);
      found = await both.step();
      if (found === null || found.differences.length > 0) break;
    }
    const { retired, ended } = guest;
    const differences = found?.differences ?? [];
    const culprit = differences.length > 0 ? found!.text() : null;
    return { instructions: retired, ended, copied: both.copied, differences, culprit };
  } finally {
    gdb?.close();
    child.kill("SIGKILL");
    guest.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
