// Owns: the VM table and the VPE tables of an IRS: which bits of their bytes mean what. Any thread.
//
//   VMT_BASER ─▶ VM 0 │ VM 1 │ …        32 bytes each (VMTE)
//                  ├─ word 1 ─▶ VPE 0 │ VPE 1 │ …   8 bytes each (VPETE)
//                  ├─ word 2 ─▶ IST of its LPIs
//                  └─ word 3 ─▶ IST of its SPIs
//
// The layout is our choice: no document that we have shows it. Its fields go by the names that
// drivers use for them.
//   word 0  VALID b0, SPI_RANGE[24:1]: SPIs that exist
//   word 1  VPET_VALID b0, VPET_ADDR[55:3], VPE_ID_BITS[63:59]
//   words 2, 3  IST_VALID b0, L2SZ[2:1], IST_ADDR[55:6], ISTSZ[57:56], STRUCTURE b58,
//               ID_BITS[63:59]
//   VPETE   VALID b0, RESIDENT b1, DB b2: a doorbell was asked for, for interrupts of
//           priorities up to DBPM[7:3]
import type { IstLayout } from "./ist.js";

export const VMTE_BYTES = 32;
export const VPETE_BYTES = 8;
export const VPETE = { VALID: 1, RESIDENT: 2, DB: 4, DBPM_SHIFT: 3, DBPM: 0x1f << 3 } as const;
/** Words of an entry. */
export const VMTE_WORD = { vm: 0, vpet: 1, lpi: 2, spi: 3 } as const;
export const VMTE_VALID = 1n;

const VPET_ADDR = 0x00ff_ffff_ffff_fff8n;
const IST_ADDR = 0x00ff_ffff_ffff_ffc0n;
const ID_BITS_SHIFT = 59n;
const SPI_RANGE_SHIFT = 1n;
const SPI_RANGE = 0xff_ffffn;
const L2SZ_SHIFT = 1n;
const ISTSZ_SHIFT = 56n;
const STRUCTURE = 1n << 58n;

/** Of IST_CFGR and VMTE: ISTSZ and L2SZ. 3 of either acts as 0. */
export const ENTRY_BYTES = [4, 8, 16, 4] as const;
export const LEVEL2_BYTES = [2 ** 12, 2 ** 14, 2 ** 16, 2 ** 12] as const; // tidy: 4, 16 and 64 KiB

/** What a VM has; addresses are the host's. */
export interface VmEntry {
  readonly spis: number;
  readonly vpet: { readonly base: number; readonly idBits: number } | null;
  readonly lpi: IstLayout | null;
  readonly spi: IstLayout | null;
}

export function istWord(layout: IstLayout | null): bigint {
  if (layout === null) return 0n;
  const istsz = BigInt(ENTRY_BYTES.indexOf(layout.entryBytes));
  const l2sz = BigInt(Math.max(0, LEVEL2_BYTES.indexOf(layout.level2Bytes)));
  return (
    VMTE_VALID |
    (l2sz << L2SZ_SHIFT) |
    BigInt(layout.base) |
    (istsz << ISTSZ_SHIFT) |
    (layout.isTwoLevel ? STRUCTURE : 0n) |
    (BigInt(layout.idBits) << ID_BITS_SHIFT)
  );
}

/** @param count entries that exist; of LPIs as many as ID_BITS allows */
export function istLayout(word: bigint, count?: number): IstLayout | null {
  if ((word & VMTE_VALID) === 0n) return null;
  const idBits = Number(word >> ID_BITS_SHIFT);
  return {
    base: Number(word & IST_ADDR),
    idBits,
    count: Math.min(count ?? Infinity, 2 ** idBits),
    entryBytes: ENTRY_BYTES[Number((word >> ISTSZ_SHIFT) & 3n)]!,
    isTwoLevel: (word & STRUCTURE) !== 0n,
    level2Bytes: LEVEL2_BYTES[Number((word >> L2SZ_SHIFT) & 3n)]!,
  };
}

/** An entry with VALID set. */
export function encodeVmte({ spis, vpet, lpi, spi }: VmEntry): readonly bigint[] {
  const table = vpet === null ? 0n : VMTE_VALID | BigInt(vpet.base);
  return [
    VMTE_VALID | (BigInt(spis) << SPI_RANGE_SHIFT),
    table | (BigInt(vpet?.idBits ?? 0) << ID_BITS_SHIFT),
    istWord(lpi),
    istWord(spi),
  ];
}

/** @returns null for an entry that isn't valid */
export function decodeVmte(words: readonly bigint[]): VmEntry | null {
  const [vm = 0n, vpet = 0n, lpi = 0n, spi = 0n] = words;
  if ((vm & VMTE_VALID) === 0n) return null;
  const spis = Number((vm >> SPI_RANGE_SHIFT) & SPI_RANGE);
  const base = Number(vpet & VPET_ADDR);
  const idBits = Number(vpet >> ID_BITS_SHIFT);
  return {
    spis,
    vpet: (vpet & VMTE_VALID) === 0n ? null : { base, idBits },
    lpi: istLayout(lpi),
    spi: istLayout(spi, spis),
  };
}
