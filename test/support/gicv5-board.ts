// Owns: guest code that sets a GICv5 up: CPU interface, IRS, table of LPIs, interrupts.
// Test process.
import type { GicInsn, IccV5Name } from "../../src/machine/gic/gicv5/icc.table.js";
import * as a64 from "./a64.js";
import { gic, msrIcc } from "./gicv5-code.js";

/** X2 is used. */
export const setV5 = (name: IccV5Name, value: bigint): number[] => [
  ...a64.mov(2, value),
  msrIcc(name, 2),
];
/** A GIC CD* with this operand in X2. */
export const doV5 = (name: GicInsn, operand: bigint): number[] => [
  ...a64.mov(2, operand),
  gic(name, 2),
];

export const lpi = (id: number): bigint => 0x4000_0000n | BigInt(id);
export const spi = (id: number): bigint => 0x6000_0000n | BigInt(id);
const PRIORITY_SHIFT = 35n;
const IAFFID_SHIFT = 32n;
export const PENDING = 1n << 32n;

export const IRS = 0x801_0000n;
const [CR0, SPI_SELR, SPI_CFGR, IST_BASER, IST_CFGR] = [0x80n, 0x108n, 0x114n, 0x180n, 0x190n];

/** X1 and X2 are used. */
export const store = (address: bigint, value: bigint): number[] => [
  ...a64.mov(1, address),
  ...a64.mov(2, value),
  a64.strw(2, 1),
];

/** IRS on, with a linear table of 2^14 LPIs where the guest wants it. */
export const enableIrs = (table: bigint): number[] => [
  ...store(IRS + IST_CFGR, 14n),
  ...a64.mov(1, IRS + IST_BASER),
  ...a64.mov(2, table | 1n),
  a64.str(2, 1),
  ...store(IRS + CR0, 1n),
];

/** Priorities 8, all pass, and the timer's PPI is on. */
export const enableCpu = (): number[] => [
  ...setV5("ICC_PPI_PRIORITYR3_EL1", 0x0808_0808_0808_0808n),
  ...setV5("ICC_PPI_ENABLER0_EL1", 1n << 27n),
  ...setV5("ICC_PCR_EL1", 31n),
  ...setV5("ICC_CR0_EL1", 1n),
];

/** Priority 8, to the CPU with this IAFFID, on. */
export const enable = (intid: bigint, iaffid: number): number[] => [
  ...doV5("CDPRI", intid | (8n << PRIORITY_SHIFT)),
  ...doV5("CDAFF", intid | (BigInt(iaffid) << IAFFID_SHIFT)),
  ...doV5("CDEN", intid),
];

export const makeLevel = (id: number): number[] => [
  ...store(IRS + SPI_SELR, BigInt(id)),
  ...store(IRS + SPI_CFGR, 1n),
];
