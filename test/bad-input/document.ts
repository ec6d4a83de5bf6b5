// Owns: the operations of the OpenAPI document with their schemas resolved. Test process.
import Ajv2020, { type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

export type Json = Readonly<Record<string, unknown>>;

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly schema: Json;
}

export interface Body {
  readonly type: string;
  readonly schema: Json;
  /** Whether a value has the documented shape. */
  readonly isValid: (value: unknown) => boolean;
}

export interface Operation {
  readonly id: string;
  readonly method: string;
  /** With parameters in braces. */
  readonly path: string;
  readonly parameters: readonly Parameter[];
  readonly bodies: readonly Body[];
  readonly bodyRequired: boolean;
  /** It is announced, its ioctl is not there yet. */
  readonly isNotYet: boolean;
}

/** @returns the node with every reference replaced by what it refers to */
export function resolveRefs(document: Json, node: unknown): unknown {
  if (Array.isArray(node)) return node.map((item) => resolveRefs(document, item));
  if (typeof node !== "object" || node === null) return node;
  const ref = (node as Json)["$ref"];
  if (typeof ref === "string") {
    const target = ref
      .slice(2)
      .split("/")
      .reduce<unknown>((at, name) => (at as Json)[name], document);
    return resolveRefs(document, target);
  }
  return Object.fromEntries(
    Object.entries(node).map(([name, value]) => [name, resolveRefs(document, value)]),
  );
}

function bodiesOf(ajv: Ajv2020.default, op: Json): readonly Body[] {
  const content = ((op["requestBody"] as Json | undefined)?.["content"] ?? {}) as Json;
  return Object.entries(content).map(([type, entry]) => {
    const schema = ((entry as Json)["schema"] ?? {}) as Json;
    let check: ValidateFunction | null = null;
    const isValid = (value: unknown) => {
      check ??= ajv.compile(schema);
      return check(value) as boolean;
    };
    return { type, schema, isValid };
  });
}

/** Every operation of the document, in its order. */
export function operationsOf(document: Json): readonly Operation[] {
  const ajv = new Ajv2020.default({ strict: false });
  addFormats.default(ajv);
  const paths = document["paths"] as Record<string, Record<string, Json>>;
  return Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, raw]) => {
      const op = resolveRefs(document, raw) as Json;
      return {
        id: String(op["operationId"]),
        method: method.toUpperCase(),
        path,
        parameters: (op["parameters"] ?? []) as readonly Parameter[],
        bodies: bodiesOf(ajv, op),
        bodyRequired: (op["requestBody"] as Json | undefined)?.["required"] === true,
        isNotYet: (op["tags"] as readonly string[]).includes("not-yet"),
      };
    }),
  );
}
