// Goal: physical memory: frames are zeroed and never doubled, unbacked pages tell what they are.
// Method: small slices, contents compared byte by byte, growth and its limit provoked.
import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import { pageGeometry } from "../../../src/base/page.js";
import { fillUnbackedPage } from "../../../src/base/unbacked-content.js";
import { FrameAllocator } from "../../../src/machine/frame-allocator.js";
import { HostMemory } from "../../../src/machine/host-memory.js";
import { Host, UNBACKED_BASE, UnbackedMemory } from "../../../src/machine/index.js";

const K4 = pageGeometry(4096);

function slice(bytes = 2 ** 20) {
  const memory = new HostMemory(bytes);
  return { memory, frames: new FrameAllocator(memory, K4) };
}

describe("FrameAllocator", () => {
  it("never hands out the first frame, and gives zeroed memory again after a release", () => {
    const { memory, frames } = slice();
    const pa = frames.allocate(2);
    expect(pa).toBe(4096);
    memory.u8.fill(0xee, pa, pa + 8192);
    frames.release(pa, 2);
    expect(frames.used).toBe(0);
    expect(frames.allocate(2)).toBe(pa);
    expect(memory.u8.subarray(pa, pa + 8192).every((byte) => byte === 0)).toBe(true);
  });

  it("aligns, and uses the gap for later requests", () => {
    const { frames } = slice();
    frames.allocate(1);
    expect(frames.allocate(4, 8) % (8 * 4096)).toBe(0);
    expect(frames.allocate(3)).toBe(2 * 4096);
    expect(frames.used).toBe(8);
  });

  it("says -1 at the limit, changes nothing then, and goes on with what fits", () => {
    const { frames, memory } = slice(2 ** 18);
    expect(frames.allocate(64)).toBe(-1);
    expect(frames.used).toBe(0);
    expect(frames.allocate(63)).toBe(4096);
    expect(frames.allocate(1)).toBe(-1);
    expect(memory.bytes).toBe(2 ** 18);
    frames.release(10 * 4096, 1);
    expect(frames.allocate(1)).toBe(10 * 4096);
  });

  it("notices a frame that is released twice or was never given", () => {
    const { frames } = slice();
    const pa = frames.allocate(3);
    frames.release(pa, 1);
    expect(() => frames.release(pa, 1)).toThrow(AssertionFailed);
    expect(() => frames.release(100 * 4096, 1)).toThrow(AssertionFailed);
    expect(() => frames.release(0, 1)).toThrow(AssertionFailed);
    expect(() => frames.allocate(0)).toThrow(AssertionFailed);
  });
});

describe("HostMemory", () => {
  it("keeps 64-bit words in little-endian order", () => {
    const { memory } = slice();
    memory.write64(16, 0x1122_3344_5566_7788n);
    expect([...memory.u8.subarray(16, 24)]).toEqual([
      0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    ]);
    expect(memory.read64(16)).toBe(0x1122_3344_5566_7788n);
    memory.write64(24, 2n ** 64n - 1n);
    expect(memory.read64(24)).toBe(2n ** 64n - 1n);
    memory.writeAddress(32, 2 ** 47 + 4096);
    expect(memory.readAddress(32)).toBe(2 ** 47 + 4096);
  });

  it("grows with its content, up to its maximum", () => {
    const { memory } = slice(2 ** 18);
    memory.u8[100] = 7;
    expect(memory.ensure(2 ** 17)).toBe(true);
    expect([memory.bytes, memory.u8[100]]).toEqual([2 ** 17, 7]);
    expect(memory.ensure(2 ** 18 + 1)).toBe(false);
    expect(memory.ensure(2 ** 18)).toBe(true);
    expect(() => new HostMemory(2 ** 33)).toThrow(AssertionFailed);
  });

  it("has a digest of content and place, not of size", () => {
    const { memory } = slice();
    memory.write64(64, 5n);
    const before = memory.digest();
    memory.ensure(2 ** 19);
    expect(memory.digest()).toBe(before);
    memory.write64(64, 0n);
    memory.write64(72, 5n);
    expect(memory.digest()).not.toBe(before);
  });

  it("copies physical ranges, but not into unbacked memory", () => {
    const host = new Host({ pageSize: 4096, seed: 1n, memoryBytesMax: 2 ** 20 });
    const pa = host.frames.allocate(1);
    host.writePhysical(pa + 3, Uint8Array.of(1, 2, 3));
    const out = new Uint8Array(4);
    host.readPhysical(pa + 2, out);
    expect([...out]).toEqual([0, 1, 2, 3]);
    const far = host.unbacked.allocate(4096, 4096);
    expect(() => host.writePhysical(far, out)).toThrow(AssertionFailed);
    host.readPhysical(far, out);
    expect(out.every((byte) => byte !== 0)).toBe(true);
  });
});

describe("UnbackedMemory", () => {
  const page = (memory: UnbackedMemory, pa: number, bytes = 4096) => {
    const out = new Uint8Array(bytes);
    memory.read(pa, out);
    return out;
  };
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

  it("gives every page its own content, without a zero byte", () => {
    const memory = new UnbackedMemory(K4, 42n);
    const pa = memory.allocate(64 * 4096, 4096);
    expect(pa).toBe(UNBACKED_BASE);
    const pages = Array.from({ length: 64 }, (_, i) => page(memory, pa + i * 4096));
    expect(new Set(pages.map(text)).size).toBe(64);
    expect(pages.every((bytes) => bytes.every((byte) => byte !== 0))).toBe(true);
  });

  it("can be computed beside it, and as of another page", () => {
    const memory = new UnbackedMemory(K4, 42n);
    const pa = memory.allocate(4 * 4096, 4096);
    memory.setSequence(pa + 4096, 7);
    const beside = (at: number, sequence: number) => {
      const out = new Uint8Array(4096);
      fillUnbackedPage(memory.seed, at, sequence, out);
      return text(out);
    };
    expect(text(page(memory, pa + 4096))).toBe(beside(1, 7));
    expect(text(page(memory, pa + 4095, 2))).toBe(
      beside(0, 0).slice(-2) + beside(1, 7).slice(0, 2),
    );
    memory.setContentPage(pa, 4 * 4096, 1000);
    expect([memory.contentPage(pa), memory.contentPage(pa + 3 * 4096)]).toEqual([1000, 1003]);
    expect(text(page(memory, pa + 4096))).toBe(beside(1001, 7));
    expect([...memory.sequences(pa, 3)]).toEqual([0, 7, 0]);
    memory.release(pa, 4 * 4096);
    expect(text(page(memory, pa))).toBe(beside(0, 0));
  });

  it("is a function of seed, page and number of stores", () => {
    const build = (seed: bigint, stores: number) => {
      const memory = new UnbackedMemory(K4, seed);
      const pa = memory.allocate(4096, 4096);
      for (let i = 0; i < stores; i++) memory.store(pa + i * 8);
      return text(page(memory, pa));
    };
    expect(build(1n, 3)).toBe(build(1n, 3));
    expect(new Set([build(1n, 0), build(1n, 1), build(1n, 2), build(2n, 0)]).size).toBe(4);
    // Both halves of a seed count.
    expect(build(1n << 32n, 0)).not.toBe(build(0n, 0));
  });

  it("reads any piece as part of the whole, also across pages", () => {
    const memory = new UnbackedMemory(K4, 3n);
    const pa = memory.allocate(3 * 4096, 4096);
    memory.store(pa + 4096);
    const whole = page(memory, pa, 3 * 4096);
    for (const [at, length] of [
      [4090, 13],
      [4096, 4096],
      [1, 3],
      [8191, 2],
    ] as const) {
      expect(text(page(memory, pa + at, length))).toBe(text(whole.subarray(at, at + length)));
    }
  });

  it("forgets the stores of a released range and of nothing else", () => {
    const memory = new UnbackedMemory(K4, 3n);
    const pages = 3000;
    const pa = memory.allocate(pages * 4096, 4096);
    const stored = [0, 1, 1023, 1024, 2047, 2999];
    for (const at of stored) memory.store(pa + at * 4096);
    memory.release(pa + 4096, 2000 * 4096);
    expect(stored.map((at) => memory.sequence(pa + at * 4096))).toEqual([1, 0, 0, 0, 1, 1]);
  });

  it("aligns addresses and ends where descriptors do, at 2^48", () => {
    const memory = new UnbackedMemory(K4, 3n);
    memory.allocate(4096, 4096);
    expect(memory.allocate(4096, 2 ** 21)).toBe(UNBACKED_BASE + 2 ** 21);
    expect(memory.allocate(2 ** 48, 4096)).toBe(-1);
    expect(memory.allocate(2 ** 47, 4096)).toBeGreaterThan(0);
    expect(memory.allocate(2 ** 47, 4096)).toBe(-1);
    expect(UnbackedMemory.bookkeepingBytes(1)).toBe(4096);
    expect(UnbackedMemory.bookkeepingBytes(1025)).toBe(8192);
  });
});
