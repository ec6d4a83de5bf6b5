// Owns: NZCV while tier 1 translates: kept as operands, conditions answered from them. VM thread.
//
// Setting flags is three moves of locals, which cost nothing once V8 optimises them; the compare
// itself happens where a condition asks. The kind is known within a block and behind a block that
// has one way in; elsewhere it is a value, and asking makes the window's words first.
import { assert } from "../../../base/assert.js";
import type { Code, Variable } from "../../../base/wasm/code.js";
import { const32, const64, type I32, type I64 } from "../../../base/wasm/value.js";
import { FLAGS_KIND, type FlagsKind } from "../lib/flags.js";
import { FLAG_C, FLAG_N, FLAG_V, FLAG_Z, FLAGS_PENDING, FLAGS_X, FLAGS_Y } from "../window.js";

/** What is known of the flags at a place of the code. */
export type FlagsState =
  | { readonly kind: FlagsKind }
  /** The first where the condition held, else the constant NZCV. */
  | { readonly kind: "either"; readonly then: FlagsKind; readonly nzcv: number }
  | { readonly kind: "unknown" };

const SIGN = 31;
const ALWAYS = 7;

export class Flags {
  readonly #c: Code;
  readonly #cpu: I32;
  readonly #kind: Variable<I32>;
  readonly #x: Variable<I64>;
  readonly #y: Variable<I64>;
  /** Of "either": whether the condition held. */
  readonly #held: Variable<I32>;
  readonly #write: () => void;
  state: FlagsState = { kind: "unknown" };
  /** Whether any instruction so far has to do with the flags. */
  isUsed = false;

  /** @param write calls FLAGS */
  constructor(c: Code, cpu: I32, write: () => void) {
    this.#c = c;
    this.#cpu = cpu;
    this.#write = write;
    this.#kind = c.variable("i32");
    this.#x = c.variable("i64");
    this.#y = c.variable("i64");
    this.#held = c.variable("i32");
  }

  // ── setting ─────────────────────────────────────────────────────────────────────────────────

  set(kind: FlagsKind, x: I64, y: I64): void {
    this.isUsed = true;
    this.#x.set(x);
    this.#y.set(y);
    this.#kind.set(const32(FLAGS_KIND[kind]));
    this.state = { kind };
  }

  /** @param held a kept condition */
  setIf(held: I32, then: FlagsKind, x: I64, y: I64, nzcv: number): void {
    this.isUsed = true;
    this.#held.set(held);
    this.#x.set(held.select(x, const64(nzcv)));
    this.#y.set(y);
    this.#kind.set(held.select(const32(FLAGS_KIND[then]), const32(FLAGS_KIND.packed)));
    this.state = { kind: "either", then, nzcv };
  }

  /** The window's words were written. */
  inWindow(): void {
    this.isUsed = true;
    this.#kind.set(const32(FLAGS_KIND.window));
    this.state = { kind: "window" };
  }

  // ── asking ──────────────────────────────────────────────────────────────────────────────────

  /** At the function's beginning: as they were left. */
  enter(): void {
    this.#kind.set(this.#c.load32(this.#cpu, FLAGS_PENDING));
    this.#x.set(this.#c.load64(this.#cpu, FLAGS_X));
    this.#y.set(this.#c.load64(this.#cpu, FLAGS_Y));
  }

  /** At its end, and before somebody makes the window's words. */
  leave(): void {
    this.#c.store("i32.store", this.#cpu, FLAGS_PENDING, this.#kind.get());
    this.#c.store("i64.store", this.#cpu, FLAGS_X, this.#x.get());
    this.#c.store("i64.store", this.#cpu, FLAGS_Y, this.#y.get());
  }

  /** Makes the window's words what the flags are. */
  toWindow(): void {
    if (this.state.kind === "window") return;
    this.isUsed = true;
    this.#c.if(this.#kind.get(), () => {
      this.leave();
      this.#write();
    });
    this.inWindow();
  }

  /** 0 or 1. */
  carry(): I32 {
    return this.holds(2);
  }

  holds(cond: number): I32 {
    const code = cond >>> 1;
    if (code === ALWAYS) return const32(1);
    if (this.state.kind === "unknown") this.toWindow();
    const met = this.#met(code);
    return this.#c.keep((cond & 1) === 1 ? met.eqz() : met);
  }

  #met(code: number): I32 {
    const { state } = this;
    assert(state.kind !== "unknown", "the flags were written to the window");
    if (state.kind !== "either") return this.#of(state.kind, code);
    return this.#held.get().select(this.#of(state.then, code), packedHolds(state.nzcv, code));
  }

  #of(kind: FlagsKind, code: number): I32 {
    const [x, y] = [this.#x.get(), this.#y.get()];
    switch (kind) {
      case "window":
        return this.#windowHolds(code);
      case "sub64":
        return afterSub(code, x, y);
      case "sub32":
        return afterSub(code, this.#c.keep(x.wrap()), this.#c.keep(y.wrap()));
      case "add64":
        return this.#afterAdd(code, x, y);
      case "add32":
        // In the upper half they have the flags that they have below.
        return this.#afterAdd(code, this.#c.keep(x.shl(32)), this.#c.keep(y.shl(32)));
      case "logic64":
        return afterLogic(code, x);
      case "logic32":
        return afterLogic(code, x.wrap());
      default:
        return this.#packedHolds(code);
    }
  }

  #afterAdd(code: number, x: I64, y: I64): I32 {
    const r = this.#c.keep(x.add(y));
    const overflow = (): I64 => x.xor(r).and(y.xor(r));
    switch (code) {
      case 0:
        return r.eqz();
      case 1:
        return r.ltU(x);
      case 2:
        return r.ltS(0);
      case 3:
        return overflow().ltS(0);
      case 4:
        return r.ltU(x).and(r.ne(0));
      case 5:
        return r.xor(overflow()).geS(0);
      default:
        return r.xor(overflow()).geS(0).and(r.ne(0));
    }
  }

  #word(offset: number): I32 {
    return this.#c.load32(this.#cpu, offset);
  }

  #windowHolds(code: number): I32 {
    const signsAgree = (): I32 => this.#word(FLAG_N).xor(this.#word(FLAG_V)).geS(0);
    switch (code) {
      case 0:
        return this.#word(FLAG_Z).eqz();
      case 1:
        return this.#word(FLAG_C);
      case 2:
        return this.#word(FLAG_N).shrU(SIGN);
      case 3:
        return this.#word(FLAG_V).shrU(SIGN);
      case 4:
        return this.#word(FLAG_C).and(this.#word(FLAG_Z).ne(0));
      case 5:
        return signsAgree();
      default:
        return this.#word(FLAG_Z).ne(0).and(signsAgree());
    }
  }

  /** From NZCV in the low bits of x. */
  #packedHolds(code: number): I32 {
    const bit = (n: number): I32 => this.#x.get().wrap().shrU(n).and(1);
    switch (code) {
      case 0:
        return bit(2);
      case 1:
        return bit(1);
      case 2:
        return bit(3);
      case 3:
        return bit(0);
      case 4:
        return bit(1).and(bit(2).eqz());
      case 5:
        return bit(3).eq(bit(0));
      default:
        return bit(3).eq(bit(0)).and(bit(2).eqz());
    }
  }
}

/** EQ, CS, MI, VS, HI, GE, GT of NZCV that is known. */
function packedHolds(nzcv: number, code: number): I32 {
  const [n, z, c, v] = [3, 2, 1, 0].map((bit) => (nzcv >>> bit) & 1) as [
    number,
    number,
    number,
    number,
  ];
  const met = [z, c, n, v, c & (1 - z), 1 - (n ^ v), (1 - (n ^ v)) & (1 - z)];
  return const32(met[code]!);
}

function afterSub<T extends I32 | I64>(code: number, a: T, b: T): I32 {
  // One of both types; their operators have the same names.
  const [x, y] = [a as I64, b as I64];
  switch (code) {
    case 0:
      return x.eq(y);
    case 1:
      return x.geU(y);
    case 2:
      return x.sub(y).ltS(0);
    case 3:
      return afterSubOverflow(x, y);
    case 4:
      return x.gtU(y);
    case 5:
      return x.geS(y);
    default:
      return x.gtS(y);
  }
}

/** V is where the sign of the difference isn't what the comparison says. */
function afterSubOverflow(x: I64, y: I64): I32 {
  return x.sub(y).ltS(0).ne(x.ltS(y));
}

function afterLogic<T extends I32 | I64>(code: number, value: T): I32 {
  const r = value as I64;
  switch (code) {
    case 0:
      return r.eqz();
    case 2:
      return r.ltS(0);
    case 5:
      return r.geS(0);
    case 6:
      return r.gtS(0);
    default:
      return const32(0);
  }
}
