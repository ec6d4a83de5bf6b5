// Owns: `npm run contract`: contract and boundary tests that Portman makes from the OpenAPI
// document, run by Newman against the real service. A process of its own.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Caller } from "../test/bad-input/caller.js";
import { resolveRefs } from "../test/bad-input/document.js";
import { startReal, temporary } from "../test/support/real-service.js";
import {
  buildWorlds,
  type Operation,
  otherValues,
  pathValues,
  type Worlds,
} from "./contract-worlds.js";

const require = createRequire(import.meta.url);
const RESPONSE_MS = 10_000;
const METHODS = ["get", "put", "post", "patch", "delete"];

type Json = Record<string, unknown>;

/** Uploads: they are nothing but bytes, which Portman can't make. */
const LEFT_OUT = new Set(["putImage", "putIncomingImage", "finishMigration"]);
/**
 * Without an interrupt controller KVM refuses an MSI, whatever it is given; a second controller,
 * too. Verbs go to the VM that has no board, and filters to one whose vCPU has run; no feature
 * here has to be finished, and debuggers are not allowed.
 */
const REFUSED: Readonly<Record<string, number>> = {
  createMsi: 422,
  createDevice: 409,
  closeDevice: 405,
  createIrqchip: 409,
  setIrqchipAddress: 409,
  // The controller there is set up already.
  setDeviceAttribute: 409,
  setDeviceAddress: 409,
  setDeviceNrIrqs: 409,
  pauseVm: 409,
  resumeVm: 409,
  resetVm: 409,
  powerOffVm: 409,
  getVmAttribute: 422,
  setVmAttribute: 409,
  createSmcccFilter: 409,
  createFinalization: 422,
  getMteTags: 422,
  setMteTags: 422,
  setVcpuAttribute: 422,
  // The migration has ended, and its VM runs at the target.
  patchMigration: 409,
  cancelMigration: 409,
  continueMigration: 409,
  startPostcopy: 409,
  recoverMigration: 409,
  resolveMigration: 409,
  abortMigration: 409,
  openGdb: 403,
  getGdb: 404,
  closeGdb: 404,
  openQmp: 403,
  getQmp: 404,
  closeQmp: 404,
};

/** Answers that are no JSON. */
const PLAIN = new Set(["getExperimentCsv", "getExperimentChart", "getMigrationChart"]);

/** The schema of what an example has: Portman also varies fields that it then doesn't send. */
function narrowed(schema: Json, example: unknown): Json {
  const anyOf = schema["anyOf"] as readonly Json[] | undefined;
  if (anyOf !== undefined) {
    const kind = (one: Json) => (one["properties"] as Record<string, Json> | undefined)?.["kind"];
    const wanted = (example as Json | null)?.["kind"];
    const found = anyOf.find((one) => kind(one)?.["const"] === wanted) ?? anyOf[0] ?? {};
    return narrowed(found, example);
  }
  if (Array.isArray(example)) {
    const items = (schema["items"] ?? {}) as Json;
    // Of an array in an array, or of an empty one, it names a place that is none.
    const isBare = items["type"] === "array" || example.length === 0;
    const inner = isBare ? {} : narrowed(items, example[0]);
    return { ...schema, items: inner };
  }
  if (typeof example !== "object" || example === null) return schema;
  const properties = Object.entries((schema["properties"] ?? {}) as Record<string, Json>)
    .filter(([name]) => Object.hasOwn(example, name))
    .map(([name, value]) => [name, narrowed(value, (example as Json)[name])]);
  return { ...schema, properties: Object.fromEntries(properties), additionalProperties: false };
}

/**
 * Portman can vary one media type of a body: JSON where there is a choice. And it takes an example
 * with a member "value" for a wrapped one, so all are wrapped.
 */
function jsonOnly(document: Json, op: Json): Json {
  const body = op["requestBody"] as { readonly content: Record<string, Json> } | undefined;
  const json = Object.entries(body?.content ?? {}).filter(([type]) => type.endsWith("json"));
  if (body === undefined || json.length === 0) return op;
  const content = json.map(([type, { example, schema }]) => {
    if (example === undefined) return [type, { schema }];
    const known = narrowed(resolveRefs(document, schema) as Json, example);
    return [type, { schema: known, examples: { own: { value: example } } }];
  });
  return { ...op, requestBody: { ...body, content: Object.fromEntries(content) } };
}

/** Portman looks at the first answer: where something may be made, that is the one to see. */
function createdFirst(op: Json): Json {
  const { "200": ok, ...others } = op["responses"] as Json;
  const isOnly = ok === undefined || (others["201"] ?? others["202"]) === undefined;
  return isOnly ? op : { ...op, responses: others };
}

const BEFORE_VERB = /\{(\w+)\}(?=:)/;

/** What stands before a verb is no path variable to Portman: its value is put into the path. */
function verbFilled(worlds: Worlds, operation: Operation, op: Json): [path: string, op: Json] {
  const name = BEFORE_VERB.exec(operation.path)?.[1];
  if (name === undefined) return [operation.path, op];
  const path = operation.path.replace(BEFORE_VERB, pathValues(worlds, operation)[name] ?? name);
  const parameters = (op["parameters"] ?? []) as readonly Json[];
  return [path, { ...op, parameters: parameters.filter((one) => one["name"] !== name) }];
}

/** The document with some of its operations. */
function prepared(
  document: Json,
  worlds: Worlds,
  isWanted: (method: string) => boolean,
): { document: Json; operations: Operation[] } {
  const operations: Operation[] = [];
  const paths: Record<string, Json> = {};
  for (const [path, item] of Object.entries(document["paths"] as Record<string, Json>)) {
    for (const [method, op] of Object.entries(item) as [string, Json][]) {
      const { operationId: id, tags } = op as { operationId: string; tags: string[] };
      if (!METHODS.includes(method) || LEFT_OUT.has(id) || !isWanted(method)) continue;
      const isNotYet = tags.includes("not-yet");
      const operation = { id, method: method.toUpperCase(), path, isNotYet };
      operations.push(operation);
      const kept = createdFirst(jsonOnly(document, op));
      const [filled, own] = verbFilled(worlds, operation, kept);
      paths[filled] = { ...paths[filled], [method]: own };
    }
  }
  return { document: { ...document, paths }, operations };
}

function overwrites(worlds: Worlds, operations: readonly Operation[]): Json[] {
  return operations.map((op) => {
    const path = op.path.replace(BEFORE_VERB, "");
    return {
      openApiOperationId: op.id,
      overwriteRequestPathVariables: Object.entries(pathValues(worlds, op))
        .filter(([key]) => path.includes(`{${key}}`))
        .map(([key, value]) => ({ key, value, overwrite: true })),
      ...otherValues(worlds, op),
    };
  });
}

const enabled = { enabled: true };

function configOf(worlds: Worlds, operations: readonly Operation[]): Json {
  const there = operations.filter(({ isNotYet }) => !isNotYet).map(({ id }) => id);
  const notYet = operations.filter(({ isNotYet }) => isNotYet).map(({ id }) => id);
  const ids = new Set(operations.map(({ id }) => id));
  const refused = Object.entries(REFUSED).filter(([id]) => ids.has(id));
  const shape = { contentType: enabled, jsonBody: enabled, schemaValidation: enabled };
  const boundaries = {
    requiredFields: enabled,
    minimumNumberFields: enabled,
    maximumNumberFields: enabled,
    minLengthFields: enabled,
    maxLengthFields: enabled,
  };
  return {
    version: 1,
    globals: { stripResponseExamples: true },
    tests: {
      contractTests: [
        {
          openApiOperationIds: there.filter((id) => PLAIN.has(id)),
          statusSuccess: enabled,
          contentType: enabled,
        },
        {
          openApiOperationIds: there.filter((id) => REFUSED[id] === undefined && !PLAIN.has(id)),
          statusSuccess: enabled,
          ...shape,
          headersPresent: enabled,
          responseTime: { enabled: true, maxMs: RESPONSE_MS },
        },
        { openApiOperationIds: notYet, statusCode: { enabled: true, code: 501 } },
        ...refused.map(([id, code]) => {
          return { openApiOperationId: id, statusCode: { enabled: true, code } };
        }),
      ],
      variationTests: [
        {
          openApiOperationIds: there,
          variations: [
            {
              name: "outside",
              openApiResponse: "4XX",
              fuzzing: [{ requestBody: [boundaries], requestQueryParams: [boundaries] }],
              tests: { contractTests: [{ statusCode: { enabled: true, code: 400 }, ...shape }] },
            },
          ],
        },
      ],
    },
    overwrites: overwrites(worlds, operations),
  };
}

/** @returns what it printed. @throws Error with that, when it failed */
function run(bin: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...args], {
    cwd,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  if (status !== 0 && !args.includes("run")) throw new Error(`${stdout}\n${stderr}`);
  return stdout;
}

interface Report {
  readonly run: {
    readonly stats: { readonly assertions: { readonly total: number; readonly failed: number } };
    readonly failures: readonly {
      readonly source?: { readonly name?: string };
      readonly error: { readonly test?: string; readonly message: string };
    }[];
  };
}

/** Makes a collection of the document's operations and runs it. @returns its report */
function runPass(parts: {
  readonly document: Json;
  readonly isWanted: (method: string) => boolean;
  readonly worlds: Worlds;
  readonly origin: string;
  readonly folder: string;
}): Report {
  const { document, operations } = prepared(parts.document, parts.worlds, parts.isWanted);
  const file = (name: string) => join(parts.folder, name);
  writeFileSync(file("document.json"), JSON.stringify(document));
  writeFileSync(file("config.json"), JSON.stringify(configOf(parts.worlds, operations)));
  const portman = require.resolve("@apideck/portman/bin/portman");
  const made = ["-l", file("document.json"), "-b", parts.origin, "-c", file("config.json")];
  run(portman, [...made, "-o", file("collection.json"), "-t", "true"], parts.folder);
  const newman = join(require.resolve("newman/package.json"), "../bin/newman.js");
  const report = ["--reporters", "json", "--reporter-json-export", file("report.json")];
  run(newman, ["run", file("collection.json"), ...report], parts.folder);
  return JSON.parse(readFileSync(file("report.json"), "utf8")) as Report;
}

/** Prints every failure and the counts. @returns whether there was none */
function tell(reports: readonly Report[]): boolean {
  for (const { source, error } of reports.flatMap(({ run }) => run.failures)) {
    console.log(`${source?.name ?? "?"}: ${error.test ?? ""}\n    ${error.message}`);
  }
  const sum = (of: (report: Report) => number) => reports.reduce((n, report) => n + of(report), 0);
  const total = sum(({ run }) => run.stats.assertions.total);
  const failed = sum(({ run }) => run.failures.length);
  console.log(`${total - failed} passed, ${failed} failed, 0 skipped`);
  return failed === 0 && total > 0;
}

async function main(): Promise<boolean> {
  const folder = await temporary("contract");
  const service = await startReal({ dataDir: folder.path });
  const caller = await Caller.open(service.origin);
  try {
    const worlds = await buildWorlds(caller);
    const document = (await caller.get("/openapi.json")).json as Json;
    const parts = { document, worlds, origin: service.origin, folder: folder.path };
    const isDelete = (method: string) => method === "delete";
    // What takes away comes last.
    return tell([
      runPass({ ...parts, isWanted: (method) => !isDelete(method) }),
      runPass({ ...parts, isWanted: isDelete }),
    ]);
  } finally {
    await caller.close();
    await service.stop();
    await folder.remove();
  }
}

process.exitCode = (await main()) ? 0 : 1;
