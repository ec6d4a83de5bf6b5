// Owns: /v1/experiments: comparisons as jobs, their results and pictures. HTTP thread.
import { JSON_TYPE, negotiate } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { empty, json, type Operation, operation, withHeaders } from "../operation.js";
import { LIMIT_DEFAULT, PageQuery } from "../schemas/common.schema.js";
import {
  ChartImage,
  ChartQuery,
  CostModelList,
  Experiment,
  ExperimentCreate,
  ExperimentCsv,
  ExperimentPage,
  ExperimentParams,
  ExperimentResults,
} from "../schemas/experiments.schema.js";
import type { ExperimentRequest, ExperimentResource } from "../services.js";
import { LOCATION, linkNext, NEXT_LINK } from "../support.js";
import { experimentChart } from "../views/experiment-chart.js";
import { experimentCsv } from "../views/experiment-csv.js";
import type { ChartMetric } from "../views/experiment-metrics.js";

const CSV = "text/csv";
const SVG = "image/svg+xml";
const ROOT = "/v1/experiments";
const one = {
  tag: "experiments",
  path: `${ROOT}/{experiment}`,
  params: ExperimentParams,
} as const;

function view(experiment: ExperimentResource) {
  const self = `${ROOT}/${experiment.id}`;
  const links = { self, results: `${self}/results`, chart: `${self}/chart.svg` };
  return { ...experiment, links };
}

function changes({ services }: ApiDeps): readonly Operation[] {
  const { experiments } = services;
  return [
    operation({
      id: "createExperiment",
      method: "POST",
      path: ROOT,
      tag: "experiments",
      scope: "vm:write",
      heavy: true,
      summary: "Compare ways to track dirty pages, or to deliver interrupts",
      description:
        "A job: each strategy gets a VM of its own with the same seed and workload, one after " +
        "the other. A workload of kind interrupts takes strategies with a gic, the others those " +
        "with a tracking. Experiments run one at a time; the oldest finished ones give way to new.",
      body: ExperimentCreate,
      answers: { 202: withHeaders(json("The job, queued.", Experiment), LOCATION) },
      problems: ["experiment-limit", "draining", "image-unknown"],
      handle: async ({ body, reply }) => {
        const made = await experiments.create(body as unknown as ExperimentRequest);
        return reply.code(202).header("location", `${ROOT}/${made.id}`).send(view(made));
      },
    }),
    operation({
      ...one,
      id: "cancelExperiment",
      method: "POST",
      path: `${one.path}:cancel`,
      scope: "vm:write",
      summary: "Cancel an experiment",
      description: "Idempotent. What was measured until then stays to be read.",
      answers: { 200: json("The job as it ended.", Experiment) },
      problems: ["experiment-not-found"],
      handle: async ({ params }) => view(await experiments.cancel(params.experiment)),
    }),
    operation({
      ...one,
      id: "deleteExperiment",
      method: "DELETE",
      scope: "vm:write",
      summary: "Delete an experiment",
      description: "Cancels it first; its results go with it.",
      answers: { 204: empty("It is gone.") },
      problems: ["experiment-not-found"],
      handle: async ({ params, reply }) => {
        await experiments.delete(params.experiment);
        return reply.code(204).send();
      },
    }),
  ];
}

function reads({ services }: ApiDeps): readonly Operation[] {
  const { experiments } = services;
  return [
    operation({
      id: "getCostModel",
      method: "GET",
      path: "/v1/cost-model",
      tag: "experiments",
      scope: "vm:read",
      summary: "Read the cost model",
      description:
        "Cycles per event, each with its believable range and where the figure comes from. An " +
        "experiment may put others in their place.",
      answers: { 200: json("Every event.", CostModelList) },
      handle: () => ({ items: experiments.costModel() }),
    }),
    operation({
      id: "listExperiments",
      method: "GET",
      path: ROOT,
      tag: "experiments",
      scope: "vm:read",
      summary: "List experiments",
      description: "In order of creation.",
      query: PageQuery,
      answers: { 200: withHeaders(json("One page.", ExperimentPage), NEXT_LINK) },
      problems: ["cursor-invalid"],
      handle: async ({ query, request, reply }) => {
        const page = await experiments.list(query.limit ?? LIMIT_DEFAULT, query.cursor ?? null);
        linkNext(request, reply, "cursor", page.nextCursor);
        return { items: page.items.map(view), nextCursor: page.nextCursor };
      },
    }),
    operation({
      ...one,
      id: "getExperiment",
      method: "GET",
      scope: "vm:read",
      summary: "Read an experiment",
      description: "Its state and progress, and what was asked for with every default.",
      answers: { 200: json("The job.", Experiment) },
      problems: ["experiment-not-found"],
      handle: async ({ params }) => view(await experiments.get(params.experiment)),
    }),
  ];
}

function results({ services }: ApiDeps): readonly Operation[] {
  const { experiments } = services;
  const problems = ["experiment-not-found", "experiment-no-results"] as const;
  return [
    operation({
      ...one,
      id: "getExperimentResults",
      method: "GET",
      path: `${one.path}/results`,
      scope: "vm:read",
      heavy: true,
      summary: "Read an experiment's results",
      description:
        "Per strategy and round; of a running one, the strategies that are done. JSON, or CSV " +
        "with Accept: text/csv.",
      answers: {
        200: {
          description: "The results.",
          content: { [JSON_TYPE]: { schema: ExperimentResults }, [CSV]: { schema: ExperimentCsv } },
        },
      },
      problems,
      handle: async ({ params, request, reply }) => {
        const type = negotiate(request, [JSON_TYPE, CSV]);
        const found = await experiments.results(params.experiment);
        reply.header("vary", "accept");
        return type === JSON_TYPE ? found : reply.type(CSV).send(experimentCsv(found));
      },
    }),
    operation({
      ...one,
      id: "getExperimentCsv",
      method: "GET",
      path: `${one.path}/results.csv`,
      scope: "vm:read",
      heavy: true,
      summary: "Download an experiment's results as CSV",
      description: "As results with Accept: text/csv, for a browser.",
      answers: {
        200: { description: "The results.", content: { [CSV]: { schema: ExperimentCsv } } },
      },
      problems,
      handle: async ({ params, reply }) => {
        const found = await experiments.results(params.experiment);
        const name = `attachment; filename="${params.experiment}.csv"`;
        return reply.type(CSV).header("content-disposition", name).send(experimentCsv(found));
      },
    }),
    operation({
      ...one,
      id: "getExperimentChart",
      method: "GET",
      path: `${one.path}/chart.svg`,
      scope: "vm:read",
      heavy: true,
      summary: "Look at an experiment",
      description:
        "Bars per strategy over all rounds, and lines by round. Of interrupts, per-page is per " +
        "round trip, exits has VDRCFG reads too, and pages are acknowledgements.",
      query: ChartQuery,
      answers: { 200: { description: "The picture.", content: { [SVG]: { schema: ChartImage } } } },
      problems,
      handle: async ({ params, query, reply }) => {
        const found = await experiments.results(params.experiment);
        const metric = (query.metric ?? "cycles") as ChartMetric;
        return reply.type(SVG).send(await experimentChart(found, metric));
      },
    }),
  ];
}

export function experimentOperations(deps: ApiDeps): readonly Operation[] {
  return [...changes(deps), ...reads(deps), ...results(deps)];
}
