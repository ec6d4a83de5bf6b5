// Owns: operands of an instruction, and where registers lie in the window. VM thread.
import { SLOT_SINK, SLOT_SP, SLOT_ZERO, slotV, slotX } from "./window.js";

/** A general register as an operand: its place in the window. */
export interface XReg {
  readonly kind: "x";
  readonly offset: number;
}
/** A vector register as an operand: its place in the window. */
export interface VReg {
  readonly kind: "v";
  readonly offset: number;
}
export interface Imm64 {
  readonly kind: "imm64";
  readonly value: bigint;
}
export interface Imm32 {
  readonly kind: "imm32";
  readonly value: number;
}
export type Operand = XReg | VReg | Imm64 | Imm32;
/** At most six registers, one imm64 and one imm32: what a record has room for. */
export type Operands = Readonly<Record<string, Operand>>;

/** Register n as a source: 31 reads zero. */
export const src = (n: number): XReg => ({ kind: "x", offset: n === 31 ? SLOT_ZERO : slotX(n) });
/** Register n as a destination: 31 goes nowhere. */
export const dst = (n: number): XReg => ({ kind: "x", offset: n === 31 ? SLOT_SINK : slotX(n) });
/** Register n where 31 is SP, as source or destination. */
export const sp = (n: number): XReg => ({ kind: "x", offset: n === 31 ? SLOT_SP : slotX(n) });
/** Vector register n, modulo 32. */
export const vec = (n: number): VReg => ({ kind: "v", offset: slotV(n & 31) });
export const imm64 = (value: bigint | number): Imm64 => {
  return { kind: "imm64", value: BigInt.asIntN(64, BigInt(value)) };
};
export const imm32 = (value: number): Imm32 => ({ kind: "imm32", value: value | 0 });
