// Owns: guest code of the interrupt cases: a loop that does what a test puts before it, a handler
// that writes down what it acknowledges, the CPU interface of both models. Test process.
import { ICC_REGISTERS, type IccName } from "../../src/machine/gic/icc.table.js";
import * as a64 from "./a64.js";

export type Model = "v2" | "v3";

/** Registers that belong to the loop and to the handler; what a test runs leaves them alone. */
const [LOG, TAKEN, LEFT, SCRATCH, BIT, GICC, SNIPPET, STOP] = [20, 21, 22, 23, 24, 26, 27, 28];
const GICC_IAR = 0xc;
const GICC_EOIR = 0x10;
/** DIR is in the second page of the frame. */
const GICC_DIR = 0x1000; // tidy: an offset of the architecture's
const SPSR_I = 0x80n;
/** Instructions in which interrupts are let in. */
const OPEN_FOR = 24;
const MASK_IRQ = 0xd503_42df;

const ENCODINGS = new Map(ICC_REGISTERS.map(({ name, encoding }) => [name, encoding]));

function icc(base: number, name: IccName, rt: number): number {
  const encoding = ENCODINGS.get(name) ?? 0;
  return (base | ((encoding & 0x7fff) << 5) | rt) >>> 0;
}
export const mrsIcc = (rt: number, name: IccName): number => icc(0xd530_0000, name, rt);
export const msrIcc = (name: IccName, rt: number): number => icc(0xd510_0000, name, rt);

/** Where a vCPU's own things are. */
export interface Places {
  readonly loop: number;
  readonly snippet: number;
  readonly log: number;
  readonly stop: number;
  readonly gicc: number;
}

/** Stops, does what lies at the snippet, stops again; X0 goes out with the stop. */
export function loop({ snippet, stop, gicc }: Places): number[] {
  return [
    ...a64.mov(STOP, BigInt(stop)),
    ...a64.mov(SNIPPET, BigInt(snippet)),
    ...a64.mov(GICC, BigInt(gicc)),
    a64.str(0, STOP),
    a64.blr(SNIPPET),
    a64.b(-2),
  ];
}

/** Loads the acknowledged INTID into `rt`. */
export function iar(model: Model, rt: number): number[] {
  return model === "v2" ? [a64.ldrw(rt, GICC, GICC_IAR)] : [mrsIcc(rt, "ICC_IAR1_EL1")];
}

export function eoir(model: Model, rt: number): number[] {
  return model === "v2" ? [a64.strw(rt, GICC, GICC_EOIR)] : [msrIcc("ICC_EOIR1_EL1", rt)];
}

export function dir(model: Model, rt: number): number[] {
  if (model === "v3") return [msrIcc("ICC_DIR_EL1", rt)];
  return [a64.strw(rt, GICC, GICC_DIR)];
}

/**
 * Acknowledges, writes the INTID down, ends it; after as many as it was told it returns with
 * interrupts masked.
 */
export function handler(model: Model, isSplit: boolean, onTaken: readonly number[] = []): number[] {
  const mask = [
    a64.mrs(SCRATCH, "SPSR_EL1"),
    ...a64.mov(BIT, SPSR_I),
    a64.orrReg(SCRATCH, SCRATCH, BIT),
    a64.msr("SPSR_EL1", SCRATCH),
  ];
  return [
    ...iar(model, TAKEN),
    a64.strw(TAKEN, LOG),
    a64.add(LOG, LOG, 4),
    ...onTaken,
    ...eoir(model, TAKEN),
    ...(isSplit ? dir(model, TAKEN) : []),
    a64.subs(LEFT, LEFT, 1),
    a64.bne(mask.length + 1),
    ...mask,
    a64.ERET,
  ];
}

/** Lets interrupts in for a while; X0 is the end of the log then. */
export function letIn(log: number, most: number): number[] {
  return [
    ...a64.mov(LOG, BigInt(log)),
    ...a64.mov(LEFT, BigInt(most)),
    a64.daifclr(2),
    ...Array.from({ length: OPEN_FOR }, () => a64.NOP),
    MASK_IRQ,
    a64.addReg(0, LOG, 31),
  ];
}
