// Owns: HACDBS as a guest hypervisor (L1) sees it: hidden, or done by KVM (L0) in software.
// VM thread.
//
//   L1 writes EN=1 ─ trap ─ L0: entries ─ L1's stage 2 ─ S2AP[1] = 0 ─ shadow gone ─ PPI
//
// There is no guest at EL2 here: L1 is a model. Its VNCR page, stage 2 and entry array are real
// bytes in the VM's memory; what it would do, a client does, by a command per trapped access.
// @source dirty-tracking.md 6.4, 1.7, 3.3; Arm ARM D24.2 (offsets in the VNCR page)

import { entryIndex } from "../../base/page.js";
import type { Saved } from "../../base/saved.js";
import {
  BR_EN,
  decodeBase,
  decodeCons,
  decodeEntry,
  decodeRegime,
  ENTRY_BYTES,
  ERR_REASON,
  encodeCons,
  entriesOf,
  HI,
  LO,
  outputAddress,
  type Stage2Regime,
} from "../../machine/index.js";
import type { Memslot } from "../memslots.js";
import type { Vm } from "../vm.js";
import type { DirtyWords } from "./words.js";

/** Offsets in the VNCR page. */
const VNCR = {
  VTTBR_EL2: 0x020,
  VTCR_EL2: 0x040,
  HCR_EL2: 0x078,
  HDBSSBR_EL2: 0x2e0,
  HACDBSBR_EL2: 0x2f0,
  HDBSSPROD_EL2: 0x300,
  HACDBSCONS_EL2: 0x308,
} as const;
type NestedRegister = "HDBSSBR_EL2" | "HACDBSBR_EL2" | "HDBSSPROD_EL2" | "HACDBSCONS_EL2";
export const NESTED_REGISTERS: readonly NestedRegister[] = [
  "HDBSSBR_EL2",
  "HACDBSBR_EL2",
  "HDBSSPROD_EL2",
  "HACDBSCONS_EL2",
];
const HCR_VM = 1n;
const TG0_RESERVED = 3n;
const T0SZ_MIN = 16n;

/** "undefined": the access is UNDEF at EL1; "fault": L2's store goes to L1 as a stage-2 abort. */
type NestedOutcome = "undefined" | "written" | "ran" | "stored" | "fault";

interface NestedResult {
  readonly outcome: NestedOutcome;
  /** ID_AA64MMFR4_EL1.HACDBS for L1. */
  readonly idField: number;
  readonly registers: Readonly<Record<NestedRegister, bigint>> | null;
  readonly cleaned: number;
  /** Entries of L0's shadow stage 2 that went with it. */
  readonly invalidated: number;
  /** L1's HACDBSIRQ, level sensitive. */
  readonly irq: boolean;
}

interface Leaf {
  /** Guest-physical address of the descriptor. */
  readonly at: number;
  readonly lo: number;
  readonly hi: number;
  readonly level: number;
  readonly size: number;
}

export class NestedHacdbs {
  readonly #vm: Vm;
  readonly #log: DirtyWords;
  /** L2 pages that L0's shadow stage 2 lets L2 store to, by their IPA. */
  readonly #shadow = new Set<number>();

  constructor(vm: Vm, log: DirtyWords) {
    this.#vm = vm;
    this.#log = log;
  }

  get #isHidden(): boolean {
    const { policies, host } = this.#vm;
    return policies["nested.hacdbs"] === "hidden" || !host.model["hardware.hacdbs"];
  }

  /** MSR of L1 that traps. @param vncr guest-physical address of its VNCR page */
  write(vncr: number, register: NestedRegister, value: bigint): NestedResult {
    if (this.#isHidden) return this.#result(vncr, "undefined", 0, 0);
    const before = this.#read64(vncr + VNCR[register]) ?? 0n;
    this.#write64(vncr + VNCR[register], value);
    const resumes = register === "HACDBSCONS_EL2" && this.#isEnabled(vncr);
    const starts = register === "HACDBSBR_EL2" && (value & ~before & BR_EN) !== 0n;
    if (!starts && !resumes) return this.#result(vncr, "written", 0, 0);
    return this.#run(vncr);
  }

  /** A store of L2, by way of L0's shadow; L0 sets L1's dirty state as hardware would. */
  store(vncr: number, ipa: number): NestedResult {
    const regime = this.#regime(vncr);
    if (regime === null) return this.#result(vncr, "fault", 0, 0);
    const page = ipa - (ipa % regime.geometry.size);
    if (this.#shadow.has(page)) return this.#result(vncr, "stored", 0, 0);
    const leaf = this.#leaf(regime, ipa);
    if (leaf === null) return this.#result(vncr, "fault", 0, 0);
    const isWritable = (leaf.lo & LO.S2AP_WRITE) !== 0;
    const isManaged = regime.ha && regime.hd && (leaf.hi & HI.DBM) !== 0;
    if (!isWritable && !isManaged) return this.#result(vncr, "fault", 0, 0);
    if (!isWritable) this.#write32(leaf.at, leaf.lo | LO.S2AP_WRITE);
    this.#shadow.add(page);
    return this.#result(vncr, "stored", 0, 0);
  }

  #isEnabled(vncr: number): boolean {
    return ((this.#read64(vncr + VNCR.HACDBSBR_EL2) ?? 0n) & BR_EN) !== 0n;
  }

  /** The loop of 3.3, in software, against L1's stage 2. */
  #run(vncr: number): NestedResult {
    const regime = this.#regime(vncr);
    if (regime === null) return this.#result(vncr, "written", 0, 0);
    const { base, sz } = decodeBase(this.#read64(vncr + VNCR.HACDBSBR_EL2) ?? 0n);
    const cons = decodeCons(this.#read64(vncr + VNCR.HACDBSCONS_EL2) ?? 0n);
    let { index } = cons;
    let err: number = cons.err;
    let cleaned = 0;
    let invalidated = 0;
    for (; err === ERR_REASON.NOF && index < entriesOf(sz); index++) {
      const entry = this.#read64(base + index * ENTRY_BYTES);
      if (entry === null) {
        err = ERR_REASON.STRUCTF;
        break;
      }
      const { valid, level, ipa } = decodeEntry(Number(entry & 0xffff_ffffn), Number(entry >> 32n));
      if (!valid) continue;
      const leaf = level === null ? null : this.#leaf(regime, ipa);
      err = whyNot(level, leaf);
      if (leaf === null || err !== ERR_REASON.NOF) break;
      if ((leaf.lo & LO.S2AP_WRITE) === 0) continue;
      this.#write32(leaf.at, leaf.lo & ~LO.S2AP_WRITE);
      cleaned++;
      invalidated += this.#invalidate(ipa, leaf.size);
    }
    this.#write64(vncr + VNCR.HACDBSCONS_EL2, encodeCons(index, err));
    return this.#result(vncr, "ran", cleaned, invalidated);
  }

  #invalidate(ipa: number, size: number): number {
    const first = ipa - (ipa % size);
    let gone = 0;
    for (const page of this.#shadow) {
      if (page < first || page >= first + size) continue;
      this.#shadow.delete(page);
      gone++;
    }
    return gone;
  }

  /** L1's stage 2; null while its HCR_EL2.VM is 0, or where its registers make no sense. */
  #regime(vncr: number): Stage2Regime | null {
    const hcr = this.#read64(vncr + VNCR.HCR_EL2) ?? 0n;
    const vtcr = this.#read64(vncr + VNCR.VTCR_EL2) ?? 0n;
    const vttbr = this.#read64(vncr + VNCR.VTTBR_EL2) ?? 0n;
    const isReserved = ((vtcr >> 14n) & 3n) === TG0_RESERVED || (vtcr & 0x3fn) < T0SZ_MIN;
    if ((hcr & HCR_VM) === 0n || isReserved) return null;
    const regime = decodeRegime(vtcr, vttbr);
    return regime.startLevel < 0 || regime.startLevel > 2 ? null : regime;
  }

  #leaf(regime: Stage2Regime, ipa: number): Leaf | null {
    const { geometry } = regime;
    if (ipa >= regime.ipaEnd) return null;
    const page = Math.floor(ipa / geometry.size);
    let table = regime.root;
    for (let level = regime.startLevel; level <= 3; level++) {
      const entries = level === regime.startLevel ? regime.startEntries : geometry.entriesPerTable;
      const at = table + entryIndex(geometry, page, level, entries) * 8;
      const descriptor = this.#read64(at);
      if (descriptor === null) return null;
      const lo = Number(descriptor & 0xffff_ffffn);
      const hi = Number(descriptor >> 32n);
      if ((lo & LO.VALID) === 0) return null;
      const hasType = (lo & LO.TYPE) !== 0;
      const size = geometry.levelSizes[level]!;
      if (level === 3) return hasType ? { at, lo, hi, level, size } : null;
      if (!hasType) return geometry.leafSizes.includes(size) ? { at, lo, hi, level, size } : null;
      table = outputAddress(lo, hi, geometry.size);
    }
    return null;
  }

  #result(
    vncr: number,
    outcome: NestedOutcome,
    cleaned: number,
    invalidated: number,
  ): NestedResult {
    if (outcome === "undefined") {
      return { outcome, idField: 0, registers: null, cleaned, invalidated, irq: false };
    }
    const values = NESTED_REGISTERS.map((name) => [name, this.#read64(vncr + VNCR[name]) ?? 0n]);
    const registers = Object.fromEntries(values) as Record<NestedRegister, bigint>;
    const { sz } = decodeBase(registers.HACDBSBR_EL2);
    const { index, err } = decodeCons(registers.HACDBSCONS_EL2);
    const isOver = index >= entriesOf(sz) || err !== ERR_REASON.NOF;
    const irq = (registers.HACDBSBR_EL2 & BR_EN) !== 0n && isOver;
    return { outcome, idField: this.#isHidden ? 0 : 1, registers, cleaned, invalidated, irq };
  }

  /** Where L1's memory lies in the host's; null: nowhere. */
  #place(gpa: number): { readonly slot: Memslot; readonly pa: number } | null {
    const { slots, mm, pageSize } = this.#vm;
    const slot = slots.find(Math.floor(gpa / pageSize));
    if (slot === undefined || slot.invalid) return null;
    const hva = slot.userspaceAddr + gpa - slot.baseGfn * pageSize;
    const object = mm.find(hva);
    if (object === undefined || object.backing !== "ram") return null;
    return { slot, pa: object.pa + (hva - object.userspaceAddr) };
  }

  #read64(gpa: number): bigint | null {
    const place = this.#place(gpa);
    if (place === null) return null;
    const bytes = new Uint8Array(8);
    this.#vm.host.readPhysical(place.pa, bytes);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  #write64(gpa: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.#write(gpa, bytes);
  }

  #write32(gpa: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value >>> 0, true);
    this.#write(gpa, bytes);
  }

  /** L0 writes L1's memory: that dirties the page in L0's own log. */
  #write(gpa: number, bytes: Uint8Array): void {
    const place = this.#place(gpa);
    if (place === null) return;
    this.#vm.host.writePhysical(place.pa, bytes);
    const page = Math.floor(gpa / this.#vm.pageSize) - place.slot.baseGfn;
    this.#log.mark(place.slot, page, null);
  }

  save(): Saved {
    return { kind: "nested-hacdbs", version: 1, data: { shadow: [...this.#shadow] } };
  }

  load(saved: Saved): void {
    const { shadow } = saved.data as { shadow: number[] };
    this.#shadow.clear();
    for (const page of shadow) this.#shadow.add(page);
  }
}

/** @returns the error of an entry; level null: a reserved TTWL */
function whyNot(level: number | null, leaf: Leaf | null): number {
  if (level === null) return ERR_REASON.IPAHACF;
  if (leaf === null) return ERR_REASON.IPAF;
  const isManaged = (leaf.hi & HI.DBM) !== 0 && (leaf.hi & HI.CONTIGUOUS) === 0;
  return leaf.level === level && isManaged ? ERR_REASON.NOF : ERR_REASON.IPAHACF;
}
