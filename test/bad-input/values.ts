// Owns: values made from JSON Schemas: of the documented shape but at its edges, and spoilt ones.
// Test process.
import fc from "fast-check";
import type { Json } from "./document.js";

/** What a reference to something that exists looks like until the world fills it in. */
export const KNOWN = { eventfd: "@eventfd", vm: "@vm" } as const;

/** Where 64-bit arithmetic goes wrong: around powers of two, page sizes, address-space ends. */
const EDGES: readonly bigint[] = [
  0n,
  1n,
  7n,
  8n,
  63n,
  64n,
  0xfffn,
  0x1000n,
  0x1001n,
  0x1_0000n,
  0x20_0000n,
  0x4000_0000n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  0xff_ffff_f000n,
  0x100_0000_0000n,
  0x7fff_ffff_f000n,
  1n << 48n,
  1n << 52n,
  (1n << 53n) - 1n,
  (1n << 53n) + 1n,
  1n << 60n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 0x1000n,
  (1n << 64n) - 1n,
];
/** Of the right shape, but no u64. */
const BEYOND = ["18446744073709551616", "99999999999999999999", "36893488147419103232"];

const u64Text = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...EDGES).map((v) => `0x${v.toString(16)}`) },
  { weight: 2, arbitrary: fc.constantFrom(...EDGES).map(String) },
  {
    weight: 2,
    arbitrary: fc.bigInt({ min: 0n, max: 600n }).map((v) => `0x${(v << 12n).toString(16)}`),
  },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(String) },
  { weight: 1, arbitrary: fc.constantFrom(...BEYOND) },
);

const ODD_TEXTS = [
  "",
  " ",
  "0",
  "-1",
  "__proto__",
  "constructor",
  "toString",
  "null",
  "\u0000",
  "\u202e",
  "\ud800",
  "é\u0301",
  "🙂",
  "../../etc",
  "%2e%2e",
  "'; DROP TABLE vm; --",
  "a".repeat(255),
];

function integers(schema: Json): fc.Arbitrary<unknown> {
  const min = Number(schema["minimum"] ?? -(2 ** 31));
  const max = Math.min(Number(schema["maximum"] ?? 2 ** 53 - 1), 2 ** 53 - 1);
  const edges = [min, max, min + 1, max - 1, ...EDGES.map(Number)].filter(
    (v) => v >= min && v <= max && Number.isSafeInteger(v),
  );
  const low = Math.min(Math.max(min, 0), max);
  return fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: low, max: Math.min(max, low + 3) }) },
    { weight: 3, arbitrary: fc.constantFrom(...edges) },
    { weight: 1, arbitrary: fc.integer({ min, max }) },
  );
}

/** Long values are rare, or every request would be one of a megabyte. */
const LONG_MAX = 2000;

function strings(schema: Json): fc.Arbitrary<unknown> {
  const pattern = schema["pattern"];
  const max = Math.min(Number(schema["maxLength"] ?? LONG_MAX), LONG_MAX);
  const min = Number(schema["minLength"] ?? 0);
  if (typeof pattern === "string") {
    if (pattern.startsWith("^(0x[0-9a-fA-F]{1,16}")) return u64Text;
    const regex = new RegExp(pattern);
    return fc.stringMatching(regex).filter((text) => text.length >= min && text.length <= max);
  }
  const odd = ODD_TEXTS.filter((text) => text.length >= min && text.length <= max);
  return fc.oneof(
    fc.string({ minLength: min, maxLength: Math.min(max, 40) }),
    fc.constantFrom(...odd, "x".repeat(max)),
  );
}

function arrays(schema: Json): fc.Arbitrary<unknown> {
  const items = shaped((schema["items"] ?? {}) as Json);
  const minLength = Number(schema["minItems"] ?? 0);
  const maxLength = Math.min(Number(schema["maxItems"] ?? 6), Math.max(6, minLength));
  return fc.array(items, { minLength, maxLength });
}

function objects(schema: Json): fc.Arbitrary<unknown> {
  const properties = (schema["properties"] ?? {}) as Record<string, Json>;
  const required = (schema["required"] ?? []) as readonly string[];
  const fields = Object.fromEntries(
    Object.entries(properties).map(([name, value]) => [name, fieldOf(name, value)]),
  );
  const known = fc.record(fields, { requiredKeys: required as string[] });
  const additional = schema["additionalProperties"];
  if (typeof additional !== "object" || additional === null) return known;
  const names = strings((schema["propertyNames"] ?? {}) as Json) as fc.Arbitrary<string>;
  return fc.dictionary(names, shaped(additional as Json), { maxKeys: 5 });
}

/** Names that mean something in the world must often name what is there. */
function fieldOf(name: string, schema: Json): fc.Arbitrary<unknown> {
  const some = shaped(schema);
  const often = (known: fc.Arbitrary<unknown>) =>
    fc.oneof({ weight: 3, arbitrary: known }, { weight: 1, arbitrary: some });
  if (name === "eventfd" || name === "resampleEventfd") return often(fc.constant(KNOWN.eventfd));
  if (name === "memoryObjectId") return often(fc.constantFrom(1, 2));
  if (name === "guestMemfdId") return often(fc.constantFrom(1, 2, 3));
  if (name === "len") return often(fc.constantFrom(0, 1, 2, 4, 8));
  if (name === "timeoutMs") return fc.constantFrom(1, 5);
  if (name === "flags") return often(fc.constantFrom(0, 1, 2, 3));
  if (name === "log") return fc.constantFrom({}, { version: 1 }, { version: 1, entries: "x" });
  return some;
}

/** A value of the documented shape. */
export function shaped(schema: Json): fc.Arbitrary<unknown> {
  if ("const" in schema) return fc.constant(schema["const"]);
  if (Array.isArray(schema["enum"])) return fc.constantFrom(...(schema["enum"] as unknown[]));
  const anyOf = (schema["anyOf"] ?? schema["oneOf"]) as readonly Json[] | undefined;
  if (anyOf !== undefined) return fc.oneof(...anyOf.map(shaped));
  switch (schema["type"]) {
    case "integer":
    case "number":
      return integers(schema);
    case "string":
      return strings(schema);
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "array":
      return arrays(schema);
    case "object":
      return objects(schema);
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

type Path = readonly (string | number)[];

function placesOf(value: unknown, at: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [at];
  const inner = Object.entries(value).flatMap(([name, item]) =>
    placesOf(item, [...at, Array.isArray(value) ? Number(name) : name]),
  );
  return [at, ...inner];
}

/** What a leaf or a branch is replaced with. */
const WRONG: readonly unknown[] = [
  null,
  true,
  "",
  "x",
  "0x",
  "0x10000000000000000",
  "-1",
  "1.5",
  "1e3",
  " 1",
  "١",
  -1,
  1.5,
  4_294_967_296,
  -0.5,
  1e300,
  2 ** 53,
  [],
  [[]],
  {},
  { "0": 1 },
  "x".repeat(5000),
];

function replaced(value: unknown, path: Path, by: unknown): unknown {
  const [head, ...rest] = path;
  if (head === undefined) return by;
  if (Array.isArray(value)) {
    return value.map((item, i) => (i === head ? replaced(item, rest, by) : item));
  }
  const entries = Object.entries(value as Json);
  return Object.fromEntries(
    entries.map(([name, item]) => [name, name === head ? replaced(item, rest, by) : item]),
  );
}

function without(value: unknown, path: Path): unknown {
  const [head, ...rest] = path;
  if (typeof value !== "object" || value === null || head === undefined) return value;
  if (Array.isArray(value)) {
    return value.flatMap((item, i) =>
      i !== head ? [item] : rest.length === 0 ? [] : [without(item, rest)],
    );
  }
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, item]) =>
      name !== head
        ? [[name, item]]
        : rest.length === 0
          ? []
          : [[name, without(item, rest)] as [string, unknown]],
    ),
  );
}

/** Fields that nobody documented; as text, since an object can't hold the first as its own. */
const STRANGE_FIELDS = [
  '"__proto__":{"isAdmin":true}',
  '"constructor":{"prototype":{"x":1}}',
  '"zzz":1',
  '"":0',
  '"toString":1',
];

function withField(value: unknown, field: string): string {
  const text = JSON.stringify(value);
  if (!text.startsWith("{")) return `{${field}}`;
  return text === "{}" ? `{${field}}` : `${text.slice(0, -1)},${field}}`;
}

/** Text of a JSON body: the value with one thing spoilt. It may still be valid. */
function spoiltText(value: unknown, where: number, what: number, how: number): string {
  const places = placesOf(value);
  const path = places[where % places.length] ?? [];
  if (how < 2) return JSON.stringify(without(value, path)) ?? "null";
  if (how < 4) return withField(value, STRANGE_FIELDS[what % STRANGE_FIELDS.length] ?? "");
  return JSON.stringify(replaced(value, path, WRONG[what % WRONG.length])) ?? "null";
}

export function spoilt(schema: Json): fc.Arbitrary<string> {
  return fc
    .tuple(shaped(schema), fc.nat(), fc.nat(), fc.nat({ max: 9 }))
    .map(([value, where, what, how]) => spoiltText(value, where, what, how));
}

function at(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((node, name) => (node as Json)[name], value);
}

/** Values of the same type, at its edges. */
function likes(value: unknown): readonly unknown[] {
  if (typeof value === "number") return [-1, 2, 3, ...EDGES.map(Number)];
  if (typeof value === "boolean") return [!value];
  if (typeof value === "string" && value.startsWith("0x")) {
    return EDGES.map((edge) => `0x${edge.toString(16)}`);
  }
  return [null, "", [], {}];
}

/** One of its places is lost, or gets another value: mostly one of its type. */
export function spoiltCopy(value: unknown): fc.Arbitrary<unknown> {
  const places = fc.constantFrom(...placesOf(value));
  const like = fc.tuple(places, fc.nat()).map(([path, n]) => {
    const others = likes(at(value, path));
    return replaced(value, path, others[n % others.length]);
  });
  const wrong = fc
    .tuple(places, fc.constantFrom(...WRONG))
    .map(([path, other]) => replaced(value, path, other));
  const lost = places.map((path) => without(value, path));
  return fc.oneof(
    { weight: 6, arbitrary: like },
    { weight: 1, arbitrary: wrong },
    { weight: 1, arbitrary: lost },
  );
}

/** Text that is no JSON, or hardly. */
export const garbage: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(
    "",
    "{",
    "}",
    "[1,",
    '{"a":}',
    "\ufeff{}",
    "NaN",
    "1e999",
    "[".repeat(20_000),
    `${'{"a":'.repeat(5000)}1${"}".repeat(5000)}`,
    '{"a":1,"a":2}',
    "\u0000",
    "null",
    "[]",
    "0",
    '"text"',
    "{}{}",
  ),
  fc.string({ maxLength: 60 }),
);
