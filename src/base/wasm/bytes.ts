// Owns: growing byte buffers and LEB128, the alphabet of a WebAssembly binary. Any thread.
import { assert } from "../assert.js";

/** Bytes in the order in which they are appended. */
export class ByteWriter {
  #bytes = new Uint8Array(256);
  length = 0;

  #room(count: number): void {
    if (this.length + count <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.length + count));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }

  byte(value: number): void {
    this.#room(1);
    this.#bytes[this.length++] = value;
  }

  bytes(values: ArrayLike<number>): void {
    this.#room(values.length);
    this.#bytes.set(values, this.length);
    this.length += values.length;
  }

  /** Unsigned LEB128 of an integer below 2^53. */
  unsigned(value: number): void {
    let rest = value;
    while (rest > 0x7f) {
      this.byte((rest & 0x7f) | 0x80);
      rest = rest > 0x7fff_ffff ? Math.floor(rest / 128) : rest >>> 7;
    }
    this.byte(rest);
  }

  /** Signed LEB128 of an i32. */
  signed32(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  /** Signed LEB128 of an i64 given in two halves; no BigInt, which would dominate a translation. */
  signed64(lo: number, hi: number): void {
    let low = lo | 0;
    let high = hi | 0;
    for (;;) {
      const bits = low & 0x7f;
      low = (low >>> 7) | (high << 25);
      high >>= 7;
      const isLast =
        (low === 0 && high === 0 && (bits & 0x40) === 0) ||
        (low === -1 && high === -1 && (bits & 0x40) !== 0);
      this.byte(isLast ? bits : bits | 0x80);
      if (isLast) return;
    }
  }

  text(value: string): void {
    const encoded = new TextEncoder().encode(value);
    this.unsigned(encoded.length);
    this.bytes(encoded);
  }

  /** A section or body: its size, then its bytes. */
  sized(inner: ByteWriter): void {
    this.unsigned(inner.length);
    this.bytes(inner.view());
  }

  /** The bytes so far; valid until the next append. */
  view(): Uint8Array {
    assert(this.length <= this.#bytes.length, "a writer never reads past its end");
    return this.#bytes.subarray(0, this.length);
  }
}
