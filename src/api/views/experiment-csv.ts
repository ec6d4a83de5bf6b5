// Owns: an experiment's results as comma-separated values, RFC 4180. HTTP thread.
import type { ExperimentResults } from "../services.js";

type Row = ExperimentResults["strategies"][number]["rows"][number];
type Column = readonly [string, (row: Row) => string | number];

const COLUMNS: readonly Column[] = [
  ["phase", (row) => row.phase],
  ["round", (row) => row.round],
  ["dirtied", (row) => row.dirtied],
  ["reported", (row) => row.reported],
  ["falsePositives", (row) => row.falsePositives],
  ["lost", (row) => row.lost],
  ["late", (row) => row.late],
  ["mapFaultExits", (row) => row.exits.mapFault],
  ["writeFaultExits", (row) => row.exits.writeFault],
  ["hdbssFullExits", (row) => row.exits.hdbssFull],
  ["ringFullExits", (row) => row.exits.ringFull],
  ["kickExits", (row) => row.exits.kick],
  ["otherExits", (row) => row.exits.other],
  ["drains", (row) => row.drains],
  ["drainedEntries", (row) => row.drainedEntries],
  ["batches", (row) => row.batches],
  ["fallbacks", (row) => row.fallbacks],
  ["tlbis", (row) => row.tlbis],
  ["splits", (row) => row.splits],
  ["pagesProtected", (row) => row.pagesProtected],
  ["runErrors", (row) => row.runErrors],
  ["guestStallCycles", (row) => row.cycles.guestStall],
  ["ioctlCycles", (row) => row.cycles.ioctl],
  ["lockHeldCycles", (row) => row.cycles.lockHeld],
  ["formulaCycles", (row) => row.formula?.expected ?? ""],
  ["countedCycles", (row) => row.formula?.counted ?? ""],
  ["runMs", (row) => row.runMs],
  ["ioctlMs", (row) => row.ioctlMs],
];

/** A spreadsheet takes a text that begins like this for a formula. */
const FORMULA = /^[=+\-@\t\r]/;

function cell(value: string | number): string {
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function experimentCsv({ strategies, costModel }: ExperimentResults): string {
  const events = Object.keys(costModel).sort();
  const header = ["strategy", ...COLUMNS.map(([name]) => name), ...events];
  const lines = strategies.flatMap(({ strategy, rows }) =>
    rows.map((row) => {
      const byEvent: Readonly<Record<string, number>> = row.cycles.byEvent;
      return [
        strategy.name,
        ...COLUMNS.map(([, read]) => read(row)),
        ...events.map((key) => byEvent[key] ?? 0),
      ];
    }),
  );
  return [header, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}
