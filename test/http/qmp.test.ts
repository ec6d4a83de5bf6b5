// Goal: tools made for QEMU's machine protocol find a VM behind its socket as long as it lives.
// Method: the compiled service in this process's child; a small client of the protocol, and one
// that others wrote (qemu-qmp of npm).
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import QMP from "qemu-qmp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Prng } from "../../src/base/prng.js";
import { GdbWorld } from "../support/gdb-world.js";
import { QmpClient } from "../support/qmp-client.js";
import { ROOT } from "../support/real-service.js";

let world: GdbWorld;
beforeAll(async () => {
  world = await GdbWorld.start({ QMP: "on" });
});
afterAll(() => world.stop());

const UNIX = { listen: "unix" };

const pathOf = async (vm: string): Promise<string> =>
  String((await world.done("POST", `${vm}/qmp`, UNIX)).body["path"]);

const open = async (vm: string): Promise<QmpClient> => QmpClient.open({ path: await pathOf(vm) });

const stateOf = async (vm: string) => (await world.call("GET", `${vm}/board`)).body["state"];

describe("a socket", () => {
  it("is off unless the host allows it", async () => {
    const other = await GdbWorld.start({});
    try {
      const vm = await other.vm();
      const { status, body } = await other.call("POST", `${vm}/qmp`, UNIX);
      expect([status, body["code"]]).toEqual([403, "qmp-off"]);
      expect(String(body["detail"])).toContain("QMP=on");
    } finally {
      await other.stop();
    }
  });

  it("opens once, on a socket that is its owner's alone, and closes", async () => {
    const vm = await world.vm();
    expect((await world.call("GET", `${vm}/qmp`)).body["code"]).toBe("qmp-not-found");
    const opened = await world.call("POST", `${vm}/qmp`, UNIX);
    expect([opened.status, opened.location]).toEqual([201, `${vm}/qmp`]);
    const path = String(opened.body["path"]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const again = await world.call("POST", `${vm}/qmp`, { listen: { port: 0 } });
    expect([again.status, again.body["code"]]).toEqual([409, "qmp-open"]);
    const client = await QmpClient.open({ path });
    expect((await world.call("DELETE", `${vm}/qmp`)).status).toBe(204);
    await client.gone();
    expect(existsSync(path)).toBe(false);
    expect((await world.call("DELETE", `${vm}/qmp`)).body["code"]).toBe("qmp-not-found");
  });

  it("may be a port, serves several at once, and goes when the VM stops", async () => {
    const vm = await world.board("hello");
    const { body } = await world.done("POST", `${vm}/qmp`, { listen: { port: 0 } });
    const at = { port: Number(body["port"]) };
    const clients = [await QmpClient.open(at), await QmpClient.open(at)];
    const mute = await QmpClient.connect(at);
    for (const client of clients) expect(await client.done("query-uuid")).toBeDefined();
    expect((await world.call("GET", `${vm}/qmp`)).body).toMatchObject({ clients: 3 });
    await world.done("POST", `${vm}:stop`);
    for (const client of clients) {
      await client.gone();
      expect(client.events).toEqual(["SHUTDOWN host-signal"]);
    }
    await mute.gone();
    expect(mute.events, "before it agreed on capabilities").toEqual([]);
    expect((await world.call("GET", `${vm}/qmp`)).status).toBe(404);
    expect((await world.call("POST", `${vm}/qmp`, UNIX)).body["code"]).toBe("vm-not-active");
    await world.done("POST", `${vm}:start`);
    const back = await open(vm);
    expect(await back.done("query-status")).toMatchObject({ running: true });
    await world.done("DELETE", vm);
    await back.gone();
  });

  it("is left by what sends noise, and serves the next", async () => {
    const vm = await world.vm();
    const path = await pathOf(vm);
    const prng = new Prng(11n);
    for (let round = 0; round < 20; round++) {
      const client = await QmpClient.connect({ path });
      const half = Buffer.from('{"execute":"qmp_capabilities"}{"execute":"query-na');
      const length = prng.below(20_000);
      const noise = Buffer.from(
        Array.from({ length }, () => "{}[]\"'\\:,\n\xffx1"[prng.below(13)]).join(""),
        "latin1",
      );
      client.raw(round % 2 === 0 ? Buffer.concat([half, noise]) : noise);
      if (round % 4 === 0) client.raw(Buffer.alloc(600_000, 0x5b));
      if (round % 5 === 0) await client.message();
      client.close();
    }
    const client = await QmpClient.open({ path });
    expect(await client.done("query-version")).toMatchObject({ package: "tidemark" });
    client.close();
    expect((await world.call("GET", "/readyz")).status).toBe(200);
  });

  it("cuts a client that doesn't read, and no other", async () => {
    const vm = await world.board("hello");
    const path = await pathOf(vm);
    const deaf = await QmpClient.open({ path });
    const other = await QmpClient.open({ path });
    await other.done("cont");
    deaf.pause();
    let rounds = 0;
    const cut = async () => (await world.call("GET", `${vm}/qmp`)).body["counts"];
    for (; rounds < 40; rounds++) {
      const many = Array.from({ length: 500 }, () => ({ execute: "system_reset" }));
      other.raw(many.map((one) => JSON.stringify(one)).join(""));
      for (let n = 0; n < many.length; n++) await other.message();
      if (((await cut()) as { cut: number }).cut > 0) break;
    }
    expect(await cut()).toMatchObject({ cut: 1 });
    expect(await other.done("query-name")).toEqual({});
    other.close();
    deaf.close();
  });
});

describe("a board", () => {
  it("is switched, paused, reset and ended; every client is told", async () => {
    const vm = await world.board("hello");
    const path = await pathOf(vm);
    const [client, watcher] = [await QmpClient.open({ path }), await QmpClient.open({ path })];
    expect(await client.done("query-status")).toMatchObject({ status: "prelaunch" });
    await client.done("cont");
    await watcher.until(() => watcher.events.length === 1);
    expect(await stateOf(vm)).toBe("running");
    await client.done("stop");
    await client.done("stop");
    expect(await client.done("query-status")).toEqual({
      ...{ running: false, singlestep: false, status: "paused" },
    });
    await world.done("POST", `${vm}:resume`);
    await client.done("system_reset");
    expect(await client.done("query-cpus-fast")).toMatchObject([{ "cpu-index": 0 }]);
    await world.done("POST", `${vm}/console`, { text: "x\n" });
    await watcher.until(() => watcher.events.length >= 6);
    expect(watcher.events).toEqual([
      ...["RESUME", "STOP", "RESUME", "RESET host-qmp-system-reset"],
      ...["SHUTDOWN guest-shutdown", "STOP"],
    ]);
    expect(await client.done("query-status")).toMatchObject({ status: "shutdown" });
    expect(await client.ask("cont")).toMatchObject({ error: { class: "GenericError" } });
    expect(await client.done("quit")).toEqual({});
    await Promise.all([client.gone(), watcher.gone()]);
    expect(watcher.events.at(-1)).toBe("SHUTDOWN host-qmp-quit");
    expect((await world.call("GET", vm)).body["state"]).toBe("stopped");
  });

  it("tells how fast it dirties memory, and keeps a limit", async () => {
    const vm = await world.board("hello");
    const client = await open(vm);
    await client.done("cont");
    await client.done("calc-dirty-rate", { "calc-time": 1 });
    expect(await client.done("query-dirty-rate")).toMatchObject({ status: "measuring" });
    const status = async () =>
      ((await client.done("query-dirty-rate")) as { status: string }).status;
    await world.until(async () => (await status()) === "measured");
    const info = (await client.done("query-dirty-rate")) as Record<string, unknown>;
    expect(info["dirty-rate"]).toBeTypeOf("number");
    const consumers = async () =>
      ((await world.call("GET", `${vm}/dirty-tracking/consumers`)).body["consumers"] ??
        []) as unknown[];
    expect(await consumers()).toEqual([]);
    await client.done("set-vcpu-dirty-limit", { "dirty-rate": 1 });
    expect(await client.done("query-vcpu-dirty-limit")).toMatchObject([
      { "cpu-index": 0, "limit-rate": 1 },
    ]);
    expect(await consumers()).toHaveLength(1);
    expect((await world.call("GET", `${vm}/throttle`)).body["dirtyLimitPagesPerSecond"]).toBe(256);
    await world.done("DELETE", `${vm}/qmp`);
    expect(await consumers()).toEqual([]);
    expect((await world.call("GET", `${vm}/throttle`)).body["dirtyLimitPagesPerSecond"]).toBe(0);
  });
});

describe("docs/qmp.md", () => {
  it("prints a session as it goes", async () => {
    const text = readFileSync(join(ROOT, "docs/qmp.md"), "utf8");
    const lines = /```qmp\n([\s\S]*?)```/.exec(text)?.[1]?.trim().split("\n") ?? [];
    expect(lines.length).toBeGreaterThan(10);
    const client = await QmpClient.connect({ path: await pathOf(await world.board("hello")) });
    let events = 0;
    for (const line of lines) {
      const said = line.slice(3);
      if (line.startsWith("-> ")) client.raw(said);
      else if (said.includes('"event"')) {
        const at = events++;
        await client.until(() => client.events.length > at);
        expect(client.events[at]).toBe((JSON.parse(said) as { event: string }).event);
      } else {
        const shown = JSON.stringify(await client.message());
        const [before = "", after = ""] = JSON.stringify(JSON.parse(said)).split("…");
        expect(shown.startsWith(before) && shown.endsWith(after), `${shown} for ${said}`).toBe(
          true,
        );
        if (!said.includes("…")) expect(shown).toBe(before);
      }
    }
    client.close();
  });
});

describe("a VM without a board", () => {
  it("is its client's to run", async () => {
    const client = await open(await world.vm({ vcpus: 2 }));
    expect(await client.done("query-cpus-fast")).toHaveLength(2);
    for (const name of ["stop", "cont", "system_reset"]) {
      const answer = await client.ask(name);
      expect(answer["error"], name).toMatchObject({ class: "GenericError" });
    }
    client.close();
  });
});

describe("the client of npm", () => {
  it("reads the greeting, asks, is refused, and hears of events", async () => {
    const vm = await world.board("hello");
    const path = await pathOf(vm);
    const qmp = new QMP();
    await new Promise<void>((resolve, reject) => {
      qmp.connect(path, (error) => (error === null ? resolve() : reject(error)));
    });
    expect(qmp.version).toMatchObject({ package: "tidemark" });
    const execute = (name: string, args?: object) =>
      new Promise<unknown>((resolve, reject) => {
        qmp.execute(name, args ?? {}, (error, value) => {
          if (error === null) resolve(value);
          else reject(error);
        });
      });
    expect(await execute("query-status")).toMatchObject({ status: "prelaunch" });
    const heard: string[] = [];
    for (const name of ["resume", "stop"]) qmp.on(name, () => heard.push(name));
    await execute("cont");
    await execute("stop");
    await expect(execute("migrate", { uri: "tcp:127.0.0.1:1" })).rejects.toThrow("tidemark:PEER");
    await expect(execute("no-such-command")).rejects.toThrow("no command");
    expect(heard).toEqual(["resume", "stop"]);
    qmp.destroy();
  });
});
