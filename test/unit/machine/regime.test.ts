// Goal: VTCR_EL2 and VTTBR_EL2 are written and read as the Arm ARM defines them, for each granule.
// Method: start level and concatenation found by trying, SL0 from the manual's table, IPA 32 to 48.
import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../../src/base/assert.js";
import { PAGE_SIZES, pageGeometry } from "../../../src/base/page.js";
import {
  addressHi,
  addressLo,
  decodeRegime,
  encodeVtcr,
  encodeVttbr,
  leafState,
  outputAddress,
  startEntriesFor,
  startLevelFor,
} from "../../../src/machine/index.js";

/** SL0 by granule and start level. @source Arm ARM, VTCR_EL2.SL0 without LPA2 */
const SL0: Readonly<Record<number, Readonly<Record<number, bigint>>>> = {
  4096: { 2: 0n, 1: 1n, 0: 2n },
  16384: { 3: 0n, 2: 1n, 1: 2n },
  65536: { 3: 0n, 2: 1n, 1: 2n },
};
const TG0: Readonly<Record<number, bigint>> = { 4096: 0n, 65536: 1n, 16384: 2n };

/** Deepest level, but at least two of them, whose entries fit 16 tables side by side. */
function textbookStart(pageShift: number, ipaBits: number): { level: number; entries: number } {
  for (let level = 2; level >= 0; level--) {
    const bitsBelow = pageShift + (3 - level) * (pageShift - 3);
    const entries = 2 ** Math.max(0, ipaBits - bitsBelow);
    if (entries <= 16 * 2 ** (pageShift - 3)) return { level, entries };
  }
  throw new Error("no start level");
}

const rows = PAGE_SIZES.flatMap((size) =>
  Array.from({ length: 17 }, (_, i) => [size, 32 + i] as const),
);

describe("regime", () => {
  it.each(rows)("%d-byte granule, %d bits", (size, ipaBits) => {
    const geometry = pageGeometry(size);
    const expected = textbookStart(Math.log2(size), ipaBits);
    expect(startLevelFor(geometry, ipaBits)).toBe(expected.level);
    expect(startEntriesFor(geometry, ipaBits, expected.level)).toBe(expected.entries);
    for (const hd of [false, true]) {
      const vtcr = encodeVtcr(geometry, ipaBits, hd);
      expect(vtcr & 0x3fn).toBe(BigInt(64 - ipaBits));
      expect((vtcr >> 6n) & 3n).toBe(SL0[size]![expected.level]);
      expect((vtcr >> 14n) & 3n).toBe(TG0[size]);
      expect((vtcr >> 21n) & 1n).toBe(1n);
      expect((vtcr >> 22n) & 1n).toBe(hd ? 1n : 0n);
      expect((vtcr >> 31n) & 1n).toBe(1n);
      // FEAT_HDBSS is not there: its enable bit stays clear.
      expect((vtcr >> 45n) & 1n).toBe(0n);
      const vttbr = encodeVttbr(0x12_3450_0000, 0xabc);
      expect(decodeRegime(vtcr, vttbr)).toMatchObject({
        geometry,
        ipaBits,
        startLevel: expected.level,
        startEntries: expected.entries,
        root: 0x12_3450_0000,
        vmid: 0xabc,
        ha: true,
        hd,
      });
    }
  });

  it("reads the table address without CnP, and a VMID of 16 bits", () => {
    const vtcr = encodeVtcr(pageGeometry(4096), 40, false);
    const regime = decodeRegime(vtcr, (0xffffn << 48n) | 0xffff_ffff_0001n);
    expect(regime).toMatchObject({ root: 0xffff_ffff_0000, vmid: 0xffff });
  });

  it("takes no reserved granule", () => {
    const vtcr = encodeVtcr(pageGeometry(4096), 40, false) | (3n << 14n);
    expect(() => decodeRegime(vtcr, 0n)).toThrow(AssertionFailed);
  });
});

describe("descriptor", () => {
  it.each([0, 4096, 0xffff_f000, 2 ** 32, 2 ** 47 + 2 ** 21, 2 ** 48 - 4096])(
    "carries output address %d, whatever its attributes",
    (pa) => {
      const lo = (addressLo(pa) | 0x7ff) >>> 0;
      const hi = (addressHi(pa) | 0x07f8_0000) >>> 0;
      expect(outputAddress(lo, hi, 4096)).toBe(pa);
    },
  );

  it("names the four states by DBM and S2AP[1]", () => {
    const state = (dbm: number, writable: number) => leafState(writable << 7, dbm << 19);
    expect([state(0, 0), state(1, 0), state(1, 1), state(0, 1)]).toEqual([
      "read-only",
      "writable-clean",
      "writable-dirty",
      "writable-unmanaged",
    ]);
  });
});
