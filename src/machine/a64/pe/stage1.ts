// Owns: the stage-1 translation of one access, hardware's updates of its descriptors. VM thread.
//
//   VA ──TTBR0 | TTBR1──▶ level … 3 ──▶ descriptor ──▶ IPA, type, permissions
//             each descriptor is fetched through stage 2, which may abort (S1PTW)
// @source Arm ARM D8.2 (translation process), D8.4 (access control), D8.5 (AF and dirty state)
import type { HostMemory } from "../../host-memory.js";
import { FSC, type Granule, IPS_BITS, S1_HI, S1_LO, SCTLR, TG0, TG1 } from "./stage1.table.js";

/** What a walk reads tables through: a host CPU's stage 2. */
export interface Stage2 {
  /** @returns host address, or -1 after an abort */
  translate(ipa: number, isWrite: boolean): number;
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
  readonly table: number;
  readonly topByteIgnored: boolean;
}

/** EL1&0 stage 1 as its registers say; decoded anew when one of them changes. */
export interface Stage1Regime {
  readonly enabled: boolean;
  readonly halves: readonly [Half, Half];
  readonly ipaBits: number;
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
  return {
    disabled: disabled !== 0,
    bits,
    granule,
    table: Number(ttbr & 0xffff_ffff_fffen),
    topByteIgnored: tbi !== 0,
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
    ipaBits: IPS_BITS[field(tcr, 32, 3)]!,
    hardwareAf: field(tcr, 39, 1) !== 0,
    hardwareDirty: field(tcr, 39, 2) === 3,
    writableExecuteNever: (low & SCTLR.WXN) !== 0,
    deviceAttrs,
  };
}

export type AccessKind = "read" | "write" | "execute";

/** Result of a translation; one object that is filled again and again. */
export interface Stage1Result {
  /** Below 2^48. */
  ipa: number;
  device: boolean;
  /** Whether a store would pass too, without any update of a descriptor. */
  writable: boolean;
  /** FSC with the level, where translate() said "fault". */
  fsc: number;
  /** Where translate() said "stage2": the abort came from a walk, and this is set. */
  walk: boolean;
}

export const newStage1Result = (): Stage1Result => ({
  ipa: 0,
  device: false,
  writable: false,
  fsc: 0,
  walk: false,
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
  if (!regime.enabled) return flat(low, high, kind, out);
  // Bit 55 chooses the half, tagged address or not.
  const upper = (high & (1 << 23)) !== 0;
  const half = regime.halves[upper ? 1 : 0];
  const region = half.bits;
  if (half.disabled || region === 0 || !isCanonical(high, low, half, upper)) {
    return fault(out, FSC.translation);
  }
  const { pageShift, stride, blockLevel } = half.granule;
  let level = 4 - Math.ceil((region - pageShift) / stride);
  // The region's offset: at most 48 bits.
  const va = ((high & (2 ** Math.max(0, region - 32) - 1)) >>> 0) * TWO_32 + (low >>> 0);
  const startBits = region - (pageShift + stride * (3 - level));
  let table = alignTable(half.table, startBits);
  let tableHi = 0;
  if (table >= 2 ** regime.ipaBits) return fault(out, FSC.addressSize);
  for (let indexBits = startBits; ; indexBits = stride, level++) {
    const shift = pageShift + stride * (3 - level);
    const index = Math.floor(va / 2 ** shift) % 2 ** indexBits;
    const at = table + index * DESCRIPTOR_BYTES;
    const pa = cpu.translate(at, false);
    if (pa < 0) return stage2(out);
    const lo = memory.u32[pa >>> 2]!;
    const hi = memory.u32[(pa >>> 2) + 1]!;
    if ((lo & S1_LO.VALID) === 0) return fault(out, FSC.translation | level);
    const isTable = level < 3 && (lo & S1_LO.TYPE) !== 0;
    const size = isTable ? 2 ** pageShift : 2 ** shift;
    const base = (hi & HI_OA) * TWO_32 + ((lo & -size) >>> 0);
    if (!isTable && (level === 3 ? (lo & S1_LO.TYPE) === 0 : level < blockLevel)) {
      return fault(out, FSC.translation | level);
    }
    if (base >= 2 ** regime.ipaBits) return fault(out, FSC.addressSize | level);
    if (isTable) {
      table = base;
      tableHi |= hi;
      continue;
    }
    out.ipa = base + (va % size);
    return leaf(cpu, memory, regime, { at, lo, hi, tableHi, level }, kind, isPrivileged, out);
  }
}

/** Stage 1 off: an address is its own output, and data is Device. */
function flat(low: number, high: number, kind: AccessKind, out: Stage1Result): "ok" | "fault" {
  if (high >>> 0 >= 2 ** (PA_BITS - 32)) return fault(out, FSC.addressSize);
  out.ipa = (high >>> 0) * TWO_32 + (low >>> 0);
  out.device = kind !== "execute";
  out.writable = true;
  return "ok";
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

interface Leaf {
  readonly at: number;
  readonly lo: number;
  readonly hi: number;
  /** Upper halves of the tables above, or-ed: their limits. */
  readonly tableHi: number;
  readonly level: number;
}

function leaf(
  cpu: Stage2,
  memory: HostMemory,
  regime: Stage1Regime,
  { at, lo, hi, tableHi, level }: Leaf,
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
  } else if (!readable || (kind === "write" && !mayWrite)) {
    return fault(out, FSC.permission | level);
  }
  // Clean to dirty: hardware clears the read-only bit.
  if (kind === "write" && (lo & S1_LO.AP_RO) !== 0) next &= ~S1_LO.AP_RO;
  if (next !== lo) {
    const pa = cpu.translate(at, true);
    if (pa < 0) return stage2(out);
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

function stage2(out: Stage1Result): "stage2" {
  out.walk = true;
  return "stage2";
}
