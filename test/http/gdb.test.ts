// Goal: a debugger attaches to VMs through a socket: halts, looks, steps, breaks, watches, goes.
// Method: the compiled service in this process's child; a small client of the protocol.
import { existsSync, statSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Prng } from "../../src/base/prng.js";
import * as a64 from "../support/a64.js";
import { GdbClient } from "../support/gdb-client.js";
import { CODE, DATA, GdbWorld, LOOP, OTHER, UART } from "../support/gdb-world.js";

const PC = 0x20;
const BRK = 0xd420_0000;
const hex = (value: number | bigint): string => value.toString(16);

let world: GdbWorld;
beforeAll(async () => {
  world = await GdbWorld.start();
});
afterAll(() => world.stop());

const gdbOf = async (vm: string) => (await world.call("GET", `${vm}/gdb`)).body;

describe("a stub", () => {
  it("is off unless the host allows it", async () => {
    const other = await GdbWorld.start({});
    try {
      const vm = await other.vm();
      const { status, body } = await other.call("POST", `${vm}/gdb`, { listen: "unix" });
      expect([status, body["code"]]).toEqual([403, "gdb-off"]);
      expect(String(body["detail"])).toContain("GDB=on");
    } finally {
      await other.stop();
    }
  });

  it("opens once, on a socket that is its owner's alone, and closes", async () => {
    const vm = await world.vm();
    expect((await world.call("GET", `${vm}/gdb`)).body["code"]).toBe("gdb-not-found");
    const opened = await world.call("POST", `${vm}/gdb`, { listen: "unix" });
    expect([opened.status, opened.location]).toEqual([201, `${vm}/gdb`]);
    const path = String(opened.body["path"]);
    expect(path.startsWith(world.dataDir)).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(opened.body["connect"]).toBe(`target remote ${path}`);
    const again = await world.call("POST", `${vm}/gdb`, { listen: { port: 0 } });
    expect([again.status, again.body["code"]]).toEqual([409, "gdb-open"]);
    expect((await world.call("DELETE", `${vm}/gdb`)).status).toBe(204);
    expect((await world.call("DELETE", `${vm}/gdb`)).body["code"]).toBe("gdb-not-found");
    await expect(GdbClient.open({ path })).rejects.toThrow();
  });

  it("listens on a port, and says when it is taken", async () => {
    const [vm, other] = [await world.vm(), await world.vm()];
    const { body } = await world.done("POST", `${vm}/gdb`, { listen: { port: 0 } });
    expect([body["path"], body["port"]]).toEqual([null, expect.any(Number)]);
    const taken = await world.call("POST", `${other}/gdb`, { listen: { port: body["port"] } });
    expect([taken.status, taken.body["code"]]).toEqual([409, "gdb-listen-failed"]);
    const client = await GdbClient.open({ port: Number(body["port"]) });
    expect(await client.ask("qAttached")).toBe("1");
    await client.close();
  });

  it("needs a vCPU that runs guest code", async () => {
    const { location: vm } = await world.done("POST", "/v1/vms", {});
    const { status, body } = await world.call("POST", `${vm}/gdb`, { listen: "unix" });
    expect([status, body["code"]]).toEqual([409, "vcpu-not-initialised"]);
  });

  it("serves one client at a time, and goes with its VM", async () => {
    const vm = await world.vm();
    const first = await world.open(vm);
    expect(await first.ask("qC")).toBe("QC1");
    const second = await GdbClient.open({ path: String((await gdbOf(vm))["path"]) });
    expect(await second.next()).toBe(null);
    const seen = await gdbOf(vm);
    expect(seen).toMatchObject({ attached: true, counts: { refused: 1 } });
    await world.done("POST", `${vm}:stop`);
    expect(await first.next()).toBe(null);
    expect(existsSync(String(seen["path"]))).toBe(false);
    expect((await world.call("GET", `${vm}/gdb`)).body["code"]).toBe("gdb-not-found");
  });
});

describe("a client-driven VM", () => {
  it("is halted for its debugger, whose it is until it leaves", async () => {
    const vm = await world.vm();
    const run = await world.done("POST", `${vm}/vcpus/0/runs`, {});
    const client = await world.open(vm);
    expect(await client.ask("?")).toMatch(/^T02thread:1;1d:[0-9a-f]{16};1f:[0-9a-f]{16};20:/);
    const ended = (await world.call("GET", run.location)).body;
    expect(ended).toMatchObject({ state: "exited", result: { errno: "EINTR" } });
    const refused = await world.call("POST", `${vm}/vcpus/0/runs`, {});
    expect([refused.status, refused.body["code"]]).toEqual([409, "owned-by-debugger"]);
    expect(await client.ask("D")).toBe("OK");
    expect(await client.next()).toBe(null);
    await world.isDetached(vm);
    const free = await world.call("POST", `${vm}/vcpus/0/runs`, { timeoutMs: 1 });
    expect(free.status).toBe(202);
  });

  it("breaks, steps, and shows its own words where breakpoints are", async () => {
    const vm = await world.vm();
    const client = await world.open(vm);
    await client.ask("qSupported:swbreak+;hwbreak+");
    expect(await client.ask(`Z0,${hex(LOOP + 4)},4`)).toBe("OK");
    expect(await world.word(vm, LOOP + 4)).toBe(BRK);
    const own = Buffer.from(a64.bytesOf([a64.str(0, 1)])).toString("hex");
    expect(await client.ask(`m${hex(LOOP + 4)},4`)).toBe(own);
    expect(await client.ask("vCont;c")).toMatch(/^T05thread:1;swbreak:;/);
    expect(await client.register(PC)).toBe(BigInt(LOOP + 4));
    expect(await client.register(0)).toBe(1n);
    expect(await client.ask(`z0,${hex(LOOP + 4)},4`)).toBe("OK");
    expect(await client.ask("vCont;s:1")).toMatch(/^T05thread:1;1d:/);
    expect(await client.register(PC)).toBe(BigInt(LOOP + 8));
    expect(await client.ask(`Z1,${hex(LOOP)},4`)).toBe("OK");
    expect(await client.ask("c")).toMatch(/^T05thread:1;hwbreak:;/);
    expect(await client.register(PC)).toBe(BigInt(LOOP));
    await client.close();
  });

  it("watches a word, by its accesses' kinds", async () => {
    const vm = await world.vm();
    const client = await world.open(vm);
    expect(await client.ask(`Z2,${hex(DATA)},8`)).toBe("OK");
    expect(await client.ask("vCont;c")).toMatch(new RegExp(`^T05thread:1;watch:${hex(DATA)};`));
    expect(await client.register(PC)).toBe(BigInt(LOOP + 4));
    expect(await client.ask(`z2,${hex(DATA)},8`)).toBe("OK");
    expect(await client.ask(`Z3,${hex(DATA)},8`)).toBe("OK");
    client.send("vCont;c");
    expect(await client.next()).toBe("+");
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.interrupt();
    expect(await client.packet()).toMatch(/^T02thread:1;/);
    expect(await client.ask(`Z4,${hex(DATA + 4)},8`)).toBe("E0e");
    await client.close();
  });

  it("is written to: registers, memory, memory under breakpoints", async () => {
    const vm = await world.vm();
    const client = await world.open(vm);
    expect(await client.ask("P5=8877665544332211")).toBe("OK");
    expect(await client.register(5)).toBe(0x1122334455667788n);
    const all = await client.ask("g");
    expect(all.slice(5 * 16, 6 * 16)).toBe("8877665544332211");
    expect(all).toHaveLength(2 * (33 * 8 + 4 + 32 * 16 + 8));
    expect(await client.ask(`G${all.slice(0, 16 * 6)}01${all.slice(16 * 6 + 2)}`)).toBe("OK");
    expect((await client.register(6)) & 0xffn).toBe(1n);
    // SP is SP_EL1 at EL1h, and SP_EL0 once SPSel says so.
    expect(await client.ask("P1f=00f0004000000000")).toBe("OK");
    expect(await client.ask("P21=c4030000")).toBe("OK");
    expect(await client.register(31)).toBe(0n);
    expect(await client.ask("P21=c5030000")).toBe("OK");
    expect(await client.register(31)).toBe(0x4000_f000n);
    expect(await client.ask("P21=10000000"), "a mode of AArch32").toBe("E16");
    expect(await client.ask(`Z0,${hex(LOOP)},4`)).toBe("OK");
    const other = Buffer.from(a64.bytesOf([a64.add(0, 0, 7)])).toString("hex");
    expect(await client.ask(`M${hex(LOOP)},4:${other}`)).toBe("OK");
    expect(await world.word(vm, LOOP)).toBe(BRK);
    expect(await client.ask(`X${hex(DATA)},3:a}\x03}]`)).toBe("OK");
    expect(await client.ask(`m${hex(DATA)},3`)).toBe(Buffer.from("a#}").toString("hex"));
    expect(await client.ask("m9000000,4"), "no memory").toBe("E0e");
    const across = await client.ask(`m${hex(CODE + 0xfffc)},8`);
    expect(across, "as much as there is").toBe("00000000");
    await client.close();
    await world.isDetached(vm);
    expect(await world.word(vm, LOOP)).toBe(a64.add(0, 0, 7));
  });

  it("stops for exits that its client would answer, and tells them", async () => {
    const words = [...a64.mov(1, BigInt(UART)), a64.strb(2, 1), ...a64.powerOff()];
    const vm = await world.vm({ words });
    const client = await world.open(vm);
    client.send("vCont;c");
    const told = Buffer.from((await client.packet()).slice(1), "hex").toString();
    expect(told).toBe("vCPU 0: MMIO store of 0x00, 1 bytes at 0x9000000\n");
    expect(await client.packet()).toMatch(/^T17thread:1;/);
    const runs = (await world.call("GET", `${vm}/vcpus/0/runs`)).body["items"];
    expect(JSON.stringify(runs)).toContain("KVM_EXIT_MMIO");
    expect(await client.ask("vCont;c")).toBe("W00");
    expect(await client.next()).toBe(null);
  });

  it("gets its own BRK: the exception goes to its vector", async () => {
    const words = [...a64.mov(1, BigInt(OTHER)), a64.msr("VBAR_EL1", 1), a64.brk(7)];
    const vm = await world.vm({ words });
    await world.write(vm, OTHER + 0x200, [a64.mrs(3, "ESR_EL1"), a64.b(0)]);
    const client = await world.open(vm);
    expect(await client.ask(`Z1,${hex(OTHER + 0x204)},4`)).toBe("OK");
    expect(await client.ask("vCont;c")).toMatch(/^T05thread:1;/);
    expect(await client.register(PC)).toBe(BigInt(OTHER + 0x204));
    expect(await client.register(3)).toBe((0x3cn << 26n) | (1n << 25n) | 7n);
    await client.close();
  });

  it("has its vCPUs as threads, of which one may step alone", async () => {
    const vm = await world.vm({ vcpus: 2 });
    const client = await world.open(vm);
    expect([await client.ask("qfThreadInfo"), await client.ask("qsThreadInfo")]).toEqual([
      "m1,2",
      "l",
    ]);
    const extra = Buffer.from(await client.ask("qThreadExtraInfo,2"), "hex").toString();
    expect([extra, await client.ask("T2"), await client.ask("T3")]).toEqual([
      "vCPU 1",
      "OK",
      "E16",
    ]);
    expect(await client.ask("vCont;s:2")).toMatch(/^T05thread:2;/);
    expect([await client.ask("Hg2"), await client.register(5)]).toEqual(["OK", 1n]);
    expect([await client.ask("Hg1"), await client.register(PC)]).toEqual(["OK", BigInt(CODE)]);
    // Thread 1 steps while 2 runs on.
    expect(await client.ask("vCont;s:1;c")).toMatch(/^T05thread:1;/);
    expect(await client.ask(`Z0,${hex(OTHER)},4`)).toBe("OK");
    expect(await client.ask("vCont;c")).toMatch(/^T05thread:2;/);
    await client.close();
  });

  it("stays as it was when its debugger vanishes while it runs", async () => {
    const vm = await world.vm();
    const client = await world.open(vm);
    expect(await client.ask(`Z0,${hex(OTHER)},4`)).toBe("OK");
    client.send("vCont;c");
    expect(await client.next()).toBe("+");
    expect(await client.ask("g"), "it runs").toBe("E10");
    const vcpu = async () => (await world.call("GET", `${vm}/vcpus/0`)).body;
    await world.until(async () => Number((await vcpu())["retired"]) > 10);
    await client.close();
    await world.isDetached(vm);
    expect(await world.word(vm, OTHER)).toBe(a64.add(5, 5, 1));
    expect((await vcpu())["state"]).toBe("idle");
    const again = await GdbClient.open({ path: String((await gdbOf(vm))["path"]) });
    expect(await again.register(0)).toBeGreaterThan(1n);
    await again.close();
  });
});

describe("noise", () => {
  it("ends a connection at worst, and the next one is served", async () => {
    const vm = await world.vm();
    const { body } = await world.done("POST", `${vm}/gdb`, { listen: "unix" });
    const at = { path: String(body["path"]) };
    const prng = new Prng(9n);
    for (let round = 0; round < 20; round++) {
      const client = await GdbClient.open(at);
      const length = prng.below(5000);
      // "$" and "#" often enough that some of it looks like packets.
      const byte = () => (prng.below(20) === 0 ? "$?#3f" : String.fromCharCode(prng.below(256)));
      client.raw(Array.from({ length }, byte).join(""));
      if (round % 4 === 0) client.raw(`$${"m".repeat(100_000)}`);
      await client.close();
      // It may be gone before the service has seen it come.
      await world.until(async () => {
        const { attached, counts } = await gdbOf(vm);
        return attached === false && (counts as { connections: number }).connections > round;
      });
    }
    const client = await GdbClient.open(at);
    expect(await client.ask("qAttached")).toBe("1");
    await client.close();
    expect((await world.call("GET", "/readyz")).status).toBe(200);
  });
});

describe("a VM with a board", () => {
  it("breaks before its first instruction, and runs on through its console", async () => {
    const vm = await world.board("hello");
    const client = await world.open(vm);
    expect(await client.register(PC)).toBe(0x4008_0000n);
    expect(await client.ask("vCont;s:1")).toMatch(/^T05thread:1;/);
    expect(await client.register(PC)).toBe(0x4008_0004n);
    expect(await client.ask("P1c=0100000000000000"), "though it is the board's").toBe("OK");
    expect(await client.register(28)).toBe(1n);
    expect((await world.call("GET", `${vm}/board`)).body["state"]).toBe("paused");
    const refused = await world.call("POST", `${vm}:resume`);
    expect([refused.status, refused.body["code"]]).toEqual([409, "owned-by-debugger"]);
    client.send("vCont;c");
    await world.until(async () => {
      return (await world.console(vm)).includes("type a line");
    });
    client.interrupt();
    expect(await client.packet()).toMatch(/^T02thread:1;/);
    client.send("vCont;c");
    await world.done("POST", `${vm}/console`, { text: "x\n" });
    expect(await client.packet()).toBe("W00");
    await client.close();
  });

  it("has two cores; a detach lets it go on, a lost connection does not", async () => {
    const vm = await world.board("smp", 2);
    const client = await world.open(vm);
    expect(await client.ask("qfThreadInfo")).toBe("m1,2");
    // "second", where core 1 begins.
    const second = 0x4008_0064;
    expect(await client.ask(`Z1,${hex(second)},4`)).toBe("OK");
    expect(await client.ask("vCont;c")).toMatch(/^T05thread:2;/);
    expect(await client.register(PC)).toBe(BigInt(second));
    expect(await client.ask("z1,40080064,4")).toBe("OK");
    expect(await client.ask("vCont;s:2")).toMatch(/^T05thread:2;/);
    await client.close();
    await world.isDetached(vm);
    expect((await world.call("GET", `${vm}/board`)).body["state"]).toBe("paused");
    await world.done("POST", `${vm}:resume`);
    await world.until(async () => {
      return (await world.call("GET", `${vm}/board`)).body["state"] === "shutdown";
    });
    expect(await world.console(vm)).toContain("STATUS=1");
  });

  it("can be deleted while its debugger waits for it", async () => {
    const vm = await world.board("hello");
    const client = await world.open(vm);
    client.send("vCont;c");
    await world.until(async () => (await world.console(vm)).includes("type a line"));
    await world.done("DELETE", vm);
    await client.gone();
    const { status } = await world.call("GET", `${vm}/gdb`);
    expect(status).toBe(404);
  });

  it("goes on after a detach if it ran before", async () => {
    const vm = await world.board("hello");
    await world.done("POST", `${vm}:start`);
    const client = await world.open(vm);
    const state = async () => (await world.call("GET", `${vm}/board`)).body["state"];
    expect([await client.ask("?"), await state()]).toEqual([
      expect.stringMatching(/^T02/),
      "paused",
    ]);
    expect(await client.ask("D")).toBe("OK");
    await world.isDetached(vm);
    expect(await state()).toBe("running");
  });
});
