// Goal: a frame that isn't sent gives its buffer back, whatever ends the round or the push. Method:
// takes and gives of the pool, counted, over streams that fail at a chosen moment. Test process.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { systemClock } from "../../../../src/base/clock.js";
import { PeerError } from "../../../../src/migration/ports.js";
import type { Compression } from "../../../../src/migration/types.js";
import { FramePool } from "../../../../src/migration/wire/frame-pool.js";
import { OutgoingStream } from "../../../../src/migration/wire/outgoing-stream.js";
import type { ChannelListener } from "../../../../src/migration/wire/transport.js";
import type { DirtyPages } from "../../../../src/runtime/index.js";
import { outgoingSpec, side } from "../../../support/page-stream.js";

const ignore = () => {};
const SHAPE = { ramPages: 2048, unbackedPages: 512 };
const CHANNELS = 2;
/** Content builders of an encoder: each keeps the buffer that it is filling. */
const FILLING = 3;
/** One buffer lost in each would be more than are being filled. */
const ATTEMPTS = 16;
/** Bytes a second; so a frame waits for its turn when another channel fails. */
const SLOWLY = 64 * 2 ** 20;

beforeEach(() => {
  vi.spyOn(FramePool.prototype, "take");
  vi.spyOn(FramePool.prototype, "give");
});
afterEach(() => vi.restoreAllMocks());

/** Buffers that the pool has lent. Nobody has given one twice. */
function lent(): number {
  const taken = vi.mocked(FramePool.prototype.take).mock.results.map(({ value }) => value);
  const given = vi.mocked(FramePool.prototype.give).mock.calls.map(([buffer]) => buffer);
  for (const one of new Set(given)) {
    const times = (all: readonly unknown[]) => all.filter((other) => other === one).length;
    expect(times(given)).toBeLessThanOrEqual(times(taken));
  }
  return taken.length - given.length;
}

/** RAM of noise, every unbacked page stored to: frames that keep their buffers. */
function source() {
  const one = side(SHAPE);
  const words = new Uint32Array(one.bytes.buffer, one.bytes.byteOffset, one.bytes.length / 4);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 0x9e37_79b1);
  one.sequences.numbers.get(2)?.fill(7);
  return { one, words };
}

/** Of eight pages. */
const EVERY_ONE = 0xff;
const WHOLE_ONES = 0x55;

/** @param ranges of RAM: first page, that behind the last, which of them */
function pages(...ranges: readonly (readonly [number, number, number])[]): DirtyPages {
  const bitmap = new Uint8Array(SHAPE.ramPages / 8);
  for (const [first, end, which] of ranges) bitmap.fill(which, first / 8, end / 8);
  return { blocks: [{ object: 1, pages: SHAPE.ramPages, bitmap }], pages: 0 };
}

/** A stream to a target that applies everything, until one of its channels refuses. */
function world(compression: Compression = "none") {
  const { one, words } = source();
  const target = { refuses: null as number | null };
  const channel = (number: number) => {
    let offset = 0;
    const check = () => {
      if (target.refuses === number) throw new PeerError("refused", "Not this one.", false, false);
    };
    return {
      applied: async () => {
        check();
        return { offset, frame: 0 };
      },
      connect: async (from: number, listener: ChannelListener) => {
        check();
        offset = from;
        return {
          write: (bytes: Uint8Array) => {
            if (target.refuses === number) {
              listener.onClosed(new PeerError("refused", "Not this one.", false, false));
              return;
            }
            offset += bytes.length;
            const applied = { offset, frame: 0 };
            setImmediate(() => listener.onApplied(applied));
          },
          close: ignore,
        };
      },
    };
  };
  const demands = { listen: async () => ({ close: ignore }) };
  const spec = outgoingSpec(one, { url: "", secret: "" }, { channels: CHANNELS, compression });
  const patience = { giveUpMs: 50, stallMs: 1000 };
  const stream = new OutgoingStream(spec, { channel, demands }, systemClock, patience);
  return { stream, target, words };
}

/** Fails again and again, with one channel or the other. */
async function failing(
  { stream, target }: ReturnType<typeof world>,
  bytesPerSecond: number,
  attempt: () => Promise<unknown>,
  prepare = async () => {},
): Promise<void> {
  for (let count = 0; count < ATTEMPTS; count++) {
    await prepare();
    target.refuses = count % CHANNELS;
    stream.limit(bytesPerSecond);
    await expect(attempt()).rejects.toMatchObject({ code: "refused" });
    target.refuses = null;
    stream.limit(0);
  }
}

describe("buffers of frames", () => {
  it("come back from rounds that end because another channel fails", async () => {
    const one = world();
    const { stream } = one;
    await stream.send(null, ignore);
    expect(lent()).toBeLessThanOrEqual(CHANNELS * FILLING);
    await failing(one, SLOWLY, () => stream.send(null, ignore));
    // What was kept to be sent again is sent, and confirmed.
    await stream.send(null, ignore);
    expect(lent()).toBeLessThanOrEqual(CHANNELS * FILLING);
    await stream.close();
  });

  it("come back when pages and changes of pages were to go together", async () => {
    const one = world("delta");
    const { stream, words } = one;
    const perPage = words.length / SHAPE.ramPages;
    const change = async () => {
      // What a failed round has sent isn't remembered.
      await stream.send(null, ignore);
      for (let page = 0; page < SHAPE.ramPages; page++) {
        const changed = page % 2 === 0 ? perPage : perPage / 4;
        for (let i = 0; i < changed; i++) words[page * perPage + i]! ^= 0x5bd1_e995 + page + i;
      }
    };
    // The first channel's pages use up what is free, so that the other one waits with two frames.
    const round = pages([0, 192, WHOLE_ONES], [1024, 1216, EVERY_ONE]);
    await failing(one, SLOWLY / 16, () => stream.send(round, ignore), change);
    await stream.send(null, ignore);
    expect(lent()).toBeLessThanOrEqual(CHANNELS * FILLING);
    await stream.close();
  });

  it("come back from pushes that fail", async () => {
    const one = world();
    const { stream } = one;
    await stream.send(null, ignore);
    const all = () => stream.push(pages([0, SHAPE.ramPages, EVERY_ONE]), ignore);
    await failing(one, SLOWLY, all);
    await all();
    // The channel of pages that are asked for has an encoder, too.
    expect(lent()).toBeLessThanOrEqual((CHANNELS + 1) * FILLING);
    await stream.close();
  });
});
