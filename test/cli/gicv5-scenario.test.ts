// Goal: message 004's case comes out as docs/gicv5.md tells it under each SPI tracking; the
// pictures are those of the docs.
// Method: the compiled command, on hosts of its own.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TOLD, type Tracking } from "../../src/cli/scenario/resample.js";
import { ROOT } from "../support/real-service.js";
import { malformed } from "../support/well-formed.js";
import { type Command, openCommand } from "./command.js";

const PICTURES: readonly Tracking[] = ["exact", "none", "seed004"];
const MS = 120_000;

let command: Command;
beforeAll(async () => {
  command = await openCommand("gicv5-scenario");
});
afterAll(async () => {
  expect(await command.leftovers()).toEqual([]);
  await command.close();
});

const run = (...args: string[]) => command.runToEnd("scenario", "gicv5-resample", ...args);
const docs = (...path: string[]) => readFileSync(join(ROOT, "docs", ...path), "utf8");

describe("tidemark scenario gicv5-resample", () => {
  it(
    "comes out as told, with the pictures of the docs",
    async () => {
      const svg = join(command.folder, "picture.svg");
      const { code, out } = await run("--tracking", PICTURES.join(","), "--svg", svg);
      expect([code, out.match(/\(as told\)/g)?.length]).toEqual([0, PICTURES.length]);
      for (const tracking of PICTURES) {
        const made = readFileSync(svg.replace(".svg", `-${tracking}.svg`), "utf8");
        expect(malformed(made)).toBeNull();
        expect(made).toBe(docs("images", `gicv5-resample-${tracking}.svg`));
      }
    },
    MS,
  );

  it(
    "shows why the posted test can't be true: the line is high until somebody is told",
    async () => {
      const { code, out } = await run("--tracking", "seed004-notifier-only");
      expect(code).toBe(0);
      expect(out).toContain("VDRCFG: pending, line high: in flight");
      expect(out).not.toContain("kvm_ack_irq");
    },
    MS,
  );

  it("is what the docs' table says", () => {
    const page = docs("gicv5.md");
    for (const [tracking, { acks, forNothing, servesNext }] of Object.entries(TOLD)) {
      const next = servesNext ? "yes" : "no";
      expect(page).toContain(`| \`${tracking}\` | ${acks} | ${forNothing} | ${next} |`);
    }
  });

  it(
    "says how it is called",
    async () => {
      const help = await run("--help");
      expect([help.code, help.out]).toEqual([0, expect.stringContaining("--tracking LIST")]);
      const wrong = await run("--tracking", "some");
      expect([wrong.code, wrong.err]).toEqual([125, expect.stringContaining("--tracking takes")]);
    },
    MS,
  );
});
