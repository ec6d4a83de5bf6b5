// Owns: registers and table entries of a GICv5 ITS and of an IWB: places and fields. Data only.
// Any thread.
// @source interrupts.md 5.7; gicv5-observed.md 3.4. What they do is open there: our choice.

export const ITS32 = {
  IDR0: 0x000, IDR1: 0x004, IDR2: 0x008, IIDR: 0x040, AIDR: 0x044,
  CR0: 0x080, CR1: 0x084, DT_CFGR: 0x0d0,
  EIDR: 0x108, INV_EVENTR: 0x10c, INV_DEVICER: 0x110, STATUSR: 0x120, SYNC_STATUSR: 0x148,
} as const;
export const ITS64 = { DT_BASER: 0x0c0, DIDR: 0x100, SYNCR: 0x140 } as const;
/** Of the translation frame: data is an EventID, whoever writes has a DeviceID. */
export const ITS_TRANSLATER = 0;

export const DEVICE_ID_BITS = 16;
export const EVENT_ID_BITS = 16;
/** IDR1: DEVICEID_BITS[5:0], DT_LEVELS b6, ITT_LEVELS b7, L2SZ[10:8] all three. */
export const ITS_IDR1 = DEVICE_ID_BITS | (1 << 6) | (1 << 7) | (7 << 8);
export const ITS_CR0 = { ITSEN: 1 << 0, IDLE: 1 << 1 } as const;
/** SH, OC, IC, DT_RA and ITT_RA. */
export const ITS_CR1_BITS = 0xff;
export const DT_CFGR = { DEVICEID_BITS: 0x3f, L2SZ_SHIFT: 6, STRUCTURE: 1 << 16, ALL: 0x1_00ff } as const;
/** DT_BASER, and ADDR of entries of both tables. */
export const TABLE_ADDR = 0x00ff_ffff_ffff_fff8n;
/** INV_EVENTR, INV_DEVICER. */
export const INV_I = 1 << 31;
/** ID bits of a level-2 table by L2SZ: entries are 8 bytes. */
export const L2_ID_BITS = [9, 11, 13, 9] as const;
/** Entries of level 1, and of devices. */
export const ENTRY = { VALID: 1n, SPAN_SHIFT: 60n } as const;
export const DTE = { L2SZ_SHIFT: 1n, STRUCT: 1n << 58n, EVENTID_BITS_SHIFT: 59n } as const;
export const ITTE = { LPI_ID: 0xff_ffffn, VIRTUAL: 1n << 30n, VALID: 1n << 31n, VM_ID_SHIFT: 32n } as const;
export const TABLE_ENTRY_BYTES = 8;

export const IWB32 = { IDR0: 0x000, CR0: 0x080, WENABLE_STATUSR: 0x0c0, WENABLER: 0x2000, WTMR: 0x4000 } as const;
export const IWB_CR0 = { IWBEN: 1 << 0, IDLE: 1 << 1 } as const;
/** IDR0: IW_RANGE[10:0] is one less than the groups of 32 wires; INT_DOMS[14:11] the Non-secure one. */
export const IWB_INT_DOMS = 1 << 12; // tidy: a bit of INT_DOMS
