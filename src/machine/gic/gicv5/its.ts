// Owns: the ITS of the host's GICv5: the tables in memory by which an event of a device becomes an
// LPI, of the host itself or of a VM. VM thread.
//
//   DeviceID ─▶ device table ─▶ event table ─[EventID]─▶ LPI ─▶ IRS
// What was translated is remembered until INV_EVENTR or INV_DEVICER says otherwise.
// @source interrupts.md 5.7; gicv5-observed.md 3.4
import type { Saved } from "../../../base/saved.js";
import type { WireEvent } from "./domain.js";
import { INTID_TYPE, intidOf } from "./intid.js";
import type { Irs } from "./irs.js";
import { IDLE } from "./irs-frame.table.js";
import type { TableMemory } from "./ist.js";
import {
  DEVICE_ID_BITS,
  DT_CFGR,
  DTE,
  ENTRY,
  EVENT_ID_BITS,
  INV_I,
  ITS_CR0,
  ITS_CR1_BITS,
  ITS_IDR1,
  ITS_TRANSLATER,
  ITS32,
  ITS64,
  ITTE,
  L2_ID_BITS,
  TABLE_ADDR,
  TABLE_ENTRY_BYTES,
} from "./its.table.js";

const LOW = 0xffff_ffffn;
const EVENTS = 2 ** EVENT_ID_BITS;

/** A table of 8-byte entries, with one level or two. */
interface Table {
  readonly base: number;
  readonly idBits: number;
  /** ID bits of a level-2 table; null for a linear one. */
  readonly level2Bits: number | null;
}

export class ItsV5 {
  readonly #memory: TableMemory;
  readonly #irs: Irs;
  #isEnabled = false;
  #cr1 = 0;
  #baser = 0n;
  #cfgr = 0;
  /** Operands of INV_EVENTR and INV_DEVICER. */
  #device = 0;
  #event = 0;
  /** Entries found, by DeviceID and EventID. */
  readonly #known = new Map<number, bigint>();

  constructor(memory: TableMemory, irs: Irs) {
    this.#memory = memory;
    this.#irs = irs;
  }

  // ── translation ─────────────────────────────────────────────────────────────────────────────

  /** A store to the translation frame: an MSI. */
  writeTranslation(offset: number, deviceId: number, eventId: number): void {
    if (offset === ITS_TRANSLATER) this.send(deviceId, eventId, "set-edge");
  }

  /** An event of a device, or of a wire bridge. What has no translation is lost. */
  send(deviceId: number, eventId: number, event: WireEvent): void {
    const entry = this.#isEnabled ? this.#translate(deviceId, eventId) : null;
    if (entry === null) return;
    const lpi = intidOf(INTID_TYPE.LPI, Number(entry & ITTE.LPI_ID));
    const isVirtual = (entry & ITTE.VIRTUAL) !== 0n;
    const vm = Number(entry >> ITTE.VM_ID_SHIFT) & 0xffff;
    const domain = isVirtual ? this.#irs.domainOf(vm) : this.#irs.physical;
    domain?.event(lpi, event);
  }

  #translate(deviceId: number, eventId: number): bigint | null {
    const key = deviceId * EVENTS + eventId;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const events = this.#eventTable(deviceId);
    const entry = events === null ? null : this.#entry(events, eventId);
    if (entry === null || (entry & ITTE.VALID) === 0n) return null;
    this.#known.set(key, entry);
    return entry;
  }

  #eventTable(deviceId: number): Table | null {
    const asked = this.#cfgr & DT_CFGR.DEVICEID_BITS;
    const isTwoLevel = (this.#cfgr & DT_CFGR.STRUCTURE) !== 0;
    const entry = this.#entry(
      {
        base: Number(this.#baser),
        idBits: Math.min(asked, DEVICE_ID_BITS),
        level2Bits: isTwoLevel ? L2_ID_BITS[(this.#cfgr >>> DT_CFGR.L2SZ_SHIFT) & 3]! : null,
      },
      deviceId,
    );
    if (entry === null || (entry & ENTRY.VALID) === 0n) return null;
    const isDeep = (entry & DTE.STRUCT) !== 0n;
    return {
      base: Number(entry & TABLE_ADDR),
      idBits: Math.min(Number(entry >> DTE.EVENTID_BITS_SHIFT), EVENT_ID_BITS),
      level2Bits: isDeep ? L2_ID_BITS[Number((entry >> DTE.L2SZ_SHIFT) & 3n)]! : null,
    };
  }

  /** The last level's entry, whatever it says; null where the tables have none. */
  #entry({ base, idBits, level2Bits }: Table, id: number): bigint | null {
    if (id >= 2 ** idBits) return null;
    if (level2Bits === null) return this.#read64(base + id * TABLE_ENTRY_BYTES);
    const index = Math.floor(id / 2 ** level2Bits);
    const level1 = this.#read64(base + index * TABLE_ENTRY_BYTES);
    if (level1 === null || (level1 & ENTRY.VALID) === 0n) return null;
    // SPAN: ID bits that the level-2 table really has.
    const within = id % 2 ** level2Bits;
    if (within >= 2 ** Number(level1 >> ENTRY.SPAN_SHIFT)) return null;
    return this.#read64(Number(level1 & TABLE_ADDR) + within * TABLE_ENTRY_BYTES);
  }

  #read64(pa: number): bigint | null {
    const low = this.#memory.read32(pa);
    const high = this.#memory.read32(pa + 4);
    return low < 0 || high < 0 ? null : (BigInt(high) << 32n) | BigInt(low);
  }

  // ── registers ───────────────────────────────────────────────────────────────────────────────

  /** Of the configuration frame. */
  read(offset: number, bytes: number): bigint | "abort" {
    if (bytes < 4) return "abort";
    if (bytes === 8) return this.#read64Register(offset);
    switch (offset) {
      case ITS32.IDR1:
        return BigInt(ITS_IDR1);
      case ITS32.IDR2:
        return BigInt(EVENT_ID_BITS);
      case ITS32.CR0:
        return BigInt(ITS_CR0.IDLE | (this.#isEnabled ? ITS_CR0.ITSEN : 0));
      case ITS32.CR1:
        return BigInt(this.#cr1);
      case ITS32.DT_CFGR:
        return BigInt(this.#cfgr);
      case ITS32.EIDR:
        return BigInt(this.#event);
      case ITS32.STATUSR:
      case ITS32.SYNC_STATUSR:
        return BigInt(IDLE);
      default:
        return 0n;
    }
  }

  #read64Register(offset: number): bigint {
    if (offset === ITS64.DT_BASER) return this.#baser;
    return offset === ITS64.DIDR ? BigInt(this.#device) : 0n;
  }

  /** Tables are set up while the ITS is off. */
  write(offset: number, bytes: number, value: bigint): "abort" | undefined {
    if (bytes < 4) return "abort";
    if (bytes === 8) {
      if (offset === ITS64.DT_BASER && !this.#isEnabled) this.#baser = value & TABLE_ADDR;
      if (offset === ITS64.DIDR) this.#device = Number(value & LOW);
      return undefined;
    }
    this.#write32(offset, Number(value & LOW));
    return undefined;
  }

  #write32(offset: number, word: number): void {
    switch (offset) {
      case ITS32.CR0:
        this.#isEnabled = (word & ITS_CR0.ITSEN) !== 0;
        if (!this.#isEnabled) this.#known.clear();
        return;
      case ITS32.CR1:
        this.#cr1 = word & ITS_CR1_BITS;
        return;
      case ITS32.DT_CFGR:
        if (!this.#isEnabled) this.#cfgr = word & DT_CFGR.ALL;
        return;
      case ITS32.EIDR:
        this.#event = word & (EVENTS - 1);
        return;
      case ITS32.INV_EVENTR:
        if ((word & INV_I) !== 0) this.#known.delete(this.#device * EVENTS + this.#event);
        return;
      case ITS32.INV_DEVICER:
        if ((word & INV_I) !== 0) this.#forgetDevice();
    }
  }

  #forgetDevice(): void {
    for (const key of this.#known.keys()) {
      if (Math.floor(key / EVENTS) === this.#device) this.#known.delete(key);
    }
  }

  save(): Saved {
    const data = {
      isEnabled: this.#isEnabled,
      cr1: this.#cr1,
      baser: this.#baser,
      cfgr: this.#cfgr,
      device: this.#device,
      event: this.#event,
      known: [...this.#known].sort(([a], [b]) => a - b),
    };
    return { kind: "its-v5", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      isEnabled: boolean;
      cr1: number;
      baser: bigint;
      cfgr: number;
      device: number;
      event: number;
      known: [number, bigint][];
    };
    this.#isEnabled = data.isEnabled;
    this.#cr1 = data.cr1;
    this.#baser = data.baser;
    this.#cfgr = data.cfgr;
    this.#device = data.device;
    this.#event = data.event;
    this.#known.clear();
    for (const [key, entry] of data.known) this.#known.set(key, entry);
  }
}
