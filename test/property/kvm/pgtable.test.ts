// Goal: stage-2 tables hold exactly what was mapped, at every granule, and give every table back.
// Method: random maps, splits, protects and unmaps against a list of leaves; tables are counted.
import fc from "fast-check";
import { expect, it } from "vitest";
import { PAGE_SIZES, type PageSize } from "../../../src/base/page.js";
import { Account } from "../../../src/kvm/account.js";
import { Stage2Tables } from "../../../src/kvm/pgtable.js";
import {
  decodeRegime,
  emptyWalk,
  encodeVtcr,
  encodeVttbr,
  HI,
  Host,
  LO,
  outputAddress,
  walkStage2,
} from "../../../src/machine/index.js";

interface ModelLeaf {
  first: number;
  span: number;
  pa: number;
  writable: boolean;
  dbm: boolean;
}

/** Leaves only, by first page; blocks and pages alike. */
class Model {
  readonly leaves = new Map<number, ModelLeaf>();

  at(page: number): ModelLeaf | undefined {
    for (const leaf of this.leaves.values()) {
      if (page >= leaf.first && page < leaf.first + leaf.span) return leaf;
    }
    return undefined;
  }

  touching(first: number, end: number): ModelLeaf[] {
    return [...this.leaves.values()].filter(
      (leaf) => leaf.first < end && leaf.first + leaf.span > first,
    );
  }

  remove(leaves: readonly ModelLeaf[]): void {
    for (const leaf of leaves) this.leaves.delete(leaf.first);
  }
}

function build(pageSize: PageSize) {
  const host = new Host({ pageSize, seed: 1n, memoryBytesMax: 2 ** 26 });
  const charged = { bytes: 0 };
  const account = new Account({
    charge: (bytes) => {
      charged.bytes += bytes;
      return true;
    },
    release: (bytes) => {
      charged.bytes -= bytes;
    },
  });
  const tables = new Stage2Tables(host, account, 40);
  const spans = host.geometry.leafSizes.map((bytes) => bytes / pageSize);
  return { host, account, charged, tables, spans, baseline: host.frames.used };
}

const FAR = 2 ** 34;
const step = fc.record({
  op: fc.constantFrom("map", "map", "map", "relax", "protect", "unmap", "split"),
  /** Which neighbourhood: two level 2 blocks next to each other, and one a table away. */
  block: fc.nat(2),
  page: fc.nat(60),
  size: fc.constantFrom(0, 0, 0, 1, 2),
  count: fc.constantFrom(1, 3, 40, 5000),
  pa: fc.nat(1),
  writable: fc.boolean(),
  dbm: fc.boolean(),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Ranges that an operation invalidated; every leaf that it broke must lie in one. */
type Flushes = [number, number][];

function covered(leaves: readonly ModelLeaf[], flushes: Flushes): void {
  for (const { first, span } of leaves) {
    const ok = flushes.some(([at, count]) => at <= first && at + count >= first + span);
    if (!ok) throw new Error(`leaf ${first} was broken without an invalidation`);
  }
}

function apply(b: ReturnType<typeof build>, model: Model, todo: Step): void {
  const { tables, spans } = b;
  const flushes: Flushes = [];
  const flush = (first: number, span: number) => flushes.push([first, span]);
  const level2 = spans[1]!;
  const page = (todo.block === 2 ? 40 * level2 : todo.block * level2) + todo.page;
  const end = page + todo.count;
  const old = model.at(page);
  if (todo.op === "map") {
    const span = spans[todo.size % spans.length]!;
    const first = page - (page % span);
    const pa = FAR + todo.pa * 2 ** 40 + first * b.host.geometry.size;
    const gone = model.touching(first, first + span);
    const leaf = { first, span, pa, writable: todo.writable, dbm: todo.dbm };
    const known = model.leaves.get(first);
    const isSame = known !== undefined && known.span === span && known.pa === pa;
    const done = tables.map(first, span, pa, leaf, flush);
    expect(done).toBe(isSame ? "same" : "mapped");
    if (isSame) return;
    covered(gone, flushes);
    model.remove(gone);
    model.leaves.set(first, leaf);
  } else if (todo.op === "relax") {
    expect(tables.relax(page)).toBe(old !== undefined);
    if (old !== undefined) old.writable = true;
  } else if (todo.op === "protect") {
    const hit = model.touching(page, end).filter((leaf) => leaf.writable);
    expect(tables.protect(page, end, todo.dbm)).toBe(hit.length);
    for (const leaf of hit) {
      leaf.writable = false;
      if (leaf.span > 1) leaf.dbm = false;
      else if (todo.dbm) leaf.dbm = true;
    }
  } else if (todo.op === "unmap") {
    const gone = model.touching(page, end);
    const told: number[] = [];
    const removed = tables.unmap(page, end, (first, span) => told.push(first, span));
    tables.freeDetached();
    expect(removed).toBe(gone.length);
    const expected = [...gone].sort((a, c) => a.first - c.first);
    expect(told).toEqual(expected.flatMap(({ first, span }) => [first, span]));
    model.remove(gone);
  } else {
    const splits = old !== undefined && old.span > 1;
    expect(tables.splitBlock(page, flush)).toBe(splits ? "split" : "none");
    if (!splits) return;
    covered([old], flushes);
    model.remove([old]);
    const span = old.span / b.host.geometry.entriesPerTable;
    for (let first = old.first; first < old.first + old.span; first += span) {
      const pa = old.pa + (first - old.first) * b.host.geometry.size;
      model.leaves.set(first, { ...old, first, span, pa });
    }
  }
}

/** Reads the tables as hardware does, for every leaf of the model and between them. */
function compare(b: ReturnType<typeof build>, model: Model): void {
  const { host, tables } = b;
  const { geometry } = host;
  const regime = decodeRegime(encodeVtcr(geometry, 40, true), encodeVttbr(tables.root, 1));
  const out = emptyWalk();
  const holes: number[] = [];
  for (const leaf of model.leaves.values()) {
    walkStage2(host.memory, regime, leaf.first * geometry.size, out);
    const got = out.found && {
      first: leaf.first,
      span: out.size / geometry.size,
      pa: outputAddress(out.lo, out.hi, out.size),
      writable: (out.lo & LO.S2AP_WRITE) !== 0,
      dbm: (out.hi & HI.DBM) !== 0,
    };
    if (JSON.stringify(got) !== JSON.stringify(leaf)) expect(got).toEqual(leaf);
    const attributes = LO.VALID | LO.AF | LO.S2AP_READ | LO.SH_INNER | LO.MEMATTR_NORMAL;
    if ((out.lo & attributes) !== attributes) throw new Error("a leaf lost an attribute");
    const after = leaf.first + leaf.span;
    if (model.at(after) === undefined) holes.push(after);
  }
  for (const page of holes.slice(0, 50)) {
    walkStage2(host.memory, regime, page * geometry.size, out);
    expect(out.found).toBe(false);
    expect(tables.leaf(page)).toBeNull();
  }
  const blocks = [...model.leaves.values()].filter(({ span }) => span > 1);
  expect(tables.nextBlock(0, 2 ** 26)).toBe(Math.min(2 ** 26, ...blocks.map((leaf) => leaf.first)));
  const firsts = [...model.leaves.keys()].sort((a, c) => a - c);
  const next = tables.nextMapped(0, 2 ** 26);
  if (firsts.length === 0) expect(next).toBe(2 ** 26);
  else expect(next).toBeLessThanOrEqual(firsts[0]!);
}

it.each(PAGE_SIZES)("tables of %d-byte pages against a list of leaves", (pageSize) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25, size: "max" }), (steps) => {
      const b = build(pageSize);
      const model = new Model();
      for (const todo of steps) apply(b, model, todo);
      compare(b, model);
      const dirty: number[] = [];
      b.tables.scanDirty(0, 100_000, (page) => dirty.push(page));
      const expected = [...model.leaves.values()]
        .filter((leaf) => leaf.span === 1 && leaf.writable && leaf.dbm && leaf.first < 100_000)
        .map(({ first }) => first)
        .sort((a, c) => a - c);
      expect(dirty).toEqual(expected);
      expect(b.account.tableBytes).toBe((b.host.frames.used - b.baseline) * pageSize);
      b.tables.unmap(0, 2 ** 26);
      b.tables.freeDetached();
      expect(b.host.frames.used).toBe(b.baseline);
      expect([b.account.tableBytes, b.charged.bytes]).toEqual([0, 0]);
      const root = b.tables.root;
      const bytes = b.host.memory.u8.subarray(root, root + b.tables.rootPages * pageSize);
      expect(bytes.every((byte) => byte === 0)).toBe(true);
    }),
    // A split block of the largest granule has 8192 leaves for the list to hold.
    { numRuns: pageSize === 65536 ? 8 : 20 },
  );
});
