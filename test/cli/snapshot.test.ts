// Goal: `snapshot` does what its routes do, and says how far it is.
// Method: the compiled command as a child process against a real service.
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Client } from "../../dist/cli/client.js";
import { type RealService, startReal } from "../support/real-service.js";
import { type Command, openCommand } from "./command.js";

let command: Command;
let service: RealService;
let client: Client;
beforeAll(async () => {
  command = await openCommand("snapshot");
  service = await startReal({ dataDir: join(command.folder, "data") });
  client = new Client(service.origin, null);
});
afterAll(async () => {
  expect(await service.stop()).toBe(0);
  await command.close();
});

const run = (...args: string[]) =>
  command.runToEnd("snapshot", ...args, "--server", service.origin);

it("takes, lists, restores and deletes", async () => {
  const { id: vm } = await client.call("createVm", {}, { name: "mine" });
  const { code, out, err } = await run("create", vm, "--name", "one");
  expect([code, err]).toEqual([0, expect.not.stringContaining("failed")]);
  const first = out.trim();
  const second = (await run("create", vm, "--differential", "--parent", first)).out.trim();
  const listed = await run("list", vm);
  expect(listed.out.split("\n").map((line) => line.split(/ +/).slice(0, 3))).toEqual([
    ...[
      ["ID", "KIND", "STATE"],
      [first, "full", "complete"],
      [second, "differential", "complete"],
    ],
    [""],
  ]);
  const json = JSON.parse((await run("list", vm, "--json")).out) as { name: string | null }[];
  expect(json.map(({ name }) => name)).toEqual(["one", null]);
  const made = (await run("restore", second, "--name", "two")).out.trim();
  expect((await client.call("getVm", { vm: made })).name).toBe("two");
  expect((await run("restore", first, "--in-place", vm)).out.trim()).toBe(vm);
  const used = await run("delete", first);
  expect([used.code, used.err]).toEqual([125, expect.stringContaining(second)]);
  expect(await run("delete", second, first)).toMatchObject({ code: 0 });
  expect((await client.call("listSnapshots")).items).toEqual([]);
}, 60_000);

it("says how it is used", async () => {
  for (const args of [[], ["create"], ["delete"], ["thaw", "vm"]]) {
    const { code, err } = await run(...args);
    expect([args, code, err]).toEqual([args, 125, expect.stringContaining("usage: tidemark s")]);
  }
});
