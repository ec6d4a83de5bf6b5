// Owns: house rules on lines, files and pages. Test process.
// A rule takes files and answers a sentence per violation, beginning with its place.
import { posix } from "node:path";
import type { Rule } from "./code-rules.js";
import type { SourceFile } from "./tree.js";

export const LINE_COLUMNS = 100;
export const FILE_LINES_WARN = 400;
export const FILE_LINES = 600;

/** Makes a rule from a test of one line. */
function lineRule(applies: (path: string) => boolean, find: (line: string) => string): Rule {
  return (files) =>
    files
      .filter(({ path }) => applies(path))
      .flatMap(({ path, text }) =>
        text.split("\n").flatMap((line, at) => {
          const sentence = find(line);
          return sentence === "" ? [] : [`${path}:${at + 1}: ${sentence}`];
        }),
      );
}

/** A row is read best on one line, however long table and line get. */
const isTable = (path: string): boolean => path.endsWith(".table.ts");
const isCode = (path: string): boolean => /\.(ts|mjs|cjs)$/.test(path);

/** An address can't be broken. */
export const lineLength = lineRule(
  (path) => isCode(path) && !isTable(path),
  (line) =>
    line.length > LINE_COLUMNS && !/https?:\/\//.test(line) ? `${line.length} columns` : "",
);

// Spelled in halves, or this file would report itself.
const PUT_OFF = new RegExp(
  `\\b(${["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"].join("|")})\\b`,
);
const SKIPS = new RegExp(`\\b(it|test|describe)\\.(sk${"ip"}|to${"do"})\\b(?!If)|@ts-${"ignore"}`);

/** Work that is put off belongs into an issue, and a skipped test proves nothing. */
export const nothingPutOff = lineRule(
  () => true,
  (line) => (PUT_OFF.test(line) || SKIPS.test(line) ? "puts something off" : ""),
);

const HOME = /(^|[^\w.:/-])\/(work|farm|root|home|Users|tmp|var\/tmp)\/\w/;

export const noMachinePaths = lineRule(
  () => true,
  (line) => (HOME.test(line) ? "an absolute path of somebody's machine" : ""),
);

/** The comment block that a file opens with, after an optional `#!` line. */
function opening(text: string): string {
  const lines = text.replace(/^#!.*\n/, "").split("\n");
  const end = lines.findIndex((line) => !line.startsWith("//"));
  return lines.slice(0, end === -1 ? lines.length : end).join("\n");
}

/** House style (d): what a file owns, and which thread runs it. */
export const headerComment: Rule = (files) =>
  files
    .filter(({ path }) => isCode(path))
    .flatMap(({ path, text }) => {
      const header = opening(text);
      if (!path.startsWith("src/"))
        return header === "" ? [`${path}:1: opens without comment`] : [];
      if (!header.startsWith("// Owns: ")) return [`${path}:1: opens without "// Owns: …"`];
      const where = /thread|process|inline|types only|data only|by hand/i.test(header);
      return !where ? [`${path}:1: header names no thread`] : [];
    });

function longer(files: readonly SourceFile[], limit: number): string[] {
  return files
    .filter(({ path }) => isCode(path) && !isTable(path))
    .map(({ path, text }) => ({ path, lines: text.trimEnd().split("\n").length }))
    .filter(({ lines }) => lines > limit)
    .map(({ path, lines }) => `${path}: ${lines} lines`);
}

export const fileLength: Rule = (files) => longer(files, FILE_LINES);
export const fileLengthWarning: Rule = (files) => longer(files, FILE_LINES_WARN);

/** Lines of a page outside fenced blocks. */
function prose(text: string): string[] {
  let fenced = false;
  return text.split("\n").map((line) => {
    const fence = /^\s*(```|~~~)/.test(line);
    if (fence) fenced = !fenced;
    return fenced || fence ? "" : line;
  });
}

export const oneTitle: Rule = (files) =>
  files.flatMap(({ path, text }) => {
    const titles = prose(text).filter((line) => /^# /.test(line)).length;
    return titles === 1 ? [] : [`${path}: ${titles} titles, a page has one`];
  });

/** A heading's anchor as GitHub makes it. */
export function anchor(heading: string): string {
  const words = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
  return words
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replace(/\s/g, "-");
}

function anchorsOf(text: string): Set<string> {
  const found = new Set<string>();
  for (const line of prose(text)) {
    const heading = /^#{1,6}\s+(.*)$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const base = anchor(heading);
    let name = base;
    for (let n = 1; found.has(name); n++) name = `${base}-${n}`;
    found.add(name);
  }
  return found;
}

/**
 * Relative links of pages lead somewhere, to the heading too.
 * @param exists whether a path from the root is a file or folder
 */
export function deadLinks(
  pages: readonly SourceFile[],
  exists: (path: string) => boolean,
): string[] {
  const byPath = new Map(pages.map((page) => [page.path, page.text]));
  return pages.flatMap(({ path, text }) =>
    prose(text).flatMap((line, at) => {
      const links = line.replace(/`[^`]*`/g, "").matchAll(/\]\(<?([^)\s>]+)>?[^)]*\)/g);
      return [...links].flatMap((match) => {
        const link = match[1] ?? "";
        if (/^[a-z+]+:/i.test(link)) return [];
        const [file = "", heading] = decodeURI(link).split("#");
        const target = file === "" ? path : posix.join(posix.dirname(path), file);
        if (!exists(target)) return [`${path}:${at + 1}: ${link} leads nowhere`];
        const page = byPath.get(target);
        const lost = heading !== undefined && page !== undefined && !anchorsOf(page).has(heading);
        return lost ? [`${path}:${at + 1}: ${link} names no heading`] : [];
      });
    }),
  );
}

/** Commands that pages advertise must exist in package.json. */
export function unknownScripts(pages: readonly SourceFile[], scripts: readonly string[]): string[] {
  const known = new Set(scripts);
  return pages.flatMap(({ path, text }) =>
    [...text.matchAll(/npm run ([\w:-]+)/g)]
      .map((match) => match[1] ?? "")
      .filter((name) => !known.has(name))
      .map((name) => `${path}: package.json has no script "${name}"`),
  );
}

/** The lock is whole and names no server. */
export function lockFaults(text: string): string[] {
  const { packages } = JSON.parse(text) as {
    packages: Record<string, { resolved?: string; optionalDependencies?: Record<string, string> }>;
  };
  return Object.entries(packages).flatMap(([path, entry]) => [
    ...(entry.resolved === undefined ? [] : [`${path}: records where it was downloaded`]),
    ...Object.keys(entry.optionalDependencies ?? {})
      .filter((name) =>
        [`${path}/node_modules/${name}`, `node_modules/${name}`].every(
          (at) => packages[at] === undefined,
        ),
      )
      .map((name) => `${name}: no entry, npm ci refuses; run npm run lock:complete`),
  ]);
}
