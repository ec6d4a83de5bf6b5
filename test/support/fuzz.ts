// Owns: requests drawn from the document: values that fit a schema, values that just don't, and
// values that no schema expects. Test process. fast-check owns the randomness, so a run repeats.
import fc from "fast-check";

type Json = Readonly<Record<string, unknown>>;

interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
}

export interface FuzzRequest {
  readonly id: string;
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | null;
}

const HOSTILE: readonly unknown[] = [
  null,
  true,
  -1,
  0.5,
  2 ** 32,
  2 ** 53,
  1e308,
  "",
  "0x",
  "0xffffffffffffffff",
  "18446744073709551616",
  "-1",
  "../../etc/passwd",
  "\u0000",
  "💥".repeat(40),
  "9".repeat(400),
  [],
  [[[[[[]]]]]],
  {},
  { toString: 1, constructor: { prototype: 1 } },
];

const U64 = ["0x0", "0x1", "0x1000", "0x200000", "0x8000000000000000", "0xffffffffffffffff", "7"];

function text(schema: Schema): fc.Arbitrary<unknown> {
  const pattern = schema.pattern ?? "";
  if (pattern.startsWith("^(0x")) return fc.constantFrom(...U64);
  if (pattern.includes("a-zA-Z0-9+/") || pattern.includes("A-Za-z0-9+/")) {
    return fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes).toString("base64"));
  }
  if (pattern.includes("a-fA-F]{2}")) return fc.constantFrom("00", "a0a1a2a3", "ffffffffffffffff");
  return fc.string({ maxLength: Math.min(schema.maxLength ?? 40, 40) });
}

function integer({ minimum = 0, maximum = 2 ** 32 }: Schema): fc.Arbitrary<unknown> {
  const high = Math.min(maximum, Number.MAX_SAFE_INTEGER);
  return fc.oneof(
    fc.constantFrom(minimum, high),
    fc.integer({ min: minimum, max: Math.min(high, minimum + 70_000) }),
  );
}

/** Draws from schemas of one document. */
export class Fuzz {
  readonly #document: Json;

  constructor(document: Json) {
    this.#document = document;
  }

  #deref(schema: Schema): Schema {
    if (schema.$ref === undefined) return schema;
    const path = schema.$ref.slice(2).split("/");
    return path.reduce<Json>((at, name) => at[name] as Json, this.#document) as Schema;
  }

  /** A value that fits. */
  fitting(given: Schema): fc.Arbitrary<unknown> {
    const schema = this.#deref(given);
    if (schema.const !== undefined) return fc.constant(schema.const);
    if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
    if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map((s) => this.fitting(s)));
    switch (schema.type) {
      case "object":
        return this.#object(schema);
      case "array":
        return fc.array(this.fitting(schema.items ?? {}), { maxLength: 4 });
      case "integer":
      case "number":
        return integer(schema);
      case "boolean":
        return fc.boolean();
      case "string":
        return text(schema);
      case "null":
        return fc.constant(null);
      default:
        return fc.jsonValue({ maxDepth: 2 });
    }
  }

  #object(schema: Schema): fc.Arbitrary<unknown> {
    const fields = Object.entries(schema.properties ?? {});
    const model = Object.fromEntries(fields.map(([name, sub]) => [name, this.fitting(sub)]));
    const requiredKeys = (schema.required ?? []).filter((name) => name in model);
    return fc.record(model, { requiredKeys: [...requiredKeys] });
  }

  /** Mostly fits; now and then a member is hostile, missing or too many. */
  value(schema: Schema): fc.Arbitrary<unknown> {
    const hostile = fc.constantFrom(...HOSTILE);
    const spoiled = fc
      .tuple(this.fitting(schema), hostile, fc.nat(), fc.boolean())
      .map(([value, bad, at, isExtra]) => spoil(value, bad, at, isExtra));
    return fc.oneof(
      { weight: 6, arbitrary: this.fitting(schema) },
      { weight: 3, arbitrary: spoiled },
      { weight: 1, arbitrary: hostile },
    );
  }

  /** A request to one operation. @param names what the path's parameters may be */
  request(
    path: string,
    method: string,
    op: Json,
    names: Readonly<Record<string, readonly string[]>>,
  ): fc.Arbitrary<FuzzRequest> {
    const parameters = ((op["parameters"] ?? []) as Json[]).map((p) => this.#deref(p) as Json);
    const inQuery = parameters.filter((p) => p["in"] === "query");
    const query = fc.record(
      Object.fromEntries(
        inQuery.map((p) => [String(p["name"]), this.value(p["schema"] as Schema)]),
      ),
      { requiredKeys: inQuery.filter((p) => p["required"]).map((p) => String(p["name"])) },
    );
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name);
    const segments = fc.tuple(
      ...inPath.map((name) =>
        fc.oneof(
          { weight: 5, arbitrary: fc.constantFrom(...(names[name] ?? ["0", "1", "4294967295"])) },
          { weight: 1, arbitrary: fc.constantFrom("-1", "x", "99999999999", "%00", "a b") },
        ),
      ),
    );
    return fc
      .tuple(
        segments,
        query,
        this.#body(op),
        fc.constantFrom("*/*", "application/json", "text/html"),
      )
      .map(([parts, search, body, accept]) => ({
        id: String(op["operationId"]),
        method: method.toUpperCase(),
        url: urlOf(path, inPath, parts, search as Json),
        headers: { accept, ...body.headers },
        body: body.body,
      }));
  }

  #body(op: Json): fc.Arbitrary<Pick<FuzzRequest, "headers" | "body">> {
    const content = ((op["requestBody"] ?? {}) as Json)["content"] as Record<string, Json>;
    const kinds = Object.entries(content ?? {}).map(([type, entry]) =>
      type.endsWith("json")
        ? this.value(entry["schema"] as Schema).map((value) => ({
            headers: { "content-type": type },
            body: JSON.stringify(value) ?? "",
          }))
        : fc.uint8Array({ maxLength: 80 }).map((bytes) => ({
            headers: { "content-type": type },
            body: bytes as Uint8Array,
          })),
    );
    const none = fc.constant({ headers: {}, body: null });
    if (kinds.length === 0) return none;
    return fc.oneof(...kinds.map((arbitrary) => ({ weight: 5, arbitrary })), {
      weight: 1,
      arbitrary: none,
    });
  }
}

function spoil(value: unknown, bad: unknown, at: number, isExtra: boolean): unknown {
  if (Array.isArray(value)) return [...value, bad];
  if (typeof value !== "object" || value === null) return bad;
  const names = Object.keys(value);
  const name = isExtra || names.length === 0 ? "extra" : (names[at % names.length] ?? "extra");
  return { ...value, [name]: bad };
}

function urlOf(path: string, names: readonly string[], parts: readonly string[], query: Json) {
  let url = path;
  for (const [i, name] of names.entries()) {
    url = url.replace(`{${name}}`, parts[i] === "%00" ? "%00" : encodeURIComponent(parts[i] ?? ""));
  }
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      search.append(name, typeof one === "object" ? JSON.stringify(one) : String(one));
    }
  }
  return search.size === 0 ? url : `${url}?${search.toString()}`;
}
