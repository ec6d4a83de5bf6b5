// Owns: health checks, version, metrics and the document. Outside tokens and rate limits, but for
// the metrics. HTTP thread.
import Type from "typebox";
import { ServiceError } from "../../base/errors.js";
import { JSON_TYPE } from "../content.js";
import type { ApiDeps } from "../deps.js";
import { json, type Operation, operation } from "../operation.js";
import { Live, Ready, Version } from "../schemas/service.schema.js";

const METRICS_TYPE = "text/plain";

export function healthOperations(deps: ApiDeps): readonly Operation[] {
  const { services, options, metrics } = deps;
  const common = { method: "GET", tag: "service", scope: null } as const;
  return [
    operation({
      ...common,
      id: "getLivez",
      path: "/livez",
      summary: "Is the process alive",
      description: "200 as long as the event loop turns.",
      answers: { 200: json("It is.", Live) },
      handle: () => ({ status: "ok" }),
    }),
    operation({
      ...common,
      id: "getReadyz",
      path: "/readyz",
      summary: "Can the service take requests",
      description: "503 while it starts, drains, or can't write its records.",
      answers: { 200: json("It can.", Ready) },
      problems: ["not-ready"],
      handle: () => {
        const { ready, checks } = services.readiness();
        if (ready && deps.lifecycle.phase === "serving") return { ready, checks };
        const failed = Object.entries(checks).filter(([, check]) => !check.ok);
        const names = failed.map(([name]) => name).join(", ");
        const detail = names === "" ? "The service is draining." : `Not ready: ${names}.`;
        throw new ServiceError("not-ready", detail, { checks });
      },
    }),
    operation({
      ...common,
      id: "getVersion",
      path: "/version",
      summary: "What runs",
      description: "Version of the service and of the API.",
      answers: { 200: json("Versions.", Version) },
      handle: () => ({
        name: "tidemark",
        version: options.version,
        api: "v1",
        kvmApiVersion: 12,
        node: process.version,
      }),
    }),
    operation({
      ...common,
      id: "getMetrics",
      path: "/metrics",
      scope: "metrics:read",
      summary: "Metrics for Prometheus",
      description: "Text exposition format: base units, `_total` on counters.",
      answers: {
        200: {
          description: "The metrics.",
          content: {
            [METRICS_TYPE]: {
              schema: Type.String({ examples: ["tidemark_vms_active 1\n"] }),
            },
          },
        },
      },
      handle: async ({ reply }) =>
        reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
    }),
    operation({
      ...common,
      id: "getOpenApi",
      path: "/openapi.json",
      summary: "This document",
      description: "OpenAPI 3.1, generated from the schemas that check the requests.",
      answers: {
        200: json(
          "The document.",
          Type.Object({}, { additionalProperties: true, examples: [{ openapi: "3.1.0" }] }),
        ),
      },
      handle: ({ reply }) => reply.type(JSON_TYPE).send(deps.document()),
    }),
  ];
}
