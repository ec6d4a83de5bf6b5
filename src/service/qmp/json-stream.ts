// Owns: where one JSON value ends and the next begins in a stream of bytes, however it is cut. What
// lies between two values may be nothing at all. HTTP thread.
//
//   bytes ─▶ between values ─▶ in a value: depth, strings, escapes ─▶ text of one value
//                                  │ too long: goes on to its end, keeps nothing
import { COMMAND_BYTES_MAX, NESTING_MAX } from "./limits.js";

/** The text of one value, or why there is none; then the stream goes on behind it. */
export type Piece = { readonly text: string } | { readonly wrong: string };

const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const BACKSLASH = 0x5c;
const OPEN = new Set([0x7b, 0x5b]);
const CLOSE = new Set([0x7d, 0x5d]);
const SPACES = new Set([0x20, 0x09, 0x0a, 0x0d]);

/** What ends a word or a number that stands alone. */
const endsWord = (byte: number): boolean =>
  SPACES.has(byte) || OPEN.has(byte) || CLOSE.has(byte) || byte === QUOTE || byte === APOSTROPHE;

export class JsonStream {
  readonly #max: number;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true });
  #bytes = new Uint8Array(1024);
  #length = 0;
  #isTooLong = false;
  #depth = 0;
  /** The quote that ends the present string; 0: none is open. */
  #quote = 0;
  #isEscaped = false;

  constructor(max = COMMAND_BYTES_MAX) {
    this.#max = max;
  }

  /** What ended with these bytes; to be taken one by one. */
  *take(bytes: Uint8Array): Generator<Piece> {
    for (const byte of bytes) {
      // A word or number that stands alone ends before the byte that shows it.
      if (this.#isWord && endsWord(byte)) yield this.#end();
      const piece = this.#quote === 0 ? this.#outside(byte) : this.#inString(byte);
      if (piece !== null) yield piece;
    }
  }

  get #isWord(): boolean {
    return this.#length > 0 && this.#depth === 0 && this.#quote === 0;
  }

  #outside(byte: number): Piece | null {
    if (this.#depth === 0) {
      if (SPACES.has(byte)) return null;
      if (CLOSE.has(byte)) return { wrong: "A value can't begin with a bracket that closes." };
    }
    this.#keep(byte);
    if (byte === QUOTE || byte === APOSTROPHE) this.#quote = byte;
    else if (OPEN.has(byte)) return this.#deeper();
    else if (CLOSE.has(byte)) {
      this.#depth -= 1;
      if (this.#depth === 0) return this.#end();
    }
    return null;
  }

  #inString(byte: number): Piece | null {
    if (byte < 0x20) {
      // So that a string that nobody ended doesn't swallow what follows.
      this.#reset();
      return { wrong: "A string has a control character in it." };
    }
    this.#keep(byte);
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === this.#quote) {
      this.#quote = 0;
      if (this.#depth === 0) return this.#end();
    }
    return null;
  }

  #deeper(): Piece | null {
    this.#depth += 1;
    if (this.#depth <= NESTING_MAX) return null;
    this.#reset();
    return { wrong: `It is nested deeper than ${NESTING_MAX}.` };
  }

  #keep(byte: number): void {
    if (this.#isTooLong) return;
    if (this.#length === this.#max) {
      this.#isTooLong = true;
      return;
    }
    if (this.#length === this.#bytes.length) {
      const larger = new Uint8Array(Math.min(this.#length * 2, this.#max));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[this.#length] = byte;
    this.#length += 1;
  }

  #end(): Piece {
    const bytes = this.#bytes.subarray(0, this.#length);
    const isTooLong = this.#isTooLong;
    this.#reset();
    if (isTooLong) return { wrong: `A command may have ${this.#max} bytes; this one has more.` };
    try {
      return { text: this.#utf8.decode(bytes) };
    } catch {
      return { wrong: "It is no UTF-8." };
    }
  }

  #reset(): void {
    this.#length = 0;
    this.#isTooLong = false;
    this.#depth = 0;
    this.#quote = 0;
    this.#isEscaped = false;
  }
}
