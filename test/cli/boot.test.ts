// Goal: `boot` is a terminal of the guest, `dirty-log` and `irqfd` do what their routes do.
// Method: the compiled command as a child process against a real service; a pseudo-terminal of
// script(1) where the keys and the bar of a person are meant.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Client } from "../../dist/cli/client.js";
import { type RealService, ROOT, startReal } from "../support/real-service.js";
import { type Command, MAIN, openCommand } from "./command.js";

const HELLO = join(ROOT, "test", "guest", "hello.bin");
const LIMIT = ["--timeout", "60"];
const SMALL = ["--memory", "16", "--gic", "none", ...LIMIT];
const PAGE_BYTES = 4096;

let command: Command;
let service: RealService;
let client: Client;
let server: readonly string[];
beforeAll(async () => {
  command = await openCommand("boot");
  service = await startReal({ dataDir: join(command.folder, "data") });
  client = new Client(service.origin, null);
  server = ["--server", service.origin];
});
afterAll(async () => {
  expect(await service.stop()).toBe(0);
  await command.close();
});

const vms = async () => (await client.call("listVms")).items;
const images = async () => (await client.call("listImages")).items;
const runToEnd = (...args: string[]) => command.runToEnd(...args);

describe("boot", () => {
  it("is the guest's terminal until it powers off, and takes everything back", async () => {
    const { child, ended, shows } = command.start("boot", "--kernel", HELLO, ...SMALL, ...server);
    await shows("type a line\n");
    child.stdin?.end("moin\n");
    expect(await ended).toMatchObject({ code: 0, out: expect.stringContaining("typed: moin\n") });
    expect([await vms(), await images()]).toEqual([[], []]);
  }, 120_000);

  it.each([
    ["the VM goes with it", [], 0],
    ["with --keep the VM goes on", ["--keep"], 1],
  ])("is left by Ctrl-]: %s", async (_, keep, left) => {
    const args = ["--kernel", HELLO, ...SMALL, ...server, ...keep];
    const { child, ended, shows } = command.start("boot", ...args);
    await shows("type a line\n");
    child.stdin?.write("half a l\x1dine");
    const { code, err } = await ended;
    const found = await vms();
    expect([code, found.length]).toEqual([0, left]);
    const [vm] = found;
    expect(err).toBe(vm === undefined ? "" : `tidemark: VM ${vm.id} goes on.\n`);
    if (vm === undefined) return;
    expect((await client.call("getBoard", { vm: vm.id })).state).toBe("running");
    await client.call("typeConsole", { vm: vm.id }, { text: "ine\n" });
    await expect
      .poll(() => client.text("readConsole", { vm: vm.id }), { timeout: 20_000 })
      .toContain("you typed: half a line\n");
    await client.call("deleteVm", { vm: vm.id });
    for (const { name } of await images()) await client.call("deleteImage", { image: name });
  });

  it("gives the guest every key of a terminal, and draws a bar for a long file", async () => {
    const long = join(command.folder, "long.bin");
    writeFileSync(long, Buffer.concat([readFileSync(HELLO), Buffer.alloc(6 * 2 ** 20)]));
    const args = [MAIN, "boot", "--kernel", long, ...SMALL, ...server];
    // Ctrl-C is a byte like others; the terminal does not echo.
    const inside = `${process.execPath} ${args.join(" ")}`;
    const prompt = 'until grep -q "type a line" "$1"; do sleep 0.1; done';
    const keys = `${prompt}; printf 'a\\003b\\n'; sleep 1`;
    const outside = `: > "$1"; (${keys}) | script -qefc "${inside}" "$1"`;
    const typescript = join(command.folder, "typescript");
    const options = { encoding: "latin1", timeout: 60_000 } as const;
    const { stdout } = spawnSync("sh", ["-c", outside, "sh", typescript], options);
    expect(stdout).toContain(`long.bin [${"#".repeat(30)}] 6.0 of 6.0 MiB\r\x1b[K`);
    expect(stdout).toContain("you typed: a\x03b");
    expect(stdout).not.toContain("Interrupted");
  });

  it("says how it is used", async () => {
    expect(await runToEnd("boot", "--help")).toMatchObject({ code: 0, err: "" });
    for (const args of [[], ["--kernel", HELLO, "--gic", "4"], ["--kernel", HELLO, "--keep"]]) {
      const { code, err } = await runToEnd("boot", ...args);
      expect([args, code, err]).toEqual([args, 125, expect.stringContaining("tidemark boot --k")]);
    }
  });
});

describe("dirty-log", () => {
  let vm: string;
  beforeEach(async () => {
    vm = (await client.call("createVm", {}, { name: "dirty" })).id;
    const size = `0x${(64 * PAGE_BYTES).toString(16)}`;
    const { id } = await client.call("createMemoryObject", { vm }, { size });
    await client.call("createVcpu", { vm, n: "0" }, {});
    const flags = ["KVM_MEM_LOG_DIRTY_PAGES"] as const;
    const slot = { flags, guestPhysAddr: "0x0", memorySize: size, memoryObjectId: id };
    await client.call("setMemslot", { vm, slot: "0" }, slot);
    return () => client.call("deleteVm", { vm });
  });

  async function store(first: number, pages: number): Promise<void> {
    await client.call(
      "setProgram",
      { vm, n: "0" },
      {
        kind: "pattern",
        pattern: "sequential",
        base: `0x${(first * PAGE_BYTES).toString(16)}`,
        bytes: `0x${(pages * PAGE_BYTES).toString(16)}`,
        count: pages,
        writePercent: 100,
        length: 1,
        stride: PAGE_BYTES,
        seed: "0x1",
      },
    );
    const { id } = await client.call("createRun", { vm, n: "0" }, {});
    const run = await client.call("getRun", { vm, n: "0", run: id }, undefined, { wait: "10" });
    expect(run.state).toBe("exited");
  }

  it("reads, clears and watches what CLEAR decides", async () => {
    const cap = { vm, cap: "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2" };
    await client.call("enableVmCapability", cap, { args: ["0x1"] });
    await store(3, 2);
    const get = () => runToEnd("dirty-log", "get", vm, "0", ...server);
    expect((await get()).out).toBe("2 of 64 pages dirty: 3-4\n");
    expect((await get()).out).toBe("2 of 64 pages dirty: 3-4\n");
    const cleared = await runToEnd("dirty-log", "clear", vm, "0", "--json", ...server);
    expect(JSON.parse(cleared.out)).toEqual({
      npages: 64,
      count: 2,
      ranges: [[3, 2]],
      cleared: 2,
    });
    await store(8, 1);
    const options = ["--interval", "50", "--count", "2", "--json"];
    const { code, out } = await runToEnd("dirty-log", "watch", vm, "0", ...options, ...server);
    const lines = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
    expect([code, lines]).toEqual([
      0,
      [
        { ms: expect.any(Number), npages: 64, count: 1, cleared: 1, pagesPerSecond: null },
        { ms: expect.any(Number), npages: 64, count: 0, cleared: 0, pagesPerSecond: 0 },
      ],
    ]);
  });

  it("takes a log whose reads clear, once", async () => {
    await store(0, 1);
    await store(5, 3);
    const get = () => runToEnd("dirty-log", "get", vm, "0", ...server);
    const says = "4 of 64 pages dirty: 0, 5-7 (and clean now: reading clears here)\n";
    expect(await get()).toEqual({ code: 0, out: says, err: "" });
    expect((await get()).out).toContain("0 of 64 pages dirty (and");
  });

  it("watches until Ctrl-C", async () => {
    const args = [vm, "0", "--interval", "60000", ...server];
    const { child, ended, shows } = command.start("dirty-log", "watch", ...args);
    await shows("0 of 64 pages dirty\n");
    child.kill("SIGINT");
    expect((await ended).code).toBe(130);
  });

  it("says what it can't do", async () => {
    const { code, err } = await runToEnd("dirty-log", "get", vm, "7", ...server);
    expect([code, err]).toEqual([125, expect.stringMatching(/^tidemark: .*slot/i)]);
    const wrong = await runToEnd("dirty-log", "get", vm, "x", ...server);
    expect(wrong).toMatchObject({ code: 125, err: expect.stringContaining("usage: tidemark d") });
  });
});

describe("irqfd", () => {
  const json = async (...args: string[]) => {
    const { out } = await runToEnd("irqfd", ...args, "--json", ...server);
    return JSON.parse(out) as Record<string, unknown>;
  };

  it("signals an eventfd and waits for one, its count taken each time", async () => {
    const { id } = await client.call("createEventfd");
    expect(await json("signal", id, "3")).toEqual({ eventfd: id, signalled: 3 });
    expect(await json("wait", id)).toEqual({ eventfd: id, count: 3 });
    const waiting = json("wait", id, "--timeout", "30");
    expect(await runToEnd("irqfd", "signal", id, ...server)).toMatchObject({ code: 0, err: "" });
    expect(await waiting).toEqual({ eventfd: id, count: 1 });
    const late = await runToEnd("irqfd", "wait", id, "--timeout", "1", ...server);
    expect([late.code, late.err]).toEqual([124, "tidemark: irqfd wait ran longer than 1 s.\n"]);
  });

  it("leaves no eventfd behind where a VM takes none", async () => {
    const { id: vm } = await client.call("createVm", {}, { name: "no-gic" });
    const before = (await client.call("listEventfds")).items.length;
    const { code, err } = await runToEnd("irqfd", "assign", vm, "33", "--resample", ...server);
    expect([code, err]).toEqual([125, expect.stringContaining("vGIC")]);
    expect((await client.call("listEventfds")).items.length).toBe(before);
    await client.call("deleteVm", { vm });
  });

  it("says how it is used", async () => {
    for (const args of [[], ["assign", "vm"], ["assign", "vm", "x"], ["wait"]]) {
      const { code, err } = await runToEnd("irqfd", ...args);
      expect([args, code, err]).toEqual([args, 125, expect.stringContaining("usage: tidemark i")]);
    }
  });
});
