// Goal: `migrate` moves a VM, says how far it is and how it ended, by its status too.
// Method: the compiled command against the compiled service, which is its own peer.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestImage } from "../support/board.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";
import { type Command, openCommand } from "./command.js";

const LONG_MS = 120_000;

let command: Command;
let service: RealService;
let dataDir: { path: string; remove(): Promise<void> };

beforeAll(async () => {
  command = await openCommand("migrate");
  dataDir = await temporary("cli-migrate");
  service = await startReal({ dataDir: dataDir.path });
  const put = await fetch(`${service.origin}/v1/images/hello`, {
    method: "PUT",
    headers: { "content-type": "application/octet-stream" },
    body: Buffer.from(guestImage("hello")),
  });
  expect(put.ok).toBe(true);
});
afterAll(async () => {
  await service.stop();
  await dataDir.remove();
  await command.close();
});

/** Megabytes of no zeros, so that a slow link is busy with them. */
const BALLAST = new Uint8Array(4 * 2 ** 20).fill(0xa5);

async function boot(name: string, initrd?: string): Promise<string> {
  const memory = initrd === undefined ? 8 : 32;
  const board = { image: "hello", memoryMiB: memory, ...(initrd === undefined ? {} : { initrd }) };
  const made = await fetch(`${service.origin}/v1/vms`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name, board }),
  });
  const { id } = (await made.json()) as { id: string };
  await fetch(`${service.origin}/v1/vms/${id}:start`, { method: "POST" });
  return id;
}

const run = (...args: string[]) => command.runToEnd(...args, "--server", service.origin);

describe("tidemark migrate", () => {
  it(
    "moves a VM by its name and sums up; migrations lists both sides",
    async () => {
      await boot("guest");
      const dry = await run("migrate", "guest", "--to", "local", "--dry-run");
      expect([dry.code, dry.out]).toEqual([0, expect.stringContaining("It can move: 8.0 MiB.")]);
      const moved = await run("migrate", "guest", "--to", "local", "--channels", "2", "--verify");
      expect(moved.out).toMatch(/^It runs on local: \d+ ms, \d+ rounds, [\d.]+ MiB sent, down for/);
      expect(moved.code).toBe(0);
      // No terminal: a line for each step, none with a bar's control characters.
      expect(moved.err).toContain("completed");
      expect(moved.err).not.toContain("\x1b");
      const list = await run("migrations");
      expect(list.out.split("\n")[0]).toMatch(/^ID +STATE +WAY +VM +PEER +ROUNDS +SENT +DOWN$/);
      expect(list.out).toMatch(/completed +to +guest +local/);
      expect(list.out).toMatch(/completed +from +guest +local/);
      // What it left behind has the same name, and isn't meant.
      expect((await run("migrate", "guest", "--to", "local", "--json")).code).toBe(0);
    },
    LONG_MS,
  );

  it(
    "detaches, is cancelled by Ctrl-C, and says what can't be",
    async () => {
      const url = `${service.origin}/v1/images/ballast`;
      const headers = { "content-type": "application/octet-stream" };
      await fetch(url, { method: "PUT", headers, body: Buffer.from(BALLAST) });
      const vm = await boot("other", "ballast");
      const slow = ["--bandwidth", "0.2", "--channels", "1"];
      const args = ["migrate", vm, "--to", "local", ...slow, "--server", service.origin];
      const { child, ended } = command.start(...args);
      await expect
        .poll(async () => (await run("migrations")).out, { timeout: LONG_MS / 2 })
        .toMatch(/active +to +other/);
      child.kill("SIGINT");
      const { code, out } = await ended;
      expect([code, out]).toEqual([130, expect.stringContaining("The migration is cancelled")]);
      const nobody = await run("migrate", vm, "--to", "nobody");
      expect([nobody.code, nobody.err]).toEqual([125, expect.stringContaining("knows no peer")]);
      const late = ["--strategy", "post-copy", "--verify", "--dry-run"];
      const post = await run("migrate", vm, "--to", "local", ...late);
      expect([post.code, post.out]).toEqual([125, expect.stringContaining("It can't move.")]);
      const detached = await run("migrate", vm, "--to", "local", "--detach");
      expect([detached.code, detached.out]).toEqual([0, expect.stringMatching(/^mig_\S+\n$/)]);
      expect((await run("migrate", vm)).err).toContain("takes --to PEER");
      expect((await run("migrate", "no-such", "--to", "local")).err).toContain("There is no VM");
    },
    LONG_MS,
  );
});
