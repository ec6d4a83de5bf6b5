// Owns: loads and stores of general registers: every addressing form, pairs, literal, prefetch.
// VM thread.
// @source Arm ARM C4.1, "Loads and Stores"
import type { I64 } from "../../../base/wasm/value.js";
import type { Asm, Bits } from "../asm.js";
import { type Insn, type InsnSpec, insn } from "../insn.js";
import { dst, imm64, sp, src, type XReg } from "../operand.js";
import {
  type AddressOps,
  FORMS,
  type Form,
  PAIR_FORMS,
  type PairForm,
  pairAddress,
  REGISTER,
  signed,
  UNPRIVILEGED,
  UNSCALED,
  UNSIGNED,
} from "./addressing.js";

const STORE = 0;
const LOAD = 1;
/** Sign-extended to 64 bits; with size 3 a prefetch. */
const LOAD_SIGNED = 2;

type SingleOps = AddressOps & { readonly t: XReg; readonly d: XReg };

/** One form for every size: STR, LDR, LDRS to X, LDRS to W. */
function single(form: Form): Insn {
  const spec: InsnSpec<SingleOps> = {
    split: ["size", "opc", ...(form.split ?? [])],
    when: (f) => {
      const { size, opc } = f;
      // Signed loads go to a register wider than what they load.
      return (opc! <= LOAD || size! + opc! <= 4) && (form.when?.(f) ?? true);
    },
    ops: (f) => {
      const { n, ...rest } = form.ops(f, f["size"]!);
      return { n, ...rest, t: src(f["Rt"]!), d: dst(f["Rt"]!) };
    },
    sem: (a, o, f) => {
      const { size, opc } = f;
      const { va, writeBack } = form.address(a, o, f, size!);
      const bits = (8 * 2 ** size!) as Bits;
      const access = { write: opc === STORE, unprivileged: form.unprivileged === true };
      if (opc === STORE) {
        a.store(va, bits, a.x(o.t), access);
        if (writeBack !== null) a.setX(o.n, writeBack);
        return;
      }
      const value = a.load(va, bits, opc! >= LOAD_SIGNED, access);
      // Where both are one register, the loaded value stays.
      if (writeBack !== null) a.setX(o.n, writeBack);
      if (opc === 3) a.setW(o.d, value.wrap());
      else a.setX(o.d, value);
    },
  };
  return insn(`STR_LDR_${form.name}`, `size:2 ${form.pattern(0)}`, spec);
}

/** PRFM, PRFUM: hints. */
function prefetch(form: Form): Insn {
  const pattern = form.pattern(0).replace("opc:2", "10");
  return insn(`PRFM_${form.name}`, `11 ${pattern}`, {
    ...(form.when === undefined ? {} : { valid: form.when }),
    ops: () => ({}),
    sem: () => {},
  });
}

const LITERAL: Insn = insn("LDR_loadlit", "opc:2 011 0 00 imm19:19 Rt:5", {
  split: ["opc"],
  ops: ({ imm19, Rt }) => ({ d: dst(Rt!), offset: imm64(signed(imm19!, 19) * 4) }),
  sem: (a, { d, offset }, { opc }) => {
    // LDR W, LDR X, LDRSW, PRFM.
    if (opc === 3) return;
    const va = a.keep(a.pc().add(a.imm64(offset)));
    a.setX(d, a.load(va, opc === 1 ? 64 : 32, opc === 2));
  },
});

/** Registers of a pair are 4 bytes, 8, or 4 that are extended with their sign. */
function pair(form: PairForm): Insn {
  return insn(`STP_LDP_${form.name}`, `opc:2 101 0 ${form.mode} L:1 imm7:7 Rt2:5 Rn:5 Rt:5`, {
    split: ["opc", "L"],
    when: ({ opc, L }) => opc !== 3 && (opc !== 1 || (L === 1 && form.mode !== "000")),
    ops: ({ opc, imm7, Rt2, Rn, Rt }) => ({
      n: sp(Rn!),
      t: src(Rt!),
      t2: src(Rt2!),
      d: dst(Rt!),
      d2: dst(Rt2!),
      offset: imm64(signed(imm7!, 7) * (opc === 2 ? 8 : 4)),
    }),
    sem: (a, { n, t, t2, d, d2, offset }, { opc, L }) => {
      const bytes = opc === 2 ? 8 : 4;
      const { va, writeBack } = pairAddress(a, form, n, offset);
      const host = a.probe(va, 2 * bytes, { write: L === 0, element: bytes });
      if (L === 0) {
        const store = bytes === 8 ? "i64.store" : "i64.store32";
        a.c.store(store, host, 0, a.x(t));
        a.c.store(store, host, bytes, a.x(t2));
        a.stored(host);
        if (writeBack !== null) a.setX(n, writeBack);
        return;
      }
      const load = bytes === 8 ? "i64.load" : opc === 1 ? "i64.load32_s" : "i64.load32_u";
      const [first, second] = loaded(
        a,
        [0, bytes].map((at) => a.c.load64(host, at, load)),
      );
      if (writeBack !== null) a.setX(n, writeBack);
      a.setX(d, first!);
      a.setX(d2, second!);
    },
  });
}

function loaded(a: Asm, values: readonly I64[]): readonly I64[] {
  return values.map((value) => a.keep(value));
}

export const LOADS_STORES: readonly Insn[] = [
  ...FORMS.map(single),
  single(UNPRIVILEGED),
  ...[UNSIGNED, UNSCALED, REGISTER].map(prefetch),
  LITERAL,
  ...PAIR_FORMS.map(pair),
];
