// Goal: what the store acknowledged is there after any end of the process, whole or not at all.
// Method: a store in a fresh directory; a crash is a copy of the files as they are on disk.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../../src/base/clock.js";
import {
  type Change,
  EMPTY_SHAPE,
  type EventRecord,
  type MigrationRecord,
  type MigrationRoundRecord,
  type VmRecord,
  type VmShape,
} from "../../../src/store/index.js";
import { type TestStores, testStores } from "../../support/store.js";

const NOW = "2026-11-20T00:00:00.000Z";

function vm(n: number, more: Partial<VmRecord> = {}): VmRecord {
  return {
    id: `vm_${n}`,
    seq: n,
    uuid: `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`,
    name: null,
    labels: { tier: "test" },
    definition: { type: "0x0", pageSize: 4096 },
    state: "active",
    stateReason: null,
    version: 1,
    starts: 1,
    bootId: "boot",
    createdAt: NOW,
    updatedAt: NOW,
    ...more,
  };
}

function event(id: number): EventRecord {
  return { id, type: "vm.created", time: NOW, subject: `vms/vm_${id}`, data: { id } };
}

const TOP = 2n ** 64n - 1n;

const SHAPE: VmShape = {
  capabilities: [
    { ordinal: 0, cap: 168, flags: 0, args: [3n, 0n, TOP, 0n], tentative: false },
    { ordinal: 2, cap: 4_294_967_295, flags: 4_294_967_295, args: [], tentative: true },
  ],
  memoryObjects: [
    {
      ordinal: 0,
      objectId: 1,
      userspaceAddr: TOP - 4095n,
      size: 2n ** 60n,
      backing: "unbacked",
      hugePages: true,
    },
  ],
  guestMemfds: [{ ordinal: 1, memfdId: 3, size: 65536n, flags: 1n, closed: true }],
  memslots: [
    {
      slot: 65_537,
      flags: 1,
      guestPhysAddr: 0n,
      memorySize: 4096n,
      userspaceAddr: TOP - 4095n,
      guestMemfd: 1,
      guestMemfdOffset: 4096n,
    },
  ],
  vcpus: [
    { ordinal: 0, vcpuId: 7 },
    { ordinal: 1, vcpuId: 0 },
  ],
};

let stores: TestStores;
beforeEach(async () => {
  stores = await testStores();
});
afterEach(() => stores.remove());

const MIGRATION: MigrationRecord = {
  id: "mig_1",
  seq: 4,
  direction: "outgoing",
  vmId: "vm_1",
  vmUuid: "00000000-0000-4000-8000-000000000001",
  vmName: null,
  peer: "host-b",
  peerSession: null,
  state: "queued",
  point: "none",
  cancelRequested: false,
  parameters: { strategy: "pre-copy", downtimeMs: 300 },
  ...{ progress: null, decision: null, failure: null, resolution: null, statistics: null },
  version: 1,
  bootId: "boot",
  createdAt: NOW,
  startedAt: null,
  endedAt: null,
};

const ROUND: MigrationRoundRecord = {
  ...{ migrationId: "mig_1", round: 1, startMs: 1.25, durationMs: 1e3, pagesDirty: 2 ** 40 },
  ...{ pagesSent: 10, pagesZero: 20, pagesDuplicate: 0, bytes: 2 ** 45, throttlePercent: 20 },
  ...{ dirtyPagesPerSecond: 0.5, bytesPerSecond: 1e9 + 0.5, predictedDowntimeMs: null },
  ...{ downtimeMs: null, dirtyLimitPagesPerSecond: 2 ** 32 },
  ...{ action: "next-round", why: "12 MiB are dirty", isConverging: true },
};

describe("migrations", () => {
  it("come back as they were, with their rounds in order, and go with them", async () => {
    const store = await stores.open();
    await store.commit([{ kind: "put-migration", migration: MIGRATION }]);
    const rounds = [{ ...ROUND, round: 2, predictedDowntimeMs: 12.5, isConverging: false }, ROUND];
    await store.commit([{ kind: "put-migration-rounds", rounds }]);
    const ended: MigrationRecord = {
      ...MIGRATION,
      ...{ state: "failed", point: "aborted", peerSession: "mig_9", cancelRequested: true },
      failure: { side: "wire", causes: ["a", "b"] },
      ...{ progress: { bytes: 1 }, decision: { why: "x" }, statistics: { totalMs: 3 } },
      ...{ resolution: { runsOn: "source" }, startedAt: NOW, endedAt: NOW, version: 2 },
    };
    // More is known of one.
    const last = { ...rounds[0]!, downtimeMs: 14.25 };
    await store.commit([{ kind: "put-migration-rounds", rounds: [last] }]);
    // The record changes under its rounds.
    await store.commit([{ kind: "put-migration", migration: ended }]);
    const after = await (await stores.afterKill()).open();
    expect(await after.loadMigrations()).toEqual([ended]);
    expect(await after.readMigrationRounds("mig_1")).toEqual([ROUND, last]);
    await store.commit([{ kind: "delete-migration", id: "mig_1" }]);
    expect(await store.loadMigrations()).toEqual([]);
    expect(await store.readMigrationRounds("mig_1")).toEqual([]);
  });

  it("a VM that went away keeps its uuid beside the one that came", async () => {
    const store = await stores.open();
    const { uuid } = vm(1);
    const gone = vm(1, { state: "migrated" });
    await store.commit([{ kind: "put-vm", vm: gone }]);
    await store.commit([{ kind: "put-vm", vm: vm(2, { uuid }) }]);
    expect((await store.loadVms()).map(({ vm: { state } }) => state)).toEqual([
      "migrated",
      "active",
    ]);
  });
});

describe("records", () => {
  it("come back as they went, also above 2^53", async () => {
    const store = await stores.open();
    await store.commit([
      { kind: "put-vm", vm: vm(1, { name: "böot", stateReason: "why" }) },
      { kind: "put-shape", vmId: "vm_1", shape: SHAPE },
    ]);
    await store.commit([{ kind: "put-shape", vmId: "vm_1", shape: SHAPE }]);
    expect(await store.loadVms()).toEqual([
      { vm: vm(1, { name: "böot", stateReason: "why" }), shape: SHAPE },
    ]);
  });

  it("change part by part to the same result as all at once", async () => {
    const store = await stores.open();
    const parts: Change[] = [
      ...SHAPE.capabilities.map((value) => ({ kind: "put-capability", value }) as const),
      ...SHAPE.memoryObjects.map((value) => ({ kind: "put-memory-object", value }) as const),
      ...SHAPE.guestMemfds.map((value) => ({ kind: "put-guest-memfd", value }) as const),
      ...SHAPE.memslots.map((value) => ({ kind: "put-memslot", value }) as const),
      ...SHAPE.vcpus.map((value) => ({ kind: "put-vcpu", value }) as const),
    ].map((change) => ({ kind: "put-part", vmId: "vm_1", change }));
    await store.commit([{ kind: "put-vm", vm: vm(1) }, ...parts, ...parts]);
    expect((await store.loadVms())[0]?.shape).toEqual(SHAPE);
    const removals: Change[] = [
      { kind: "delete-capability", ordinal: 2 } as const,
      { kind: "delete-memory-object", ordinal: 0 } as const,
      { kind: "delete-guest-memfd", ordinal: 1 } as const,
      { kind: "delete-memslot", slot: 65_537 } as const,
    ].map((change) => ({ kind: "put-part", vmId: "vm_1", change }));
    await store.commit(removals);
    const left = (await store.loadVms())[0]?.shape;
    expect(left).toEqual({
      ...EMPTY_SHAPE,
      capabilities: SHAPE.capabilities.slice(0, 1),
      vcpus: SHAPE.vcpus,
    });
  });

  it("of a VM go with it, its events stay", async () => {
    const store = await stores.open();
    await store.commit([
      { kind: "put-vm", vm: vm(1) },
      { kind: "put-shape", vmId: "vm_1", shape: SHAPE },
      { kind: "add-events", events: [event(1)] },
    ]);
    await store.commit([{ kind: "delete-vm", id: "vm_1" }]);
    await store.commit([{ kind: "put-vm", vm: vm(1) }]);
    expect(await store.loadVms()).toEqual([{ vm: vm(1), shape: EMPTY_SHAPE }]);
    expect(await store.readEvents(0, 10)).toEqual([event(1)]);
  });

  it("of 100,000 events are written and trimmed in one go each", async () => {
    const store = await stores.open();
    const events = Array.from({ length: 100_000 }, (_, i) => event(i + 1));
    await store.commit([{ kind: "add-events", events }]);
    await store.commit([{ kind: "trim-events", keep: 10 }]);
    expect(await store.eventRange()).toEqual({ oldest: 99_991, newest: 100_000 });
    expect((await store.readEvents(99_995, 2)).map((e) => e.id)).toEqual([99_996, 99_997]);
  });

  it("of idempotency are kept until they expire or are too many", async () => {
    const store = await stores.open();
    const record = (key: string, expiresAt: string) => ({
      key,
      fingerprint: "f",
      bootId: "boot",
      createdAt: NOW,
      expiresAt,
      answer: { status: 201, headers: { location: "/v1/vms/vm_1" }, body: null },
    });
    const keys = ["a", "b", "c", "d"].map((key, i) => record(key, `2026-11-2${i}T00:00:00.000Z`));
    await store.commit(keys.map((r) => ({ kind: "put-idempotency", record: r })));
    await store.commit([{ kind: "trim-idempotency", now: "2026-11-20T00:00:00.000Z", keep: 2 }]);
    expect(await store.findIdempotency("a")).toBeNull();
    expect(await store.findIdempotency("b")).toBeNull();
    expect(await store.findIdempotency("c")).toEqual(keys[2]);
    const running = { ...record("d", NOW), answer: null };
    await store.commit([{ kind: "put-idempotency", record: running }]);
    expect(await store.findIdempotency("d")).toEqual(running);
  });

  it("of boots keep the newest", async () => {
    const store = await stores.open();
    expect(await store.newestBoot()).toBeNull();
    const boot = (seq: number) => ({
      id: `b${seq}`,
      seq,
      version: "0",
      startedAt: NOW,
      endedAt: null,
    });
    for (const seq of [1, 2, 3]) await store.commit([{ kind: "put-boot", boot: boot(seq) }]);
    await store.commit([{ kind: "trim-boots", keep: 1 }]);
    expect(await store.newestBoot()).toEqual(boot(3));
  });
});

describe("the write queue", () => {
  it("lets every failing write fail alone, however they interleave", async () => {
    const store = await stores.open();
    const acknowledged: number[] = [];
    let refused = 0;
    const writes = Array.from({ length: 480 }, async (_, i) => {
      // Arrive a few microtasks apart, so that some meet an open transaction.
      for (let k = 0; k < i % 7; k++) await Promise.resolve();
      const n = i + 1;
      // Every third write ends in a unique violation, after a statement that succeeds.
      const changes: Change[] =
        n % 3 === 0
          ? [
              { kind: "put-vm", vm: vm(n) },
              { kind: "put-vm", vm: vm(n + 10_000, { seq: n }) },
            ]
          : [{ kind: "put-vm", vm: vm(n) }];
      await store.commit(changes).then(
        () => acknowledged.push(n),
        () => {
          refused += 1;
        },
      );
    });
    await Promise.all(writes);
    expect(refused).toBe(160);
    const stored = (await store.loadVms()).map((s) => s.vm.seq);
    expect(stored).toEqual(acknowledged.sort((a, b) => a - b));
  });

  it("keeps the order of calls and lets the event loop turn", async () => {
    const store = await stores.open();
    await store.commit([{ kind: "put-vm", vm: vm(1) }]);
    let turns = 0;
    let ended = false;
    const count = async () => {
      while (!ended) {
        await systemClock.sleep(1);
        turns += 1;
      }
    };
    const counting = count();
    const writes = Array.from({ length: 1_000 }, (_, i) =>
      store.commit([{ kind: "put-vm", vm: vm(1, { version: i + 2 }) }]),
    );
    await Promise.all(writes);
    ended = true;
    await counting;
    expect((await store.loadVms())[0]?.vm.version).toBe(1_001);
    expect(turns).toBeGreaterThan(5);
  });

  it("acknowledges only what a crash does not take", async () => {
    const store = await stores.open();
    const acknowledged: number[] = [];
    const writes = Array.from({ length: 200 }, (_, i) =>
      store.commit([{ kind: "put-vm", vm: vm(i + 1) }]).then(() => acknowledged.push(i + 1)),
    );
    await writes[80];
    const known = [...acknowledged];
    const survivor = await (await stores.afterKill()).open();
    const found = (await survivor.loadVms()).map((s) => s.vm.seq);
    expect(found).toEqual(expect.arrayContaining(known));
    expect(known.length).toBeGreaterThan(80);
    await Promise.all(writes);
  });
});
