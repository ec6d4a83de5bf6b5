// Goal: a state comes back from bytes as it was, and nothing else is taken for one.
// Method: random values there and back; every byte cut off, bits turned, counts that lie.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ServiceError } from "../../../src/base/errors.js";
import type { Saved } from "../../../src/base/saved.js";
import { decodeSaved, encodeSaved } from "../../../src/base/saved-codec.js";

const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.constant(undefined),
    fc.boolean(),
    fc.integer(),
    fc.double(),
    fc.bigInt(),
    fc.string({ unit: "binary" }),
    fc.constantFrom("again", "and", "__proto__", ""),
    fc.uint8Array(),
    fc.uint16Array(),
    fc.uint32Array(),
    fc.int32Array(),
    fc.bigUint64Array(),
    fc.float64Array(),
    fc.array(tie("value"), { maxLength: 6 }),
    fc.dictionary(fc.string({ maxLength: 4 }), tie("value"), { maxKeys: 6, noNullPrototype: true }),
  ),
}));
const part = fc.record(
  { kind: fc.string(), version: fc.nat(), data: value },
  { noNullPrototype: true },
);

const PARTS: readonly Saved[] = [
  { kind: "one", version: 1, data: { a: [1, -1, 2.5, 2n ** 70n, -3n], b: null, c: "one" } },
  { kind: "two", version: 3, data: [new Uint8Array([1, 2]), Uint32Array.of(7), true, undefined] },
];

function why(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof ServiceError && error.code === "state-mismatch") return error.message;
    throw error;
  }
  return "";
}

/** The same bytes with a checksum that fits: only the reader's own rules are left. */
function sealed(bytes: Uint8Array, at: number, byte: number): Uint8Array {
  const changed = bytes.slice();
  changed[at] = byte;
  new DataView(changed.buffer).setUint32(8, checksumOf(changed.subarray(12)), true);
  return changed;
}

function checksumOf(bytes: Uint8Array): number {
  let sum = bytes.length | 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const mix = (word: number): void => {
    const h = Math.imul(sum ^ word, 0x9e37_79b1);
    sum = (h ^ (h >>> 15)) | 0;
  };
  let at = 0;
  for (; at + 4 <= bytes.length; at += 4) mix(view.getUint32(at, true));
  for (; at < bytes.length; at++) mix(view.getUint8(at));
  return sum >>> 0;
}

describe("a state as bytes", () => {
  it("comes back as it was", () => {
    fc.assert(
      fc.property(fc.array(part, { maxLength: 5 }), (parts) => {
        expect(decodeSaved(encodeSaved(parts))).toEqual(parts);
      }),
    );
  });

  it("holds each name once", () => {
    const row = { interrupt: 1, priority: 2 };
    const [few, many] = [10, 110].map(
      (rows) => encodeSaved([{ kind: "k", version: 1, data: new Array(rows).fill(row) }]).length,
    );
    expect((many ?? 0) - (few ?? 0)).toBe(100 * 10);
  });

  it("is refused when any byte of its end is missing, or one is too many", () => {
    const bytes = encodeSaved(PARTS);
    for (let length = 0; length < bytes.length; length++) {
      expect(why(() => decodeSaved(bytes.subarray(0, length)))).not.toBe("");
    }
    expect(why(() => decodeSaved(Uint8Array.of(...bytes, 0)))).toContain("checksum");
  });

  it("is refused with any bit turned", () => {
    const bytes = encodeSaved(PARTS);
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const turned = bytes.slice();
      turned[bit >> 3]! ^= 1 << (bit & 7);
      expect([bit, why(() => decodeSaved(turned))]).not.toEqual([bit, ""]);
    }
  });

  it("lies neither about lengths nor about kinds, whatever the checksum says", () => {
    const bytes = encodeSaved(PARTS);
    fc.assert(
      fc.property(fc.integer({ min: 12, max: bytes.length - 1 }), fc.nat(255), (at, byte) => {
        const changed = sealed(bytes, at, byte);
        // Either a sentence, or other parts: never another error, and never without an end.
        if (why(() => decodeSaved(changed)) === "") expect(decodeSaved(changed)).toHaveLength(2);
      }),
      { numRuns: 2000 },
    );
  });

  it("is refused in another format, or by another name", () => {
    const bytes = encodeSaved(PARTS);
    expect(why(() => decodeSaved(Uint8Array.of(0, ...bytes.subarray(1))))).toContain("begin");
    const later = bytes.slice();
    later[4] = 2;
    expect(why(() => decodeSaved(later))).toContain("format is 2");
    expect(why(() => decodeSaved(new Uint8Array(3)))).toContain("short");
  });

  it("takes only plain data", () => {
    const odd = [new Map(), () => 1, Symbol("s"), new Date(0)];
    for (const data of odd) {
      expect(() => encodeSaved([{ kind: "k", version: 1, data }])).toThrow(TypeError);
    }
    let deep: unknown = 0;
    for (let n = 0; n < 70; n++) deep = [deep];
    const bytes = encodeSaved([{ kind: "k", version: 1, data: deep }]);
    expect(why(() => decodeSaved(bytes))).toContain("too deep");
  });
});
