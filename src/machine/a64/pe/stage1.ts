// Owns: the stage-1 translation of one access, hardware's updates of its descriptors. VM thread.
//
//   VA ──TTBR0 | TTBR1──▶ level … 3 ──▶ descriptor ──▶ IPA, type, permissions
//             each descriptor is fetched through stage 2, which may abort (S1PTW)
// @source Arm ARM D8.2 (translation process), D8.4 (access control), D8.5 (AF and dirty state)
import { type HostMemory, UNBACKED_BASE } from "../../host-memory.js";
import { WalkCache } from "../../mmu/walk-cache.js";
import { FSC, type Granule, IPS_BITS, S1_HI, S1_LO, SCTLR, TG0, TG1 } from "./stage1.table.js";

/** What a walk reads tables through: a host CPU's stage 2. */
export interface Stage2 {
  /** @returns host address, or -1 after an abort */
  translate(ipa: number, isWrite: boolean): number;
}

/** What accesses of instructions ask beyond that. */
export interface AskedStage2 extends Stage2 {
  /** The same without any effect: AT S12E1R, S12E1W. */
  at(ipa: number, isWrite: boolean): number;
  /** Stores that another fault kills dirty their page all the same. */
  readonly dirtiesSpuriously: boolean;
  /** The next clean-to-dirty update may be refused. */
  readonly mayRefuseDirty: boolean;
}

const TWO_32 = 2 ** 32;
/** Output address bits 47:32 in the high half. */
const HI_OA = 0xffff;
const PA_BITS = 48;
/** TCR_EL1.TxSZ, at least and at most. */
const TXSZ_MIN = 16;
const TXSZ_MAX = 39;
const DESCRIPTOR_BYTES = 8;

/** One half of the address space. */
interface Half {
  readonly disabled: boolean;
  /** Bits of the region; 0 for a reserved size. */
  readonly bits: number;
  readonly granule: Granule;
  readonly topByteIgnored: boolean;
  readonly startLevel: number;
  /** Bits of the first table's index. */
  readonly startBits: number;
  /** The first table, aligned to its size. */
  readonly table: number;
}

/** EL1&0 stage 1 as its registers say; decoded anew when one of them changes. */
export interface Stage1Regime {
  readonly enabled: boolean;
  readonly halves: readonly [Half, Half];
  /** End of the output addresses. */
  readonly ipaEnd: number;
  readonly walks: WalkCache;
  readonly hardwareAf: boolean;
  readonly hardwareDirty: boolean;
  readonly writableExecuteNever: boolean;
  /** Bit n: MAIR_EL1.Attr<n> is Device. */
  readonly deviceAttrs: number;
}

export interface Stage1Registers {
  readonly sctlr: bigint;
  readonly tcr: bigint;
  readonly ttbr0: bigint;
  readonly ttbr1: bigint;
  readonly mair: bigint;
}

function field(value: bigint, shift: number, width: number): number {
  return Number((value >> BigInt(shift)) & ((1n << BigInt(width)) - 1n));
}

function halfOf(size: number, disabled: number, granule: Granule, ttbr: bigint, tbi: number): Half {
  const bits = size < TXSZ_MIN || size > TXSZ_MAX ? 0 : 64 - size;
  const { pageShift, stride } = granule;
  const startLevel = 4 - Math.ceil((bits - pageShift) / stride);
  const startBits = bits - (pageShift + stride * (3 - startLevel));
  return {
    disabled: disabled !== 0,
    bits,
    granule,
    topByteIgnored: tbi !== 0,
    startLevel,
    startBits,
    table: bits === 0 ? 0 : alignTable(Number(ttbr & 0xffff_ffff_fffen), startBits),
  };
}

export function decodeStage1({ sctlr, tcr, ttbr0, ttbr1, mair }: Stage1Registers): Stage1Regime {
  const low = Number(sctlr & 0xffff_ffffn);
  let deviceAttrs = 0;
  for (let n = 0; n < 8; n++) if (field(mair, 8 * n + 4, 4) === 0) deviceAttrs |= 1 << n;
  const tg = (shift: number, table: readonly Granule[]) => table[field(tcr, shift, 2)]!;
  return {
    enabled: (low & SCTLR.M) !== 0,
    halves: [
      halfOf(field(tcr, 0, 6), field(tcr, 7, 1), tg(14, TG0), ttbr0, field(tcr, 37, 1)),
      halfOf(field(tcr, 16, 6), field(tcr, 23, 1), tg(30, TG1), ttbr1, field(tcr, 38, 1)),
    ],
    ipaEnd: 2 ** IPS_BITS[field(tcr, 32, 3)]!,
    walks: new WalkCache(),
    hardwareAf: field(tcr, 39, 1) !== 0,
    hardwareDirty: field(tcr, 39, 2) === 3,
    writableExecuteNever: (low & SCTLR.WXN) !== 0,
    deviceAttrs,
  };
}

/** "check": as a store, but nothing gets dirty. */
export type AccessKind = "read" | "write" | "execute" | "check";

/** Result of a translation; one object that is filled again and again. */
export interface Stage1Result {
  /** Below 2^48. */
  ipa: number;
  device: boolean;
  /** Whether a store would pass too, without any update of a descriptor. */
  writable: boolean;
  /** Bytes that one TLB entry may stand for: a page, a block, or contiguous ones. */
  span: number;
  /** FSC with the level, where translate() said "fault". */
  fsc: number;
  /** Where translate() said "stage2": the abort came from a walk, and this is set. */
  walk: boolean;
  /** Level of the descriptor whose fetch or update aborted. */
  level: number;
  /** There are no bytes behind the descriptor's address, `ipa`: an external abort. */
  external: boolean;
}

export const newStage1Result = (): Stage1Result => ({
  ipa: 0,
  device: false,
  writable: false,
  span: 0,
  fsc: 0,
  walk: false,
  level: 0,
  external: false,
});

/**
 * Translates one access.
 * @param low @param high halves of the virtual address, any sign
 * @param isPrivileged permissions of EL1; false: of EL0
 * @returns "ok"; "fault" with out.fsc; "stage2": the walk itself aborted, cpu.fault tells
 */
export function translateStage1(
  cpu: Stage2,
  memory: HostMemory,
  regime: Stage1Regime,
  low: number,
  high: number,
  kind: AccessKind,
  isPrivileged: boolean,
  out: Stage1Result,
): "ok" | "fault" | "stage2" {
  out.walk = false;
  out.external = false;
  if (!regime.enabled) return flat(low, high, kind, out);
  // Bit 55 chooses the half, tagged address or not.
  const upper = (high & (1 << 23)) !== 0;
  const half = regime.halves[upper ? 1 : 0];
  const region = half.bits;
  if (half.disabled || region === 0 || !isCanonical(high, low, half, upper)) {
    return fault(out, FSC.translation);
  }
  const { pageShift, stride, blockLevel } = half.granule;
  // What the last level's tables are known by: the address above what such a table spans.
  const key = bitsAt(low, high, pageShift + stride, KEY_MASK) | (upper ? UPPER_KEY : 0);
  const known = regime.walks.find(key);
  let level = half.startLevel;
  let indexBits = half.startBits;
  let { table } = half;
  let tableHi = 0;
  if (known >= 0) {
    level = 3;
    indexBits = stride;
    table = regime.walks.tableAt(known);
    tableHi = regime.walks.limitsAt(known);
  } else if (table >= regime.ipaEnd) return fault(out, FSC.addressSize);
  for (; ; indexBits = stride, level++) {
    const shift = pageShift + stride * (3 - level);
    const at = table + bitsAt(low, high, shift, (1 << indexBits) - 1) * DESCRIPTOR_BYTES;
    const pa = cpu.translate(at, false);
    if (pa < 0 || pa >= UNBACKED_BASE) return stage2(out, level, pa, at);
    const lo = memory.u32[pa >>> 2]!;
    const hi = memory.u32[(pa >>> 2) + 1]!;
    if ((lo & S1_LO.VALID) === 0) return fault(out, FSC.translation | level);
    const isTable = level < 3 && (lo & S1_LO.TYPE) !== 0;
    if (!isTable && (level === 3 ? (lo & S1_LO.TYPE) === 0 : level < blockLevel)) {
      return fault(out, FSC.translation | level);
    }
    // Of what the descriptor leads to: at most a block of 1 GiB.
    const inside = (1 << (isTable ? pageShift : shift)) - 1;
    const base = (hi & HI_OA) * TWO_32 + ((lo & ~inside) >>> 0);
    if (base >= regime.ipaEnd) return fault(out, FSC.addressSize | level);
    if (!isTable) {
      out.ipa = base + (low & inside);
      const isContiguous = (hi & S1_HI.CONTIGUOUS) !== 0;
      out.span = (inside + 1) * (isContiguous ? half.granule.contiguous[level]! : 1);
      return leaf(cpu, memory, regime, at, lo, hi, tableHi, level, kind, isPrivileged, out);
    }
    table = base;
    tableHi |= hi;
    if (level === 2) regime.walks.fill(key, table, tableHi);
  }
}

/** Of a walk's key: 27 bits at most, for the smallest granule. */
const KEY_MASK = 2 ** 27 - 1;
const UPPER_KEY = 1 << 28;

/** Bits of a 64-bit address, from `shift` on. */
function bitsAt(low: number, high: number, shift: number, mask: number): number {
  if (shift >= 32) return (high >>> (shift - 32)) & mask;
  return ((low >>> shift) | (high << (32 - shift))) & mask;
}

/** Stage 1 off: an address is its own output, and data is Device. */
function flat(low: number, high: number, kind: AccessKind, out: Stage1Result): "ok" | "fault" {
  if (high >>> 0 >= 2 ** (PA_BITS - 32)) return fault(out, FSC.addressSize);
  out.ipa = (high >>> 0) * TWO_32 + (low >>> 0);
  out.device = kind !== "execute";
  out.writable = true;
  return "ok";
}

/** BranchAddr: PC never holds a tag, so the top byte of an address follows its bit 55. */
export function untaggedHigh(regime: Stage1Regime, high: number): number {
  const upper = (high & (1 << 23)) !== 0;
  if (!regime.enabled || !regime.halves[upper ? 1 : 0].topByteIgnored) return high;
  return upper ? high | 0xff00_0000 : high & 0x00ff_ffff;
}

function isCanonical(high: number, low: number, half: Half, upper: boolean): boolean {
  const top = half.topByteIgnored ? (high << 8) >> 8 : high | 0;
  const above = half.bits - 32;
  if (above >= 0) return top >> above === (upper ? -1 : 0);
  return top === (upper ? -1 : 0) && low >>> half.bits === (upper ? -1 >>> half.bits : 0);
}

/** A first table holds as many entries as the region needs, and is aligned to its size. */
function alignTable(table: number, indexBits: number): number {
  const size = Math.max(64, 2 ** indexBits * DESCRIPTOR_BYTES);
  return table - (table % size);
}

/** @param tableHi upper halves of the tables above, or-ed: their limits */
function leaf(
  cpu: Stage2,
  memory: HostMemory,
  regime: Stage1Regime,
  at: number,
  lo: number,
  hi: number,
  tableHi: number,
  level: number,
  kind: AccessKind,
  isPrivileged: boolean,
  out: Stage1Result,
): "ok" | "fault" | "stage2" {
  let next = lo;
  if ((lo & S1_LO.AF) === 0) {
    if (!regime.hardwareAf) return fault(out, FSC.accessFlag | level);
    next |= S1_LO.AF;
  }
  const el0 = (lo & S1_LO.AP_EL0) !== 0 && (tableHi & S1_HI.AP_TABLE_EL0) === 0;
  const limited = (tableHi & S1_HI.AP_TABLE_RO) !== 0;
  const managed = regime.hardwareDirty && (hi & S1_HI.DBM) !== 0;
  const mayWrite = !limited && ((lo & S1_LO.AP_RO) === 0 || managed);
  const readable = isPrivileged || el0;
  if (kind === "execute") {
    // What EL0 may write, EL1 never executes. EL0 may execute what it may not read.
    const never = isPrivileged
      ? (hi & S1_HI.PXN) | (tableHi & S1_HI.PXN_TABLE) | (el0 && mayWrite ? 1 : 0)
      : (hi & S1_HI.UXN) | (tableHi & S1_HI.UXN_TABLE);
    if (never !== 0 || (regime.writableExecuteNever && mayWrite)) {
      return fault(out, FSC.permission | level);
    }
  } else if (!readable || (kind !== "read" && !mayWrite)) {
    return fault(out, FSC.permission | level);
  }
  // Clean to dirty: hardware clears the read-only bit.
  if (kind === "write" && (lo & S1_LO.AP_RO) !== 0) next &= ~S1_LO.AP_RO;
  if (next !== lo) {
    const pa = cpu.translate(at, true);
    if (pa < 0) return stage2(out, level, pa, at);
    memory.u32[pa >>> 2] = next;
  }
  out.device = (regime.deviceAttrs & (1 << ((lo >>> S1_LO.ATTR_SHIFT) & 7))) !== 0;
  out.writable = readable && !limited && (next & S1_LO.AP_RO) === 0;
  return "ok";
}

function fault(out: Stage1Result, fsc: number): "fault" {
  out.fsc = fsc;
  return "fault";
}

function stage2(out: Stage1Result, level: number, pa: number, at: number): "stage2" {
  out.walk = true;
  out.level = level;
  out.external = pa >= 0;
  if (out.external) out.ipa = at;
  return "stage2";
}
