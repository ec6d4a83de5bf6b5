// Owns: guests that do what no guest should, as memory and registers. Test process.
import type { Prng } from "../../src/base/prng.js";
import * as a64 from "../support/a64.js";
import type { Inline } from "../support/inline.js";
import { reg } from "../support/registers.js";

export const BASE = 0x4000_0000;
export const RAM_PAGES = 64;
export const ROM = 0x6000_0000;
export const ROM_PAGES = 4;
const MMIO = 0x900_0000;
const NOWHERE = 0x5000_0000;
const PAGE = 4096;

export interface BadGuest {
  /** [guest-physical address, bytes]; code begins at BASE. */
  readonly memory: (prng: Prng) => readonly (readonly [number, Uint8Array])[];
  readonly registers: readonly (readonly [bigint, bigint])[];
  readonly seeds: number;
  /** What the host does between two kicks. */
  readonly host?: (vm: Inline, prng: Prng) => void;
}

const at = (page: number): number => BASE + page * PAGE;
const code = (words: readonly number[], more: Partial<BadGuest> = {}): BadGuest => ({
  memory: () => [[BASE, a64.bytesOf(words)]],
  registers: [],
  seeds: 1,
  ...more,
});
const bytes = (prng: Prng, count: number): Uint8Array =>
  Uint8Array.from({ length: count }, () => prng.below(256));
const address = (rd: number, to: number): number[] => a64.mov(rd, BigInt(to));
/** Registers for stage 1 with its first table at an address; MAIR's attribute 0 is Normal. */
const stage1 = (table: number): [bigint, bigint][] => [
  [reg.sys("MAIR_EL1"), 0xffn],
  // 39 bits, hardware AF and dirty state, level 1 first.
  [reg.sys("TCR_EL1"), 25n | (2n << 32n) | (3n << 39n)],
  [reg.sys("TTBR0_EL1"), BigInt(table)],
  [reg.sys("SCTLR_EL1"), 0x30d0_0801n],
];
/** A descriptor of level 1: 1 GiB, or a table. */
const words64 = (...values: readonly bigint[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(8 * values.length));
  for (const [i, value] of values.entries()) view.setBigUint64(8 * i, value, true);
  return new Uint8Array(view.buffer);
};
const TABLE = 3n;
const AF = 1n << 10n;
const DBM = 1n << 51n;
const RO = 1n << 7n;
/** GiB 0 is MMIO, GiB 1 RAM; hardware has to set both flags of the second. */
const BLOCKS = words64(1n | AF, BigInt(BASE) | 1n | DBM | RO);
/** Vectors at a page: each goes on behind the instruction that failed. */
const skipping = (page: number): [number, Uint8Array][] => {
  const skip = [a64.mrs(28, "ELR_EL1"), a64.add(28, 28, 4), a64.msr("ELR_EL1", 28), a64.ERET];
  return Array.from({ length: 16 }, (_, n) => [at(page) + n * 0x80, a64.bytesOf(skip)]);
};
const VBAR = (to: number): [bigint, bigint] => [reg.sys("VBAR_EL1"), BigInt(to)];
const EL0: [bigint, bigint] = [reg.PSTATE, 0x3c0n];
const FP_ON: [bigint, bigint] = [reg.sys("CPACR_EL1"), 3n << 20n];

/** Random words in pages 0 to 7, biased towards what exists: groups of the encoding space. */
function randomWords(prng: Prng, count: number): Uint8Array {
  const groups = [0x9100_0000, 0xd500_0000, 0xf800_0000, 0x0e00_0000, 0x1400_0000, 0xd400_0000];
  const list: number[] = [];
  for (let n = 0; n < count; n++) {
    const word = prng.u32();
    list.push(prng.below(2) === 0 ? word : ((word & 0x01ff_ffff) | prng.pick(groups)) >>> 0);
  }
  // The end leads to the beginning.
  list.push(a64.b(-list.length));
  return a64.bytesOf(list);
}

const STORM = a64.str(1, 0);
const SPIN_VECTOR = 8;

export const BAD_GUESTS: Readonly<Record<string, BadGuest>> = {
  "random bytes as code": {
    memory: (prng) => [[BASE, bytes(prng, RAM_PAGES * PAGE)]],
    registers: [],
    seeds: 6,
  },
  "random instructions at EL1, exceptions skipped": {
    memory: (prng) => [[BASE, randomWords(prng, 4000)], ...skipping(SPIN_VECTOR)],
    registers: [VBAR(at(SPIN_VECTOR)), FP_ON],
    seeds: 10,
  },
  "random instructions at EL0, exceptions skipped": {
    memory: (prng) => [[BASE, randomWords(prng, 4000)], ...skipping(SPIN_VECTOR)],
    registers: [VBAR(at(SPIN_VECTOR)), FP_ON, EL0],
    seeds: 10,
  },
  "every system instruction at EL0": {
    memory: (prng) => {
      const list = Array.from({ length: 4000 }, () => (prng.u32() & 0x3f_ffff) | 0xd500_0000);
      const all = [...list.map((word) => word >>> 0), a64.b(-list.length)];
      return [[BASE, a64.bytesOf(all)], ...skipping(SPIN_VECTOR)];
    },
    registers: [VBAR(at(SPIN_VECTOR)), EL0],
    seeds: 6,
  },
  "a jump into MMIO": code([...address(1, MMIO), a64.br(1)]),
  "a jump into unmapped space": code([...address(1, NOWHERE), a64.br(1)]),
  "a jump to the end of the address space": code([...a64.mov(1, 2n ** 64n - 4n), a64.br(1)]),
  "vectors that are not mapped": code([0], { registers: [VBAR(NOWHERE)] }),
  "vectors in MMIO": code([a64.svc(0)], { registers: [VBAR(MMIO)] }),
  "vectors of undefined words": code([a64.svc(0)], { registers: [VBAR(at(4))] }),
  "vectors that call themselves": {
    memory: () => [
      [BASE, a64.bytesOf([a64.svc(0)])],
      ...Array.from({ length: 16 }, (_, n): [number, Uint8Array] => {
        return [at(4) + n * 0x80, a64.bytesOf([a64.svc(n)])];
      }),
    ],
    registers: [VBAR(at(4))],
    seeds: 1,
  },
  "a stack that is misaligned in the handler": {
    memory: () => [
      [BASE, a64.bytesOf([a64.svc(0)])],
      ...Array.from({ length: 16 }, (_, n): [number, Uint8Array] => {
        return [at(4) + n * 0x80, a64.bytesOf([a64.str(0, 31), a64.ERET])];
      }),
    ],
    // SP_EL1 and SCTLR_EL1.SA.
    registers: [VBAR(at(4)), [reg.SP_EL1, BigInt(at(20) + 1)]],
    seeds: 1,
  },
  "tables in ROM": {
    memory: () => [
      [BASE, a64.bytesOf([...address(0, at(9)), STORM, a64.b(-1)])],
      [ROM, BLOCKS],
    ],
    registers: stage1(ROM),
    seeds: 1,
  },
  "tables in unmapped space": code([a64.b(0)], { registers: stage1(NOWHERE) }),
  "tables in MMIO": code([a64.b(0)], { registers: stage1(MMIO) }),
  "tables that lead to themselves": {
    memory: () => [
      [BASE, a64.bytesOf([a64.b(0)])],
      [at(16), words64(...new Array<bigint>(512).fill(BigInt(at(16)) | TABLE))],
    ],
    registers: [...stage1(at(16)), VBAR(BASE)],
    seeds: 1,
  },
  "stores to its own tables": {
    memory: (prng) => [
      [
        BASE,
        a64.bytesOf([
          ...address(0, at(16)),
          ...a64.mov(5, prng.u64() | 1n),
          ...a64.mov(6, prng.u64() | 1n),
          a64.madd(5, 5, 6, 6),
          a64.ubfx(7, 5, 40, 9),
          a64.addReg(7, 0, 7, 3),
          a64.str(5, 7),
          a64.str(6, 0, 8),
          a64.TLBI_ALL,
          a64.b(-6),
        ]),
      ],
      [at(16), BLOCKS],
      ...skipping(SPIN_VECTOR),
    ],
    registers: [...stage1(at(16)), VBAR(at(SPIN_VECTOR))],
    seeds: 6,
  },
  "code that rewrites itself all the time": code([
    a64.adr(0, 4),
    ...a64.mov(1, BigInt(a64.add(2, 2, 0))),
    a64.add(1, 1, 0x400),
    a64.strw(1, 0),
    a64.add(2, 2, 0),
    a64.b(-3),
  ]),
  "code that one vCPU writes and another runs": {
    memory: () => [
      [
        BASE,
        a64.bytesOf([
          ...address(0, at(12)),
          a64.cbnz(27, 3),
          a64.blr(0),
          a64.b(-1),
          ...a64.mov(3, BigInt(a64.mov(9, 0n)[0]!)),
          a64.addReg(3, 3, 4, 5),
          a64.add(4, 4, 1),
          a64.ubfx(4, 4, 0, 16),
          a64.strw(3, 0),
          a64.b(-6),
        ]),
      ],
      [at(12), a64.bytesOf([...a64.mov(9, 1n), a64.RET])],
    ],
    registers: [],
    seeds: 1,
  },
  "code that the host writes while it runs": code([a64.add(9, 9, 1), a64.b(-1)], {
    host: (vm, prng) => {
      const words = [a64.add(9, 9, 1 + prng.below(4000)), a64.b(-1)];
      const garbage = prng.below(4) === 0 ? bytes(prng, 8) : a64.bytesOf(words);
      vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: garbage });
    },
  }),
  "WFI for ever": code([a64.WFI, a64.b(-1)]),
  "WFE for ever": code([0xd503_205f, a64.b(-1)]),
  "a storm of hypercalls": code([...a64.mov(0, 0x8400_0000n), a64.HVC, a64.b(-2)]),
  "a storm of unknown hypercalls": code([...a64.mov(0, 0xc600_ffffn), a64.HVC, a64.b(-2)]),
  "a storm of MMIO": code([...address(0, MMIO), STORM, a64.ldr(2, 0), a64.b(-2)]),
  "a storm of TLB invalidations": code([a64.TLBI_ALL, a64.DSB, a64.ISB, a64.b(-3)]),
  "a store to every page, for ever": code([
    ...address(0, at(8)),
    ...a64.mov(3, 50n),
    ...a64.mov(4, BigInt(PAGE)),
    a64.str(0, 0),
    a64.addReg(0, 0, 4),
    a64.subs(3, 3, 1),
    a64.bne(-3),
    a64.b(-8),
  ]),
};
