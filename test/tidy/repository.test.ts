// Owns: house rules on pages, sizes and package files. Test process.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as text from "./text-rules.js";
import { pages, paths, ROOT, read, sizeOf, texts } from "./tree.js";

const MEGABYTE = 1_000_000;
const manifest = JSON.parse(read("package.json")) as {
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  allowScripts: Record<string, boolean>;
};

describe("house rules on the repository", () => {
  it("has pages with one title each", () => {
    expect(text.oneTitle(pages)).toEqual([]);
  });

  it("has links that lead somewhere", () => {
    expect(text.deadLinks(pages, (path) => existsSync(join(ROOT, path)))).toEqual([]);
  });

  it("advertises commands that exist", () => {
    expect(text.unknownScripts(pages, Object.keys(manifest.scripts))).toEqual([]);
  });

  it("puts nothing off", () => {
    expect(text.nothingPutOff(texts)).toEqual([]);
  });

  it("names no path of a machine", () => {
    expect(text.noMachinePaths(texts)).toEqual([]);
  });

  it("has no large files outside fixtures but the API's document", () => {
    const document = "openapi/openapi.json";
    const small = paths.filter((path) => !path.startsWith("test/fixtures/") && path !== document);
    expect(small.filter((path) => sizeOf(path) > MEGABYTE)).toEqual([]);
    expect(sizeOf(document)).toBeLessThan(2 * MEGABYTE);
  });

  it("pins every dependency exactly", () => {
    const all = { ...manifest.dependencies, ...manifest.devDependencies };
    const loose = Object.entries(all).filter(
      ([, version]) => !/^\d+\.\d+\.\d+(-\S+)?$/.test(version),
    );
    expect(loose).toEqual([]);
  });

  it("has a lock that npm ci takes and that names no server", () => {
    expect(text.lockFaults(read("package-lock.json"))).toEqual([]);
  });

  it("decides on every install script", () => {
    const lock = JSON.parse(read("package-lock.json")) as {
      packages: Record<string, { hasInstallScript?: boolean; os?: string[] }>;
    };
    // fsevents has a script too, for an operating system that is never a server's.
    const undecided = Object.entries(lock.packages)
      .filter(([, entry]) => entry.hasInstallScript === true && entry.os === undefined)
      .map(([path]) => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length))
      .filter((name) => manifest.allowScripts[name] === undefined);
    expect(undecided).toEqual([]);
  });
});
