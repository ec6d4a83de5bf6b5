// Owns: the source's memory of pages as the target has them, so that only their changes go. Of a
// size that the client chooses. Data-plane thread, or inline.
//
//   index, one of each object:  page ─▶ slot + 1, 0: not remembered
//   slots:                      page's words │ whose it is │ round in which it went last
//
// A guest that goes round in more pages than fit would find each of them just forgotten, if the
// oldest gave way. So a page gives way only when it hasn't gone for two rounds, as in QEMU's cache:
// what fits stays, and the rest is sent whole.
import type { MemoryMap } from "../../runtime/index.js";

/** Slots are allocated in pieces as they fill. */
const PIECE_BYTES = 2 ** 22;
/** Rounds after which a page that didn't go may give way. @source QEMU: CACHED_PAGE_LIFETIME */
const LIFETIME_ROUNDS = 2;
/** Slots that are looked at for a page that isn't remembered. */
const LOOKS = 4;
const NOBODY = -1;

export class SentPages {
  readonly #pageWords: number;
  readonly #pieceSlots: number;
  readonly #slotsMax: number;
  readonly #indexes = new Map<number, Int32Array>();
  readonly #pieces: Uint32Array[] = [];
  readonly #objectOf: Int32Array;
  readonly #pageOf: Uint32Array;
  readonly #roundOf: Uint32Array;
  #slots = 0;
  /** Freed ones, to be filled first. */
  #free: number[] = [];
  #hand = 0;
  #round = 0;

  /** @param bytesMax of page content */
  constructor({ blocks, pageSize }: MemoryMap, bytesMax: number) {
    const ram = blocks.filter(({ backing }) => backing === "ram");
    let pages = 0;
    for (const { object, bytes } of bytesMax < pageSize ? [] : ram) {
      this.#indexes.set(object, new Int32Array(bytes / pageSize));
      pages += bytes / pageSize;
    }
    this.#pageWords = pageSize / 4;
    this.#pieceSlots = PIECE_BYTES / pageSize;
    this.#slotsMax = Math.min(pages, Math.floor(bytesMax / pageSize));
    this.#objectOf = new Int32Array(this.#slotsMax).fill(NOBODY);
    this.#pageOf = new Uint32Array(this.#slotsMax);
    this.#roundOf = new Uint32Array(this.#slotsMax);
  }

  /** Ages count in rounds. */
  beginRound(): void {
    this.#round += 1;
  }

  /** @returns its words, valid until the next `put` */
  get(object: number, page: number): Uint32Array | undefined {
    const slot = (this.#indexes.get(object)?.[page] ?? 0) - 1;
    if (slot < 0) return undefined;
    this.#roundOf[slot] = this.#round;
    return this.#words(slot);
  }

  /** A page has gone whole or changed; whether it is remembered depends on the room there is. */
  put(object: number, page: number, words: Uint32Array): void {
    const index = this.#indexes.get(object);
    if (index === undefined) return;
    let slot = (index[page] as number) - 1;
    if (slot < 0) slot = this.#room();
    if (slot < 0) return;
    this.#objectOf[slot] = object;
    this.#pageOf[slot] = page;
    this.#roundOf[slot] = this.#round;
    index[page] = slot + 1;
    this.#words(slot).set(words);
  }

  /** The target has it no more as it was. */
  forget(object: number, page: number): void {
    const index = this.#indexes.get(object);
    const slot = (index?.[page] ?? 0) - 1;
    if (index === undefined || slot < 0) return;
    index[page] = 0;
    this.#objectOf[slot] = NOBODY;
    this.#free.push(slot);
  }

  clear(): void {
    for (const index of this.#indexes.values()) index.fill(0);
    this.#objectOf.fill(NOBODY);
    this.#slots = 0;
    this.#free = [];
    this.#hand = 0;
  }

  /** @returns a slot that is nobody's, or -1 */
  #room(): number {
    const freed = this.#free.pop();
    if (freed !== undefined) return freed;
    if (this.#slots < this.#slotsMax) return this.#slots++;
    for (let look = 0; look < LOOKS && this.#slots > 0; look++) {
      const slot = this.#hand;
      this.#hand = (slot + 1) % this.#slots;
      if ((this.#roundOf[slot] as number) + LIFETIME_ROUNDS > this.#round) continue;
      const index = this.#indexes.get(this.#objectOf[slot] as number);
      if (index !== undefined) index[this.#pageOf[slot] as number] = 0;
      return slot;
    }
    return -1;
  }

  #words(slot: number): Uint32Array {
    const piece = Math.floor(slot / this.#pieceSlots);
    let words = this.#pieces[piece];
    if (words === undefined) {
      words = new Uint32Array(PIECE_BYTES / 4);
      this.#pieces[piece] = words;
    }
    const from = (slot % this.#pieceSlots) * this.#pageWords;
    return words.subarray(from, from + this.#pageWords);
  }
}
