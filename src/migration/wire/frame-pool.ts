// Owns: the buffers of frames, in a WebAssembly memory of their own, where a kernel sums them.
// Data-plane thread, or inline.
import { WASM_PAGE_BYTES } from "../../base/page.js";
import { CONTENT_BYTES_MAX, CONTENT_RUNS_MAX, FRAME_HEADER_BYTES, RUN_BYTES } from "./frame.js";
import { type PageKernel, pageKernel } from "./page-kernel.js";

/** Bytes of a line of any machine's cache, or some of them. */
const LINE_BYTES = 128;
/** Where content begins in a buffer, behind room for header and runs. */
export const CONTENT_AT = ceil(FRAME_HEADER_BYTES + CONTENT_RUNS_MAX * RUN_BYTES, LINE_BYTES);

const BUFFER_BYTES = ceil(CONTENT_AT + CONTENT_BYTES_MAX + CONTENT_RUNS_MAX * 4, WASM_PAGE_BYTES);
const BUFFER_PAGES = BUFFER_BYTES / WASM_PAGE_BYTES;
const MEMORY_PAGES_MAX = 2 ** 32 / WASM_PAGE_BYTES;

/** Room for one frame. */
export interface FrameBuffer {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  /** Address of the first byte, as the kernel counts. */
  readonly at: number;
}

/** As many buffers as were ever used at a time. They are shared memory, so that it can grow. */
export class FramePool {
  readonly #memory: WebAssembly.Memory;
  readonly #free: FrameBuffer[] = [];
  readonly kernel: PageKernel;

  constructor() {
    const limits = { initial: BUFFER_PAGES, maximum: MEMORY_PAGES_MAX, shared: true };
    this.#memory = new WebAssembly.Memory(limits);
    this.kernel = pageKernel(this.#memory);
    this.#free.push(this.#buffer(0));
  }

  take(): FrameBuffer {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    return this.#buffer(this.#memory.grow(BUFFER_PAGES) * WASM_PAGE_BYTES);
  }

  #buffer(at: number): FrameBuffer {
    const { buffer } = this.#memory;
    const bytes = new Uint8Array(buffer, at, BUFFER_BYTES);
    return { bytes, words: new Uint32Array(buffer, at, BUFFER_BYTES / 4), at };
  }

  give(buffer: FrameBuffer): void {
    this.#free.push(buffer);
  }
}

function ceil(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}
