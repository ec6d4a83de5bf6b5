// Owns: a scenario as lines: what happened, and what came of it. CLI process.
import { table } from "../table.js";
import type { Picture } from "./diagram.js";
import { LANES, type SceneEvent } from "./events.js";
import type { Restart } from "./restart.js";
import { OUTCOMES, type Outcome, VARIANTS } from "./variants.table.js";

const LANE_WIDTH = Math.max(...LANES.map((lane) => lane.length));
const WHO_WIDTH = 2 * LANE_WIDTH + 3;
const TEXT_WIDTH = 34;
const US_WIDTH = 8;

function lineOf({ vm, us, from, to, text, detail }: SceneEvent): string {
  if (from === null) return `  ── ${text} ──\n`;
  const who = from === to || to === null ? from : `${from.padEnd(LANE_WIDTH)} ▶ ${to}`;
  const when = (us === null ? "" : us.toFixed(3)).padStart(US_WIDTH);
  const what = `${who.padEnd(WHO_WIDTH)}  ${text.padEnd(TEXT_WIDTH)}`;
  return `${`  ${vm} ${when}  ${what}  ${detail}`.trimEnd()}\n`;
}

function nameOf({ variant, gic, policy }: Restart): string {
  return `Variant ${variant}, GICv${gic}${policy === "mainline" ? "" : `, ${policy}`}`;
}

const MOODS: Readonly<Record<Outcome, Picture["mood"]>> = {
  waiting: "",
  lost: "bad",
  stuck: "bad",
  recovered: "good",
  "served twice": "good",
  "for nothing": "good",
};

export function pictureOf(restart: Restart): Picture {
  const { variant, events, outcome } = restart;
  return {
    title: nameOf(restart),
    subtitle: VARIANTS[variant].title,
    outcome: `${outcome}: ${OUTCOMES[outcome]}`,
    mood: MOODS[outcome],
    events,
  };
}

/** Every event of a run, and its outcome. */
export function story(
  { title, subtitle, outcome, events }: Picture,
  odd: readonly string[],
): string {
  const verdict = odd.length === 0 ? "as told" : odd.join("; ");
  const head = `${title}: ${subtitle}\n  VM     us  who\n`;
  return `${head}${events.map(lineOf).join("")}  ${outcome} (${verdict})\n\n`;
}

const COLUMNS = [
  ...["VARIANT", "GIC", "OUTCOME", "TAKEN", "ACKS", "BEFORE", "INTERRUPTS", "NEXT", "AS TOLD"],
];

const yesOrNo = (is: boolean) => (is ? "yes" : "no");

function row({ variant, gic, outcome, seen, differences }: Restart): readonly string[] {
  const { taken, acks, early, interrupts, servesNext } = seen;
  return [
    ...[variant, `v${gic}`, outcome],
    ...[taken.length, acks, early, interrupts].map(String),
    servesNext === null ? "-" : yesOrNo(servesNext),
    differences.length === 0 ? "yes" : `no: ${differences.join("; ")}`,
  ];
}

/** A line for each run. */
export function summary(all: readonly Restart[]): string {
  return table([COLUMNS, ...all.map(row)]);
}
