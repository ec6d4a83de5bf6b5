// Owns: the registers of an IRS's configuration frame: places, and values that never change.
// Data only. Any thread.
// @source gicv5-observed.md 2; those of virtualisation: our choice of places, by the drivers' names

/** 32-bit registers. */
export const IRS32 = {
  IDR0: 0x000, IDR1: 0x004, IDR2: 0x008, IDR3: 0x00c, IDR4: 0x010, IDR5: 0x014, IDR6: 0x018, IDR7: 0x01c,
  IIDR: 0x040, AIDR: 0x044,
  CR0: 0x080, CR1: 0x084,
  SYNCR: 0x0c0, SYNC_STATUSR: 0x0c4,
  SPI_SELR: 0x108, SPI_DOMAINR: 0x10c, SPI_RESAMPLER: 0x110, SPI_CFGR: 0x114, SPI_STATUSR: 0x118,
  PE_SELR: 0x140, PE_STATUSR: 0x144, PE_CR0: 0x148,
  IST_CFGR: 0x190, IST_STATUSR: 0x194,
  MAP_L2_ISTR: 0x1c0,
  VMT_CFGR: 0x210, VMT_STATUSR: 0x214,
  DEVARCH: 0xffbc,
} as const;

/** 64-bit registers; IST_BASER also takes halves. */
export const IRS64 = {
  IST_BASER: 0x180,
  VMT_BASER: 0x200,
  VMAP_VMR: 0x2c8, VMAP_VISTR: 0x2d0, VMAP_L2_VISTR: 0x2d8, VMAP_VPER: 0x2e0,
} as const;

export const IDLE = 1;
/** V of SPI_STATUSR and PE_STATUSR; ONLINE of the latter. */
export const STATUSR = { V: 1 << 1, ONLINE: 1 << 2 } as const;
export const CR0 = { IRSEN: 1 << 0, IDLE: 1 << 1 } as const;
export const CR1_BITS = 0xffff;
export const IST_CFGR = {
  LPI_ID_BITS: 0x1f, L2SZ_SHIFT: 5, ISTSZ_SHIFT: 7, STRUCTURE: 1 << 16, ALL: 0x1_01ff,
} as const;
export const BASER = { VALID: 1n, ADDR: 0x00ff_ffff_ffff_ffc0n } as const;
/** VMAP_*: M makes valid, U makes invalid. */
export const VMAP = { U: 1n << 62n, M: 1n << 63n } as const;

/** Non-secure domain, 48 bits and more of physical addresses. */
export const IDR0 = 0x1d;
export const IDR0_VIRT = 1 << 6;
export const IDR0_IRSID_SHIFT = 16;
/** IAFFIDs of 16 bits, priorities of 5. */
export const IDR1 = 0x4f_0000;
export const LPI_ID_BITS = { min: 14, max: 24 } as const;
/** 24 ID bits, LPIs, at least 14 of their bits, two levels, level-2 tables of 4, 16 and 64 KiB. */
export const IDR2 = 0x3fb8;
/** IDR3.VM_ID_BITS[9:5] and IDR4.VPE_ID_BITS[9:6], as KVM's hardware has them. */
export const VM_ID_BITS = 8;
export const IDR3 = VM_ID_BITS << 5;
export const IDR4 = 15 << 6;

/** Always the same: product and architecture, PIDR and CIDR. */
export const CONSTANTS: ReadonlyMap<number, number> = new Map<number, number>([
  [IRS32.IIDR, 0xfff0_043b], [IRS32.AIDR, 0],
  [IRS32.SYNC_STATUSR, IDLE], [IRS32.IST_STATUSR, IDLE],
  // One domain only, and no 1-of-N.
  [IRS32.SPI_DOMAINR, 0], [IRS32.PE_CR0, 0], [IRS32.IDR7, 0],
  [IRS32.DEVARCH, 0x4770_5a19],
  [0xffd0, 4], [0xffd4, 0], [0xffd8, 0], [0xffdc, 0],
  [0xffe0, 0xff], [0xffe4, 0xbf], [0xffe8, 0x0b], [0xffec, 0],
  [0xfff0, 0x0d], [0xfff4, 0xf0], [0xfff8, 0x05], [0xfffc, 0xb1],
]);
