// Owns: names of hints, barrier domains, PSTATE fields and system instructions. Data only. Any thread.
// @source Arm ARM C5, "The A64 System Instruction Class"

/** By CRm:op2. */
export const HINTS: Readonly<Record<number, string>> = {
  0: "nop", 1: "yield", 2: "wfe", 3: "wfi", 4: "sev", 5: "sevl", 7: "xpaclri",
  8: "pacia1716", 10: "pacib1716", 12: "autia1716", 14: "autib1716", // tidy: hint numbers
  16: "esb", 17: "psb csync", 18: "tsb csync", 20: "csdb", 22: "clearbhb",
  24: "paciaz", 25: "paciasp", 26: "pacibz", 27: "pacibsp",
  28: "autiaz", 29: "autiasp", 30: "autibz", 31: "autibsp",
  32: "bti", 34: "bti c", 36: "bti j", 38: "bti jc",
};

/** By CRm. */
export const BARRIERS: Readonly<Record<number, string>> = {
  1: "oshld", 2: "oshst", 3: "osh", 5: "nshld", 6: "nshst", 7: "nsh",
  9: "ishld", 10: "ishst", 11: "ish", 13: "ld", 14: "st", 15: "sy",
};

/** By op1 and op2. */
export const PSTATE_FIELDS: Readonly<Record<string, string>> = {
  "0 3": "uao", "0 4": "pan", "0 5": "spsel", "3 1": "ssbs", "3 2": "dit", "3 4": "tco",
  "3 6": "daifset", "3 7": "daifclr",
};

/** op1, CRn, CRm, op2; name; whether it takes an address. */
const ROWS: readonly (readonly [string, string, boolean])[] = [
  ["0 7 1 0", "ic ialluis", false],
  ["0 7 5 0", "ic iallu", false],
  ["3 7 5 1", "ic ivau", true],
  ["3 7 3 4", "cfp rctx", true],
  ["3 7 3 5", "dvp rctx", true],
  ["3 7 3 7", "cpp rctx", true],
  ["0 7 6 1", "dc ivac", true],
  ["0 7 6 2", "dc isw", true],
  ["3 7 4 1", "dc zva", true],
  ["3 7 10 1", "dc cvac", true],
  ["0 7 10 2", "dc csw", true],
  ["3 7 11 1", "dc cvau", true],
  ["3 7 12 1", "dc cvap", true],
  ["3 7 14 1", "dc civac", true],
  ["0 7 14 2", "dc cisw", true],
  ["0 7 8 0", "at s1e1r", true],
  ["0 7 8 1", "at s1e1w", true],
  ["0 7 8 2", "at s1e0r", true],
  ["0 7 8 3", "at s1e0w", true],
  ["0 7 9 0", "at s1e1rp", true],
  ["0 7 9 1", "at s1e1wp", true],
  ["4 7 8 0", "at s1e2r", true],
  ["4 7 8 1", "at s1e2w", true],
  ["4 7 8 4", "at s12e1r", true],
  ["4 7 8 5", "at s12e1w", true],
  ["4 7 8 6", "at s12e0r", true],
  ["4 7 8 7", "at s12e0w", true],
];

/** GICv5: what the hypervisor's forms are called comes with op1 4. */
const GIC: readonly (readonly [crm: number, op2: number, name: string, takes: boolean])[] = [
  [1, 0, "dis", true], [1, 1, "en", true], [1, 2, "pri", true], [1, 3, "aff", true], [1, 4, "pend", true],
  [1, 5, "rcfg", true], [2, 0, "di", true], [2, 1, "hm", true],
];
/** SYSL: by "op1 CRn CRm op2". */
export const SYSTEM_RESULTS: ReadonlyMap<string, string> = new Map([
  ["0 12 3 0", "cdia"],
  ["0 12 3 1", "cdnmia"],
]);

const TLBI: readonly (readonly [number, string, boolean])[] = [
  [0, "vmalle1", false], [1, "vae1", true], [2, "aside1", true], [3, "vaae1", true],
  [5, "vale1", true], [7, "vaale1", true],
];
const TLBI_EL2: readonly (readonly [number, string, boolean])[] = [
  [0, "alle2", false], [1, "vae2", true], [4, "alle1", false], [5, "vale2", true],
  [6, "vmalls12e1", false],
];
const RANGES: readonly (readonly [number, string])[] = [
  [1, "rvae1"], [3, "rvaae1"], [5, "rvale1"], [7, "rvaale1"],
];
const SHARED: readonly (readonly [number, string])[] = [[7, ""], [3, "is"], [1, "os"]];
const RANGES_SHARED: readonly (readonly [number, string])[] = [[6, ""], [2, "is"], [5, "os"]];

/** Name and whether it takes an address, by "op1 CRn CRm op2". */
export const SYSTEM_INSTRUCTIONS: ReadonlyMap<string, readonly [string, boolean]> = new Map([
  ...ROWS.map(([at, name, takes]) => [at, [name, takes]] as const),
  ...SHARED.flatMap(([crm, suffix]) => [
    ...TLBI.map(([op2, name, takes]) => [`0 8 ${crm} ${op2}`, [`tlbi ${name}${suffix}`, takes]] as const),
    ...TLBI_EL2.map(([op2, name, takes]) => [`4 8 ${crm} ${op2}`, [`tlbi ${name}${suffix}`, takes]] as const),
  ]),
  ...RANGES_SHARED.flatMap(([crm, suffix]) =>
    RANGES.map(([op2, name]) => [`0 8 ${crm} ${op2}`, [`tlbi ${name}${suffix}`, true]] as const),
  ),
  ...GIC.flatMap(([crm, op2, name, takes]) => [
    [`0 12 ${crm} ${op2}`, [`gic cd${name}`, takes]] as const,
    [`4 12 ${crm} ${op2}`, [`gic vd${name}`, takes]] as const,
  ]),
  ["0 12 1 7", ["gic cdeoi", false]],
  ["0 12 0 0", ["gsb sys", false]],
  ["0 12 0 1", ["gsb ack", false]],
  ["4 8 0 1", ["tlbi ipas2e1is", true]],
  ["4 8 0 5", ["tlbi ipas2le1is", true]],
  ["4 8 4 1", ["tlbi ipas2e1", true]],
  ["4 8 4 5", ["tlbi ipas2le1", true]],
]);
