// Owns: loads and stores of vector registers: every addressing form, pairs, literal.
// VM thread.
// @source Arm ARM C4.1, "Loads and Stores"
import type { Asm } from "../asm.js";
import { type Insn, type InsnSpec, insn } from "../insn.js";
import { imm64, sp, type VReg, vec } from "../operand.js";
import type { Fields } from "../pattern.js";
import {
  type AddressOps,
  FORMS,
  type Form,
  PAIR_FORMS,
  type PairForm,
  pairAddress,
  signed,
} from "./addressing.js";

type Bytes = 1 | 2 | 4 | 8 | 16;

/** log2 of the bytes: size, or 4 where opc says a Q register. */
const scaleOf = ({ size, opc }: Fields): number => ((opc! & 2) !== 0 ? 4 : size!);

type SingleOps = AddressOps & { readonly t: VReg };

function single(form: Form): Insn {
  const spec: InsnSpec<SingleOps> = {
    split: ["size", "opc", ...(form.split ?? [])],
    when: (f) => ((f["opc"]! & 2) === 0 || f["size"] === 0) && (form.when?.(f) ?? true),
    ops: (f) => {
      const { n, ...rest } = form.ops(f, scaleOf(f));
      return { n, ...rest, t: vec(f["Rt"]!) };
    },
    sem: (a, o, f) => {
      const scale = scaleOf(f);
      const { va, writeBack } = form.address(a, o, f, scale);
      const bytes = (2 ** scale) as Bytes;
      if ((f["opc"]! & 1) === 0) a.storeV(va, bytes, a.v(o.t));
      else a.setV(o.t, a.loadV(va, bytes));
      if (writeBack !== null) a.setX(o.n, writeBack);
    },
  };
  return insn(`STR_LDR_fp_${form.name}`, `size:2 ${form.pattern(1)}`, spec);
}

const LITERAL: Insn = insn("LDR_fp_loadlit", "opc:2 011 1 00 imm19:19 Rt:5", {
  split: ["opc"],
  when: ({ opc }) => opc !== 3,
  ops: ({ imm19, Rt }) => ({ t: vec(Rt!), offset: imm64(signed(imm19!, 19) * 4) }),
  sem: (a, { t, offset }, { opc }) => {
    const va = a.keep(a.pc().add(a.imm64(offset)));
    a.setV(t, a.loadV(va, (4 * 2 ** opc!) as Bytes));
  },
});

const LOAD = { 4: "v128.load32_zero", 8: "v128.load64_zero", 16: "v128.load" } as const;

function storeAt(
  a: Asm,
  bytes: 4 | 8 | 16,
  host: Parameters<Asm["stored"]>[0],
  at: number,
  t: VReg,
) {
  if (bytes === 16) a.c.store("v128.store", host, at, a.v(t));
  else a.c.store(bytes === 8 ? "i64.store" : "i64.store32", host, at, a.v(t).lane64(0));
}

function pair(form: PairForm): Insn {
  return insn(`STP_LDP_fp_${form.name}`, `opc:2 101 1 ${form.mode} L:1 imm7:7 Rt2:5 Rn:5 Rt:5`, {
    split: ["opc", "L"],
    when: ({ opc }) => opc !== 3,
    ops: ({ opc, imm7, Rt2, Rn, Rt }) => ({
      n: sp(Rn!),
      t: vec(Rt!),
      t2: vec(Rt2!),
      offset: imm64(signed(imm7!, 7) * 4 * 2 ** opc!),
    }),
    sem: (a, { n, t, t2, offset }, { opc, L }) => {
      const bytes = (4 * 2 ** opc!) as 4 | 8 | 16;
      const { va, writeBack } = pairAddress(a, form, n, offset);
      const host = a.probe(va, 2 * bytes, { write: L === 0, element: bytes });
      if (L === 0) {
        storeAt(a, bytes, host, 0, t);
        storeAt(a, bytes, host, bytes, t2);
        a.stored(host);
      } else {
        const second = a.keep(a.c.loadV(host, bytes, LOAD[bytes]));
        a.setV(t, a.c.loadV(host, 0, LOAD[bytes]));
        a.setV(t2, second);
      }
      if (writeBack !== null) a.setX(n, writeBack);
    },
  });
}

export const LOADS_STORES_SIMD: readonly Insn[] = [
  ...FORMS.map(single),
  LITERAL,
  ...PAIR_FORMS.map(pair),
];
