// Owns: meanings as tier 0 asks for them: operands are read from the record. VM thread.
//
// A handler is a function (window, record) → next record; 0 leaves the run.
import { assert } from "../../../base/assert.js";
import type { Code } from "../../../base/wasm/code.js";
import type { ValueType } from "../../../base/wasm/opcodes.table.js";
import { const32, type I32, type I64, type V128, type Value } from "../../../base/wasm/value.js";
import { type Access, Asm } from "../asm.js";
import type { LibFunction } from "../lib/function.js";
import { countJump, JUMP } from "../lib/jump.js";
import type { Imm32, Imm64, Operand, VReg, XReg } from "../operand.js";
import { slowFlags } from "../slow-flags.js";
import {
  BOUNCE,
  CODE_BASE,
  CODE_VA,
  FLAG_C,
  FLAG_N,
  FLAG_V,
  FLAG_Z,
  RECORD,
  RECORD_BYTES,
  RECORD_IMM32,
  RECORD_IMM64,
  RECORD_REGS,
  RECORDS_PER_PAGE,
  SLOT_SP,
  TLB,
  TLB_ADDEND,
  TLB_BANK,
  TLB_ENTRIES,
  TLB_GENERATION,
  TLB_PAGE_SHIFT,
  TLB_READ,
  TLB_WRITE,
  WHY,
} from "../window.js";
import type { Linker } from "./linker.js";

const RECORD_SHIFT = 5;
const ENTRY_SHIFT = 5;
const SIGN = 31;
const SP_MASK = 15n;

export class Tier0Asm extends Asm {
  readonly c: Code;
  readonly #linker: Linker;
  readonly #places: ReadonlyMap<Operand, number>;
  readonly #cpu: I32;
  readonly #record: I32;

  constructor(linker: Linker, c: Code, places: ReadonlyMap<Operand, number>) {
    super();
    this.c = c;
    this.#linker = linker;
    this.#places = places;
    this.#cpu = c.param(0, "i32");
    this.#record = c.param(1, "i32");
  }

  // ── operands ────────────────────────────────────────────────────────────────────────────────

  #offset(reg: XReg | VReg): I32 {
    const place = this.#places.get(reg);
    assert(place !== undefined, "a meaning uses the operands that it was given");
    return this.c.load32(this.#record, RECORD_REGS + 2 * place, "i32.load16_u");
  }

  #address(reg: XReg | VReg): I32 {
    return this.#cpu.add(this.#offset(reg));
  }

  x(reg: XReg): I64 {
    return this.c.keep(this.c.load64(this.#address(reg)));
  }

  setX(reg: XReg, value: I64): void {
    this.c.store("i64.store", this.#address(reg), 0, value);
  }

  v(reg: VReg): V128 {
    return this.c.keep(this.c.loadV(this.#address(reg)));
  }

  setV(reg: VReg, value: V128): void {
    this.c.store("v128.store", this.#address(reg), 0, value);
  }

  imm64(_: Imm64): I64 {
    return this.c.keep(this.c.load64(this.#record, RECORD_IMM64));
  }

  imm32(_: Imm32): I32 {
    return this.c.keep(this.c.load32(this.#record, RECORD_IMM32));
  }

  base(reg: XReg): I64 {
    const { c } = this;
    const offset = c.keep(this.#offset(reg));
    const value = c.keep(c.load64(this.#cpu.add(offset)));
    const misaligned = value.and(SP_MASK).eqz().eqz();
    c.if(offset.eq(SLOT_SP).and(misaligned), () => {
      // The slow path tells whether SCTLR_ELx.SA checks it; 0 bytes ask just that.
      c.if(this.#slow(value, 0).eqz(), () => c.return(const32(0)));
    });
    return value;
  }

  pc(): I64 {
    const { c } = this;
    const past = this.#record.sub(c.load32(this.#cpu, CODE_BASE)).shrU(RECORD_SHIFT - 2);
    return c.keep(c.load64(this.#cpu, CODE_VA).add(past.extendU()));
  }

  window32(offset: number): I32 {
    return this.c.keep(this.c.load32(this.#cpu, offset));
  }

  setWindow32(offset: number, value: I32): void {
    this.c.store("i32.store", this.#cpu, offset, value);
  }

  window64(offset: number): I64 {
    return this.c.keep(this.c.load64(this.#cpu, offset));
  }

  setWindow64(offset: number, value: I64): void {
    this.c.store("i64.store", this.#cpu, offset, value);
  }

  // ── flags ───────────────────────────────────────────────────────────────────────────────────

  #nz(r: I64): void {
    const high = this.c.keep(r.shrU(32).wrap());
    this.setWindow32(FLAG_N, high);
    this.setWindow32(FLAG_Z, high.or(r.wrap()));
  }

  #nz32(r: I32): void {
    this.setWindow32(FLAG_N, r);
    this.setWindow32(FLAG_Z, r);
  }

  flagsOfAdd(x: I64, y: I64, r: I64, carryIn?: I32): void {
    this.#nz(r);
    const carry = r.ltU(x);
    const both = carryIn === undefined ? carry : carry.or(carryIn.and(r.eq(x)));
    this.setWindow32(FLAG_C, both);
    this.setWindow32(FLAG_V, x.xor(r).and(y.xor(r)).shrU(32).wrap());
  }

  flagsOfAdd32(x: I32, y: I32, r: I32, carryIn?: I32): void {
    this.#nz32(r);
    const carry = r.ltU(x);
    const both = carryIn === undefined ? carry : carry.or(carryIn.and(r.eq(x)));
    this.setWindow32(FLAG_C, both);
    this.setWindow32(FLAG_V, x.xor(r).and(y.xor(r)));
  }

  flagsOfSub(x: I64, y: I64, r: I64): void {
    this.#nz(r);
    this.setWindow32(FLAG_C, x.geU(y));
    this.setWindow32(FLAG_V, x.xor(y).and(x.xor(r)).shrU(32).wrap());
  }

  flagsOfSub32(x: I32, y: I32, r: I32): void {
    this.#nz32(r);
    this.setWindow32(FLAG_C, x.geU(y));
    this.setWindow32(FLAG_V, x.xor(y).and(x.xor(r)));
  }

  flagsOfLogic(r: I64): void {
    this.#nz(r);
    this.setWindow32(FLAG_C, const32(0));
    this.setWindow32(FLAG_V, const32(0));
  }

  flagsOfLogic32(r: I32): void {
    this.#nz32(r);
    this.setWindow32(FLAG_C, const32(0));
    this.setWindow32(FLAG_V, const32(0));
  }

  flagsIf<T extends I32 | I64>(holds: I32, isSub: boolean, x: T, y: T, nzcv: I32): void {
    const compare = (): void => {
      if (x.type === "i32") {
        const [a, b] = [x, y as I32];
        if (isSub) this.flagsOfSub32(a, b, this.keep(a.sub(b)));
        else this.flagsOfAdd32(a, b, this.keep(a.add(b)));
      } else {
        const [a, b] = [x, y as I64];
        if (isSub) this.flagsOfSub(a, b, this.keep(a.sub(b)));
        else this.flagsOfAdd(a, b, this.keep(a.add(b)));
      }
    };
    this.c.if(holds, compare, () => this.setNzcv(nzcv));
  }

  #flag(offset: number): I32 {
    return this.c.load32(this.#cpu, offset);
  }

  nzcv(): I32 {
    const n = this.#flag(FLAG_N).shrU(SIGN).shl(3);
    const z = this.#flag(FLAG_Z).eqz().shl(2);
    const c = this.#flag(FLAG_C).shl(1);
    return this.c.keep(n.or(z).or(c).or(this.#flag(FLAG_V).shrU(SIGN)));
  }

  setNzcv(value: I32): void {
    const kept = this.c.keep(value);
    this.setWindow32(FLAG_N, kept.shrU(3).shl(SIGN));
    this.setWindow32(FLAG_Z, kept.shrU(2).and(1).eqz());
    this.setWindow32(FLAG_C, kept.shrU(1).and(1));
    this.setWindow32(FLAG_V, kept.shl(SIGN));
  }

  carry(): I32 {
    return this.c.keep(this.#flag(FLAG_C));
  }

  holds(cond: number): I32 {
    const met = this.c.keep(this.#condition(cond >>> 1));
    // 1111 is "always", as 1110 is.
    return (cond & 1) === 1 && cond !== 15 ? this.c.keep(met.eqz()) : met;
  }

  /** EQ, CS, MI, VS, HI, GE, GT, AL. */
  #condition(code: number): I32 {
    const signsAgree = (): I32 => this.#flag(FLAG_N).xor(this.#flag(FLAG_V)).geS(0);
    switch (code) {
      case 0:
        return this.#flag(FLAG_Z).eqz();
      case 1:
        return this.#flag(FLAG_C);
      case 2:
        return this.#flag(FLAG_N).shrU(SIGN);
      case 3:
        return this.#flag(FLAG_V).shrU(SIGN);
      case 4:
        return this.#flag(FLAG_C).and(this.#flag(FLAG_Z).ne(0));
      case 5:
        return signsAgree();
      case 6:
        return this.#flag(FLAG_Z).ne(0).and(signsAgree());
      default:
        return const32(1);
    }
  }

  // ── memory ──────────────────────────────────────────────────────────────────────────────────

  probe(va: I64, bytes: number, access: Access): I32 {
    const { c } = this;
    const at = c.keep(va);
    const host = c.variable("i32");
    host.set(const32(0));
    const page = c.keep(at.shrU(TLB_PAGE_SHIFT));
    const hash = page
      .xor(page.shrU(TLB_PAGE_SHIFT))
      .wrap()
      .and(TLB_ENTRIES - 1);
    const bank = access.unprivileged ? this.#cpu.add(TLB) : c.load32(this.#cpu, TLB_BANK);
    const entry = c.keep(bank.add(hash.shl(ENTRY_SHIFT)));
    const last = at.add(bytes - 1).shrU(TLB_PAGE_SHIFT);
    const tag = last.or(c.load64(this.#cpu, TLB_GENERATION));
    const hit = tag.eq(c.load64(entry, access.write ? TLB_WRITE : TLB_READ));
    const { element = bytes } = access;
    const fits = access.aligned ? hit.and(at.and(element - 1).eqz()) : hit;
    c.if(
      fits,
      () => host.set(at.wrap().add(c.load32(entry, TLB_ADDEND))),
      () => {
        host.set(this.#slow(at, slowFlags(bytes, access)));
        c.if(host.get().eqz(), () => c.return(const32(0)));
      },
    );
    return host.get();
  }

  #slow(va: I64, flags: number): I32 {
    this.setWindow32(RECORD, this.#record);
    const args = [this.#cpu, va.wrap(), va.shrU(32).wrap(), const32(flags)];
    return this.c.keep(this.#linker.callImport(this.c, "slow", args));
  }

  stored(host: I32): void {
    this.c.if(host.eq(this.#cpu.add(BOUNCE)), () => {
      this.#linker.runImport(this.c, "commit", [this.#cpu]);
    });
  }

  // ── calls and control ───────────────────────────────────────────────────────────────────────

  protected invoke(fn: LibFunction<ValueType>, args: readonly Value[]): Value {
    return this.#linker.callLib(this.c, fn, [this.#cpu, ...args]);
  }

  jumpBy(offset: Imm64): void {
    const { c } = this;
    const delta = this.imm64(offset);
    const target = c.keep(this.#record.add(delta.wrap().shl(RECORD_SHIFT - 2)));
    const base = c.keep(c.load32(this.#cpu, CODE_BASE));
    const past = c.keep(target.sub(base));
    // A branch of less than a page; anything longer could wrap around into this one.
    const isNear = delta.add(1n << 14n).ltU(1n << 15n);
    c.if(isNear.and(past.ltU(RECORDS_PER_PAGE * RECORD_BYTES)), () => {
      countJump(c, base, past, () => this.#linker.runImport(c, "hot", [this.#cpu, target]));
      c.return(target);
    });
    this.jumpTo(this.pc().add(delta));
  }

  jumpTo(target: I64): void {
    this.c.return(this.#linker.callLib(this.c, JUMP, [this.#cpu, target]));
  }

  undefined(): void {
    this.#system(WHY.undefined);
  }

  system(): void {
    this.#system(WHY.instruction);
  }

  /** Before an FP or SIMD instruction. */
  checkFp(trapOffset: number): void {
    this.c.if(this.c.load32(this.#cpu, trapOffset), () => this.#system(WHY.fpTrap));
  }

  #system(why: number): void {
    const args = [this.#cpu, this.#record, const32(why)];
    this.c.return(this.#linker.callImport(this.c, "system", args));
  }

  /** The next record. */
  next(): void {
    this.c.return(this.#record.add(RECORD_BYTES));
  }
}
