// Owns: what pictures of experiments show: bars over all rounds, and a line by round. HTTP thread.
import type { InterruptResults, TrackingResults } from "../services.js";

type Row = TrackingResults["strategies"][number]["rows"][number];
type InterruptRow = InterruptResults["strategies"][number]["rows"][number];
export type ChartMetric = "cycles" | "per-page" | "exits" | "pages" | "wall";

export interface Series<R> {
  readonly name: string;
  readonly of: (row: R) => number;
  /** The figure is a share of this. */
  readonly per?: (row: R) => number;
}

/** What the bars show, and the lines beside them. */
export interface Metric<R> {
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly Series<R>[];
  readonly line: Series<R>;
}

export const TRACKING_METRICS: Readonly<Record<ChartMetric, Metric<Row>>> = {
  cycles: {
    title: "Modelled cycles, all rounds",
    unit: "cycles",
    bars: [
      { name: "guest stall", of: (row) => row.cycles.guestStall },
      { name: "caller (GET, CLEAR, reset)", of: (row) => row.cycles.ioctl },
    ],
    line: { name: "Guest stall by round", of: (row) => row.cycles.guestStall },
  },
  "per-page": {
    title: "Modelled cycles per page dirtied",
    unit: "cycles",
    bars: [
      { name: "guest stall", of: (row) => row.cycles.guestStall, per: (row) => row.dirtied },
      {
        name: "caller (GET, CLEAR, reset)",
        of: (row) => row.cycles.ioctl,
        per: (row) => row.dirtied,
      },
    ],
    line: {
      name: "Caller's cycles per page, by round",
      of: (row) => row.cycles.ioctl,
      per: (row) => row.dirtied,
    },
  },
  exits: {
    title: "Exits, all rounds",
    unit: "exits",
    bars: [
      { name: "write fault", of: (row) => row.exits.writeFault },
      { name: "translation fault", of: (row) => row.exits.mapFault },
      { name: "HDBSS full", of: (row) => row.exits.hdbssFull },
      { name: "ring full", of: (row) => row.exits.ringFull },
    ],
    line: { name: "Write faults by round", of: (row) => row.exits.writeFault },
  },
  pages: {
    title: "Pages, all rounds",
    unit: "pages",
    bars: [
      { name: "reported", of: (row) => row.reported - row.falsePositives },
      { name: "falsely reported", of: (row) => row.falsePositives },
      { name: "lost", of: (row) => row.lost },
    ],
    line: { name: "Reported by round", of: (row) => row.reported },
  },
  wall: {
    title: "Real time on this machine, all rounds",
    unit: "ms",
    bars: [
      { name: "stores", of: (row) => row.runMs },
      { name: "GET, CLEAR, reset", of: (row) => row.ioctlMs },
    ],
    line: { name: "Stores by round", of: (row) => row.runMs },
  },
};

const eventOf = (key: keyof InterruptRow["cycles"]["byEvent"]) => (row: InterruptRow) =>
  row.cycles.byEvent[key] ?? 0;
const trips = (row: InterruptRow) => row.roundTrips;
const CYCLES: readonly Series<InterruptRow>[] = [
  { name: "exits", of: eventOf("exitEntry") },
  { name: "raised, taken", of: (row) => eventOf("irqInject")(row) + eventOf("irqTaken")(row) },
  { name: "SPI tracking", of: (row) => eventOf("vdrcfgRead")(row) + eventOf("spiListLock")(row) },
  { name: "notifiers", of: eventOf("ackNotify") },
];

export const INTERRUPT_METRICS: Readonly<Record<ChartMetric, Metric<InterruptRow>>> = {
  cycles: {
    title: "Modelled cycles, all rounds",
    unit: "cycles",
    bars: CYCLES,
    line: { name: "Cycles by round", of: (row) => row.cycles.total },
  },
  "per-page": {
    title: "Modelled cycles per round trip",
    unit: "cycles",
    bars: CYCLES.map((series) => ({ ...series, per: trips })),
    line: { name: "Cycles per round trip", of: (row) => row.cycles.total, per: trips },
  },
  exits: {
    title: "Exits and VDRCFG reads, all rounds",
    unit: "times",
    bars: [
      { name: "exits", of: (row) => row.exits },
      { name: "VDRCFG reads", of: (row) => row.vdrcfgReads },
      { name: "reads saved", of: (row) => row.vdrcfgSaved },
    ],
    line: { name: "Exits by round", of: (row) => row.exits },
  },
  pages: {
    title: "Acknowledgements, all rounds",
    unit: "times",
    bars: [
      { name: "in time", of: (row) => row.acks - row.lateAcks - row.needlessAcks },
      { name: "late", of: (row) => row.lateAcks },
      { name: "missed", of: (row) => row.missedAcks },
      { name: "needless", of: (row) => row.needlessAcks },
    ],
    line: { name: "Round trips by round", of: trips },
  },
  wall: {
    title: "Real time on this machine, all rounds",
    unit: "ms",
    bars: [{ name: "rounds", of: (row) => row.runMs }],
    line: { name: "By round", of: (row) => row.runMs },
  },
};
