// Owns: words of GICv5: typed INTIDs, the entry of an interrupt state table, ICSR. Any thread.
// @source Arm AES 0070 (GICv5); interrupts.md 5.1, gicv5-observed.md 3.1

/** INTID word: TYPE[31:29], ID[23:0]. Other bits of an operand are ignored. */
export const INTID_TYPE = { PPI: 1, LPI: 2, SPI: 3 } as const;
const TYPE_SHIFT = 29;
export const ID_MASK = 0xff_ffff;

export const intidOf = (type: number, id: number): number =>
  ((type << TYPE_SHIFT) | (id & ID_MASK)) >>> 0;
export const typeOf = (intid: number): number => intid >>> TYPE_SHIFT;
export const idOf = (intid: number): number => intid & ID_MASK;

/** The first 32 bits of an entry (ISTE). */
export const ISTE = {
  PENDING: 1 << 0,
  ACTIVE: 1 << 1,
  /** Handling mode: 1 is level. */
  HM: 1 << 2,
  ENABLE: 1 << 3,
  IRM: 1 << 4,
  HWU: 3 << 9,
  PRIORITY_SHIFT: 11,
  IAFFID_SHIFT: 16,
} as const;
const PRIORITY = 0x1f;
const IAFFID = 0xffff;

export const priorityOf = (iste: number): number => (iste >>> ISTE.PRIORITY_SHIFT) & PRIORITY;
export const iaffidOf = (iste: number): number => iste >>> ISTE.IAFFID_SHIFT;
export const withPriority = (iste: number, priority: number): number =>
  ((iste & ~(PRIORITY << ISTE.PRIORITY_SHIFT)) | ((priority & PRIORITY) << ISTE.PRIORITY_SHIFT)) >>>
  0;
export const withIaffid = (iste: number, iaffid: number): number =>
  ((iste & ~(IAFFID << ISTE.IAFFID_SHIFT)) | ((iaffid & IAFFID) << ISTE.IAFFID_SHIFT)) >>> 0;

/** ICC_ICSR_EL1.F: the interrupt can't be reached. */
export const ICSR_F = 1n;
const ICSR = { ENABLE: 1 << 1, PENDING: 1 << 2, IRM: 1 << 3, ACTIVE: 1 << 4, HM: 1 << 5 } as const;
/** IAFFID is from bit 32 on. */
const ICSR_IAFFID = 2 ** 32;

/** ICC_ICSR_EL1 for an entry; HWU isn't shown. */
export function icsrOf(iste: number): bigint {
  let low = priorityOf(iste) << ISTE.PRIORITY_SHIFT;
  if ((iste & ISTE.ENABLE) !== 0) low |= ICSR.ENABLE;
  if ((iste & ISTE.PENDING) !== 0) low |= ICSR.PENDING;
  if ((iste & ISTE.IRM) !== 0) low |= ICSR.IRM;
  if ((iste & ISTE.ACTIVE) !== 0) low |= ICSR.ACTIVE;
  if ((iste & ISTE.HM) !== 0) low |= ICSR.HM;
  return BigInt(iaffidOf(iste) * ICSR_IAFFID + low);
}

/** Enabled, pending and not active: it waits for a CPU to take it. */
export const isOffered = (iste: number): boolean =>
  (iste & (ISTE.PENDING | ISTE.ENABLE | ISTE.ACTIVE)) === (ISTE.PENDING | ISTE.ENABLE);
