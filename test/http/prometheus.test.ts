// Goal: Prometheus reads /metrics without a complaint, and the example's rules raise what they say.
// Method: Debian's promtool and Prometheus against two real hosts, with the example's own files.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { missing, program, programVersion } from "../../tools/debian.mjs";
import { guestImage } from "../support/board.js";
import { freePort, ROOT } from "../support/real-service.js";
import { type Json, TwoHosts, until as untilWithin } from "../support/two-hosts.js";

const EXAMPLE = join(ROOT, "examples/prometheus");
const LONG_MS = 180_000;
const WAIT_MS = 90_000;
const isThere = programVersion("promtool") !== null && programVersion("prometheus") !== null;
const WHY = missing("promtool");

/** @returns what promtool printed @throws Error with it when promtool has a complaint */
function promtool(folder: string, args: readonly string[], input = ""): string {
  const options = { cwd: folder, encoding: "utf8", input } as const;
  const { status, stdout, stderr } = spawnSync(program("promtool"), args, options);
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
  return `${stdout}${stderr}`;
}

let hosts: TwoHosts;
/** A copy of the example. */
let folder: string;
beforeAll(async () => {
  hosts = await TwoHosts.start("prometheus");
  folder = join(hosts.folder, "example");
  cpSync(EXAMPLE, folder, { recursive: true });
  cpSync(hosts.tokenFile, join(folder, "token"));
}, LONG_MS);
afterAll(() => hosts.stop());

const until = <T>(look: () => Promise<T | null>, what: string): Promise<T> =>
  untilWithin(look, what, WAIT_MS);

async function boot(): Promise<string> {
  const vm = await hosts.boot("host-a", "hello", guestImage("hello"), { memoryMiB: 8 });
  return vm.split("/").at(-1) ?? "";
}

const move = async (vmId: string, peer: string): Promise<string> =>
  (await hosts.move("host-a", vmId, { peer })).state;

const metricsOf = async (): Promise<string> => (await hosts.call("host-a", "GET", "/metrics")).text;

/** Series of ours that a text names; histograms by their own name. */
function seriesIn(text: string): ReadonlySet<string> {
  const names = text.match(/\btidemark_[a-z_]+/g) ?? [];
  return new Set(names.map((name) => name.replace(/_(bucket|sum|count)$/, "")));
}

describe("/metrics", () => {
  it(
    "tells of migrations and snapshots, their blackouts too",
    async () => {
      const vmId = await boot();
      const taken = await hosts.call("host-a", "POST", `/v1/vms/${vmId}/snapshots`, {});
      expect(taken.status).toBe(202);
      await until(async () => {
        const text = await metricsOf();
        return text.includes('tidemark_snapshots_ended_total{state="completed"} 1') || null;
      }, "the snapshot is complete");
      expect(await metricsOf()).toContain("tidemark_snapshot_blackout_seconds_count 1");
      expect(await move(vmId, "host-b")).toBe("completed");
      const text = await metricsOf();
      for (const line of [
        'tidemark_vms{state="active"} 0',
        'tidemark_vms{state="migrated"} 1',
        'tidemark_migrations_ended_total{direction="outgoing",state="completed"} 1',
        'tidemark_migrations_ended_total{direction="outgoing",state="failed"} 0',
        "tidemark_migration_blackout_seconds_count 1",
        "tidemark_migration_duration_seconds_count 1",
        "tidemark_migrations_not_converging 0",
        "tidemark_migration_remaining_bytes 0",
        'tidemark_ready_check{check="store"} 1',
      ]) {
        expect(text.split("\n")).toContain(line);
      }
      expect(text).toMatch(/^tidemark_migration_bytes_total [1-9]/m);
      expect(text).toMatch(/^tidemark_migration_rounds_total [1-9]/m);
      expect(text).toMatch(/^tidemark_migration_pages_total\{kind="full"\} [1-9]/m);
      const sum = /^tidemark_migration_blackout_seconds_sum (\S+)$/m.exec(text)?.[1];
      expect(Number(sum)).toBeGreaterThan(0);
    },
    LONG_MS,
  );

  it("has every series that the example's rules ask for", async () => {
    const rules = readFileSync(join(EXAMPLE, "rules.yml"), "utf8");
    const asked = [...seriesIn(rules.replace(/instance:tidemark_\w+:\w+/g, ""))];
    expect(asked.length).toBeGreaterThan(8);
    const told = new Set([...(await metricsOf()).matchAll(/^# TYPE (\S+) /gm)].map(([, n]) => n));
    expect(asked.filter((name) => !told.has(name))).toEqual([]);
  });

  it("has no name that promtool complains of", async (context) => {
    if (!isThere) context.skip(WHY);
    expect(promtool(folder, ["check", "metrics"], await metricsOf())).toBe("");
    const wrong =
      "# HELP tidemark_time_ms A time.\n# TYPE tidemark_time_ms gauge\ntidemark_time_ms 1\n";
    expect(() => promtool(folder, ["check", "metrics"], wrong)).toThrow("tidemark_time_ms");
  });
});

describe("examples/prometheus", () => {
  it("is a configuration, and rules that pass their tests", (context) => {
    if (!isThere) context.skip(WHY);
    expect(promtool(folder, ["check", "config", "prometheus.yml"])).toMatch(/\d+ rules found/);
    promtool(folder, ["check", "rules", "--lint-fatal", "rules.yml"]);
    expect(promtool(folder, ["test", "rules", "rules.test.yml"])).toContain("SUCCESS");
  });

  it.for([
    ["a host that is up", "== 0\n        for: 1m", "== 1\n        for: 1m"],
    ["another state", 'tidemark_vms{state="lost"}', 'tidemark_vms{state="stopped"}'],
    ["cancelled ones, too", 'state="failed"}[15m]', 'state=~"failed|cancelled"}[15m]'],
    ["too late", "for: 2m", "for: 3m"],
    ["too early", "for: 5m", "for: 4m"],
    ["another check", 'check="store"', 'check="accepting"'],
    ["a little more memory", "> 0.9", "> 0.95"],
    ["a little less memory", "> 0.9", ">= 0.5"],
    ["another end", 'ended_total{state="failed"}[1h]', 'ended_total{state="cancelled"}[1h]'],
    ["not the errors", 'status=~"5.."', 'status=~"2.."'],
  ])("its tests notice in the rules: %s", ([, from = "", to = ""], context) => {
    if (!isThere) context.skip(WHY);
    const rules = readFileSync(join(folder, "rules.yml"), "utf8");
    expect(rules).toContain(from);
    const planted = join(hosts.folder, "planted");
    cpSync(folder, planted, { recursive: true });
    writeFileSync(join(planted, "rules.yml"), rules.replace(from, to));
    expect(() => promtool(planted, ["test", "rules", "rules.test.yml"])).toThrow("FAILED");
  });
});

/** Prometheus on the example's files, but every second, and on the test's two hosts. */
async function startPrometheus() {
  const config = readFileSync(join(folder, "prometheus.yml"), "utf8");
  const quick = config
    .replace("127.0.0.1:8081", `127.0.0.1:${hosts.port("host-a")}`)
    .replace("127.0.0.1:8082", `127.0.0.1:${hosts.port("host-b")}`)
    .replaceAll("15s", "1s");
  writeFileSync(join(folder, "quick.yml"), quick);
  const address = `127.0.0.1:${await freePort()}`;
  const args = [
    `--config.file=${join(folder, "quick.yml")}`,
    `--storage.tsdb.path=${join(hosts.folder, "tsdb")}`,
    `--web.listen-address=${address}`,
  ];
  const child = spawn(program("prometheus"), args, { stdio: "ignore" });
  const ask = async (path: string): Promise<Json> => {
    const answer = await fetch(`http://${address}/api/v1/${path}`).catch(() => null);
    return answer?.ok === true ? ((await answer.json()) as { data: Json }).data : {};
  };
  return { child, ask };
}

function end(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once("close", () => resolve());
    child.kill("SIGTERM");
  });
}

describe("Prometheus", () => {
  it(
    "scrapes both hosts, and raises alerts for a failed migration and a lost VM",
    async (context) => {
      if (!isThere) context.skip(WHY);
      const { child, ask } = await startPrometheus();
      try {
        const values = async (query: string) => {
          const { result = [] } = await ask(`query?query=${encodeURIComponent(query)}`);
          return (result as { value: [number, string] }[]).map(({ value }) => value[1]);
        };
        const alerts = async (): Promise<string[]> => {
          const { alerts = [] } = await ask("alerts");
          return (alerts as { labels: Record<string, string>; state: string }[]).map(
            ({ labels, state }) => `${labels["alertname"]} ${state} ${labels["instance"]}`,
          );
        };
        const is = (what: string) =>
          until(async () => (await alerts()).includes(what) || null, what);
        const [a, b] = [`127.0.0.1:${hosts.port("host-a")}`, `127.0.0.1:${hosts.port("host-b")}`];
        const both = async () => (await values('up{job="tidemark"} == 1')).length === 2 || null;
        await until(both, "both are up");
        const used = "instance:tidemark_memory_used:ratio";
        await until(async () => (await values(used)).length === 2 || null, "rules are evaluated");
        expect((await alerts()).filter((one) => one.includes("HostDown"))).toEqual([]);

        const vmId = await boot();
        await hosts.crash("host-b");
        expect(await move(vmId, "host-b")).toBe("failed");
        await is(`TidemarkMigrationFailed firing ${a}`);
        await is(`TidemarkHostDown pending ${b}`);
        await hosts.start("host-b");
        await until(both, "both are up again");

        await hosts.crash("host-a");
        await hosts.start("host-a");
        const isLost = `TidemarkVmLost firing ${a}`;
        await is(isLost);
        expect((await hosts.call("host-a", "DELETE", `/v1/vms/${vmId}`)).status).toBe(204);
        const isQuiet = async () => !(await alerts()).includes(isLost) || null;
        await until(isQuiet, "it is settled");
      } finally {
        await end(child);
      }
    },
    LONG_MS,
  );
});
