// Owns: virtio-blk over a disk in memory. VM thread. @source VIRTIO 1.2, 5.2
import type { Saved } from "../../../base/saved.js";
import type { VirtioDevice } from "./device.js";
import { type Disk, SECTOR_BYTES } from "./disk.js";
import { type Chain, QUEUE_SIZE_MAX, QueueBroken, type Virtqueue } from "./queue.js";

const F = { segMax: 1n << 2n, geometry: 1n << 4n, blkSize: 1n << 6n, flush: 1n << 9n } as const;
const TYPE = { in: 0, out: 1, flush: 4, getId: 8 } as const;
const STATUS = { ok: 0, ioError: 1, unsupported: 2 } as const;
/** type, reserved, sector. */
const HEADER_BYTES = 16; // tidy: struct virtio_blk_req
const ID_BYTES = 20;
const ID = "tidemark-disk";
const CONFIG_BYTES = 60;
/** A chain has a header and a status beside its segments. */
const SEGMENTS_MAX = QUEUE_SIZE_MAX - 2;
const HEADS = 16; // tidy: heads of a made-up geometry
const SECTORS_PER_TRACK = 63;

export class VirtioBlk implements VirtioDevice {
  readonly id = 2;
  readonly queues = 1;
  readonly features = F.segMax | F.geometry | F.blkSize | F.flush;
  readonly #disk: Disk;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  config(): Uint8Array {
    const bytes = new Uint8Array(CONFIG_BYTES);
    const view = new DataView(bytes.buffer);
    const { sectors } = this.#disk;
    const cylinders = Math.floor(sectors / (HEADS * SECTORS_PER_TRACK));
    view.setBigUint64(0, BigInt(sectors), true);
    view.setUint32(12, SEGMENTS_MAX, true); // tidy: seg_max
    view.setUint16(16, Math.min(16_383, Math.max(2, cylinders)), true); // tidy: geometry
    view.setUint8(18, HEADS);
    view.setUint8(19, SECTORS_PER_TRACK);
    view.setUint32(20, SECTOR_BYTES, true);
    return bytes;
  }

  writeConfig(): void {}

  handle(_index: number, queue: Virtqueue): void {
    for (let chain = queue.pop(); chain !== null; chain = queue.pop()) {
      if (chain.readable.length < HEADER_BYTES || chain.writableBytes === 0) {
        throw new QueueBroken("a request without header or status");
      }
      const answer = this.#request(chain);
      const room = chain.writableBytes - 1;
      const written = queue.fill(chain, answer.data.subarray(0, room));
      queue.fill(chain, Uint8Array.of(answer.status), room);
      queue.push(chain, written + 1);
    }
  }

  #request({ readable, writableBytes }: Chain): { status: number; data: Uint8Array } {
    const view = new DataView(readable.buffer, readable.byteOffset);
    const type = view.getUint32(0, true);
    const offset = Number(view.getBigUint64(8, true)) * SECTOR_BYTES;
    const none = new Uint8Array(0);
    if (type === TYPE.flush) return { status: STATUS.ok, data: none };
    if (type === TYPE.getId) {
      const id = new Uint8Array(ID_BYTES);
      id.set(new TextEncoder().encode(ID));
      return { status: STATUS.ok, data: id };
    }
    if (type === TYPE.in) {
      const length = writableBytes - 1;
      if (!this.#isThere(offset, length)) return { status: STATUS.ioError, data: none };
      return { status: STATUS.ok, data: this.#disk.read(offset, length) };
    }
    if (type !== TYPE.out) return { status: STATUS.unsupported, data: none };
    const data = readable.subarray(HEADER_BYTES);
    const isDone = this.#isThere(offset, data.length) && this.#disk.write(offset, data);
    return { status: isDone ? STATUS.ok : STATUS.ioError, data: none };
  }

  #isThere(offset: number, length: number): boolean {
    const isWhole = length % SECTOR_BYTES === 0;
    return isWhole && offset + length <= this.#disk.sectors * SECTOR_BYTES;
  }

  /** What was written stays. */
  reset(): void {}

  save(): Saved {
    return { kind: "virtio-blk", version: 1, data: { disk: this.#disk.save() } };
  }

  load(saved: Saved): void {
    this.#disk.load((saved.data as { disk: Saved }).disk);
  }
}
