// Owns: exclusive and ordered loads and stores, and those of FEAT_LRCPC.
// VM thread.
// @source Arm ARM C4.1, "Loads and Stores: load/store exclusive, ordered"
//
// The monitor remembers address, size and value; a store exclusive compares them with what is
// there (our choice, as other emulators do: a value that came back in between goes unnoticed).
import { const32, const64, type I32 } from "../../../base/wasm/value.js";
import type { Asm, Bits } from "../asm.js";
import { type Insn, insn } from "../insn.js";
import { dst, sp, src } from "../operand.js";
import type { Fields } from "../pattern.js";
import { EXCLUSIVE_HIGH, EXCLUSIVE_LOW, EXCLUSIVE_SIZE, EXCLUSIVE_VA } from "../window.js";

const OPEN = -1n;

const bitsOf = (size: number): Bits => (8 * 2 ** size) as Bits;

const LOAD_EXCLUSIVE: Insn = insn(
  "LDXR_LDAXR_ldstexclr",
  "size:2 001000 0 1 0 Rs:5 o0:1 Rt2:5 Rn:5 Rt:5",
  {
    split: ["size"],
    ops: ({ Rn, Rt }) => ({ n: sp(Rn!), d: dst(Rt!) }),
    sem: (a, { n, d }, { size }) => {
      const va = a.base(n);
      const value = a.load(va, bitsOf(size!), false, { write: false, aligned: true });
      a.setWindow64(EXCLUSIVE_VA, va);
      a.setWindow64(EXCLUSIVE_LOW, value);
      a.setWindow32(EXCLUSIVE_SIZE, const32(2 ** size!));
      a.setX(d, value);
    },
  },
);

/** Whether the monitor is closed for this address and size. */
function isClosed(a: Asm, va: ReturnType<Asm["base"]>, bytes: number): I32 {
  return a.window64(EXCLUSIVE_VA).eq(va).and(a.window32(EXCLUSIVE_SIZE).eq(bytes));
}

const STORE_EXCLUSIVE: Insn = insn(
  "STXR_STLXR_ldstexclr",
  "size:2 001000 0 0 0 Rs:5 o0:1 Rt2:5 Rn:5 Rt:5",
  {
    split: ["size"],
    ops: ({ Rn, Rt, Rs }) => ({ n: sp(Rn!), t: src(Rt!), s: dst(Rs!) }),
    sem: (a, { n, t, s }, { size }) => {
      const bits = bitsOf(size!);
      const bytes = bits / 8;
      const va = a.base(n);
      const failed = a.c.variable("i32");
      failed.set(const32(1));
      a.c.if(
        isClosed(a, va, bytes),
        () => {
          const host = a.probe(va, bytes, { write: true, aligned: true });
          const now = a.c.load64(host, 0, bits === 64 ? "i64.load" : `i64.load${bits}_u`);
          a.c.if(now.eq(a.window64(EXCLUSIVE_LOW)), () => {
            a.c.store(bits === 64 ? "i64.store" : `i64.store${bits}`, host, 0, a.x(t));
            a.stored(host);
            failed.set(const32(0));
          });
        },
        // Nothing is stored, but a misaligned address faults all the same.
        () =>
          a.c.if(
            va
              .and(bytes - 1)
              .eqz()
              .eqz(),
            () => {
              a.probe(va, bytes, { write: true, aligned: true });
            },
          ),
      );
      a.setWindow64(EXCLUSIVE_VA, const64(OPEN));
      a.setW(s, failed.get());
    },
  },
);

/** The two loads of a pair, in the order of memory. */
function loadPair(a: Asm, host: I32, bytes: number) {
  const name = bytes === 8 ? "i64.load" : "i64.load32_u";
  return [a.keep(a.c.load64(host, 0, name)), a.keep(a.c.load64(host, bytes, name))] as const;
}

const LOAD_PAIR: Insn = insn(
  "LDXP_LDAXP_ldstexclp",
  "1 sz:1 001000 0 1 1 Rs:5 o0:1 Rt2:5 Rn:5 Rt:5",
  {
    split: ["sz"],
    ops: ({ Rn, Rt, Rt2 }) => ({ n: sp(Rn!), d: dst(Rt!), d2: dst(Rt2!) }),
    sem: (a, { n, d, d2 }, { sz }) => {
      const bytes = 4 * 2 ** sz!;
      const va = a.base(n);
      const host = a.probe(va, 2 * bytes, { write: false, aligned: true });
      const [low, high] = loadPair(a, host, bytes);
      a.setWindow64(EXCLUSIVE_VA, va);
      a.setWindow64(EXCLUSIVE_LOW, low);
      a.setWindow64(EXCLUSIVE_HIGH, high);
      a.setWindow32(EXCLUSIVE_SIZE, const32(2 * bytes));
      a.setX(d, low);
      a.setX(d2, high);
    },
  },
);

const STORE_PAIR: Insn = insn(
  "STXP_STLXP_ldstexclp",
  "1 sz:1 001000 0 0 1 Rs:5 o0:1 Rt2:5 Rn:5 Rt:5",
  {
    split: ["sz"],
    ops: ({ Rn, Rt, Rt2, Rs }) => ({ n: sp(Rn!), t: src(Rt!), t2: src(Rt2!), s: dst(Rs!) }),
    sem: (a, { n, t, t2, s }, { sz }) => {
      const bytes = 4 * 2 ** sz!;
      const access = { write: true, aligned: true } as const;
      const va = a.base(n);
      const failed = a.c.variable("i32");
      failed.set(const32(1));
      a.c.if(
        isClosed(a, va, 2 * bytes),
        () => {
          const host = a.probe(va, 2 * bytes, access);
          const [low, high] = loadPair(a, host, bytes);
          const same = low.eq(a.window64(EXCLUSIVE_LOW));
          a.c.if(same.and(high.eq(a.window64(EXCLUSIVE_HIGH))), () => {
            const store = bytes === 8 ? "i64.store" : "i64.store32";
            a.c.store(store, host, 0, a.x(t));
            a.c.store(store, host, bytes, a.x(t2));
            a.stored(host);
            failed.set(const32(0));
          });
        },
        () =>
          a.c.if(
            va
              .and(2 * bytes - 1)
              .eqz()
              .eqz(),
            () => {
              a.probe(va, 2 * bytes, access);
            },
          ),
      );
      a.setWindow64(EXCLUSIVE_VA, const64(OPEN));
      a.setW(s, failed.get());
    },
  },
);

const ORDERED_LOAD: Insn = insn("LDAR_ldstord", "size:2 001000 1 1 0 Rs:5 1 Rt2:5 Rn:5 Rt:5", {
  split: ["size"],
  ops: ({ Rn, Rt }) => ({ n: sp(Rn!), d: dst(Rt!) }),
  sem: (a, { n, d }, { size }) => {
    a.setX(d, a.load(a.base(n), bitsOf(size!), false, { write: false, aligned: true }));
  },
});

const ORDERED_STORE: Insn = insn("STLR_ldstord", "size:2 001000 1 0 0 Rs:5 1 Rt2:5 Rn:5 Rt:5", {
  split: ["size"],
  ops: ({ Rn, Rt }) => ({ n: sp(Rn!), t: src(Rt!) }),
  sem: (a, { n, t }, { size }) => {
    a.store(a.base(n), bitsOf(size!), a.x(t), { write: true, aligned: true });
  },
});

const RCPC_LOAD: Insn = insn("LDAPR_memop", "size:2 111 0 00 1 0 1 Rs:5 1 100 00 Rn:5 Rt:5", {
  split: ["size"],
  feature: "FEAT_LRCPC",
  ops: ({ Rn, Rt }) => ({ n: sp(Rn!), d: dst(Rt!) }),
  sem: (a, { n, d }, { size }) => {
    a.setX(d, a.load(a.base(n), bitsOf(size!), false, { write: false, aligned: true }));
  },
});

/** LDAPUR and STLUR: unscaled, ordered. */
const rcpcOps = ({ imm9, Rn, Rt }: Fields) => ({
  n: sp(Rn!),
  t: src(Rt!),
  d: dst(Rt!),
  offset: { kind: "imm64", value: BigInt((imm9! << 23) >> 23) } as const,
});
const RCPC_UNSCALED: Insn = insn(
  "LDAPUR_STLUR_ldapstl_unscaled",
  "size:2 011001 opc:2 0 imm9:9 00 Rn:5 Rt:5",
  {
    split: ["size", "opc"],
    // Signed loads go to a register wider than what they load.
    when: ({ size, opc }) => opc! <= 1 || size! + opc! <= 4,
    feature: "FEAT_LRCPC2",
    ops: rcpcOps,
    sem: (a, { n, t, d, offset }, { size, opc }) => {
      const va = a.keep(a.base(n).add(a.imm64(offset)));
      const bits = bitsOf(size!);
      if (opc === 0) {
        a.store(va, bits, a.x(t));
        return;
      }
      const value = a.load(va, bits, opc! > 1);
      if (opc === 3) a.setW(d, value.wrap());
      else a.setX(d, value);
    },
  },
);

export const EXCLUSIVES: readonly Insn[] = [
  LOAD_EXCLUSIVE,
  STORE_EXCLUSIVE,
  LOAD_PAIR,
  STORE_PAIR,
  ORDERED_LOAD,
  ORDERED_STORE,
  RCPC_LOAD,
  RCPC_UNSCALED,
];
