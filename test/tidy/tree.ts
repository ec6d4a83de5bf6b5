// Owns: the files that house rules look at: what a clone has, read once. Test process.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export interface SourceFile {
  /** From the repository's root, with slashes. */
  readonly path: string;
  readonly text: string;
}

/** Made by tools or by running the service; none of them is in a clone. */
const MADE = new Set([
  ".git",
  ".guests",
  "node_modules",
  "dist",
  "data",
  "coverage",
  "src/generated",
]);
const TEXT = /\.(ts|mjs|cjs|json|md|ya?ml|sql|prisma|sh|example)$|(^|\/)(Dockerfile|run|\.[a-z]+)$/;

function walk(folder: string, found: string[]): string[] {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    const name = relative(ROOT, path).split(sep).join("/");
    if (MADE.has(name) || /\.(log|tsbuildinfo)$|^\.env$/.test(name)) continue;
    if (entry.isDirectory()) walk(path, found);
    else if (entry.isFile()) found.push(name);
  }
  return found;
}

/** Every file of the repository. */
export const paths: readonly string[] = walk(ROOT, []).sort();

export function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** Bytes of a file. */
export function sizeOf(path: string): number {
  return statSync(join(ROOT, path)).size;
}

/** Text files outside fixtures and outputs that are committed. */
export const texts: readonly SourceFile[] = paths
  .filter((path) => TEXT.test(path) && !/^(test\/fixtures|openapi)\/|^package-lock/.test(path))
  .map((path) => ({ path, text: read(path) }));

/** Files that people write code in. */
export const code: readonly SourceFile[] = texts.filter(({ path }) => /\.(ts|mjs|cjs)$/.test(path));

/** Product code. */
export const source: readonly SourceFile[] = code.filter(({ path }) => path.startsWith("src/"));

export const pages: readonly SourceFile[] = texts.filter(({ path }) => path.endsWith(".md"));
