// Goal: the command line runs guests to their end and tells their status, on any host.
// Method: the compiled command as a child process, with guests of test/guest and a real service.
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import { type RealService, ROOT, startReal } from "../support/real-service.js";
import { type Command, MAIN, openCommand } from "./command.js";

const HELLO = join(ROOT, "test", "guest", "hello.bin");
const SMP = join(ROOT, "test", "guest", "smp.bin");
const FAULTS = join(ROOT, "test", "guest", "faults.bin");
const LIMIT_S = "60";

let command: Command;
beforeAll(async () => {
  command = await openCommand("cli");
});
afterAll(() => command.close());

const start = (...args: string[]) => command.start(...args);
const runToEnd = (...args: string[]) => command.runToEnd(...args);

/** A flat binary of a few words. */
function image(name: string, ...words: readonly number[]): string {
  const path = join(command.folder, name);
  writeFileSync(path, a64.bytesOf(words));
  return path;
}

const leftovers = () => command.leftovers();

describe("run, on a host of its own", () => {
  it("runs the guest that takes every fault to its good end", async () => {
    const { code, out } = await runToEnd("run", FAULTS, "--timeout", LIMIT_S);
    expect(out).not.toContain("WRONG");
    expect([code, out.trimEnd().split("\n").at(-1)]).toEqual([0, "EXIT: STATUS=1"]);
  });

  it("prints the console and ends with the guest's status", async () => {
    const good = await runToEnd("run", SMP, "--smp", "2", "--timeout", LIMIT_S);
    const output = "core 0 is up\ncore 1 is up\ncore 1 is off\nEXIT: STATUS=1\n";
    expect(good).toEqual({ code: 0, out: output, err: "" });
    // Without a second core the guest finds fault: STATUS=3.
    const bad = await runToEnd("run", SMP, "--timeout", LIMIT_S, "--clock", "virtual");
    expect(bad).toEqual({ code: 1, out: "core 0 is up\nEXIT: STATUS=3\n", err: "" });
    expect(await leftovers()).toEqual([]);
  });

  it("types what comes in on standard input", async () => {
    const { child, ended, shows } = start("run", HELLO, "--timeout", LIMIT_S, "--mem", "16");
    await shows("type a line\n");
    child.stdin?.end("moin moin\n");
    const { code, out } = await ended;
    expect([code, out.split("\n").slice(2, 4)]).toEqual([
      0,
      ["you typed: moin moin", "EXIT: STATUS=1"],
    ]);
  });

  it("ends with 124 when time is up, 130 after Ctrl-C; nothing stays behind", async () => {
    const late = await runToEnd("run", HELLO, "--timeout", "2");
    expect([late.code, late.err]).toEqual([124, "tidemark: The guest ran longer than 2 s.\n"]);
    const { child, ended, shows } = start("run", HELLO);
    await shows("type a line\n");
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ code: 130, err: "tidemark: Interrupted.\n" });
    expect(await leftovers()).toEqual([]);
  });

  it("ends with 125 and the reason when the guest crashes or is no image", async () => {
    const crash = image("crash", ...a64.mov(0, 0x900_0000n), a64.ldp(1, 2, 0));
    const crashed = await runToEnd("run", crash, "--timeout", LIMIT_S);
    expect(crashed.code).toBe(125);
    expect(crashed.err).toMatch(/^tidemark: The guest crashed: vCPU 0 at PC 0x40080004 .*ENOSYS/);
    const gzip = await runToEnd("run", image("gzip", 0x8b1f));
    expect([gzip.code, gzip.err]).toEqual([125, expect.stringContaining("unpack")]);
  });

  it("says how it is used", async () => {
    expect(await runToEnd("--help")).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^usage/),
    });
    const version = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as object;
    expect(version).toMatchObject({ version: (await runToEnd("--version")).out.trim() });
    for (const args of [[], ["fly"], ["run"], ["run", HELLO, "--smp", "0"], ["run", HELLO, "-x"]]) {
      const { code, err } = await runToEnd(...args);
      expect([args, code, err]).toEqual([args, 125, expect.stringContaining("usage: tidemark")]);
    }
  });
});

describe("on a given host", () => {
  let service: RealService;
  beforeAll(async () => {
    service = await startReal({ dataDir: join(command.folder, "data") });
  });
  afterAll(async () => {
    expect(await service.stop()).toBe(0);
  });
  const get = async (path: string) =>
    (await (await fetch(`${service.origin}${path}`)).json()) as { items: unknown[] };

  it("run takes VM and image back", async () => {
    const server = ["--server", service.origin];
    const devices = ["--gic", "3", "--its", "--rtc", "--pci", "--testdev"];
    const args = [...server, ...devices, "--timeout", LIMIT_S];
    const { child, ended, shows } = start("run", HELLO, ...args);
    await shows("type a line\n");
    const board = { gic: 3, its: true, rtc: true, pci: true, virtio: "legacy", console: "testdev" };
    expect((await get("/v1/vms")).items).toMatchObject([
      { name: "hello.bin", state: "active", definition: { board } },
    ]);
    child.stdin?.end("x\n");
    expect((await ended).code).toBe(0);
    expect((await get("/v1/vms")).items).toEqual([]);
    expect((await get("/v1/images")).items).toEqual([]);
  });

  it("vm lists, shows and removes", async () => {
    const made = await fetch(`${service.origin}/v1/vms`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: "guest-1" }),
    });
    const { id } = (await made.json()) as { id: string };
    const server = ["--server", service.origin];
    const list = await runToEnd("vm", "ls", ...server);
    expect(list.out).toMatch(new RegExp(`^ID +STATE +NAME +IMAGE\\n${id} +active +guest-1 +-\\n$`));
    const shown = await runToEnd("vm", "show", id, ...server);
    expect(JSON.parse(shown.out)).toMatchObject({ id, name: "guest-1" });
    expect(await runToEnd("vm", "rm", id, ...server)).toMatchObject({ code: 0, out: `${id}\n` });
    const gone = await runToEnd("vm", "show", id, ...server);
    expect([gone.code, gone.err]).toEqual([125, `tidemark: There is no VM ${id}.\n`]);
  });

  it("vgic shows what is pending", async () => {
    const call = async (method: string, path: string, body: object) => {
      const headers = { "content-type": "application/json" };
      const answer = await fetch(`${service.origin}${path}`, {
        ...{ method, headers, body: JSON.stringify(body) },
      });
      expect(answer.status, `${method} ${path}`).toBeLessThan(300);
      return answer;
    };
    const { id } = (await (await call("POST", "/v1/vms", {})).json()) as { id: string };
    const server = ["--server", service.origin];
    const none = await runToEnd("vgic", id, ...server);
    expect([none.code, none.err]).toEqual([
      125,
      "tidemark: The VM has no in-kernel interrupt controller.\n",
    ]);
    const vm = `/v1/vms/${id}`;
    await call("PUT", `${vm}/vcpus/0`, {});
    await call("POST", `${vm}/devices`, { type: "KVM_DEV_TYPE_ARM_VGIC_V3" });
    expect((await runToEnd("vgic", id, ...server)).out).toBe(
      "GICv3, 32 interrupts, not initialised\nNothing is pending or active.\n",
    );
    await call("POST", `${vm}/devices/0/operations`, { op: "init" });
    const registers = [
      { kind: "dist", offset: 0, value: "0x2" },
      { kind: "dist", offset: 0x104, value: "0x2" },
      { kind: "dist", offset: 0x420, value: "0xa000" },
      { kind: "dist", offset: 0x204, value: "0x6" },
    ];
    await call("PATCH", `${vm}/devices/0/registers`, { registers });
    const shown = await runToEnd("vgic", id, ...server);
    expect(shown.out.split("\n").map((line) => line.split(/ {2,}/))).toEqual([
      ["GICv3, 256 interrupts, enabled"],
      ["INTID", "KIND", "STATE", "CONFIG", "ENABLED", "PRIORITY", "TARGET", "QUEUED ON"],
      ["33", "spi", "pending", "edge", "yes", "0xa0", "vCPU 0", "vCPU 0"],
      ["34", "spi", "pending", "edge", "no", "0x00", "vCPU 0", "-"],
      [""],
    ]);
    expect((await runToEnd("vgic", ...server)).code).toBe(125);
  });

  it("vgic shows a GICv5's SPIs with their entries", async () => {
    const call = async (method: string, path: string, body: object) => {
      const headers = { "content-type": "application/json" };
      const init = { method, headers, body: JSON.stringify(body) };
      const answer = await fetch(`${service.origin}${path}`, init);
      expect(answer.status, `${method} ${path}`).toBeLessThan(300);
      return answer;
    };
    const { id } = (await (await call("POST", "/v1/vms", {})).json()) as { id: string };
    const vm = `/v1/vms/${id}`;
    await call("PUT", `${vm}/vcpus/0`, {});
    await call("POST", `${vm}/devices`, { type: "KVM_DEV_TYPE_ARM_VGIC_V5" });
    const shown = async () => (await runToEnd("vgic", id, "--server", service.origin)).out;
    expect(await shown()).toBe(
      "GICv5, 0 SPIs, not initialised, tracking exact\nNo SPI is pending or active.\n",
    );
    await call("POST", `${vm}/devices/0/operations`, { op: "init" });
    await call("PUT", `${vm}/irq-lines/1:0:5`, { level: 1 });
    expect((await shown()).split("\n").map((line) => line.split(/ {2,}/))).toEqual([
      ["GICv5, 32 SPIs, disabled, tracking exact"],
      ["SPI", "STATE", "CONFIG", "ENABLED", "PRIORITY", "TARGET", "ENTRY", "IN FLIGHT"],
      ["5", "pending", "edge", "no", "0x00", "vCPU 0", "0x1", "no"],
      [""],
    ]);
  });
});

it("serve is the service", async () => {
  const data = join(command.folder, "serve");
  const env = { PORT: "0", DATA_DIR: data, LOG_LEVEL: "silent" };
  const child = spawn(process.execPath, [MAIN, "serve"], { env, stdio: "pipe" });
  const origin = await new Promise<string>((resolve, reject) => {
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      const at = /listens at (\S+)/.exec(out)?.[1];
      if (at !== undefined) resolve(at);
    });
    child.once("close", () => reject(new Error(`it ended: ${out}`)));
  });
  expect((await fetch(`${origin}/readyz`)).status).toBe(200);
  const ended = new Promise((resolve) => child.once("close", resolve));
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
});
