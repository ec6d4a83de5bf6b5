// Goal: experiments through the whole service: real VMs, truthful rows, CSV, picture, cancel,
// deletion, and what a service that ends leaves behind.
// Method: the compiled service as a process of its own; small workloads.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestImage } from "../support/board.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

type Json = Record<string, unknown>;
interface Row extends Json {
  readonly phase: string;
  readonly round: number;
  readonly dirtied: number;
  readonly reported: number;
  readonly exits: Readonly<Record<string, number>>;
  readonly cycles: { readonly guestStall: number; readonly byEvent: Record<string, number> };
  readonly formula: { readonly expected: number; readonly counted: number } | null;
}
interface Results extends Json {
  readonly strategies: readonly {
    readonly strategy: { readonly name: string };
    readonly state: string;
    readonly error: string | null;
    readonly rows: readonly Row[];
  }[];
}

const ROOT = "/v1/experiments";
const PAGES = 256;
const WORKLOAD = {
  ...{ vcpus: 2, bytesPerVcpu: PAGES * 4096, pattern: "sequential" },
  ...{ storesPerRound: PAGES, rounds: 2 },
};
/** Long enough to be caught running. */
const LONG = { ...WORKLOAD, storesPerRound: 4_000_000, rounds: 100 };

let service: RealService;
let dataDir: { path: string; remove(): Promise<void> };

beforeAll(async () => {
  dataDir = await temporary("experiments");
  service = await startReal({ dataDir: dataDir.path });
});
afterAll(async () => {
  await service.stop();
  await dataDir.remove();
});

async function send(method: string, path: string, body?: unknown, accept = "*/*") {
  return fetch(`${service.origin}${path}`, {
    method,
    headers: { accept, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

async function read(path: string): Promise<Json> {
  return (await (await send("GET", path)).json()) as Json;
}

async function create(workload: object, strategies: readonly object[]): Promise<string> {
  const answer = await send("POST", ROOT, { name: "a test", workload, strategies });
  expect([answer.status, (await answer.json()) as Json]).toMatchObject([202, { state: "queued" }]);
  return String(answer.headers.get("location"));
}

async function until(path: string, ...states: readonly string[]): Promise<Json> {
  for (;;) {
    const job = await read(path);
    if (states.includes(String(job["state"]))) return job;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const ended = (path: string) => until(path, "done", "failed", "cancelled", "lost");

async function resultsOf(path: string): Promise<Results> {
  return (await read(`${path}/results`)) as Results;
}

describe("an experiment", () => {
  let path = "";
  let results: Results;
  beforeAll(async () => {
    path = await create(WORKLOAD, [
      { tracking: "write-protect" },
      { tracking: "dbm" },
      { tracking: "dirty-ring", ringEntries: 256 },
      { tracking: "write-protect", name: "cheap faults", settings: {} },
    ]);
    expect(await ended(path)).toMatchObject({
      state: "done",
      progress: { done: 20, total: 20, strategy: null },
      spec: { workload: { backing: "unbacked", manualProtect: 1 } },
    });
    results = await resultsOf(path);
  });

  const rounds = (at: number) =>
    (results.strategies[at]?.rows ?? []).filter(({ phase }) => phase === "round");

  it("tells what was stored, and that every log told the same", () => {
    for (const at of [0, 1, 2, 3]) {
      for (const { dirtied, reported, lost, late } of rounds(at)) {
        expect([dirtied, reported, lost, late]).toEqual([2 * PAGES, 2 * PAGES, 0, 0]);
      }
      expect(results.strategies[at]?.rows.map(({ phase }) => phase)).toEqual([
        ...["populate", "enable", "round", "round", "final"],
      ]);
    }
  });

  it("counts a fault per page under write protection and none under DBM", () => {
    expect(rounds(0).map(({ exits }) => exits["writeFault"])).toEqual([2 * PAGES, 2 * PAGES]);
    expect(rounds(1).map(({ exits }) => exits["writeFault"])).toEqual([0, 0]);
    // 6000 × 1.15 a page, for two vCPUs
    expect(rounds(0)[0]?.cycles.byEvent["s2WpFault"]).toBeCloseTo(2 * PAGES * 6900, 3);
  });

  it("leaves for full rings, and loses nothing by it", () => {
    // 64 of 256 entries are kept back: each vCPU leaves once on its way through 256 pages.
    expect(rounds(2).map(({ exits }) => exits["ringFull"])).toEqual([2, 2]);
  });

  it("agrees with the formula of write protection", () => {
    for (const { formula } of rounds(0)) {
      expect(formula?.counted).toBeCloseTo(formula?.expected ?? 0, 3);
    }
  });

  it("gives the same counts again", async () => {
    const again = await create(WORKLOAD, [{ tracking: "write-protect" }]);
    await ended(again);
    const strip = (rows: readonly Row[] = []) =>
      rows.map((row) => ({ ...row, runMs: 0, ioctlMs: 0 }));
    const [first] = (await resultsOf(again)).strategies;
    expect(strip(first?.rows)).toEqual(strip(results.strategies[0]?.rows));
  });

  it("is CSV by Accept or by name: a line per row", async () => {
    const asked = await send("GET", `${path}/results`, undefined, "text/csv");
    const named = await send("GET", `${path}/results.csv`);
    expect([asked.headers.get("content-type"), named.headers.get("content-disposition")]).toEqual([
      expect.stringContaining("text/csv"),
      `attachment; filename="${path.split("/").at(-1)}.csv"`,
    ]);
    const text = await asked.text();
    expect(await named.text()).toBe(text);
    const lines = text.trimEnd().split("\r\n");
    expect(lines).toHaveLength(1 + 4 * 5);
    const columns = lines[0]?.split(",").length;
    expect(lines.every((line) => line.split(",").length === columns)).toBe(true);
    expect(lines[3]).toMatch(/^write-protect,round,1,512,512,0,0,0,/);
  });

  it.each(["cycles", "per-page", "exits", "pages", "wall"])(
    "has a picture of %s",
    async (metric) => {
      const answer = await send("GET", `${path}/chart.svg?metric=${metric}`);
      expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "image/svg+xml"]);
      const svg = await answer.text();
      expect(svg.startsWith("<svg")).toBe(true);
      for (const word of ["a test", "write-protect", "DBM + scan", "cheap faults"]) {
        expect(svg).toContain(word);
      }
    },
  );

  it("takes other costs than the table's", async () => {
    const body = { workload: WORKLOAD, strategies: [{ tracking: "write-protect" }] };
    const costModel = { s2WpFault: 1000, s2WpFaultContention: 0 };
    const made = await send("POST", ROOT, { ...body, costModel });
    const own = String(made.headers.get("location"));
    await ended(own);
    const row = (await resultsOf(own)).strategies[0]?.rows[2];
    expect(row?.cycles.byEvent["s2WpFault"]).toBe(2 * PAGES * 1000);
  });

  it("is in the list, and gone once it is deleted", async () => {
    const items = async () => (await read(ROOT))["items"] as Json[];
    const id = path.split("/").at(-1);
    expect((await items()).map((item) => item["id"])).toContain(id);
    expect((await send("DELETE", path)).status).toBe(204);
    expect((await items()).map((item) => item["id"])).not.toContain(id);
    expect((await send("GET", `${path}/results`)).status).toBe(404);
  });
});

describe("a strategy that KVM refuses", () => {
  it("fails alone and says why", async () => {
    const path = await create({ ...WORKLOAD, splitChunk: 12_288 }, [
      { tracking: "write-protect", name: "refused" },
      { tracking: "write-protect", name: "taken", splitChunk: 4096 },
    ]);
    expect(await ended(path)).toMatchObject({
      state: "done",
      stateReason: expect.stringMatching(/^1 of 2/),
    });
    const { strategies } = await resultsOf(path);
    expect(strategies.map(({ state }) => state)).toEqual(["failed", "done"]);
    expect(strategies[0]?.error).toContain("args[0] must be 0 or one of");
  });
});

describe("a guest image", () => {
  const IMAGE = {
    ...{ kind: "image", image: "stores", memoryMiB: 64, vcpus: 2, rounds: 3 },
    ...{ warmUpInstructions: 100_000, instructionsPerRound: 300_000 },
  };
  const hdbss = { tracking: "hdbss", settings: { "hdbss.dbm": "all-writable-from-start" } };
  let own = "";
  const roundsOf = ({ rows }: Results["strategies"][number]) =>
    rows.filter(({ phase }) => phase === "round");

  beforeAll(async () => {
    const headers = { "content-type": "application/octet-stream" };
    const put = { method: "PUT", headers, body: Buffer.from(guestImage("stores")) };
    expect((await fetch(`${service.origin}/v1/images/stores`, put)).status).toBe(201);
  });

  it("is tracked in every way, and no page that it changed is lost", async () => {
    own = await create(IMAGE, [
      { tracking: "write-protect" },
      { tracking: "dbm" },
      { tracking: "dirty-ring", ringEntries: 256 },
      hdbss,
      { ...hdbss, clean: "hacdbs" },
    ]);
    expect(await ended(own)).toMatchObject({
      state: "done",
      stateReason: null,
      spec: { workload: { kind: "image", image: { name: "stores", size: 184 }, cmdline: "" } },
    });
    const { strategies } = await resultsOf(own);
    expect(strategies.map(({ state }) => state)).toEqual(new Array(5).fill("done"));
    for (const { rows } of strategies) {
      expect(rows.map(({ phase }) => phase)).toEqual([
        ...["populate", "enable", "round", "round", "round", "final"],
      ]);
      expect(rows.map((row) => [row["lost"], row["late"]])).toEqual(new Array(6).fill([0, 0]));
    }
    for (const { dirtied, reported } of strategies.flatMap(roundsOf)) {
      expect(dirtied).toBeGreaterThan(1000);
      // Four windows of 1024 pages would be twice as many: two cores have one each.
      expect(dirtied).toBeLessThanOrEqual(2048);
      expect(reported).toBeGreaterThanOrEqual(dirtied);
    }
    const [software, , ring, buffers, cleaned] = strategies;
    const sum = (of: (row: Row) => number, rows: readonly Row[]) =>
      rows.reduce((total, row) => total + of(row), 0);
    // Blocks are mapped anew, as pages.
    const faults = ({ exits }: Row) => Number(exits["writeFault"]) + Number(exits["mapFault"]);
    for (const row of roundsOf(software as never)) {
      expect(faults(row)).toBeGreaterThanOrEqual(row.dirtied);
    }
    expect(sum((row) => Number(row.exits["ringFull"]), roundsOf(ring as never))).toBeGreaterThan(0);
    expect(sum(faults, roundsOf(buffers as never).slice(1))).toBe(0);
    expect(sum((row) => Number(row["batches"]), roundsOf(cleaned as never))).toBeGreaterThan(0);
  });

  it("takes an initrd and an interrupt controller, for each strategy anew", async () => {
    const board = { initrd: "stores", gic: 3 };
    const strategies = [{ tracking: "write-protect" }, { tracking: "dbm" }];
    const path = await create({ ...IMAGE, ...board, rounds: 1 }, strategies);
    expect(await ended(path)).toMatchObject({
      state: "done",
      stateReason: null,
      spec: { workload: { initrd: { name: "stores", size: 184 }, gic: 3 } },
    });
    const { workload } = await resultsOf(path);
    expect(workload).toMatchObject({ image: { name: "stores" }, initrd: { name: "stores" } });
  });

  it("does the same again", async () => {
    const again = await create(IMAGE, [{ tracking: "dirty-ring", ringEntries: 256 }]);
    await ended(again);
    const strip = (rows: readonly Row[] = []) =>
      rows.map((row) => ({ ...row, runMs: 0, ioctlMs: 0 }));
    const [first] = (await resultsOf(again)).strategies;
    expect(strip(first?.rows)).toEqual(strip((await resultsOf(own)).strategies[2]?.rows));
  });

  it("loses pages with a drain that waits for no entry, and only then", async () => {
    const weak = { ...hdbss.settings, "hardware.weakHdbssOrdering": true };
    const path = await create(IMAGE, [
      { ...hdbss, settings: weak, name: "right" },
      { ...hdbss, settings: weak, seedBugs: ["B12"], name: "wrong" },
    ]);
    await ended(path);
    const lost = (await resultsOf(path)).strategies.map(({ rows }) =>
      rows.reduce((total, row) => total + Number(row["lost"]), 0),
    );
    expect(lost[0]).toBe(0);
    expect(lost[1]).toBeGreaterThan(0);
  });

  it("has a picture that names it", async () => {
    expect(await (await send("GET", `${own}/chart.svg`)).text()).toContain("stores, 2 vCPUs");
  });

  it("is refused where it isn't there, and kept while it is in use", async () => {
    const strategies = [{ tracking: "dbm" }];
    for (const lacking of [{ image: "none" }, { initrd: "none" }]) {
      const none = await send("POST", ROOT, { workload: { ...IMAGE, ...lacking }, strategies });
      expect([none.status, ((await none.json()) as Json)["code"]]).toEqual([422, "image-unknown"]);
    }
    const long = await create({ ...IMAGE, instructionsPerRound: 2 ** 30 }, strategies);
    await until(long, "running");
    expect((await send("DELETE", "/v1/images/stores")).status).toBe(409);
    await send("POST", `${long}:cancel`);
    expect((await send("DELETE", "/v1/images/stores")).status).toBe(204);
  });
});

describe("refusals", () => {
  it.each([
    ["no strategy", { workload: WORKLOAD, strategies: [] }],
    [
      "an unknown setting",
      { workload: WORKLOAD, strategies: [{ tracking: "dbm", settings: { "a.b": 1 } }] },
    ],
    ["an unknown field", { workload: { ...WORKLOAD, x: 1 }, strategies: [{ tracking: "dbm" }] }],
    [
      "half a page",
      { workload: { ...WORKLOAD, bytesPerVcpu: 6000 }, strategies: [{ tracking: "dbm" }] },
    ],
  ])("%s", async (_what, body) => {
    const answer = await send("POST", ROOT, body);
    expect([answer.status, ((await answer.json()) as Json)["code"]]).toEqual([400, "validation"]);
  });

  it("an unknown experiment", async () => {
    for (const rest of ["", "/results", "/results.csv", "/chart.svg"]) {
      const answer = await send("GET", `${ROOT}/exp_none${rest}`);
      const { code } = (await answer.json()) as Json;
      expect([answer.status, code]).toEqual([404, "experiment-not-found"]);
    }
  });
});

describe("a long experiment", () => {
  it("ends when it is cancelled, and one that waits never begins", async () => {
    const long = await create(LONG, [{ tracking: "write-protect" }]);
    const waiting = await create(LONG, [{ tracking: "dbm" }]);
    await until(long, "running");
    const cancel = async (path: string) => (await send("POST", `${path}:cancel`)).json();
    expect(await cancel(waiting)).toMatchObject({ state: "cancelled", startedAt: null });
    expect(await cancel(long)).toMatchObject({ state: "cancelled" });
    expect(await cancel(long)).toMatchObject({ state: "cancelled" });
    expect((await resultsOf(long)).strategies[0]?.state).toBe("cancelled");
    const next = await create(WORKLOAD, [{ tracking: "dbm" }]);
    expect(await ended(next)).toMatchObject({ state: "done" });
  });

  it("is lost with a service that is killed; what was done is kept", async () => {
    const done = await create(WORKLOAD, [{ tracking: "dbm" }]);
    await ended(done);
    const before = await resultsOf(done);
    const long = await create(LONG, [{ tracking: "write-protect" }]);
    await until(long, "running");
    await service.crash();
    service = await startReal({ dataDir: dataDir.path });
    expect(await read(long)).toMatchObject({ state: "lost" });
    expect((await send("GET", `${long}/results`)).status).toBe(409);
    expect(await resultsOf(done)).toEqual(before);
  });

  it("does not keep a service from ending", async () => {
    const long = await create(LONG, [{ tracking: "write-protect" }]);
    await until(long, "running");
    expect(await service.stop()).toBe(0);
    service = await startReal({ dataDir: dataDir.path });
    expect(await read(long)).toMatchObject({ state: "lost" });
  });
});

describe("an experiment on interrupts", () => {
  const workload = { kind: "interrupts", spis: 4, interruptsPerRound: 40, rounds: 2 };
  const strategies = [{ gic: 3 }, { gic: 5 }, { gic: 5, spiTracking: "none" }];

  it("has a row per round, as JSON, CSV and picture", async () => {
    const path = await create(workload, strategies);
    expect(await ended(path)).toMatchObject({
      state: "done",
      progress: { done: 6, total: 6 },
      spec: { workload: { ...workload, trigger: "level", vcpus: 1 } },
    });
    const { strategies: found } = await read(`${path}/results`);
    const rows = found as { strategy: { name: string }; rows: Json[] }[];
    expect(rows.map(({ strategy, rows }) => [strategy.name, rows.length])).toEqual([
      ["GICv3", 2],
      ["GICv5 exact", 2],
      ["GICv5 none", 2],
    ]);
    expect(rows[1]?.rows[1]).toMatchObject({ round: 2, raised: 40, roundTrips: 40, acks: 40 });
    const text = await (await send("GET", `${path}/results.csv`)).text();
    const lines = text.trimEnd().split("\r\n");
    expect([lines.length, lines[0]?.split(",").slice(0, 3)]).toEqual([
      ...[7, ["strategy", "round", "raised"]],
    ]);
    for (const metric of ["cycles", "per-page", "exits", "pages", "wall"]) {
      const picture = await send("GET", `${path}/chart.svg?metric=${metric}`);
      expect([picture.status, await picture.text()]).toEqual([200, expect.stringMatching(/^<svg/)]);
    }
  }, 120_000);

  it.each([
    ["ways to track stores", workload, [{ tracking: "dbm" }], "/strategies/0"],
    ["a controller for stores", WORKLOAD, [{ gic: 5 }], "/strategies/0"],
  ])("is refused with %s", async (_what, asked, given, pointer) => {
    const answer = await send("POST", ROOT, { workload: asked, strategies: given });
    const problem = (await answer.json()) as Json;
    expect([answer.status, problem["errors"]]).toEqual([
      400,
      [expect.objectContaining({ pointer })],
    ]);
  });
});
