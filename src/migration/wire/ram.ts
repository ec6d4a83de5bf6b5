// Owns: the bytes of a VM's RAM as the data plane sees them, beside the VM's thread. Any thread.
import { assert } from "../../base/assert.js";
import type { MemoryMap } from "../../runtime/index.js";
import { type PageKernel, pageKernel } from "./page-kernel.js";

export type RamBlock = MemoryMap["blocks"][number];

/**
 * Copies all of `from` to `to`, of the same length. V8 copies to and from shared memory word by
 * word (TypedArray's set: a third of a source's time); Buffer's fill is the C library's memcpy.
 */
export function copyBytes(from: Uint8Array, to: Uint8Array): void {
  if (from.length === 0) return;
  assert(from.length === to.length, "a copy needs as much room as it has bytes");
  Buffer.prototype.fill.call(to, from as unknown as string);
}

/** A stretch of a shared memory, to land in. */
export interface Landing {
  readonly bytes: Uint8Array;
  /** Its address there, as the kernel counts. */
  readonly at: number;
  readonly kernel: PageKernel;
}

/** Views that follow the memory as it grows. */
export class Ram {
  readonly #memory: MemoryMap["memory"];
  readonly #kernel: PageKernel;
  readonly pageSize: number;
  #buffer: SharedArrayBuffer | null = null;
  #bytes = Buffer.alloc(0);
  #words: Uint32Array = new Uint32Array(0);

  constructor(map: MemoryMap) {
    this.#memory = map.memory;
    this.pageSize = map.pageSize;
    this.#kernel = pageKernel(map.memory);
  }

  /** Reads `.buffer` anew: once for every frame, not for every page. */
  refresh(): void {
    const { buffer } = this.#memory;
    if (buffer === this.#buffer) return;
    this.#buffer = buffer;
    this.#bytes = Buffer.from(buffer as unknown as ArrayBuffer);
    this.#words = new Uint32Array(buffer);
  }

  /** Bytes of [pa, pa + bytes); a window, not a copy. */
  bytes(pa: number, bytes: number): Uint8Array {
    return this.#bytes.subarray(pa, pa + bytes);
  }

  words(pa: number, bytes: number): Uint32Array {
    return this.#words.subarray(pa / 4, (pa + bytes) / 4);
  }

  /** Copies [pa, pa + out.length) to `out`. */
  copyOut(pa: number, out: Uint8Array): void {
    copyBytes(this.bytes(pa, out.length), out);
  }

  /** The same bytes as content lands in them. */
  landing(pa: number, bytes: number): Landing {
    return { bytes: this.bytes(pa, bytes), at: pa, kernel: this.#kernel };
  }

  /** Pages from `pa` on that hold nothing but zeros, as far as one look can tell. */
  zeroPages(pa: number, pages: number): number {
    return this.#kernel.zeroPages(pa, pages, this.pageSize);
  }

  /** Pages from `pa` on that hold anything else. */
  dataPages(pa: number, pages: number): number {
    return this.#kernel.dataPages(pa, pages, this.pageSize);
  }

  /** Whether this memory has the whole block. */
  holds(block: RamBlock): boolean {
    this.refresh();
    return block.pa + block.bytes <= this.#bytes.length;
  }
}
