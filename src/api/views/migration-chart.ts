// Owns: the picture of a migration: what was left, how fast it came, went and was slowed down, by
// round. Drawn by ECharts without a browser. HTTP thread.
import type { MigrationResource, RoundRecord } from "../services.js";
import { short } from "./experiment-chart.js";

const WIDTH = 1000;
const HEIGHT = 640;
const COLOURS = ["#3266ad", "#d1603d", "#5b9a52", "#8a63b0"];
const LEFT = 90;
const RIGHT = 60;
const ROWS = { first: { top: 90, height: 210 }, second: { top: 370, height: 200 } } as const;
const MS_PER_S = 1000;

function describe({ peer, direction, state, failure, parameters }: MigrationResource): string {
  const way = direction === "outgoing" ? `to ${peer}` : `from ${peer}`;
  const why = failure === null ? "" : `: ${failure.detail}`;
  return `${parameters.strategy}, ${way}, ${state}${why}`;
}

/** Seconds since the session began, at a round's end. */
const endOf = ({ startMs, durationMs }: RoundRecord): number => (startMs + durationMs) / MS_PER_S;

const SWITCHOVER: ReadonlySet<string> = new Set(["switchover", "force"]);

/** Where vCPUs were held: a line at each round that decided so. */
function marks(rounds: readonly RoundRecord[]) {
  const at = rounds.filter(({ decision }) => SWITCHOVER.has(decision.action));
  return {
    symbol: "none",
    label: { formatter: "switchover", position: "insideEndTop" as const },
    lineStyle: { color: "#1b1b1b", type: "dashed" as const },
    data: at.map((round) => ({ xAxis: endOf(round) })),
  };
}

function line(
  at: number,
  name: string,
  grid: number,
  yAxisIndex: number,
  data: readonly (readonly [number, number])[],
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
  const of = (read: (round: RoundRecord) => number) =>
    rounds.map((round) => [endOf(round), read(round)] as const);
  const seconds = { type: "value" as const, axisLabel: { formatter: "{value} s" } };
  const value = { type: "value" as const, axisLabel: { formatter: short } };
  const grid = { left: LEFT, right: RIGHT };
  const name = migration.vmName ?? migration.vmId;
  return {
    animation: false,
    backgroundColor: "#ffffff",
    title: { text: `Migration of ${name}`, subtext: describe(migration), left: 20, top: 8 },
    legend: { top: 60, left: LEFT },
    grid: [
      { ...grid, ...ROWS.first },
      { ...grid, ...ROWS.second },
    ],
    xAxis: [
      { ...seconds, gridIndex: 0 },
      { ...seconds, gridIndex: 1 },
    ],
    yAxis: [
      { ...value, gridIndex: 0, name: "bytes" },
      { ...value, gridIndex: 1, name: "bytes/s" },
      { type: "value" as const, gridIndex: 1, name: "throttle %", min: 0, max: 100 },
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
