// Owns: `npm run contract`: contract and boundary tests that Portman makes from the OpenAPI
// document, run by Newman against the real service. A process of its own.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Caller } from "../test/bad-input/caller.js";
import { resolveRefs } from "../test/bad-input/document.js";
import { World } from "../test/bad-input/world.js";
import { guestImage } from "../test/support/board.js";
import { startReal, temporary } from "../test/support/real-service.js";

const require = createRequire(import.meta.url);
const RESPONSE_MS = 10_000;
const METHODS = ["get", "put", "post", "patch", "delete"];

type Json = Record<string, unknown>;

interface Operation {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly isNotYet: boolean;
}

/** These end what the others need; and an upload is nothing but bytes, which Portman can't make. */
const LEFT_OUT = new Set(["deleteVm", "stopVm", "deleteImage", "putImage"]);
/**
 * Without an interrupt controller KVM refuses them, whatever they are given; a second controller,
 * too. Verbs go to the VM that has no board, and filters to one whose vCPU has run; no feature
 * here has to be finished, and debuggers are not allowed.
 */
const REFUSED: Readonly<Record<string, number>> = {
  createIrqfd: 409,
  deassignIrqfd: 422,
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
  setVcpuAttribute: 422,
  openGdb: 403,
  getGdb: 404,
  closeGdb: 404,
};

/** Answers that are no JSON. */
const PLAIN = new Set(["getExperimentCsv", "getExperimentChart"]);

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
    // Of an array in an array it names a place that is none.
    const inner = items["type"] === "array" ? {} : narrowed(items, example[0]);
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

/** Portman looks at the first answer: where something may be created, that is the one to see. */
function createdFirst(op: Json): Json {
  const { "200": ok, ...others } = op["responses"] as Json;
  const isOnly = ok === undefined || others["201"] === undefined;
  return isOnly ? op : { ...op, responses: others };
}

/** The document with some of its operations. */
function prepared(
  document: Json,
  isWanted: (method: string) => boolean,
): { document: Json; operations: Operation[] } {
  const operations: Operation[] = [];
  const paths: Record<string, Json> = {};
  for (const [path, item] of Object.entries(document["paths"] as Record<string, Json>)) {
    const kept = Object.entries(item).flatMap(([method, op]) => {
      if (!METHODS.includes(method)) return [[method, op] as const];
      const { operationId, tags } = op as { operationId: string; tags: string[] };
      if (LEFT_OUT.has(operationId) || !isWanted(method)) return [];
      operations.push({
        id: operationId,
        method: method.toUpperCase(),
        path,
        isNotYet: tags.includes("not-yet"),
      });
      return [[method, createdFirst(jsonOnly(document, op as Json))] as const];
    });
    if (kept.length > 0) paths[path] = Object.fromEntries(kept);
  }
  return { document: { ...document, paths }, operations };
}

interface Worlds {
  readonly legacy: World;
  readonly manual: World;
  readonly ring: World;
  /** Id of a VM with a GICv3 as device 0 and a VFIO file. */
  readonly gic: string;
  /** Id of a VM with a board, whose image has the name below. */
  readonly board: string;
  /** Id of an experiment that has ended. */
  readonly experiment: string;
}

const IMAGE = "contract";
const ON_BOARD = new Set(["getBoard", "readConsole", "typeConsole"]);

function worldOf(worlds: Worlds, { id }: Operation): World {
  // The eventfd of another world: in its own an ioeventfd needs it.
  if (/DirtyRing|deleteEventfd/.test(id)) return worlds.ring;
  return /^(getDirtyLog|clearDirtyLog|createHarvest)$/.test(id) ? worlds.manual : worlds.legacy;
}

/** Values of path parameters that exist in the operation's world. */
function pathValues(world: World, { id, path }: Operation): Readonly<Record<string, string>> {
  const values = { vm: world.vm, n: "0", slot: "0", run: world.known("@run"), index: "0" };
  if (id === "createVcpu") return { ...values, n: "1" };
  if (id === "enableVmCapability") return { ...values, cap: "168" };
  if (id === "setMemslot") return { ...values, slot: "5" };
  if (path.startsWith("/v1/eventfds")) return { id: world.known("@eventfd") };
  if (path.includes("/ioeventfds/")) return { ...values, id: world.known("@ioeventfd") };
  if (path.includes("/harvests/")) return { ...values, harvest: world.known("@harvest") };
  return { ...values, id: "1", fault: "1", cap: "10", code: "kvm-errno" };
}

/** Members of bodies and queries that depend on what is there. */
function otherValues(world: World, { id }: Operation): Json {
  const given = (values: Readonly<Record<string, string>>) =>
    Object.entries(values).map(([key, value]) => ({ key, value, overwrite: true }));
  const eventfd = world.known("@eventfd");
  switch (id) {
    case "setMemslot":
      return { overwriteRequestBody: given({ guestPhysAddr: "0x10000000" }) };
    case "clearDirtyLog":
      return { overwriteRequestBody: [{ key: "numPages", value: 256, overwrite: true }] };
    case "createIoeventfd":
      return { overwriteRequestBody: given({ eventfd }) };
    case "deassignIoeventfd":
      return {
        overwriteRequestQueryParams: given({ eventfd, addr: "0x9000000", datamatch: "0x1" }),
      };
    case "deleteCoalescedZone":
      return { overwriteRequestQueryParams: given({ addr: "0x140000000", size: "64" }) };
    default:
      return {};
  }
}

function overwrites(worlds: Worlds, operations: readonly Operation[]): Json[] {
  return operations.map((op) => {
    const world = worldOf(worlds, op);
    const own = ON_BOARD.has(op.id) ? { vm: worlds.board } : {};
    const { experiment, gic } = worlds;
    const its = IN_GIC.test(op.path) ? { vm: gic, ...GIC_VALUES } : {};
    const values = Object.entries({
      ...pathValues(world, op),
      image: IMAGE,
      experiment,
      ...own,
      ...its,
    });
    return {
      openApiOperationId: op.id,
      overwriteRequestPathVariables: values
        // What stands before a verb is a variable of the collection.
        .filter(([key]) => op.path.includes(`{${key}}`) && !op.path.includes("}:"))
        .map(([key, value]) => ({ key, value, overwrite: true })),
      ...otherValues(world, op),
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
  const { document, operations } = prepared(parts.document, parts.isWanted);
  const file = (name: string) => join(parts.folder, name);
  writeFileSync(file("document.json"), JSON.stringify(document));
  writeFileSync(file("config.json"), JSON.stringify(configOf(parts.worlds, operations)));
  const portman = require.resolve("@apideck/portman/bin/portman");
  const made = ["-l", file("document.json"), "-b", parts.origin, "-c", file("config.json")];
  run(portman, [...made, "-o", file("collection.json"), "-t", "true"], parts.folder);
  const newman = join(require.resolve("newman/package.json"), "../bin/newman.js");
  const vm = [
    ...["--env-var", `vm=${parts.worlds.legacy.vm}`],
    ...["--env-var", `experiment=${parts.worlds.experiment}`],
  ];
  const report = ["--reporters", "json", "--reporter-json-export", file("report.json")];
  run(newman, ["run", file("collection.json"), ...vm, ...report], parts.folder);
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

/** @returns the id of a VM whose guest waits for a line */
async function boardVm(caller: Caller): Promise<string> {
  const body = Buffer.from(guestImage("hello"));
  const headers = { "content-type": "application/octet-stream" };
  const put = await caller.send({ method: "PUT", path: `/v1/images/${IMAGE}`, headers, body });
  if (put.status !== 201) throw new Error(`the upload was refused: ${put.text}`);
  const made = await caller.json("POST", "/v1/vms", { board: { image: IMAGE, memoryMiB: 16 } });
  const id = made.json.id as string;
  await caller.json("POST", `/v1/vms/${id}:start`);
  return id;
}

const GIC = { base: "0x8000000", redist: "0x80a0000", nrIrqs: 96 } as const;
const IN_GIC = /\/(devices|vgic|vfio-files)(\/|$)/;
const GIC_VALUES = { device: "0", group: "3", attr: "0", kind: "v3-dist", fd: "1048576" } as const;

/** @returns the id of a VM whose GICv3 is initialised, as device 0 */
async function gicVm(caller: Caller): Promise<string> {
  const id = (await caller.json("POST", "/v1/vms", {})).json.id as string;
  const path = `/v1/vms/${id}`;
  const device = `${path}/devices/0`;
  const steps = [
    ["PUT", `${path}/vcpus/0`, {}],
    ["POST", `${path}/devices`, { type: "KVM_DEV_TYPE_ARM_VGIC_V3" }],
    ["PUT", `${device}/nr-irqs`, { nrIrqs: GIC.nrIrqs }],
    ["PUT", `${device}/addresses/v3-dist`, { address: GIC.base }],
    ["PUT", `${device}/addresses/v3-redist`, { address: GIC.redist }],
    ["POST", `${device}/operations`, { op: "init" }],
    ["POST", `${path}/vfio-files`, {}],
  ] as const;
  for (const [method, url, body] of steps) {
    const { status, text } = await caller.json(method, url, body);
    if (status >= 300) throw new Error(`${method} ${url} was refused: ${text}`);
  }
  return id;
}

/** @returns the id of the smallest experiment, after its end */
async function experiment(caller: Caller): Promise<string> {
  const workload = { vcpus: 1, bytesPerVcpu: 2 ** 20, storesPerRound: 16, rounds: 1 };
  const body = { workload, strategies: [{ tracking: "write-protect" }] };
  const made = await caller.json("POST", "/v1/experiments", body);
  const id = made.json.id as string;
  for (let n = 0; n < 600; n++) {
    const { state } = (await caller.json("GET", `/v1/experiments/${id}`)).json;
    if (state === "done") return id;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`the experiment did not end: ${made.text}`);
}

async function main(): Promise<boolean> {
  const folder = await temporary("contract");
  const service = await startReal({ dataDir: folder.path });
  const caller = await Caller.open(service.origin);
  try {
    const worlds = {
      legacy: await World.build(caller, "legacy"),
      manual: await World.build(caller, "manual"),
      ring: await World.build(caller, "ring"),
      gic: await gicVm(caller),
      board: await boardVm(caller),
      experiment: await experiment(caller),
    };
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
