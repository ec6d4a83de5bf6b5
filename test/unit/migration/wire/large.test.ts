// Goal: what a stream needs of memory doesn't grow with the VM. Method: 64 GiB of which some GiB
// were stored to, sequences made up when asked for, both sides in this process.
import { expect, it } from "vitest";
import { systemClock } from "../../../../src/base/clock.js";
import { UNBACKED_BASE } from "../../../../src/base/unbacked-content.js";
import { LoopbackDataPlane, LoopbackNetwork } from "../../../../src/migration/wire/loopback.js";

const PAGES = 2 ** 24;
const MIB = 2 ** 20;
/** One page in so many was stored to. */
const EVERY = 1024;

it("carries 64 GiB in bounded memory", { timeout: 300_000 }, async () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const blocks = [
    {
      object: 1,
      bytes: PAGES * 4096,
      backing: "unbacked" as const,
      pa: UNBACKED_BASE,
      contentPage: 0,
    },
  ];
  const map = { pageSize: 4096, memory, blocks, unbackedSeed: 5 };
  let piecesMax = 0;
  const source = {
    read: async (_object: number, first: number, count: number) => {
      piecesMax = Math.max(piecesMax, count);
      return Uint32Array.from({ length: count }, (_, i) =>
        (first + i) % EVERY === 0 ? first + 1 : 0,
      );
    },
    write: async () => {},
  };
  let sum = 0;
  const target = {
    read: source.read,
    write: async (_object: number, pages: Uint32Array, sequences: Uint32Array) => {
      for (const [i, page] of pages.entries()) sum += page % EVERY === 0 ? sequences[i]! : 2 ** 40;
    },
  };
  const network = new LoopbackNetwork();
  const plane = (url: string) => new LoopbackDataPlane({ network, url, clock: systemClock });
  const common = { session: "large", stream: 1, channels: 2, memory: map };
  const before = process.memoryUsage.rss();
  const incoming = await plane("loopback://b").accept({ ...common, sequences: target });
  const outgoing = await plane("loopback://a").open({
    ...common,
    ...incoming,
    trust: null,
    compression: "none",
    deltaCacheBytes: 2 ** 26,
    bandwidthBytesPerSecond: 0,
    sequences: source,
  });
  const sent = await outgoing.send(null, () => {});
  const grown = process.memoryUsage.rss() - before;
  expect(sent.pagesSent).toBe(PAGES / EVERY);
  expect(sent.pagesZero).toBe(PAGES - PAGES / EVERY);
  // Each sequence is its piece's first page plus 1.
  let expected = 0;
  for (let page = 0; page < PAGES; page += EVERY) expected += page - (page % piecesMax) + 1;
  expect(sum).toBe(expected);
  // What was never stored to isn't carried.
  expect(sent.bytes).toBeLessThan((PAGES / EVERY) * 5000);
  expect(piecesMax).toBeLessThanOrEqual(65_536);
  // Two bitmaps of 2 MiB, windows, buffers; a sequence for each page alone would be 64 MiB a side.
  expect(grown).toBeLessThan(200 * MIB);
  await outgoing.close();
  await incoming.close();
});
