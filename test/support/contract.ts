// Owns: checking an answer against the OpenAPI document that the same service serves: the operation
// is known, the status is documented, media type and body fit the schema.
import Ajv2020, { type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: unknown;
  readonly text?: string;
}

type Json = Readonly<Record<string, unknown>>;

const METHODS = ["get", "put", "post", "patch", "delete"];

export class Contract {
  readonly #document: Json;
  readonly #ajv: Ajv2020.default;
  readonly #compiled = new Map<string, ValidateFunction>();
  readonly #patterns: { pattern: RegExp; path: string }[];
  /** "operationId status" of every answer that was checked. */
  readonly seen = new Set<string>();

  constructor(document: Json) {
    this.#document = document;
    this.#ajv = new Ajv2020.default({ strict: false, allErrors: true });
    addFormats.default(this.#ajv);
    this.#ajv.addSchema(document, "doc");
    this.#patterns = Object.keys(document["paths"] as Json)
      // Fixed paths before those with parameters.
      .sort((a, b) => (a.match(/\{/g)?.length ?? 0) - (b.match(/\{/g)?.length ?? 0))
      .map((path) => {
        const source = path.replaceAll(".", "\\.").replace(/\{\w+\}/g, "[^/]+");
        return { path, pattern: new RegExp(`^${source}$`) };
      });
  }

  get operationIds(): readonly string[] {
    return Object.values(this.#document["paths"] as Record<string, Json>).flatMap((item) =>
      METHODS.flatMap((method) => {
        const op = item[method] as Json | undefined;
        return op === undefined ? [] : [String(op["operationId"])];
      }),
    );
  }

  /** @throws Error with a sentence when the answer is not what the document says */
  check(method: string, url: string, answer: Answer): void {
    const path = url.split("?")[0] ?? "";
    const candidates = this.#patterns.filter(({ pattern }) => pattern.test(path));
    const op = candidates
      .map(({ path: known }) => (this.#document["paths"] as Record<string, Json>)[known])
      .map((item) => item?.[method.toLowerCase()] as Json | undefined)
      .find((found) => found !== undefined);
    if (op === undefined) {
      if (answer.status === 404 || answer.status === 405) return;
      throw new Error(`${method} ${path} answers ${answer.status} but is not in the document`);
    }
    this.#checkOperation(op, answer);
  }

  #checkOperation(op: Json, answer: Answer): void {
    const id = String(op["operationId"]);
    const responses = op["responses"] as Record<string, Json>;
    const range = `${Math.floor(answer.status / 100)}XX`;
    const found = responses[String(answer.status)] ?? responses[range];
    if (found === undefined) throw new Error(`${id}: status ${answer.status} is not documented`);
    this.seen.add(`${id} ${answer.status}`);
    const response = this.#deref(found);
    const content = response["content"] as Record<string, Json> | undefined;
    const type = String(answer.headers["content-type"] ?? "")
      .split(";")[0]
      ?.trim();
    if (content === undefined) {
      if ((answer.text ?? "") !== "") throw new Error(`${id}: ${answer.status} has a body`);
      return;
    }
    const entry = content[type ?? ""];
    if (entry === undefined) {
      throw new Error(`${id}: ${answer.status} has the undocumented type "${type}"`);
    }
    if (type?.endsWith("json") === true) this.#checkBody(id, entry["schema"] as Json, answer);
  }

  #checkBody(id: string, schema: Json, answer: Answer): void {
    const body: unknown =
      Buffer.isBuffer(answer.body) || answer.text === undefined
        ? answer.body
        : JSON.parse(answer.text);
    const key = JSON.stringify(schema);
    let validate = this.#compiled.get(key);
    if (validate === undefined) {
      const absolute = JSON.parse(key.replaceAll('"#/', '"doc#/')) as Json;
      validate = this.#ajv.compile(absolute);
      this.#compiled.set(key, validate);
    }
    if (!validate(body)) {
      const errors = this.#ajv.errorsText(validate.errors);
      throw new Error(`${id}: ${answer.status} ${errors}\n${JSON.stringify(body)}`);
    }
  }

  #deref(node: Json): Json {
    const ref = node["$ref"];
    if (typeof ref !== "string") return node;
    return ref
      .slice(2)
      .split("/")
      .reduce<Json>((at, name) => at[name] as Json, this.#document);
  }
}
