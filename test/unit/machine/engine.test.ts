// Goal: the synthetic PE commits an access whole or not at all, byte for byte, and stops at faults.
// Method: lists of accesses on hand-made tables, memory compared with a DataView's opinion.
import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import { ListSource, PatternSource, SyntheticEngine } from "../../../src/machine/index.js";
import { Tables } from "./support.js";

const IPA = 0x10_0000;
const PAGE = 4096;

interface Step {
  ipa: number;
  length?: number;
  value?: bigint;
  write?: boolean;
}

const list = (steps: readonly Step[]) =>
  new ListSource(
    steps.map(({ ipa, length = 8, value = 0n, write = true }) => ({
      isWrite: write,
      ipa,
      length,
      value,
    })),
  );

/** Two neighbouring guest pages whose physical pages are not neighbours. */
function machine(options: { secondMapped?: boolean; unbacked?: boolean } = {}) {
  const { secondMapped = true, unbacked = false } = options;
  const tables = new Tables();
  const { host } = tables;
  const first = unbacked ? host.unbacked.allocate(PAGE, PAGE) : tables.page();
  tables.page();
  const second = unbacked ? host.unbacked.allocate(PAGE, PAGE) : tables.page();
  tables.map(IPA, first, { writable: true });
  if (secondMapped) tables.map(IPA + PAGE, second, { writable: true });
  return { tables, host, first, second, cpu: tables.cpu(), engine: new SyntheticEngine(host) };
}

const VALUE = 0x1122_3344_5566_7788n;

describe("stores", () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])("of %d bytes at each offset touch exactly their bytes", (n) => {
    const { host, first, cpu, engine } = machine();
    for (let offset = 0; offset < 9; offset++) {
      host.memory.u8.fill(0xaa, first, first + 32);
      engine.start(list([{ ipa: IPA + offset, length: n, value: VALUE }]));
      expect(engine.execute(cpu, 10)).toBe("done");
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(VALUE);
      const expected = Buffer.alloc(32, 0xaa);
      bytes.copy(expected, offset, 0, n);
      expect(Buffer.from(host.memory.u8.slice(first, first + 32))).toEqual(expected);
    }
  });

  it.each([1, 2, 3, 4, 5, 6, 7])("straddling with %d bytes in the first page", (room) => {
    const { host, first, second, cpu, engine } = machine();
    const seen: number[][] = [];
    engine.observer = (ipa, length, pa) => seen.push([ipa, length, pa]);
    engine.start(list([{ ipa: IPA + PAGE - room, value: VALUE }]));
    expect(engine.execute(cpu, 10)).toBe("done");
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(VALUE);
    const { u8 } = host.memory;
    expect([...u8.slice(first + PAGE - room, first + PAGE)]).toEqual([...bytes.subarray(0, room)]);
    expect([...u8.slice(second, second + 8 - room)]).toEqual([...bytes.subarray(room)]);
    expect(seen).toEqual([
      [IPA + PAGE - room, room, first + PAGE - room],
      [IPA + PAGE, 8 - room, second],
    ]);
  });

  it("straddling into a hole stores nothing and is done whole after the hole is gone", () => {
    const { tables, host, first, second, cpu, engine } = machine({ secondMapped: false });
    engine.start(list([{ ipa: IPA + PAGE - 4, value: VALUE }]));
    expect(engine.execute(cpu, 10)).toBe("abort");
    expect(cpu.fault).toEqual({
      kind: "translation",
      level: 3,
      ipa: IPA + PAGE,
      isWrite: true,
      hdbssf: false,
    });
    expect([engine.completed, engine.hasPending]).toEqual([0, true]);
    expect(host.memory.u32[(first + PAGE - 4) >>> 2]).toBe(0);
    expect(engine.execute(cpu, 10)).toBe("abort");
    tables.map(IPA + PAGE, second, { writable: true });
    expect(engine.execute(cpu, 10)).toBe("done");
    expect(host.memory.u32[(first + PAGE - 4) >>> 2]).toBe(0x5566_7788);
    expect(host.memory.u32[second >>> 2]).toBe(0x1122_3344);
    expect(engine.completed).toBe(1);
  });

  it("to unbacked memory count per page, both pages when straddling", () => {
    const { host, first, second, cpu, engine } = machine({ unbacked: true });
    engine.start(list([{ ipa: IPA }, { ipa: IPA + 8 }, { ipa: IPA + PAGE - 1, length: 2 }]));
    engine.execute(cpu, 10);
    expect([host.unbacked.sequence(first), host.unbacked.sequence(second)]).toEqual([3, 1]);
  });
});

describe("loads", () => {
  it.each([1, 2, 4, 7, 8])("of %d bytes read little-endian, also across pages", (length) => {
    const { host, first, second, cpu, engine } = machine();
    const { u8 } = host.memory;
    for (let i = 0; i < 8; i++) {
      u8[first + PAGE - 8 + i] = 0x10 + i;
      u8[second + i] = 0x20 + i;
    }
    const around = Buffer.from([...u8.slice(first + PAGE - 8, first + PAGE), ...u8.slice(second)]);
    const steps = [0, 1, 3, 5, 7, 8].map((at) => ({ ipa: IPA + PAGE - 8 + at, length }));
    engine.start(list(steps.map((step) => ({ ...step, write: false }))));
    expect(engine.execute(cpu, 10)).toBe("done");
    const expected = steps.map(({ ipa }) => {
      const at = ipa - (IPA + PAGE - 8);
      return BigInt(
        `0x${Buffer.from(around.subarray(at, at + length))
          .reverse()
          .toString("hex")}`,
      );
    });
    expect(engine.loads).toEqual(expected);
  });

  it("of unbacked memory read the page's content", () => {
    const { host, first, cpu, engine } = machine({ unbacked: true });
    engine.start(list([{ ipa: IPA + 16, write: false }, { ipa: IPA }, { ipa: IPA, write: false }]));
    engine.execute(cpu, 10);
    const now = Buffer.alloc(8);
    host.unbacked.read(first, now);
    expect(engine.loads[1]).toBe(now.readBigUInt64LE());
    expect(engine.loads[0]).not.toBe(0n);
  });

  it("of a pattern are not recorded", () => {
    const { cpu, engine } = machine();
    engine.start(new PatternSource({ ...PATTERN, writePercent: 0 }));
    expect(engine.execute(cpu, 100)).toBe("done");
    expect([engine.completed, engine.loads.length]).toEqual([20, 0]);
  });
});

const PATTERN = {
  pattern: "uniform",
  base: IPA,
  bytes: PAGE,
  count: 20,
  writePercent: 100,
  length: 8,
  stride: 8,
  skew: 0,
  seed: 1n,
  pageSize: PAGE,
} as const;

describe("progress", () => {
  it("stops after the budget and goes on where it was", () => {
    const { cpu, engine } = machine();
    engine.start(list(Array.from({ length: 5 }, (_, i) => ({ ipa: IPA + i * 8 }))));
    expect(engine.execute(cpu, 2)).toBe("slice");
    expect(engine.completed).toBe(2);
    expect(engine.execute(cpu, 3)).toBe("slice");
    expect(engine.execute(cpu, 1)).toBe("done");
    expect([engine.completed, engine.retired, engine.finished]).toEqual([5, 5, true]);
    expect(engine.execute(cpu, 1)).toBe("done");
  });

  it("has nothing to do before the first program", () => {
    const { cpu, engine } = machine();
    expect(engine.program).toBe("none");
    expect(engine.execute(cpu, 1)).toBe("done");
  });

  it("gives the bytes of the store that aborted, and completes it without memory", () => {
    const { cpu, engine } = machine();
    engine.start(
      list([
        { ipa: 0, length: 3, value: VALUE },
        { ipa: 8, length: 6, value: VALUE },
        { ipa: IPA },
      ]),
    );
    expect(engine.execute(cpu, 9)).toBe("abort");
    expect([...engine.storeBytes()]).toEqual([0x88, 0x77, 0x66]);
    engine.completeWithoutMemory(null);
    expect(engine.execute(cpu, 9)).toBe("abort");
    expect([...engine.storeBytes()]).toEqual([0x88, 0x77, 0x66, 0x55, 0x44, 0x33]);
    engine.completeWithoutMemory(null);
    expect(engine.execute(cpu, 9)).toBe("done");
    expect([engine.completed, engine.retired]).toEqual([3, 3]);
    expect(() => engine.completeWithoutMemory(null)).toThrow(AssertionFailed);
  });

  it("records what userspace gave for a load", () => {
    const { cpu, engine } = machine();
    engine.start(list([{ ipa: 0, length: 4, write: false }]));
    engine.execute(cpu, 1);
    engine.completeWithoutMemory(Uint8Array.of(0xa0, 0xa1, 0xa2, 0xa3));
    expect(engine.loads).toEqual([0xa3a2_a1a0n]);
  });

  it("drops an unfinished program and its half-done access", () => {
    const { cpu, engine, host, first } = machine();
    engine.start(list([{ ipa: 0 }, { ipa: IPA, value: 9n }]));
    expect(engine.execute(cpu, 9)).toBe("abort");
    engine.start(list([{ ipa: IPA + 8, value: 5n }]));
    expect([engine.completed, engine.finished, engine.hasPending]).toEqual([0, false, false]);
    expect(engine.execute(cpu, 9)).toBe("done");
    expect([host.memory.read64(first), host.memory.read64(first + 8)]).toEqual([0n, 5n]);
  });
});
