// Owns: which physical frames of a slice are in use. VM thread.
import { assert } from "../base/assert.js";
import type { PageGeometry } from "../base/page.js";
import type { Saved } from "../base/saved.js";
import { type HostMemory, UNBACKED_BASE } from "./host-memory.js";

/** Free run of frames: [first frame, count]. */
type Extent = [number, number];

/**
 * Hands out zeroed frames: first fit over sorted free extents, growing the memory at its end.
 * Deterministic: the same requests give the same addresses.
 */
export class FrameAllocator {
  readonly #memory: HostMemory;
  readonly #geometry: PageGeometry;
  /** Frames below this have been handed out at least once. Frame 0 stays reserved. */
  #top = 1;
  #free: Extent[] = [];
  #used = 0;

  /** Told of frames that are given back. */
  onRelease: ((pa: number, bytes: number) => void) | null = null;

  constructor(memory: HostMemory, geometry: PageGeometry) {
    this.#memory = memory;
    this.#geometry = geometry;
  }

  /** Frames in use. */
  get used(): number {
    return this.#used;
  }

  /**
   * Allocates `count` neighbouring zeroed frames, at a multiple of `alignFrames` frames.
   * @returns physical address of the first, or -1 when the memory can't grow
   */
  allocate(count: number, alignFrames = 1): number {
    assert(count > 0, "an allocation has at least one frame");
    const frame = this.#takeFree(count, alignFrames) ?? this.#takeTop(count, alignFrames);
    if (frame === undefined) return -1;
    this.#used += count;
    return frame * this.#geometry.size;
  }

  /** Returns frames; they are zeroed now so that a stale reader sees nothing of the old owner. */
  release(pa: number, count: number): void {
    const { size } = this.#geometry;
    const frame = pa / size;
    assert(frame >= 1 && frame + count <= this.#top, "released frames were never allocated");
    this.#memory.u8.fill(0, pa, pa + count * size);
    this.onRelease?.(pa, count * size);
    this.#used -= count;
    let at = this.#free.findIndex((extent) => extent[0] > frame);
    if (at < 0) at = this.#free.length;
    this.#free.splice(at, 0, [frame, count]);
    this.#mergeAround(at);
  }

  #mergeAround(at: number): void {
    for (const i of [at, at - 1]) {
      const left = this.#free[i];
      const right = this.#free[i + 1];
      if (left === undefined || right === undefined) continue;
      assert(left[0] + left[1] <= right[0], "frames released twice");
      if (left[0] + left[1] === right[0]) {
        left[1] += right[1];
        this.#free.splice(i + 1, 1);
      }
    }
  }

  #takeFree(count: number, alignFrames: number): number | undefined {
    for (let i = 0; i < this.#free.length; i++) {
      const extent = this.#free[i]!;
      const [first, length] = extent;
      const start = Math.ceil(first / alignFrames) * alignFrames;
      if (start + count > first + length) continue;
      const parts: Extent[] = [];
      if (start > first) parts.push([first, start - first]);
      if (start + count < first + length) {
        parts.push([start + count, first + length - start - count]);
      }
      this.#free.splice(i, 1, ...parts);
      return start;
    }
    return undefined;
  }

  #takeTop(count: number, alignFrames: number): number | undefined {
    const start = Math.ceil(this.#top / alignFrames) * alignFrames;
    const end = (start + count) * this.#geometry.size;
    if (end > UNBACKED_BASE || !this.#memory.ensure(end)) return undefined;
    if (start > this.#top) this.#free.push([this.#top, start - this.#top]);
    this.#top = start + count;
    return start;
  }

  save(): Saved {
    const free = this.#free.map((extent) => [...extent]);
    return { kind: "frames", version: 1, data: { top: this.#top, used: this.#used, free } };
  }

  load(saved: Saved): void {
    const data = saved.data as { top: number; used: number; free: Extent[] };
    this.#top = data.top;
    this.#used = data.used;
    this.#free = data.free.map((extent) => [extent[0], extent[1]]);
  }
}
