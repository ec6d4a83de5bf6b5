// Owns: the picture of a migration: what was left, how fast it came, went and was slowed down, and
// the downtime, predicted and real, by round; where the VM moved. Drawn by ECharts without a
// browser. HTTP thread.
import type { MigrationResource, RoundRecord } from "../services.js";
import { short } from "./experiment-chart.js";

const WIDTH = 1000;
const HEIGHT = 800;
const COLOURS = ["#3266ad", "#d1603d", "#5b9a52", "#8a63b0", "#b8860b", "#c0392b"];
const LEFT = 90;
const RIGHT = 60;
/** Each row begins below the axis of the one before and its own axis' name. */
const ROWS = {
  first: { top: 145, height: 170 },
  second: { top: 375, height: 170 },
  third: { top: 605, height: 150 },
} as const;
const MS_PER_S = 1000;

function describe({ peer, direction, state, failure, parameters }: MigrationResource): string {
  const way = direction === "outgoing" ? `to ${peer}` : `from ${peer}`;
  const why = failure === null ? "" : `: ${failure.detail}`;
  return `${parameters.strategy}, ${way}, ${state}${why}`;
}

/** Seconds since the session began, at a round's end. */
const endOf = ({ startMs, durationMs }: RoundRecord): number => (startMs + durationMs) / MS_PER_S;

/** Rounds that went with every vCPU held, and those that followed the VM. */
const isHeld = ({ decision, predictedDowntimeMs }: RoundRecord): boolean =>
  predictedDowntimeMs === null && decision.action === "switchover";
const isPush = ({ decision }: RoundRecord): boolean => decision.action === "push";

/** Where vCPUs were held, and where the VM went ahead of its pages: a line each. */
function marks(rounds: readonly RoundRecord[]) {
  const pushes = rounds.filter(isPush);
  const at = [
    ...rounds
      .filter(isHeld)
      .slice(0, 1)
      .map((round) => ({ round, name: "switchover" })),
    ...pushes.map((round, n) => ({
      round,
      name: n === 0 ? "switchover to post-copy" : "pushed again",
    })),
  ];
  return {
    symbol: "none",
    label: { formatter: "{b}", position: "insideEndTop" as const },
    lineStyle: { color: "#1b1b1b", type: "dashed" as const },
    data: at.map(({ round, name }) => ({ name, xAxis: round.startMs / MS_PER_S })),
  };
}

const whole = (ms: number): string => `${Math.round(ms)} ms`;

/** "downtime: predicted 12 ms, really 14 ms, at most 300 ms planned" */
function downtime(
  { parameters, statistics }: MigrationResource,
  rounds: readonly RoundRecord[],
): string {
  const { predictedDowntimeMs = null } =
    rounds.findLast((round) => round.predictedDowntimeMs !== null) ?? {};
  const kind = rounds.some(isPush) ? " without post-copy" : "";
  const real = statistics?.downtimeMs ?? null;
  const parts = [
    ...(predictedDowntimeMs === null ? [] : [`predicted ${whole(predictedDowntimeMs)}${kind}`]),
    ...(real === null ? [] : [`really ${whole(real)}`]),
    `at most ${whole(parameters.downtimeMs)} planned`,
  ];
  return `downtime: ${parts.join(", ")}`;
}

function line(
  at: number,
  name: string,
  grid: number,
  yAxisIndex: number,
  data: readonly (readonly [number, number | null])[],
) {
  return {
    name,
    type: "line" as const,
    color: COLOURS[at] ?? "#888888",
    xAxisIndex: grid,
    yAxisIndex,
    symbolSize: 5,
    data: data.map(([x, y]) => [x, y]),
  };
}

function optionOf(migration: MigrationResource, rounds: readonly RoundRecord[]) {
  const pageBytes = pageBytesOf(migration, rounds);
  // Rounds without a value are there all the same: so every row has the same time below it.
  const of = (read: (round: RoundRecord) => number | null) =>
    rounds.map((round) => [endOf(round), read(round)] as const);
  const seconds = { type: "value" as const, axisLabel: { formatter: "{value} s" } };
  const value = { type: "value" as const, axisLabel: { formatter: short } };
  const grid = { left: LEFT, right: RIGHT };
  const name = migration.vmName ?? migration.vmId;
  return {
    animation: false,
    backgroundColor: "#ffffff",
    title: {
      text: `Migration of ${name}`,
      subtext: `${describe(migration)}\n${downtime(migration, rounds)}`,
      ...{ left: 20, top: 8 },
    },
    legend: { top: 84, left: LEFT, itemGap: 24 },
    grid: [
      { ...grid, ...ROWS.first },
      { ...grid, ...ROWS.second },
      { ...grid, ...ROWS.third },
    ],
    xAxis: [
      { ...seconds, gridIndex: 0 },
      { ...seconds, gridIndex: 1 },
      { ...seconds, gridIndex: 2 },
    ],
    yAxis: [
      { ...value, gridIndex: 0, name: "bytes" },
      { ...value, gridIndex: 1, name: "bytes/s" },
      { type: "value" as const, gridIndex: 1, name: "throttle %", min: 0, max: 100 },
      { ...value, gridIndex: 2, name: "ms" },
    ],
    series: [
      {
        ...line(
          0,
          "to send in the round",
          0,
          0,
          of(({ pagesDirty }) => pagesDirty * pageBytes),
        ),
        markLine: marks(rounds),
      },
      line(
        1,
        "dirtied per second",
        1,
        1,
        of((r) => r.dirtyPagesPerSecond * pageBytes),
      ),
      line(
        2,
        "sent per second",
        1,
        1,
        of(({ bytesPerSecond }) => bytesPerSecond),
      ),
      line(
        3,
        "throttle, percent",
        1,
        2,
        of(({ throttlePercent }) => throttlePercent),
      ),
      line(
        4,
        "predicted downtime",
        2,
        3,
        of((r) => r.predictedDowntimeMs),
      ),
      {
        ...line(
          5,
          "real downtime",
          2,
          3,
          of((r) => r.downtimeMs),
        ),
        symbol: "diamond",
        symbolSize: 12,
      },
    ],
    textStyle: { fontFamily: "sans-serif" },
  };
}

/** Of the VM's host: the first round had all of its memory to send. */
function pageBytesOf({ progress }: MigrationResource, [first]: readonly RoundRecord[]): number {
  if (progress === null || first === undefined || first.pagesDirty === 0) return 1;
  return Math.max(1, Math.round(progress.bytesTotal / first.pagesDirty));
}

/** @returns an SVG document */
export async function migrationChart(
  migration: MigrationResource,
  rounds: readonly RoundRecord[],
): Promise<string> {
  const { init } = await import("echarts");
  const chart = init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height: HEIGHT });
  try {
    chart.setOption(optionOf(migration, rounds));
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}
