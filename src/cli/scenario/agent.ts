// Owns: a guest of a few routines that does what a list in its memory says, access by access, and
// tells of each by a store where nothing is: an exit to userspace. CLI process.
//
//   list ─ routine, X0, X1 ─▶ routine ─ X0 ─▶ store to STOP     interrupts masked
//   vector of IRQ ─▶ the handler's list ─▶ store to STOP + 8    until its end: ERET
//
// @source Arm ARM C6.2 for the words; IHI 0048, IHI 0069 for the CPU interface
import * as a64 from "../../base/a64-words.js";

const { add, b, blr, cbz, ERET, ISB, ldr, ldrw, move, REGISTER, RET, str, strb, strw } = a64;

export const RAM = { base: 0x4000_0000, bytes: 0x20_0000 } as const;
export const STOP = 0x7000_0000;
export const HANDLER_STOP = STOP + 8;
export const ENTRY = RAM.base;
export const VECTORS = RAM.base + 0x800;
const IRQ_VECTOR = VECTORS + 0x280;
const ROUTINES = RAM.base + 0x1000; // tidy: an offset in the guest's memory
const ROUTINE_BYTES = 0x80;
const MAIN_LIST = RAM.base + 0x2000;
const HANDLER_LISTS = RAM.base + 0x8000;
const HANDLER_LIST_BYTES = 0x200;
const ITEM_BYTES = 24;
export const MAIN_ITEMS_MAX = (HANDLER_LISTS - MAIN_LIST) / ITEM_BYTES;

/** X19 and X20: where in the lists; X21: the INTID; X25: LR of who was interrupted. */
const [MAIN, HANDLER, TAKEN, LINK, STOPS, GICC] = [19, 20, 21, 25, 27, 28];
/** X0 and X1 of a routine, and its address. */
const [R0, R1, CALLED, LR] = [0, 1, 2, 30];

/** Instructions in which an interrupt may come. */
const OPEN_FOR = 24;
const GICC_IAR = 0xc;
const GICC_EOIR = 0x10;

const CODE = {
  load: [ldrw(R0, R0), RET],
  store: [strw(R1, R0), RET],
  storeByte: [strb(R1, R0), RET],
  letIn: [
    a64.UNMASK_IRQ,
    ...Array.from({ length: OPEN_FOR }, () => a64.NOP),
    ...[a64.MASK_IRQ, RET],
  ],
  setPmr: [a64.msr(REGISTER.ICC_PMR_EL1, R1), ISB, RET],
  setIgrpen1: [a64.msr(REGISTER.ICC_IGRPEN1_EL1, R1), ISB, RET],
  iar1: [a64.mrs(TAKEN, REGISTER.ICC_IAR1_EL1), move(R0, TAKEN), RET],
  eoir1: [a64.msr(REGISTER.ICC_EOIR1_EL1, TAKEN), ISB, RET],
  giccIar: [ldrw(TAKEN, GICC, GICC_IAR), move(R0, TAKEN), RET],
  giccEoir: [strw(TAKEN, GICC, GICC_EOIR), RET],
  setPcr: [a64.msr(REGISTER.ICC_PCR_EL1, R1), ISB, RET],
  setCr0: [a64.msr(REGISTER.ICC_CR0_EL1, R1), ISB, RET],
  cdpri: [a64.gicCdpri(R1), RET],
  cdaff: [a64.gicCdaff(R1), RET],
  cden: [a64.gicCden(R1), RET],
  cddis: [a64.gicCddis(R1), a64.GSB_SYS, RET],
  cdia: [a64.gicrCdia(TAKEN), a64.GSB_ACK, ISB, a64.lowBits(R0, TAKEN, 24), RET],
  cdeoi: [a64.GIC_CDEOI, RET],
  cddi: [a64.gicCddi(TAKEN), RET],
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

const words = (gpa: number, code: readonly number[]): Piece => {
  return { gpa, bytes: a64.bytesOfWords(code) };
};

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
    ...a64.constant(STOPS, STOP),
    ...a64.constant(GICC, gicc),
    ...a64.constant(MAIN, MAIN_LIST),
    ...a64.constant(HANDLER, HANDLER_LISTS),
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
