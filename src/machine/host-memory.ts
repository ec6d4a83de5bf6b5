// Owns: the physical memory of one VM's slice below 4 GiB, as bytes (DESIGN 5). VM thread writes;
// other threads may read.
//
//   pa 0 ─ first page, never handed out: a write there is a bug that a test can see
//   pa …  guest RAM, stage-2 tables, bitmaps, rings, in the order of allocation
//   4 GiB ─ here begins unbacked memory (unbacked-memory.ts)
import { assert } from "../base/assert.js";
import { hi32, join64, lo32 } from "../base/bits.js";
import { WASM_PAGE_BYTES } from "../base/page.js";
import { Digest, type Saved } from "../base/saved.js";
import { UNBACKED_BASE } from "../base/unbacked-content.js";

export { UNBACKED_BASE };

/**
 * One shared WebAssembly.Memory, grown as needed and freed with the VM.
 * The views change when the memory grows: read `u8` and `u32` anew after any allocation.
 */
export class HostMemory {
  readonly memory: WebAssembly.Memory;
  u8: Uint8Array;
  u32: Uint32Array;

  constructor(maximumBytes: number) {
    const maximum = Math.ceil(maximumBytes / WASM_PAGE_BYTES);
    assert(maximum >= 1 && maximumBytes <= UNBACKED_BASE, "memory limit is not within 4 GiB");
    this.memory = new WebAssembly.Memory({ initial: 1, maximum, shared: true });
    this.u8 = new Uint8Array(this.memory.buffer);
    this.u32 = new Uint32Array(this.memory.buffer);
  }

  get bytes(): number {
    return this.u8.length;
  }

  /** Grows to at least `bytes`. @returns false when the maximum or the machine says no. */
  ensure(bytes: number): boolean {
    if (bytes <= this.u8.length) return true;
    const more = Math.ceil((bytes - this.u8.length) / WASM_PAGE_BYTES);
    try {
      this.memory.grow(more);
    } catch {
      return false;
    }
    this.u8 = new Uint8Array(this.memory.buffer);
    this.u32 = new Uint32Array(this.memory.buffer);
    return true;
  }

  /** Reads a 64-bit word whose value is below 2^53 (a table address, never a descriptor). */
  readAddress(pa: number): number {
    return join64(this.u32[pa >>> 2]!, this.u32[(pa >>> 2) + 1]!);
  }

  /** TableMemory: a word at any address. @returns -1 where there is no memory */
  read32(pa: number): number {
    return pa < this.u8.length ? this.u32[pa / 4]! : -1;
  }

  write32(pa: number, word: number): void {
    if (pa < this.u8.length) this.u32[pa / 4] = word;
  }

  read64(pa: number): bigint {
    return (BigInt(this.u32[(pa >>> 2) + 1]!) << 32n) | BigInt(this.u32[pa >>> 2]!);
  }

  write64(pa: number, value: bigint): void {
    this.u32[pa >>> 2] = Number(value & 0xffff_ffffn);
    this.u32[(pa >>> 2) + 1] = Number(value >> 32n);
  }

  writeAddress(pa: number, value: number): void {
    this.u32[pa >>> 2] = lo32(value);
    this.u32[(pa >>> 2) + 1] = hi32(value);
  }

  /**
   * Bytes that are caches: they are no state, so they are neither saved nor counted in a digest.
   * Whoever owns them makes them anew after a load.
   */
  readonly caches: { readonly at: number; readonly bytes: number }[] = [];

  save(): Saved {
    const bytes = this.u8.slice();
    for (const cache of this.caches) bytes.fill(0, cache.at, cache.at + cache.bytes);
    return { kind: "host-memory", version: 1, data: { bytes } };
  }

  load(saved: Saved): void {
    const { bytes } = saved.data as { bytes: Uint8Array };
    assert(this.ensure(bytes.length), "a saved memory does not fit");
    this.u8.fill(0);
    this.u8.set(bytes);
  }

  /** Word-wise digest of everything; zeros included, so growth alone changes nothing. */
  digest(): string {
    let a = 0x9e37_79b9;
    let b = 0x85eb_ca6b;
    const words = this.u32;
    const caches = [...this.caches].sort((x, y) => x.at - y.at);
    let next = 0;
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!;
      if (word === 0) continue;
      while (next < caches.length && i * 4 >= caches[next]!.at + caches[next]!.bytes) next++;
      const cache = caches[next];
      if (cache !== undefined && i * 4 >= cache.at) {
        i = (cache.at + cache.bytes) / 4 - 1;
        continue;
      }
      a = Math.imul(a ^ word, 0xcc9e_2d51) ^ i;
      b = (Math.imul(b, 0x1b87_3593) + a) | 0;
    }
    const digest = new Digest();
    digest.text(`${a >>> 0}:${b >>> 0}`);
    return digest.hex();
  }
}
