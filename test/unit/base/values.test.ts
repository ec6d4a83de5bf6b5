// Goal: addresses above 32 bits, page geometry, text forms and refusals are exact.
// Method: edges of each function, and bigint arithmetic as the second opinion.
import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import {
  alignDown,
  alignUp,
  hi32,
  isAligned,
  isPowerOfTwo,
  join64,
  lo32,
  popcount32,
} from "../../../src/base/bits.js";
import { ERRNO, type ErrnoName } from "../../../src/base/errno.table.js";
import { fromRefusal, KvmError, ServiceError, toRefusal } from "../../../src/base/errors.js";
import { hex, parseU64, U64_MAX } from "../../../src/base/hex.js";
import { levelSize, PAGE_SIZES, pageGeometry } from "../../../src/base/page.js";

const EDGES = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 47 + 5, 2 ** 53 - 1];

describe("bits", () => {
  it.each(EDGES)("halves of %d join again", (value) => {
    expect(BigInt(lo32(value))).toBe(BigInt(value) & 0xffff_ffffn);
    expect(BigInt(hi32(value))).toBe(BigInt(value) >> 32n);
    expect(join64(lo32(value), hi32(value))).toBe(value);
  });

  it("aligns beyond 32 bits", () => {
    const value = 2 ** 40 + 4097;
    expect(alignDown(value, 4096)).toBe(2 ** 40 + 4096);
    expect(alignUp(value, 4096)).toBe(2 ** 40 + 8192);
    expect(alignUp(2 ** 40, 4096)).toBe(2 ** 40);
    expect(isAligned(U64_MAX - 4095n, 4096n)).toBe(true);
    expect(isAligned(U64_MAX, 4096n)).toBe(false);
  });

  it("knows powers of two", () => {
    expect([1, 2, 4096, 2 ** 40].every(isPowerOfTwo)).toBe(true);
    expect([0, -4, 3, 4097, 0.3].some(isPowerOfTwo)).toBe(false);
  });

  it("counts one bits", () => {
    for (const word of [0, 1, 0x8000_0000, 0xffff_ffff, 0xdead_beef, 0x5555_5555]) {
      const ones = [...word.toString(2)].filter((digit) => digit === "1").length;
      expect(popcount32(word)).toBe(ones);
    }
  });
});

describe("page geometry", () => {
  it.each([
    [4096, 12, 512, [2 ** 39, 2 ** 30, 2 ** 21, 2 ** 12], [2 ** 12, 2 ** 21, 2 ** 30]],
    [16384, 14, 2048, [2 ** 47, 2 ** 36, 2 ** 25, 2 ** 14], [2 ** 14, 2 ** 25]],
    [65536, 16, 8192, [2 ** 55, 2 ** 42, 2 ** 29, 2 ** 16], [2 ** 16, 2 ** 29]],
  ] as const)("of %d-byte pages", (size, shift, entries, levels, leaves) => {
    const geometry = pageGeometry(size);
    expect(geometry).toMatchObject({ size, shift, entriesPerTable: entries });
    expect(geometry.bitsPerLevel).toBe(Math.log2(entries));
    expect([0, 1, 2, 3].map((level) => levelSize(geometry, level))).toEqual(levels);
    expect(geometry.leafSizes).toEqual(leaves);
    expect(pageGeometry(size)).toBe(geometry);
  });

  it("has no other page size", () => {
    expect(PAGE_SIZES).toEqual([4096, 16384, 65536]);
    expect(() => pageGeometry(8192 as 4096)).toThrow(AssertionFailed);
  });
});

describe("text of 64-bit values", () => {
  it.each([
    ["0x0", 0n],
    ["0xFfff", 0xffffn],
    ["18446744073709551615", U64_MAX],
    ["0xffffffffffffffff", U64_MAX],
    ["007", 7n],
  ])("reads %s", (text, value) => {
    expect(parseU64(text)).toBe(value);
  });

  it.each([
    "",
    "0x",
    "-1",
    "1e3",
    "0x1ffffffffffffffff",
    "18446744073709551616",
    " 1",
    "0X1",
    "1n",
  ])("refuses %j", (text) => {
    expect(parseU64(text)).toBeUndefined();
  });

  it("writes lower case without zeros in front", () => {
    expect(hex(U64_MAX)).toBe("0xffffffffffffffff");
    expect(hex(0)).toBe("0x0");
    expect(parseU64(hex(0xdeadbeefn))).toBe(0xdeadbeefn);
  });
});

describe("refusals", () => {
  it("has Linux's numbers, each once", () => {
    const numbers = Object.values(ERRNO);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(ERRNO).toMatchObject({ EPERM: 1, ENOENT: 2, EFAULT: 14, EINVAL: 22, EHWPOISON: 133 });
  });

  it.each(Object.keys(ERRNO) as ErrnoName[])("%s crosses a thread", (errno) => {
    const error = new KvmError(errno, "KVM_RUN", "why", "a-code");
    const back = fromRefusal(structuredClone(toRefusal(error)));
    expect(back).toBeInstanceOf(KvmError);
    expect(back).toMatchObject({ errno, ioctl: "KVM_RUN", message: "why", code: "a-code" });
    expect((back as KvmError).errnoValue).toBe(ERRNO[errno]);
  });

  it("takes extensions along, and a bug as plain Error", () => {
    const service = fromRefusal(toRefusal(new ServiceError("ring-index", "no", { upTo: 3 })));
    expect(service).toMatchObject({ code: "ring-index", extensions: { upTo: 3 } });
    const refused = new KvmError("EBUSY", "KVM_SET_ONE_REG", "no", "partly-written", { index: 2 });
    expect(fromRefusal(toRefusal(refused))).toEqual(refused);
    expect((fromRefusal(toRefusal(refused)) as KvmError).extensions).toEqual({ index: 2 });
    const bug = fromRefusal(toRefusal(new TypeError("oops")));
    expect(bug).not.toBeInstanceOf(KvmError);
    expect(bug.message).toContain("oops");
    expect(toRefusal("text")).toMatchObject({ kind: "bug", detail: "text" });
  });
});
