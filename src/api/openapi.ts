// Owns: the OpenAPI 3.1 document, made from the same operations that make the routes (DESIGN 15).
// Every schema with an $id becomes a named component. HTTP thread.
import type { TSchema } from "typebox";
import { SCOPES } from "./auth.js";
import { JSON_TYPE, OCTETS, PROBLEM_TYPE } from "./content.js";
import { exampleOf } from "./example.js";
import {
  type Answer,
  type Content,
  consumes,
  type HeaderDoc,
  type Operation,
} from "./operation.js";
import { ERRNO_TITLE, PROBLEMS, type ProblemCode } from "./problem.table.js";
import { ProblemSchema } from "./schemas/common.schema.js";
import { TAGS } from "./tags.table.js";

type Json = Record<string, unknown>;

const DESCRIPTION = `KVM for arm64 over HTTP, on an emulated host.

* A u64 is text: \`"0x…"\` in answers; bodies and queries also take decimal text.
* Bitmaps and memory are \`application/octet-stream\` or JSON, by \`Accept\`.
* Refusals are \`application/problem+json\`; what KVM refused carries \`errno\` and \`ioctl\`.
* Unknown fields are refused. Enumerations may grow: treat unknown values as "other".
* Every POST takes an \`Idempotency-Key\`.`;

/**
 * A record has one pattern for its names; tools know the same as additionalProperties with
 * propertyNames better.
 */
function asMap(node: Json): Json {
  const patterns = Object.entries((node["patternProperties"] ?? {}) as Json);
  const [first] = patterns;
  if (first === undefined || patterns.length > 1) return node;
  const { patternProperties: _patterns, ...rest } = node;
  const [pattern, value] = first;
  const names = pattern === "^.*$" ? {} : { propertyNames: { type: "string", pattern } };
  return { ...rest, ...names, additionalProperties: value };
}

/** Collects named schemas while the paths are written. */
class Components {
  readonly schemas: Record<string, Json> = {};
  /** Of named schemas, by their name: many answers show the same. */
  readonly examples: Record<string, Json> = {};

  /** Answers that refuse, by status and codes. */
  readonly problems: Record<string, Json> = {};

  /** The example of an answer, by reference where its schema has a name. */
  example(schema: TSchema): Json {
    const id = (schema as unknown as Json)["$id"];
    if (typeof id !== "string") return { example: exampleOf(schema) };
    this.examples[id] ??= { value: exampleOf(schema) };
    return { examples: { one: { $ref: `#/components/examples/${id}` } } };
  }

  /** A schema as it stands in the document: named ones by reference. */
  ref(schema: unknown): Json {
    const node = schema as Json;
    const id = node["$id"];
    if (typeof id !== "string") return this.#inline(node);
    if (this.schemas[id] === undefined) {
      this.schemas[id] = {};
      this.schemas[id] = this.#inline(node);
    }
    return { $ref: `#/components/schemas/${id}` };
  }

  #inline(node: Json): Json {
    const out: Json = {};
    for (const [key, value] of Object.entries(asMap(node))) {
      if (key === "$id") continue;
      if (key === "examples" || key === "enum" || key === "default" || key === "const") {
        out[key] = value;
      } else if (key === "properties") {
        const properties: Json = {};
        for (const [name, sub] of Object.entries(value as Json)) properties[name] = this.ref(sub);
        out[key] = properties;
      } else if (Array.isArray(value)) {
        out[key] = value.map((item) => (typeof item === "object" ? this.ref(item) : item));
      } else if (typeof value === "object" && value !== null) {
        out[key] = this.ref(value);
      } else {
        out[key] = value;
      }
    }
    return out;
  }
}

function contentDoc(content: Readonly<Record<string, Content>>, components: Components): Json {
  const out: Json = {};
  for (const [type, { schema, example }] of Object.entries(content)) {
    const shown = example === undefined ? components.example(schema) : { example };
    out[type] = { schema: components.ref(schema), ...(type === OCTETS ? {} : shown) };
  }
  return out;
}

function headersDoc(headers: Readonly<Record<string, HeaderDoc>>, components: Components): Json {
  const out: Json = {};
  for (const [name, { description, schema }] of Object.entries(headers)) {
    out[name] = { description, schema: components.ref(schema) };
  }
  return out;
}

function answerDoc(answer: Answer, components: Components): Json {
  const out: Json = { description: answer.description };
  if (answer.headers !== undefined) out["headers"] = headersDoc(answer.headers, components);
  if (answer.content !== undefined) out["content"] = contentDoc(answer.content, components);
  return out;
}

/** Answers for the problems that the operation names, one per status; many share theirs. */
function problemDocs(op: Operation, components: Components): Json {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of op.problems ?? []) {
    const { status } = PROBLEMS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const out: Json = {};
  for (const [status, codes] of byStatus) {
    const name = [status, ...codes].join(".");
    const lines = codes.map((code) => `\`${code}\`: ${PROBLEMS[code].title}.`);
    const [first] = codes;
    if (first === undefined) continue;
    const isKvm = first === "kvm-errno";
    const more = isKvm ? { errno: "EINVAL", errnoValue: 22, ioctl: "KVM_ENABLE_CAP" } : {};
    components.problems[name] ??= problemResponse(lines.join("\n\n"), first, more);
    out[String(status)] = { $ref: `#/components/responses/${name}` };
  }
  return out;
}

interface ObjectNode {
  readonly properties?: Readonly<Record<string, Json>>;
  readonly required?: readonly string[];
}

function parameterDocs(
  where: "path" | "query",
  schema: TSchema | undefined,
  components: Components,
): readonly Json[] {
  const node = (schema ?? {}) as ObjectNode;
  return Object.entries(node.properties ?? {}).map(([name, property]) => {
    const { description, ...rest } = property;
    return {
      name,
      in: where,
      required: where === "path" || (node.required ?? []).includes(name),
      ...(description === undefined ? {} : { description }),
      schema: components.ref(rest),
    };
  });
}

function headerParameters(op: Operation, components: Components): readonly Json[] {
  const own = Object.entries(op.headers ?? {}).map(([name, { description, schema }]) => ({
    name,
    in: "header",
    required: false,
    description,
    schema: components.ref(schema),
  }));
  const key = { $ref: "#/components/parameters/IdempotencyKey" };
  return op.method === "POST" && op.idempotency !== "none" ? [...own, key] : own;
}

function bodyDoc(op: Operation, components: Components): Json | null {
  const types = consumes(op);
  if (types.length === 0) return null;
  const content: Json = {};
  if (op.octets !== undefined) {
    content[OCTETS] = { schema: components.ref(op.octets.schema) };
  }
  if (op.body !== undefined) {
    const type = op.bodyType ?? JSON_TYPE;
    content[type] = { schema: components.ref(op.body), example: exampleOf(op.body) };
  }
  return { required: !(op.bodyOptional ?? false), content };
}

function operationDoc(op: Operation, components: Components): Json {
  const parameters = [
    ...parameterDocs("path", op.params, components),
    ...parameterDocs("query", op.query, components),
    ...headerParameters(op, components),
  ];
  const body = bodyDoc(op, components);
  const responses: Json = {};
  for (const [status, answer] of Object.entries(op.answers)) {
    responses[status] = answerDoc(answer, components);
  }
  if (Object.keys(op.answers).length === 0) {
    responses["2XX"] = { description: "Reserved for the ioctl's result; not answered yet." };
  }
  Object.assign(responses, problemDocs(op, components));
  responses["4XX"] = { $ref: "#/components/responses/Refused" };
  responses["503"] ??= { $ref: "#/components/responses/Unavailable" };
  if (op.scope === "vm:write") {
    responses["507"] ??= { $ref: "#/components/responses/OutOfMemory" };
  }
  return {
    operationId: op.id,
    tags: [op.tag],
    summary: op.summary,
    description: op.scope === null ? op.description : `${op.description}\n\nScope: ${op.scope}.`,
    security: op.scope === null ? [] : [{ bearer: [] }],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === null ? {} : { requestBody: body }),
    responses,
  };
}

function problemResponse(description: string, code: ProblemCode, more: Json = {}): Json {
  const { status, title, page } = PROBLEMS[code];
  return {
    description,
    content: {
      [PROBLEM_TYPE]: {
        schema: { $ref: "#/components/schemas/Problem" },
        example: {
          type: `/problems/${code}`,
          title,
          status,
          detail: page.split(/(?<=\.) /)[0] ?? page,
          instance: "/v1/vms",
          code,
          ...more,
          traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
        },
      },
    },
  };
}

function sharedComponents(components: Components): Json {
  components.ref(ProblemSchema);
  const names = Object.keys(components.schemas).sort();
  return {
    schemas: Object.fromEntries(names.map((name) => [name, components.schemas[name]])),
    examples: components.examples,
    parameters: {
      IdempotencyKey: {
        name: "Idempotency-Key",
        in: "header",
        required: false,
        description:
          "Makes the POST safe to repeat: the same key with the same request gives the first " +
          "answer again, for 24 hours; with another request 422.",
        schema: { type: "string", minLength: 1, maxLength: 255, pattern: "^[!-~]+$" },
        example: "b5c0a9f2-6b0e-4f0a-9f0e-0a4d6b1c2d3e",
      },
    },
    responses: {
      ...components.problems,
      Refused: problemResponse(
        "The request was refused; nothing was changed. `code` says why, `errno` and `ioctl` are " +
          "there when KVM refused.",
        "validation",
      ),
      OutOfMemory: problemResponse(
        "ENOMEM or ENOSPC: the host's memory budget does not suffice; nothing was changed.",
        "kvm-errno",
        { status: 507, title: ERRNO_TITLE.ENOMEM, errno: "ENOMEM", errnoValue: 12, ioctl: "mmap" },
      ),
      Unavailable: problemResponse(
        "Draining, overloaded, or at a limit of the host; Retry-After says when to ask again.",
        "overloaded",
      ),
    },
    securitySchemes: {
      bearer: {
        type: "http",
        scheme: "bearer",
        description:
          `A token of the host's token file. Scopes: ${SCOPES.join(", ")}. ` +
          "Not needed on a loopback address without a token file.",
      },
    },
  };
}

/** Writes the document. @param version the service's version */
export function openApiDocument(operations: readonly Operation[], version: string): Json {
  const components = new Components();
  const paths: Record<string, Json> = {};
  for (const op of operations) {
    const path = paths[op.path] ?? {};
    paths[op.path] = path;
    path[op.method.toLowerCase()] = operationDoc(op, components);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Tidemark",
      summary: "KVM for arm64 over HTTP.",
      description: DESCRIPTION,
      version,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
      contact: { name: "Tidemark" },
    },
    servers: [
      { url: "/", description: "This host." },
      {
        url: "http://{host}:{port}",
        description:
          "Its data plane: pages of migrations, under `/v1/streams`, with an offer's secret; no " +
          "path of this document is there.",
        variables: {
          host: { default: "127.0.0.1", description: "As HOST, or DATA_PLANE_HOST." },
          port: { default: "8090", description: "DATA_PLANE_PORT, or a free one." },
        },
      },
    ],
    tags: TAGS.map(({ name, description }) => ({ name, description })),
    paths,
    components: sharedComponents(components),
  };
}
