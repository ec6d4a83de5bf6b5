// Owns: meanings as tier 1 asks for them: operands are known, registers are locals. VM thread.
//
// A translated function may leave at any instruction without having done any of it: its registers,
// flags and budget are always those of an instruction's beginning, and the result says STEP, so
// that tier 0 does it again with everything that can happen then.
import { assert } from "../../../base/assert.js";
import type { Code, Label, Variable } from "../../../base/wasm/code.js";
import type { ValueType } from "../../../base/wasm/opcodes.table.js";
import {
  const32,
  const64,
  type I32,
  type I64,
  type V128,
  type Value,
} from "../../../base/wasm/value.js";
import { type Access, Asm } from "../asm.js";
import { FLAGS, type FlagsKind } from "../lib/flags.js";
import type { LibFunction } from "../lib/function.js";
import { COUNT, JUMP, labelOf, lookUp, usePage } from "../lib/jump.js";
import type { Imm32, Imm64, VReg, XReg } from "../operand.js";
import { slowFlags } from "../slow-flags.js";
import {
  BUDGET,
  CODE_BASE,
  CODE_VA,
  FLAG_C,
  FLAG_N,
  FLAG_V,
  FLAG_Z,
  RECORD_BYTES,
  RECORD_SLOT,
  RECORDS_PER_PAGE,
  SLOT_SINK,
  SLOT_SP,
  SLOT_ZERO,
  STEP,
  TLB,
  TLB_ADDEND,
  TLB_BANK,
  TLB_ENTRIES,
  TLB_GENERATION,
  TLB_PAGE_SHIFT,
  TLB_READ,
  TLB_WRITE,
} from "../window.js";
import { Flags, type FlagsState } from "./flags.js";
import type { Tier1Linker } from "./linker.js";
import type { Decoded } from "./region.js";

const ENTRY_SHIFT = 5;
const SP_MASK = 15n;
/** What the epilogue takes as: go on at the address in `target`. */
const BY_ADDRESS = STEP;

/** Where branches go that stay in the function. */
export interface Branches {
  /** Writes a branch to the block at a place in the page, if the region has it. */
  toPlace(place: number): boolean;
  /** The function's own slot, if branches by address may come back to it; else null. */
  readonly ownSlot: number | null;
  /** Writes a branch to the function's head, which goes on at a label. */
  byLabel(label: I32): void;
  /** Places of the region that is being written: the first one, how many, and its label. */
  readonly here: { readonly first: number; readonly count: number; readonly label: number };
}

/** Writes blocks where they belong. */
export type Body = (blocks: () => void) => void;

export class Tier1Asm extends Asm {
  readonly c: Code;
  readonly #linker: Tier1Linker;
  readonly #cpu: I32;
  readonly #base: Variable<I32>;
  readonly #va: Variable<I64>;
  #bank: Variable<I32> | null = null;
  readonly #budget: Variable<I32>;
  readonly #result: Variable<I32>;
  readonly #target: Variable<I64>;
  readonly #flags: Flags;
  /** Locals of general registers, by their place in the window. */
  readonly #locals = new Map<number, Variable<I64>>();
  readonly #written = new Set<number>();
  /** Of the present instruction: registers that were read, and values that wait for its end. */
  readonly #read = new Set<number>();
  readonly #waiting: { readonly variable: Variable<I64>; readonly value: I64 }[] = [];
  #branches: Branches | null = null;
  #exit: Label | null = null;
  #byAddressExit: Label | null = null;
  #at = 0;
  /** Instructions of the block from the present one on. */
  #left = 0;
  #isSpChecked = false;

  constructor(linker: Tier1Linker, c: Code) {
    super();
    this.c = c;
    this.#linker = linker;
    this.#cpu = c.param(0, "i32");
    this.#base = c.variable("i32");
    this.#va = c.variable("i64");
    this.#budget = c.variable("i32");
    this.#result = c.variable("i32");
    this.#target = c.variable("i64");
    this.#flags = new Flags(c, this.#cpu, () => c.drop(this.#callLib(FLAGS, [])));
  }

  // ── the function around ─────────────────────────────────────────────────────────────────────

  /** Writes the whole function. @param around writes what comes back, with the blocks in it */
  function(branches: Branches, entryFp: number | null, around: (body: Body) => void): void {
    const { c } = this;
    this.#branches = branches;
    c.block((exit) => {
      this.#exit = exit;
      around((blocks) => {
        c.block((byAddress) => {
          this.#byAddressExit = byAddress;
          blocks();
        });
        this.#lookUp();
      });
    });
    this.#exit = null;
    this.#epilogue();
    c.before(() => this.#prologue(entryFp));
  }

  /** Label of the record that the function was entered with. */
  entryLabel(): I32 {
    return labelOf(this.c, this.#base.get(), this.c.param(1, "i32"));
  }

  /**
   * Where `target` is, by the jump cache: in this function, where it goes on without leaving; in
   * another one; or else the epilogue asks for it.
   */
  #lookUp(): void {
    const { c } = this;
    const target = this.#target.get();
    const { ownSlot, byLabel } = this.#branches!;
    lookUp(c, this.#cpu, target, (record, base) => {
      const slot = c.keep(c.load32(record, RECORD_SLOT, "i32.load16_u"));
      c.if(slot, () => {
        usePage(c, this.#cpu, target, base);
        if (ownSlot !== null) {
          c.if(slot.eq(ownSlot), () => {
            this.#base.set(base);
            this.#va.set(target.shrU(TLB_PAGE_SHIFT).shl(TLB_PAGE_SHIFT));
            byLabel(labelOf(c, base, record));
          });
        }
        this.#result.set(record);
        this.#branchToExit();
      });
    });
    this.#result.set(const32(BY_ADDRESS));
    this.#branchToExit();
  }

  /** @param fpTrap offset of the word that must be 0, or null when no instruction needs FP */
  #prologue(fpTrap: number | null): void {
    const { c } = this;
    if (fpTrap !== null) {
      c.if(c.load32(this.#cpu, fpTrap), () => c.return(c.param(1, "i32").or(STEP)));
    }
    this.#base.set(c.load32(this.#cpu, CODE_BASE));
    this.#va.set(c.load64(this.#cpu, CODE_VA));
    this.#bank?.set(c.load32(this.#cpu, TLB_BANK));
    this.#budget.set(c.load32(this.#cpu, BUDGET));
    if (this.#flags.isUsed) this.#flags.enter();
    for (const [offset, variable] of this.#locals) variable.set(c.load64(this.#cpu, offset));
  }

  #epilogue(): void {
    const { c } = this;
    for (const offset of this.#written) {
      c.store("i64.store", this.#cpu, offset, this.#locals.get(offset)!.get());
    }
    c.store("i32.store", this.#cpu, BUDGET, this.#budget.get());
    if (this.#flags.isUsed) this.#flags.leave();
    c.if(this.#result.get().eq(BY_ADDRESS), () => {
      c.return(this.#callLib(JUMP, [this.#target.get()]));
    });
    c.return(this.#result.get());
    c.unreachable();
  }

  // ── blocks and instructions ─────────────────────────────────────────────────────────────────

  get flagsState(): FlagsState {
    return this.#flags.state;
  }

  /** Begins a block: its instructions are charged, or the function leaves before it. */
  beginBlock(at: number, count: number, flags: FlagsState): void {
    const { c } = this;
    this.#at = at;
    this.#left = 0;
    this.#flags.state = flags;
    this.#isSpChecked = false;
    c.if(this.#budget.get().ltU(count), () => this.#step());
    this.#budget.set(this.#budget.get().sub(count));
    this.#left = count;
  }

  /** One instruction. @param write asks for its meaning */
  instruction(insn: Decoded, write: () => void): void {
    this.#at = insn.at;
    this.c.recycle(() => {
      write();
      this.#settle();
    });
    this.#read.clear();
    this.#left--;
  }

  /** The end of a block that falls through to where no block of the region is. */
  leave(at: number): void {
    if (at === RECORDS_PER_PAGE) this.#byAddress(this.#vaOf(at));
    else this.#exitTo(this.#recordOf(at));
  }

  /** Leaves at the present instruction, which tier 0 does. */
  #step(): void {
    if (this.#left > 0) this.#budget.set(this.#budget.get().add(this.#left));
    this.#result.set(this.#recordOf(this.#at).or(STEP));
    this.#branchToExit();
  }

  #branchToExit(): void {
    assert(this.#exit !== null, "code is within the function's body");
    this.c.branch(this.#exit);
  }

  #recordOf(at: number): I32 {
    return this.#base.get().add(at * RECORD_BYTES);
  }

  #vaOf(at: number): I64 {
    return this.#va.get().add(at * 4);
  }

  /** Leaves for a record of this page. */
  #exitTo(record: I32): void {
    this.#result.set(this.#callLib(COUNT, [record]) as I32);
    this.#branchToExit();
  }

  /** Leaves for an address. */
  #byAddress(target: I64): void {
    this.#target.set(target);
    this.missed();
  }

  // ── registers ───────────────────────────────────────────────────────────────────────────────

  #local(offset: number): Variable<I64> {
    let variable = this.#locals.get(offset);
    if (variable === undefined) {
      variable = this.c.lasting("i64");
      this.#locals.set(offset, variable);
    }
    return variable;
  }

  x({ offset }: XReg): I64 {
    if (offset === SLOT_ZERO) return const64(0);
    this.#read.add(offset);
    return this.#local(offset).get();
  }

  setX({ offset }: XReg, value: I64): void {
    if (offset === SLOT_SINK) return;
    this.#written.add(offset);
    if (offset === SLOT_SP) this.#isSpChecked = false;
    const variable = this.#local(offset);
    // Values that were read before stay what they were until the instruction ends.
    if (this.#read.has(offset)) this.#waiting.push({ variable, value: this.c.keep(value) });
    else variable.set(value);
  }

  #settle(): void {
    for (const { variable, value } of this.#waiting) variable.set(value);
    this.#waiting.length = 0;
  }

  v({ offset }: VReg): V128 {
    return this.c.keep(this.c.loadV(this.#cpu, offset));
  }

  setV({ offset }: VReg, value: V128): void {
    this.c.store("v128.store", this.#cpu, offset, value);
  }

  imm64({ value }: Imm64): I64 {
    return const64(value);
  }

  imm32({ value }: Imm32): I32 {
    return const32(value);
  }

  base(reg: XReg): I64 {
    const value = this.x(reg);
    if (reg.offset === SLOT_SP && !this.#isSpChecked) {
      this.c.if(value.and(SP_MASK).eqz().eqz(), () => this.#step());
      this.#isSpChecked = true;
    }
    return value;
  }

  pc(): I64 {
    return this.c.keep(this.#vaOf(this.#at));
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

  flagsOfAdd(x: I64, y: I64, r: I64, carryIn?: I32): void {
    if (carryIn === undefined) this.#flags.set("add64", x, y);
    else this.#flagsOfCarry(x, y, r, carryIn);
  }

  flagsOfAdd32(x: I32, y: I32, r: I32, carryIn?: I32): void {
    const up = (value: I32): I64 => this.keep(value.extendU().shl(32));
    if (carryIn === undefined) this.#flags.set("add32", x.extendU(), y.extendU());
    else this.#flagsOfCarry(up(x), up(y), up(r), carryIn);
  }

  /** Three operands: written out at once. */
  #flagsOfCarry(x: I64, y: I64, r: I64, carryIn: I32): void {
    const high = this.keep(r.shrU(32).wrap());
    this.setWindow32(FLAG_N, high);
    this.setWindow32(FLAG_Z, high.or(r.wrap()));
    this.setWindow32(FLAG_C, r.ltU(x).or(carryIn.and(r.eq(x))));
    this.setWindow32(FLAG_V, x.xor(r).and(y.xor(r)).shrU(32).wrap());
    this.#flags.inWindow();
  }

  flagsOfSub(x: I64, y: I64): void {
    this.#flags.set("sub64", x, y);
  }

  flagsOfSub32(x: I32, y: I32): void {
    this.#flags.set("sub32", x.extendU(), y.extendU());
  }

  flagsOfLogic(r: I64): void {
    this.#flags.set("logic64", r, const64(0));
  }

  flagsOfLogic32(r: I32): void {
    this.#flags.set("logic32", r.extendU(), const64(0));
  }

  flagsIf<T extends I32 | I64>(holds: I32, isSub: boolean, x: T, y: T, nzcv: I32): void {
    assert(nzcv.known !== undefined, "tier 1 knows immediates");
    const kind: FlagsKind = `${isSub ? "sub" : "add"}${x.type === "i32" ? 32 : 64}`;
    const wide = (value: I32 | I64): I64 => (value.type === "i32" ? value.extendU() : value);
    this.#flags.setIf(holds, kind, wide(x), wide(y), nzcv.known);
  }

  nzcv(): I32 {
    this.#flags.toWindow();
    const word = (offset: number): I32 => this.c.load32(this.#cpu, offset);
    const n = word(FLAG_N).shrU(31).shl(3);
    const z = word(FLAG_Z).eqz().shl(2);
    return this.keep(n.or(z).or(word(FLAG_C).shl(1)).or(word(FLAG_V).shrU(31)));
  }

  setNzcv(value: I32): void {
    this.#flags.set("packed", value.extendU(), const64(0));
  }

  carry(): I32 {
    return this.#flags.carry();
  }

  holds(cond: number): I32 {
    return this.#flags.holds(cond);
  }

  // ── memory ──────────────────────────────────────────────────────────────────────────────────

  probe(va: I64, bytes: number, access: Access): I32 {
    const { c } = this;
    const at = c.keep(va);
    const host = c.variable("i32");
    const page = c.keep(at.shrU(TLB_PAGE_SHIFT));
    const hash = page
      .xor(page.shrU(TLB_PAGE_SHIFT))
      .wrap()
      .and(TLB_ENTRIES - 1);
    const bank = access.unprivileged ? this.#cpu.add(TLB) : this.#privileged();
    const entry = c.keep(bank.add(hash.shl(ENTRY_SHIFT)));
    const last = bytes === 1 ? page : at.add(bytes - 1).shrU(TLB_PAGE_SHIFT);
    const tag = last.or(c.load64(this.#cpu, TLB_GENERATION));
    const hit = tag.eq(c.load64(entry, access.write ? TLB_WRITE : TLB_READ));
    const { element = bytes } = access;
    const fits = access.aligned ? hit.and(at.and(element - 1).eqz()) : hit;
    c.if(
      fits,
      () => host.set(at.wrap().add(c.load32(entry, TLB_ADDEND))),
      () => {
        const flags = const32(slowFlags(bytes, access));
        const args = [this.#cpu, at.wrap(), at.shrU(32).wrap(), flags];
        host.set(this.#linker.callImport(c, "attempt", args));
        c.if(host.get().eqz(), () => this.#step());
      },
    );
    return host.get();
  }

  /** TLB bank of the present exception level. */
  #privileged(): I32 {
    this.#bank ??= this.c.lasting("i32");
    return this.#bank.get();
  }

  /** Nothing is left to do: an access that isn't in one place of memory is tier 0's. */
  stored(): void {}

  // ── calls and control ───────────────────────────────────────────────────────────────────────

  #callLib<K extends ValueType>(fn: LibFunction<K>, args: readonly Value[]): Value {
    const any = fn as LibFunction<ValueType>;
    return this.#linker.callLib(this.c, any, [this.#cpu, ...args]);
  }

  protected invoke(fn: LibFunction<ValueType>, args: readonly Value[]): Value {
    return this.#callLib(fn, args);
  }

  jumpBy({ value }: Imm64): void {
    this.#settle();
    const place = this.#at + Number(value / 4n);
    const isHere = place >= 0 && place < RECORDS_PER_PAGE;
    if (!isHere) this.#byAddress(this.#va.get().add(BigInt(this.#at * 4) + value));
    else if (!this.#branches!.toPlace(place)) this.#exitTo(this.#recordOf(place));
  }

  jumpTo(target: I64): void {
    // A copy: it may be the register that is about to get the link.
    const copy = this.c.variable("i64");
    copy.set(target);
    this.#settle();
    this.#target.set(copy.get());
    const { ownSlot, byLabel, here } = this.#branches!;
    if (ownSlot !== null) {
      const past = copy.get().sub(this.#vaOf(here.first));
      // Word-aligned and within this region: in one comparison.
      const place = this.c.keep(past.rotr(2));
      this.c.if(place.ltU(here.count), () => byLabel(place.wrap().add(here.label)));
    }
    this.missed();
  }

  /** What `target` names is no entry that was asked for by label. */
  missed(): void {
    assert(this.#byAddressExit !== null, "code is within the function's body");
    this.c.branch(this.#byAddressExit);
  }

  undefined(): void {
    this.#step();
  }

  system(): void {
    this.#step();
  }
}
