// Goal: the source's memory of sent pages never says anything else than what was put last, keeps
// within its size, and serves a guest that goes round in more pages than fit. Method: against a
// naive map, and guests of known working sets.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SentPages } from "../../../../src/migration/wire/sent-pages.js";
import { side } from "../../../support/page-stream.js";

const PAGE = 4096; // tidy: the guest's page size
const RAM = 1;
const { map } = side({ ramPages: 3000 });
const page = (value: number) => new Uint32Array(PAGE / 4).fill(value);

/** Goes once round. @returns how many pages of the set were remembered */
function round(sent: SentPages, set: readonly number[], value: number): number {
  sent.beginRound();
  let known = 0;
  for (const one of set) {
    if (sent.get(RAM, one) !== undefined) known += 1;
    sent.put(RAM, one, page(value));
  }
  return known;
}

const pages = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);

describe("pages that were sent", () => {
  it("are what was put last, or nothing", () => {
    const step = fc.record({
      act: fc.constantFrom("put", "get", "forget", "round", "clear" as const),
      page: fc.nat(40),
      value: fc.nat(1_000_000),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), fc.nat(50), (steps, room) => {
        const sent = new SentPages(map, room * PAGE);
        const model = new Map<number, number>();
        for (const { act, page: one, value } of steps) {
          if (act === "put") sent.put(RAM, one, page(value));
          if (act === "put") model.set(one, value);
          if (act === "forget") sent.forget(RAM, one);
          if (act === "forget") model.delete(one);
          if (act === "round") sent.beginRound();
          if (act === "clear") sent.clear();
          if (act === "clear") model.clear();
          const known = pages(0, 41).filter((each) => sent.get(RAM, each) !== undefined);
          expect(known.length).toBeLessThanOrEqual(room);
          for (const each of known) {
            expect(sent.get(RAM, each)).toEqual(page(model.get(each) ?? -1));
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it("are all remembered while there is room, also of several sizes of pages", () => {
    for (const pageSize of [4096, 16_384, 65_536]) {
      const { map: large } = side({ pageSize, ramPages: 300 });
      const sent = new SentPages(large, 200 * pageSize);
      sent.beginRound();
      for (const one of pages(0, 300)) {
        sent.put(RAM, one, new Uint32Array(pageSize / 4).fill(one));
      }
      const known = pages(0, 300).filter((one) => sent.get(RAM, one)?.at(-1) === one);
      expect(known).toEqual(pages(0, 200));
    }
  });

  it("serve a guest that goes round in twice as many as fit", () => {
    const sent = new SentPages(map, 500 * PAGE);
    const set = pages(1000, 1000);
    round(sent, set, 0);
    for (let n = 1; n < 10; n++) expect(round(sent, set, n)).toBe(500);
  });

  it("give way to others once they don't go any more", () => {
    const sent = new SentPages(map, 500 * PAGE);
    round(sent, pages(0, 500), 0);
    const hot = pages(2000, 400);
    expect(round(sent, hot, 1)).toBe(0);
    round(sent, hot, 2);
    expect(round(sent, hot, 3)).toBe(400);
  });

  it("are none without room, and none of memory without bytes", () => {
    const none = new SentPages(map, PAGE - 1);
    none.put(RAM, 1, page(1));
    expect(none.get(RAM, 1)).toBeUndefined();
    const some = new SentPages(map, 10 * PAGE);
    some.put(2, 1, page(1));
    some.forget(2, 1);
    expect(some.get(2, 1)).toBeUndefined();
  });
});
