// Goal: a script written for QEMU's migration moves a VM of ours, and reads how it went.
// Method: two compiled services that have each other in their lists; a QMP socket at either side.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestImage } from "../support/board.js";
import { type Message, QmpClient } from "../support/qmp-client.js";
import { type Name, TwoHosts, until } from "../support/two-hosts.js";

let hosts: TwoHosts;
beforeAll(async () => {
  hosts = await TwoHosts.start("qmp-move", { QMP: "on" });
});
afterAll(() => hosts.stop());

/** A guest that waits at its console. @returns its id */
async function boot(name: string): Promise<string> {
  await hosts.ok("host-a", "PUT", "/v1/images/hello", guestImage("hello"));
  const board = { image: "hello", memoryMiB: 16 };
  return String((await hosts.ok("host-a", "POST", "/v1/vms", { name, board }))["id"]);
}

async function open(host: Name, vm: string): Promise<QmpClient> {
  const { path } = await hosts.ok(host, "POST", `/v1/vms/${vm}/qmp`, { listen: "unix" });
  return QmpClient.open({ path: String(path) });
}

const migration = async (client: QmpClient) => (await client.done("query-migrate")) as Message;

const reaches = (client: QmpClient, status: string) =>
  until(async () => {
    const info = await migration(client);
    if (info["status"] === "failed" && status !== "failed") throw new Error(JSON.stringify(info));
    return info["status"] === status ? info : null;
  }, `reached ${status}`);

const on = (...names: string[]) => ({
  capabilities: names.map((capability) => ({ capability, state: true })),
});

describe("a script for QEMU's migration", () => {
  it("moves a VM, stops before the switchover, and goes on at the target", async () => {
    const vm = await boot("moved");
    const source = await open("host-a", vm);
    await source.done("cont");
    await source.done("migrate-set-capabilities", on("events", "pause-before-switchover"));
    await source.done("migrate-set-parameters", { "downtime-limit": 500, "max-bandwidth": 0 });
    expect(await migration(source)).toEqual({});
    await source.done("migrate", { uri: "tidemark:host-b" });
    expect(await source.ask("migrate", { uri: "tidemark:host-b" })).toHaveProperty("error");
    const waits = await reaches(source, "pre-switchover");
    expect(waits["ram"]).toMatchObject({ "page-size": 4096, total: 16 * 1024 * 1024 });
    expect(await source.done("query-status")).toMatchObject({ status: "running" });

    const arriving = await until(async () => {
      const { items } = await hosts.ok("host-b", "GET", "/v1/vms");
      return (items as Message[]).find((one) => one["state"] === "incoming") ?? null;
    }, "arrived");
    const target = await open("host-b", String(arriving["id"]));
    await target.done("migrate-set-capabilities", on("events"));
    expect(await target.done("query-status")).toMatchObject({ status: "inmigrate" });
    expect(await target.ask("cont")).toHaveProperty("error");

    await source.done("migrate-continue", { state: "pre-switchover" });
    const info = await reaches(source, "completed");
    expect(info["downtime"]).toBeTypeOf("number");
    expect(info["total-time"]).toBeTypeOf("number");
    const ram = info["ram"] as Record<string, number>;
    expect(ram["transferred"]).toBe((ram["precopy-bytes"] ?? 0) + (ram["downtime-bytes"] ?? 0));
    await target.until(() => target.events.includes("MIGRATION completed"));
    expect(target.events).toContain("RESUME");
    expect(await target.done("query-status")).toMatchObject({ status: "running" });
    const same = (await source.done("query-uuid")) as Message;
    expect(await target.done("query-uuid")).toEqual(same);

    expect(await source.done("query-status")).toMatchObject({ status: "postmigrate" });
    expect(await source.ask("cont")).toHaveProperty("error");
    const told = source.events.filter((event) => !event.startsWith("MIGRATION_PASS"));
    expect(told).toEqual([
      ...["RESUME", "MIGRATION setup", "MIGRATION active", "MIGRATION pre-switchover"],
      // A last round, after the time that it waited.
      ...["MIGRATION active", "MIGRATION device", "STOP", "MIGRATION completed"],
    ]);
    const passes = source.events.filter((event) => event.startsWith("MIGRATION_PASS"));
    expect(passes).toEqual(passes.map((_, at) => `MIGRATION_PASS ${at + 1}`));
    expect(passes.length).toBeGreaterThan(1);
    expect(await source.done("quit")).toEqual({});
    await source.gone();
    target.close();
  });

  it("cancels, and the VM goes on where it is", async () => {
    const vm = await boot("stays");
    const source = await open("host-a", vm);
    await source.done("cont");
    await source.done(
      "migrate-set-capabilities",
      on("events", "pause-before-switchover", "multifd"),
    );
    await source.done("migrate", { uri: "tidemark:host-b" });
    await reaches(source, "pre-switchover");
    const late = await source.ask("migrate-set-capabilities", on("xbzrle"));
    expect(late).toHaveProperty("error");
    await source.done("migrate-set-parameters", { "downtime-limit": 123 });
    expect(await source.done("query-migrate-parameters")).toMatchObject({ "downtime-limit": 123 });
    await source.done("migrate_cancel");
    await reaches(source, "cancelled");
    await source.done("migrate_cancel");
    expect(await source.done("query-status")).toMatchObject({ status: "running" });
    expect(source.events.at(-1)).toBe("MIGRATION cancelled");
    expect(source.events.filter((event) => event === "STOP")).toEqual([]);
    source.close();
  });

  it("hears why it failed", async () => {
    const vm = await boot("refused");
    const source = await open("host-a", vm);
    const nobody = await source.ask("migrate", { uri: "tidemark:host-c" });
    expect(nobody["error"]).toMatchObject({
      ...{ class: "GenericError", desc: expect.stringContaining("host-c") },
    });
    source.close();
  });
});
