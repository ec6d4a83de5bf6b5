// Owns: the registers of a vGIC that a VMM reads and writes by device attributes: their offsets.
// VM thread. @source Arm IHI 0048B 4.3, IHI 0069H 12.8 to 12.11

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
