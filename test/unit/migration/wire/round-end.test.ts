// Goal: a round that ends early says exactly what of it hasn't gone, and what it says sent later
// completes the target. Method: two memories in one thread, all encodings, several channels.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../../../src/base/clock.js";
import { Prng } from "../../../../src/base/prng.js";
import type { SentRound } from "../../../../src/migration/ports.js";
import type { Compression } from "../../../../src/migration/types.js";
import { LoopbackDataPlane, LoopbackNetwork } from "../../../../src/migration/wire/loopback.js";
import type { DirtyPages } from "../../../../src/runtime/index.js";
import {
  dirty,
  fill,
  incomingSpec,
  isSame,
  outgoingSpec,
  type Shape,
  side,
} from "../../../support/page-stream.js";

const ignore = () => {};

async function world(shape: Shape, channels: number, compression: Compression = "none") {
  const network = new LoopbackNetwork();
  const plane = (url: string) => new LoopbackDataPlane({ network, url, clock: systemClock });
  const [a, b] = [side(shape), side(shape)];
  fill(a, 21n);
  const incoming = await plane("loopback://b").accept(incomingSpec(b, { channels }));
  const spec = outgoingSpec(a, incoming, { channels, compression });
  const outgoing = await plane("loopback://a").open(spec);
  return { a, b, incoming, outgoing, network };
}

const bitsOf = ({ blocks }: DirtyPages): number =>
  blocks
    .flatMap(({ bitmap }) => [...bitmap])
    .reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0);

/** Both, in one set. */
function both(one: DirtyPages, two: DirtyPages): DirtyPages {
  const blocks = [1, 2].flatMap((object) => {
    const found = [one, two].flatMap(({ blocks }) => blocks.filter((b) => b.object === object));
    if (found.length === 0) return [];
    const bitmap = new Uint8Array(Math.max(...found.map((block) => block.bitmap.length)));
    for (const block of found) {
      for (const [at, byte] of block.bitmap.entries()) bitmap[at]! |= byte;
    }
    return [{ object, pages: 0, bitmap }];
  });
  const joined = { blocks, pages: 0 };
  return { blocks, pages: bitsOf(joined) };
}

describe("a round that leaves pages", () => {
  const compressions: readonly Compression[] = ["none", "delta"];
  it.each(compressions)("names them, and the target is whole after the next: %s", async (how) => {
    const leaves = fc.array(fc.nat(12_000), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(leaves, fc.integer({ min: 1, max: 3 }), async (some, channels) => {
        const one = await world({ ramPages: 9000, unbackedPages: 3000 }, channels, how);
        const prng = new Prng(9n);
        let pages: DirtyPages | null = null;
        for (const leave of some) {
          const sent: SentRound = await one.outgoing.send(pages, ignore, leave);
          const all: number = pages === null ? 12_000 : bitsOf(pages);
          expect(bitsOf(sent.unsent)).toBe(sent.unsent.pages);
          expect(sent.pagesSent + sent.pagesZero + sent.unsent.pages).toBe(all);
          expect(sent.unsent.pages).toBeLessThanOrEqual(leave);
          pages = both(sent.unsent, dirty(one.a, prng, 500));
        }
        const last = await one.outgoing.send(pages, ignore);
        expect(last.unsent.pages).toBe(0);
        expect(isSame(one.a, one.b)).toBe(true);
        await one.outgoing.close();
      }),
      { numRuns: 12 },
    );
  });

  it("sends the first one's pages of zeros all the same", async () => {
    const { a, b, outgoing } = await world({ ramPages: 6000, unbackedPages: 0 }, 1);
    const isZero = (page: number) =>
      a.bytes.subarray(page * 4096, (page + 1) * 4096).every((byte) => byte === 0);
    b.bytes.fill(1);
    const { unsent } = await outgoing.send(null, ignore, 3000);
    const [{ bitmap } = { bitmap: new Uint8Array(0) }] = unsent.blocks;
    const left = Array.from({ length: 6000 }, (_, page) => page).filter(
      (page) => ((bitmap[page >> 3] ?? 0) >> (page & 7)) & 1,
    );
    expect(left.length).toBeGreaterThan(1000);
    expect(left.filter(isZero)).toEqual([]);
    await outgoing.send(unsent, ignore);
    expect(isSame(a, b)).toBe(true);
  });

  it("goes on where nobody ends it, and ends when somebody does", async () => {
    const { a, b, outgoing } = await world({ ramPages: 9000, unbackedPages: 0 }, 2);
    outgoing.endRound();
    outgoing.limit(4 * 2 ** 20);
    const sending = outgoing.send(null, ignore);
    await systemClock.sleep(100);
    outgoing.endRound();
    outgoing.limit(0);
    const { unsent, pagesSent } = await sending;
    expect(pagesSent).toBeGreaterThan(0);
    expect(unsent.pages).toBeGreaterThan(4000);
    await outgoing.send(unsent, ignore);
    expect(isSame(a, b)).toBe(true);
  });

  it("sends nothing of a round that may leave all of it", async () => {
    const { outgoing } = await world({ ramPages: 600, unbackedPages: 40 }, 2);
    const sent = await outgoing.send(null, ignore, Number.MAX_SAFE_INTEGER);
    expect(sent).toMatchObject({ pagesSent: 0, pagesZero: 0 });
    expect(sent.unsent.pages).toBe(640);
  });
});
