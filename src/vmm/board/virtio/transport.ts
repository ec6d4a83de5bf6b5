// Owns: a virtio-mmio transport: registers of version 2, and those of version 1 that went before
// it, feature negotiation, interrupt status. VM thread.
// @source Virtual I/O Device (VIRTIO) 1.2, 4.2.2 and 4.2.4 (legacy), 2.1 device status
import { ServiceError } from "../../../base/errors.js";
import type { Saved } from "../../../base/saved.js";
import type { IrqLine, MmioDevice } from "../device.js";
import type { GuestMemory } from "../guest-memory.js";
import { VIRTIO } from "../memory-map.table.js";
import type { VirtioDevice } from "./device.js";
import { QUEUE_SIZE_MAX, QueueBroken, Virtqueue } from "./queue.js";

const MAGIC = 0x7472_6976;
/** "TMRK". */
const VENDOR = 0x4b52_4d54;
const REG = {
  magic: 0x000,
  version: 0x004,
  deviceId: 0x008,
  vendorId: 0x00c,
  deviceFeatures: 0x010,
  deviceFeaturesSel: 0x014,
  driverFeatures: 0x020,
  driverFeaturesSel: 0x024,
  guestPageSize: 0x028,
  queueSel: 0x030,
  queueNumMax: 0x034,
  queueNum: 0x038,
  queueAlign: 0x03c,
  queuePfn: 0x040,
  queueReady: 0x044,
  queueNotify: 0x050,
  interruptStatus: 0x060,
  interruptAck: 0x064,
  status: 0x070,
  descLow: 0x080,
  descHigh: 0x084,
  driverLow: 0x090,
  driverHigh: 0x094,
  deviceLow: 0x0a0,
  deviceHigh: 0x0a4,
  shmLenLow: 0x0b0,
  shmBaseHigh: 0x0bc,
  configGeneration: 0x0fc,
  config: 0x100,
} as const;

const STATUS = { driverOk: 4, featuresOk: 8, needsReset: 0x40 } as const;
const FEATURE = { anyLayout: 27n, indirect: 28n, eventIndex: 29n, version1: 32n } as const;
const COMMON = (1n << FEATURE.indirect) | (1n << FEATURE.eventIndex);
const INTERRUPT = { queue: 1, config: 2 } as const;

/** Registers of a queue's addresses: which area, and which half of it. */
const AREAS: ReadonlyMap<number, readonly ["descriptors" | "available" | "used", boolean]> =
  new Map([
    [REG.descLow, ["descriptors", false]],
    [REG.descHigh, ["descriptors", true]],
    [REG.driverLow, ["available", false]],
    [REG.driverHigh, ["available", true]],
    [REG.deviceLow, ["used", false]],
    [REG.deviceHigh, ["used", true]],
  ]);

export class VirtioMmio implements MmioDevice {
  readonly name: string;
  readonly base: number;
  readonly size = VIRTIO.size;
  /** null: nothing is plugged in. */
  readonly #device: VirtioDevice | null;
  readonly #isLegacy: boolean;
  readonly #irq: IrqLine;
  readonly #queues: readonly Virtqueue[];
  #status = 0;
  #interrupts = 0;
  #deviceFeaturesSel = 0;
  #driverFeaturesSel = 0;
  #driverFeatures = 0n;
  #queueSel = 0;
  /** Of version 1. */
  #guestPageSize = 0;
  #align = 0;

  constructor(
    at: number,
    device: VirtioDevice | null,
    parts: { memory: GuestMemory; irq: IrqLine; isLegacy: boolean },
  ) {
    this.name = `virtio-mmio${at}`;
    this.base = VIRTIO.base + at * VIRTIO.size;
    this.#device = device;
    this.#isLegacy = parts.isLegacy;
    this.#irq = parts.irq;
    const count = device?.queues ?? 0;
    this.#queues = Array.from({ length: count }, () => new Virtqueue(parts.memory));
  }

  /** The driver is there. */
  get isUp(): boolean {
    return (this.#status & (STATUS.driverOk | STATUS.needsReset)) === STATUS.driverOk;
  }

  reset(): void {
    this.#status = 0;
    this.#interrupts = 0;
    this.#deviceFeaturesSel = 0;
    this.#driverFeaturesSel = 0;
    this.#driverFeatures = 0n;
    this.#queueSel = 0;
    this.#guestPageSize = 0;
    this.#align = 0;
    for (const queue of this.#queues) queue.reset();
    this.#device?.reset();
    this.#drive();
  }

  read(offset: number, bytes: number): bigint {
    if (offset >= REG.config) return this.#readConfig(offset - REG.config, bytes);
    // The other registers are words, and are reached as words.
    if (bytes !== 4 || (offset & 3) !== 0) return 0n;
    return BigInt(this.#register(offset) >>> 0);
  }

  #readConfig(offset: number, bytes: number): bigint {
    const config = this.#device?.config() ?? new Uint8Array(0);
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(config[offset + i] ?? 0);
    return value;
  }

  #register(offset: number): number {
    if (offset === REG.magic) return MAGIC;
    if (offset === REG.version) return this.#isLegacy ? 1 : 2;
    if (offset === REG.vendorId) return VENDOR;
    if (this.#device === null) return 0;
    const queue = this.#queues[this.#queueSel];
    switch (offset) {
      case REG.deviceId:
        return this.#device.id;
      case REG.deviceFeatures:
        return wordOf(this.#offered, this.#deviceFeaturesSel);
      case REG.queueNumMax:
        return queue === undefined || (this.#isLegacy && queue.isReady) ? 0 : QUEUE_SIZE_MAX;
      case REG.queuePfn:
        return this.#isLegacy && this.#guestPageSize > 0
          ? (queue?.descriptors ?? 0) / this.#guestPageSize
          : 0;
      case REG.queueReady:
        return !this.#isLegacy && queue?.isReady === true ? 1 : 0;
      case REG.interruptStatus:
        return this.#interrupts;
      case REG.status:
        return this.#status;
      default:
        // No shared memory: length and base read as all ones.
        return !this.#isLegacy && offset >= REG.shmLenLow && offset <= REG.shmBaseHigh ? -1 : 0;
    }
  }

  get #offered(): bigint {
    const own = (this.#device?.features ?? 0n) | COMMON;
    return own | (1n << (this.#isLegacy ? FEATURE.anyLayout : FEATURE.version1));
  }

  write(offset: number, bytes: number, value: bigint): void {
    if (this.#device === null) return;
    if (offset >= REG.config) {
      this.#device.writeConfig(offset - REG.config, value);
      return;
    }
    if (bytes !== 4 || (offset & 3) !== 0) return;
    this.#store(offset, Number(value));
    this.#drive();
  }

  #store(offset: number, value: number): void {
    if (offset === REG.deviceFeaturesSel) this.#deviceFeaturesSel = value;
    else if (offset === REG.driverFeaturesSel) this.#driverFeaturesSel = value;
    else if (offset === REG.driverFeatures) this.#choose(value);
    else if (offset === REG.queueSel) this.#queueSel = value;
    else if (offset === REG.queueNotify) this.notify(value);
    else if (offset === REG.interruptAck) this.#interrupts &= ~value;
    else if (offset === REG.status) this.#setStatus(value & 0xff);
    else this.#storeQueue(offset, value);
  }

  #choose(value: number): void {
    if ((this.#status & STATUS.featuresOk) !== 0 || this.#driverFeaturesSel > 1) return;
    const shift = BigInt(32 * this.#driverFeaturesSel);
    const others = this.#driverFeatures & ~(0xffff_ffffn << shift);
    this.#driverFeatures = others | (BigInt(value) << shift);
    if (this.#isLegacy) this.#useFeatures();
  }

  #useFeatures(): void {
    const hasEventIndex = ((this.#driverFeatures >> FEATURE.eventIndex) & 1n) !== 0n;
    for (const queue of this.#queues) queue.hasEventIndex = hasEventIndex;
  }

  #setStatus(value: number): void {
    if (value === 0) {
      this.reset();
      return;
    }
    const wasUp = this.isUp;
    let status = value | (this.#status & STATUS.needsReset);
    if (!this.#isLegacy && (value & ~this.#status & STATUS.featuresOk) !== 0) {
      const isAccepted =
        (this.#driverFeatures & ~this.#offered) === 0n &&
        ((this.#driverFeatures >> FEATURE.version1) & 1n) !== 0n;
      if (!isAccepted) status &= ~STATUS.featuresOk;
      else this.#useFeatures();
    }
    this.#status = status;
    if (!wasUp && this.isUp) for (const index of this.#queues.keys()) this.notify(index);
  }

  #storeQueue(offset: number, value: number): void {
    const queue = this.#queues[this.#queueSel];
    if (this.#isLegacy && offset === REG.guestPageSize) this.#guestPageSize = value;
    else if (this.#isLegacy && offset === REG.queueAlign) this.#align = value;
    if (queue === undefined) return;
    if (offset === REG.queueNum) {
      if (value <= QUEUE_SIZE_MAX && isPowerOfTwo(value) && !queue.isReady) queue.size = value;
    } else if (this.#isLegacy) {
      if (offset === REG.queuePfn) this.#place(queue, value);
    } else if (offset === REG.queueReady) {
      queue.isReady = value === 1 && queue.size > 0;
    } else {
      this.#storeAddress(queue, offset, value);
    }
  }

  #storeAddress(queue: Virtqueue, offset: number, value: number): void {
    const area = AREAS.get(offset);
    if (area === undefined || queue.isReady) return;
    const [name, isHigh] = area;
    const high = Math.floor(queue[name] / 2 ** 32);
    const low = queue[name] % 2 ** 32;
    queue[name] = isHigh ? value * 2 ** 32 + low : high * 2 ** 32 + value;
  }

  /** Version 1: the areas follow each other from a page on, the last one at its alignment. */
  #place(queue: Virtqueue, pfn: number): void {
    if (pfn === 0) {
      const { hasEventIndex } = queue;
      queue.reset();
      queue.hasEventIndex = hasEventIndex;
      return;
    }
    if (queue.size === 0 || !isPowerOfTwo(this.#align)) return;
    queue.descriptors = pfn * this.#guestPageSize;
    queue.available = queue.descriptors + 16 * queue.size; // tidy: bytes of a descriptor
    const end = queue.available + 6 + 2 * queue.size;
    queue.used = Math.ceil(end / this.#align) * this.#align;
    queue.isReady = true;
  }

  /** Buffers of a queue may be there: the driver says so, or the device has something for it. */
  notify(index: number): void {
    const queue = this.#queues[index];
    // Drivers of version 1 are known that never write a status.
    const isOff = (this.#status & STATUS.needsReset) !== 0 || (!this.#isLegacy && !this.isUp);
    if (queue === undefined || this.#device === null || !queue.isReady || isOff) return;
    try {
      this.#device.handle(index, queue);
      if (queue.takeSignal()) this.#interrupts |= INTERRUPT.queue;
    } catch (error) {
      if (!(error instanceof QueueBroken) && !(error instanceof ServiceError)) throw error;
      this.#status |= STATUS.needsReset;
      if (!this.#isLegacy) this.#interrupts |= INTERRUPT.config;
    }
    this.#drive();
  }

  #drive(): void {
    this.#irq(this.#interrupts !== 0);
  }

  save(): Saved {
    const data = {
      status: this.#status,
      interrupts: this.#interrupts,
      deviceFeaturesSel: this.#deviceFeaturesSel,
      driverFeaturesSel: this.#driverFeaturesSel,
      driverFeatures: this.#driverFeatures,
      queueSel: this.#queueSel,
      guestPageSize: this.#guestPageSize,
      align: this.#align,
      queues: this.#queues.map((queue) => queue.save()),
      device: this.#device?.save() ?? null,
    };
    return { kind: "virtio-mmio", version: 1, data };
  }

  load({ data: raw }: Saved): void {
    const data = raw as {
      status: number;
      interrupts: number;
      deviceFeaturesSel: number;
      driverFeaturesSel: number;
      driverFeatures: bigint;
      queueSel: number;
      guestPageSize: number;
      align: number;
      queues: Saved[];
      device: Saved | null;
    };
    this.#status = data.status;
    this.#interrupts = data.interrupts;
    this.#deviceFeaturesSel = data.deviceFeaturesSel;
    this.#driverFeaturesSel = data.driverFeaturesSel;
    this.#driverFeatures = data.driverFeatures;
    this.#queueSel = data.queueSel;
    this.#guestPageSize = data.guestPageSize;
    this.#align = data.align;
    for (const [i, saved] of data.queues.entries()) this.#queues[i]?.load(saved);
    if (data.device !== null) this.#device?.load(data.device);
  }
}

function wordOf(bits: bigint, word: number): number {
  return word > 1 ? 0 : Number((bits >> BigInt(32 * word)) & 0xffff_ffffn);
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}
