// Owns: the types that QMP's commands, answers and events are declared in, as QEMU's QAPI has them,
// and whether a value is of one. HTTP thread.
import { isObject, type Json, type JsonObject } from "./json.js";

/** What a client did wrong, or what can't be done. */
export class QmpError extends Error {
  override readonly name = "QmpError";
  readonly class: "GenericError" | "CommandNotFound";

  constructor(desc: string, of: QmpError["class"] = "GenericError") {
    super(desc);
    this.class = of;
  }
}

export interface Builtin {
  readonly meta: "builtin";
  readonly name: "str" | "int" | "number" | "bool" | "any";
}

export interface Enumeration {
  readonly meta: "enum";
  readonly values: readonly string[];
}

export interface ArrayOf {
  readonly meta: "array";
  readonly of: QapiType;
}

export interface Member {
  readonly type: QapiType;
  readonly isOptional: boolean;
}

export interface ObjectOf {
  readonly meta: "object";
  readonly members: Readonly<Record<string, Member>>;
  /** Members that are there with one value of the member `tag`. */
  readonly variants?: {
    readonly tag: string;
    readonly cases: Readonly<Record<string, ObjectOf>>;
  };
}

export type QapiType = Builtin | Enumeration | ArrayOf | ObjectOf;

const builtin = (name: Builtin["name"]): Builtin => ({ meta: "builtin", name });

export const STR = builtin("str");
export const INT = builtin("int");
export const NUMBER = builtin("number");
export const BOOL = builtin("bool");
export const ANY = builtin("any");

export const oneOf = (...values: readonly string[]): Enumeration => ({ meta: "enum", values });
export const arrayOf = (of: QapiType): ArrayOf => ({ meta: "array", of });

/** Names that end in "?" may be absent. */
export function object(
  members: Readonly<Record<string, QapiType>>,
  variants?: ObjectOf["variants"],
): ObjectOf {
  const entries = Object.entries(members).map(([name, type]): [string, Member] => {
    const isOptional = name.endsWith("?");
    return [isOptional ? name.slice(0, -1) : name, { type, isOptional }];
  });
  const own = { meta: "object", members: Object.fromEntries(entries) } as const;
  return variants === undefined ? own : { ...own, variants };
}

/** No members. */
export const NOTHING = object({});

const NAMES: Readonly<Record<Builtin["name"], string>> = {
  str: "a string",
  int: "an integer",
  number: "a number",
  bool: "true or false",
  any: "a value",
};

function isBuiltin(name: Builtin["name"], value: Json): boolean {
  switch (name) {
    case "str":
      return typeof value === "string";
    case "int":
      return typeof value === "bigint" || Number.isSafeInteger(value);
    case "number":
      return typeof value === "bigint" || typeof value === "number";
    case "bool":
      return typeof value === "boolean";
    case "any":
      return true;
  }
}

/**
 * @param where as a client names it: "capabilities[0].state"
 * @throws QmpError
 */
export function requireType(type: QapiType, value: Json, where: string): void {
  const wrong = (wanted: string): QmpError => new QmpError(`'${where}' must be ${wanted}.`);
  switch (type.meta) {
    case "builtin":
      if (!isBuiltin(type.name, value)) throw wrong(NAMES[type.name]);
      return;
    case "enum":
      if (typeof value !== "string") throw wrong("a string");
      if (type.values.includes(value)) return;
      throw new QmpError(`'${where}' can't be '${value}' here${instead(type.values)}.`);
    case "array":
      if (!Array.isArray(value)) throw wrong("an array");
      for (const [at, item] of (value as readonly Json[]).entries()) {
        requireType(type.of, item, `${where}[${at}]`);
      }
      return;
    case "object":
      if (!isObject(value)) throw wrong("an object");
      requireMembers(type, value, `${where}.`);
      return;
  }
}

function instead(values: readonly string[]): string {
  return values.length === 0 ? "" : `, only ${values.map((value) => `'${value}'`).join(", ")}`;
}

/** The members of an object with those of its variant. */
function membersOf(type: ObjectOf, value: JsonObject): ObjectOf["members"] {
  const { members, variants } = type;
  if (variants === undefined) return members;
  const tag = value[variants.tag];
  const own = typeof tag === "string" ? variants.cases[tag] : undefined;
  return own === undefined ? members : { ...members, ...own.members };
}

/** @throws QmpError */
export function requireMembers(type: ObjectOf, value: JsonObject, prefix = ""): void {
  const members = membersOf(type, value);
  for (const [name, member] of Object.entries(members)) {
    const given = value[name];
    if (given !== undefined) requireType(member.type, given, `${prefix}${name}`);
    else if (!member.isOptional) throw new QmpError(`'${prefix}${name}' is missing.`);
  }
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(members, name)) throw new QmpError(`'${prefix}${name}' is unknown.`);
  }
}
