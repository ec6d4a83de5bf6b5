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

export interface Stage2Step {
  readonly level: number;
  readonly tableAddress: bigint;
  readonly index: number;
  readonly descriptor: bigint;
  readonly kind: "invalid" | "table" | "block" | "page";
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
    steps.push({
      level,
      tableAddress: BigInt(tableAddress),
      index,
      descriptor,
      kind: kindOf(level, lo),
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

function kindOf(level: number, lo: number): Stage2Step["kind"] {
  if ((lo & LO.VALID) === 0) return "invalid";
  if (level === 3) return "page";
  return (lo & LO.TYPE) !== 0 ? "table" : "block";
}
