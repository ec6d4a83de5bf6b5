// Goal: a target's session says that nothing remains only when every page is here.
// Method: traffic by hand, more than all of memory, as rounds send pages twice.
import { expect, it } from "vitest";
import { ManualClock } from "../../../src/base/clock.js";
import { Arriving } from "../../../src/migration/arriving.js";
import { PROGRESS_MS } from "../../../src/migration/limits.js";
import type { Incoming, Journal } from "../../../src/migration/ports.js";
import type { Progress, Traffic } from "../../../src/migration/types.js";
import type { MemoryMap } from "../../../src/runtime/index.js";

const PAGE = 4096;
const PAGES = 10;
const BYTES = PAGES * PAGE;

it("whatever came twice", () => {
  const clock = new ManualClock();
  const told: Progress[] = [];
  let traffic: Traffic = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0, bytes: 0 };
  const arriving = new Arriving({
    incoming: { received: () => traffic } as Incoming,
    memory: { pageSize: PAGE, blocks: [{ bytes: BYTES }] } as unknown as MemoryMap,
    clock,
    journal: { progress: (one) => void told.push(one) } as Journal,
  });
  arriving.begin();
  for (const pagesSent of [PAGES - 3, PAGES, 2 * PAGES]) {
    traffic = { ...traffic, pagesSent, bytes: pagesSent * PAGE };
    clock.advance(PROGRESS_MS);
  }
  arriving.complete();
  const remaining = told.map(({ bytesRemaining }) => bytesRemaining);
  expect(remaining).toEqual([3 * PAGE, PAGE, PAGE, 0]);
});
