// Goal: stage 1 translates, limits and faults as VMSAv8-64 says, for every granule and both halves.
// Method: tables built here in real bytes, behind a stage 2 that is the identity and can refuse.
import { describe, expect, it } from "vitest";
import {
  type AccessKind,
  decodeStage1,
  newStage1Result,
  type Stage1Registers,
  translateStage1,
} from "../../../../src/machine/a64/pe/stage1.js";
import { FSC } from "../../../../src/machine/a64/pe/stage1.table.js";
import { HostMemory } from "../../../../src/machine/host-memory.js";

const VALID = 1n;
const PAGE = 3n;
const AF = 1n << 10n;
const EL0 = 1n << 6n;
const RO = 1n << 7n;
const DBM = 1n << 51n;
const PXN = 1n << 53n;
const UXN = 1n << 54n;
const HA = 1n << 39n;
const HD = 1n << 40n;
const IPS_40 = 2n << 32n;
const MAIR = 0xff00n;
const NORMAL = 1n << 2n;
/** Attr0 is Device, Attr1 Normal. */
const LEAF = AF | NORMAL;

interface Shape {
  readonly name: string;
  readonly tg0: bigint;
  readonly tg1: bigint;
  readonly shift: number;
  readonly stride: number;
}
const SHAPES: readonly Shape[] = [
  { name: "4 KiB", tg0: 0n, tg1: 2n, shift: 12, stride: 9 },
  { name: "16 KiB", tg0: 2n, tg1: 1n, shift: 14, stride: 11 },
  { name: "64 KiB", tg0: 1n, tg1: 3n, shift: 16, stride: 13 },
];

class World {
  readonly memory = new HostMemory(8 * 2 ** 20);
  readonly refused = new Set<number>();
  readonly writes: number[] = [];
  readonly out = newStage1Result();
  #next = 2 ** 20;
  readonly shape: Shape;
  constructor(shape: Shape) {
    this.shape = shape;
    this.memory.ensure(8 * 2 ** 20);
  }
  table(): number {
    const at = this.#next;
    this.#next += 2 ** this.shape.shift;
    return at;
  }
  set(table: number, index: number, descriptor: bigint): void {
    this.memory.write64(table + index * 8, descriptor);
  }
  get(table: number, index: number): bigint {
    return this.memory.read64(table + index * 8);
  }
  registers(root: number, txsz: bigint, extra: Partial<Stage1Registers> = {}): Stage1Registers {
    const { tg0, tg1 } = this.shape;
    const tcr = txsz | (txsz << 16n) | (tg0 << 14n) | (tg1 << 30n) | IPS_40;
    const ttbr = BigInt(root);
    return { sctlr: 1n, tcr, ttbr0: ttbr, ttbr1: ttbr, mair: MAIR, ...extra };
  }
  go(registers: Stage1Registers, va: bigint, kind: AccessKind, privileged = true): string {
    const low = Number(BigInt.asIntN(32, va));
    const high = Number(BigInt.asIntN(32, va >> 32n));
    const stage2 = {
      translate: (ipa: number, isWrite: boolean): number => {
        if (isWrite) this.writes.push(ipa);
        return this.refused.has(ipa) ? -1 : ipa;
      },
    };
    const regime = decodeStage1(registers);
    return translateStage1(stage2, this.memory, regime, low, high, kind, privileged, this.out);
  }
}

/** Tables for one page at index 1 of every level, with 48 bits of address. */
function onePage(shape: Shape, leaf: bigint) {
  const world = new World(shape);
  const levels = Math.ceil((48 - shape.shift) / shape.stride);
  const tables = Array.from({ length: levels }, () => world.table());
  let va = 0n;
  for (const [i, table] of tables.entries()) {
    va |= 1n << BigInt(shape.shift + shape.stride * (levels - 1 - i));
    const below = tables[i + 1];
    world.set(table, 1, below === undefined ? leaf | PAGE : BigInt(below) | PAGE);
  }
  return {
    world,
    tables,
    va,
    leafTable: tables.at(-1)!,
    registers: world.registers(tables[0]!, 16n),
  };
}

describe.each(SHAPES)("$name", (shape) => {
  const target = 0x70_0000n;

  it("walks to a page, in both halves", () => {
    const { world, va, registers } = onePage(shape, target | LEAF);
    expect(world.go(registers, va + 0x123n, "read")).toBe("ok");
    expect(world.out).toMatchObject({ ipa: 0x70_0123, device: false, writable: true });
    expect(world.go(registers, va + 0x123n - (1n << 48n), "read")).toBe("ok");
    expect(world.out.ipa).toBe(0x70_0123);
  });

  it("faults on addresses between the halves, and ignores the top byte only if told", () => {
    const { world, va, registers } = onePage(shape, target | LEAF);
    expect(world.go(registers, va | (1n << 50n), "read")).toBe("fault");
    expect(world.out.fsc).toBe(FSC.translation);
    expect(world.go(registers, va | (0xabn << 56n), "read")).toBe("fault");
    const tagged = { ...registers, tcr: registers.tcr | (1n << 37n) };
    expect(world.go(tagged, va | (0xabn << 56n), "read")).toBe("ok");
  });

  it("names the level of an invalid descriptor", () => {
    const { world, va, registers, tables } = onePage(shape, target | LEAF);
    const last = tables.length - 1;
    for (const [i, table] of tables.entries()) {
      const was = world.get(table, 1);
      world.set(table, 1, 0n);
      expect(world.go(registers, va, "read")).toBe("fault");
      expect(world.out.fsc).toBe(FSC.translation | (3 - (last - i)));
      world.set(table, 1, was);
    }
  });

  it("refuses a page descriptor without its type bit", () => {
    const { world, va, registers, leafTable } = onePage(shape, target | LEAF);
    world.set(leafTable, 1, target | LEAF | VALID);
    expect(world.go(registers, va, "read")).toBe("fault");
    expect(world.out.fsc).toBe(FSC.translation | 3);
  });

  it("tells a stage-2 abort of the walk", () => {
    const { world, va, registers, leafTable } = onePage(shape, target | LEAF);
    world.refused.add(leafTable + 8);
    expect(world.go(registers, va, "read")).toBe("stage2");
    expect(world.out.walk).toBe(true);
  });

  it("sets the access flag and dirty state in memory, through stage 2, when hardware may", () => {
    const { world, va, registers, leafTable } = onePage(shape, target | NORMAL | RO | DBM);
    expect(world.go(registers, va, "read")).toBe("fault");
    expect(world.out.fsc).toBe(FSC.accessFlag | 3);
    const managed = { ...registers, tcr: registers.tcr | HA | HD };
    expect(world.go(managed, va, "read")).toBe("ok");
    expect(world.out.writable).toBe(false);
    expect(world.get(leafTable, 1) & (AF | RO)).toBe(AF | RO);
    expect(world.go(managed, va, "write")).toBe("ok");
    expect(world.get(leafTable, 1) & (AF | RO)).toBe(AF);
    expect(world.writes.filter((ipa) => ipa === leafTable + 8)).toHaveLength(2);
  });
});

describe("permissions", () => {
  const shape = SHAPES[0]!;
  const target = 0x70_0000n;
  const cases: readonly [string, bigint, string][] = [
    // leaf bits → "EL1 rwx, EL0 rwx" that pass
    ["EL1 read-write", 0n, "rwx--x"],
    ["both read-write", EL0, "rw-rwx"],
    ["EL1 read-only", RO, "r-x--x"],
    ["both read-only", RO | EL0, "r-xr-x"],
    ["never executed", EL0 | RO | PXN | UXN, "r--r--"],
  ];
  it.each(cases)("%s", (_, bits, want) => {
    const { world, va, registers } = onePage(shape, target | LEAF | bits);
    const kinds = ["read", "write", "execute"] as const;
    const got = [true, false].flatMap((privileged) =>
      kinds.map((kind, i) => (world.go(registers, va, kind, privileged) === "ok" ? "rwx"[i] : "-")),
    );
    expect(got.join("")).toBe(want);
  });

  it("limits of a table hold for everything below", () => {
    const { world, va, registers, tables } = onePage(shape, target | LEAF | EL0);
    const was = world.get(tables[0]!, 1);
    world.set(tables[0]!, 1, was | (1n << 62n));
    expect(world.go(registers, va, "write")).toBe("fault");
    expect(world.go(registers, va, "read", false)).toBe("ok");
    world.set(tables[0]!, 1, was | (1n << 61n));
    expect(world.go(registers, va, "read", false)).toBe("fault");
    expect(world.go(registers, va, "read", true)).toBe("ok");
  });

  it("SCTLR.WXN makes what is writable never executable", () => {
    const { world, va, registers } = onePage(shape, target | LEAF);
    expect(world.go(registers, va, "execute")).toBe("ok");
    const wxn = { ...registers, sctlr: registers.sctlr | (1n << 19n) };
    expect(world.go(wxn, va, "execute")).toBe("fault");
  });
});

describe("stage 1 off", () => {
  it("is the identity with Device data, up to 48 bits", () => {
    const world = new World(SHAPES[0]!);
    const registers = { ...world.registers(0, 16n), sctlr: 0n };
    expect(world.go(registers, 0x1234_5678_9abcn, "write")).toBe("ok");
    expect(world.out).toMatchObject({ ipa: 0x1234_5678_9abc, device: true });
    expect(world.go(registers, 1n << 48n, "read")).toBe("fault");
    expect(world.out.fsc).toBe(FSC.addressSize);
  });
});
