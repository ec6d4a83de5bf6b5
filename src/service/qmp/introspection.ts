// Owns: what query-qmp-schema answers: the tables of commands and events, written as QEMU writes
// its own. HTTP thread.
// Types have no names there, only numbers; two that look the same are one.
import type { JsonObject } from "./json.js";
import { ANY, arrayOf, NOTHING, type ObjectOf, object, oneOf, type QapiType, STR } from "./qapi.js";

interface Declared {
  readonly args: ObjectOf;
  readonly returns?: QapiType;
  readonly features?: readonly string[];
}

const JSON_TYPES = { str: "string", int: "int", number: "number", bool: "boolean", any: "value" };

const VALUES = oneOf("string", "number", "int", "boolean", "value");
const META = oneOf("builtin", "enum", "array", "object", "command", "event");
const ENUM_MEMBER = object({ name: STR });
const MEMBER = object({ name: STR, type: STR, "default?": ANY });
const VARIANT = object({ case: STR, type: STR });

/** What it is itself. */
export const SCHEMA_INFO = object(
  { name: STR, "meta-type": META, "features?": arrayOf(STR) },
  {
    tag: "meta-type",
    cases: {
      builtin: object({ "json-type": VALUES }),
      enum: object({ members: arrayOf(ENUM_MEMBER), values: arrayOf(STR) }),
      array: object({ "element-type": STR }),
      object: object({
        members: arrayOf(MEMBER),
        "tag?": STR,
        "variants?": arrayOf(VARIANT),
      }),
      command: object({ "arg-type": STR, "ret-type": STR }),
      event: object({ "arg-type": STR }),
    },
  },
);

class Writer {
  readonly entities: JsonObject[] = [];
  readonly #names = new Map<string, string>();

  /** @returns its name */
  type(type: QapiType): string {
    if (type.meta === "builtin") {
      const { name } = type;
      return this.#once(name, name, { "meta-type": "builtin", "json-type": JSON_TYPES[name] });
    }
    const body = this.#body(type);
    const key = JSON.stringify(body);
    const name = type.meta === "array" ? `[${body["element-type"] as string}]` : null;
    return this.#once(key, name, body);
  }

  #once(key: string, wanted: string | null, body: JsonObject): string {
    const known = this.#names.get(key);
    if (known !== undefined) return known;
    const name = wanted ?? String(this.#names.size);
    this.#names.set(key, name);
    this.entities.push({ name, ...body });
    return name;
  }

  #body(type: Exclude<QapiType, { meta: "builtin" }>): JsonObject {
    if (type.meta === "array") {
      return { "meta-type": "array", "element-type": this.type(type.of) };
    }
    if (type.meta === "enum") {
      const members = type.values.map((name) => ({ name }));
      return { "meta-type": "enum", members, values: type.values };
    }
    const { variants } = type;
    const members = Object.entries(type.members).map(([name, member]) => ({
      name,
      // null: it may be absent, and what that means is told elsewhere.
      ...(member.isOptional ? { default: null } : {}),
      type: this.type(member.type),
    }));
    if (variants === undefined) return { "meta-type": "object", members };
    const cases = Object.entries(variants.cases).map(([name, own]) => ({
      case: name,
      type: this.type(own),
    }));
    return { "meta-type": "object", members, tag: variants.tag, variants: cases };
  }
}

export function introspect(
  commands: Readonly<Record<string, Declared>>,
  events: Readonly<Record<string, ObjectOf>>,
): readonly JsonObject[] {
  const writer = new Writer();
  const declared: JsonObject[] = [];
  for (const [name, { args, returns, features }] of Object.entries(commands)) {
    const types = { "arg-type": writer.type(args), "ret-type": writer.type(returns ?? NOTHING) };
    const marks = features === undefined ? {} : { features };
    declared.push({ name, "meta-type": "command", ...types, ...marks });
  }
  for (const [name, data] of Object.entries(events)) {
    declared.push({ name, "meta-type": "event", "arg-type": writer.type(data) });
  }
  return [...declared, ...writer.entities];
}
