// Owns: two VMs' memories for page streams: maps with RAM and unbacked blocks, sequences, content.
import { Prng } from "../../src/base/prng.js";
import { UNBACKED_BASE } from "../../src/base/unbacked-content.js";
import type { IncomingSpec, OutgoingSpec, Sequences } from "../../src/migration/ports.js";
import { STREAM_VERSIONS } from "../../src/migration/wire/frame.js";
import type { DirtyPages, MemoryMap } from "../../src/runtime/index.js";

const WASM_PAGE = 65_536;
const NEWEST = STREAM_VERSIONS[0]!;

/** Write sequences of unbacked blocks, as the VM would keep them. */
export class FakeSequences implements Sequences {
  readonly numbers = new Map<number, Uint32Array>();
  readCount = 0;
  writeCount = 0;
  /** Awaited by every write. */
  hold: Promise<void> = Promise.resolve();

  constructor(map: MemoryMap) {
    for (const { object, backing, bytes } of map.blocks) {
      if (backing === "unbacked") this.numbers.set(object, new Uint32Array(bytes / map.pageSize));
    }
  }

  async read(object: number, first: number, count: number): Promise<Uint32Array> {
    this.readCount += 1;
    return this.numbers.get(object)!.slice(first, first + count);
  }

  async write(object: number, pages: Uint32Array, sequences: Uint32Array): Promise<void> {
    this.writeCount += 1;
    await this.hold;
    const numbers = this.numbers.get(object)!;
    for (const [i, page] of pages.entries()) numbers[page] = sequences[i]!;
  }
}

export interface Side {
  readonly map: MemoryMap;
  readonly sequences: FakeSequences;
  readonly bytes: Uint8Array;
}

export interface Shape {
  readonly pageSize?: number;
  readonly ramPages?: number;
  readonly unbackedPages?: number;
  /** Where RAM begins: sides may differ. */
  readonly pa?: number;
}

/** Objects: 1 RAM, 2 unbacked, 3 of a device (never sent). */
export function side(shape: Shape = {}): Side {
  const { pageSize = 4096, ramPages = 64, unbackedPages = 32, pa = pageSize } = shape;
  const pages = Math.ceil((pa + ramPages * pageSize) / WASM_PAGE);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65_536, shared: true });
  const map: MemoryMap = {
    pageSize,
    memory,
    unbackedSeed: 0x1234_5678,
    blocks: [
      { object: 1, bytes: ramPages * pageSize, backing: "ram" as const, pa, contentPage: 0 },
      {
        object: 2,
        bytes: unbackedPages * pageSize,
        backing: "unbacked" as const,
        pa: UNBACKED_BASE + 16 * pageSize,
        contentPage: 16,
      },
      {
        object: 3,
        bytes: pageSize,
        backing: "device" as const,
        pa: UNBACKED_BASE * 2,
        contentPage: 0,
      },
    ].filter(({ bytes }) => bytes > 0),
  };
  const sequences = new FakeSequences(map);
  return { map, sequences, bytes: new Uint8Array(memory.buffer, pa, ramPages * pageSize) };
}

/** Fills the RAM: about a third zeros, a third text-like, a third noise; some sequences. */
export function fill({ map, sequences, bytes }: Side, seed: bigint): void {
  const prng = new Prng(seed);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const perPage = map.pageSize / 4;
  for (let page = 0; page < words.length / perPage; page++) {
    const kind = prng.below(3);
    const at = words.subarray(page * perPage, (page + 1) * perPage);
    if (kind === 0) at.fill(0);
    else for (let i = 0; i < perPage; i++) at[i] = kind === 1 ? (i >> 4) * 3 + page : prng.u32();
  }
  for (const numbers of sequences.numbers.values()) {
    for (let i = 0; i < numbers.length; i++) numbers[i] = prng.below(2) * prng.below(1000);
  }
}

/** Stores to some pages. @returns the same pages as a harvest would tell them */
export function dirty(one: Side, prng: Prng, count: number): DirtyPages {
  const { map, bytes, sequences } = one;
  const ram = bytes.length / map.pageSize;
  const numbers = sequences.numbers.get(2) ?? new Uint32Array(0);
  const bitmaps = [
    new Uint8Array(Math.ceil(ram / 8)),
    new Uint8Array(Math.ceil(numbers.length / 8)),
  ];
  for (let i = 0; i < count; i++) {
    const isRam = numbers.length === 0 || prng.below(3) > 0;
    const page = prng.below(isRam ? ram : numbers.length);
    bitmaps[isRam ? 0 : 1]![page >> 3]! |= 1 << (page & 7);
    if (!isRam) numbers[page]! += 1;
    else if (prng.below(5) === 0) bytes.fill(0, page * map.pageSize, (page + 1) * map.pageSize);
    else
      for (let k = 0; k < 9; k++)
        bytes[page * map.pageSize + prng.below(map.pageSize)] = prng.u32();
  }
  const blocks = [
    { object: 1, pages: ram, bitmap: bitmaps[0]! },
    { object: 2, pages: numbers.length, bitmap: bitmaps[1]! },
  ].filter(({ bitmap }) => bitmap.some((byte) => byte !== 0));
  return { blocks, pages: count };
}

export function isSame(a: Side, b: Side): boolean {
  if (Buffer.compare(a.bytes, b.bytes) !== 0) return false;
  return [...a.sequences.numbers].every(([object, numbers]) => {
    const others = b.sequences.numbers.get(object)!;
    return numbers.every((number, page) => others[page] === number);
  });
}

export function outgoingSpec(
  from: Side,
  to: { readonly url: string; readonly secret: string },
  over: Partial<OutgoingSpec> = {},
): OutgoingSpec {
  return {
    session: "mig_1",
    stream: NEWEST,
    url: to.url,
    secret: to.secret,
    trust: null,
    channels: 1,
    compression: "none",
    deltaCacheBytes: 2 ** 26,
    bandwidthBytesPerSecond: 0,
    memory: from.map,
    sequences: from.sequences,
    ...over,
  };
}

export function incomingSpec(to: Side, over: Partial<IncomingSpec> = {}): IncomingSpec {
  const { map: memory, sequences } = to;
  return { session: "mig_1", stream: NEWEST, channels: 1, memory, sequences, ...over };
}
