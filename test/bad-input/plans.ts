// Owns: requests as data: an operation with arguments good and bad, before ids are filled in.
// Test process.
import fc from "fast-check";
import type { Body, Operation, Parameter } from "./document.js";
import { HINTS, type Hint } from "./hints.js";
import { garbage, shaped, spoilt } from "./values.js";

export interface Plan {
  readonly op: Operation;
  /** By name, percent-encoded already; "@…" is filled in by the world. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: readonly (readonly [string, string])[];
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | null;
  /** Whether the body, if it is JSON, has not the documented shape: then it must be refused. */
  readonly isMisshapen: boolean;
  /** How a counterexample is shown. */
  readonly [fc.toStringMethod]: () => string;
}

const BAD_SEGMENTS = [
  "%00",
  "..",
  "%2e%2e",
  "..%2f..%2fetc%2fpasswd",
  "-1",
  "1.5",
  "0x10",
  "1e3",
  "4294967296",
  "18446744073709551615",
  "9".repeat(250),
  "x".repeat(65),
  "x".repeat(300),
  "%20",
  "%F0%9F%99%82",
  "%zz",
  "__proto__",
  "constructor",
  "*",
  "NaN",
];

/** What names in paths refer to, as far as it exists. */
function knownSegment(op: Operation, name: string): fc.Arbitrary<string> {
  switch (name) {
    case "vm":
      return fc.constant("@vm");
    case "n":
      return fc.constantFrom("0", "0", "1");
    case "slot":
      return fc.constantFrom("0", "0", "1", "2", "3", "4");
    case "cap":
      return fc.constantFrom("KVM_CAP_NR_MEMSLOTS", "168", "223", "225", "228", "182", "0", "9999");
    case "run":
      return fc.constantFrom("@run", "run_1-1", "run_0-0");
    case "harvest":
      return fc.constantFrom("@harvest", "h1", "h0");
    case "id":
      if (op.path.includes("/v1/eventfds/")) return fc.constant("@eventfd");
      if (op.path.includes("/ioeventfds/")) return fc.constant("@ioeventfd");
      return fc.constantFrom("1", "2", "3", "4");
    case "index":
      return fc.constantFrom("0", "1", "2", "255", "9007199254740991");
    case "code":
      return fc.constantFrom("kvm-errno", "nope");
    default:
      return fc.constantFrom("0", "1", "x");
  }
}

function segmentOf(op: Operation, parameter: Parameter): fc.Arbitrary<string> {
  const text = shaped(parameter.schema).map((value) => {
    const encoded = encodeURIComponent(String(value).replace(/[\ud800-\udfff]/g, "?"));
    return encoded === "" ? "x" : encoded;
  });
  return fc.oneof(
    { weight: 20, arbitrary: knownSegment(op, parameter.name) },
    { weight: 1, arbitrary: text },
    { weight: 1, arbitrary: fc.constantFrom(...BAD_SEGMENTS) },
  );
}

/** A wait that is granted would only slow the test down; it has cases of its own. */
const NO_WAIT = /^(wait|untilState)$/;

function queryOf(op: Operation): fc.Arbitrary<readonly (readonly [string, string])[]> {
  const pairs = op.parameters
    .filter((parameter) => parameter.in === "query")
    .map((parameter) => {
      const isWait = NO_WAIT.test(parameter.name);
      const values = isWait ? fc.constantFrom("0", "-1", "61", "x") : shaped(parameter.schema);
      const texts = fc.oneof(
        { weight: 6, arbitrary: values.map(String) },
        { weight: 1, arbitrary: fc.constantFrom("", "x", "-1", "1.5", "__proto__", "%") },
      );
      const one = texts.map((text) => [[parameter.name, text] as const]);
      const none = fc.constant([] as (readonly [string, string])[]);
      const share = parameter.required || /^(firstPage|numPages|offset|gpa)$/.test(parameter.name);
      return fc.oneof(
        { weight: share ? 12 : 4, arbitrary: one },
        { weight: share ? 1 : 6, arbitrary: none },
        {
          weight: 1,
          arbitrary: fc
            .tuple(texts, texts)
            .map((both) => both.map((text) => [parameter.name, text] as const)),
        },
      );
    });
  const strange = fc.oneof(
    { weight: 15, arbitrary: fc.constant([] as (readonly [string, string])[]) },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom("__proto__", "zzz", "", "a[b]")
        .map((name) => [[name, "1"] as const]),
    },
  );
  return fc.tuple(...pairs, strange).map((parts) => parts.flat());
}

const RIGHT_TYPE = "right";
const typeOf = fc.oneof(
  { weight: 20, arbitrary: fc.constant(RIGHT_TYPE) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      "",
      "text/plain",
      "application/json; charset=utf-16",
      "application/json;;;",
      "APPLICATION/JSON",
      "multipart/form-data; boundary=x",
      "application/octet-stream",
      "application/x-www-form-urlencoded",
      "/",
    ),
  },
);

interface BodyPart {
  readonly body: string | Uint8Array | null;
  readonly type: string | null;
  readonly isMisshapen: boolean;
}

function octets(): fc.Arbitrary<Uint8Array> {
  return fc.oneof(
    fc.constantFrom(0, 1, 7, 8, 64, 65, 4096).map((length) => new Uint8Array(length).fill(0xff)),
    fc.uint8Array({ maxLength: 80 }),
  );
}

function judged(body: Body, text: string, type: string): BodyPart {
  let isMisshapen = true;
  try {
    isMisshapen = !body.isValid(JSON.parse(text.replace(/^\ufeff/, "")));
  } catch {
    // Not even JSON. An empty body counts as none, and that may be allowed.
    isMisshapen = text !== "";
  }
  return { body: text, type: type === RIGHT_TYPE ? body.type : type, isMisshapen };
}

const NO_BODY: BodyPart = { body: null, type: null, isMisshapen: false };

function bodyOf(op: Operation): fc.Arbitrary<BodyPart> {
  const uncalledFor = fc.oneof(
    { weight: 12, arbitrary: fc.constant(NO_BODY) },
    {
      weight: 1,
      arbitrary: fc.constant({ body: "{}", type: "application/json", isMisshapen: false }),
    },
  );
  if (op.bodies.length === 0 || op.isNotYet) return uncalledFor;
  const some = op.bodies.map((body) => {
    if (body.type === "application/octet-stream") {
      return fc.tuple(octets(), typeOf).map(
        ([bytes, type]): BodyPart => ({
          body: bytes,
          type: type === RIGHT_TYPE ? body.type : type,
          isMisshapen: false,
        }),
      );
    }
    const good = shaped(body.schema).map((value) => JSON.stringify(value));
    return fc.oneof(
      { weight: 6, arbitrary: fc.tuple(good, typeOf).map(([t, type]) => judged(body, t, type)) },
      {
        weight: 3,
        arbitrary: fc.tuple(spoilt(body.schema), typeOf).map(([t, type]) => judged(body, t, type)),
      },
      { weight: 1, arbitrary: fc.tuple(garbage, typeOf).map(([t, type]) => judged(body, t, type)) },
    );
  });
  return fc.oneof(...some.map((arbitrary) => ({ weight: 6, arbitrary })), {
    weight: 1,
    arbitrary: fc.constant(NO_BODY),
  });
}

const headersOf: fc.Arbitrary<Readonly<Record<string, string>>> = fc.oneof(
  { weight: 10, arbitrary: fc.constant({}) },
  { weight: 3, arbitrary: fc.constant({ accept: "application/json" }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Readonly<Record<string, string>>>(
      { accept: "image/png" },
      { accept: ";;;q=x,/" },
      { "if-match": '"1"' },
      { "if-match": "*" },
      { "if-match": 'W/"nope", "2"' },
      { "if-none-match": "*" },
      { range: "bytes=0-" },
      { range: "bytes=-1" },
      { range: "bytes=5-1" },
      { range: "bytes=0-1,4-5" },
      { range: "bytes=99999999999999999999-" },
      { range: "lines=1-2" },
      { prefer: "wait=0" },
      { prefer: "wait=99999999999999999999" },
      { prefer: "respond-async, wait = x" },
      { "idempotency-key": "k".repeat(256) },
      { "idempotency-key": "one" },
      { "last-event-id": "-1" },
      { traceparent: "00-zz" },
      { authorization: "Bearer x" },
      { "content-encoding": "gzip" },
    ),
  },
);

/** Every operation comes; those that lead deeper into KVM come more often. */
function weightOf(op: Operation): number {
  if (op.isNotYet || op.id === "deleteVm" || op.id === "stopVm") return 1;
  return op.method === "GET" ? 2 : 6;
}

type Query = Plan["query"];
type Texts = Readonly<Record<string, string>>;

function planFrom(op: Operation, params: Texts, query: Query, more: Texts, body: BodyPart): Plan {
  const type = body.type === null || body.type === "" ? {} : { "content-type": body.type };
  const isShown = body.body === null || typeof body.body === "string";
  const shown = isShown ? body.body : `${(body.body as Uint8Array).length} bytes`;
  const headers = { ...more, ...type };
  return {
    op,
    params,
    query,
    headers,
    body: body.body,
    isMisshapen: body.isMisshapen && op.bodies.some(({ type }) => type === body.type),
    [fc.toStringMethod]: () => JSON.stringify({ op: op.id, params, query, headers, body: shown }),
  };
}

function hinted(op: Operation, { body }: Hint): BodyPart {
  if (body === undefined) return NO_BODY;
  if (body instanceof Uint8Array) {
    return { body, type: "application/octet-stream", isMisshapen: false };
  }
  const type = op.bodies.find((known) => known.type.endsWith("json"))?.type ?? "application/json";
  return { body: JSON.stringify(body), type, isMisshapen: false };
}

function planOf(op: Operation): fc.Arbitrary<Plan> {
  const named = op.parameters.filter((parameter) => parameter.in === "path");
  const paramsBy = (segment: (p: Parameter) => fc.Arbitrary<string>): fc.Arbitrary<Texts> =>
    fc.record(Object.fromEntries(named.map((p) => [p.name, segment(p)])));
  const any = fc
    .tuple(
      paramsBy((p) => segmentOf(op, p)),
      queryOf(op),
      headersOf,
      bodyOf(op),
    )
    .map(([params, query, more, body]) => planFrom(op, params, query, more, body));
  const hint = HINTS[op.id];
  if (hint === undefined) return any;
  const likely = fc
    .tuple(
      paramsBy((p) => knownSegment(op, p.name)),
      hint,
    )
    .map(([params, given]) => planFrom(op, params, given.query ?? [], {}, hinted(op, given)));
  return fc.oneof(any, likely);
}

/** Any request to any of the operations. */
export function plans(operations: readonly Operation[]): fc.Arbitrary<Plan> {
  return fc.oneof(...operations.map((op) => ({ weight: weightOf(op), arbitrary: planOf(op) })));
}
