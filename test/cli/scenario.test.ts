// Goal: the restart of message 003 comes out as docs/irqfd.md tells it, in each variant, on both
// GICs, under each policy; its pictures are those of the docs; what differs is said.
// Method: the compiled command, on hosts of its own and on a given one.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client } from "../../dist/cli/client.js";
import {
  EXPECTED,
  type Expected,
  POLICIES,
  type Policy,
  VARIANT_NAMES,
  type VariantName,
} from "../../src/cli/scenario/variants.table.js";
import { ROOT, startReal } from "../support/real-service.js";
import { malformed } from "../support/well-formed.js";
import { type Command, openCommand } from "./command.js";

const SCENARIO = ["scenario", "vfio-restart"];
/** Where the docs' table has what comes of each policy. */
const COLUMN: Readonly<Record<Policy, string>> = {
  mainline: "By default",
  "ack-on-clear-pending": "`irq.ackOnClearPending`",
  "spi-default-level": "`irq.spiDefaultLevelForIrqfd`",
};
const POLICY_NAMES = Object.keys(POLICIES) as Policy[];
/** The docs' pictures. */
const PICTURES: Readonly<Record<Policy, Partial<Record<VariantName, string>>>> = {
  mainline: { A: "vfio-restart-a", B: "vfio-restart-b", C: "vfio-restart-c" },
  "ack-on-clear-pending": { C: "vfio-restart-patch" },
  "spi-default-level": {},
};

interface Run {
  readonly variant: VariantName;
  readonly gic: number;
  readonly outcome: string;
  readonly seen: { readonly taken: boolean[]; readonly acks: number; readonly early: number };
  readonly differences: string[];
  readonly events: { readonly detail: string }[];
}

let command: Command;
beforeAll(async () => {
  command = await openCommand("scenario");
});
afterAll(async () => {
  expect(await command.leftovers()).toEqual([]);
  await command.close();
});

const run = (...args: string[]) => command.runToEnd(...SCENARIO, ...args);
const file = (...path: string[]) => readFileSync(join(ROOT, ...path), "utf8");

function cellOf({ outcome, taken, acks, early }: Expected): string {
  return `${outcome}: ${taken} taken, ${acks} acked${early > 0 ? ` (${early} by clearing)` : ""}`;
}

/** A row of the docs' table by its columns' titles. */
function told(variant: VariantName): ReadonlyMap<string, string> {
  const lines = file("docs", "irqfd.md").split("\n");
  const cells = (line: string) => line.split("|").map((cell) => cell.trim());
  const titles = cells(lines.find((line) => line.startsWith("| Variant |")) ?? "");
  const row = cells(lines.find((line) => line.startsWith(`| ${variant} |`)) ?? "");
  return new Map(titles.map((title, at) => [title, row[at] ?? ""]));
}

it.each(VARIANT_NAMES)("the docs' table and the command's are one: %s", (variant) => {
  const row = told(variant);
  for (const policy of POLICY_NAMES) {
    expect(row.get(COLUMN[policy])).toBe(cellOf(EXPECTED[policy][variant]));
  }
});

describe.each(POLICY_NAMES)("under %s", (policy) => {
  it("every variant comes out as told on both GICs, and is drawn", async () => {
    const flag = policy === "mainline" ? [] : [`--${policy}`];
    const svg = ["--svg", join(command.folder, `${policy}.svg`)];
    const { code, out, err } = await run("--gic", "2,3", "--json", ...flag, ...svg);
    expect([code, err]).toEqual([0, ""]);
    const { runs } = JSON.parse(out) as { runs: Run[] };
    const found = runs.map(({ variant, gic, outcome, seen }) => {
      const { taken, acks, early } = seen;
      return [variant, gic, cellOf({ outcome, taken: taken.length, acks, early } as Expected)];
    });
    const row = (variant: VariantName) => told(variant).get(COLUMN[policy]);
    const all = VARIANT_NAMES.flatMap((name) => [2, 3].map((gic) => [name, gic, row(name)]));
    expect(found).toEqual(all);
    for (const { variant, gic } of runs) {
      const name = `${policy}-${variant.toLowerCase()}-v${gic}.svg`;
      const drawn = readFileSync(join(command.folder, name), "utf8");
      expect([name, malformed(drawn)]).toEqual([name, null]);
      const shipped = gic === 3 ? PICTURES[policy][variant] : undefined;
      if (shipped !== undefined) expect(drawn).toBe(file("docs", "images", `${shipped}.svg`));
    }
  }, 120_000);
});

it("the docs show every picture", () => {
  const docs = file("docs", "irqfd.md");
  for (const name of Object.values(PICTURES).flatMap((all) => Object.values(all))) {
    expect(docs).toContain(`(images/${name}.svg)`);
  }
});

it("tells what each does, VFIO before KVM_IRQFD too", async () => {
  const { code, out } = await run("--variant", "b", "--gic", "2", "--vfio-first");
  expect(code).toBe(0);
  const second = out.slice(out.indexOf("VM 2 gets"), out.indexOf("something to say again"));
  const order = [
    ...["VFIO_DEVICE_SET_IRQS", "vfio_automasked_irq_handler device=0", "KVM_IRQFD gsi=8"],
    ...["kvm_set_irq gsi=8 level=1", "pending by its latch", "GICD_ICENABLER1 = 0x100"],
    ...["GICD_ICFGR2 = 0x0", "GICD_ISENABLER1 = 0x100", "GICC_IAR is 40", "status: line high"],
    ...["device CLEAR = 0x1", "GICC_EOIR = 40", "kvm_ack_irq irqchip=0 pin=8"],
    ...["kvm_set_irq gsi=8 level=0", "vfio_platform_unmask device=0"],
  ];
  const places = order.map((text) => second.indexOf(text));
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(places).not.toContain(-1);
  expect(out).toMatch(/^B {8}v2 +recovered +1 +1 +0 +1 +yes +yes$/m);
}, 60_000);

it("ends with 1 where something else comes out, and says what", async () => {
  const set = ["--set", "irq.spiDefaultLevelForIrqfd=true"];
  const { code, out } = await run("--variant", "B,C", "--quiet", ...set);
  expect(code).toBe(1);
  expect(out).toMatch(/^B .* yes$/m);
  expect(out).toMatch(/^C .* no: outcome: recovered, but told is lost; taken: 1, but told is 0/m);
}, 60_000);

it("says how it is used", async () => {
  const wrong = [
    ["scenario"],
    ["scenario", "flood"],
    [...SCENARIO, "--variant", "D"],
    [...SCENARIO, "--gic", "4"],
    [...SCENARIO, "--set", "x"],
    [...SCENARIO, "--ack-on-clear-pending", "--spi-default-level"],
  ];
  for (const args of wrong) {
    const { code, err } = await command.runToEnd(...args);
    expect([args, code, err]).toEqual([args, 125, expect.stringContaining("usage: tidemark sc")]);
  }
  expect(await run("--help")).toMatchObject({ code: 0, out: expect.stringMatching(/^usage/) });
  const unwritable = await run("--variant", "a", "--svg", join(command.folder, "none", "a.svg"));
  expect([unwritable.code, unwritable.err]).toEqual([125, expect.stringContaining("written")]);
}, 60_000);

it("takes everything back from a given host", async () => {
  const service = await startReal({ dataDir: join(command.folder, "data") });
  try {
    const client = new Client(service.origin, null);
    const { code } = await run("--variant", "C", "--quiet", "--server", service.origin);
    expect(code).toBe(0);
    expect((await client.call("listVms")).items).toEqual([]);
    expect((await client.call("listEventfds")).items).toEqual([]);
    const refused = await run(
      "--variant",
      "C",
      "--set",
      "irq.era=1805",
      "--server",
      service.origin,
    );
    expect([refused.code, refused.err]).toEqual([125, expect.stringContaining("irq.era")]);
    expect((await client.call("listEventfds")).items).toEqual([]);
  } finally {
    expect(await service.stop()).toBe(0);
  }
}, 60_000);
