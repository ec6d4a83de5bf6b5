// Owns: when a replayed answer equals the recorded one. Any thread.
import type { Args, Outcome } from "./line.js";
import { compressPages, expandPages } from "./page-set.js";

/** Members of `out` that are sets of pages, in either spelling. */
const PAGE_SETS = new Set(["dirty", "bits"]);
/** Members that are 64-bit values, or lists of them. */
const WIDE = new Set(["value", "values", "phys_addr"]);

/**
 * Compares errno, ret and every member of out.
 * @returns null when equal, else what differs: [expected, got] as short texts
 */
export function difference(expected: Outcome, got: Outcome): readonly [string, string] | null {
  if (expected.errno !== got.errno) return [describe(expected), describe(got)];
  if (expected.errno === null && expected.ret !== got.ret) {
    return [`ret ${expected.ret}`, `ret ${got.ret}`];
  }
  const names = new Set([...Object.keys(expected.out), ...Object.keys(got.out)]);
  const different = [...names].filter(
    (name) => canonical(name, expected.out[name]) !== canonical(name, got.out[name]),
  );
  if (different.length === 0) return null;
  return [describeOut(expected.out, different), describeOut(got.out, different)];
}

function describe(outcome: Outcome): string {
  return outcome.errno ?? `success, ret ${outcome.ret}`;
}

function describeOut(out: Args, names: readonly string[]): string {
  return names.map((name) => `${name} ${canonical(name, out[name])}`).join(", ");
}

/** One text per meaning: runs joined, 64-bit values without leading zeros, members sorted. */
export function canonical(name: string, value: unknown): string {
  return JSON.stringify(normal(name, value)) ?? "absent";
}

function normal(name: string, value: unknown): unknown {
  if (PAGE_SETS.has(name) && Array.isArray(value)) return compressPages(expandPages(value));
  if (WIDE.has(name) && Array.isArray(value)) return value.map((item) => normal(name, item));
  if (WIDE.has(name) && isWideText(value)) return `0x${BigInt(value).toString(16)}`;
  if (Array.isArray(value)) return value.map((item) => normal("", item));
  if (typeof value === "object" && value !== null) {
    const members = value as Record<string, unknown>;
    const sorted = Object.keys(members).sort();
    return Object.fromEntries(sorted.map((key) => [key, normal(key, members[key])]));
  }
  return value;
}

function isWideText(value: unknown): value is string {
  return typeof value === "string" && /^(0x[0-9a-fA-F]+|[0-9]+)$/.test(value);
}
