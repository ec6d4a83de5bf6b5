// Owns: bytes that a VM's thread fills and the HTTP thread reads and gives back, so that large
// answers move without a copy and need no fresh memory each time. Lent on a VM's thread, given back
// on the HTTP thread.
//
//   byte 0 ─ lent: 1 from lend() to giveBack()      8 ─ the bytes
//
// Nobody must give back: until then the lender helps itself elsewhere.

const HEADER_BYTES = 8;

/** Whether bytes are lent, by where they lie. */
export function isLent(bytes: ArrayBufferView): boolean {
  return bytes.buffer instanceof SharedArrayBuffer && bytes.byteOffset === HEADER_BYTES;
}

/** Bytes that every thread may read where they are; nobody changes them once they are filled. */
export function sharedBytes(length: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(HEADER_BYTES + length), HEADER_BYTES);
}

/** The reader is done: from now on the bytes change. Bytes that are not lent stay its own. */
export function giveBack(bytes: Uint8Array): void {
  if (isLent(bytes)) Atomics.store(new Int32Array(bytes.buffer, 0, 1), 0, 0);
}

function take(buffer: SharedArrayBuffer): boolean {
  return Atomics.compareExchange(new Int32Array(buffer, 0, 1), 0, 0, 1) === 0;
}

/** A few buffers, each of the size that was asked for last. */
export class Lender {
  readonly #buffers: (SharedArrayBuffer | null)[];

  /** @param count buffers at most */
  constructor(count: number) {
    this.#buffers = new Array<SharedArrayBuffer | null>(count).fill(null);
  }

  /**
   * Lends bytes that the caller must fill whole: they hold what they held last.
   * @returns null when all are lent
   */
  lend(bytes: number): Uint8Array | null {
    for (const [at, buffer] of this.#buffers.entries()) {
      if (buffer !== null && !take(buffer)) continue;
      if (buffer?.byteLength === HEADER_BYTES + bytes) return new Uint8Array(buffer, HEADER_BYTES);
      const other = new SharedArrayBuffer(HEADER_BYTES + bytes);
      take(other);
      this.#buffers[at] = other;
      return new Uint8Array(other, HEADER_BYTES);
    }
    return null;
  }
}
