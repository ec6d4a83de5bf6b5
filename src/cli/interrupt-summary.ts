// Owns: a comparison of interrupt controllers as lines. CLI process.
import type { Operations } from "../generated/client.js";

type Strategy = Operations["getExperimentResults"]["answer"]["strategies"][number];
export type InterruptStrategy = Extract<Strategy, { strategy: { gic: number } }>;
type Row = InterruptStrategy["rows"][number];

export function isOfInterrupts(one: Strategy): one is InterruptStrategy {
  return "gic" in one.strategy;
}

export const INTERRUPT_COLUMNS = [
  ...["STRATEGY", "RAISED", "TRIPS", "NOTHING", "STORMS", "UNSERVED", "EXITS", "ACKS", "LATE"],
  ...["MISSED", "NEEDLESS", "LATENCY/NS", "VDRCFG", "SAVED", "CYCLES/TRIP", "MS"],
] as const;

/** Mean over all acknowledgements. */
function latencyOf(rows: readonly Row[]): string {
  const told = rows.filter(({ ackLatencyNs }) => ackLatencyNs !== null);
  const acks = told.reduce((total, row) => total + row.acks, 0);
  const ns = told.reduce((total, row) => total + (row.ackLatencyNs?.mean ?? 0) * row.acks, 0);
  return acks === 0 ? "-" : String(Math.round(ns / acks));
}

export function interruptLine({
  strategy,
  state,
  error,
  rows,
}: InterruptStrategy): readonly string[] {
  if (state !== "done") return [strategy.name, `${state}: ${error ?? ""}`];
  const sum = (of: (row: Row) => number) => rows.reduce((total, row) => total + of(row), 0);
  const text = (of: (row: Row) => number) => String(Math.round(sum(of)));
  const trips = Math.max(
    1,
    sum((row) => row.roundTrips),
  );
  return [
    strategy.name,
    text((row) => row.raised),
    text((row) => row.roundTrips),
    text((row) => row.forNothing),
    text((row) => row.storms),
    String(rows.at(-1)?.unserved ?? 0),
    text((row) => row.exits),
    text((row) => row.acks),
    text((row) => row.lateAcks),
    text((row) => row.missedAcks),
    text((row) => row.needlessAcks),
    latencyOf(rows),
    text((row) => row.vdrcfgReads),
    text((row) => row.vdrcfgSaved),
    String(Math.round(sum((row) => row.cycles.total) / trips)),
    text((row) => row.runMs),
  ];
}
