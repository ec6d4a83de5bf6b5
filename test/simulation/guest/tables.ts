// Stage-1 tables of a simulated guest, as bytes: an identity map of its code, its windows and the
// doorbell. Descriptors of windows stand in one row, in the order of their pages. Test process.
// @source Arm ARM D8.2 (translation process), D8.3 (descriptors)

const VALID = 1n;
const TABLE_OR_PAGE = 2n;
export const AP_RO = 1n << 7n;
export const AF = 1n << 10n;
const INNER_SHAREABLE = 3n << 8n;
const DEVICE = 1n << 2n;
const DBM = 1n << 51n;
const EXECUTE_NEVER = 3n << 53n;
const VA_BITS = 40;
const DESCRIPTOR_BYTES = 8;

/** Attribute 0 Normal write-back, attribute 1 Device-nGnRnE. */
export const MAIR = 0xffn;

export interface MapRequest {
  /** log2 of the granule. */
  readonly shift: number;
  /** Where the tables will lie. */
  readonly at: number;
  /** Pages of code, read, written and executed by EL1. */
  readonly code: { readonly first: number; readonly pages: number };
  readonly windows: { readonly first: number; readonly pages: number };
  readonly device: number;
  /** Hardware keeps AF and dirty state: descriptors begin clean and unaccessed. */
  readonly managed: boolean;
}

export interface GuestTables {
  readonly bytes: Uint8Array;
  readonly ttbr0: bigint;
  readonly tcr: bigint;
  /** Address of the first window page's descriptor. */
  readonly descriptors: number;
}

const TG0: Readonly<Record<number, bigint>> = { 12: 0n, 14: 2n, 16: 1n }; // tidy: architected

export function guestTables(request: MapRequest): GuestTables {
  const { shift, at, code, windows, device, managed } = request;
  const size = 2 ** shift;
  const stride = shift - 3;
  const perTable = 2 ** stride;
  const start = 4 - Math.ceil((VA_BITS - shift) / stride);
  const words = new Map<number, bigint>();
  let next = at;
  const newTable = (count = 1): number => {
    const table = next;
    next += count * size;
    return table;
  };
  const root = newTable();
  const firstRow = Math.floor(windows.first / perTable);
  const rows = Math.floor((windows.first + windows.pages - 1) / perTable) - firstRow + 1;
  const row = newTable(rows);
  const map = (page: number, descriptor: bigint): void => {
    let table = root;
    for (let level = start; level < 3; level++) {
      const from = stride * (3 - level);
      const slot = table + (Math.floor(page / 2 ** from) % perTable) * DESCRIPTOR_BYTES;
      const known = words.get(slot);
      if (known === undefined) {
        const n = Math.floor(page / perTable) - firstRow;
        const isRow = level === 2 && n >= 0 && n < rows;
        const below = isRow ? row + n * size : newTable();
        words.set(slot, BigInt(below) | TABLE_OR_PAGE | VALID);
        table = below;
      } else {
        table = Number(known & ~3n);
      }
    }
    words.set(table + (page % perTable) * DESCRIPTOR_BYTES, descriptor);
  };
  const page = (n: number, more: bigint): bigint =>
    (BigInt(n) << BigInt(shift)) | VALID | TABLE_OR_PAGE | INNER_SHAREABLE | more;
  for (let n = code.first; n < code.first + code.pages; n++) map(n, page(n, AF));
  const clean = managed ? DBM | AP_RO : AF;
  for (let n = windows.first; n < windows.first + windows.pages; n++) {
    map(n, page(n, clean | EXECUTE_NEVER));
  }
  map(device, page(device, AF | DEVICE | EXECUTE_NEVER));
  const bytes = new Uint8Array(next - at);
  const view = new DataView(bytes.buffer);
  for (const [pa, word] of words) view.setBigUint64(pa - at, word, true);
  const hardware = managed ? 3n << 39n : 0n;
  const tcr = BigInt(64 - VA_BITS) | (TG0[shift]! << 14n) | (2n << 32n) | hardware | (1n << 23n);
  const descriptors = row + (windows.first % perTable) * DESCRIPTOR_BYTES;
  return { bytes, ttbr0: BigInt(root), tcr, descriptors };
}
