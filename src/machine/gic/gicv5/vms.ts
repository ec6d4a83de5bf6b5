// Owns: the virtual side of an IRS: VM and VPE tables, the domains of VMs that they describe, what
// the hypervisor sets pending in them, doorbells. VM thread.
//
//   VDPEND ─▶ (vdpendLatency) ─▶ domain of the VM ─┬─▶ CPU interface where the VPE is resident
//                                                  └─▶ nowhere: doorbell, if one was asked for
// @source interrupts.md 5.2, 5.8
import type { Saved } from "../../../base/saved.js";
import { InterruptDomain } from "./domain.js";
import { ICSR_F, ID_MASK, INTID_TYPE, typeOf } from "./intid.js";
import type { VmRegisters } from "./irs-frame.js";
import { BASER, IDLE, IRS32, IRS64, VM_ID_BITS, VMAP } from "./irs-frame.table.js";
import { Ist, type IstLayout, type TableMemory } from "./ist.js";
import {
  decodeVmte,
  VMTE_BYTES,
  VMTE_VALID,
  VMTE_WORD,
  type VmEntry,
  VPETE,
  VPETE_BYTES,
} from "./vm-table.js";

/** Whoever has a VPE loaded: told that another interrupt may be the most urgent one. */
export interface Resident {
  candidateChanged(): void;
}

interface Vm {
  /** The entry's words, and their halves, to see quickly whether they changed. */
  readonly words: readonly bigint[];
  readonly halves: Uint32Array;
  readonly vpet: VmEntry["vpet"];
  readonly domain: InterruptDomain;
}

interface Outstanding {
  readonly vm: number;
  readonly intid: number;
  readonly pending: boolean;
  left: number;
}

const WORDS = VMTE_BYTES / 8;
const VM_ID_BITS_FIELD = 0x1fn;
const PRIORITY_MASK = 0x1f;
const VPES = 2 ** 16;
const VM_IDS = 0xffffn;
const HIGH_ID_SHIFT = 32n;

export class Vms implements VmRegisters {
  /** A VPE that is not resident and has a doorbell got a candidate. */
  onDoorbell: ((vm: number, vpe: number) => void) | null = null;
  /** A VM has deactivated an interrupt that was active: for onlookers. */
  onDeactivated: ((vm: number, intid: number) => void) | null = null;
  readonly #memory: TableMemory;
  /** How many looks of the hypervisor come before a VDPEND takes effect. */
  readonly #latency: () => number;
  #baser = 0n;
  #cfgr = 0n;
  /** Of the table, once it is valid: its address and its entries. */
  #base = 0;
  #count = 0;
  readonly #vms = new Map<number, Vm>();
  readonly #residents = new Map<number, Resident>();
  #outstanding: Outstanding[] = [];

  constructor(memory: TableMemory, latency: () => number) {
    this.#memory = memory;
    this.#latency = latency;
  }

  // ── tables ──────────────────────────────────────────────────────────────────────────────────

  /** Of the VM with this ID; null without a valid entry. Bytes that changed are seen here. */
  domainOf(vm: number): InterruptDomain | null {
    const known = this.#vms.get(vm);
    if (known !== undefined && this.#isSame(vm, known.halves)) return known.domain;
    const words = this.#words(vm);
    const entry = words === null ? null : decodeVmte(words);
    if (words === null || entry === null) {
      this.#vms.delete(vm);
      return null;
    }
    const domain = known?.domain ?? new InterruptDomain();
    const old = known?.words ?? [];
    const halves = new Uint32Array(BigUint64Array.from(words).buffer);
    this.#vms.set(vm, { words, halves, vpet: entry.vpet, domain });
    domain.onCandidate = (iaffid) => this.#candidateChanged(vm, iaffid);
    domain.onDeactivated = (intid) => this.onDeactivated?.(vm, intid);
    this.#table(domain, INTID_TYPE.LPI, old[VMTE_WORD.lpi] !== words[VMTE_WORD.lpi], entry.lpi);
    const isSpiNew = [VMTE_WORD.spi, VMTE_WORD.vm].some((n) => old[n] !== words[n]);
    this.#table(domain, INTID_TYPE.SPI, isSpiNew, entry.spi);
    return domain;
  }

  #table(domain: InterruptDomain, type: 2 | 3, isNew: boolean, layout: IstLayout | null): void {
    if (isNew) domain.setTable(type, layout === null ? null : new Ist(this.#memory, layout));
  }

  /** Address of an entry; -1 when the table is invalid or too small. */
  #vmte(vm: number): number {
    return vm < this.#count ? this.#base + vm * VMTE_BYTES : -1;
  }

  /** It is asked with every instruction of a guest: no BigInts here. */
  #isSame(vm: number, halves: Uint32Array): boolean {
    const at = this.#vmte(vm);
    if (at < 0) return false;
    for (let n = 0; n < halves.length; n++) {
      if (this.#memory.read32(at + 4 * n) !== halves[n]) return false;
    }
    return true;
  }

  #words(vm: number): bigint[] | null {
    const at = this.#vmte(vm);
    if (at < 0) return null;
    const words: bigint[] = [];
    for (let n = 0; n < WORDS; n++) {
      const word = this.#read64(at + 8 * n);
      if (word === null) return null;
      words.push(word);
    }
    return words;
  }

  #read64(pa: number): bigint | null {
    const low = this.#memory.read32(pa);
    const high = this.#memory.read32(pa + 4);
    return low < 0 || high < 0 ? null : (BigInt(high) << 32n) | BigInt(low);
  }

  /** Address of a VPE's entry; -1 for none. */
  #vpete(vm: number, vpe: number): number {
    const isThere = this.domainOf(vm) !== null;
    const vpet = isThere ? this.#vms.get(vm)!.vpet : null;
    if (vpet === null || vpe >= 2 ** vpet.idBits) return -1;
    return vpet.base + vpe * VPETE_BYTES;
  }

  /** Sets and clears bits of a VPE's entry. @returns what it was; 0 without a valid one */
  #changeVpe(vm: number, vpe: number, set: number, clear: number): number {
    const at = this.#vpete(vm, vpe);
    const was = at < 0 ? -1 : this.#memory.read32(at);
    if (was < 0 || (was & VPETE.VALID) === 0) return 0;
    this.#memory.write32(at, ((was | set) & ~clear) >>> 0);
    return was;
  }

  // ── residency ───────────────────────────────────────────────────────────────────────────────

  isResident(vm: number, vpe: number): boolean {
    return this.#residents.has(vm * VPES + vpe);
  }

  /** A VPE is loaded: it hears of its interrupts itself. */
  enter(vm: number, vpe: number, resident: Resident): void {
    this.#residents.set(vm * VPES + vpe, resident);
    this.#changeVpe(vm, vpe, VPETE.RESIDENT, VPETE.DB);
  }

  /** After a load: the bytes say it already. */
  restore(vm: number, vpe: number, resident: Resident): void {
    this.#residents.set(vm * VPES + vpe, resident);
  }

  /** A VPE is put away. What is under way for its VM is over first. */
  leave(vm: number, vpe: number, hasDoorbell: boolean, doorbellMask = PRIORITY_MASK): void {
    this.#drain(vm);
    this.#residents.delete(vm * VPES + vpe);
    const doorbell = VPETE.DB | ((doorbellMask << VPETE.DBPM_SHIFT) & VPETE.DBPM);
    this.#changeVpe(vm, vpe, 0, VPETE.RESIDENT | VPETE.DBPM);
    this.#changeVpe(vm, vpe, hasDoorbell ? doorbell : 0, 0);
    if (hasDoorbell) this.#ring(vm, vpe);
  }

  #candidateChanged(vm: number, vpe: number): void {
    const resident = this.#residents.get(vm * VPES + vpe);
    if (resident !== undefined) resident.candidateChanged();
    else this.#ring(vm, vpe);
  }

  /** Once only: a doorbell is asked for anew each time that the VPE is put away. */
  #ring(vm: number, vpe: number): void {
    // First: a table that is looked at for the first time may ring by itself.
    const domain = this.domainOf(vm);
    const state = this.#changeVpe(vm, vpe, 0, 0);
    if ((state & VPETE.DB) === 0) return;
    const candidate = domain?.candidate(vpe) ?? null;
    const mask = (state & VPETE.DBPM) >>> VPETE.DBPM_SHIFT;
    if (candidate === null || candidate.priority > mask) return;
    this.#changeVpe(vm, vpe, 0, VPETE.DB);
    this.onDoorbell?.(vm, vpe);
  }

  // ── what the hypervisor does ────────────────────────────────────────────────────────────────

  vdpend(vm: number, intid: number, pending: boolean): void {
    const latency = this.#latency();
    const left = latency > 0 && this.#isAnyResident(vm) ? latency : 0;
    if (left > 0) {
      this.#outstanding.push({ vm, intid, pending, left });
      return;
    }
    this.#drain(vm);
    this.domainOf(vm)?.pend(intid, pending);
  }

  #isAnyResident(vm: number): boolean {
    for (const key of this.#residents.keys()) if (Math.floor(key / VPES) === vm) return true;
    return false;
  }

  /** @returns ICSR, and lets what was under way come one look closer */
  vdrcfg(vm: number, intid: number): bigint {
    const icsr = this.domainOf(vm)?.config(intid) ?? ICSR_F;
    this.elapse();
    return icsr;
  }

  /** One look of the hypervisor passes. */
  elapse(): void {
    for (const one of this.#outstanding) one.left--;
    this.#finish(({ left }) => left <= 0);
  }

  gsbSys(): void {
    this.#finish(() => true);
  }

  get hasOutstanding(): boolean {
    return this.#outstanding.length > 0;
  }

  #drain(vm: number): void {
    this.#finish((one) => one.vm === vm);
  }

  #finish(isOver: (one: Outstanding) => boolean): void {
    if (this.#outstanding.length === 0) return;
    const over = this.#outstanding.filter(isOver);
    if (over.length === 0) return;
    this.#outstanding = this.#outstanding.filter((one) => !isOver(one));
    for (const { vm, intid, pending } of over) this.domainOf(vm)?.pend(intid, pending);
  }

  // ── registers ───────────────────────────────────────────────────────────────────────────────

  read(offset: number, bytes: number): bigint | null {
    if (bytes === 8) return offset === IRS64.VMT_BASER ? this.#baser : null;
    if (offset === IRS32.VMT_CFGR) return this.#cfgr;
    return offset === IRS32.VMT_STATUSR ? BigInt(IDLE) : null;
  }

  write(offset: number, bytes: number, value: bigint): void {
    if (bytes === 4) {
      const isValid = (this.#baser & BASER.VALID) !== 0n;
      const bits = value & VM_ID_BITS_FIELD;
      if (offset !== IRS32.VMT_CFGR || isValid) return;
      this.#cfgr = bits > VM_ID_BITS ? BigInt(VM_ID_BITS) : bits;
      return;
    }
    if (offset === IRS64.VMT_BASER) {
      this.#baser = value & (BASER.VALID | BASER.ADDR);
      this.#opened();
    } else if (offset >= IRS64.VMAP_VMR) this.#map(offset, value);
  }

  #opened(): void {
    const isValid = (this.#baser & BASER.VALID) !== 0n;
    this.#base = Number(this.#baser & BASER.ADDR);
    this.#count = isValid ? 2 ** Number(this.#cfgr) : 0;
    this.#vms.clear();
  }

  /** VMAP_*: M sets VALID of an entry in memory, U clears it. */
  #map(offset: number, value: bigint): void {
    if ((value & (VMAP.M | VMAP.U)) === 0n) return;
    const isMap = (value & VMAP.M) !== 0n;
    const low = Number(value & 0xffff_ffffn);
    const high = Number((value >> HIGH_ID_SHIFT) & VM_IDS);
    const type = typeOf(low);
    switch (offset) {
      case IRS64.VMAP_VMR:
        this.#setValid(this.#vmte(low & 0xffff), isMap);
        this.domainOf(low & 0xffff);
        return;
      case IRS64.VMAP_VISTR: {
        const at = this.#vmte(high);
        const word = type === INTID_TYPE.LPI ? VMTE_WORD.lpi : VMTE_WORD.spi;
        this.#setValid(at < 0 ? -1 : at + 8 * word, isMap);
        this.domainOf(high);
        return;
      }
      case IRS64.VMAP_L2_VISTR:
        if (type === INTID_TYPE.LPI || type === INTID_TYPE.SPI) {
          this.domainOf(high)
            ?.table(type)
            ?.mapLevel2(low & ID_MASK);
        }
        return;
      case IRS64.VMAP_VPER:
        this.#setValid(this.#vpete(low & 0xffff, high), isMap);
    }
  }

  #setValid(at: number, isValid: boolean): void {
    const word = at < 0 ? -1 : this.#memory.read32(at);
    if (word < 0) return;
    const bit = Number(VMTE_VALID);
    this.#memory.write32(at, (isValid ? word | bit : word & ~bit) >>> 0);
  }

  save(): Saved {
    const outstanding = this.#outstanding.map((one) => ({ ...one }));
    const data = { baser: this.#baser, cfgr: this.#cfgr, outstanding };
    return { kind: "irs-vms", version: 1, data };
  }

  /** Domains are decoded anew from the tables' bytes when somebody asks. */
  load(saved: Saved): void {
    const data = saved.data as { baser: bigint; cfgr: bigint; outstanding: Outstanding[] };
    this.#baser = data.baser;
    this.#cfgr = data.cfgr;
    this.#outstanding = data.outstanding.map((one) => ({ ...one }));
    this.#residents.clear();
    this.#opened();
  }
}
