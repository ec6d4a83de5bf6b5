// Owns: arithmetic on the lanes of vectors that WebAssembly has no operator for. VM thread.
//
// An operation is a function of lanes as 64-bit values, extended with zeros or the sign; here it
// becomes a library function of whole vectors, once for each element size and number of lanes:
//
//   lane function ──mapLanes──▶ LibFunction (v128, …) → v128 ──a.call──▶ meaning
//
// Lanes that are not computed are zero, and set no flag.
import type { Code, Variable } from "../../base/wasm/code.js";
import { const64, constV, type I32, type I64, type V128 } from "../../base/wasm/value.js";
import type { LibFunction } from "./lib/function.js";
import { FPSR } from "./window.js";

export const SHAPE = ["i8x16", "i16x8", "i32x4", "i64x2"] as const;
export const bitsOf = (size: number): number => 8 << size;
/** Lanes of a vector, of its lower half where Q is 0. */
export const lanesOf = (size: number, q: number): number => (q === 1 ? 16 : 8) >> size;

/** FPSR.QC: some lane was saturated. */
const QC = 1 << 27;

export const ZERO = constV(0n, 0n);
const LOW_HALF = constV(~0n, 0n);

/** The vector, or its lower half with zeros above where Q is 0. */
export function whole(q: number, value: V128): V128 {
  return q === 1 ? value : value.and(LOW_HALF);
}

/** One lane as a 64-bit value. */
export function laneOf(v: V128, size: number, index: number, signed: boolean): I64 {
  if (size === 3) return v.lane64(index);
  const low = v.lane32(SHAPE[size] as "i8x16", index, signed);
  return signed ? low.extendS() : low.extendU();
}

export function withLane(v: V128, size: number, index: number, value: I64): V128 {
  return v.replace(SHAPE[size]!, index, size === 3 ? value : value.wrap());
}

/** What a lane function is written with. */
export class LaneScope {
  readonly c: Code;
  /** Element size of the result. */
  readonly size: number;
  readonly signed: boolean;
  #saturated: Variable<I32> | null = null;
  readonly #cpu: I32;

  constructor(c: Code, cpu: I32, size: number, signed: boolean) {
    this.c = c;
    this.#cpu = cpu;
    this.size = size;
    this.signed = signed;
  }

  get bits(): number {
    return bitsOf(this.size);
  }

  keep(value: I64): I64 {
    return this.c.keep(value);
  }

  /** Counts a saturation where the condition (0 or 1) holds. */
  saturates(condition: I32): void {
    this.#saturated ??= this.c.variable("i32");
    const flag = this.#saturated;
    flag.set(flag.get().or(condition));
  }

  /** Clamps an exact 64-bit value to `bits` (below 64) of a signed or unsigned lane. */
  clamp(value: I64, signed = this.signed, bits = this.bits): I64 {
    const x = this.c.keep(value);
    const max = signed ? 2n ** BigInt(bits - 1) - 1n : 2n ** BigInt(bits) - 1n;
    const min = signed ? -(2n ** BigInt(bits - 1)) : 0n;
    const low = this.c.keep(x.gtS(max).select(const64(max), x));
    const r = this.c.keep(low.ltS(min).select(const64(min), low));
    this.saturates(r.ne(x));
    return r;
  }

  /** At the end of the function. */
  writeQc(): void {
    if (this.#saturated === null) return;
    const flag = this.#saturated;
    this.c.if(flag.get(), () => {
      this.c.store("i32.store", this.#cpu, FPSR, this.c.load32(this.#cpu, FPSR).or(QC));
    });
  }
}

/** How lanes of an operand are taken. */
export interface Input {
  readonly size: number;
  readonly signed: boolean;
  /** First lane: of the upper half in the …2 forms. */
  readonly from?: number;
}

export interface LaneMap {
  /** Names the library function together with sizes and lanes; unique for the operation. */
  readonly name: string;
  readonly inputs: readonly Input[];
  readonly output: number;
  readonly signed: boolean;
  readonly lanes: number;
  /** Extra operand of 64 bits, the same for all lanes: a shift. */
  readonly scalar?: true;
}

export type LaneFunction = (s: LaneScope, x: I64, y: I64, z: I64) => I64;

const made = new Map<string, LibFunction<"v128">>();

/** The library function of an operation on lanes; made once. */
export function mapLanes(map: LaneMap, lane: LaneFunction): LibFunction<"v128"> {
  const inputs = map.inputs.map(
    ({ size, signed, from = 0 }) => `${size}${signed ? "s" : "u"}${from}`,
  );
  const sign = map.signed ? "s" : "u";
  const name = [map.name, ...inputs, `${map.output}${sign}x${map.lanes}`].join("_");
  const known = made.get(name);
  if (known !== undefined) return known;
  const params = map.inputs.map(() => "v128" as const);
  const fn: LibFunction<"v128"> = {
    name,
    params: map.scalar ? [...params, "i64"] : params,
    result: "v128",
    build: ({ c, cpu }, args) => {
      const scope = new LaneScope(c, cpu, map.output, map.signed);
      const result = c.variable("v128");
      result.set(ZERO);
      for (let n = 0; n < map.lanes; n++) {
        const lanes = map.inputs.map(({ size, signed, from = 0 }, i) =>
          c.keep(laneOf(args[i] as V128, size, from + n, signed)),
        );
        if (map.scalar) lanes.push(args[map.inputs.length] as I64);
        const [x, y, z] = [lanes[0]!, lanes[1] ?? const64(0), lanes[2] ?? const64(0)];
        result.set(withLane(result.get(), map.output, n, lane(scope, x, y, z)));
      }
      scope.writeQc();
      c.return(result.get());
    },
  };
  made.set(name, fn);
  return fn;
}

// ── shapes ────────────────────────────────────────────────────────────────────────────────────

/** The element `index` (a value, below the number of lanes) in every lane. */
export function splatLane(v: V128, size: number, index: I32): V128 {
  const bytes = 1 << size;
  let pattern = 0n;
  for (let i = 7; i >= 0; i--) pattern = (pattern << 8n) | BigInt(i % bytes);
  // Bytes 8 to 15 repeat those of one element; one of 64 bits is as long as the pattern.
  const base = constV(pattern, pattern);
  return v.binary("i8x16.swizzle", base.binary("i8x16.add", index.mul(bytes).splat8()));
}

/** Every second element of n and m together, from the first or the second one on. */
export function everySecond(n: V128, m: V128, size: number, q: number, odd: 0 | 1): V128 {
  const bytes = 1 << size;
  const half = q === 1 ? 16 : 8;
  const lanes: number[] = [];
  for (let at = odd * bytes; at < 2 * half; at += 2 * bytes) {
    for (let i = 0; i < bytes; i++) {
      const byte = at + i;
      lanes.push(byte < half ? byte : 16 + byte - half);
    }
  }
  while (lanes.length < 16) lanes.push(0);
  return n.shuffle(m, lanes);
}

/** The lower half of `low`, and above it the lower half of `high`. */
export function joinHalves(low: V128, high: V128): V128 {
  return low.shuffle(high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
}

// ── lane functions of several classes ─────────────────────────────────────────────────────────

/** Shifts right by any amount from 0 up; what is shifted out far is the sign or nothing. */
export function shiftRight(s: LaneScope, x: I64, by: I64): I64 {
  if (s.signed) return x.shrS(by.gtU(63).select(const64(63), by));
  return by.gtU(63).select(const64(0), x.shrU(by));
}

/** The same, rounded to nearest by the last bit shifted out. @param by 1 or more */
export function roundingShiftRight(s: LaneScope, x: I64, by: I64): I64 {
  const last = s.keep(shiftRight(s, x, s.keep(by.sub(1)))).and(1);
  return shiftRight(s, x, by).add(last);
}

/** Saturating x + y of lanes of any size. */
export function saturatingAdd(s: LaneScope, x: I64, y: I64): I64 {
  if (s.size < 3) return s.clamp(x.add(y));
  const r = s.keep(x.add(y));
  if (!s.signed) {
    const over = s.c.keep(r.ltU(x));
    s.saturates(over);
    return over.select(const64(-1), r);
  }
  const over = s.c.keep(x.xor(r).and(y.xor(r)).ltS(0));
  s.saturates(over);
  return over.select(mostOf(x), r);
}

/** Saturating x - y of lanes of any size. */
export function saturatingSub(s: LaneScope, x: I64, y: I64): I64 {
  if (s.size < 3) return s.clamp(x.sub(y));
  const r = s.keep(x.sub(y));
  if (!s.signed) {
    const under = s.c.keep(x.ltU(y));
    s.saturates(under);
    return under.select(const64(0), r);
  }
  const over = s.c.keep(x.xor(y).and(x.xor(r)).ltS(0));
  s.saturates(over);
  return over.select(mostOf(x), r);
}

/** The largest 64-bit value of x's sign. */
function mostOf(x: I64): I64 {
  return x.shrS(63).xor(2n ** 63n - 1n);
}

/** Saturating x << by, for any amount from 0 up; x has the sign that `signed` says. */
export function saturatingShiftLeft(s: LaneScope, x: I64, by: I64, toSigned = s.signed): I64 {
  const { bits } = s;
  if (bits < 64) {
    // An amount beyond the element saturates what is not 0, as an amount of its width does.
    const amount = by.gtU(bits).select(const64(bits), by);
    const kept = s.keep(amount);
    return s.clamp(bits === 32 ? moved32(s, x, kept) : x.shl(kept), toSigned);
  }
  const far = s.c.keep(by.gtU(63));
  const moved = s.keep(x.shl(by));
  // A negative x is out of an unsigned range anyhow.
  const back = toSigned ? moved.shrS(by) : moved.shrU(by);
  const isNegative = s.signed && !toSigned ? x.ltS(0) : const64(0).ne(0);
  const lost = back.ne(x).or(far.and(x.eqz().eqz())).or(isNegative);
  const over = s.c.keep(lost);
  s.saturates(over);
  const negative = s.signed ? x.ltS(0) : const64(0).ne(0);
  const limit = toSigned ? mostOf(x) : negative.select(const64(0), const64(-1));
  return over.select(limit, far.select(const64(0), moved));
}

/** An unsigned x of 32 bits moved by 32 fills 64 bits, which a signed comparison misreads. */
function moved32(s: LaneScope, x: I64, amount: I64): I64 {
  if (s.signed) return x.shl(amount);
  const isFar = amount.eq(32).and(x.eqz().eqz());
  return isFar.select(const64(2n ** 32n), x.shl(amount));
}

/** |x - y| of lanes below 64 bits. */
export function difference(s: LaneScope, x: I64, y: I64): I64 {
  const d = s.keep(x.sub(y));
  return d.ltS(0).select(d.neg(), d);
}
