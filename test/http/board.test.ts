// Goal: images, boards and consoles through the whole service, as a caller uses them.
// Method: the compiled service in this process on a random port; guests of test/guest.
import { createHash } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestImage } from "../support/board.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

const OCTETS = { "content-type": "application/octet-stream" };
const JSON_TYPE = { "content-type": "application/json" };
const HELLO = guestImage("hello");
const WAIT_MS = 20_000;

let service: RealService;
let dataDir: { path: string; remove(): Promise<void> };

beforeAll(async () => {
  dataDir = await temporary("board");
  service = await startReal({ dataDir: dataDir.path });
  await put("hello", HELLO);
  await put("smp", guestImage("smp"));
});
afterAll(async () => {
  await service.stop();
  await dataDir.remove();
});

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly headers: Headers;
}

async function call(method: string, path: string, body?: unknown, headers = {}): Promise<Answer> {
  const isBytes = body instanceof Uint8Array;
  const answer = await fetch(`${service.origin}${path}`, {
    method,
    headers: { ...(body === undefined ? {} : isBytes ? OCTETS : JSON_TYPE), ...headers },
    ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
  });
  const text = await answer.text();
  const isJson = answer.headers.get("content-type")?.includes("json") === true;
  return {
    status: answer.status,
    body: (isJson ? JSON.parse(text) : { text }) as Record<string, unknown>,
    headers: answer.headers,
  };
}

const put = (name: string, bytes: Uint8Array, headers = {}) =>
  call("PUT", `/v1/images/${name}`, bytes, headers);

async function create(board: object, more: object = {}): Promise<string> {
  const made = await call("POST", "/v1/vms", { board: { memoryMiB: 16, ...board }, ...more });
  expect([made.status, made.body]).toEqual([201, made.body]);
  return String(made.headers.get("location"));
}

const board = async (vm: string) => (await call("GET", `${vm}/board`)).body;
const output = async (vm: string) => String((await call("GET", `${vm}/console`)).body["text"]);

async function until(what: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + WAIT_MS; performance.now() < end; ) {
    if (await what()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("it did not happen in time");
}

const isOver = (vm: string) => until(async () => (await board(vm))["state"] === "shutdown");

describe("images", () => {
  it("are kept by their hash beside the database", async () => {
    const sha256 = createHash("sha256").update(HELLO).digest("hex");
    const { status, body, headers } = await call("GET", "/v1/images/hello");
    expect([status, body["sha256"], body["size"]]).toEqual([200, sha256, HELLO.length]);
    expect(readdirSync(join(dataDir.path, "images"))).toContain(sha256);
    const etag = String(headers.get("etag"));
    expect(
      (await call("GET", "/v1/images/hello", undefined, { "if-none-match": etag })).status,
    ).toBe(304);
    const content = await fetch(`${service.origin}/v1/images/hello/content`);
    expect(new Uint8Array(await content.arrayBuffer())).toEqual(HELLO);
    const list = await call("GET", "/v1/images?limit=1");
    expect(list.body["items"]).toMatchObject([{ name: "hello" }]);
    const next = await call("GET", `/v1/images?cursor=${list.body["nextCursor"]}`);
    expect(next.body["items"]).toMatchObject([{ name: "smp" }]);
  });

  it("are replaced and deleted by version, and their files with them", async () => {
    const files = () => readdirSync(join(dataDir.path, "images")).length;
    const before = files();
    const first = await put("mine", Uint8Array.of(1, 2), { "if-none-match": "*" });
    expect([first.status, first.body["version"]]).toEqual([201, 1]);
    expect((await put("mine", Uint8Array.of(9), { "if-none-match": "*" })).status).toBe(412);
    expect((await put("mine", Uint8Array.of(1, 2))).body["version"]).toBe(1);
    const second = await put("mine", Uint8Array.of(3), { "if-match": first.headers.get("etag") });
    expect([second.status, second.body["version"], files()]).toEqual([200, 2, before + 1]);
    const stale = { "if-match": first.headers.get("etag") };
    expect((await call("DELETE", "/v1/images/mine", undefined, stale)).status).toBe(412);
    expect((await call("DELETE", "/v1/images/mine")).status).toBe(204);
    expect((await call("DELETE", "/v1/images/mine")).body["code"]).toBe("image-not-found");
    expect(files()).toBe(before);
  });

  it("stay while a VM names them", async () => {
    const vm = await create({ image: "hello" });
    expect((await call("DELETE", "/v1/images/hello")).body["code"]).toBe("image-in-use");
    expect((await put("hello", Uint8Array.of(1))).body["code"]).toBe("image-in-use");
    expect((await put("hello", HELLO)).status).toBe(200);
    await call("DELETE", vm);
  });

  it("must exist, be images and fit", async () => {
    const refused = async (body: object) => {
      const { status, body: problem } = await call("POST", "/v1/vms", { board: body });
      return [status, problem["code"]];
    };
    expect(await refused({ image: "none" })).toEqual([422, "image-unknown"]);
    // A GICv2 serves eight.
    expect(await refused({ image: "hello", gic: 2, vcpus: 9 })).toEqual([422, "kvm-errno"]);
    await put("elf", Uint8Array.of(0x7f, 0x45, 0x4c, 0x46));
    expect(await refused({ image: "elf" })).toEqual([422, "image-format"]);
    await put("big", new Uint8Array(3 * 2 ** 20).fill(1));
    expect(await refused({ image: "big", memoryMiB: 2 })).toEqual([422, "image-does-not-fit"]);
    for (const name of ["elf", "big"]) await call("DELETE", `/v1/images/${name}`);
  });
});

describe("a board", () => {
  it("has the devices that were asked for, and holds the images behind them", async () => {
    const wrong = async (body: object) => {
      const { status, body: problem } = await call("POST", "/v1/vms", { board: body });
      return [status, problem["code"]];
    };
    for (const body of [
      {},
      { firmware: "hello", initrd: "hello" },
      { image: "hello", its: true },
    ]) {
      expect(await wrong(body)).toEqual([400, "validation"]);
    }
    expect(await wrong({ image: "hello", disk: "none" })).toEqual([422, "image-unknown"]);
    await put("rom", HELLO);
    await put("sda", new Uint8Array(5000));
    const devices = { rtc: true, pci: true, rng: true, console: "virtio", virtio: "legacy" };
    const vm = await create({ firmware: "rom", disk: "sda", ...devices, its: false, gic: 2 });
    const { definition } = (await call("GET", vm)).body as Record<string, unknown> as {
      definition: { board: Record<string, unknown> };
    };
    const named = (name: string) => expect.objectContaining({ name });
    expect(definition.board).toEqual({
      ...{ image: null, initrd: null, cmdline: "", memoryMiB: 16, vcpus: 1, ...devices },
      gic: 2,
      ...{ disk: named("sda"), firmware: named("rom") },
    });
    for (const name of ["rom", "sda"]) {
      expect((await call("DELETE", `/v1/images/${name}`)).body["code"]).toBe("image-in-use");
    }
    expect(await board(vm)).toMatchObject({ format: "firmware", entry: "0x0", dtb: "0x40000000" });
    await call("DELETE", vm);
    for (const name of ["rom", "sda"]) await call("DELETE", `/v1/images/${name}`);
  });

  it("boots, is typed at, powers off and tells its history", async () => {
    const vm = await create({ image: "hello" });
    expect(await board(vm)).toMatchObject({ state: "created", entry: "0x40080000" });
    const started = await call("POST", `${vm}:start`);
    expect([started.status, started.body["state"]]).toEqual([200, "active"]);
    await until(async () => (await output(vm)).includes("type a line\n"));
    const typed = await call("POST", `${vm}/console`, { text: "grüße\n" });
    expect([typed.status, typed.body["accepted"]]).toEqual([200, 8]);
    await isOver(vm);
    const all = "hello from a flat binary\ntype a line\nyou typed: grüße\nEXIT: STATUS=1\n";
    expect(await output(vm)).toBe(all);
    const part = await call("GET", `${vm}/console?offset=6&limit=4`);
    expect([part.body["text"], part.headers.get("console-next")]).toEqual(["from", "10"]);
    const id = vm.split("/").at(-1);
    const events = (await call("GET", "/v1/events?limit=1000")).body["items"] as {
      type: string;
      subject: string;
    }[];
    const types = events.filter((e) => e.subject === `vms/${id}`).map((e) => e.type);
    expect(types).toEqual(["vm.created", "vm.running", "vm.shutdown"]);
    expect((await call("POST", `${vm}:pause`)).body["code"]).toBe("board-state");
    await call("DELETE", vm);
  });

  it("streams its console and its state", async () => {
    const vm = await create({ image: "smp", vcpus: 2 });
    const stream = await fetch(`${service.origin}${vm}/console`, {
      headers: { accept: "text/event-stream" },
    });
    expect(stream.headers.get("content-type")).toContain("text/event-stream");
    await call("POST", `${vm}:start`);
    let seen = "";
    const decoder = new TextDecoder();
    for await (const chunk of stream.body ?? []) {
      seen += decoder.decode(chunk, { stream: true });
      if (seen.includes('"shutdown"')) break;
    }
    const events = seen.split("\n\n").flatMap((block) => {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      const name = /^event: (.*)$/m.exec(block)?.[1];
      return data === undefined ? [] : [[name, JSON.parse(data)] as const];
    });
    const text = events.filter(([name]) => name === "console.output").map(([, d]) => d.text);
    expect(text.join("")).toBe("core 0 is up\ncore 1 is up\ncore 1 is off\nEXIT: STATUS=1\n");
    const states = events.filter(([name]) => name === "board.state").map(([, d]) => d.state);
    expect([states[0], states.at(-1)]).toEqual(["created", "shutdown"]);
    await call("DELETE", vm);
  });

  it("pauses, resumes, resets and powers off; what is its own stays so", async () => {
    const vm = await create({ image: "hello" });
    await call("POST", `${vm}:start`);
    await until(async () => (await output(vm)).includes("type a line\n"));
    expect((await call("POST", `${vm}:pause`)).body["state"]).toBe("paused");
    const register = await call("GET", `${vm}/vcpus/0/registers/0x6030000000100040`);
    expect(register.status).toBe(200);
    expect((await call("POST", `${vm}:reset`)).body).toMatchObject({ state: "paused", resets: 1 });
    expect((await call("POST", `${vm}:resume`)).body["state"]).toBe("running");
    const run = await call("POST", `${vm}/vcpus/0/runs`);
    expect([run.status, run.body["code"]]).toEqual([409, "owned-by-board"]);
    const slot = { guestPhysAddr: "0x0", memorySize: "0x0", userspaceAddr: "0x0", flags: 0 };
    expect((await call("PUT", `${vm}/memslots/0`, slot)).body["code"]).toBe("owned-by-board");
    expect((await call("POST", `${vm}:power-off`)).body["state"]).toBe("shutdown");
    await call("DELETE", vm);
  });

  it("is built and switched on anew after a stop", async () => {
    const vm = await create({ image: "smp", vcpus: 2 });
    expect((await call("POST", `${vm}:stop`)).body["state"]).toBe("stopped");
    expect((await call("GET", `${vm}/board`)).body["code"]).toBe("vm-not-active");
    await call("POST", `${vm}:start`);
    await isOver(vm);
    expect(await output(vm)).toContain("STATUS=1");
    await call("DELETE", vm);
  });

  it("replays from its input log to the same digest", async () => {
    const vm = await create({ image: "hello" }, { clock: { mode: "virtual" } });
    await call("POST", `${vm}:start`);
    await until(async () => (await output(vm)).includes("type a line\n"));
    for (const text of ["a", "b", "c\n"]) await call("POST", `${vm}/console`, { text });
    await isOver(vm);
    const log = (await call("GET", `${vm}/inputs`)).body;
    const made = await call("POST", "/v1/vms", { inputs: { log } });
    const again = String(made.headers.get("location"));
    await until(async () => {
      const kvm = (await call("GET", again)).body["kvm"] as { replaying: boolean };
      return !kvm.replaying;
    });
    expect(await output(again)).toBe(await output(vm));
    const digest = async (path: string) => (await call("GET", `${path}/digest`)).body;
    expect(await digest(again)).toEqual(await digest(vm));
    for (const path of [vm, again]) await call("DELETE", path);
  });

  it("survives a crash of the service as its record, and is started from its image", async () => {
    const folder = await temporary("board-crash");
    const first = await startReal({ dataDir: folder.path });
    const own = service;
    service = first;
    try {
      await put("smp", guestImage("smp"));
      const vm = await create({ image: "smp", vcpus: 2 });
      await first.crash();
      service = await startReal({ dataDir: folder.path });
      expect((await call("GET", vm)).body["state"]).toBe("lost");
      expect((await call("DELETE", "/v1/images/smp")).body["code"]).toBe("image-in-use");
      await call("POST", `${vm}:start`);
      await isOver(vm);
      expect(await output(vm)).toContain("STATUS=1");
      await call("POST", `${vm}:stop`);
      // Somebody touched the file: said, not run.
      const [file = ""] = readdirSync(join(folder.path, "images"));
      writeFileSync(join(folder.path, "images", file), "other bytes");
      const lost = await call("POST", `${vm}:start`);
      expect([lost.status, lost.body["code"]]).toEqual([409, "image-lost"]);
      expect((await call("GET", vm)).body["state"]).toBe("stopped");
    } finally {
      await service.stop();
      service = own;
      await folder.remove();
    }
  });

  it("is none on a VM without one", async () => {
    const made = await call("POST", "/v1/vms", {});
    const vm = String(made.headers.get("location"));
    expect((await call("GET", `${vm}/board`)).body["code"]).toBe("no-board");
    expect((await call("POST", `${vm}:reset`)).body["code"]).toBe("no-board");
    await call("DELETE", vm);
  });
});
