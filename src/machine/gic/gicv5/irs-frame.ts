// Owns: the configuration frame of the host's IRS: its registers, and the LPI table that they set
// up. VM thread.
// @source gicv5-observed.md 2, 3
import type { Saved } from "../../../base/saved.js";
import type { InterruptDomain } from "./domain.js";
import { ID_MASK, INTID_TYPE } from "./intid.js";
import {
  BASER,
  CONSTANTS,
  CR0,
  CR1_BITS,
  IDLE,
  IDR0,
  IDR0_IRSID_SHIFT,
  IDR0_VIRT,
  IDR1,
  IDR2,
  IDR3,
  IDR4,
  IRS32,
  IRS64,
  IST_CFGR,
  LPI_ID_BITS,
  STATUSR,
} from "./irs-frame.table.js";
import { HeldIst, Ist, type TableMemory } from "./ist.js";
import type { SpiWires } from "./spi-wires.js";
import { ENTRY_BYTES, LEVEL2_BYTES } from "./vm-table.js";

export interface IrsIdentity {
  readonly irsId: number;
  readonly hasVirtualization: boolean;
  /** CPUs that it serves, IAFFIDs from 0 on. */
  pes(): number;
}

/** What the registers of virtualisation lead to. */
export interface VmRegisters {
  read(offset: number, bytes: number): bigint | null;
  write(offset: number, bytes: number, value: bigint): void;
}

const NONE = -1;
const IAFFIDS = 0xffff;
const LOW = 0xffff_ffffn;
const HIGH_HALF = IRS64.IST_BASER + 4;

export class IrsFrame {
  readonly #identity: IrsIdentity;
  readonly #domain: InterruptDomain;
  readonly #wires: SpiWires;
  readonly #memory: TableMemory;
  readonly #vms: VmRegisters | null;
  #cr1 = 0;
  #spi = NONE;
  /** As written: with more bits than an IAFFID has, it is nobody's. */
  #pe = 0;
  #baser = 0n;
  #cfgr = 0;
  #lpis: HeldIst | null = null;

  constructor(
    identity: IrsIdentity,
    domain: InterruptDomain,
    wires: SpiWires,
    memory: TableMemory,
    vms: VmRegisters,
  ) {
    this.#identity = identity;
    this.#domain = domain;
    this.#wires = wires;
    this.#memory = memory;
    this.#vms = identity.hasVirtualization ? vms : null;
  }

  /** "abort" for a size that no register has; what isn't there reads as zero. */
  read(offset: number, bytes: number): bigint | "abort" {
    if (bytes < 4) return "abort";
    if (offset === IRS64.IST_BASER) return bytes === 8 ? this.#baser : this.#baser & LOW;
    if (offset === HIGH_HALF && bytes === 4) return this.#baser >> 32n;
    const word = bytes === 4 ? this.#read32(offset) : null;
    if (word !== null) return BigInt(word >>> 0);
    return this.#vms?.read(offset, bytes) ?? 0n;
  }

  #read32(offset: number): number | null {
    const { irsId, hasVirtualization } = this.#identity;
    switch (offset) {
      case IRS32.IDR0:
        return IDR0 | (hasVirtualization ? IDR0_VIRT : 0) | (irsId << IDR0_IRSID_SHIFT);
      case IRS32.IDR1:
        return IDR1 | this.#identity.pes();
      case IRS32.IDR2:
        return IDR2;
      case IRS32.IDR3:
        return hasVirtualization ? IDR3 : 0;
      case IRS32.IDR4:
        return hasVirtualization ? IDR4 : 0;
      case IRS32.IDR5:
      case IRS32.IDR6:
        return this.#wires.count;
      case IRS32.CR0:
        return CR0.IDLE | (this.#domain.isEnabled ? CR0.IRSEN : 0);
      case IRS32.CR1:
        return this.#cr1;
      case IRS32.SPI_CFGR:
        return this.#wires.isLevel(this.#spi) ? 1 : 0;
      case IRS32.SPI_STATUSR:
        return IDLE | (this.#spi === NONE ? 0 : STATUSR.V);
      case IRS32.PE_SELR:
        return this.#pe & IAFFIDS;
      case IRS32.PE_STATUSR:
        return IDLE | (this.#isPeSelected ? STATUSR.V | STATUSR.ONLINE : 0);
      case IRS32.IST_CFGR:
        return this.#cfgr;
      default:
        return CONSTANTS.get(offset) ?? null;
    }
  }

  get #isPeSelected(): boolean {
    return this.#pe < this.#identity.pes();
  }

  write(offset: number, bytes: number, value: bigint): "abort" | undefined {
    if (bytes < 4) return "abort";
    if (offset === IRS64.IST_BASER || offset === HIGH_HALF) this.#writeBaser(offset, bytes, value);
    else if (bytes !== 4) this.#vms?.write(offset, bytes, value);
    else this.#write32(offset, Number(value & LOW));
    return undefined;
  }

  #write32(offset: number, value: number): void {
    const id = value & ID_MASK;
    switch (offset) {
      case IRS32.CR0:
        this.#domain.setEnabled((value & CR0.IRSEN) !== 0);
        return;
      case IRS32.CR1:
        this.#cr1 = value & CR1_BITS;
        return;
      case IRS32.SPI_SELR:
        this.#spi = id < this.#wires.count ? id : NONE;
        return;
      case IRS32.SPI_RESAMPLER:
        this.#wires.resample(id);
        return;
      case IRS32.SPI_CFGR:
        if (this.#spi !== NONE) this.#wires.setMode(this.#spi, (value & 1) !== 0);
        return;
      case IRS32.PE_SELR:
        this.#pe = value;
        return;
      case IRS32.IST_CFGR:
        if (!this.#isTableValid) this.#cfgr = value & IST_CFGR.ALL;
        return;
      case IRS32.MAP_L2_ISTR:
        this.#lpis?.mapLevel2(id);
        return;
      default:
        this.#vms?.write(offset, 4, BigInt(value));
    }
  }

  // ── the LPI table ───────────────────────────────────────────────────────────────────────────

  get #isTableValid(): boolean {
    return (this.#baser & BASER.VALID) !== 0n;
  }

  #writeBaser(offset: number, bytes: number, value: bigint): void {
    const isHigh = offset === HIGH_HALF;
    if (bytes === 8 && isHigh) return;
    let next = value;
    if (bytes === 4) {
      next = isHigh ? (this.#baser & LOW) | (value << 32n) : (this.#baser & ~LOW) | (value & LOW);
    }
    if (!this.#isTableValid) {
      this.#baser = next & (BASER.VALID | BASER.ADDR);
      if (this.#isTableValid) this.#openTable();
    } else if (!isHigh && (next & BASER.VALID) === 0n) {
      // The address stays.
      this.#baser &= ~BASER.VALID;
      this.#lpis?.flush();
      this.#lpis = null;
      this.#domain.setTable(INTID_TYPE.LPI, null);
    }
  }

  #openTable(): void {
    const asked = this.#cfgr & IST_CFGR.LPI_ID_BITS;
    const idBits = Math.min(Math.max(asked, LPI_ID_BITS.min), LPI_ID_BITS.max);
    const layout = {
      base: Number(this.#baser & BASER.ADDR),
      idBits,
      count: 2 ** idBits,
      entryBytes: ENTRY_BYTES[(this.#cfgr >>> IST_CFGR.ISTSZ_SHIFT) & 3]!,
      isTwoLevel: (this.#cfgr & IST_CFGR.STRUCTURE) !== 0,
      level2Bytes: LEVEL2_BYTES[(this.#cfgr >>> IST_CFGR.L2SZ_SHIFT) & 3]!,
    };
    this.#lpis = new HeldIst(new Ist(this.#memory, layout));
    this.#domain.setTable(INTID_TYPE.LPI, this.#lpis);
  }

  save(): Saved {
    const data = {
      cr1: this.#cr1,
      spi: this.#spi,
      pe: this.#pe,
      baser: this.#baser,
      cfgr: this.#cfgr,
      lpis: this.#lpis?.save() ?? null,
    };
    return { kind: "irs-frame", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      cr1: number;
      spi: number;
      pe: number;
      baser: bigint;
      cfgr: number;
      lpis: Saved | null;
    };
    this.#cr1 = data.cr1;
    this.#spi = data.spi;
    this.#pe = data.pe;
    this.#baser = data.baser;
    this.#cfgr = data.cfgr;
    this.#lpis = null;
    this.#domain.setTable(INTID_TYPE.LPI, null);
    if (!this.#isTableValid) return;
    this.#openTable();
    if (data.lpis !== null) this.#lpis!.load(data.lpis);
  }
}
