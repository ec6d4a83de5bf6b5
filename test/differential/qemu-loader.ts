// Owns: a static ELF for qemu-aarch64 that runs random blocks: it reads code, data and registers,
// branches to the block, and writes back what became of them. Test process.
// @source ELF-64 object file format; arm64 system calls: read 63, write 64, exit 93
import { bytesOf, mov } from "../support/a64.js";
import { addImm, b, br } from "./a64.js";
import { Emitter } from "./emitter.js";
import {
  CODE,
  CODE_BASE,
  CODE_PAGES,
  DATA,
  DATA_BASE,
  DATA_MIDDLE,
  DATA_PAGES,
  PAGE,
} from "./layout.js";

const LOADER = 0x4006_0000;
/** Within reach of a store that is based on X28, and far from what blocks access. */
const STATE = DATA + 6 * PAGE;

/** Where the registers are in STATE: X0 on, SP, V0 on, and those below. */
export const AT = { x: 0, sp: 248, v: 256, nzcv: 768, fpcr: 776, fpsr: 784, tpidr: 792 } as const;
export const STATE_BYTES = 800;

const EXIT = 93;
const READ = 63;
const WRITE = 64;
const SVC = 0xd400_0001;
const CLREX = 0xd503_305f;

const u32 = (word: number): number => word >>> 0;
const ldr = (rt: number, rn: number, at: number): number =>
  u32(0xf940_0000 | ((at / 8) << 10) | (rn << 5) | rt);
const str = (rt: number, rn: number, at: number): number =>
  u32(0xf900_0000 | ((at / 8) << 10) | (rn << 5) | rt);
/** LDR and STR of a Q register. */
const ldrq = (rt: number, at: number): number => u32(0x3dc0_0000 | ((at / 16) << 10) | rt);
const strq = (rt: number, at: number): number => u32(0x3d80_0000 | ((at / 16) << 10) | rt);
const cbz = (rt: number, by: number): number => u32(0xb400_0000 | ((by & 0x7ffff) << 5) | rt);
const addReg = (rd: number, rm: number): number => u32(0x8b00_0000 | (rm << 16) | (rd << 5) | rd);
const subReg = (rd: number, rm: number): number => u32(0xcb00_0000 | (rm << 16) | (rd << 5) | rd);
/** Bit 63 of Xt: an error. */
const tbnzSign = (rt: number, by: number): number => u32(0xb7f8_0000 | ((by & 0x3fff) << 5) | rt);

/** MSR of these from a register; MRS has bit 21 set. */
const SYSTEM = [
  [AT.nzcv, 0xd51b_4200],
  [AT.fpcr, 0xd51b_4400],
  [AT.fpsr, 0xd51b_4420],
  [AT.tpidr, 0xd51b_d040],
] as const;
const MRS = 1 << 21;

/** Moves all bytes of a range through a file; ends the program when there are no more. */
function transfer(e: Emitter, call: number, file: number, at: number, bytes: number): void {
  e.put(...mov(1, BigInt(at)), ...mov(2, BigInt(bytes)), ...mov(8, BigInt(call)));
  e.put(...mov(0, BigInt(file)), SVC);
  // Over the four that follow, to the exit: nothing more, or an error.
  e.put(cbz(0, 6), tbnzSign(0, 5), addReg(1, 0), subReg(2, 0), cbz(2, 5), b(-7));
  e.put(...mov(0, 0n), ...mov(8, BigInt(EXIT)), SVC);
  e.put(0xd503_201f);
}

function load(e: Emitter): void {
  e.put(...mov(0, BigInt(STATE)));
  for (const [at, msr] of SYSTEM) e.put(ldr(1, 0, at), u32(msr | 1));
  for (let n = 0; n < 32; n++) e.put(ldrq(n, AT.v + 16 * n));
  e.put(ldr(1, 0, AT.sp), addImm(31, 1, 0), CLREX);
  for (let n = 30; n >= 0; n--) e.put(ldr(n, 0, AT.x + 8 * n));
  e.put(br(CODE_BASE));
}

function save(e: Emitter): void {
  e.put(str(0, DATA_BASE, STATE - DATA_MIDDLE), ...mov(0, BigInt(STATE)));
  for (let n = 1; n < 31; n++) e.put(str(n, 0, AT.x + 8 * n));
  e.put(addImm(1, 31, 0), str(1, 0, AT.sp));
  for (const [at, msr] of SYSTEM) e.put(u32(msr | MRS | 1), str(1, 0, at));
  for (let n = 0; n < 32; n++) e.put(strq(n, AT.v + 16 * n));
}

/** What is read for each block, and written, in this order. */
const PARTS = [
  [CODE, CODE_PAGES * PAGE],
  [DATA, DATA_PAGES * PAGE],
  [STATE, STATE_BYTES],
] as const;
export const RECORD_BYTES = PARTS.reduce((sum, [, bytes]) => sum + bytes, 0);

interface Loader {
  readonly words: readonly number[];
  /** Address that a block goes to when it is done. */
  readonly done: number;
}

function loaderWords(): Loader {
  const e = new Emitter();
  const next = e.here();
  for (const [at, bytes] of PARTS) transfer(e, READ, 0, at, bytes);
  load(e);
  const done = LOADER + 4 * e.at;
  save(e);
  for (const [at, bytes] of PARTS) transfer(e, WRITE, 1, at, bytes);
  e.towards(next, (at, to) => b(to - at));
  return { words: e.finish(), done };
}

const LOADER_WORDS = loaderWords();

/** A branch from an address to where a block is done. */
export const doneFrom = (at: number): number => b((LOADER_WORDS.done - at) / 4);

const EHDR_BYTES = 64;
const PHDR_BYTES = 56;
const [R, W, X] = [4, 2, 1];

export function elf(): Uint8Array {
  const code = bytesOf(LOADER_WORDS.words);
  const segments = [
    { at: LOADER, from: PAGE, filed: code.length, bytes: code.length, flags: R | X },
    { at: CODE, from: 0, filed: 0, bytes: CODE_PAGES * PAGE, flags: R | W | X },
    { at: DATA, from: 0, filed: 0, bytes: DATA_PAGES * PAGE, flags: R | W },
    { at: STATE, from: 0, filed: 0, bytes: PAGE, flags: R | W },
  ];
  const file = new Uint8Array(PAGE + code.length);
  const view = new DataView(file.buffer);
  // Magic, 64 bits, little-endian, version 1.
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  const EXECUTABLE = 2;
  const AARCH64 = 183;
  for (const [at, value] of [
    [16, EXECUTABLE],
    [18, AARCH64],
    [52, EHDR_BYTES],
    [54, PHDR_BYTES],
    [56, segments.length],
  ] as const) {
    view.setUint16(at, value, true);
  }
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(LOADER), true);
  view.setBigUint64(32, BigInt(EHDR_BYTES), true);
  for (const [n, { at, from, filed, bytes, flags }] of segments.entries()) {
    const header = EHDR_BYTES + n * PHDR_BYTES;
    view.setUint32(header, 1, true);
    view.setUint32(header + 4, flags, true);
    for (const [i, value] of [from, at, at, filed, bytes, PAGE].entries()) {
      view.setBigUint64(header + 8 + 8 * i, BigInt(value), true);
    }
  }
  file.set(code, PAGE);
  return file;
}
