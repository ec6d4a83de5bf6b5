// Owns: the picture of a finished experiment: bars per strategy, and how they go on by round. Drawn
// by ECharts without a browser, which is loaded when the first one is asked for. HTTP thread.
import type { ExperimentResults } from "../services.js";
import { isOfInterrupts } from "./experiment-kind.js";
import {
  type ChartMetric,
  INTERRUPT_METRICS,
  type Metric,
  type Series,
  TRACKING_METRICS,
} from "./experiment-metrics.js";

/** A strategy with the rows that count: its rounds. */
interface Result<R> {
  readonly strategy: { readonly name: string };
  readonly state: string;
  readonly rows: readonly R[];
}

const WIDTH = 1400;
const BAR_HEIGHT = 34;
const MARGIN = 160;
/** Where things begin: names, bars, lines, names of lines. */
const LEFT = { bars: 300, lines: 800, names: 1110 } as const;
const BARS_WIDTH = 400;
const LINES_WIDTH = 280;
const BAR_COLOURS = ["#3266ad", "#d1603d", "#5b9a52", "#8a63b0"];
const LINE_COLOURS = [
  ...["#1b1b1b", "#e41a1c", "#377eb8", "#4daf4a", "#984ea3", "#ff7f00", "#a65628", "#f781bf"],
  ...["#00a0a0", "#b0b000", "#7f7f7f", "#2f4f8f"],
];
const LABEL_CHARACTERS = 40;

/** 1234567 → "1.2 M". */
export function short(value: number): string {
  for (const [size, sign] of [
    [1e9, " G"],
    [1e6, " M"],
    [1e3, " k"],
  ] as const) {
    if (value >= size) return `${Number((value / size).toPrecision(3))}${sign}`;
  }
  return String(Number(value.toPrecision(3)));
}

function label({ strategy, state }: Result<unknown>): string {
  const name = state === "done" ? strategy.name : `${strategy.name} (${state})`;
  return name.length <= LABEL_CHARACTERS ? name : `${name.slice(0, LABEL_CHARACTERS - 1)}…`;
}

/** Of some rounds together. */
function figure<R>(rows: readonly R[], { of, per }: Series<R>): number {
  const sum = (read: Series<R>["of"]) => rows.reduce((total, row) => total + read(row), 0);
  return per === undefined ? sum(of) : sum(of) / Math.max(1, sum(per));
}

function bars<R>(results: readonly Result<R>[], metric: Metric<R>) {
  const last = metric.bars.length - 1;
  return metric.bars.map((series, at) => ({
    name: series.name,
    type: "bar" as const,
    color: BAR_COLOURS[at] ?? "#888888",
    stack: "bars",
    xAxisIndex: 0,
    yAxisIndex: 0,
    data: results.map((result) => figure(result.rows, series)),
    ...(at === last
      ? {
          label: {
            show: true,
            position: "right" as const,
            formatter: ({ dataIndex }: { dataIndex: number }) => {
              const result = results[dataIndex];
              const rows = result?.rows ?? [];
              const all = metric.bars.map((bar) => figure(rows, bar));
              return short(all.reduce((sum, value) => sum + value, 0));
            },
          },
        }
      : {}),
  }));
}

function lines<R>(results: readonly Result<R>[], metric: Metric<R>) {
  return results.map((result, at) => ({
    name: label(result),
    type: "line" as const,
    color: LINE_COLOURS[at % LINE_COLOURS.length] ?? "#888888",
    xAxisIndex: 1,
    yAxisIndex: 1,
    symbolSize: 5,
    data: result.rows.map((row) => figure([row], metric.line)),
  }));
}

function describe(workload: ExperimentResults["workload"]): string {
  const { vcpus } = workload;
  if (workload.kind === "interrupts") {
    const { spis, trigger, notifierPercent, interruptsPerSecond } = workload;
    const who = `${vcpus} vCPUs, ${spis} SPIs (${trigger}), ${notifierPercent} % with notifiers`;
    return `${who}, ${short(interruptsPerSecond)} interrupts/s`;
  }
  if (workload.kind === "image") {
    const { image, memoryMiB, instructionsPerRound } = workload;
    const memory = `${vcpus} vCPUs, ${memoryMiB} MiB`;
    return `${image.name}, ${memory}, ${short(instructionsPerRound)} instructions per round`;
  }
  const { bytesPerVcpu, pattern, storesPerRound } = workload;
  const stores = storesPerRound === 0 ? "one pass" : `${short(storesPerRound)} stores`;
  const memory = `${vcpus} vCPUs × ${short(bytesPerVcpu / 2 ** 20)} MiB`;
  return `${memory}, ${pattern}, ${stores} per vCPU and round`;
}

function optionOf<R>(experiment: ExperimentResults, done: readonly Result<R>[], metric: Metric<R>) {
  const rounds = Math.max(1, ...done.map(({ rows }) => rows.length));
  const what = describe(experiment.workload);
  const heading = { top: 62, textStyle: { fontSize: 13 } };
  const value = { type: "value" as const, axisLabel: { formatter: short } };
  return {
    animation: false,
    backgroundColor: "#ffffff",
    title: [
      { text: experiment.name, subtext: what, left: 20, top: 10 },
      { text: `${metric.title} (${metric.unit})`, left: LEFT.bars, ...heading },
      { text: metric.line.name, left: LEFT.lines, ...heading },
    ],
    legend: [
      { data: metric.bars.map(({ name }) => name), left: LEFT.bars, top: 88, itemWidth: 14 },
      {
        data: done.map(label),
        left: LEFT.names,
        top: 110,
        orient: "vertical" as const,
        itemGap: 8,
      },
    ],
    grid: [
      { left: LEFT.bars, width: BARS_WIDTH, top: 120, bottom: 40 },
      { left: LEFT.lines, width: LINES_WIDTH, top: 120, bottom: 40 },
    ],
    xAxis: [
      { ...value, gridIndex: 0, splitNumber: 3 },
      {
        type: "category" as const,
        gridIndex: 1,
        name: "round",
        nameLocation: "middle" as const,
        nameGap: 24,
        data: Array.from({ length: rounds }, (_, at) => String(at + 1)),
      },
    ],
    yAxis: [
      {
        type: "category" as const,
        gridIndex: 0,
        inverse: true,
        data: done.map(label),
      },
      { ...value, gridIndex: 1, splitNumber: 4 },
    ],
    series: [...bars(done, metric), ...lines(done, metric)],
    textStyle: { fontFamily: "sans-serif" },
  };
}

function optionsOf(experiment: ExperimentResults, which: ChartMetric) {
  if (isOfInterrupts(experiment)) {
    return optionOf(experiment, experiment.strategies, INTERRUPT_METRICS[which]);
  }
  const done = experiment.strategies.map(({ strategy, state, rows }) => {
    return { strategy, state, rows: rows.filter(({ phase }) => phase === "round") };
  });
  return optionOf(experiment, done, TRACKING_METRICS[which]);
}

/** @returns an SVG document */
export async function experimentChart(
  experiment: ExperimentResults,
  which: ChartMetric,
): Promise<string> {
  const { init } = await import("echarts");
  const height = MARGIN + Math.max(5, experiment.strategies.length) * BAR_HEIGHT;
  const chart = init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height });
  try {
    chart.setOption(optionsOf(experiment, which));
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}
