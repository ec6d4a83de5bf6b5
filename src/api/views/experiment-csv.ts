// Owns: an experiment's results as comma-separated values, RFC 4180. HTTP thread.
import type { ExperimentResults, InterruptResults, TrackingResults } from "../services.js";
import { isOfInterrupts } from "./experiment-kind.js";

type RowOf<R extends ExperimentResults> = R["strategies"][number]["rows"][number];
type Columns<Row> = readonly (readonly [string, (row: Row) => string | number])[];

const COLUMNS: Columns<RowOf<TrackingResults>> = [
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

const INTERRUPT_COLUMNS: Columns<RowOf<InterruptResults>> = [
  ["round", (row) => row.round],
  ["raised", (row) => row.raised],
  ["roundTrips", (row) => row.roundTrips],
  ["coalesced", (row) => row.coalesced],
  ["unserved", (row) => row.unserved],
  ["forNothing", (row) => row.forNothing],
  ["storms", (row) => row.storms],
  ["exits", (row) => row.exits],
  ["maintenanceExits", (row) => row.maintenanceExits],
  ["deactivationTraps", (row) => row.deactivationTraps],
  ["acks", (row) => row.acks],
  ["lateAcks", (row) => row.lateAcks],
  ["missedAcks", (row) => row.missedAcks],
  ["needlessAcks", (row) => row.needlessAcks],
  ["ackLatencyMeanNs", (row) => row.ackLatencyNs?.mean ?? ""],
  ["ackLatencyMaxNs", (row) => row.ackLatencyNs?.max ?? ""],
  ["vdrcfgReads", (row) => row.vdrcfgReads],
  ["vdrcfgSaved", (row) => row.vdrcfgSaved],
  ["listLocks", (row) => row.listLocks],
  ["inFlightMax", (row) => row.inFlightMax],
  ["cycles", (row) => row.cycles.total],
  ["cyclesPerRoundTrip", (row) => row.cycles.perRoundTrip],
  ["guestNs", (row) => row.guestNs],
  ["runMs", (row) => row.runMs],
];

/** A spreadsheet takes a text that begins like this for a formula. */
const FORMULA = /^[=+\-@\t\r]/;

function cell(value: string | number): string {
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

type Costed = { readonly cycles: { readonly byEvent: Readonly<Record<string, number>> } };

function csvOf<Row extends Costed>(
  strategies: readonly { strategy: { name: string }; rows: readonly Row[] }[],
  columns: Columns<Row>,
  events: readonly string[],
): string {
  const header = ["strategy", ...columns.map(([name]) => name), ...events];
  const lines = strategies.flatMap(({ strategy, rows }) =>
    rows.map((row) => [
      strategy.name,
      ...columns.map(([, read]) => read(row)),
      ...events.map((key) => row.cycles.byEvent[key] ?? 0),
    ]),
  );
  return [header, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}

export function experimentCsv(results: ExperimentResults): string {
  const events = Object.keys(results.costModel).sort();
  if (isOfInterrupts(results)) return csvOf(results.strategies, INTERRUPT_COLUMNS, events);
  return csvOf(results.strategies, COLUMNS, events);
}
