// Owns: what a board's UART sent, the newest part of it, by absolute offset. VM thread.
import type { Saved } from "../../base/saved.js";

/** Bytes kept; older ones are lost to readers. A power of two. */
const CONSOLE_BYTES = 1 << 20;

export interface ConsoleWindow {
  /** Offset of the first byte in `bytes`. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** Oldest offset that is kept. */
  readonly oldest: number;
  /** Offset behind the newest byte. */
  readonly end: number;
}

export class Console {
  #ring = new Uint8Array(1024);
  #end = 0;

  get end(): number {
    return this.#end;
  }

  get oldest(): number {
    return Math.max(0, this.#end - CONSOLE_BYTES);
  }

  put(byte: number): void {
    if (this.#end === this.#ring.length && this.#end < CONSOLE_BYTES) {
      const grown = new Uint8Array(this.#ring.length * 2);
      grown.set(this.#ring);
      this.#ring = grown;
    }
    this.#ring[this.#end % this.#ring.length] = byte;
    this.#end++;
  }

  /** Bytes from `offset` on, at most `limit`; from the oldest where that is lost. */
  window(offset: number, limit: number): ConsoleWindow {
    const from = Math.min(Math.max(offset, this.oldest), this.#end);
    const length = Math.min(limit, this.#end - from);
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.#ring[(from + i) % this.#ring.length] ?? 0;
    return { offset: from, bytes, oldest: this.oldest, end: this.#end };
  }

  save(): Saved {
    const { bytes } = this.window(0, CONSOLE_BYTES);
    return { kind: "console", version: 1, data: { end: this.#end, bytes } };
  }

  load(saved: Saved): void {
    const { end, bytes } = saved.data as { end: number; bytes: Uint8Array };
    this.#ring = new Uint8Array(end > bytes.length ? CONSOLE_BYTES : 1024);
    this.#end = end - bytes.length;
    for (const byte of bytes) this.put(byte);
  }
}
