// Owns: proof that the arrows' check sees what it should: a small tree with planted violations.
// Test process.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { ROOT, read } from "./tree.js";

/** Every room, each importing what it may, from the process down to base. */
const SOUND: Readonly<Record<string, string>> = {
  "main.ts": 'import { app } from "./app.js";\nimport { config } from "./config.js";\napp(config);',
  "config.ts": "export const config = 1;",
  "app.ts": [
    'import { api } from "./api/index.js";',
    'import { service } from "./service/index.js";',
    'import { store } from "./store/index.js";',
    'import { runtime } from "./runtime/index.js";',
    "export const app = (n: number) => [n, api, service, store, runtime];",
  ].join("\n"),
  "api/index.ts": 'import { service } from "../service/index.js";\nexport const api = service;',
  "service/index.ts": [
    'import { store } from "../store/index.js";',
    'import { runtime } from "../runtime/index.js";',
    "export const service = [store, runtime];",
  ].join("\n"),
  "store/index.ts": 'import { base } from "../base/base.js";\nexport const store = base;',
  "runtime/index.ts": 'import { vmm } from "../vmm/index.js";\nexport const runtime = vmm;',
  "vmm/index.ts": 'import { kvm } from "../kvm/index.js";\nexport const vmm = kvm;',
  "kvm/index.ts": 'import { machine } from "../machine/index.js";\nexport const kvm = machine;',
  "machine/index.ts": 'import { base } from "../base/base.js";\nexport const machine = base;',
  "machine/inside.ts": 'import { machine } from "./index.js";\nexport const inside = machine;',
  "machine/inside.worker.ts": 'import "./inside.js";',
  "base/base.ts": "export const base = 0;",
};

/** File to add, its text, and the rule that must report it ("" for one that only helps). */
const PLANTS: readonly (readonly [string, string, string])[] = [
  ["kvm/up.ts", 'import "../service/index.js";', "arrow-kvm"],
  [
    "api/skip.ts",
    'import type { kvm } from "../kvm/index.js";\nexport type K = typeof kvm;',
    "arrow-api",
  ],
  ["service/skip.ts", 'import "../vmm/index.js";', "arrow-service"],
  ["base/up.ts", 'import "../machine/index.js";', "arrow-base"],
  ["machine/up.ts", 'import "../kvm/index.js";', "arrow-machine"],
  ["vmm/up.ts", 'import "../runtime/index.js";', "arrow-vmm"],
  ["store/up.ts", 'import "../service/index.js";', "arrow-store"],
  ["runtime/skip.ts", 'import "../machine/index.js";', "arrow-runtime"],
  [
    "kvm/back.ts",
    'import { inside } from "../machine/inside.js";\nexport { inside };',
    "front-door",
  ],
  ["kvm/wiring.ts", 'import "../config.js";', "rooms-know-no-wiring"],
  ["api/client.ts", 'import "../cli/index.js";', "arrow-api"],
  ["cli/index.ts", 'import "../base/base.js";', ""],
  ["cli/deep.ts", 'import "../vmm/index.js";', "arrow-cli"],
  ["service/client.ts", 'import "../generated/client.js";', "client-types-in-cli"],
  ["generated/client.ts", 'import "../base/base.js";', ""],
  ["cli.ts", 'import "./service/index.js";', "only-app-knows-every-room"],
  ["kvm/guest.ts", 'import "../guest/index.js";', "known-room"],
  ["guest/index.ts", 'import "../base/base.js";', ""],
  ["service/web.ts", 'import "fastify";', "only-api"],
  ["api/rows.ts", 'import "@prisma/client";', "only-store"],
  ["kvm/log.ts", 'import "pino";', "lower-rooms-use-no-packages"],
  ["api/dev.ts", 'import "supertest";', "not-to-dev"],
  ["base/one.ts", 'import "./two.js";', "no-circular"],
  ["base/two.ts", 'import "./one.js";', ""],
  ["base/alone.ts", "export const alone = 1;", "no-orphans"],
  ["base/lost.ts", 'import "./nowhere.js";', "resolvable"],
];

let folder = "";
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function cruise(files: Readonly<Record<string, string>>, config = read(".dependency-cruiser.cjs")) {
  folder = mkdtempSync(join(tmpdir(), "tidemark-arrows-"));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, "src", path)), { recursive: true });
    writeFileSync(join(folder, "src", path), `${text}\n`);
  }
  writeFileSync(join(folder, ".dependency-cruiser.cjs"), config);
  for (const file of ["tsconfig.json", "package.json"]) {
    copyFileSync(join(ROOT, file), join(folder, file));
  }
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const script = join(ROOT, "tools/arrows.mjs");
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
    cwd: folder,
    encoding: "utf8",
  });
  return { status, output: stdout + stderr };
}

it("passes a tree in which every room imports what it may", () => {
  const { status, output } = cruise(SOUND);
  expect(output).toContain("0 violations; 13 modules cruised, src has 13 files");
  expect(status).toBe(0);
});

it("reports every planted violation", () => {
  const planted = Object.fromEntries(PLANTS.map(([path, text]) => [path, text]));
  const { status, output } = cruise({ ...SOUND, ...planted });
  expect(status).toBe(1);
  const missed = PLANTS.filter(
    ([path, , rule]) =>
      !output.split("\n").some((line) => line.startsWith(`${rule}: src/${path} `)),
  );
  expect(missed.filter(([, , rule]) => rule !== "")).toEqual([]);
});

it("fails when it saw fewer modules than src has files", () => {
  const blind = read(".dependency-cruiser.cjs").replace("options: {", 'options: { exclude: "kvm",');
  const { status, output } = cruise(SOUND, blind);
  expect(output).toContain("0 violations");
  expect(output).toContain("cruised fewer modules than src has files");
  expect(status).toBe(1);
});
