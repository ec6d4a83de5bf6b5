// Owns: a guest of a few routines that does what a list in its memory says, access by access, and
// tells of each by a store where nothing is: an exit to userspace. CLI process.
//
//   list ─ routine, X0, X1 ─▶ routine ─ X0 ─▶ store to STOP     interrupts masked
//   vector of IRQ ─▶ the handler's list ─▶ store to STOP + 8    until its end: ERET
//
// @source Arm ARM C6.2 for the words; IHI 0048, IHI 0069 for the CPU interface
export const RAM = { base: 0x4000_0000, bytes: 0x20_0000 } as const;
export const STOP = 0x7000_0000;
export const HANDLER_STOP = STOP + 8;
export const ENTRY = RAM.base;
export const VECTORS = RAM.base + 0x800;
const IRQ_VECTOR = VECTORS + 0x280;
const ROUTINES = RAM.base + 0x400;
const ROUTINE_BYTES = 0x80;
const MAIN_LIST = RAM.base + 0x2000;
const HANDLER_LISTS = RAM.base + 0x8000;
const HANDLER_LIST_BYTES = 0x200;
const ITEM_BYTES = 24;
export const MAIN_ITEMS_MAX = (HANDLER_LISTS - MAIN_LIST) / ITEM_BYTES;

/** X19 and X20: where in the lists; X21: the INTID; X25: LR of who was interrupted. */
const [MAIN, HANDLER, TAKEN, LINK, STOPS, GICC] = [19, 20, 21, 25, 27, 28];
/** X0 and X1 of a routine, and its address. */
const [R0, R1, CALLED, LR, ZERO] = [0, 1, 2, 30, 31];

const word = (value: number): number => value >>> 0;
const RET = 0xd65f_03c0;
const ERET = 0xd69f_03e0;
const ISB = 0xd503_3fdf;
const NOP = 0xd503_201f;
const UNMASK_IRQ = 0xd503_42ff;
const MASK_IRQ = 0xd503_42df;
const ldr = (rt: number, rn: number, offset: number) =>
  word(0xf940_0000 | ((offset / 8) << 10) | (rn << 5) | rt);
const str = (rt: number, rn: number, offset: number) =>
  word(0xf900_0000 | ((offset / 8) << 10) | (rn << 5) | rt);
const ldrw = (rt: number, rn: number, offset = 0) =>
  word(0xb940_0000 | ((offset / 4) << 10) | (rn << 5) | rt);
const strw = (rt: number, rn: number, offset = 0) =>
  word(0xb900_0000 | ((offset / 4) << 10) | (rn << 5) | rt);
const strb = (rt: number, rn: number) => word(0x3900_0000 | (rn << 5) | rt);
const add = (rd: number, rn: number, by: number) => word(0x9100_0000 | (by << 10) | (rn << 5) | rd);
const move = (rd: number, rm: number) => word(0xaa00_0000 | (rm << 16) | (ZERO << 5) | rd);
const blr = (rn: number) => word(0xd63f_0000 | (rn << 5));
const b = (by: number) => word(0x1400_0000 | (by & 0x3ff_ffff));
const cbz = (rt: number, by: number) => word(0xb400_0000 | ((by & 0x7ffff) << 5) | rt);
/** MOVZ, MOVK: a constant of 32 bits. */
const constant = (rd: number, value: number) => [
  word(0xd280_0000 | ((value & 0xffff) << 5) | rd),
  word(0xf2a0_0000 | ((value >>> 16) << 5) | rd),
];

const MRS = 0xd530_0000;
const MSR = 0xd510_0000;
/** op0 = 3, op1 = 0. */
const icc = (base: number, crn: number, crm: number, op2: number, rt: number) =>
  word(base | (1 << 19) | (crn << 12) | (crm << 8) | (op2 << 5) | rt); // tidy: a bit position
const CRN_ICC = 12; // tidy: CRn of ICC registers

/** Instructions in which an interrupt may come. */
const OPEN_FOR = 24;
const GICC_IAR = 0xc;
const GICC_EOIR = 0x10;

const CODE = {
  load: [ldrw(R0, R0), RET],
  store: [strw(R1, R0), RET],
  storeByte: [strb(R1, R0), RET],
  letIn: [UNMASK_IRQ, ...Array.from({ length: OPEN_FOR }, () => NOP), MASK_IRQ, RET],
  setPmr: [icc(MSR, 4, 6, 0, R1), ISB, RET],
  setIgrpen1: [icc(MSR, CRN_ICC, CRN_ICC, 7, R1), ISB, RET],
  iar1: [icc(MRS, CRN_ICC, CRN_ICC, 0, TAKEN), move(R0, TAKEN), RET],
  eoir1: [icc(MSR, CRN_ICC, CRN_ICC, 1, TAKEN), ISB, RET],
  giccIar: [ldrw(TAKEN, GICC, GICC_IAR), move(R0, TAKEN), RET],
  giccEoir: [strw(TAKEN, GICC, GICC_EOIR), RET],
} as const;
export type Routine = keyof typeof CODE;

export interface Item {
  readonly routine: Routine;
  readonly x0?: number;
  readonly x1?: number;
}

/** Bytes to be put at a place of the guest's memory. */
interface Piece {
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

const addressOf = (routine: Routine) =>
  ROUTINES + ROUTINE_BYTES * Object.keys(CODE).indexOf(routine);

function words(gpa: number, code: readonly number[]): Piece {
  const bytes = new Uint8Array(4 * code.length);
  const view = new DataView(bytes.buffer);
  for (const [at, one] of code.entries()) view.setUint32(4 * at, one, true);
  return { gpa, bytes };
}

/** Loads an item, goes on behind it. */
const next = (list: number) => [
  ldr(CALLED, list, 0),
  ldr(R0, list, 8),
  ldr(R1, list, 16),
  add(list, list, ITEM_BYTES),
];

/** The agent. @param gicc where a GICv2's CPU interface is */
export function agent(gicc: number): readonly Piece[] {
  const carryOut = [...next(MAIN), blr(CALLED), str(R0, STOPS, 0)];
  const handle = [...next(HANDLER), cbz(CALLED, 4), blr(CALLED), str(R0, STOPS, 8)];
  const start = [
    ...constant(STOPS, STOP),
    ...constant(GICC, gicc),
    ...constant(MAIN, MAIN_LIST),
    ...constant(HANDLER, HANDLER_LISTS),
  ];
  // An item without a routine ends the handler; its X1 is the list for the next interrupt.
  const end = [move(HANDLER, R1), move(LR, LINK), ERET];
  return [
    words(ENTRY, [...start, ...carryOut, b(-carryOut.length)]),
    words(IRQ_VECTOR, [move(LINK, LR), ...handle, b(-handle.length), ...end]),
    ...Object.entries(CODE).map(([name, code]) => words(addressOf(name as Routine), code)),
  ];
}

function listBytes(gpa: number, rows: readonly (readonly [number, number, number])[]): Piece {
  const bytes = new Uint8Array(ITEM_BYTES * rows.length);
  const view = new DataView(bytes.buffer);
  for (const [at, row] of rows.flat().entries()) view.setBigUint64(8 * at, BigInt(row), true);
  return { gpa, bytes };
}

const row = ({ routine, x0 = 0, x1 = 0 }: Item) => [addressOf(routine), x0, x1] as const;

/** Items of the agent's list. @param done how many it has behind it */
export function mainItems(items: readonly Item[], done: number): Piece {
  return listBytes(MAIN_LIST + ITEM_BYTES * done, items.map(row));
}

/** What the handler does at one interrupt after the other; as the last says from there on. */
export function handlerLists(lists: readonly (readonly Item[])[]): readonly Piece[] {
  const place = (at: number) => HANDLER_LISTS + HANDLER_LIST_BYTES * Math.min(at, lists.length - 1);
  return lists.map((items, at) => {
    const end = [0, 0, place(at + 1)] as const;
    return listBytes(place(at), [...items.map(row), end]);
  });
}
