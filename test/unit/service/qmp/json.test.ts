// Goal: JSON of QMP's clients is read without loss, wherever it is cut, and what is no JSON costs a
// sentence and nothing else.
// Method: texts by hand, generated values there and back, generated streams cut anywhere.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { JsonError, parseJson, writeJson } from "../../../../src/service/qmp/json.js";
import { JsonStream, type Piece } from "../../../../src/service/qmp/json-stream.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function pieces(stream: JsonStream, ...parts: readonly (string | Uint8Array)[]): Piece[] {
  return parts.flatMap((part) => [...stream.take(typeof part === "string" ? bytes(part) : part)]);
}

/** The texts of a stream that has nothing wrong in it. */
const texts = (found: readonly Piece[]): unknown[] =>
  found.map((piece) => ("text" in piece ? piece.text : piece));

const wrong = (text: string): string => {
  try {
    return `no error: ${writeJson(parseJson(text))}`;
  } catch (error) {
    if (error instanceof JsonError) return error.message;
    throw error;
  }
};

describe("numbers", () => {
  it("stay what they are in 64 bits, and are written as they were read", () => {
    for (const text of ["0", "-1", "9007199254740991", "9007199254740993"]) {
      expect(writeJson(parseJson(text)), text).toBe(text);
    }
    for (const text of ["18446744073709551615", "-9223372036854775808"]) {
      expect(parseJson(text)).toBe(BigInt(text));
      expect(writeJson(parseJson(text))).toBe(text);
    }
    expect(parseJson("99999999999999999999999")).toBe(1e23);
    expect(parseJson("-9223372036854775809")).toBe(-(2 ** 63));
    expect(parseJson("2.5e1")).toBe(25);
    expect(wrong("1e999")).toContain("too large");
    expect(wrong(`1${"0".repeat(400)}`)).toContain("too large");
    for (const text of ["01", "+1", ".5", "1.", "0x10", "1e", "--1"]) {
      expect(wrong(text), text).not.toContain("no error");
    }
  });
});

describe("values", () => {
  it("come back as they went, whatever they are", () => {
    const value = fc.jsonValue();
    fc.assert(
      fc.property(value, (json) => {
        // JSON has one zero.
        const expected = JSON.parse(JSON.stringify(json));
        const read = parseJson(writeJson(parseJson(JSON.stringify(json))));
        expect(JSON.parse(writeJson(read))).toEqual(expected);
      }),
    );
  });

  it("may stand in single quotes; escapes and names are strict", () => {
    expect(parseJson(`{'a': '"', "b": "'", "c": "\\u00e9\\ud834\\udd1e\\n\\/"}`)).toEqual({
      ...{ a: '"', b: "'" },
      c: "é𝄞\n/",
    });
    expect(wrong('{"a": 1, "a": 2}')).toContain("twice");
    expect(wrong('"\\x"')).toContain("escape");
    expect(wrong('"\\u12g4"')).toContain("escape");
    expect(wrong('{"a": nope}')).toContain("nope");
    expect(wrong("{a: 1}")).toContain("not a name");
    for (const text of ["", "[1,]", "[1 2]", '{"a"}', '{"a":}', "{", "[", '"', "1 2", "tru"]) {
      expect(wrong(text), text).not.toContain("no error");
    }
  });

  it("have only names that are their own", () => {
    const read = parseJson('{"__proto__": {"polluted": 1}, "constructor": 2}') as object;
    expect(Object.getPrototypeOf(read)).toBeNull();
    expect(writeJson(parseJson('{"__proto__": 1}'))).toBe('{"__proto__": 1}');
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
    expect(wrong("toString")).toContain("The JSON is wrong");
  });
});

describe("a stream", () => {
  it("needs nothing between two values", () => {
    const stream = new JsonStream();
    expect(texts(pieces(stream, '{"a":1}{"b":"}{"}[2] 3 true\n"x""y"'))).toEqual([
      ...['{"a":1}', '{"b":"}{"}', "[2]", "3", "true", '"x"', '"y"'],
    ]);
    expect(texts(pieces(stream, "12", "3{}"))).toEqual(["123", "{}"]);
    expect(texts(pieces(stream, '"\\"', '\\\\" '))).toEqual(['"\\"\\\\"']);
  });

  it("may be cut anywhere, in the middle of a character too", () => {
    const values = fc.array(fc.oneof(fc.object(), fc.array(fc.string({ unit: "binary" }))), {
      maxLength: 5,
    });
    fc.assert(
      fc.property(values, fc.array(fc.nat(200), { maxLength: 20 }), (all, cuts) => {
        const whole = bytes(all.map((value) => JSON.stringify(value)).join(""));
        const at = [...new Set(cuts.map((cut) => cut % (whole.length + 1)))].sort((a, b) => a - b);
        const parts = [...at, whole.length].map((end, i) => whole.subarray(at[i - 1] ?? 0, end));
        const found = pieces(new JsonStream(), ...parts);
        expect(texts(found)).toEqual(all.map((value) => JSON.stringify(value)));
      }),
    );
  });

  it("goes on behind what is too long, too deep, no UTF-8 or no JSON", () => {
    const stream = new JsonStream(64);
    const long = `{"a":"${"x".repeat(500)}", "b": ["}"]}`;
    expect(pieces(stream, long, "{}")).toEqual([
      { wrong: "A command may have 64 bytes; this one has more." },
      { text: "{}" },
    ]);
    expect(pieces(stream, `"${"x".repeat(62)}"`)).toHaveLength(1);
    const latin = Uint8Array.from([0x22, 0xe9, 0x22, 0x7b, 0x7d]);
    expect(pieces(stream, latin)).toEqual([{ wrong: "It is no UTF-8." }, { text: "{}" }]);
    expect(pieces(stream, '{"a": "b\n{}')).toEqual([
      { wrong: "A string has a control character in it." },
      { text: "{}" },
    ]);
    expect(pieces(stream, "}{}")).toEqual([
      { wrong: "A value can't begin with a bracket that closes." },
      { text: "{}" },
    ]);
    const deep = pieces(new JsonStream(), `${"[".repeat(1025)} {}`);
    expect(deep).toEqual([{ wrong: "It is nested deeper than 1024." }, { text: "{}" }]);
  });

  it("keeps no more than it may, whatever comes", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (parts) => {
        const stream = new JsonStream(128);
        for (const piece of pieces(stream, ...parts)) {
          if ("text" in piece) expect(bytes(piece.text).length).toBeLessThanOrEqual(128 * 3);
        }
        // An open string ends at the line's end, open brackets are as many as came.
        const rest = pieces(stream, "\n", "]".repeat(6000), "\n", '{"after":1}');
        expect(rest.at(-1)).toEqual({ text: '{"after":1}' });
      }),
    );
  });
});
