// Goal: whatever is allocated and released in whatever order, no frame has two owners or old bytes.
// Method: random requests against a set of used frames; every frame given is checked, then dirtied.
import fc from "fast-check";
import { expect, it } from "vitest";
import { pageGeometry } from "../../../src/base/page.js";
import { digestOf } from "../../../src/base/saved.js";
import { FrameAllocator } from "../../../src/machine/frame-allocator.js";
import { HostMemory } from "../../../src/machine/host-memory.js";

const K4 = pageGeometry(4096);
const MAX_FRAMES = 256;

const step = fc.oneof(
  fc.record({
    op: fc.constant("allocate" as const),
    count: fc.integer({ min: 1, max: 24 }),
    align: fc.constantFrom(1, 2, 4, 16),
  }),
  fc.record({
    op: fc.constant("release" as const),
    which: fc.nat(1000),
    // A part of a run may go back by itself, as a bitmap's neighbour does not.
    part: fc.nat(1000),
  }),
);

it("frames against a set", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
      const memory = new HostMemory(MAX_FRAMES * 4096);
      const frames = new FrameAllocator(memory, K4);
      const used = new Set<number>();
      const runs: { first: number; count: number }[] = [];
      for (const todo of steps) {
        if (todo.op === "allocate") {
          const pa = frames.allocate(todo.count, todo.align);
          if (pa < 0) continue;
          const first = pa / 4096;
          expect(first >= 1 && first + todo.count <= MAX_FRAMES).toBe(true);
          expect(first % todo.align).toBe(0);
          for (let frame = first; frame < first + todo.count; frame++) {
            if (used.has(frame)) throw new Error(`frame ${frame} has an owner`);
            used.add(frame);
          }
          const bytes = memory.u8.subarray(pa, pa + todo.count * 4096);
          expect(bytes.every((byte) => byte === 0)).toBe(true);
          bytes.fill(0xee);
          runs.push({ first, count: todo.count });
        } else if (runs.length > 0) {
          const [run] = runs.splice(todo.which % runs.length, 1);
          const count = 1 + (todo.part % run!.count);
          if (count < run!.count)
            runs.push({ first: run!.first + count, count: run!.count - count });
          frames.release(run!.first * 4096, count);
          for (let at = 0; at < count; at++) used.delete(run!.first + at);
        }
        expect(frames.used).toBe(used.size);
      }
      for (const { first, count } of runs) frames.release(first * 4096, count);
      expect(frames.used).toBe(0);
      expect(memory.u8.every((byte) => byte === 0)).toBe(true);
    }),
    { numRuns: 30 },
  );
});

it("gives the same addresses for the same requests, also after a round trip", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: "max" }), fc.nat(40), (steps, cut) => {
      const build = () => {
        const frames = new FrameAllocator(new HostMemory(MAX_FRAMES * 4096), K4);
        return { frames, live: [] as [number, number][] };
      };
      type Built = ReturnType<typeof build>;
      const apply = ({ frames, live }: Built, todo: (typeof steps)[number]) => {
        if (todo.op === "allocate") {
          const pa = frames.allocate(todo.count, todo.align);
          if (pa >= 0) live.push([pa, todo.count]);
          return pa;
        }
        const [run] = live.splice(todo.which % Math.max(1, live.length), 1);
        if (run !== undefined) frames.release(run[0], run[1]);
        return 0;
      };
      const one = build();
      const two = build();
      for (const todo of steps.slice(0, cut)) expect(apply(two, todo)).toBe(apply(one, todo));
      const copy = build();
      copy.frames.load(one.frames.save());
      copy.live.push(...one.live);
      // The allocator's own state does not hold the bytes.
      for (const todo of steps.slice(cut)) expect(apply(copy, todo)).toBe(apply(one, todo));
      expect(digestOf([copy.frames.save()])).toBe(digestOf([one.frames.save()]));
    }),
    { numRuns: 40 },
  );
});
