// Goal: the process starts, says where it is, drains on a signal, and refuses in one sentence.
// Method: the compiled service on a free port with a directory of its own.
import { spawn } from "node:child_process";
import { chmod, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { freePort, ROOT, startReal, temporary } from "../support/real-service.js";

let directory: Awaited<ReturnType<typeof temporary>>;
beforeEach(async () => {
  directory = await temporary("process");
});
afterEach(() => directory.remove());

const dataDir = () => join(directory.path, "data");

/** Starts a service that is about to refuse. @returns its exit code and what it printed */
function refusal(env: Record<string, string>): Promise<{ code: number | null; text: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [join(ROOT, "dist", "main.js")], {
      cwd: ROOT,
      env: { PATH: process.env["PATH"], DATA_DIR: dataDir(), LOG_LEVEL: "silent", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.once("close", (code) => resolve({ code, text }));
  });
}

describe("start", () => {
  it("says where the API, the page and the checks are", async () => {
    const service = await startReal({ dataDir: dataDir() });
    try {
      const said = service.output();
      for (const path of ["/v1/host", "/docs", "/openapi.json", "/livez", "/readyz", "/version"]) {
        expect(said).toContain(`${service.origin}${path}`);
        expect((await fetch(`${service.origin}${path}`)).status, path).toBe(200);
      }
    } finally {
      expect(await service.stop()).toBe(0);
    }
  });

  it("refuses a port that is taken", async () => {
    const port = await freePort();
    const other = createServer().listen(port, "127.0.0.1");
    const { code, text } = await refusal({ PORT: String(port) });
    other.close();
    expect(code).toBe(1);
    expect(text).toMatch(/^tidemark: Port taken: .*Set PORT to a free one\.\n$/);
  });

  it("refuses another address without tokens", async () => {
    const { code, text } = await refusal({ HOST: "0.0.0.0" });
    expect(code).toBe(1);
    expect(text).toMatch(/^tidemark: HOST=0\.0\.0\.0 .*TOKENS_FILE.*\n$/);
  });

  it("refuses a token file that is none", async () => {
    const file = join(directory.path, "tokens");
    await writeFile(file, "nonsense\n");
    const broken = await refusal({ TOKENS_FILE: file });
    expect(broken.text).toMatch(/^tidemark: TOKENS_FILE .* line 1 is not .*\n$/);
    const absent = await refusal({ TOKENS_FILE: `${file}2` });
    expect(absent.text).toMatch(/^tidemark: TOKENS_FILE .*ENOENT.*\n$/);
  });

  it("refuses a data directory that can't be written", async () => {
    const file = join(directory.path, "file");
    await writeFile(file, "");
    const { code, text } = await refusal({ DATA_DIR: join(file, "data") });
    expect(code).toBe(1);
    expect(text).toMatch(/^tidemark: DATA_DIR .* can't be written \(ENOTDIR\).*\n$/);
    // The superuser may write anywhere.
    if (process.getuid?.() === 0) return;
    await chmod(directory.path, 0o500);
    expect((await refusal({})).text).toContain("EACCES");
    await chmod(directory.path, 0o700);
  });

  it("refuses a directory that another service uses", async () => {
    const service = await startReal({ dataDir: dataDir() });
    const { code, text } = await refusal({ PORT: String(await freePort()) });
    expect(await service.stop()).toBe(0);
    expect(code).toBe(1);
    expect(text.split("\n")).toHaveLength(2);
  });

  it("refuses an environment that makes no sense", async () => {
    const { code, text } = await refusal({ PORT: "http" });
    expect(code).toBe(1);
    expect(text).toMatch(/^tidemark: The environment is not usable: .*PORT.*\n$/);
  });
});

describe("stop", () => {
  it("answers what waits, ends streams and idle sockets, and exits with 0", async () => {
    const service = await startReal({ dataDir: dataDir() });
    const json = { "content-type": "application/json" };
    const at = (path: string, init: RequestInit = {}) => fetch(`${service.origin}${path}`, init);
    const vm = (await at("/v1/vms", { method: "POST" })).headers.get("location") ?? "";
    await at(`${vm}/vcpus/0`, { method: "PUT" });
    const program = {
      kind: "pattern",
      pattern: "uniform",
      base: "0x0",
      bytes: "0x100000",
      writePercent: 0,
    };
    await at(`${vm}/memory-objects`, {
      method: "POST",
      headers: json,
      body: '{"size":"0x100000"}',
    });
    const slot = { guestPhysAddr: "0x0", memorySize: "0x100000", memoryObjectId: 1 };
    await at(`${vm}/memslots/0`, { method: "PUT", headers: json, body: JSON.stringify(slot) });
    const put = { method: "PUT", headers: json, body: JSON.stringify(program) };
    expect((await at(`${vm}/vcpus/0/program`, put)).status).toBe(200);
    const run = await at(`${vm}/vcpus/0/runs`, { method: "POST" });
    expect(run.status).toBe(202);
    const waiting = at(`${run.headers.get("location")}?wait=60`).then((a) => a.json());
    const stream = await at("/v1/events", { headers: { accept: "text/event-stream" } });
    const streamed = stream.text();
    const idle = connect(service.port, "127.0.0.1");
    idle.on("error", () => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await service.stop()).toBe(0);
    expect(await waiting).toMatchObject({ state: "running" });
    expect(await streamed).toMatch(/event: server\.ready[\s\S]*event: server\.draining/);
    idle.destroy();
  });
});
