// Owns: guest code of GICv5 cases: instructions by name, a handler that writes down what it took,
// the window in which interrupts are let in. Test process.
import {
  GIC_SYS,
  GIC_SYSL,
  type GicInsn,
  type GicResultInsn,
  ICC_V5_REGISTERS,
  type IccV5Name,
} from "../../src/machine/gic/gicv5/icc.table.js";
import * as a64 from "./a64.js";

/** Registers that belong to the handler. */
const [LOG, TAKEN, LEFT, SCRATCH, BIT] = [20, 21, 22, 23, 24];
const SPSR_I = 0x80n;
const CRN = 12 << 12; // tidy: a CRn and its place
const SYS = 0xd508_0000;
const SYSL = 0xd528_0000;

const encodingIn = (table: ReadonlyMap<number, string>, name: string): number => {
  const found = [...table].find(([, other]) => other === name);
  if (found === undefined) throw new Error(`no instruction ${name}`);
  return found[0];
};

export const gic = (name: GicInsn, rt: number): number =>
  (SYS | CRN | (encodingIn(GIC_SYS, name) << 5) | rt) >>> 0;
export const gicr = (rt: number, name: GicResultInsn): number =>
  (SYSL | CRN | (encodingIn(GIC_SYSL, name) << 5) | rt) >>> 0;

function icc(base: number, name: IccV5Name, rt: number): number {
  const row = ICC_V5_REGISTERS.find((register) => register.name === name);
  return (base | (((row?.encoding ?? 0) & 0x7fff) << 5) | rt) >>> 0;
}
export const mrsIcc = (rt: number, name: IccV5Name): number => icc(0xd530_0000, name, rt);
export const msrIcc = (name: IccV5Name, rt: number): number => icc(0xd510_0000, name, rt);

/** As Linux: CDIA, GSB ACK, CDEOI at once, then the handler, CDDI. */
export function handler(onTaken: readonly number[] = []): number[] {
  const mask = [
    a64.mrs(SCRATCH, "SPSR_EL1"),
    ...a64.mov(BIT, SPSR_I),
    a64.orrReg(SCRATCH, SCRATCH, BIT),
    a64.msr("SPSR_EL1", SCRATCH),
  ];
  return [
    gicr(TAKEN, "CDIA"),
    gic("GSB_ACK", 31),
    gic("CDEOI", 31),
    a64.strw(TAKEN, LOG),
    a64.add(LOG, LOG, 4),
    ...onTaken,
    gic("CDDI", TAKEN),
    a64.subs(LEFT, LEFT, 1),
    a64.bne(mask.length + 1),
    ...mask,
    a64.ERET,
  ];
}

/** Interrupts are let in for some instructions; X0 is the end of the log then. */
export function letIn(log: number, most: number, words: readonly number[]): number[] {
  return [
    ...a64.mov(LOG, BigInt(log)),
    ...a64.mov(LEFT, BigInt(most)),
    a64.daifclr(2),
    ...words,
    0xd503_42df,
    a64.addReg(0, LOG, 31),
  ];
}
