// Owns: the registers of a vGIC that a VMM reads and writes by device attributes: their offsets.
// VM thread. @source Arm IHI 0048B 4.3, IHI 0069H 12.8 to 12.11; interrupts.md 5.3, 5.6
import { assert } from "../base/assert.js";
import { ICC_V5_BY_ENCODING, IRS32, IRS64 } from "../machine/index.js";

/** Of a distributor; most of them also in a redistributor's second frame. */
export const GICD = {
  CTLR: 0x0,
  IIDR: 0x8,
  STATUSR: 0x10,
  IGROUPR: 0x80,
  ISENABLER: 0x100,
  ICENABLER: 0x180,
  ISPENDR: 0x200,
  ICPENDR: 0x280,
  ISACTIVER: 0x300,
  ICACTIVER: 0x380,
  IPRIORITYR: 0x400,
  ITARGETSR: 0x800,
  ICFGR: 0xc00,
  CPENDSGIR: 0xf10,
  SPENDSGIR: 0xf20,
  IROUTER: 0x6000,
} as const;

/** Of a redistributor. */
export const GICR = {
  CTLR: 0x0,
  TYPER: 0x8,
  STATUSR: 0x10,
  PROPBASER: 0x70,
  PENDBASER: 0x78,
} as const;

/** Where a redistributor's second frame, of SGIs and PPIs, begins. */
export const SGI_FRAME = 0x1_0000;

/** GICR_TYPER.PLPIS. */
export const PLPIS = 1;

/**
 * Of a GICv5's IRS, in the order in which they are restored. IDs first: they say whether the rest
 * fits. CFGR is fixed once BASER is valid.
 */
export const IRS_STATE: readonly number[] = [
  ...[IRS32.IDR0, IRS32.IDR1, IRS32.IDR2, IRS32.IDR5, IRS32.IDR6, IRS32.IDR7],
  ...[IRS32.CR0, IRS32.CR1, IRS32.SPI_SELR, IRS32.PE_SELR, IRS32.IST_CFGR, IRS64.IST_BASER],
];

const encoding = (name: string): number => {
  const register = [...ICC_V5_BY_ENCODING.values()].find((row) => row.name === `ICC_${name}_EL1`);
  assert(register !== undefined, `the CPU interface has a register ${name}`);
  return register.encoding;
};

/** Of a GICv5's CPU interface, those that are state, as CPU_SYSREGS names them. */
export const ICC_V5_STATE: readonly number[] = [
  ...["ICSR", "APR", "CR0", "PCR", "PPI_ENABLER0", "PPI_ENABLER1"],
  ...["PPI_SACTIVER0", "PPI_SACTIVER1", "PPI_SPENDR0", "PPI_SPENDR1"],
  ...Array.from({ length: 16 }, (_, n) => `PPI_PRIORITYR${n}`),
].map(encoding);
