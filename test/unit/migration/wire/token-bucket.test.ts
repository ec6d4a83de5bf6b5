// Goal: a limited stream goes at its limit over any second, whatever its frames, the timers and the
// gaps between rounds are like, and never by more than its credit above. Method: senders on a
// virtual clock whose timers come late.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Clock, ManualClock } from "../../../../src/base/clock.js";
import { Prng } from "../../../../src/base/prng.js";
import { CREDIT_MS, TokenBucket } from "../../../../src/migration/wire/token-bucket.js";

const MIB = 2 ** 20;
const LIMIT = 128 * MIB;
const CREDIT = (LIMIT * CREDIT_MS) / 1000;
const FRAME = MIB;

interface Sent {
  readonly atMs: number;
  readonly bytes: number;
}

/** A clock whose timers are late by up to so many milliseconds. */
function late(clock: ManualClock, prng: Prng, mostMs: number): Clock {
  return {
    nowMs: () => clock.nowMs(),
    monotonicMs: () => clock.monotonicMs(),
    sleep: (ms) => clock.sleep(ms),
    timer: (ms, fire) => clock.timer(ms + (mostMs === 0 ? 0 : prng.below(mostMs + 1)), fire),
    yieldToLoop: () => clock.yieldToLoop(),
  };
}

/** Lets everything run that waits for nothing but its turn. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

async function run(clock: ManualClock, forMs: number): Promise<void> {
  await settle();
  for (let ms = 0; ms < forMs; ms++) {
    clock.advance(1);
    await settle();
  }
}

/** Sends frames of `size` for ever, with a pause of `gapMs` after each round of `round` frames. */
async function sender(
  bucket: TokenBucket,
  clock: ManualClock,
  sent: Sent[],
  { size, gapMs = 0, round = 50 }: { size: () => number; gapMs?: number; round?: number },
): Promise<never> {
  for (let frame = 1; ; frame++) {
    const bytes = size();
    await bucket.take(bytes);
    sent.push({ atMs: clock.monotonicMs(), bytes });
    if (gapMs > 0 && frame % round === 0) await clock.sleep(gapMs);
  }
}

function bytesIn(sent: readonly Sent[], fromMs: number, toMs: number): number {
  return sent.reduce((sum, { atMs, bytes }) => {
    return atMs >= fromMs && atMs < toMs ? sum + bytes : sum;
  }, 0);
}

describe("a bandwidth limit", () => {
  it.each([
    ["whole frames", 0, 0, () => FRAME],
    ["timers that are late", 7, 0, () => FRAME],
    ["rounds with gaps between them", 3, 40, () => FRAME],
    ["frames of any size", 5, 30, null],
  ])("is reached within 1 %: %s", async (_, lateMs, gapMs, size) => {
    const clock = new ManualClock();
    const prng = new Prng(3n);
    const bucket = new TokenBucket(late(clock, prng, lateMs), LIMIT);
    const sent: Sent[] = [];
    const any = () => 100 + prng.below(FRAME);
    void sender(bucket, clock, sent, { size: size ?? any, gapMs });
    await run(clock, 5_000);
    expect(bytesIn(sent, 0, 5_000) / 5 / LIMIT).toBeGreaterThan(0.99);
    for (let from = 0; from <= 4_000; from += 37) {
      const bytes = bytesIn(sent, from, from + 1_000);
      // The second may begin with a credit and end in a gap, or the other way round.
      expect(bytes).toBeGreaterThan(LIMIT * 0.99 - (LIMIT * (gapMs + lateMs)) / 1000 - FRAME);
      expect(bytes).toBeLessThanOrEqual(LIMIT + CREDIT + FRAME);
    }
  });

  it("is never passed by more than the credit, whatever is sent when", async () => {
    const burst = fc.record({ idleMs: fc.nat(400), frames: fc.nat(40), bytes: fc.nat(FRAME) });
    await fc.assert(
      fc.asyncProperty(fc.array(burst, { maxLength: 12 }), fc.nat(9), async (bursts, lateMs) => {
        const clock = new ManualClock();
        const bucket = new TokenBucket(late(clock, new Prng(5n), lateMs), LIMIT);
        const sent: Sent[] = [];
        const send = async () => {
          for (const { idleMs, frames, bytes } of bursts) {
            await clock.sleep(idleMs);
            for (let frame = 0; frame < frames; frame++) {
              await bucket.take(bytes);
              sent.push({ atMs: clock.monotonicMs(), bytes });
            }
          }
        };
        void send();
        await run(clock, 600);
        for (const { atMs } of sent) {
          for (const ms of [10, 100, 500]) {
            const allowed = (LIMIT * ms) / 1000 + CREDIT + FRAME;
            expect(bytesIn(sent, atMs, atMs + ms)).toBeLessThanOrEqual(allowed);
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  it("holds for all channels together", async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, LIMIT);
    const sent: Sent[] = [];
    for (let channel = 0; channel < 4; channel++) {
      void sender(bucket, clock, sent, { size: () => FRAME });
    }
    await run(clock, 2_000);
    const share = bytesIn(sent, 0, 2_000) / 2 / LIMIT;
    expect(share).toBeGreaterThan(0.99);
    expect(share).toBeLessThan(1.02);
  });

  it("changes while somebody waits", async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 1000);
    const sent: Sent[] = [];
    void sender(bucket, clock, sent, { size: () => 10_000 });
    // The first is free, the second would wait for ten seconds.
    await run(clock, 100);
    expect(sent.length).toBe(1);
    bucket.limit(1_000_000);
    await run(clock, 1_000);
    expect(bytesIn(sent, 100, 1_100) / 1_000_000).toBeCloseTo(1, 1);
    bucket.limit(10_000);
    const before = sent.length;
    await run(clock, 3_000);
    expect(sent.length - before).toBeGreaterThanOrEqual(2);
    expect(sent.length - before).toBeLessThanOrEqual(5);
  });

  it("saves nothing while there is none, and owes nothing", async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 0);
    for (let frame = 0; frame < 100; frame++) await bucket.take(FRAME);
    clock.advance(10_000);
    bucket.limit(1000);
    await bucket.take(500);
    let isThrough = false;
    void bucket.take(1).then(() => {
      isThrough = true;
    });
    await run(clock, 499);
    expect(isThrough).toBe(false);
    await run(clock, 2);
    expect(isThrough).toBe(true);
  });
});
