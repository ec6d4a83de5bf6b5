// Owns: a look at one IPA's descriptors, as the walker reads them. VM thread.
import {
  decodeRegime,
  emptyWalk,
  HI,
  type LeafState,
  LO,
  leafState,
  outputAddress,
  walkStage2,
} from "../machine/index.js";
import type { Vm } from "./vm.js";

const DESCRIPTOR_BYTES = 8;

export interface Stage2Step {
  readonly level: number;
  readonly tableAddress: bigint;
  readonly index: number;
  readonly descriptor: bigint;
  readonly kind: "invalid" | "table" | "block" | "page";
  /** Physical address of the descriptor. */
  readonly descriptorAddress: bigint;
  readonly bits: Stage2Bits;
  /** Of a leaf; null for others. */
  readonly state: LeafState | null;
}

/** A descriptor's fields; those of a leaf mean nothing in a table descriptor. */
export interface Stage2Bits {
  readonly valid: boolean;
  /** Bit 1: table, or page at level 3. */
  readonly type: boolean;
  /** MemAttr[3:0]. */
  readonly memAttr: number;
  /** S2AP[0] and S2AP[1]. */
  readonly read: boolean;
  readonly write: boolean;
  readonly shareability: number;
  readonly accessFlag: boolean;
  readonly outputAddress: bigint;
  readonly dbm: boolean;
  readonly contiguous: boolean;
  /** XN[1:0]. */
  readonly executeNever: number;
  /** Bits 58:55, which hardware ignores. */
  readonly software: number;
}

export interface Stage2Leaf {
  readonly outputAddress: bigint;
  readonly level: number;
  readonly size: bigint;
  readonly state: LeafState;
  readonly accessFlag: boolean;
  readonly dbm: boolean;
  readonly contiguous: boolean;
  /** XN[1:0]. */
  readonly executeNever: number;
}

/** Every descriptor on the way to an IPA below 2^ipaBits; `leaf` null: a translation fault. */
export function viewStage2(
  vm: Vm,
  ipa: number,
): { startLevel: number; steps: readonly Stage2Step[]; leaf: Stage2Leaf | null } {
  const regime = decodeRegime(vm.vtcr, vm.vttbr);
  const steps: Stage2Step[] = [];
  const out = emptyWalk();
  walkStage2(vm.host.memory, regime, ipa, out, null, (level, tableAddress, index, lo, hi) => {
    const descriptor = (BigInt(hi) << 32n) | BigInt(lo);
    const kind = kindOf(level, lo);
    const isLeaf = kind === "block" || kind === "page";
    const size = isLeaf ? vm.host.geometry.levelSizes[level]! : vm.pageSize;
    steps.push({
      level,
      tableAddress: BigInt(tableAddress),
      index,
      descriptor,
      kind,
      descriptorAddress: BigInt(tableAddress + index * DESCRIPTOR_BYTES),
      bits: bitsOf(lo, hi, size),
      state: isLeaf ? leafState(lo, hi) : null,
    });
  });
  if (!out.found) return { startLevel: regime.startLevel, steps, leaf: null };
  const leaf: Stage2Leaf = {
    outputAddress: BigInt(outputAddress(out.lo, out.hi, out.size)),
    level: out.level,
    size: BigInt(out.size),
    state: leafState(out.lo, out.hi),
    accessFlag: (out.lo & LO.AF) !== 0,
    dbm: (out.hi & HI.DBM) !== 0,
    contiguous: (out.hi & HI.CONTIGUOUS) !== 0,
    executeNever: (out.hi >>> HI.XN_SHIFT) & 3,
  };
  return { startLevel: regime.startLevel, steps, leaf };
}

function bitsOf(lo: number, hi: number, size: number): Stage2Bits {
  return {
    valid: (lo & LO.VALID) !== 0,
    type: (lo & LO.TYPE) !== 0,
    memAttr: (lo & LO.MEMATTR_NORMAL) >>> 2,
    read: (lo & LO.S2AP_READ) !== 0,
    write: (lo & LO.S2AP_WRITE) !== 0,
    shareability: (lo & LO.SH_INNER) >>> 8,
    accessFlag: (lo & LO.AF) !== 0,
    outputAddress: BigInt(outputAddress(lo, hi, size)),
    dbm: (hi & HI.DBM) !== 0,
    contiguous: (hi & HI.CONTIGUOUS) !== 0,
    executeNever: (hi >>> HI.XN_SHIFT) & 3,
    software: (hi >>> HI.SOFTWARE_SHIFT) & 0xf,
  };
}

function kindOf(level: number, lo: number): Stage2Step["kind"] {
  if ((lo & LO.VALID) === 0) return "invalid";
  if (level === 3) return "page";
  return (lo & LO.TYPE) !== 0 ? "table" : "block";
}
