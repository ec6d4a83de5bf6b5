// Owns: QEMU's firmware configuration device, memory mapped: items by key, read by bytes or by DMA.
// VM thread. @source QEMU docs/specs/fw_cfg.rst (the interface)
import { ServiceError } from "../../base/errors.js";
import type { Saved } from "../../base/saved.js";
import type { MmioDevice } from "./device.js";
import type { GuestMemory } from "./guest-memory.js";
import { FW_CFG, MIB } from "./memory-map.table.js";

const REG = { data: 0, selector: 8, dma: 16, dmaLow: 20 } as const; // tidy: registers
const KEY = {
  signature: 0x00,
  id: 0x01,
  noGraphic: 0x04,
  cpus: 0x05,
  kernelSize: 0x08,
  initrdSize: 0x0b,
  bootMenu: 0x0e,
  cpusMax: 0x0f,
  kernel: 0x11,
  initrd: 0x12,
  cmdlineSize: 0x14,
  cmdline: 0x15,
  setupSize: 0x17,
  directory: 0x19,
} as const;
/** Bytes by the data register, and DMA. */
const ID_FEATURES = 3;
const SIGNATURE = "QEMU";
const DMA_SIGNATURE = "QEMU CFG";
const DMA = { error: 1, read: 2, skip: 4, select: 8, write: 16 } as const; // tidy: bits
/** control, length, address, all big-endian. */
const DMA_BYTES = 16; // tidy: struct FWCfgDmaAccess

export interface FwCfgContent {
  readonly cpus: number;
  readonly cmdline: string;
  readonly kernel: Uint8Array | null;
  readonly initrd: Uint8Array | null;
}

export class FwCfg implements MmioDevice {
  readonly name = "fw-cfg";
  readonly base = FW_CFG.base;
  readonly size = FW_CFG.size;
  readonly #memory: GuestMemory;
  readonly #items: ReadonlyMap<number, Uint8Array>;
  #key = 0;
  #offset = 0;
  #dmaHigh = 0;

  constructor(content: FwCfgContent, memory: GuestMemory) {
    this.#memory = memory;
    this.#items = itemsOf(content);
  }

  reset(): void {
    this.#select(0);
    this.#dmaHigh = 0;
  }

  #select(key: number): void {
    this.#key = key;
    this.#offset = 0;
  }

  read(offset: number, bytes: number): bigint {
    // A register's bytes are the stream's, in the order of their addresses.
    if (offset === REG.data) return littleEndian(this.#take(bytes));
    if (offset < REG.dma) return 0n;
    const at = offset - REG.dma;
    return littleEndian(new TextEncoder().encode(DMA_SIGNATURE).subarray(at, at + bytes));
  }

  write(offset: number, bytes: number, value: bigint): void {
    const word = bigEndian(value, bytes);
    if (offset === REG.selector && bytes === 2) this.#select(Number(word));
    else if (offset === REG.dma && bytes === 8) this.#transfer(Number(word));
    else if (offset === REG.dma && bytes === 4) this.#dmaHigh = Number(word);
    else if (offset === REG.dmaLow && bytes === 4) {
      this.#transfer(this.#dmaHigh * 2 ** 32 + Number(word));
      this.#dmaHigh = 0;
    }
  }

  /** The item's next bytes; zeros behind its end. */
  #take(bytes: number): Uint8Array {
    const out = new Uint8Array(bytes);
    const item = this.#items.get(this.#key);
    if (item !== undefined) out.set(item.subarray(this.#offset, this.#offset + bytes));
    this.#offset += bytes;
    return out;
  }

  /** What the guest describes wrongly changes nothing: nobody can be told. */
  #transfer(address: number): void {
    try {
      const request = new DataView(this.#memory.read(address, DMA_BYTES).buffer);
      const control = request.getUint32(0);
      const isDone = this.#access(control, request.getUint32(4), request.getBigUint64(8));
      const answer = new Uint8Array(4);
      new DataView(answer.buffer).setUint32(0, isDone ? 0 : DMA.error);
      this.#memory.write(address, answer);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
    }
  }

  #access(control: number, length: number, to: bigint): boolean {
    if ((control & DMA.select) !== 0) this.#select(control >>> 16); // tidy: the key's half
    if ((control & DMA.write) !== 0) return false;
    if ((control & DMA.skip) !== 0) this.#offset += length;
    if ((control & DMA.read) === 0) return true;
    try {
      for (let at = 0; at < length; at += MIB) {
        const bytes = Math.min(MIB, length - at);
        this.#memory.write(Number(to) + at, this.#take(bytes));
      }
      return true;
    } catch (error) {
      if (error instanceof ServiceError) return false;
      throw error;
    }
  }

  save(): Saved {
    const data = { key: this.#key, offset: this.#offset, dmaHigh: this.#dmaHigh };
    return { kind: "fw-cfg", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as { key: number; offset: number; dmaHigh: number };
    this.#key = data.key;
    this.#offset = data.offset;
    this.#dmaHigh = data.dmaHigh;
  }
}

function itemsOf({ cpus, cmdline, kernel, initrd }: FwCfgContent): Map<number, Uint8Array> {
  const encoder = new TextEncoder();
  const command = cmdline === "" ? new Uint8Array(0) : encoder.encode(`${cmdline}\0`);
  const none = new Uint8Array(0);
  return new Map([
    [KEY.signature, encoder.encode(SIGNATURE)],
    [KEY.id, u32(ID_FEATURES)],
    [KEY.noGraphic, u16(1)],
    [KEY.cpus, u16(cpus)],
    [KEY.cpusMax, u16(cpus)],
    [KEY.bootMenu, u16(0)],
    [KEY.kernelSize, u32(kernel?.length ?? 0)],
    [KEY.kernel, kernel ?? none],
    [KEY.initrdSize, u32(initrd?.length ?? 0)],
    [KEY.initrd, initrd ?? none],
    [KEY.cmdlineSize, u32(command.length)],
    [KEY.cmdline, command],
    [KEY.setupSize, u32(0)],
    // A count of files, big-endian: there are none.
    [KEY.directory, u32(0)],
  ]);
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >> 8);
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

/** The bytes of a store, the first one highest. */
function bigEndian(value: bigint, bytes: number): bigint {
  let swapped = 0n;
  for (let i = 0; i < bytes; i++) swapped = (swapped << 8n) | ((value >> BigInt(8 * i)) & 0xffn);
  return swapped;
}
