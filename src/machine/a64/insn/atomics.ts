// Owns: FEAT_LSE: atomic memory operations, compare and swap.
// VM thread.
// @source Arm ARM C4.1, "Loads and Stores: atomic memory operations, compare and swap"
// One thread runs all PEs of a VM, so a load and a store in one instruction are atomic.
import type { I64 } from "../../../base/wasm/value.js";
import type { Asm, Bits } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { dst, sp, src } from "../operand.js";

const ATOMIC = { write: true, aligned: true } as const;

/** o3:opc → the value stored, of what was there and the operand. */
const OPERATIONS: Readonly<
  Record<number, { readonly signed?: true; readonly value: (old: I64, x: I64) => I64 }>
> = {
  0: { value: (old, x) => old.add(x) },
  1: { value: (old, x) => old.and(x.not()) },
  2: { value: (old, x) => old.xor(x) },
  3: { value: (old, x) => old.or(x) },
  4: { signed: true, value: (old, x) => old.gtS(x).select(old, x) },
  5: { signed: true, value: (old, x) => old.ltS(x).select(old, x) },
  6: { value: (old, x) => old.gtU(x).select(old, x) },
  7: { value: (old, x) => old.ltU(x).select(old, x) },
  8: { value: (_, x) => x },
};

/** The low bits of a register, extended like the value in memory. */
function narrowed(x: I64, bits: Bits, signed: boolean): I64 {
  if (bits === 64) return x;
  if (!signed) return x.and(2n ** BigInt(bits) - 1n);
  return bits === 32 ? x.extend32S() : bits === 16 ? x.extend16S() : x.extend8S();
}

function storeAt(a: Asm, host: ReturnType<Asm["probe"]>, bits: Bits, value: I64): void {
  a.c.store(bits === 64 ? "i64.store" : `i64.store${bits}`, host, 0, value);
  a.stored(host);
}

const MEMORY_OPERATION: Insn = insn(
  "LDADD_SWP_memop",
  "size:2 111 0 00 A:1 R:1 1 Rs:5 o3opc:4 00 Rn:5 Rt:5",
  {
    split: ["size", "o3opc"],
    when: ({ o3opc }) => OPERATIONS[o3opc!] !== undefined,
    feature: "FEAT_LSE",
    ops: ({ Rs, Rn, Rt }) => ({ s: src(Rs!), n: sp(Rn!), d: dst(Rt!) }),
    sem: (a, { s, n, d }, { size, o3opc }) => {
      const bits = (8 * 2 ** size!) as Bits;
      const { signed = false, value } = OPERATIONS[o3opc!]!;
      const host = a.probe(a.base(n), bits / 8, ATOMIC);
      const name = bits === 64 ? "i64.load" : (`i64.load${bits}_${signed ? "s" : "u"}` as const);
      const old = a.keep(a.c.load64(host, 0, name));
      storeAt(a, host, bits, value(old, a.keep(narrowed(a.x(s), bits, signed))));
      a.setX(d, narrowed(old, bits, false));
    },
  },
);

const COMPARE_AND_SWAP: Insn = insn(
  "CAS_comswap",
  "size:2 001000 1 L:1 1 Rs:5 o0:1 11111 Rn:5 Rt:5",
  {
    split: ["size"],
    feature: "FEAT_LSE",
    ops: ({ Rs, Rn, Rt }) => ({ s: src(Rs!), n: sp(Rn!), t: src(Rt!), d: dst(Rs!) }),
    sem: (a, { s, n, t, d }, { size }) => {
      const bits = (8 * 2 ** size!) as Bits;
      const host = a.probe(a.base(n), bits / 8, ATOMIC);
      const old = a.keep(a.c.load64(host, 0, bits === 64 ? "i64.load" : `i64.load${bits}_u`));
      a.c.if(old.eq(narrowed(a.x(s), bits, false)), () => storeAt(a, host, bits, a.x(t)));
      a.setX(d, old);
    },
  },
);

const COMPARE_AND_SWAP_PAIR: Insn = insn(
  "CASP_comswappr",
  "0 sz:1 001000 0 L:1 1 Rs:5 o0:1 11111 Rn:5 Rt:5",
  {
    split: ["sz"],
    // Pairs begin with an even register.
    valid: ({ Rs, Rt }) => ((Rs! | Rt!) & 1) === 0,
    feature: "FEAT_LSE",
    ops: ({ Rs, Rn, Rt }) => ({
      n: sp(Rn!),
      s: src(Rs!),
      s2: src(Rs! + 1),
      t: src(Rt!),
      t2: src(Rt! + 1),
      d2: dst(Rs! + 1),
    }),
    sem: (a, { n, s, s2, t, t2, d2 }, { sz }) => {
      const bytes = 4 * 2 ** sz!;
      const bits = (8 * bytes) as Bits;
      const host = a.probe(a.base(n), 2 * bytes, ATOMIC);
      const name = bytes === 8 ? "i64.load" : "i64.load32_u";
      const low = a.keep(a.c.load64(host, 0, name));
      const high = a.keep(a.c.load64(host, bytes, name));
      const same = low.eq(narrowed(a.x(s), bits, false));
      a.c.if(same.and(high.eq(narrowed(a.x(s2), bits, false))), () => {
        const store = bytes === 8 ? "i64.store" : "i64.store32";
        a.c.store(store, host, 0, a.x(t));
        a.c.store(store, host, bytes, a.x(t2));
        a.stored(host);
      });
      // The first register is even, so it is never 31: source and destination are one place.
      a.setX(s, low);
      a.setX(d2, high);
    },
  },
);

export const ATOMICS: readonly Insn[] = [MEMORY_OPERATION, COMPARE_AND_SWAP, COMPARE_AND_SWAP_PAIR];
