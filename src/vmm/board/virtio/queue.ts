// Owns: a split virtqueue: descriptors, available ring, used ring, all in the guest's memory.
// VM thread. @source Virtual I/O Device (VIRTIO) 1.2, 2.6 and 2.7
import type { Saved } from "../../../base/saved.js";
import type { GuestMemory } from "../guest-memory.js";

export const QUEUE_SIZE_MAX = 256;
/** Bytes that one chain names at most, so that a guest can't hold the thread. */
const CHAIN_BYTES_MAX = 32 * 2 ** 20;
const DESCRIPTOR_BYTES = 16; // tidy: struct virtq_desc
const USED_ELEMENT_BYTES = 8;
/** flags and idx before each ring. */
const RING_HEADER_BYTES = 4;
const FLAG = { next: 1, write: 2, indirect: 4 } as const;
const AVAIL_NO_INTERRUPT = 1;

/** The driver broke a rule; the device needs a reset. */
export class QueueBroken extends Error {
  override readonly name = "QueueBroken";
}

/** A buffer of the driver: what the device reads of it, and where it may write. */
export interface Chain {
  readonly head: number;
  readonly readable: Uint8Array;
  readonly writable: readonly { readonly at: number; readonly bytes: number }[];
  readonly writableBytes: number;
}

interface Descriptor {
  readonly at: number;
  readonly bytes: number;
  readonly flags: number;
  readonly next: number;
}

export class Virtqueue {
  readonly #memory: GuestMemory;
  /** Entries; 0 until the driver says. */
  size = 0;
  isReady = false;
  /** Addresses of the three areas. */
  descriptors = 0;
  available = 0;
  used = 0;
  /** VIRTIO_F_EVENT_IDX was negotiated. */
  hasEventIndex = false;
  #nextAvailable = 0;
  #usedIndex = 0;
  /** usedIndex of the last interrupt; null: none yet. */
  #signalled: number | null = null;
  #isUnsignalled = false;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  reset(): void {
    this.size = 0;
    this.isReady = false;
    this.descriptors = 0;
    this.available = 0;
    this.used = 0;
    this.hasEventIndex = false;
    this.#nextAvailable = 0;
    this.#usedIndex = 0;
    this.#signalled = null;
    this.#isUnsignalled = false;
  }

  /**
   * Takes the next buffer that the driver made available.
   * @throws QueueBroken; ServiceError "gpa-not-mapped"
   */
  pop(): Chain | null {
    if (!this.isReady || this.size === 0) return null;
    const pending = (this.#memory.u16(this.available + 2) - this.#nextAvailable) & 0xffff;
    if (pending === 0) return null;
    if (pending > this.size) throw new QueueBroken("more buffers than the queue has entries");
    const slot = this.#nextAvailable % this.size;
    const head = this.#memory.u16(this.available + RING_HEADER_BYTES + 2 * slot);
    this.#nextAvailable = (this.#nextAvailable + 1) & 0xffff;
    if (this.hasEventIndex) {
      const event = this.used + RING_HEADER_BYTES + USED_ELEMENT_BYTES * this.size;
      this.#memory.setU16(event, this.#nextAvailable);
    }
    return this.#chain(head);
  }

  #chain(head: number): Chain {
    const readable: Uint8Array[] = [];
    const writable: { at: number; bytes: number }[] = [];
    let total = 0;
    for (const { at, bytes, flags } of this.#walk(head)) {
      total += bytes;
      if (total > CHAIN_BYTES_MAX) throw new QueueBroken("a buffer of more than 32 MiB");
      if ((flags & FLAG.write) !== 0) writable.push({ at, bytes });
      else if (writable.length > 0) throw new QueueBroken("readable bytes behind writable ones");
      else readable.push(this.#memory.read(at, bytes));
    }
    const writableBytes = writable.reduce((sum, { bytes }) => sum + bytes, 0);
    return { head, readable: joined(readable), writable, writableBytes };
  }

  *#walk(head: number): Generator<Descriptor> {
    let table = this.descriptors;
    let count = this.size;
    let index = head;
    for (let left = count; ; left--) {
      if (index >= count || left === 0) throw new QueueBroken("a chain that leads nowhere");
      const descriptor = this.#descriptor(table + DESCRIPTOR_BYTES * index);
      if ((descriptor.flags & FLAG.indirect) !== 0) {
        const entries = descriptor.bytes / DESCRIPTOR_BYTES;
        const isFirst = table === this.descriptors;
        if (!isFirst || !Number.isInteger(entries) || entries === 0 || entries > QUEUE_SIZE_MAX) {
          throw new QueueBroken("an indirect table of a wrong size, or in another one");
        }
        table = descriptor.at;
        count = entries;
        index = 0;
        left = entries + 1;
        continue;
      }
      yield descriptor;
      if ((descriptor.flags & FLAG.next) === 0) return;
      index = descriptor.next;
    }
  }

  #descriptor(at: number): Descriptor {
    const view = new DataView(this.#memory.read(at, DESCRIPTOR_BYTES).buffer);
    return {
      at: Number(view.getBigUint64(0, true)),
      bytes: view.getUint32(8, true),
      flags: view.getUint16(12, true), // tidy: offset in the descriptor
      next: view.getUint16(14, true),
    };
  }

  /** Writes into a buffer. @returns bytes written, at most what it has room for */
  fill(chain: Chain, bytes: Uint8Array, from = 0): number {
    let skip = from;
    let done = 0;
    for (const { at, bytes: room } of chain.writable) {
      const here = Math.max(0, Math.min(room - skip, bytes.length - done));
      if (here > 0) this.#memory.write(at + skip, bytes.subarray(done, done + here));
      skip = Math.max(0, skip - room);
      done += here;
    }
    return done;
  }

  /** Gives a buffer back. @param written bytes that the device wrote into it */
  push({ head }: Chain, written: number): void {
    const element = new Uint8Array(Uint32Array.of(head, written).buffer);
    const slot = this.#usedIndex % this.size;
    this.#memory.write(this.used + RING_HEADER_BYTES + USED_ELEMENT_BYTES * slot, element);
    this.#usedIndex = (this.#usedIndex + 1) & 0xffff;
    this.#memory.setU16(this.used + 2, this.#usedIndex);
    this.#isUnsignalled = true;
  }

  /** Whether the driver wants to be told of what was given back since the last time. */
  takeSignal(): boolean {
    if (!this.#isUnsignalled) return false;
    this.#isUnsignalled = false;
    const last = this.#signalled;
    this.#signalled = this.#usedIndex;
    if (!this.hasEventIndex) {
      return (this.#memory.u16(this.available) & AVAIL_NO_INTERRUPT) === 0;
    }
    if (last === null) return true;
    const event = this.#memory.u16(this.available + RING_HEADER_BYTES + 2 * this.size);
    return ((this.#usedIndex - event - 1) & 0xffff) < ((this.#usedIndex - last) & 0xffff);
  }

  save(): Saved {
    const data = {
      size: this.size,
      isReady: this.isReady,
      descriptors: this.descriptors,
      available: this.available,
      used: this.used,
      hasEventIndex: this.hasEventIndex,
      nextAvailable: this.#nextAvailable,
      usedIndex: this.#usedIndex,
      signalled: this.#signalled,
      isUnsignalled: this.#isUnsignalled,
    };
    return { kind: "virtqueue", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      size: number;
      isReady: boolean;
      descriptors: number;
      available: number;
      used: number;
      hasEventIndex: boolean;
      nextAvailable: number;
      usedIndex: number;
      signalled: number | null;
      isUnsignalled: boolean;
    };
    this.size = data.size;
    this.isReady = data.isReady;
    this.descriptors = data.descriptors;
    this.available = data.available;
    this.used = data.used;
    this.hasEventIndex = data.hasEventIndex;
    this.#nextAvailable = data.nextAvailable;
    this.#usedIndex = data.usedIndex;
    this.#signalled = data.signalled;
    this.#isUnsignalled = data.isUnsignalled;
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
