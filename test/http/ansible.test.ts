// Goal: an orchestrator that knows nothing of us moves a VM with what it has: requests, a Location,
// polling, an assertion. A failure is told, and leaves nothing behind.
// Method: Debian's ansible-core runs the example's playbook against two real hosts.
import { spawn } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { missing, program, programVersion } from "../../tools/debian.mjs";
import { ROOT } from "../support/real-service.js";
import { type Name, TwoHosts } from "../support/two-hosts.js";

const COMMAND = "ansible-playbook";
const LONG_MS = 240_000;
const isThere = programVersion(COMMAND) !== null;

let hosts: TwoHosts;
/** A copy of the example, which is what a user has. */
let folder: string;
beforeAll(async () => {
  hosts = await TwoHosts.start("ansible");
  folder = join(hosts.folder, "example");
  cpSync(join(ROOT, "examples/ansible"), folder, { recursive: true });
}, LONG_MS);
afterAll(() => hosts.stop());

/** Runs it; what it is told differs from the example's hosts.yml only in this. */
function play(vars: object): Promise<{ code: number | null; output: string }> {
  const url = (name: Name) => `http://127.0.0.1:${hosts.port(name)}`;
  const given = {
    source: { name: "host-a", url: url("host-a") },
    target: { name: "host-b", url: url("host-b") },
    token_file: hosts.tokenFile,
    image_file: join(ROOT, "test/guest/hello.bin"),
    ...vars,
  };
  writeFileSync(join(folder, "given.json"), JSON.stringify(given));
  const args = ["migrate.yml", "-e", "@hosts.yml", "-e", "@given.json"];
  const env = { PATH: process.env["PATH"], HOME: hosts.folder, ANSIBLE_NOCOLOR: "1" };
  const child = spawn(program(COMMAND), args, { cwd: folder, env });
  let output = "";
  const keep = (chunk: Buffer): void => {
    output += chunk.toString("utf8");
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
}

async function namesOf(host: Name): Promise<readonly unknown[]> {
  const { body } = await hosts.call(host, "GET", "/v1/vms");
  return (body["items"] as { name: unknown }[]).map(({ name }) => name);
}

async function migrationsOf(host: Name) {
  const { body } = await hosts.call(host, "GET", "/v1/migrations");
  return (body["items"] as Record<string, unknown>[]).map(({ direction, peer, state }) => {
    return { direction, peer, state };
  });
}

describe("examples/ansible", () => {
  it(
    "moves a guest from one host to the other, and deletes it there",
    async (context) => {
      if (!isThere) context.skip(missing(COMMAND));
      const { code, output } = await play({});
      expect(output).toMatch(/localhost +: ok=\d+ .*unreachable=0 +failed=0 /);
      expect(code, output).toBe(0);
      expect(output).toMatch(/Down for [\d.]+ ms of [\d.]+ ms\./);
      const state = "completed";
      expect(await migrationsOf("host-a")).toEqual([
        { direction: "outgoing", peer: "host-b", state },
      ]);
      expect(await migrationsOf("host-b")).toEqual([
        { direction: "incoming", peer: "host-a", state },
      ]);
      expect([await namesOf("host-a"), await namesOf("host-b")]).toEqual([[], []]);
    },
    LONG_MS,
  );

  it(
    "fails where there is no such peer, or the guest never comes up, and leaves nothing behind",
    async (context) => {
      if (!isThere) context.skip(missing(COMMAND));
      const url = `http://127.0.0.1:${hosts.port("host-b")}`;
      const unknown = await play({ target: { name: "host-c", url } });
      expect([unknown.code, unknown.output]).toEqual([
        2,
        expect.stringContaining("host-a has no peer host-c: see its PEERS_FILE."),
      ]);
      // A guest that never says that is not moved.
      const silent = await play({ greeting: "never said", tries: 2 });
      expect([silent.code, silent.output]).toEqual([
        2,
        expect.stringMatching(/Wait until the guest is up[\s\S]*fatal[\s\S]*Delete it, or what is/),
      ]);
      expect(await namesOf("host-a")).toEqual([]);
      expect(await migrationsOf("host-a")).toHaveLength(1);
    },
    LONG_MS,
  );
});
