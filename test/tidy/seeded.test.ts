// Owns: proof that each house rule can fail: a planted violation per spelling. Test process.
import { describe, expect, it } from "vitest";
import * as rules from "./code-rules.js";
import * as text from "./text-rules.js";

const HEADER = "// Owns: a plant. Any thread.\n";
const plant = (path: string, body: string) => [{ path, text: `${HEADER}${body}\n` }];
const put = "TO" + "DO";

describe("house rules report what is planted", () => {
  it.each([
    ["4096", rules.noPageLiterals, "src/kvm/a.ts", "export const a = 4096;"],
    ["4_096", rules.noPageLiterals, "src/machine/a.ts", "export const a = 4_096;"],
    ["0x1000", rules.noPageLiterals, "src/api/a.ts", "export const a = 0x1000;"],
    ["0xfffn", rules.noPageLiterals, "src/vmm/a.ts", "export const a = (x: bigint) => x & 0xfffn;"],
    ["<< 12", rules.noPageLiterals, "src/kvm/a.ts", "export const a = (x: number) => x << 12;"],
    [">>> 12", rules.noPageLiterals, "src/kvm/a.ts", "export const a = (x: number) => x >>> 12;"],
    [
      ">> 12n",
      rules.noPageLiterals,
      "src/runtime/a.ts",
      "export const a = (x: bigint) => x >> 12n;",
    ],
    [">>= 12", rules.noPageLiterals, "src/service/a.ts", "let a = 1; a >>= 12; export { a };"],
    ["2 ** 12", rules.noPageLiterals, "src/kvm/a.ts", "export const a = 2 ** 12;"],
    ["bare excuse", rules.noPageLiterals, "src/kvm/a.ts", "export const a = 4096; // tidy:"],
    ["process.env", rules.environmentOnlyInConfig, "src/app.ts", "export const a = process.env;"],
    [
      "env import",
      rules.environmentOnlyInConfig,
      "src/a.ts",
      'import { env } from "node:process";',
    ],
    ["Date.now", rules.timeOnlyFromClock, "src/kvm/a.ts", "export const a = Date.now();"],
    ["new Date", rules.timeOnlyFromClock, "src/kvm/a.ts", "export const a = new Date();"],
    ["Math.random", rules.timeOnlyFromClock, "src/kvm/a.ts", "export const a = Math.random();"],
    ["setTimeout", rules.timeOnlyFromClock, "src/api/a.ts", "setTimeout(() => {}, 1);"],
    ["setInterval", rules.timeOnlyFromClock, "src/api/a.ts", "globalThis; setInterval(f, 1);"],
    ["performance", rules.timeOnlyFromClock, "src/api/a.ts", "export const a = performance.now();"],
    ["timers", rules.timeOnlyFromClock, "src/a.ts", 'import * as t from "node:timers/promises";'],
    ["console", rules.noConsole, "src/kvm/a.ts", 'console.log("here");'],
    [
      "Worker file",
      rules.threadsBeginInWorkerFiles,
      "src/a.ts",
      'new Worker(new URL("./a.js", u));',
    ],
    ["long line", text.lineLength, "test/a.ts", `export const a = "${"x".repeat(90)}";`],
    ["long file", text.fileLength, "src/kvm/a.ts", "//\n".repeat(601)],
    ["put off", text.nothingPutOff, "docs/a.md", `${put}: later`],
    ["skipped", text.nothingPutOff, "test/a.ts", `it.${"skip"}("later", () => {});`],
    ["home path", text.noMachinePaths, "docs/a.md", `see /${"home"}/somebody/notes`],
  ] as const)("%s", (_name, rule, path, body) => {
    expect(rule(plant(path, body))).toHaveLength(1);
  });

  it.each([
    [
      "excused page",
      rules.noPageLiterals,
      "src/kvm/a.ts",
      "export const a = 4096; // tidy: ring entries",
    ],
    ["page in a table", rules.noPageLiterals, "src/kvm/a.table.ts", "export const a = 4096;"],
    ["page in base", rules.noPageLiterals, "src/base/page.ts", "export const a = 4096;"],
    ["12 as a count", rules.noPageLiterals, "src/kvm/a.ts", "export const a = 12;"],
    ["clock itself", rules.timeOnlyFromClock, "src/base/clock.ts", "export const a = Date.now();"],
    [
      "a method's name",
      rules.timeOnlyFromClock,
      "src/a.ts",
      "export const a = { setTimeout() {} };",
    ],
    ["a given time", rules.timeOnlyFromClock, "src/a.ts", "export const a = new Date(0);"],
    ["words in a text", rules.noConsole, "src/a.ts", 'export const a = "console";'],
    ["config", rules.environmentOnlyInConfig, "src/config.ts", "export const a = process.env;"],
    ["long table", text.fileLength, "src/kvm/a.table.ts", "//\n".repeat(601)],
  ] as const)("and leaves alone: %s", (_name, rule, path, body) => {
    expect(rule(plant(path, body))).toEqual([]);
  });

  it("header comment", () => {
    const bare = [{ path: "src/a.ts", text: "export {};\n" }];
    const threadless = [{ path: "src/a.ts", text: "// Owns: something.\nexport {};\n" }];
    expect(text.headerComment(bare)).toHaveLength(1);
    expect(text.headerComment(threadless)).toHaveLength(1);
    expect(text.headerComment(plant("src/a.ts", "export {};"))).toEqual([]);
  });

  it("stateful class without a round trip", () => {
    const said = plant("src/kvm/a.ts", "export class Log implements Stateful {}");
    const saves = plant("src/machine/a.ts", "export class Tlb { save() {} }");
    expect(rules.roundTripsMissing([...said, ...saves], "")).toHaveLength(2);
    expect(rules.roundTripsMissing([...said, ...saves], 'rows = [Log, "Tlb"];')).toEqual([]);
    expect(rules.roundTripsMissing(plant("src/store/a.ts", "class R { save() {} }"), "")).toEqual(
      [],
    );
  });

  it("pages: titles, links, anchors, commands", () => {
    const page = (body: string) => [{ path: "docs/a.md", text: body }];
    expect(text.oneTitle(page("# A\n# B\n"))).toHaveLength(1);
    expect(text.oneTitle(page("text\n"))).toHaveLength(1);
    expect(text.oneTitle(page("# A\n```sh\n# comment\n```\n"))).toEqual([]);
    const exists = (path: string) => path === "docs/a.md";
    expect(text.deadLinks(page("# A\n[x](b.md)"), exists)).toHaveLength(1);
    expect(text.deadLinks(page("# A\n[x](#b)"), exists)).toHaveLength(1);
    expect(text.deadLinks(page("# A `b` c\n[x](#a-b-c) [y](https://a.b/)"), exists)).toEqual([]);
    expect(text.unknownScripts(page("npm run nothing"), ["test"])).toHaveLength(1);
  });

  it("lock: download address, missing optional package", () => {
    const lock = (entry: object) => JSON.stringify({ packages: { "node_modules/a": entry } });
    expect(text.lockFaults(lock({ resolved: "https://a.b/c.tgz" }))).toHaveLength(1);
    expect(text.lockFaults(lock({ optionalDependencies: { b: "1.0.0" } }))).toHaveLength(1);
    expect(text.lockFaults(lock({ version: "1.0.0" }))).toEqual([]);
  });
});
