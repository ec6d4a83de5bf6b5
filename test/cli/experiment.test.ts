// Goal: `experiment` finds the images that its file names by paths, and says how to get those of
// Debian that aren't there. Method: the compiled command with files of its own.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { guestImage } from "../support/board.js";
import { type Command, openCommand } from "./command.js";

let command: Command;
beforeAll(async () => {
  command = await openCommand("experiment");
});
afterAll(async () => {
  await command.close();
});

function fileWith(images: { image: string; initrd?: string }): string {
  const workload = { kind: "image", memoryMiB: 8, instructionsPerRound: 100_000, rounds: 1 };
  const body = { workload: { ...workload, ...images }, strategies: [{ tracking: "dbm" }] };
  const path = join(command.folder, "experiment.json");
  writeFileSync(path, JSON.stringify(body));
  return path;
}

it("uploads image and initrd, the last file where a name has a star", async () => {
  mkdirSync(join(command.folder, "images"));
  writeFileSync(join(command.folder, "images", "stores-1.bin"), "what nobody can start");
  writeFileSync(join(command.folder, "images", "stores-2.bin"), guestImage("stores"));
  const images = { image: "./images/stores-*.bin", initrd: "./images/stores-1.bin" };
  const json = join(command.folder, "results.json");
  const { code, out } = await command.runToEnd("experiment", fileWith(images), "--json", json);
  expect([code, out.split("\n")[1]]).toEqual([0, expect.stringMatching(/^DBM \+ scan/)]);
  const { workload } = JSON.parse(readFileSync(json, "utf8"));
  expect(workload.image.name).toMatch(/^[0-9a-f]{12}-stores-2\.bin$/);
  expect(workload.initrd.name).toMatch(/^[0-9a-f]{12}-stores-1\.bin$/);
}, 120_000);

it("says where Debian's come from, and nothing of it for other files", async () => {
  const guests = await command.runToEnd("experiment", fileWith({ image: "./.guests/vmlinuz-*" }));
  expect([guests.code, guests.err]).toEqual([125, expect.stringContaining("npm run guests:fetch")]);
  const other = await command.runToEnd("experiment", fileWith({ image: "./none" }));
  expect([other.code, other.err]).toEqual([125, expect.not.stringContaining("guests:fetch")]);
  expect(other.err).toContain("can't be read");
});
