// Owns: a guest's accesses to the virtual IRS: the configuration frame, and the SETLPI frame behind
// it that is not there. VM thread.
// Words are read and written as words; IST_BASER and SPI_VMR whole or by halves; everything else
// reads as zero, and stores are ignored.
// @source interrupts.md 5.6; gicv5-observed.md 2, 7
import type { V5Context } from "./context.js";
import { IRS_REGISTERS, type IrsRegister } from "./irs-registers.table.js";

export const IRS_FRAME_BYTES = 0x1_0000;
/** Both frames. */
export const IRS_BYTES = 2 * IRS_FRAME_BYTES;

const BY_WORD: ReadonlyMap<number, IrsRegister> = new Map(
  IRS_REGISTERS.flatMap((row): [number, IrsRegister][] =>
    row.bytes === 8
      ? [
          [row.offset, row],
          [row.offset + 4, row],
        ]
      : [[row.offset, row]],
  ),
);

/** The register that has this byte; null: none. */
export function registerAt(offset: number): IrsRegister | null {
  return BY_WORD.get(offset - (offset % 4)) ?? null;
}

const LOW = 0xffff_ffffn;

function isAllowed(row: IrsRegister, offset: number, length: number): boolean {
  if (length === 4) return offset % 4 === 0;
  return length === 8 && row.bytes === 8 && offset === row.offset;
}

/** @returns bytes of a load, empty for a store */
export function accessIrs(
  v5: V5Context,
  offset: number,
  length: number,
  store: Uint8Array | null,
): Uint8Array {
  const row = registerAt(offset);
  const loaded = new Uint8Array(store === null ? length : 0);
  if (row === null || !isAllowed(row, offset, length)) return loaded;
  const isHigh = offset !== row.offset;
  if (store === null) {
    const view = new DataView(loaded.buffer);
    const value = row.read(v5);
    if (length === 8) view.setBigUint64(0, value, true);
    else view.setUint32(0, Number((isHigh ? value >> 32n : value) & LOW), true);
    return loaded;
  }
  const view = new DataView(store.buffer, store.byteOffset, length);
  row.write(v5, length === 8 ? view.getBigUint64(0, true) : merged(v5, row, isHigh, view));
  return loaded;
}

/** A word of a register of two: the other half stays. */
function merged(v5: V5Context, row: IrsRegister, isHigh: boolean, view: DataView): bigint {
  const half = BigInt(view.getUint32(0, true));
  if (row.bytes === 4) return half;
  const value = row.read(v5);
  return isHigh ? (value & LOW) | (half << 32n) : (value & ~LOW) | half;
}
