// Goal: TLBI by address forgets what the architecture says, and no more than it has to.
// Method: a guest at EL1 with tables of its own changes a descriptor between two loads.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { Guest, OFF, X } from "../../support/guest.js";
import { BASE } from "../../support/inline.js";

const K4 = 0x1000;
const TABLES = BASE + 0x1_0000;
const [L0, L1, L2, L3] = [0, 1, 2, 3].map((n) => TABLES + n * K4) as [
  number,
  number,
  number,
  number,
];
const [A, B] = [BASE + 0x2_0000, BASE + 0x3_0000];
/** 2 MiB of addresses by pages of L3, and 2 MiB of which L2 has a block. */
const PAGES = 0x20_0000n;
const BLOCK = 0x40_0000n;
const LEAF = (1n << 2n) | (3n << 8n) | (1n << 10n);
const CONTIGUOUS = 1n << 52n;
const TBI0 = 1n << 37n;
const VAE1IS = 0xd508_8320;
const VALE1IS = 0xd508_83a0;
const VAAE1 = 0xd508_8760;

const page = (pa: number, more = 0n): bigint => BigInt(pa) | LEAF | 3n | more;

interface Case {
  readonly va: bigint;
  /** Descriptor that changes, and what it becomes. */
  readonly at: number;
  readonly becomes: bigint;
  readonly tlbi: number;
  /** Address of the TLBI. */
  readonly of: bigint;
  /** Further bits of TCR_EL1. */
  readonly tcr?: bigint;
  /** Further descriptors, there from the start. */
  readonly tables?: readonly (readonly [number, bigint])[];
}

/** @returns what a load before the change and one after it saw: 0xa or 0xb */
function loads({ va, at, becomes, tlbi, of, tables = [], tcr = 0n }: Case): bigint[] {
  const vm = new Guest();
  const put64 = (gpa: number, value: bigint) =>
    vm.put(gpa, [Number(value & 0xffff_ffffn), Number(value >> 32n)]);
  vm.boot(0, [
    ...a64.mov(0, 0xff00n),
    a64.msr("MAIR_EL1", 0),
    ...a64.mov(0, 16n | (2n << 32n) | (1n << 23n) | tcr),
    a64.msr("TCR_EL1", 0),
    ...a64.mov(0, BigInt(L0)),
    a64.msr("TTBR0_EL1", 0),
    a64.mrs(0, "SCTLR_EL1"),
    a64.add(0, 0, 1),
    a64.msr("SCTLR_EL1", 0),
    a64.ISB,
    ...a64.mov(1, va),
    a64.ldr(10, 1),
    ...a64.mov(2, BigInt(at)),
    ...a64.mov(3, becomes),
    a64.str(3, 2),
    a64.DSB,
    ...a64.mov(4, of >> 12n),
    tlbi | 4,
    a64.DSB,
    a64.ISB,
    a64.ldr(11, 1),
    ...a64.powerOff(),
  ]);
  put64(L0, BigInt(L1) | 3n);
  put64(L1, BigInt(L2) | 3n);
  // Code and tables are where they are.
  put64(L1 + 8, BigInt(BASE - (BASE % 2 ** 30)) | LEAF | 1n);
  put64(L2 + 8, BigInt(L3) | 3n);
  put64(L2 + 16, BigInt(BASE) | LEAF | 1n);
  for (let n = 0; n < 8; n++) {
    put64(A + n * K4, 0xan);
    put64(B + n * K4, 0xbn);
  }
  for (const [gpa, value] of tables) put64(gpa, value);
  expect(vm.run()).toMatchObject(OFF);
  return [vm.get(X(10)), vm.get(X(11))];
}

const onePage: readonly (readonly [number, bigint])[] = [
  [L3, page(A)],
  [L3 + 8, page(A)],
];
const change = { at: L3, becomes: page(B), tables: onePage } as const;

describe("TLBI by address", () => {
  it.each([
    ["VAE1IS", VAE1IS],
    ["VALE1IS", VALE1IS],
    ["VAAE1", VAAE1],
  ])("%s forgets a page", (_, tlbi) => {
    expect(loads({ va: PAGES, of: PAGES, tlbi, ...change })).toEqual([0xan, 0xbn]);
  });

  it("keeps other pages", () => {
    const of = PAGES + 0x1000n;
    expect(loads({ va: PAGES, of, tlbi: VAE1IS, ...change })).toEqual([0xan, 0xan]);
  });

  it("forgets all of a block, whichever of its pages is named", () => {
    const inBlock = BLOCK + BigInt(A - BASE);
    const seen = loads({
      va: inBlock,
      of: BLOCK,
      tlbi: VAE1IS,
      at: L2 + 16,
      becomes: BigInt(L3) | 3n,
      tables: [[L3 + ((A - BASE) / K4) * 8, page(B)]],
    });
    expect(seen).toEqual([0xan, 0xbn]);
  });

  it("forgets all of what the contiguous bit joins", () => {
    const tables = Array.from(
      { length: 16 },
      (_, n) => [L3 + n * 8, page(A - (A % 0x1_0000) + n * K4, CONTIGUOUS)] as const,
    );
    const seen = loads({
      va: PAGES,
      of: PAGES + 0xf000n,
      tlbi: VAE1IS,
      at: L3,
      becomes: page(B),
      tables,
    });
    expect(seen).toEqual([0xan, 0xbn]);
  });

  it("forgets what was read under an address tag", () => {
    const va = PAGES | (0x5an << 56n);
    const seen = loads({ va, of: PAGES, tlbi: VAE1IS, tcr: TBI0, ...change });
    expect(seen).toEqual([0xan, 0xbn]);
  });

  it("forgets the tables above unless told that only the last level changed", () => {
    const tables = [...onePage, [B + 0x9000, page(B)] as const];
    const becomes = BigInt(B + 0x9000) | 3n;
    const seen = loads({ va: PAGES, of: PAGES, tlbi: VAE1IS, at: L2 + 8, becomes, tables });
    expect(seen).toEqual([0xan, 0xbn]);
  });
});
