// Owns: JSON whose integers stay what they are: beyond 2^53 they are bigint, both ways.
// QMP's strings may stand between single quotes, too. HTTP thread.
import { NESTING_MAX } from "./limits.js";

export type Json = null | boolean | number | bigint | string | readonly Json[] | JsonObject;

/** Read ones have no prototype, so that every name is only a name. */
export interface JsonObject {
  readonly [name: string]: Json;
}

/** What is wrong with a text, in words for its author. */
export class JsonError extends Error {
  override readonly name = "JsonError";
}

const I64_MIN = -(2n ** 63n);
const U64_MAX = 2n ** 64n - 1n;

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\r\n]*/y;
/** As much of a string as says what it means. */
const PLAIN = { '"': /[^"\\]*/y, "'": /[^'\\]*/y } as const;
const HEX = /[0-9a-fA-F]{4}/y;
const WORD = /[a-z]+/y;

const WORDS: ReadonlyMap<string, Json> = new Map<string, Json>([
  ["true", true],
  ["false", false],
  ["null", null],
]);

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ["'", "'"],
  ["\\", "\\"],
  ["/", "/"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
]);

class Reader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** @throws JsonError */
  whole(): Json {
    const value = this.#value();
    this.#take(SPACE);
    if (this.#at < this.#text.length) throw this.#unexpected("the end");
    return value;
  }

  #take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found !== null) this.#at = pattern.lastIndex;
    return found;
  }

  #is(char: string): boolean {
    this.#take(SPACE);
    if (this.#text[this.#at] !== char) return false;
    this.#at += 1;
    return true;
  }

  #unexpected(wanted: string): JsonError {
    const found = this.#text[this.#at];
    const what = found === undefined ? "the end" : JSON.stringify(found);
    return new JsonError(`The JSON is wrong at character ${this.#at}: ${what}, not ${wanted}.`);
  }

  #value(): Json {
    this.#take(SPACE);
    const first = this.#text[this.#at];
    if (first === '"' || first === "'") return this.#string(first);
    if (first === "{" || first === "[") return this.#nested(first);
    const number = this.#take(NUMBER);
    if (number !== null) return numberOf(number);
    const word = this.#take(WORD)?.[0];
    const known = word === undefined ? undefined : WORDS.get(word);
    if (known !== undefined) return known;
    if (word !== undefined) throw new JsonError(`The JSON is wrong: ${word} means nothing.`);
    throw this.#unexpected("a value");
  }

  #nested(first: "{" | "["): Json {
    this.#at += 1;
    this.#depth += 1;
    if (this.#depth > NESTING_MAX) throw new JsonError(`It is nested deeper than ${NESTING_MAX}.`);
    const value = first === "{" ? this.#object() : this.#array();
    this.#depth -= 1;
    return value;
  }

  #array(): Json {
    const items: Json[] = [];
    if (this.#is("]")) return items;
    do items.push(this.#value());
    while (this.#is(","));
    if (!this.#is("]")) throw this.#unexpected("a comma or ]");
    return items;
  }

  #object(): Json {
    const object = Object.create(null) as Record<string, Json>;
    if (this.#is("}")) return object;
    do {
      this.#take(SPACE);
      const quote = this.#text[this.#at];
      if (quote !== '"' && quote !== "'") throw this.#unexpected("a name");
      const name = this.#string(quote);
      if (name in object) throw new JsonError(`The name ${JSON.stringify(name)} is there twice.`);
      if (!this.#is(":")) throw this.#unexpected("a colon");
      object[name] = this.#value();
    } while (this.#is(","));
    if (!this.#is("}")) throw this.#unexpected("a comma or }");
    return object;
  }

  #string(quote: '"' | "'"): string {
    this.#at += 1;
    let text = "";
    for (;;) {
      const plain = this.#take(PLAIN[quote])?.[0] ?? "";
      if (hasControl(plain)) throw new JsonError("A string has a control character in it.");
      text += plain;
      const end = this.#text[this.#at];
      if (end === undefined) throw this.#unexpected("the end of a string");
      this.#at += 1;
      if (end === quote) return text;
      text += this.#escape();
    }
  }

  #escape(): string {
    const kind = this.#text[this.#at] ?? "";
    this.#at += 1;
    const known = ESCAPES.get(kind);
    if (known !== undefined) return known;
    const digits = kind === "u" ? this.#take(HEX)?.[0] : undefined;
    if (digits === undefined) throw new JsonError("A string has an escape that means nothing.");
    return String.fromCharCode(Number.parseInt(digits, 16));
  }
}

function hasControl(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) < 0x20) return true;
  return false;
}

function numberOf([text, fraction, exponent]: RegExpExecArray): number | bigint {
  const number = Number(text);
  if (fraction !== undefined || exponent !== undefined) {
    if (!Number.isFinite(number)) throw new JsonError(`The number ${text} is too large.`);
    return number;
  }
  if (Number.isSafeInteger(number)) return number;
  // Whatever no 64 bits hold is no integer of anybody's.
  if (text.length > 20) return finite(number);
  const exact = BigInt(text);
  return exact >= I64_MIN && exact <= U64_MAX ? exact : number;
}

function finite(number: number): number {
  if (Number.isFinite(number)) return number;
  throw new JsonError("A number is too large.");
}

/** @throws JsonError */
export function parseJson(text: string): Json {
  return new Reader(text).whole();
}

/** In one line. */
export function writeJson(value: Json): string {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (isList(value)) return `[${value.map(writeJson).join(", ")}]`;
  const members = Object.entries(value).map(
    ([name, member]) => `${JSON.stringify(name)}: ${writeJson(member)}`,
  );
  return `{${members.join(", ")}}`;
}

function isList(value: readonly Json[] | JsonObject): value is readonly Json[] {
  return Array.isArray(value);
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !isListLike(value);
}

const isListLike = (value: object): boolean => Array.isArray(value);
