// Owns: the addressing forms of single-register loads and stores, for general and vector registers.
// VM thread.
// @source Arm ARM C4.1, "Loads and Stores"
import type { I64 } from "../../../base/wasm/value.js";
import type { Asm } from "../asm.js";
import { type Imm64, imm64, type Operand, sp, src, type XReg } from "../operand.js";
import type { Fields } from "../pattern.js";
import { extended } from "./dp-reg.js";

/** Sign-extends a field. */
export function signed(value: number, width: number): number {
  return (value << (32 - width)) >> (32 - width);
}

export interface AddressOps {
  readonly n: XReg;
  readonly [name: string]: Operand;
}

/** Where an access goes, and what its base becomes. */
export interface Address {
  readonly va: I64;
  readonly writeBack: I64 | null;
}

export interface Form {
  /** As the Arm ARM ends the names of such encodings. */
  readonly name: string;
  /** Bits 29:10 of the encoding, from V on, without opc. */
  readonly pattern: (v: 0 | 1) => string;
  readonly split?: readonly string[];
  readonly when?: (f: Fields) => boolean;
  readonly unprivileged?: true;
  /** @param scale log2 of the bytes of the access */
  readonly ops: (f: Fields, scale: number) => AddressOps;
  readonly address: (a: Asm, o: AddressOps, f: Fields, scale: number) => Address;
}

const REGISTERS = "Rn:5 Rt:5";
const based = ({ Rn }: Fields, offset: number): AddressOps => ({
  n: sp(Rn!),
  offset: imm64(offset),
});

function plain(a: Asm, o: AddressOps): Address {
  return { va: a.keep(a.base(o.n).add(a.imm64(o["offset"] as Imm64))), writeBack: null };
}

const imm9 = (f: Fields): AddressOps => based(f, signed(f["imm9"]!, 9));

function unscaled(name: string, kind: string, address: Form["address"]): Form {
  return {
    name,
    pattern: (v) => `111 ${v} 00 opc:2 0 imm9:9 ${kind} ${REGISTERS}`,
    ops: imm9,
    address,
  };
}

export const UNSIGNED: Form = {
  name: "ldst_pos",
  pattern: (v) => `111 ${v} 01 opc:2 imm12:12 ${REGISTERS}`,
  ops: (f, scale) => based(f, f["imm12"]! * 2 ** scale),
  address: plain,
};
export const UNSCALED: Form = unscaled("ldst_unscaled", "00", plain);
export const UNPRIVILEGED: Form = {
  ...unscaled("ldst_unpriv", "10", plain),
  unprivileged: true,
};
export const POST_INDEX: Form = unscaled("ldst_immpost", "01", (a, o) => {
  const va = a.base(o.n);
  return { va, writeBack: a.keep(va.add(a.imm64(o["offset"] as Imm64))) };
});
export const PRE_INDEX: Form = unscaled("ldst_immpre", "11", (a, o) => {
  const { va } = plain(a, o);
  return { va, writeBack: va };
});
export const REGISTER: Form = {
  name: "ldst_regoff",
  pattern: (v) => `111 ${v} 00 opc:2 1 Rm:5 option:3 S:1 10 ${REGISTERS}`,
  split: ["option", "S"],
  // UXTW, LSL, SXTW, SXTX.
  when: ({ option }) => (option! & 2) !== 0,
  ops: ({ Rn, Rm }) => ({ n: sp(Rn!), m: src(Rm!) }),
  address: (a, o, { option, S }, scale) => {
    const index = extended(a.x(o["m"] as XReg), option!);
    const offset = S === 1 ? index.shl(scale) : index;
    return { va: a.keep(a.base(o.n).add(offset)), writeBack: null };
  },
};

export const FORMS: readonly Form[] = [UNSIGNED, UNSCALED, POST_INDEX, PRE_INDEX, REGISTER];

/** The forms of pairs: bits 25:23, and what becomes of the base. */
export const PAIR_FORMS = [
  { name: "ldstnapair_offs", mode: "000", post: false, writes: false },
  { name: "ldstpair_post", mode: "001", post: true, writes: true },
  { name: "ldstpair_off", mode: "010", post: false, writes: false },
  { name: "ldstpair_pre", mode: "011", post: false, writes: true },
] as const;
export type PairForm = (typeof PAIR_FORMS)[number];

/** The address of a pair, and the base afterwards. */
export function pairAddress(a: Asm, form: PairForm, n: XReg, offset: Imm64): Address {
  const base = a.base(n);
  const moved = a.keep(base.add(a.imm64(offset)));
  return { va: form.post ? base : moved, writeBack: form.writes ? moved : null };
}
