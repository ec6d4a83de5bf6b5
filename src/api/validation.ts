// Owns: checking path, query and body against compiled TypeBox schemas. HTTP thread.
// Bodies are never converted: "5" is no integer. Path and query are text, so integers and booleans
// are read from exactly their canonical text; anything else stays text and is then refused.
import { TypeBoxValidatorCompiler } from "@fastify/type-provider-typebox";
import type { FastifyRequest, FastifySchemaCompiler, preParsingHookHandler } from "fastify";
import type { TSchema } from "typebox";
import { ServiceError } from "../base/errors.js";
import type { ShapeError } from "./problem.js";
import { isBinarySchema } from "./schemas/common.schema.js";

/** Errors reported of one request at most. */
const ERRORS_MAX = 20;

interface SchemaNode {
  readonly type?: string;
  readonly additionalProperties?: unknown;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
}

type Check = (value: unknown) => { value: unknown } | { error: Error };

function readText(schema: SchemaNode | undefined, value: unknown): unknown {
  if (schema?.type === "array") return Array.isArray(value) ? value : [value];
  if (typeof value !== "string") return value;
  if (schema?.type === "integer") {
    const number = Number(value);
    return /^(0|-?[1-9][0-9]{0,15})$/.test(value) && Number.isSafeInteger(number) ? number : value;
  }
  if (schema?.type === "boolean") {
    if (value === "true") return true;
    if (value === "false") return false;
  }
  return value;
}

function readTexts(schema: SchemaNode, values: unknown): unknown {
  // Without a prototype: a field named __proto__ stays a field, and is refused.
  const out: Record<string, unknown> = Object.create(null);
  for (const [name, value] of Object.entries((values ?? {}) as Record<string, unknown>)) {
    out[name] = readText(schema.properties?.[name], value);
  }
  return out;
}

/**
 * Names that a closed object doesn't know, when they are many: the compiled check takes
 * microseconds for each, which a body of megabytes makes seconds.
 */
function manyUnknown(schema: SchemaNode, value: unknown): readonly string[] | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  const known = schema.properties ?? {};
  const names = Object.keys(value);
  if (schema.additionalProperties !== false || names.length <= ERRORS_MAX) return null;
  const unknown: string[] = [];
  for (const name of names) {
    if (!Object.hasOwn(known, name)) unknown.push(name);
    if (unknown.length > ERRORS_MAX) return unknown;
  }
  return null;
}

/**
 * Compiles on first use: a hundred schemas that a short run never meets would cost its start.
 * An absent body counts as {} where the schema requires nothing.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = (route) => {
  const { schema, httpPart } = route;
  if (isBinarySchema(schema)) return (value: unknown) => ({ value });
  const node = schema as SchemaNode;
  const isText = httpPart !== "body";
  const mayBeAbsent = node.type === "object" && (node.required ?? []).length === 0;
  let check: Check | null = null;
  return (value: unknown) => {
    check ??= TypeBoxValidatorCompiler({ ...route, httpPart: "body" }) as unknown as Check;
    if (isText) return check(readTexts(node, value));
    const unknown = manyUnknown(node, value);
    if (unknown !== null) return { error: [unknownFields(unknown)] };
    return check(value === null && mayBeAbsent ? {} : value);
  };
};

interface RawError {
  readonly keyword: string;
  readonly instancePath: string;
  readonly schemaPath: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly message: string;
}

function unknownFields(names: readonly string[]): RawError {
  const params = { additionalProperties: names };
  return {
    keyword: "additionalProperties",
    instancePath: "",
    schemaPath: "#",
    params,
    message: "",
  };
}

const PREFIX: Readonly<Record<string, string>> = {
  params: "/path",
  querystring: "/query",
  headers: "/header",
  body: "",
};

function escapePointer(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

function shapeErrors(raw: readonly RawError[], prefix: string): readonly ShapeError[] {
  const errors: ShapeError[] = [];
  for (const error of raw) {
    const at = `${prefix}${error.instancePath}`;
    if (error.keyword === "additionalProperties") {
      const names = (error.params["additionalProperties"] ?? []) as readonly string[];
      for (const name of names) {
        errors.push({ pointer: `${at}/${escapePointer(name)}`, detail: "is not a known field" });
      }
    } else if (error.keyword === "required") {
      const names = (error.params["requiredProperties"] ?? []) as readonly string[];
      for (const name of names) {
        errors.push({ pointer: `${at}/${escapePointer(name)}`, detail: "is required" });
      }
    } else if (error.keyword === "enum") {
      const values = (error.params["allowedValues"] ?? []) as readonly unknown[];
      errors.push({ pointer: at, detail: `must be one of ${values.join(", ")}` });
    } else if (error.keyword !== "boolean") {
      errors.push({ pointer: at, detail: error.message });
    }
  }
  return errors;
}

/** Puts what the compiled check found into the error that the problem is made of. */
export function schemaErrorFormatter(raw: unknown, part: string): Error {
  const errors = shapeErrors(raw as readonly RawError[], PREFIX[part] ?? "");
  const first = errors[0] ?? { pointer: "", detail: "has not the documented shape" };
  const where = first.pointer === "" ? "The body" : first.pointer;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : "";
  return new ServiceError("validation", `${where} ${first.detail}${more}.`, {
    errors: errors.slice(0, ERRORS_MAX),
  });
}

/** Whether the request announces a body. */
function hasBody(request: FastifyRequest): boolean {
  const length = request.headers["content-length"];
  return request.headers["transfer-encoding"] !== undefined || (length ?? "0") !== "0";
}

/**
 * Refuses a body whose media type the operation does not take, before a byte of it is read, and a
 * missing body where one is needed.
 * @throws ServiceError "unsupported-media-type", "body-missing"
 */
function checkMediaType(request: FastifyRequest): void {
  const { consumes = [], bodyOptional = false } = request.routeOptions.config;
  const mediaType = (request.headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase();
  const encoding = request.headers["content-encoding"] ?? "identity";
  const accepts = [...consumes];
  if (encoding !== "identity") {
    throw new ServiceError("unsupported-media-type", `Content-Encoding ${encoding}.`, { accepts });
  }
  if (mediaType === undefined || mediaType === "") {
    if (hasBody(request)) {
      throw new ServiceError("unsupported-media-type", "The body has no Content-Type.", {
        accepts,
      });
    }
    if (consumes.length > 0 && !bodyOptional) {
      throw new ServiceError("body-missing", `A body of type ${consumes.join(" or ")} is needed.`);
    }
    return;
  }
  if (consumes.includes(mediaType)) return;
  if (!hasBody(request) && (consumes.length === 0 || bodyOptional)) return;
  const wanted = consumes.length === 0 ? "no body" : consumes.join(" or ");
  throw new ServiceError("unsupported-media-type", `${mediaType} came, ${wanted} is taken.`, {
    accepts,
  });
}

/** preParsing hook of every route that may take a body. */
export const mediaTypeHook: preParsingHookHandler = (request, _reply, _payload, done) => {
  try {
    checkMediaType(request);
    done();
  } catch (error) {
    done(error as Error);
  }
};
