// Owns: a flattened device tree, version 17: writing one, and finding a node in one. Any thread.
//
//   header ─ reservation map ─ structure block ─ strings block
// @source Devicetree Specification 0.4, chapter 5

const MAGIC = 0xd00d_feed;
const VERSION = 17;
const COMPATIBLE_VERSION = 16;
const HEADER_BYTES = 40;
/** One entry of zeros ends the map: nothing is reserved. */
const RESERVATIONS_BYTES = 16;
const TOKEN = { beginNode: 1, endNode: 2, prop: 3, end: 9 } as const;

const encoder = new TextEncoder();

/** Bytes that grow, big-endian words aligned to four. */
class Bytes {
  #data = new Uint8Array(1024);
  length = 0;

  add(bytes: Uint8Array): void {
    while (this.length + bytes.length > this.#data.length) {
      const grown = new Uint8Array(this.#data.length * 2);
      grown.set(this.#data);
      this.#data = grown;
    }
    this.#data.set(bytes, this.length);
    this.length += bytes.length;
  }

  word(value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value);
    this.add(bytes);
  }

  align(): void {
    this.add(new Uint8Array(-this.length & 3));
  }

  taken(): Uint8Array {
    return this.#data.slice(0, this.length);
  }
}

/** Writes nodes and properties in the order in which they are to stand. */
export class FdtWriter {
  readonly #structure = new Bytes();
  readonly #strings = new Bytes();
  readonly #offsets = new Map<string, number>();

  /** A node with what `inside` writes. */
  node(name: string, inside: () => void): void {
    this.#structure.word(TOKEN.beginNode);
    this.#structure.add(encoder.encode(`${name}\0`));
    this.#structure.align();
    inside();
    this.#structure.word(TOKEN.endNode);
  }

  bytes(name: string, value: Uint8Array): void {
    this.#structure.word(TOKEN.prop);
    this.#structure.word(value.length);
    this.#structure.word(this.#string(name));
    this.#structure.add(value);
    this.#structure.align();
  }

  /** Strings, each with its end. */
  text(name: string, ...values: readonly string[]): void {
    this.bytes(name, encoder.encode(values.map((value) => `${value}\0`).join("")));
  }

  cells(name: string, ...values: readonly number[]): void {
    const bytes = new Uint8Array(4 * values.length);
    const view = new DataView(bytes.buffer);
    for (const [i, value] of values.entries()) view.setUint32(4 * i, value);
    this.bytes(name, bytes);
  }

  /** Numbers of two cells each. */
  cells64(name: string, ...values: readonly number[]): void {
    this.cells(name, ...values.flatMap((v) => [Math.floor(v / 2 ** 32), v % 2 ** 32]));
  }

  /** @returns the blob; its size is what it needs, without room to grow */
  finish(): Uint8Array {
    const structure = this.#structure.taken();
    const strings = this.#strings.taken();
    const structureAt = HEADER_BYTES + RESERVATIONS_BYTES;
    const structureBytes = structure.length + 4;
    const stringsAt = structureAt + structureBytes;
    const total = stringsAt + strings.length;
    const out = new Bytes();
    const header = [MAGIC, total, structureAt, stringsAt, HEADER_BYTES];
    for (const word of header) out.word(word);
    for (const word of [VERSION, COMPATIBLE_VERSION, 0, strings.length, structureBytes]) {
      out.word(word);
    }
    out.add(new Uint8Array(RESERVATIONS_BYTES));
    out.add(structure);
    out.word(TOKEN.end);
    out.add(strings);
    return out.taken();
  }

  #string(name: string): number {
    const known = this.#offsets.get(name);
    if (known !== undefined) return known;
    const at = this.#strings.length;
    this.#strings.add(encoder.encode(`${name}\0`));
    this.#offsets.set(name, at);
    return at;
  }
}

const decoder = new TextDecoder();

/** The string that begins at an offset. */
function textAt(blob: Uint8Array, at: number): string {
  return decoder.decode(blob.subarray(at, blob.indexOf(0, at)));
}

/**
 * @returns properties of the first node whose `compatible` holds the string; null: there is none
 */
export function findCompatible(
  blob: Uint8Array,
  compatible: string,
): ReadonlyMap<string, Uint8Array> | null {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const stringsAt = view.getUint32(12); // tidy: offset in the header
  const open: Map<string, Uint8Array>[] = [];
  for (let at = view.getUint32(8); ; ) {
    const token = view.getUint32(at);
    at += 4;
    if (token === TOKEN.end) return null;
    if (token === TOKEN.beginNode) {
      open.push(new Map());
      at = (blob.indexOf(0, at) + 4) & ~3;
    } else if (token === TOKEN.endNode) {
      const node = open.pop() ?? new Map<string, Uint8Array>();
      const names = decoder.decode(node.get("compatible") ?? new Uint8Array());
      if (names.split("\0").includes(compatible)) return node;
    } else if (token === TOKEN.prop) {
      const length = view.getUint32(at);
      const name = textAt(blob, stringsAt + view.getUint32(at + 4));
      open.at(-1)?.set(name, blob.subarray(at + 8, at + 8 + length));
      at = (at + 8 + length + 3) & ~3;
    }
  }
}
