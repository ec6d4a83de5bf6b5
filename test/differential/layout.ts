// Owns: where a random block's code and data lie, and which registers have a job. Test process.

export const PAGE = 0x1000; // tidy: the flat machine's own granule
/** Code may straddle the first two pages; the third holds functions that are patched. */
export const CODE = 0x4008_0000;
export const CODE_PAGES = 3;
export const DATA = 0x4009_0000;
export const DATA_PAGES = 4;
/** X28: what addresses are made of. Everything within ±0xfff of it and small offsets is mapped. */
export const DATA_MIDDLE = DATA + 0x1800;

export const DATA_BASE = 28;
export const CODE_BASE = 27;
/** Targets of indirect branches, addresses of code to patch. */
export const TARGET = 26;
export const LINK = 30;
export const OUTER = 25;
export const INNER = 24;
/** Written only on purpose. */
export const RESERVED: ReadonlySet<number> = new Set([24, 25, 26, 27, 28, 30]);
/** Bases of loads and stores; 31 is SP. */
export const BASES = [19, 20, 21, 22, 31] as const;
export const INDEXES = [5, 6, 7, 23] as const;

export const hex32 = (word: number): string => `0x${(word >>> 0).toString(16).padStart(8, "0")}`;
