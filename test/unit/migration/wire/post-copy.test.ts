// Goal: a guest that runs at the target while pages are absent finds each of them, and keeps what
// it stores. Method: a guest that reads a random page, asks for it when it is absent, checks it
// against the source and stores to it; a network that fails.
import { describe, expect, it } from "vitest";
import { systemClock } from "../../../../src/base/clock.js";
import { PageRequests } from "../../../../src/base/page-requests.js";
import { Prng } from "../../../../src/base/prng.js";
import type { Demanding } from "../../../../src/migration/ports.js";
import {
  type FrameAction,
  LoopbackDataPlane,
  LoopbackNetwork,
} from "../../../../src/migration/wire/loopback.js";
import { PushQueue } from "../../../../src/migration/wire/push-queue.js";
import {
  dirty,
  fill,
  incomingSpec,
  outgoingSpec,
  type Side,
  side,
} from "../../../support/page-stream.js";

const ignore = () => {};
const SHAPE = { ramPages: 3000, unbackedPages: 600 };

function isPresent({ present }: Demanding, object: number, page: number): boolean {
  return ((Atomics.load(present.get(object)!, page >> 5) >>> (page & 31)) & 1) === 1;
}

/** Reads and stores like a vCPU. @returns how many pages it had to ask for */
async function guest(a: Side, b: Side, incoming: Demanding, seed: bigint, count: number) {
  const prng = new Prng(seed);
  const stored = new Map<number, number>();
  let asked = 0;
  for (let i = 0; i < count; i++) {
    const page = prng.below(SHAPE.ramPages);
    if (!isPresent(incoming, 1, page)) {
      asked += 1;
      incoming.request(1, page);
      while (!isPresent(incoming, 1, page)) await systemClock.yieldToLoop();
    }
    const at = page * 4096;
    const mine = stored.get(page);
    if (mine !== undefined) expect(b.bytes[at]).toBe(mine);
    else expect(Buffer.compare(b.bytes.slice(at, at + 4096), a.bytes.slice(at, at + 4096))).toBe(0);
    const value = prng.below(256);
    b.bytes[at] = value;
    stored.set(page, value);
    await systemClock.yieldToLoop();
  }
  return { asked, stored };
}

async function world(channels: number, giveUpMs = 5_000) {
  const network = new LoopbackNetwork();
  const plane = (url: string) =>
    new LoopbackDataPlane({ network, url, clock: systemClock, giveUpMs, stallMs: 500 });
  const [a, b] = [side(SHAPE), side(SHAPE)];
  fill(a, 11n);
  const incoming = await plane("loopback://b").accept(incomingSpec(b, { channels }));
  const outgoing = await plane("loopback://a").open(outgoingSpec(a, incoming, { channels }));
  await outgoing.send(null, ignore);
  const left = dirty(a, new Prng(2n), 2500);
  await outgoing.discard(left);
  return { network, a, b, incoming, outgoing, left };
}

function expectWhole(a: Side, b: Side, stored: ReadonlyMap<number, number>) {
  const expected = Buffer.from(a.bytes);
  for (const [page, value] of stored) expected[page * 4096] = value;
  expect(Buffer.compare(expected, b.bytes)).toBe(0);
  expect(b.sequences.numbers.get(2)).toEqual(a.sequences.numbers.get(2));
}

describe("post-copy", () => {
  it("makes stale pages absent wherever they lie, and no others", async () => {
    const { incoming, outgoing } = await world(1);
    const [words] = incoming.present.values();
    const bitmap = new Uint8Array(words!.length * 4);
    const last = bitmap.length * 8 - 40;
    for (const page of [900, last]) bitmap[page >> 3]! |= 1 << (page & 7);
    const here = (page: number) => (words![page >> 5]! >>> (page & 31)) & 1;
    const all = Array.from({ length: last + 1 }, (_, page) => page).filter(here);
    await outgoing.discard({ blocks: [{ object: 1, pages: 2, bitmap }], pages: 2 });
    const left = Array.from({ length: last + 1 }, (_, page) => page).filter(here);
    expect(left).toEqual(all.filter((page) => page !== 900 && page !== last));
    await outgoing.close();
    await incoming.close();
  });

  for (const channels of [1, 3]) {
    it(`brings what is asked for first, and everything: ${channels} channels`, async () => {
      const { a, b, incoming, outgoing, left } = await world(channels);
      // So slow that the guest is ahead of it.
      outgoing.limit(4 * 2 ** 20);
      const seen: number[] = [];
      const pushing = outgoing.push(left, (sent) => seen.push(sent.pagesRequested));
      const { asked, stored } = await guest(a, b, incoming, 3n, 200);
      outgoing.limit(0);
      const sent = await pushing;
      expectWhole(a, b, stored);
      expect(asked).toBeGreaterThan(0);
      expect(sent.pagesRequested).toBeGreaterThan(0);
      expect(sent.pagesRequested).toBeLessThanOrEqual(asked);
      const count = left.blocks.flatMap(({ bitmap }) => [...bitmap]);
      const pages = count.reduce(
        (sum, byte) => sum + byte.toString(2).replaceAll("0", "").length,
        0,
      );
      expect(sent.pagesRequested + sent.pagesPushed).toBe(pages);
      expect(seen.at(-1)).toBeGreaterThanOrEqual(0);
    });
  }

  it("brings what is asked for at once, though pages around it wait for the limit", async () => {
    const { a, b, incoming, outgoing } = await world(2);
    const bitmap = new Uint8Array(SHAPE.ramPages / 8).fill(255);
    const all = { blocks: [{ object: 1, pages: SHAPE.ramPages, bitmap }], pages: SHAPE.ramPages };
    await outgoing.discard(all);
    // Two minutes for one turn of the background.
    outgoing.limit(8192);
    const pushing = outgoing.push(all, ignore);
    // In the background's own order, always a step behind it.
    for (let page = 0; page < 1500; page += 5) {
      if (isPresent(incoming, 1, page)) continue;
      incoming.request(1, page);
      while (!isPresent(incoming, 1, page)) await systemClock.yieldToLoop();
    }
    outgoing.limit(0);
    const sent = await pushing;
    expect(Buffer.compare(a.bytes, b.bytes)).toBe(0);
    expect(sent.pagesRequested).toBeGreaterThan(100);
    expect(sent.pagesRequested + sent.pagesPushed).toBe(SHAPE.ramPages);
  });

  it("survives a network that fails", async () => {
    const { network, a, b, incoming, outgoing, left } = await world(2);
    const prng = new Prng(8n);
    const actions: readonly FrameAction[] = ["cut", "cut-after", "truncate", "corrupt", "twice"];
    network.faults = {
      frame: () => (prng.below(3) === 0 ? prng.pick(actions) : "pass"),
      reach: () => prng.below(3) > 0,
    };
    outgoing.limit(20 * 2 ** 20);
    const pushing = outgoing.push(left, ignore);
    const { stored } = await guest(a, b, incoming, 4n, 60);
    outgoing.limit(0);
    await pushing;
    expectWhole(a, b, stored);
  });

  it("goes on where it was after it had to give up", async () => {
    const { network, a, b, incoming, outgoing, left } = await world(2, 100);
    let frames = 0;
    network.faults = {
      frame: () => {
        frames += 1;
        return frames > 3 ? "cut" : "pass";
      },
      reach: () => frames < 3,
    };
    outgoing.limit(30 * 2 ** 20);
    const failed = await outgoing.push(left, ignore).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: "peer-lost", isTransient: true });
    // A vCPU asks while nobody listens.
    const prng = new Prng(5n);
    const page = Array.from({ length: 500 }, () => prng.below(SHAPE.ramPages)).find(
      (one) => !isPresent(incoming, 1, one),
    );
    incoming.request(1, page!);
    network.faults = {};
    outgoing.limit(0);
    await outgoing.push(null, ignore);
    expectWhole(a, b, new Map());
  });

  it("ends when it is closed", async () => {
    const { outgoing, left } = await world(1);
    outgoing.limit(1000);
    const pushing = outgoing.push(left, ignore).catch((error: unknown) => error);
    await systemClock.sleep(50);
    await outgoing.close();
    expect(await pushing).toMatchObject({ code: "stream-closed" });
  });
});

describe("what is pushed next", () => {
  const queueOf = (pages: readonly number[]) => {
    const { map } = side(SHAPE);
    const queue = new PushQueue(map);
    const bitmap = new Uint8Array(375);
    for (const page of pages) bitmap[page >> 3]! |= 1 << (page & 7);
    queue.add({ blocks: [{ object: 1, pages: 3000, bitmap }], pages: pages.length });
    return queue;
  };
  const pagesOf = (turn: ReturnType<PushQueue["next"]>) =>
    (turn?.runs ?? []).flatMap(({ first, count }) =>
      Array.from({ length: count }, (_, i) => first + i),
    );

  it("is in order, from the page that was asked for last, each page once", () => {
    const queue = queueOf([1, 2, 5, 900, 901, 2000]);
    expect(queue.ask(1, 900)).toBe(true);
    expect(queue.ask(1, 900)).toBe(true);
    expect(queue.ask(1, 3)).toBe(false);
    expect(queue.ask(7, 3)).toBe(false);
    expect(queue.ask(1, 99_999)).toBe(false);
    expect(pagesOf(queue.nextAsked())).toEqual([900]);
    expect(queue.nextAsked()).toBe(null);
    expect(pagesOf(queue.next())).toEqual([901, 2000]);
    const turn = queue.next();
    expect(pagesOf(turn)).toEqual([1, 2, 5]);
    expect(queue.next()).toBe(null);
    queue.giveBack(turn!);
    expect(pagesOf(queue.next())).toEqual([1, 2, 5]);
  });
});

describe("requests in shared memory", () => {
  it("arrive in order, and more than fit are refused", async () => {
    const asking = new PageRequests();
    const reading = new PageRequests(asking.shared);
    const found: number[] = [];
    let accepted = 0;
    for (let page = 0; page < 2000; page++) if (asking.ask(1, page)) accepted += 1;
    expect(accepted).toBe(1024);
    const end = reading.read((_object, page) => found.push(page));
    await systemClock.sleep(20);
    asking.ask(1, 0xffff_fff0);
    await systemClock.sleep(50);
    reading.end();
    await end;
    expect(found).toEqual([...Array.from({ length: 1024 }, (_, page) => page), 0xffff_fff0]);
  });
});
