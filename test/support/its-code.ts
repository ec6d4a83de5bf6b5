// Owns: an ITS as guest code sets it up: where its tables are, its commands as words, stores to its
// registers. Test process.
// @source Arm IHI 0069 5.3 (commands), 12.19 (registers)
import * as a64 from "./a64.js";

export const ITS_BASE = 0x808_0000;
export const DOORBELL = ITS_BASE + 0x1_0040;
/** The first LPI. */
export const LPI = 8192;
export const GITS = {
  CTLR: 0,
  CBASER: 0x80,
  CWRITER: 0x88,
  CREADR: 0x90,
  BASER0: 0x100,
  BASER1: 0x108,
} as const;
const GICR = { CTLR: 0, PROPBASER: 0x70, PENDBASER: 0x78 } as const;
const REDIST = 0x80a_0000;
const REDIST_BYTES = 0x2_0000;
const SIZE_64K = 2n << 8n;
const VALID = 1n << 63n;
const PTZ = 1n << 62n;
const TABLES = 0x4020_0000;
const AREA = 0x1_0000;
const area = (n: number): number => TABLES + n * AREA;
const PLACE = {
  DEVICES: area(0),
  COLLECTIONS: area(1),
  QUEUE: area(2),
  PROPERTIES: area(3),
  PENDING: area(4),
  TRANSLATIONS: area(8),
} as const;
/** A queue of one 4 KiB page. */
export const QUEUE_BYTES = 4096; // tidy: a unit of CBASER
export const COMMAND_BYTES = 32;
const EVENT_BITS = 8;
const OP = {
  INT: 3,
  MAPD: 8,
  MAPC: 9,
  MAPTI: 10,
  INV: 12, // tidy: an opcode
  INVALL: 13,
  DISCARD: 15,
} as const;
const ENABLED = 0xa3;

export type Command = readonly [bigint, bigint, bigint, bigint];

const op = (code: number, device = 0): bigint => BigInt(code) | (BigInt(device) << 32n);
const ofEvent = (code: number, device: number, event: number): Command => [
  op(code, device),
  BigInt(event),
  0n,
  0n,
];

export const COMMAND = {
  mapDevice(device: number, isValid = true): Command {
    const table = BigInt(PLACE.TRANSLATIONS + device * AREA);
    return [op(OP.MAPD, device), BigInt(EVENT_BITS - 1), (isValid ? VALID : 0n) | table, 0n];
  },
  mapCollection(collection: number, cpu: number, isValid = true): Command {
    const target = (BigInt(cpu) << 16n) | BigInt(collection);
    return [op(OP.MAPC), 0n, (isValid ? VALID : 0n) | target, 0n];
  },
  mapEvent(device: number, event: number, lpi: number, collection: number): Command {
    const ids = BigInt(event) | (BigInt(lpi) << 32n);
    return [op(OP.MAPTI, device), ids, BigInt(collection), 0n];
  },
  discard: (device: number, event: number) => ofEvent(OP.DISCARD, device, event),
  interrupt: (device: number, event: number) => ofEvent(OP.INT, device, event),
  invalidate: (device: number, event: number) => ofEvent(OP.INV, device, event),
  invalidateAll: (collection: number): Command => [op(OP.INVALL), 0n, BigInt(collection), 0n],
};

function write64(address: number, value: bigint): number[] {
  return [...a64.mov(1, BigInt(address)), ...a64.mov(0, value), a64.str(0, 1)];
}
export const writeGits = (register: number, value: bigint): number[] =>
  write64(ITS_BASE + register, value);
export const readGits = (register: number): number[] => [
  ...a64.mov(1, BigInt(ITS_BASE + register)),
  a64.ldr(0, 1),
];
export const turn = (isOn: boolean): number[] => [
  ...a64.mov(1, BigInt(ITS_BASE + GITS.CTLR)),
  ...a64.mov(0, isOn ? 1n : 0n),
  a64.strw(0, 1),
];

/** LPIs of a redistributor on. */
export function enableLpis(cpu: number): number[] {
  const frame = REDIST + cpu * REDIST_BYTES;
  return [
    ...write64(frame + GICR.PROPBASER, BigInt(PLACE.PROPERTIES) | 15n),
    ...write64(frame + GICR.PENDBASER, PTZ | BigInt(PLACE.PENDING + cpu * AREA)),
    ...a64.mov(1, BigInt(frame + GICR.CTLR)),
    ...a64.mov(0, 1n),
    a64.strw(0, 1),
  ];
}

export const setUpTables = (): number[] => [
  ...writeGits(GITS.BASER0, VALID | BigInt(PLACE.DEVICES) | SIZE_64K),
  ...writeGits(GITS.BASER1, VALID | BigInt(PLACE.COLLECTIONS) | SIZE_64K),
  ...writeGits(GITS.CBASER, VALID | BigInt(PLACE.QUEUE)),
];

/** Writes a command into the queue and tells the ITS. @param writer where it goes */
export function issue(writer: number, command: Command): number[] {
  const stores = command.flatMap((word, n) => [...a64.mov(2, word), a64.str(2, 1, 8 * n)]);
  const next = (writer + COMMAND_BYTES) % QUEUE_BYTES;
  const at = a64.mov(1, BigInt(PLACE.QUEUE + writer));
  return [...at, ...stores, ...writeGits(GITS.CWRITER, BigInt(next))];
}

/** An LPI's byte in the guest's table; the controller has read it when it is told so. */
export const setProperty = (lpi: number, isEnabled: boolean): number[] => [
  ...a64.mov(1, BigInt(PLACE.PROPERTIES + lpi - LPI)),
  ...a64.mov(0, BigInt(isEnabled ? ENABLED : ENABLED & ~1)),
  a64.strb(0, 1),
];
