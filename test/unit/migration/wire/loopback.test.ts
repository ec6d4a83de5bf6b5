// Goal: whatever a network does to frames, the target ends with the source's memory.
// Method: two memories in one thread, random content, a fault at every frame in turn.
import { describe, expect, it } from "vitest";
import { systemClock } from "../../../../src/base/clock.js";
import { Prng } from "../../../../src/base/prng.js";
import { PeerError } from "../../../../src/migration/ports.js";
import type { Compression } from "../../../../src/migration/types.js";
import {
  type FrameAction,
  type FrameEvent,
  LoopbackDataPlane,
  LoopbackNetwork,
} from "../../../../src/migration/wire/loopback.js";
import {
  dirty,
  fill,
  incomingSpec,
  isSame,
  outgoingSpec,
  type Shape,
  type Side,
  side,
} from "../../../support/page-stream.js";

interface World {
  readonly network: LoopbackNetwork;
  readonly source: LoopbackDataPlane;
  readonly target: LoopbackDataPlane;
}

function world(giveUpMs = 2_000): World {
  const network = new LoopbackNetwork();
  const plane = (url: string) =>
    new LoopbackDataPlane({ network, url, clock: systemClock, giveUpMs, stallMs: 500 });
  return { network, source: plane("loopback://a"), target: plane("loopback://b") };
}

async function connect(
  { source, target }: World,
  a: Side,
  b: Side,
  compression: Compression = "none",
  channels = 1,
) {
  const incoming = await target.accept(incomingSpec(b, { channels }));
  const outgoing = await source.open(outgoingSpec(a, incoming, { compression, channels }));
  return { incoming, outgoing };
}

const ignore = () => {};

async function rounds(one: World, shape: Shape, compression: Compression, channels: number) {
  const prng = new Prng(5n);
  const a = side(shape);
  const b = side({ ...shape, pa: (shape.pa ?? 65_536) * 2 });
  fill(a, 9n);
  const { incoming, outgoing } = await connect(one, a, b, compression, channels);
  const totals = [await outgoing.send(null, ignore)];
  expect(isSame(a, b)).toBe(true);
  for (let round = 0; round < 5; round++) {
    const pages = dirty(a, prng, 20);
    totals.push(await outgoing.send(pages, ignore));
    expect(isSame(a, b)).toBe(true);
  }
  expect(await incoming.digest()).toBe(await outgoing.digest());
  const received = incoming.received();
  await outgoing.close();
  await incoming.close();
  return { totals, received, a, b };
}

describe("page stream", () => {
  const compressions: readonly Compression[] = ["none", "deflate", "delta"];
  for (const compression of compressions) {
    for (const pageSize of [4096, 16_384, 65_536]) {
      it(`carries every page: ${compression}, pages of ${pageSize}`, async () => {
        const shape = { pageSize, ramPages: 300, unbackedPages: 40 };
        const { totals, received } = await rounds(world(), shape, compression, 1);
        const sum = (pick: (t: (typeof totals)[number]) => number) =>
          totals.reduce((total, one) => total + pick(one), 0);
        expect(totals[0]!.pagesSent + totals[0]!.pagesZero).toBe(340);
        expect(totals[0]!.pagesDuplicate).toBe(0);
        expect(received.pagesSent).toBe(sum((t) => t.pagesSent));
        expect(received.pagesZero).toBe(sum((t) => t.pagesZero));
        expect(received.pagesDuplicate).toBe(sum((t) => t.pagesDuplicate));
        expect(received.bytes).toBe(sum((t) => t.bytes));
      });
    }
  }

  it("spreads over channels", async () => {
    const { totals } = await rounds(world(), { ramPages: 9000, unbackedPages: 70_000 }, "delta", 3);
    expect(totals[0]!.pagesSent + totals[0]!.pagesZero).toBe(79_000);
  });

  it("makes what compresses smaller", async () => {
    const shape = { ramPages: 300, unbackedPages: 0 };
    const sizes: number[] = [];
    for (const compression of compressions) {
      const { totals } = await rounds(world(), shape, compression, 1);
      sizes.push(compression === "delta" ? totals.at(-1)!.bytes : totals[0]!.bytes);
      if (compression === "none") sizes.push(totals.at(-1)!.bytes);
    }
    const [plain, plainLast, deflated, deltaLast] = sizes as [number, number, number, number];
    expect(deflated).toBeLessThan(plain * 0.75);
    expect(deltaLast).toBeLessThan(plainLast * 0.9);
  });

  it("takes a digest that tells any page", async () => {
    const one = world();
    const a = side();
    fill(a, 1n);
    const { outgoing } = await connect(one, a, side());
    const before = await outgoing.digest();
    a.bytes[5 * 4096 + 7]! ^= 1;
    const ram = await outgoing.digest();
    a.sequences.numbers.get(2)![3]! += 1;
    const both = await outgoing.digest();
    expect(new Set([before, ram, both]).size).toBe(3);
  });
});

/** One fault at one frame, once. */
function once(at: number, action: FrameAction) {
  let seen = 0;
  return (_event: FrameEvent): FrameAction => {
    seen += 1;
    return seen === at ? action : "pass";
  };
}

describe("a network that fails", () => {
  const actions: readonly FrameAction[] = ["cut", "cut-after", "truncate", "corrupt", "twice"];
  for (const action of actions) {
    it(`resumes at every frame: ${action}`, async () => {
      const shape = { ramPages: 600, unbackedPages: 300 };
      let frames = 0;
      const counting = world();
      counting.network.faults = {
        frame: () => {
          frames += 1;
          return "pass";
        },
      };
      await rounds(counting, shape, "delta", 1);
      for (let at = 1; at <= frames; at++) {
        const one = world();
        one.network.faults = { frame: once(at, action) };
        await rounds(one, shape, "delta", 1);
      }
    });
  }

  it("survives a mess on several channels", async () => {
    const prng = new Prng(77n);
    const one = world();
    const all: readonly FrameAction[] = [...actions, "pass"];
    one.network.faults = {
      frame: async () => {
        await systemClock.yieldToLoop();
        return prng.below(4) === 0 ? prng.pick(all) : "pass";
      },
      reach: () => prng.below(3) > 0,
    };
    await rounds(one, { ramPages: 4000, unbackedPages: 500 }, "delta", 3);
  });

  it("gives up after giveUpMs, and goes on when asked again", async () => {
    const one = world(100);
    const a = side();
    const b = side();
    fill(a, 3n);
    const { outgoing } = await connect(one, a, b);
    await outgoing.send(null, ignore);
    const prng = new Prng(1n);
    const pages = dirty(a, prng, 9);
    one.network.faults = { reach: () => false, frame: () => "cut" };
    const failed = await outgoing.send(pages, ignore).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(PeerError);
    expect(failed).toMatchObject({ code: "peer-lost", isTransient: true });
    one.network.faults = {};
    await outgoing.send(pages, ignore);
    expect(isSame(a, b)).toBe(true);
  });

  it("ends at once where the target has forgotten the session", async () => {
    const one = world(60_000);
    const a = side();
    const { outgoing, incoming } = await connect(one, a, side());
    await outgoing.send(null, ignore);
    await incoming.close();
    one.network.faults = { frame: () => "cut" };
    await expect(outgoing.send(null, ignore)).rejects.toMatchObject({
      code: "stream-unauthorized",
      isTransient: false,
    });
  });

  it("refuses unbacked pages whose content isn't the target's", async () => {
    const one = world();
    const a = side();
    const b = side();
    fill(a, 3n);
    (b.map as { unbackedSeed: number }).unbackedSeed += 1;
    const { outgoing } = await connect(one, a, b);
    await expect(outgoing.send(null, ignore)).rejects.toMatchObject({ code: "content-mismatch" });
  });

  it("fails when the target can't store sequences", async () => {
    const one = world();
    const a = side();
    const b = side();
    fill(a, 3n);
    b.sequences.write = () => Promise.reject(new Error("the VM is gone"));
    const { outgoing } = await connect(one, a, b);
    await expect(outgoing.send(null, ignore)).rejects.toMatchObject({ code: "target-failed" });
  });

  it("waits with a barrier for the target's sequences", async () => {
    const one = world();
    const a = side();
    const b = side();
    fill(a, 3n);
    let release = ignore;
    b.sequences.hold = new Promise((resolve) => {
      release = resolve;
    });
    const { outgoing } = await connect(one, a, b);
    let isDone = false;
    const sending = outgoing.send(null, ignore).then(() => {
      isDone = true;
    });
    await systemClock.sleep(50);
    expect(isDone).toBe(false);
    release();
    await sending;
    expect(isSame(a, b)).toBe(true);
  });
});
