// Owns: what VTCR_EL2 and VTTBR_EL2 mean: granule, start level, concatenation. Any thread.
// @source Arm ARM D24.2 (VTCR_EL2, VTTBR_EL2), dirty-tracking.md 1.2, 1.7
import { assert } from "../../base/assert.js";
import {
  levelSize,
  PAGE_SIZES,
  type PageGeometry,
  type PageSize,
  pageGeometry,
} from "../../base/page.js";

/** Field positions of VTCR_EL2. */
const VTCR = {
  T0SZ: 0n,
  SL0: 6n,
  IRGN0_WBWA: 1n << 8n,
  ORGN0_WBWA: 1n << 10n,
  SH0_INNER: 3n << 12n, // tidy: bit of SH0
  TG0: 14n,
  PS: 16n,
  HA: 1n << 21n,
  HD: 1n << 22n,
  HDBSS: 1n << 45n,
  RES1: 1n << 31n,
} as const;

/** TG0 codes by granule; code 3 is reserved. */
const GRANULE_4K = PAGE_SIZES[0]!;
const [, GRANULE_16K, GRANULE_64K] = PAGE_SIZES;
const SIZE_OF_TG0: readonly (PageSize | undefined)[] = [GRANULE_4K, GRANULE_64K, GRANULE_16K];
/** PS of 48 bits. */
const PS_48 = 5n;
/** Highest number of tables that may be concatenated at the start level. */
const CONCATENATION_MAX = 16;

/** Stage-2 translation regime: decoded once per register write, used by every walk. */
export interface Stage2Regime {
  readonly geometry: PageGeometry;
  readonly ipaBits: number;
  /** First IPA beyond the input size. */
  readonly ipaEnd: number;
  readonly startLevel: number;
  /** Entries of the (possibly concatenated) start table. */
  readonly startEntries: number;
  /** Physical address of the start table. */
  readonly root: number;
  readonly vmid: number;
  /** Hardware management of the access flag. */
  readonly ha: boolean;
  /** Hardware management of dirty state; counts only with HA. */
  readonly hd: boolean;
  /** Each clean-to-dirty update appends an entry; legal only with HA and HD. */
  readonly hdbss: boolean;
}

/**
 * Levels that KVM picks for an IPA size: as few as concatenation allows, at least two.
 * @returns the start level, 0 to 2
 */
export function startLevelFor(geometry: PageGeometry, ipaBits: number): number {
  const levels = Math.max(2, Math.floor((ipaBits - 4 - 4) / geometry.bitsPerLevel));
  const start = 4 - levels;
  assert(
    startEntriesFor(geometry, ipaBits, start) <= CONCATENATION_MAX * geometry.entriesPerTable,
    "the start level needs too many concatenated tables",
  );
  return start;
}

export function startEntriesFor(geometry: PageGeometry, ipaBits: number, level: number): number {
  return Math.max(1, 2 ** ipaBits / levelSize(geometry, level));
}

/** SL0 counts levels up from here: 2 with the 4 KiB granule, 3 with the others. */
function startLevelOfSl0Zero(size: PageSize): number {
  return size === GRANULE_4K ? 2 : 3;
}

/** Value of VTCR_EL2 for a VM. */
export function encodeVtcr(
  geometry: PageGeometry,
  ipaBits: number,
  hardwareDirty: boolean,
  hdbss = false,
): bigint {
  const start = startLevelFor(geometry, ipaBits);
  const sl0 = BigInt(startLevelOfSl0Zero(geometry.size) - start);
  let vtcr = VTCR.RES1 | VTCR.IRGN0_WBWA | VTCR.ORGN0_WBWA | VTCR.SH0_INNER | VTCR.HA;
  vtcr |= BigInt(64 - ipaBits) << VTCR.T0SZ;
  vtcr |= sl0 << VTCR.SL0;
  vtcr |= BigInt(SIZE_OF_TG0.indexOf(geometry.size)) << VTCR.TG0;
  vtcr |= PS_48 << VTCR.PS;
  if (hardwareDirty) vtcr |= VTCR.HD;
  if (hdbss) vtcr |= VTCR.HDBSS;
  return vtcr;
}

/** Value of VTTBR_EL2: VMID in 63:48, table address in 47:1. */
export function encodeVttbr(root: number, vmid: number): bigint {
  return (BigInt(vmid) << 48n) | BigInt(root);
}

/** Decodes both registers as the walker sees them. */
export function decodeRegime(vtcr: bigint, vttbr: bigint): Stage2Regime {
  const size = SIZE_OF_TG0[Number((vtcr >> VTCR.TG0) & 3n)];
  assert(size !== undefined, "VTCR_EL2.TG0 is reserved");
  const geometry = pageGeometry(size);
  const ipaBits = 64 - Number(vtcr & 0x3fn);
  const sl0 = Number((vtcr >> VTCR.SL0) & 3n);
  const startLevel = startLevelOfSl0Zero(size) - sl0;
  return {
    geometry,
    ipaBits,
    ipaEnd: 2 ** ipaBits,
    startLevel,
    startEntries: startEntriesFor(geometry, ipaBits, startLevel),
    root: Number(vttbr & 0xffff_ffff_fffen),
    vmid: Number(vttbr >> 48n),
    ha: (vtcr & VTCR.HA) !== 0n,
    hd: (vtcr & VTCR.HD) !== 0n,
    hdbss: (vtcr & VTCR.HDBSS) !== 0n,
  };
}
