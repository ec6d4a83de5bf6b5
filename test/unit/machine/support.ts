// Owns: stage-2 tables written by hand as bytes, for tests of what reads them. Test process.
import type { PageSize } from "../../../src/base/page.js";
import {
  type DirtyModel,
  encodeVtcr,
  encodeVttbr,
  HCR_VM,
  Host,
  type HostCpu,
  startEntriesFor,
  startLevelFor,
} from "../../../src/machine/index.js";

export interface Leaf {
  readonly dbm?: boolean;
  readonly writable?: boolean;
  readonly readable?: boolean;
  readonly af?: boolean;
  /** Lookup level of the leaf, 3 by default. */
  readonly level?: number;
}

const VTCR_HA = 1n << 21n;
const VTCR_HD = 1n << 22n;
const VTCR_HDBSS = 1n << 45n;

/** A host with one set of tables; everything in bigint, as the manual writes descriptors. */
export class Tables {
  readonly host: Host;
  readonly ipaBits: number;
  readonly root: number;
  readonly #startLevel: number;

  constructor(pageSize: PageSize = 4096, ipaBits = 36, model: Partial<DirtyModel> = {}) {
    this.host = new Host({ pageSize, seed: 5n, memoryBytesMax: 2 ** 28, model });
    this.ipaBits = ipaBits;
    const { geometry } = this.host;
    this.#startLevel = startLevelFor(geometry, ipaBits);
    const bytes = startEntriesFor(geometry, ipaBits, this.#startLevel) * 8;
    const frames = Math.max(1, bytes / pageSize);
    this.root = this.host.frames.allocate(frames, frames);
  }

  /** A CPU with these tables loaded. */
  cpu(options: { ha?: boolean; hd?: boolean; hdbss?: boolean; vmid?: number } = {}): HostCpu {
    const { ha = true, hd = true, hdbss = false, vmid = 1 } = options;
    const cpu = this.host.addCpu();
    let vtcr = encodeVtcr(this.host.geometry, this.ipaBits, false) & ~(VTCR_HA | VTCR_HD);
    if (ha) vtcr |= VTCR_HA;
    if (hd) vtcr |= VTCR_HD;
    if (hdbss) vtcr |= VTCR_HDBSS;
    cpu.msr("VTCR_EL2", vtcr);
    cpu.msr("VTTBR_EL2", encodeVttbr(this.root, vmid));
    cpu.msr("HCR_EL2", HCR_VM);
    cpu.isb();
    return cpu;
  }

  /** Address of the descriptor at `level` for an IPA; makes the tables on the way. */
  entry(ipa: number, level = 3): number {
    const { geometry, memory, frames } = this.host;
    let table = this.root;
    for (let at = this.#startLevel; ; at++) {
      const size = geometry.levelSizes[at]!;
      const index =
        at === this.#startLevel
          ? Math.floor(ipa / size)
          : Math.floor(ipa / size) % geometry.entriesPerTable;
      const pa = table + index * 8;
      if (at === level) return pa;
      if ((memory.read64(pa) & 1n) === 0n) {
        memory.write64(pa, BigInt(frames.allocate(1)) | 3n);
      }
      table = Number(memory.read64(pa) & 0xffff_ffff_f000n);
    }
  }

  /** Maps an IPA to a physical address; @returns the descriptor's address. */
  map(ipa: number, pa: number, leaf: Leaf = {}): number {
    const { dbm = false, writable = false, readable = true, af = true, level = 3 } = leaf;
    const at = this.entry(ipa, level);
    let descriptor = BigInt(pa) | 1n | (0xfn << 2n) | (3n << 8n);
    if (level === 3) descriptor |= 2n;
    if (readable) descriptor |= 1n << 6n;
    if (writable) descriptor |= 1n << 7n;
    if (af) descriptor |= 1n << 10n;
    if (dbm) descriptor |= 1n << 51n;
    this.host.memory.write64(at, descriptor);
    return at;
  }

  /** Fresh zeroed memory. */
  page(count = 1): number {
    return this.host.frames.allocate(count);
  }

  read(at: number): bigint {
    return this.host.memory.read64(at);
  }
}

export const BIT = {
  S2AP_WRITE: 1n << 7n,
  AF: 1n << 10n,
  DBM: 1n << 51n,
} as const;
