// Goal: only buffers that lose nothing by moving are moved.
// Method: whole, partial, small and shared views in nested results.
import { describe, expect, test } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import { TRANSFER_BYTES_MIN } from "../../../src/base/limits.js";
import { movableBuffers } from "../../../src/runtime/transfer.js";

const big = (): Uint8Array => new Uint8Array(TRANSFER_BYTES_MIN);

describe("movableBuffers", () => {
  test("finds large whole buffers, each once, however deep", () => {
    const [a, b] = [big(), big()];
    const found = movableBuffers({ a, list: [{ b }, a], n: 1n, none: null, text: "x" });
    expect(new Set(found)).toEqual(new Set([a.buffer, b.buffer]));
    expect(found).toHaveLength(2);
  });

  test("leaves small ones and parts of others where they are", () => {
    const part = new Uint8Array(TRANSFER_BYTES_MIN * 2).subarray(TRANSFER_BYTES_MIN);
    expect(movableBuffers([new Uint8Array(8), part, Buffer.from("pooled")])).toEqual([]);
  });

  test("a window into shared memory in a message is a bug", () => {
    const window = new Uint8Array(new SharedArrayBuffer(8));
    expect(() => movableBuffers({ window })).toThrow(AssertionFailed);
  });
});
