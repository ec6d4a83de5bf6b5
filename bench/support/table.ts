// Owns: rows as people read them. Runner process.
import type { Row } from "./subject.js";

/** Three significant digits, thousands apart: 0.0123, 4.57, 12 345. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 1000) {
    return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, " ");
  }
  return String(Number(value.toPrecision(3)));
}

function cells(row: Row): readonly string[] {
  return [
    row.subject,
    row.what,
    digits(row.figure),
    row.unit,
    row.ratio === null ? "" : `${row.ratio.toFixed(2)}x`,
    row.bar ?? "",
    row.met === null ? "" : row.met ? "met" : "MISSED",
  ];
}

/** One row as it comes in, for whoever watches. */
export function lineOf(row: Row): string {
  const [, what, figure, unit, ...judged] = cells(row);
  return [`${what}: ${figure} ${unit}`, ...judged.filter((cell) => cell !== "")].join(", ");
}

const HEAD = ["subject", "what", "figure", "unit", "ratio", "bar", ""];
/** Columns of numbers stand flush right. */
const RIGHT = new Set([2, 4]);

/** The rows as lines of equal columns. */
export function tableOf(rows: readonly Row[]): string {
  const lines = [HEAD, ...rows.map(cells)];
  const widths = HEAD.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, at) => {
          const width = widths[at] ?? 0;
          return RIGHT.has(at) ? cell.padStart(width) : cell.padEnd(width);
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
