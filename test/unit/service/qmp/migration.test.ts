// Goal: scripts for QEMU's migration do the same to ours: their names, units and errors.
// Method: a session over a VM whose migrations are told of; times by a clock that is moved by hand.
import { describe, expect, it } from "vitest";
import { DEFAULT_PARAMETERS, type Progress } from "../../../../src/migration/index.js";
import { EventTeller } from "../../../../src/service/qmp/events.js";
import type { VmNews } from "../../../../src/service/qmp/ports.js";
import { fakeFace, SESSION } from "../../../support/fake-qmp.js";

const generic = (desc: unknown) => ({ error: { class: "GenericError", desc } });
const has = (text: string) => generic(expect.stringContaining(text));
const OK = { return: {} };

const PROGRESS: Progress = {
  ...{ pagesSent: 100, pagesZero: 40, pagesDuplicate: 3, bytes: 420_000 },
  ...{ bytesTotal: 1_048_576, bytesRemaining: 65_536, round: 3, bytesPerSecond: 1_000_000 },
  ...{ dirtyPagesPerSecond: 12.4, throttlePercent: 30, predictedDowntimeMs: 81.6 },
  ...{ pagesRequested: 0, pagesPushed: 0 },
};

async function ready() {
  const world = fakeFace();
  const client = await world.session();
  await client.ask("qmp_capabilities");
  return { ...world, ...client };
}

describe("migrate", () => {
  it("goes to a peer by name, and to no address that a client says", async () => {
    const { vm, ask } = await ready();
    for (const uri of ["tcp:10.0.0.1:4444", "exec:touch x", "unix:x", "tidemark:", "beta"]) {
      expect(await ask("migrate", { uri }), uri).toEqual(has("tidemark:PEER"));
    }
    expect(await ask("migrate", { channels: [{ addr: {} }] })).toEqual(has("'channels'"));
    expect(await ask("migrate", { uri: "tidemark:beta", blk: true })).toEqual(has("Disks"));
    expect(await ask("migrate", { uri: "tidemark:gamma" })).toEqual(has("no peer gamma"));
    expect(vm.asked.filter(([name]) => name !== "start")).toEqual([]);
    expect(await ask("migrate", { uri: "tidemark:beta", detach: true })).toEqual(OK);
    expect(vm.asked.at(-1)?.slice(0, 2)).toEqual(["start", "beta"]);
    expect(await ask("migrate-incoming", { uri: "defer" })).toEqual(has("Nothing has to listen"));
  });

  it("takes what was set in QEMU's units", async () => {
    const { vm, ask } = await ready();
    const on = (...names: string[]) => ({
      capabilities: names.map((capability) => ({ capability, state: true })),
    });
    expect(await ask("migrate-set-capabilities", on("xbzrle", "compress"))).toEqual(
      has("not by both"),
    );
    expect(await ask("migrate-set-capabilities", on("rdma-pin-all"))).toEqual(has("rdma-pin-all"));
    const wanted = on("auto-converge", "pause-before-switchover", "multifd", "compress");
    expect(await ask("migrate-set-capabilities", wanted)).toEqual(OK);
    const listed = (await ask("query-migrate-capabilities"))["return"] as { state: boolean }[];
    expect(listed.filter(({ state }) => state)).toHaveLength(4);
    for (const [given, why] of [
      [{ "downtime-limit": 2_000_001 }, "milliseconds"],
      [{ "downtime-limit": -1 }, "milliseconds"],
      [{ "max-cpu-throttle": 0 }, "percent"],
      [{ "max-bandwidth": 1.5 }, "an integer"],
      [{ "multifd-channels": 9 }, "from 1 to 8"],
      [{ "tls-creds": "x" }, "unknown"],
      [{ "max-bandwidth": 5, "max-cpu-throttle": 100 }, "percent"],
    ] as const) {
      expect(await ask("migrate-set-parameters", given)).toEqual(has(why));
    }
    expect((await ask("query-migrate-parameters"))["return"]).toEqual({
      ...{ "max-postcopy-bandwidth": 0, "xbzrle-cache-size": 67_108_864 },
      ...{ "max-bandwidth": 0, "downtime-limit": 300, "multifd-channels": 2 },
      ...{ "cpu-throttle-initial": 20, "cpu-throttle-increment": 10, "max-cpu-throttle": 99 },
    });
    const given = { "max-bandwidth": 33_554_432, "downtime-limit": 50, "multifd-channels": 4 };
    expect(await ask("migrate-set-parameters", given)).toEqual(OK);
    await ask("migrate", { uri: "tidemark:beta" });
    expect(vm.asked.at(-1)?.[2]).toMatchObject({
      ...{ autoConverge: true, pauseBeforeSwitchover: true, compression: "deflate", channels: 4 },
      ...{ bandwidthBytesPerSecond: 33_554_432, downtimeMs: 50 },
    });
  });

  it("keeps a u64 as it is, and tells a session that runs of what changes", async () => {
    const { vm, ask, raw, lines } = await ready();
    await raw(
      '{"execute":"migrate-set-parameters","arguments":{"max-bandwidth":18446744073709551615}}',
    );
    await ask("query-migrate-parameters");
    expect(lines.at(-1)).toContain('"max-bandwidth": 18446744073709551615');
    expect(vm.asked).toEqual([]);
    vm.session = SESSION;
    await ask("migrate-set-parameters", { "max-bandwidth": 5, "multifd-channels": 3 });
    expect(vm.asked).toEqual([["adjust", { bandwidthBytesPerSecond: 5 }]]);
    vm.session = { ...SESSION, parameters: { ...DEFAULT_PARAMETERS, downtimeMs: 77 } };
    const shown = (await ask("query-migrate-parameters"))["return"];
    expect(shown, "as it really is").toMatchObject({ "downtime-limit": 77 });
    const late = await ask("migrate-set-capabilities", { capabilities: [] });
    expect(late).toEqual(has("under way"));
  });
});

describe("a migration under way", () => {
  it("is told in QEMU's figures", async () => {
    const { vm, ask, clock } = await ready();
    expect(await ask("query-migrate")).toEqual(OK);
    const parameters = { ...DEFAULT_PARAMETERS, autoConverge: true };
    vm.session = { ...SESSION, parameters, progress: PROGRESS, startedMs: 998_000 };
    clock.advance(500);
    const active = (await ask("query-migrate"))["return"];
    expect(active).toEqual({
      ...{ status: "active", "total-time": 2500, "expected-downtime": 82 },
      "cpu-throttle-percentage": 30,
      ram: {
        ...{ transferred: 420_000, remaining: 65_536, total: 1_048_576, duplicate: 40, skipped: 0 },
        ...{ normal: 100, "normal-bytes": 409_600, "dirty-pages-rate": 12, mbps: 8 },
        ...{ "dirty-sync-count": 3, "postcopy-requests": 0, "page-size": 4096 },
        ...{ "multifd-bytes": 0, "pages-per-second": 244, "precopy-bytes": 420_000 },
        ...{ "downtime-bytes": 0, "postcopy-bytes": 0, "dirty-sync-missed-zero-copy": 0 },
      },
    });
    const statistics = { setupMs: 12.4, totalMs: 2500, downtimeMs: 33.3 } as never;
    const ended = { progress: PROGRESS, statistics, startedMs: 998_000, endedMs: 1_000_000 };
    vm.session = { ...SESSION, ...ended, state: "completed", downtimeBytes: 20_000 };
    expect((await ask("query-migrate"))["return"]).toMatchObject({
      ...{ status: "completed", "total-time": 2000, downtime: 33, "setup-time": 12 },
      ram: { "downtime-bytes": 20_000, "precopy-bytes": 400_000 },
    });
    vm.session = { ...SESSION, state: "failed", failure: "The target has no room." };
    expect((await ask("query-migrate"))["return"]).toMatchObject({
      ...{ status: "failed", "error-desc": "The target has no room." },
    });
    vm.session = { ...SESSION, state: "queued" };
    expect((await ask("query-migrate"))["return"]).toMatchObject({ status: "setup" });
    vm.session = { ...SESSION, isOutgoing: false, progress: PROGRESS };
    expect((await ask("query-migrate"))["return"]).toEqual({ status: "active" });
  });

  it("is cancelled, continued, switched and recovered where that makes sense", async () => {
    const { vm, ask } = await ready();
    expect(await ask("migrate_cancel")).toEqual(OK);
    expect(await ask("migrate-continue", { state: "pre-switchover" })).toEqual(has("it is none"));
    expect(await ask("migrate-start-postcopy")).toEqual(has("postcopy-ram"));
    expect(await ask("migrate-pause")).toEqual(has("only in post-copy"));
    const again = { uri: "tidemark:beta", resume: true };
    expect(await ask("migrate", again)).toEqual(has("paused in post-copy"));
    expect(vm.asked).toEqual([]);
    const capabilities = [{ capability: "postcopy-ram", state: true }];
    await ask("migrate-set-capabilities", { capabilities });
    vm.session = { ...SESSION, state: "pre-switchover" };
    expect(await ask("migrate-continue", { state: "device" })).toEqual(has("pre-switchover"));
    expect(await ask("migrate-continue", { state: "pre-switchover" })).toEqual(OK);
    vm.session = SESSION;
    expect(await ask("migrate-start-postcopy")).toEqual(OK);
    vm.session = { ...SESSION, state: "postcopy-paused" };
    expect(await ask("migrate", again)).toEqual(OK);
    expect(await ask("migrate-recover", { uri: "tidemark:beta" })).toEqual(OK);
    expect(await ask("migrate_cancel")).toEqual(OK);
    expect(vm.asked.map(([name]) => name)).toEqual([
      ...["proceed", "startPostcopy", "recover", "recover", "cancel"],
    ]);
  });
});

describe("events", () => {
  const told = (news: readonly VmNews[], hasEvents = true) => {
    const teller = new EventTeller(true);
    return news
      .flatMap((one) => teller.of(one, hasEvents))
      .map(({ event, data }) => {
        const [value] = Object.values(data ?? {}).slice(-1);
        return value === undefined ? event : `${event} ${String(value)}`;
      });
  };
  const at = (state: string, isOutgoing = true) =>
    ({ kind: "migration", state, isOutgoing }) as VmNews;
  const round = (n: number, state = "active") => ({ kind: "round", round: n, state }) as VmNews;

  it("of a migration come in QEMU's order, and only to who wants them", () => {
    const whole: VmNews[] = [
      ...[at("queued"), at("setup"), at("active"), round(1), round(2), at("pre-switchover")],
      ...[at("active"), round(3), at("device"), { kind: "paused" } as const],
      ...[round(4, "device"), at("completed")],
    ];
    expect(told(whole)).toEqual([
      ...["MIGRATION setup", "MIGRATION active", "MIGRATION_PASS 1", "MIGRATION_PASS 2"],
      ...["MIGRATION_PASS 3", "MIGRATION pre-switchover", "MIGRATION active", "MIGRATION_PASS 4"],
      ...["MIGRATION device", "STOP", "MIGRATION completed"],
    ]);
    expect(told(whole, false)).toEqual(["STOP"]);
    expect(told([at("active", false), at("failed", false), at("setup"), at("setup")])).toEqual([
      ...["MIGRATION active", "MIGRATION failed", "MIGRATION setup"],
    ]);
  });

  it("of the VM are told once each, with who did it", () => {
    expect(
      told([
        ...([{ kind: "paused" }, { kind: "paused" }, { kind: "running" }] as const),
        ...([
          { kind: "reset", byGuest: true },
          { kind: "reset", byGuest: false },
        ] as const),
        ...([{ kind: "shutdown", byGuest: true }, { kind: "stopped" }] as const),
      ]),
    ).toEqual([
      ...["STOP", "RESUME", "RESET guest-reset", "RESET host-qmp-system-reset"],
      ...["SHUTDOWN guest-shutdown", "STOP", "SHUTDOWN host-signal"],
    ]);
  });
});

describe("dirty rate", () => {
  it("is measured in MiB a second, beside others", async () => {
    const { vm, ask, clock } = await ready();
    expect((await ask("query-dirty-rate"))["return"]).toEqual({
      ...{ status: "unstarted", "start-time": 0, "calc-time": 0, "sample-pages": 0 },
      mode: "dirty-bitmap",
    });
    expect(await ask("calc-dirty-rate", { "calc-time": 0 })).toEqual(has("1 to 60"));
    const sampled = { "calc-time": 1, "sample-pages": 512 };
    expect(await ask("calc-dirty-rate", sampled)).toEqual(has("counted"));
    expect(await ask("calc-dirty-rate", { "calc-time": 2, mode: "dirty-ring" })).toEqual(OK);
    expect(await ask("calc-dirty-rate", { "calc-time": 1 })).toEqual(has("under way"));
    expect((await ask("query-dirty-rate"))["return"]).toMatchObject({ status: "measuring" });
    await settled();
    vm.pages = [1024, 512];
    clock.advance(2000);
    await settled();
    expect((await ask("query-dirty-rate"))["return"]).toEqual({
      ...{ status: "measured", "dirty-rate": 3, "start-time": 1000, "calc-time": 2 },
      ...{ "sample-pages": 0, mode: "dirty-ring" },
      "vcpu-dirty-rate": [
        { id: 0, "dirty-rate": 2 },
        { id: 1, "dirty-rate": 1 },
      ],
    });
    const consumer = "vms/vm_1/qmp#dirty-rate";
    expect(vm.asked).toEqual([
      ...[
        ["begin", consumer, "ring"],
        ["harvest", consumer],
        ["end", consumer],
      ],
    ]);
    vm.refusal = new Error("no rings");
    expect(await ask("calc-dirty-rate", { "calc-time": 1 })).toMatchObject({ error: {} });
    await settled();
    expect((await ask("query-dirty-rate"))["return"]).toMatchObject({ status: "measured" });
  });

  it("gives the log back when the socket goes", async () => {
    const { vm, ask, face } = await ready();
    await ask("calc-dirty-rate", { "calc-time": 60 });
    await settled();
    await face.dirtyRate.close();
    expect(vm.asked.map(([name]) => name)).toEqual(["begin", "end"]);
  });
});

describe("dirty limit", () => {
  it("is one for all vCPUs, in MiB a second, kept up by a harvest each second", async () => {
    const { vm, ask, clock } = await ready();
    const of = (index: number) => ({ "cpu-index": index, "dirty-rate": 2 });
    expect(await ask("set-vcpu-dirty-limit", of(7))).toEqual(has("no vCPU 7"));
    expect(await ask("set-vcpu-dirty-limit", of(1))).toEqual(has("all vCPUs"));
    expect((await ask("query-vcpu-dirty-limit"))["return"]).toEqual([]);
    expect(await ask("set-vcpu-dirty-limit", { "dirty-rate": 2 })).toEqual(OK);
    vm.pages = [768, 256];
    clock.advance(1000);
    await settled();
    expect((await ask("query-vcpu-dirty-limit"))["return"]).toEqual([
      { "cpu-index": 0, "limit-rate": 2, "current-rate": 3 },
      { "cpu-index": 1, "limit-rate": 2, "current-rate": 1 },
    ]);
    clock.advance(1000);
    await settled();
    await ask("set-vcpu-dirty-limit", { "dirty-rate": 4 });
    expect(await ask("cancel-vcpu-dirty-limit")).toEqual(OK);
    clock.advance(5000);
    await settled();
    const consumer = "vms/vm_1/qmp#dirty-limit";
    expect(vm.asked).toEqual([
      ...[
        ["begin", consumer, null],
        ["limit", 512],
        ["harvest", consumer],
      ],
      ...[
        ["harvest", consumer],
        ["begin", consumer, null],
        ["limit", 1024],
      ],
      ...[
        ["limit", 0],
        ["end", consumer],
      ],
    ]);
    expect((await ask("query-vcpu-dirty-limit"))["return"]).toEqual([]);
  });
});

/** What promises alone can do has been done. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}
