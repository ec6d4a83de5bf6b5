// Owns: /problems: the page behind every problem's type. HTTP thread.

import Type from "typebox";
import { ServiceError } from "../../base/errors.js";
import { JSON_TYPE, negotiate } from "../content.js";
import { json, type Operation, operation } from "../operation.js";
import { PROBLEMS, type ProblemRow, problemRow } from "../problem.table.js";
import { ProblemPage, ProblemPages, ProblemParams } from "../schemas/service.schema.js";

const TEXT = "text/plain";

function pageView(code: string, { status, title, page }: ProblemRow) {
  return { code, type: `/problems/${code}`, status, title, page };
}

export function problemOperations(): readonly Operation[] {
  const common = { method: "GET", tag: "service", scope: null } as const;
  return [
    operation({
      ...common,
      id: "listProblems",
      path: "/problems",
      summary: "List every kind of problem",
      description: "Code, status, title and page of each.",
      answers: { 200: json("All of them.", ProblemPages) },
      handle: () => ({
        items: Object.entries(PROBLEMS).map(([code, row]) => pageView(code, row)),
        nextCursor: null,
      }),
    }),
    operation({
      ...common,
      id: "getProblem",
      path: "/problems/{code}",
      summary: "Read about a kind of problem",
      description: "What a problem's `type` points to; plain text with Accept: text/plain.",
      params: ProblemParams,
      answers: {
        200: {
          description: "The page.",
          content: {
            [JSON_TYPE]: { schema: ProblemPage },
            [TEXT]: { schema: Type.String({ examples: ["409 …\n"] }) },
          },
        },
      },
      problems: ["problem-not-found", "not-acceptable"],
      handle: ({ params, request, reply }) => {
        const row = problemRow(params.code);
        if (row === undefined) {
          throw new ServiceError("problem-not-found", `There is no problem "${params.code}".`);
        }
        if (negotiate(request, [JSON_TYPE, TEXT]) === JSON_TYPE) return pageView(params.code, row);
        return reply
          .type("text/plain; charset=utf-8")
          .send(`${row.status} ${params.code}: ${row.title}\n\n${row.page}\n`);
      },
    }),
  ];
}
