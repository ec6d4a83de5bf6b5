// Goal: whatever the disk, the network, the peer or the clock does, a migration has an outcome that
// is known beforehand: one copy runs, its memory is whole, and both sessions say why.
// Method: two whole hosts in one process, with a proxy before each API and each page listener,
// stores that refuse, a second process that locks a database, and clocks that jump.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../src/base/clock.js";
import { syntheticGuest } from "../../tools/migrate/guests.js";
import type { Asked as Wanted } from "../../tools/migrate/move.js";
import {
  ended,
  type Hosts,
  lockDatabase,
  startHosts,
  type TestHost,
  throughPages,
} from "../support/migration-hosts.js";
import type { Asked, Hop } from "../support/request-proxy.js";
import { until } from "../support/two-hosts.js";

const LONG_MS = 120_000;
const guest = syntheticGuest(7);
const SLOW = { bandwidthBytesPerSecond: 2 * 2 ** 20 };
/** The guest stores to 4 MiB. */
const WINDOW_PAGES = 1024;

let hosts: Hosts;
let vm: string;
let uuid: string;

beforeAll(async () => {
  hosts = await startHosts();
});
afterAll(() => hosts.close());
beforeEach(async () => {
  for (const host of [hosts.a, hosts.b]) {
    host.proxy.reset();
    Object.assign(host, { full: null, jumpMs: 0 });
  }
  vm = await guest.create(hosts.a.client);
  ({ uuid } = await hosts.a.client.call("getVm", { vm }));
});
afterEach(async () => {
  for (const host of [hosts.a, hosts.b]) {
    Object.assign(host, { full: null, jumpMs: 0 });
    host.proxy.reset();
    for (const { id } of await records(host)) await host.client.call("deleteVm", { vm: id });
  }
});

async function records(host: TestHost) {
  const { items } = await host.client.call("listVms", {}, undefined, { limit: "1000" });
  return items.filter((one) => one.uuid === uuid);
}

const statesOf = async (host: TestHost) => (await records(host)).map(({ state }) => state);

async function begin(parameters: Wanted["parameters"] = {}): Promise<string> {
  const asked = { vmId: vm, peer: "host-b", parameters: { verify: true, ...parameters } };
  return (await hosts.a.client.call("createMigration", {}, asked)).id;
}

/** The session at the source, once it is in a state. */
const inState = (state: string) =>
  until(async () => {
    const query = { vmId: vm, limit: "10" };
    const { items } = await hosts.a.client.call("listMigrations", {}, undefined, query);
    return items.find((one) => one.state === state) ?? null;
  }, state);

/** It runs at one host alone, whole, and a migration from there goes well. */
async function expectMoved(): Promise<void> {
  const [here, there] = [await ended(hosts.a, uuid), await ended(hosts.b, uuid)];
  expect([here.state, here.failure, here.point]).toEqual(["completed", null, "released"]);
  expect([there.state, there.point]).toEqual(["completed", "running"]);
  expect([await statesOf(hosts.a), await statesOf(hosts.b)]).toEqual([["migrated"], ["active"]]);
  const [arrived] = await records(hosts.b);
  expect(await guest.check(hosts.b.client, arrived?.id ?? "")).toEqual([]);
}

async function expectStays(failure: object): Promise<void> {
  const session = await ended(hosts.a, uuid);
  expect([session.state, session.failure]).toMatchObject(["failed", failure]);
  expect(await statesOf(hosts.a)).toEqual(["active"]);
  await until(async () => ((await statesOf(hosts.b)).length === 0 ? true : null), "gone there");
  expect(await guest.check(hosts.a.client, vm)).toEqual([]);
}

/** The target's session, which has ended and never ran it. */
async function expectGivenUp(): Promise<void> {
  const there = await ended(hosts.b, uuid);
  expect(["failed", "cancelled"]).toContain(there.state);
  expect(there.failure?.detail).not.toBe("");
}

/** Everything is in order again: the next one goes well. */
async function expectNextMoves(): Promise<void> {
  for (const host of [hosts.a, hosts.b]) host.proxy.reset();
  const id = await begin();
  const done = await until(async () => {
    const now = await hosts.a.client.call("getMigration", { migration: id });
    return now.endedAt === null ? null : now;
  }, "ended");
  expect([done.state, done.failure]).toEqual(["completed", null]);
}

function isCall({ path, method }: Asked, call: string): boolean {
  const end = call === "offer" ? "/v1/incoming-migrations" : call;
  return method === "POST" && path.replace(/\?.*/, "").endsWith(end);
}

describe("a full disk", () => {
  it("at the target, from the start: the offer is refused, and the VM stays", async () => {
    hosts.b.full = () => true;
    await begin();
    await expectStays({ side: "target", during: "setup" });
    expect((await ended(hosts.a, uuid)).failure?.detail).toContain("host-b");
    hosts.b.full = null;
    await expectNextMoves();
  });

  it(
    "at the target, when it should be ready: the VM goes on at the source",
    async () => {
      hosts.b.proxy.hop = async (asked, forward) => {
        if (isCall(asked, ":finish")) hosts.b.full = () => true;
        return forward(asked);
      };
      await begin();
      await expectStays({ side: "target", code: "journal-failed", during: "device" });
      hosts.b.full = null;
      await expectGivenUp();
      await expectNextMoves();
    },
    LONG_MS,
  );

  it(
    "at the source, when it should let go: it never does, and both say so",
    async () => {
      let isFull = false;
      hosts.a.full = (change) => {
        // Figures of the migration before are written when there is time.
        const now = change.kind === "put-migration" ? change.migration : null;
        isFull ||= now?.point === "released" && now.endedAt === null;
        return isFull;
      };
      await begin();
      // It runs again while its own disk is still full: the target's word is as good as a record.
      await expectGivenUp();
      await until(async () => ((await goesOn()) ? true : null), "runs again");
      hosts.a.full = null;
      await expectStays({ side: "source", during: "device" });
      await expectNextMoves();
    },
    LONG_MS,
  );

  it("at the source, before it begins: the request is refused, and the VM is free", async () => {
    hosts.a.full = () => true;
    await expect(begin()).rejects.toMatchObject({ status: 503 });
    hosts.a.full = null;
    expect((await hosts.a.client.call("getVm", { vm })).state).toBe("active");
    await expectNextMoves();
  });
});

/** Whether a vCPU of the VM at its source runs; the hold of a switchover ends a client's run. */
async function goesOn(): Promise<boolean> {
  const { client } = hosts.a;
  const at = { vm, n: "0" };
  const { state, retired } = await client.call("getVcpu", at);
  if (state === "idle") await client.call("createRun", at, {}).catch(() => {});
  await systemClock.sleep(200);
  return (await client.call("getVcpu", at)).retired > retired;
}

describe("a database that another process has locked", () => {
  for (const side of ["a", "b"] as const) {
    const who = side === "a" ? "source" : "target";
    it(
      `of the ${who}, for a moment: it takes longer, and moves`,
      async () => {
        hosts.b.proxy.hop = async (asked, forward) => {
          if (!isCall(asked, ":finish")) return forward(asked);
          const { ended: unlocked } = await lockDatabase(hosts[side].databaseFile, 300);
          const answered = await forward(asked);
          await unlocked;
          return answered;
        };
        await begin();
        await expectMoved();
      },
      LONG_MS,
    );
  }
});

describe("a network", () => {
  it(
    "that is slow moves the VM, too",
    async () => {
      const slow: Hop = async (asked, forward) => {
        await systemClock.sleep(400);
        const answered = await forward(asked);
        await systemClock.sleep(400);
        return answered;
      };
      hosts.a.proxy.hop = slow;
      hosts.b.proxy.hop = slow;
      await begin();
      await expectMoved();
    },
    LONG_MS,
  );

  it("that is cut in setup: the VM stays", async () => {
    hosts.b.proxy.hop = async () => null;
    await begin();
    await expectStays({ side: "wire", code: "peer-unreachable", during: "setup" });
    await expectNextMoves();
  });

  it(
    "that is cut after the offer was heard: the target learns that nobody comes",
    async () => {
      hosts.b.proxy.hop = async (asked, forward) => {
        await forward(asked);
        return null;
      };
      await begin();
      await expectStays({ side: "wire", code: "peer-unreachable", during: "setup" });
      hosts.b.proxy.reset();
      await expectNextMoves();
    },
    LONG_MS,
  );

  it(
    "that is cut in the rounds and comes back: it goes on where it was",
    async () => {
      hosts.b.proxy.hop = withPages;
      const id = await begin(SLOW);
      for (let cut = 0; cut < 5; cut++) {
        await inState("active");
        await systemClock.sleep(150);
        hosts.b.pages?.cut();
      }
      await lift(id);
      await expectMoved();
      expect(hosts.b.pages?.connections).toBeGreaterThan(3);
    },
    LONG_MS,
  );

  it(
    "that is cut in the rounds and stays so: the VM goes on here, and the target gives up",
    async () => {
      hosts.b.proxy.hop = withPages;
      await begin(SLOW);
      await inState("active");
      await systemClock.sleep(200);
      if (hosts.b.pages === null) throw new Error("no pages went");
      hosts.b.pages.budget = () => 0;
      hosts.b.pages.cut();
      hosts.b.proxy.hop = async () => null;
      const session = await ended(hosts.a, uuid);
      expect([session.state, session.failure?.side]).toEqual(["failed", "wire"]);
      expect(await goesOn()).toBe(true);
      hosts.b.proxy.reset();
      hosts.b.pages.budget = () => Number.POSITIVE_INFINITY;
      await expectGivenUp();
      expect(await statesOf(hosts.b)).toEqual([]);
      await expectNextMoves();
    },
    LONG_MS,
  );

  for (const isHeard of [true, false]) {
    const what = isHeard ? "its answer is lost" : "it isn't heard";
    it(
      `that is cut at the finish (${what}) for a moment: it moves`,
      async () => {
        let cuts = 0;
        hosts.b.proxy.hop = async (asked, forward) => {
          if (!isCall(asked, ":finish") || cuts >= 2) return forward(asked);
          cuts += 1;
          if (isHeard) await forward(asked);
          return null;
        };
        await begin();
        await expectMoved();
      },
      LONG_MS,
    );

    it(
      `that is cut from the finish on (${what}) until it was given up: the VM stays`,
      async () => {
        let isCut = false;
        hosts.b.proxy.hop = async (asked, forward) => {
          isCut ||= isCall(asked, ":finish");
          if (isCut && isHeard) await forward(asked);
          return isCut ? null : forward(asked);
        };
        hosts.a.proxy.hop = async (asked, forward) => (isCut ? null : forward(asked));
        await begin();
        const session = await ended(hosts.a, uuid);
        expect([session.state, session.failure?.side]).toEqual(["failed", "wire"]);
        expect(await goesOn()).toBe(true);
        for (const host of [hosts.a, hosts.b]) host.proxy.reset();
        isCut = false;
        await expectGivenUp();
        expect(await statesOf(hosts.b)).toEqual([]);
        await expectNextMoves();
      },
      LONG_MS,
    );
  }

  it(
    "that swallows the finish: the guest waits for 10 s, and goes on here",
    async () => {
      hosts.b.proxy.hop = (asked, forward) =>
        isCall(asked, ":finish") ? new Promise(() => {}) : forward(asked);
      // Digests of all memory may take longer.
      await begin({ verify: false });
      await expectStays({ side: "wire", code: "peer-unreachable", during: "device" });
      const { failure } = await ended(hosts.a, uuid);
      expect(failure?.detail).toContain("no answer within 10000 ms");
      await expectGivenUp();
    },
    LONG_MS,
  );

  it(
    "that is cut at the commit: it runs nowhere until the target has heard, then there",
    async () => {
      let [isCut, isOver] = [false, false];
      hosts.b.proxy.hop = async (asked, forward) => {
        isCut ||= isCall(asked, ":commit") && !isOver;
        return isCut ? null : forward(asked);
      };
      hosts.a.proxy.hop = async (asked, forward) => (isCut ? null : forward(asked));
      const id = await begin();
      await until(async () => {
        const { point } = await hosts.a.client.call("getMigration", { migration: id });
        return point === "released" ? true : null;
      }, "released");
      await systemClock.sleep(300);
      expect(await statesOf(hosts.a)).toEqual(["migrated"]);
      expect(await statesOf(hosts.b)).toEqual(["incoming"]);
      [isCut, isOver] = [false, true];
      await expectMoved();
    },
    LONG_MS,
  );

  it(
    "that loses the commit's answer, and the target forgets: that is said, and :resolve settles it",
    async () => {
      const { a, b } = hosts;
      let isLost = false;
      b.proxy.hop = async (asked, forward) => {
        const answered = isLost ? null : await forward(asked);
        isLost ||= isCall(asked, ":commit");
        return isLost ? null : answered;
      };
      const id = await begin();
      const there = await ended(b, uuid);
      expect([there.state, there.point]).toEqual(["completed", "running"]);
      await b.client.call("deleteMigration", { migration: there.id });
      b.proxy.reset();
      const told = await until(async () => {
        const now = await a.client.call("getMigration", { migration: id });
        return now.failure?.code === "session-forgotten" ? now : null;
      }, "said");
      expect([told.state, told.point]).toEqual(["device", "released"]);
      expect(told.failure).toMatchObject({ side: "target", causes: [expect.any(String)] });
      expect(told.stateReason).toContain(":resolve");
      const word = { runsOn: "target" as const, reason: "it runs at host-b" };
      await a.client.call("resolveMigration", { migration: id }, word);
      const settled = await ended(a, uuid);
      expect([settled.state, settled.resolution]).toMatchObject(["completed", word]);
      expect([await statesOf(a), await statesOf(b)]).toEqual([["migrated"], ["active"]]);
      const [arrived] = await records(b);
      expect(await guest.check(b.client, arrived?.id ?? "")).toEqual([]);
    },
    LONG_MS,
  );
});

describe("a dirty rate that is measured meanwhile", () => {
  it(
    "counts the guest's pages, and the migration loses none of them",
    async () => {
      const id = await begin(SLOW);
      await inState("active");
      const rates = [];
      for (const _ of [1, 2, 3]) {
        rates.push(await hosts.a.client.call("measureVmDirtyRate", { vm }, { periodMs: 300 }));
      }
      const during = await hosts.a.client.call("getMigration", { migration: id });
      expect(during.state).toBe("active");
      for (const { pages, pagesPerSecond, durationMs } of rates) {
        // All that its program ever stores to.
        expect([pages > 0, pages <= WINDOW_PAGES], `${pages} pages`).toEqual([true, true]);
        expect(pagesPerSecond).toBeCloseTo((pages * 1000) / durationMs, 3);
      }
      await lift(id);
      // Digests of all memory are equal at the hand-over: it verifies.
      await expectMoved();
      const { items } = await hosts.a.client.call("listMigrationRounds", { migration: id });
      const dirty = items.map(({ dirtyPagesPerSecond }) => dirtyPagesPerSecond);
      expect(Math.max(...dirty)).toBeGreaterThan(0);
      // What the measurement was told is not missing from the rounds.
      const found = items.slice(1).reduce((sum, { pagesDirty }) => sum + pagesDirty, 0);
      expect(found).toBeGreaterThanOrEqual(Math.max(...rates.map(({ pages }) => pages)));
    },
    LONG_MS,
  );
});

/** No limit from now on. */
async function lift(id: string): Promise<void> {
  const answer = await fetch(`${hosts.a.origin}/v1/migrations/${id}`, {
    method: "PATCH",
    headers: { "content-type": "application/merge-patch+json" },
    body: JSON.stringify({ bandwidthBytesPerSecond: 0 }),
  });
  expect([answer.status, await answer.text()]).toEqual([200, expect.anything()]);
}

const withPages: Hop = async (asked, forward) => {
  const answered = await forward(asked);
  return isCall(asked, "offer") ? throughPages(hosts.b, answered) : answered;
};

describe("requests", () => {
  it(
    "that come twice, at the same time, do what they do once",
    async () => {
      hosts.b.proxy.hop = async (asked, forward) => {
        const [, second] = await Promise.all([forward(asked), forward(asked)]);
        return second;
      };
      await begin();
      await expectMoved();
      const { items } = await hosts.b.client.call("listMigrations", {}, undefined, { limit: "99" });
      expect(items.filter(({ vmUuid }) => vmUuid === uuid)).toHaveLength(1);
    },
    LONG_MS,
  );

  it(
    "that come again after what followed them change nothing",
    async () => {
      hosts.b.proxy.hop = async (asked, forward) => {
        const before = [...hosts.b.proxy.asked].slice(0, -1);
        const answered = await forward(asked);
        for (const old of before) await forward(old);
        return answered;
      };
      await begin();
      await expectMoved();
      const asked = [...hosts.b.proxy.asked];
      // A commit that comes before everything else, and an abort that comes after it.
      for (const old of asked.reverse()) await hosts.b.proxy.forward(old);
      const commit = asked.find((one) => isCall(one, ":commit"));
      const path = commit?.path.replace(":commit", ":abort") ?? "";
      const headers = { "content-type": "application/json" };
      const body = Buffer.from(JSON.stringify({ why: "too late", unlessReady: false }));
      const late = await hosts.b.proxy.forward({ method: "POST", path, headers, body });
      expect(late.status).toBe(409);
      expect(JSON.parse(late.body.toString())).toMatchObject({ code: "session-running" });
      await expectMoved();
    },
    LONG_MS,
  );

  it("that commit before the target is ready are refused, and harm nothing", async () => {
    const early: number[] = [];
    hosts.b.proxy.hop = async (asked, forward) => {
      if (isCall(asked, ":finish")) {
        const path = asked.path.replace(/:finish.*/, ":commit");
        early.push((await forward({ ...asked, path, headers: {}, body: Buffer.alloc(0) })).status);
      }
      return forward(asked);
    };
    await begin();
    await expectMoved();
    expect(early).toEqual([409]);
  });
});

describe("a peer of another version", () => {
  it("with another passport is refused before anything stops", async () => {
    hosts.b.proxy.hop = changed((offer) => {
      offer.passport.version = 2;
    });
    await begin();
    await expectStays({ side: "target", code: "migration-version", during: "setup" });
  });

  it("with page streams that the target doesn't read is refused, too", async () => {
    hosts.b.proxy.hop = changed((offer) => {
      offer.passport.streams = [77];
    });
    await begin();
    await expectStays({ side: "target", code: "migration-version", during: "setup" });
    hosts.b.proxy.reset();
    await expectNextMoves();
  });

  it(
    "that answers an offer with what isn't one: the VM stays, and the target asks",
    async () => {
      hosts.b.proxy.hop = async (asked, forward) => {
        const answered = await forward(asked);
        return isCall(asked, "offer") ? { ...answered, body: Buffer.from("<html>") } : answered;
      };
      await begin();
      await expectStays({ side: "target", code: "peer-answer", during: "setup" });
      await expectNextMoves();
    },
    LONG_MS,
  );
});

interface Offered {
  readonly passport: { version: number; streams: number[] };
}

function changed(change: (offer: Offered) => void): Hop {
  return async (asked, forward) => {
    if (!isCall(asked, "offer")) return forward(asked);
    const offer = JSON.parse(asked.body.toString()) as Offered;
    change(offer);
    return forward({ ...asked, body: Buffer.from(JSON.stringify(offer)) });
  };
}

describe("a wall clock", () => {
  it(
    "that is set back and forth changes no limit and no figure",
    async () => {
      const id = await begin({ ...SLOW, timeoutMs: 600_000 });
      await inState("active");
      const day = 86_400_000;
      for (const jumpMs of [-day, day, -30 * day]) {
        hosts.a.jumpMs = jumpMs;
        hosts.b.jumpMs = -jumpMs;
        await systemClock.sleep(50);
      }
      await lift(id);
      await expectMoved();
      const { statistics, progress } = await hosts.a.client.call("getMigration", { migration: id });
      for (const ms of [statistics?.totalMs, statistics?.downtimeMs, statistics?.setupMs]) {
        expect(ms).toBeGreaterThan(0);
        expect(ms).toBeLessThan(LONG_MS);
      }
      expect(progress?.bytesPerSecond).toBeGreaterThanOrEqual(0);
    },
    LONG_MS,
  );
});
