// Owns: the shape in which every stateful part is saved, and the digest over it (DESIGN 13).
// Runs on any thread.

/** What one part saves. `data` holds only JSON values, bigint and Uint8Array. */
export interface Saved {
  readonly kind: string;
  readonly version: number;
  readonly data: unknown;
}

/** A part with a round trip: load(save()) gives the same digest. */
export interface Stateful {
  save(): Saved;
  load(saved: Saved): void;
}

/**
 * 64-bit FNV-1a over a canonical walk of a saved value (object keys sorted).
 * Our choice: not cryptographic; it detects divergence between two runs of our own code.
 */
export class Digest {
  #lo = 0x84222325;
  #hi = 0xcbf29ce4;

  bytes(data: Uint8Array): void {
    let lo = this.#lo;
    let hi = this.#hi;
    for (let i = 0; i < data.length; i++) {
      lo = (lo ^ data[i]!) >>> 0;
      // Multiply by the FNV prime 0x100000001b3 modulo 2^64, in halves.
      const low = Math.imul(lo, 0x1b3) >>> 0;
      const carry = Math.floor((lo * 0x1b3) / 0x1_0000_0000);
      hi = (Math.imul(hi, 0x1b3) + carry + (lo << 8)) >>> 0;
      lo = low;
    }
    this.#lo = lo;
    this.#hi = hi;
  }

  text(value: string): void {
    this.bytes(new TextEncoder().encode(value));
  }

  value(value: unknown): void {
    if (value instanceof Uint8Array) {
      this.text(`b${value.length}:`);
      this.bytes(value);
    } else if (Array.isArray(value)) {
      this.text(`[${value.length}`);
      for (const item of value) this.value(item);
    } else if (typeof value === "object" && value !== null) {
      const keys = Object.keys(value).sort();
      this.text(`{${keys.length}`);
      for (const key of keys) {
        this.text(key);
        this.value((value as Record<string, unknown>)[key]);
      }
    } else {
      this.text(`${typeof value}:${String(value)};`);
    }
  }

  /** @returns 16 hex digits. */
  hex(): string {
    return this.#hi.toString(16).padStart(8, "0") + this.#lo.toString(16).padStart(8, "0");
  }
}

export function digestOf(saved: readonly Saved[]): string {
  const digest = new Digest();
  digest.value(saved.map((s) => ({ kind: s.kind, version: s.version, data: s.data })));
  return digest.hex();
}
