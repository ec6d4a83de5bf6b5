// Owns: the registers of a PE's performance monitors, and who may touch them from EL0. Any thread.
// @source Arm ARM D13 (Performance Monitors Extension), D19.5

/** What a VM says of its PMU. */
export interface PmuConfig {
  /** Event counters that the guest has: PMCR_EL0.N. */
  readonly counters: number;
  /** Whether an event is counted at all. */
  isCounted(event: number): boolean;
}

/** ID_AA64DFR0_EL1.PMUVer: PMUv3. */
export const PMUVER = 1n << 8n;
/** PMCR_EL0 at reset: LC, the cycle counter has 64 bits. */
export const PMCR_RESET = 1n << 6n;

/** Event counters that the PE has room for in its registers; how many there are is configured. */
export const EVENT_COUNTERS_MAX = 31;
/** The cycle counter's bit in masks, and its number for PMSELR_EL0. */
export const CYCLE_COUNTER = 31;

/** PMUSERENR_EL0. */
export const USERENR = { EN: 1n, SW: 2n, CR: 4n, ER: 8n } as const;

export const EVENT = { SW_INCR: 0x00, INST_RETIRED: 0x08, CPU_CYCLES: 0x11, CHAIN: 0x1e } as const;

type Encoding = readonly [number, number, number, number, number];

export interface PmuRegister {
  readonly name: string;
  readonly encoding: Encoding;
  /** The register that holds its bits: another one, or null where they are computed. */
  readonly storage: string | null;
  /** What of PMUSERENR_EL0 lets EL0 read and write it; 0: nothing does. */
  readonly read: bigint;
  readonly write: bigint;
  /** Number of the event counter that it belongs to. */
  readonly counter: number | null;
}

const { EN, SW, CR, ER } = USERENR;
/** Whatever PMUSERENR_EL0 says. */
export const ALWAYS = -1n;

const row = (
  name: string,
  encoding: Encoding,
  storage: string | null = name,
  read: bigint = EN,
  write: bigint = EN,
  counter: number | null = null,
): PmuRegister => ({ name, encoding, storage, read, write, counter });

const NUMBERS = Array.from({ length: EVENT_COUNTERS_MAX }, (_, n) => n);
const CNTR_CRM = 8;
const TYPER_CRM = 12; // tidy: a register number

export const PMU_REGISTERS: readonly PmuRegister[] = [
  row("PMINTENSET_EL1", [3, 0, 9, 14, 1], "PMINTENSET_EL1", 0n, 0n),
  row("PMINTENCLR_EL1", [3, 0, 9, 14, 2], "PMINTENSET_EL1", 0n, 0n),
  row("PMCR_EL0", [3, 3, 9, 12, 0]),
  row("PMCNTENSET_EL0", [3, 3, 9, 12, 1]),
  row("PMCNTENCLR_EL0", [3, 3, 9, 12, 2], "PMCNTENSET_EL0"),
  row("PMOVSCLR_EL0", [3, 3, 9, 12, 3], "PMOVSSET_EL0"),
  row("PMSWINC_EL0", [3, 3, 9, 12, 4], null, 0n, EN | SW),
  row("PMSELR_EL0", [3, 3, 9, 12, 5], "PMSELR_EL0", EN | ER, EN | ER),
  row("PMCEID0_EL0", [3, 3, 9, 12, 6], null),
  row("PMCEID1_EL0", [3, 3, 9, 12, 7], null),
  row("PMCCNTR_EL0", [3, 3, 9, 13, 0], "PMCCNTR_EL0", EN | CR),
  row("PMXEVTYPER_EL0", [3, 3, 9, 13, 1], null),
  row("PMXEVCNTR_EL0", [3, 3, 9, 13, 2], null, EN | ER),
  row("PMUSERENR_EL0", [3, 3, 9, 14, 0], "PMUSERENR_EL0", ALWAYS, 0n),
  row("PMOVSSET_EL0", [3, 3, 9, 14, 3]),
  ...NUMBERS.map((n) => {
    const name = `PMEVCNTR${n}_EL0`;
    return row(name, [3, 3, 14, CNTR_CRM + (n >>> 3), n & 7], name, EN | ER, EN, n);
  }),
  ...NUMBERS.map((n) => {
    const name = `PMEVTYPER${n}_EL0`;
    return row(name, [3, 3, 14, TYPER_CRM + (n >>> 3), n & 7], name, EN, EN, n);
  }),
  row("PMCCFILTR_EL0", [3, 3, 14, 15, 7]),
];

export const PMU_BY_NAME: ReadonlyMap<string, PmuRegister> = new Map(
  PMU_REGISTERS.map((register) => [register.name, register]),
);
