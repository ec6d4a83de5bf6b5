// Owns: what a meaning is written with: registers, flags, memory, control flow. VM thread.
//
// Both tiers implement it. Values that it returns are kept: they may be used any number of times
// and stay what they were, whatever is set later. Memory comes before state: an access that aborts
// leaves the function there and then, so a meaning sets registers only after its last access.
import type { Code } from "../../base/wasm/code.js";
import type { ValueType } from "../../base/wasm/opcodes.table.js";
import { constV, type I32, type I64, type V128, type Value } from "../../base/wasm/value.js";
import type { LibFunction } from "./lib/function.js";
import type { Imm32, Imm64, VReg, XReg } from "./operand.js";

export type Bits = 8 | 16 | 32 | 64;

export interface Access {
  readonly write: boolean;
  /** As EL0 does, whatever the exception level: LDTR, STTR. */
  readonly unprivileged?: boolean;
  /** Faults when the address is no multiple of the size: exclusive and ordered accesses, LSE. */
  readonly aligned?: boolean;
  /** Element size in bytes where the access has several: what `aligned` means, and FAR. */
  readonly element?: number;
}
export const READ: Access = { write: false };
export const WRITE: Access = { write: true };

interface TypeOf {
  i32: I32;
  i64: I64;
  v128: V128;
}

export abstract class Asm {
  /** Statements of the function that is being written. */
  abstract readonly c: Code;

  // ── registers ───────────────────────────────────────────────────────────────────────────────

  /** All 64 bits. */
  abstract x(reg: XReg): I64;
  abstract setX(reg: XReg, value: I64): void;
  abstract v(reg: VReg): V128;
  abstract setV(reg: VReg, value: V128): void;
  abstract imm64(operand: Imm64): I64;
  abstract imm32(operand: Imm32): I32;

  /** Bits 31:0. */
  w(reg: XReg): I32 {
    return this.c.keep(this.x(reg).wrap());
  }

  /** Clears bits 63:32. */
  setW(reg: XReg, value: I32): void {
    this.setX(reg, value.extendU());
  }

  /** A scalar of 64 bits or fewer: clears the register above it. */
  setScalar(reg: VReg, value: I64): void {
    this.setV(reg, constV(0n, 0n).replace("i64x2", 0, value));
  }

  /** The register of a base address; faults when it is SP, misaligned, and that is checked. */
  abstract base(reg: XReg): I64;

  /** Address of this instruction. */
  abstract pc(): I64;

  /** A word of the PE's window, by its offset; FPSR, TPIDR_EL0, … */
  abstract window32(offset: number): I32;
  abstract setWindow32(offset: number, value: I32): void;
  abstract window64(offset: number): I64;
  abstract setWindow64(offset: number, value: I64): void;

  // ── flags ───────────────────────────────────────────────────────────────────────────────────

  /** NZCV of r = x + y + carryIn (0 when absent). Operands are kept values. */
  abstract flagsOfAdd(x: I64, y: I64, r: I64, carryIn?: I32): void;
  abstract flagsOfAdd32(x: I32, y: I32, r: I32, carryIn?: I32): void;
  /** NZCV of r = x - y; with a carry, of r = x + NOT y + carryIn: use flagsOfAdd. */
  abstract flagsOfSub(x: I64, y: I64, r: I64): void;
  abstract flagsOfSub32(x: I32, y: I32, r: I32): void;
  /** N and Z of r; C and V are cleared. */
  abstract flagsOfLogic(r: I64): void;
  abstract flagsOfLogic32(r: I32): void;
  /** NZCV of x - y or x + y where the condition holds; else `nzcv`, as setNzcv takes it. */
  abstract flagsIf<T extends I32 | I64>(holds: I32, isSub: boolean, x: T, y: T, nzcv: I32): void;
  /** N in bit 3, Z in 2, C in 1, V in 0. */
  abstract nzcv(): I32;
  abstract setNzcv(value: I32): void;
  /** 0 or 1. */
  abstract carry(): I32;
  /** Whether condition `cond` (0…15, the Arm ARM's coding) holds: 0 or 1. */
  abstract holds(cond: number): I32;

  // ── memory ──────────────────────────────────────────────────────────────────────────────────

  /**
   * Translates an access of `bytes` (at most 64) at `va`; leaves the function when it aborts.
   * @returns host address to load from or store to; after a store, call stored() with it
   */
  abstract probe(va: I64, bytes: number, access: Access): I32;
  /** The store at an address that probe(…, write) gave is done. */
  abstract stored(host: I32): void;

  /** Loads `bits`, extended with zeros or the sign to 64 bits. */
  load(va: I64, bits: Bits, signed = false, access: Access = READ): I64 {
    const host = this.probe(va, bits / 8, access);
    if (bits === 64) return this.c.keep(this.c.load64(host));
    return this.c.keep(this.c.load64(host, 0, `i64.load${bits}_${signed ? "s" : "u"}`));
  }

  /** Stores the low `bits`. */
  store(va: I64, bits: Bits, value: I64, access: Access = WRITE): void {
    const host = this.probe(va, bits / 8, access);
    this.c.store(bits === 64 ? "i64.store" : `i64.store${bits}`, host, 0, value);
    this.stored(host);
  }

  /** Loads a vector register's low `bytes`; the bytes above are zero. */
  loadV(va: I64, bytes: 1 | 2 | 4 | 8 | 16, access: Access = READ): V128 {
    const host = this.probe(va, bytes, access);
    if (bytes === 16) return this.c.keep(this.c.loadV(host));
    if (bytes === 8) return this.c.keep(this.c.loadV(host, 0, "v128.load64_zero"));
    if (bytes === 4) return this.c.keep(this.c.loadV(host, 0, "v128.load32_zero"));
    const low = this.c.load64(host, 0, bytes === 2 ? "i64.load16_u" : "i64.load8_u");
    return this.c.keep(constV(0n, 0n).replace("i64x2", 0, low));
  }

  storeV(va: I64, bytes: 1 | 2 | 4 | 8 | 16, value: V128, access: Access = WRITE): void {
    const host = this.probe(va, bytes, access);
    if (bytes === 16) this.c.store("v128.store", host, 0, value);
    else {
      const bits = (bytes * 8) as Bits;
      this.c.store(bits === 64 ? "i64.store" : `i64.store${bits}`, host, 0, value.lane64(0));
    }
    this.stored(host);
  }

  // ── calls ───────────────────────────────────────────────────────────────────────────────────

  /**
   * Calls a library function, which gets the window's address before `args`. The result is kept:
   * the call happens here, once.
   */
  call<K extends keyof TypeOf>(fn: LibFunction<K>, ...args: readonly Value[]): TypeOf[K] {
    return this.c.keep(this.invoke(fn as LibFunction<ValueType>, args)) as TypeOf[K];
  }
  protected abstract invoke(fn: LibFunction<ValueType>, args: readonly Value[]): Value;

  // ── control ─────────────────────────────────────────────────────────────────────────────────

  /** Goes on at pc + offset. Nothing may follow on this path. */
  abstract jumpBy(offset: Imm64): void;
  /** Goes on at an address. Nothing may follow on this path. */
  abstract jumpTo(target: I64): void;
  /** The encoding is UNDEFINED after all. Nothing may follow on this path. */
  abstract undefined(): void;
  /** Hands the word to the PE's system side (exceptions, registers). Nothing may follow. */
  abstract system(): void;

  // ── shorthands ──────────────────────────────────────────────────────────────────────────────

  /** Keeps a value, so that it may be used more than once. */
  keep<T extends Value>(value: T): T {
    return this.c.keep(value);
  }
}
