// Goal: what the reader takes is what the writer wrote; all else is refused and changes nothing.
// Method: generated frames cut everywhere, every bit flipped, lengths and places made up.
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeDelta, encodeDelta } from "../../../../src/migration/wire/delta.js";
import {
  encodeFrameHeader,
  encodeStreamHeader,
  FLAG_IF_ABSENT,
  FRAME,
  FRAME_HEADER_BYTES,
  type Frame,
  isBlockSummed,
  STREAM_VERSIONS,
} from "../../../../src/migration/wire/frame.js";
import { FrameReader } from "../../../../src/migration/wire/frame-reader.js";
import { PageApplier } from "../../../../src/migration/wire/page-applier.js";
import { nextRun, RunList } from "../../../../src/migration/wire/page-runs.js";
import { Presence } from "../../../../src/migration/wire/presence.js";
import { StreamError } from "../../../../src/migration/wire/stream-error.js";
import { blockSum } from "../../../support/block-sum.js";
import { fill, type Side, side } from "../../../support/page-stream.js";

interface Parts {
  readonly type: number;
  readonly flags?: number;
  readonly object?: number;
  readonly pairs: readonly (readonly [number, number])[];
  readonly count?: number;
  readonly content?: Uint8Array;
  readonly number?: number;
}

interface Target {
  readonly b: Side;
  readonly presence: Presence;
  readonly applier: PageApplier;
  readonly reader: FrameReader;
}

/** Feeds bytes in pieces. @returns the frames, contents copied */
function readAll(reader: FrameReader, bytes: Uint8Array, piece: number): Frame[] {
  const frames: Frame[] = [];
  for (let from = 0; from < bytes.length; from += piece) {
    const chunk = bytes.subarray(from, from + piece);
    for (let at = 0; at < chunk.length; ) {
      const { next, frame } = reader.take(chunk, at);
      if (frame !== null) frames.push({ ...frame, content: frame.content?.slice() ?? null });
      at = next;
    }
  }
  return frames;
}

function apply(one: Target, frame: Uint8Array): void {
  const { reader, applier } = one;
  for (const read of readAll(reader, frame, frame.length)) void applier.apply(read);
}

function refusal(act: () => unknown): StreamError {
  try {
    act();
  } catch (error) {
    if (error instanceof StreamError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

const pages = (count: number, byte: number) => new Uint8Array(count * 4096).fill(byte);

describe.each(STREAM_VERSIONS)("frames of version %i", (version) => {
  const EXPECTED = { version, channel: 0, pageSize: 4096, session: "mig_1" };
  const HEADER = encodeStreamHeader(EXPECTED);

  /** A frame as a source of ours would never make it, too. */
  function frameOf(parts: Parts): Uint8Array {
    const { type, flags = 0, object = 1, pairs, content = new Uint8Array(0), number = 0 } = parts;
    const runs = pairs.length > 1 ? pairs.length : 0;
    const out = new Uint8Array(FRAME_HEADER_BYTES + runs * 8 + content.length);
    if (runs > 0)
      out.set(new Uint8Array(Uint32Array.from(pairs.flat()).buffer), FRAME_HEADER_BYTES);
    out.set(content, FRAME_HEADER_BYTES + runs * 8);
    const count = parts.count ?? pairs.reduce((sum, pair) => sum + pair[1], 0);
    const header = { type, flags, runs, object, first: pairs[0]?.[0] ?? 0, count, number };
    const sum = isBlockSummed(version, type) ? blockSum(content) : undefined;
    encodeFrameHeader(out, header, sum);
    return out;
  }

  function target(): Target {
    const b = side({ ramPages: 16, unbackedPages: 16 });
    const presence = new Presence(b.map);
    const applier = new PageApplier(b.map, b.sequences, presence);
    const reader = new FrameReader(EXPECTED, applier);
    return { b, presence, applier, reader };
  }

  it("are the same in pieces of any size", () => {
    const content = fc.uint8Array({ minLength: 0, maxLength: 300 });
    const parts = fc.array(fc.tuple(content, fc.nat(3), fc.nat(0xffff_ffff)), { maxLength: 5 });
    const keep = { landings: () => null };
    fc.assert(
      fc.property(parts, fc.integer({ min: 1, max: 700 }), (list, piece) => {
        const frames = list.map(([bytes, runs, first], number) =>
          frameOf({
            type: FRAME.deflate,
            pairs: Array.from({ length: runs + 1 }, (_, i) => [first, i] as const),
            content: bytes,
            number,
          }),
        );
        const stream = Buffer.concat([HEADER, ...frames]);
        const reader = new FrameReader(EXPECTED, keep);
        const found = readAll(reader, stream, piece);
        expect(found.map(({ content: bytes }) => [...bytes!])).toEqual(list.map(([b]) => [...b]));
        expect(found.map(({ pairs }) => pairs[0])).toEqual(list.map(([, , first]) => first));
        expect(reader.offset).toBe(stream.length);
        expect(reader.frames).toBe(list.length);
      }),
    );
  });

  it("of whole pages land in pieces of any size", () => {
    const runs = [
      [1, 3],
      [7, 1],
      [9, 2],
    ] as const;
    const content = new Uint8Array(6 * 4096).map((_, i) => (i * 7) >> 3);
    const frame = frameOf({ type: FRAME.pages, pairs: runs, content });
    const flags = FLAG_IF_ABSENT;
    const again = frameOf({ type: FRAME.pages, flags, pairs: runs, content, number: 1 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30_000 }), (piece) => {
        const one = target();
        for (const read of readAll(one.reader, Buffer.concat([HEADER, frame, again]), piece)) {
          void one.applier.apply(read);
        }
        expect(one.reader.frames).toBe(2);
        const landed = runs.map(([first, n]) =>
          one.b.bytes.subarray(first * 4096, (first + n) * 4096),
        );
        expect(Buffer.compare(Buffer.concat(landed), content)).toBe(0);
      }),
    );
  });

  it("with pages that aren't whole are refused", () => {
    for (const flags of [0, FLAG_IF_ABSENT]) {
      const parts = { type: FRAME.pages, flags, pairs: [[0, 1]] as const };
      const one = target();
      apply(one, HEADER as Uint8Array);
      const frame = frameOf({ ...parts, content: new Uint8Array(4096) });
      const short = new Uint8Array(frame.length - 4);
      short.set(frame.subarray(0, short.length));
      encodeFrameHeader(short, { ...parts, runs: 0, object: 1, first: 0, count: 1, number: 0 });
      expect(refusal(() => apply(one, short))).toMatchObject({ code: "frame-malformed" });
    }
  });

  it("are not there before their last byte", () => {
    const frame = frameOf({
      type: FRAME.pages,
      pairs: [
        [2, 1],
        [5, 1],
      ],
      content: pages(2, 9),
    });
    const stream = Buffer.concat([HEADER, frame]);
    for (let length = 0; length < stream.length; length += length < 120 ? 1 : 37) {
      const { reader, presence } = target();
      expect(readAll(reader, stream.subarray(0, length), 4096)).toEqual([]);
      expect(presence.has(1, 2)).toBe(false);
    }
  });

  it("are refused with any bit flipped, and what was there stays there", () => {
    const frame = frameOf({
      type: FRAME.zero,
      pairs: [
        [2, 1],
        [5, 3],
      ],
    });
    const stream = Buffer.concat([HEADER, frame]);
    for (let bit = 0; bit < stream.length * 8; bit++) {
      const one = target();
      one.b.bytes.fill(1);
      const broken = Uint8Array.from(stream);
      broken[bit >> 3]! ^= 1 << (bit & 7);
      let frames: Frame[] = [];
      try {
        frames = readAll(one.reader, broken, 4096);
      } catch (error) {
        expect(error).toBeInstanceOf(StreamError);
      }
      // A flipped length of the stream header only makes it wait.
      expect(frames).toEqual([]);
      expect(one.b.bytes.every((byte) => byte === 1)).toBe(true);
    }
  });

  it("with damaged content are absent until they have come again", () => {
    const one = target();
    apply(one, HEADER as Uint8Array);
    apply(one, frameOf({ type: FRAME.pages, pairs: [[3, 1]], content: pages(1, 7) }));
    expect(one.presence.has(1, 3)).toBe(true);
    const frame = frameOf({ type: FRAME.pages, pairs: [[3, 1]], content: pages(1, 8), number: 1 });
    const broken = Uint8Array.from(frame);
    broken[2000]! ^= 4;
    expect(refusal(() => apply(one, broken))).toMatchObject({
      code: "stream-corrupt",
      isFinal: false,
    });
    expect(one.presence.has(1, 3)).toBe(false);
    one.reader.restart();
    apply(one, frame);
    expect(one.presence.has(1, 3)).toBe(true);
    expect(one.b.bytes[3 * 4096 + 5]).toBe(8);
  });

  it("are refused out of order, of another stream, version or type", () => {
    const other = (over: object) => encodeStreamHeader({ ...EXPECTED, ...over });
    const late = Buffer.concat([HEADER, frameOf({ type: FRAME.end, pairs: [], number: 1 })]);
    const rows: [Uint8Array, string, boolean][] = [
      [late, "frame-order", false],
      [other({ channel: 1 }), "stream-mismatch", true],
      [other({ session: "mig_2" }), "stream-mismatch", true],
      [other({ pageSize: 16_384 }), "stream-mismatch", true],
      [other({ version: 99 }), "stream-version", true],
      [Buffer.from("GET / HTTP/1.1"), "stream-foreign", true],
      [Buffer.concat([HEADER, frameOf({ type: 99, pairs: [] })]), "frame-unknown", true],
      [Buffer.concat([HEADER, frameOf({ type: 1, flags: 128, pairs: [] })]), "frame-unknown", true],
    ];
    for (const [bytes, code, isFinal] of rows) {
      expect(refusal(() => readAll(target().reader, bytes, 50))).toMatchObject({ code, isFinal });
    }
    expect(STREAM_VERSIONS).toEqual([2, 1]);
  });

  it("are refused where they contradict themselves or the memory", () => {
    const rows: [string, Parts, string][] = [
      ["unknown object", { type: FRAME.zero, object: 9, pairs: [[0, 1]] }, "frame-object"],
      ["a device", { type: FRAME.zero, object: 3, pairs: [[0, 1]] }, "frame-object"],
      ["zeros of unbacked", { type: FRAME.zero, object: 2, pairs: [[0, 1]] }, "frame-object"],
      ["untouched RAM", { type: FRAME.untouched, pairs: [[0, 1]] }, "frame-object"],
      ["beyond the end", { type: FRAME.zero, pairs: [[15, 2]] }, "frame-malformed"],
      ["far beyond", { type: FRAME.zero, pairs: [[0xffff_ffff, 1]] }, "frame-malformed"],
      ["no page", { type: FRAME.zero, pairs: [[0, 0]] }, "frame-malformed"],
      [
        "count",
        {
          type: FRAME.zero,
          pairs: [
            [0, 1],
            [2, 1],
          ],
          count: 3,
        },
        "frame-malformed",
      ],
      ["short", { type: FRAME.pages, pairs: [[0, 2]], content: pages(1, 1) }, "frame-malformed"],
      [
        "short, if absent",
        { type: FRAME.pages, flags: FLAG_IF_ABSENT, pairs: [[0, 2]], content: pages(1, 1) },
        "frame-malformed",
      ],
      [
        "not deflated",
        { type: FRAME.deflate, pairs: [[0, 1]], content: pages(1, 255) },
        "frame-malformed",
      ],
      [
        "a bomb",
        { type: FRAME.deflate, pairs: [[0, 1]], content: deflateRawSync(Buffer.alloc(2 ** 24)) },
        "frame-malformed",
      ],
      [
        "changes of an absent page",
        { type: FRAME.delta, pairs: [[0, 1]], content: new Uint8Array(4) },
        "frame-malformed",
      ],
      [
        "unbacked without content",
        { type: FRAME.unbacked, object: 2, pairs: [[0, 1]], content: new Uint8Array(4) },
        "frame-malformed",
      ],
      [
        "unbacked with other content",
        { type: FRAME.unbacked, object: 2, pairs: [[0, 1]], content: new Uint8Array(4100) },
        "content-mismatch",
      ],
    ];
    for (const [what, parts, code] of rows) {
      const one = target();
      fill(one.b, 4n);
      const before = one.b.bytes.slice();
      const numbers = one.b.sequences.numbers.get(2)!.slice();
      apply(one, HEADER as Uint8Array);
      expect(
        refusal(() => apply(one, frameOf(parts))),
        what,
      ).toMatchObject({ code, isFinal: true });
      expect(Buffer.compare(one.b.bytes, before), what).toBe(0);
      expect(one.b.sequences.numbers.get(2), what).toEqual(numbers);
    }
  });

  it("that are too long are refused before they are read", () => {
    const frame = frameOf({ type: FRAME.barrier, pairs: [], content: new Uint8Array(1) });
    const bytes = Buffer.concat([HEADER, frame.subarray(0, FRAME_HEADER_BYTES)]);
    expect(refusal(() => readAll(target().reader, bytes, 999)).code).toBe("frame-malformed");
  });

  it("marked for absent pages leave present ones alone", () => {
    const one = target();
    apply(one, HEADER as Uint8Array);
    apply(one, frameOf({ type: FRAME.pages, pairs: [[0, 4]], content: pages(4, 1) }));
    apply(one, frameOf({ type: FRAME.discard, pairs: [[1, 1]], number: 1 }));
    expect([0, 1, 2].map((page) => one.presence.has(1, page))).toEqual([true, false, true]);
    const flags = FLAG_IF_ABSENT;
    const parts = { type: FRAME.pages, flags, pairs: [[0, 2]] as const, content: pages(2, 2) };
    apply(one, frameOf({ ...parts, number: 2 }));
    expect([0, 1, 2].map((page) => one.b.bytes[page * 4096])).toEqual([1, 2, 1]);
    apply(one, frameOf({ type: FRAME.zero, flags, pairs: [[2, 1]], number: 3 }));
    expect(one.b.bytes[2 * 4096]).toBe(1);
  });
});

describe("changes of a page", () => {
  const words = fc.uint32Array({ minLength: 64, maxLength: 64 });

  it("make the new page of the old one", () => {
    fc.assert(
      fc.property(words, fc.array(fc.tuple(fc.nat(63), fc.nat())), (before, stores) => {
        const now = before.slice();
        for (const [at, value] of stores) now[at] = value;
        const out = new Uint32Array(80);
        const length = encodeDelta(before, now, out, 3);
        if (length < 0) return;
        const page = before.slice();
        expect(decodeDelta(out.subarray(0, 4 + length), 3, 64, null)).toBe(4 + length);
        decodeDelta(out, 3, 64, page);
        expect(page).toEqual(now);
      }),
    );
  });

  it("are refused when they leave the page, whatever they are", () => {
    fc.assert(
      fc.property(fc.uint32Array({ maxLength: 20 }), (body) => {
        const page = new Uint32Array(64);
        try {
          expect(decodeDelta(body, 0, 64, page)).toBeLessThanOrEqual(body.length);
        } catch (error) {
          expect(error).toBeInstanceOf(StreamError);
        }
      }),
    );
  });
});

describe("runs", () => {
  it("are those of the bitmap", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(320), fc.nat(320), (bitmap, a, b) => {
        const from = Math.min(a, b);
        const end = Math.min(Math.max(a, b), bitmap.length * 8);
        const found: number[] = [];
        const run = { first: 0, count: 0 };
        for (let page = from; nextRun(bitmap, page, end, run); page = run.first + run.count) {
          for (let i = 0; i < run.count; i++) found.push(run.first + i);
        }
        const wanted = Array.from({ length: Math.max(0, end - from) }, (_, i) => from + i);
        expect(found).toEqual(wanted.filter((i) => (bitmap[i >> 3]! >> (i & 7)) & 1));
      }),
    );
  });

  it("grow with their neighbours", () => {
    const list = new RunList(2);
    list.add(5, 1);
    list.add(6, 2);
    expect([list.runs, list.pages, list.bytes, list.first]).toEqual([1, 3, 0, 5]);
    list.add(9, 1);
    expect([list.bytes, list.takes(10), list.takes(11)]).toEqual([16, true, false]);
  });

  it("of presence are bits of shared words", () => {
    const one: Side = side({ ramPages: 200 });
    const presence = new Presence(one.map);
    expect(presence.set(1, 30, 70)).toBe(0);
    expect(presence.set(1, 90, 20)).toBe(10);
    expect(presence.clear(1, 0, 32)).toBe(2);
    const has = Array.from({ length: 200 }, (_, page) => presence.has(1, page));
    expect(has.map((value, page) => (value ? page : -1)).filter((page) => page >= 0)).toEqual(
      Array.from({ length: 78 }, (_, i) => 32 + i),
    );
  });
});
