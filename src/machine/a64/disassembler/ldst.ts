// Owns: texts of loads and stores of single registers and pairs, general and SIMD. Any thread.
// @source Arm ARM C4.1, "Loads and Stores"
import { address, EXTENDS, offset, place, reg, scalar, signed, xsp } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";

interface Access {
  readonly name: string;
  /** The register as it is written, or the operation of a prefetch. */
  readonly rt: string;
  /** Its logarithm is what offsets count in. */
  readonly log2: number;
}

const TARGETS = ["l1", "l2", "l3"];
const KINDS = ["pld", "pli", "pst"];

function prefetchOperation(rt: number): string {
  const [kind, target] = [KINDS[rt >> 3], TARGETS[(rt >> 1) & 3]];
  if (kind === undefined || target === undefined) return `#0x${rt.toString(16).padStart(2, "0")}`;
  return `${kind}${target}${(rt & 1) === 1 ? "strm" : "keep"}`;
}

const STEMS = ["b", "h", "", ""];
const SIGNED = ["sb", "sh", "sw"];

/** What size and opc of a single access mean. @returns null where nothing */
function accessOf({ V, size, opc, Rt }: DisFields): Access | null {
  if (V === 1) {
    if (opc > 1 && size !== 0) return null;
    const log2 = opc > 1 ? 4 : size;
    return { name: (opc & 1) === 1 ? "ldr" : "str", rt: scalar(log2, Rt), log2 };
  }
  if (size === 3 && opc === 2) return { name: "prfm", rt: prefetchOperation(Rt), log2: 3 };
  if (opc < 2) {
    const name = `${opc === 1 ? "ldr" : "str"}${STEMS[size]}`;
    return { name, rt: reg(size === 3 ? 1 : 0, Rt), log2: size };
  }
  if (size === 3 || (size === 2 && opc === 3)) return null;
  return { name: `ldr${SIGNED[size]}`, rt: reg(opc === 2 ? 1 : 0, Rt), log2: size };
}

/** "ldrsb" to "ldursb", "ldtrsb". */
const withLetter = (name: string, kind: string): string =>
  name === "prfm" ? "prfum" : name.replace(/^(ld|st)/, `$1${kind}`);

function unscaled(kind: "u" | "t") {
  return (f: DisFields): string | null => {
    const access = accessOf(f);
    if (access === null || (kind === "t" && (f.V === 1 || access.name === "prfm"))) return null;
    const at = `[${xsp(f.Rn)}${offset(signed(f.imm9, 9))}]`;
    return `${withLetter(access.name, kind)} ${access.rt}, ${at}`;
  };
}

function indexed(f: DisFields): string | null {
  const access = accessOf(f);
  if (access === null || access.name === "prfm") return null;
  const mode = f.mode === 1 ? 3 : 1;
  return `${access.name} ${access.rt}, ${place(xsp(f.Rn), mode, signed(f.imm9, 9))}`;
}

function unsigned(f: DisFields): string | null {
  const access = accessOf(f);
  if (access === null) return null;
  return `${access.name} ${access.rt}, [${xsp(f.Rn)}${offset(f.imm12 * 2 ** access.log2)}]`;
}

function registerOffset(f: DisFields): string | null {
  const access = accessOf(f);
  const { option, S, Rm, Rn } = f;
  if (access === null || (option & 2) === 0) return null;
  const by = S === 1 ? ` #${access.log2}` : "";
  const isLsl = option === 3;
  const extend = isLsl ? (S === 1 ? `, lsl${by}` : "") : `, ${EXTENDS[option]}${by}`;
  return `${access.name} ${access.rt}, [${xsp(Rn)}, ${reg(option & 1, Rm)}${extend}]`;
}

function literal({ V, opc, imm19, Rt }: DisFields, pc: bigint): string | null {
  const target = address(pc, 4 * signed(imm19, 19));
  if (V === 1) return opc === 3 ? null : `ldr ${scalar(2 + opc, Rt)}, ${target}`;
  if (opc === 3) return `prfm ${prefetchOperation(Rt)}, ${target}`;
  if (opc === 2) return `ldrsw ${reg(1, Rt)}, ${target}`;
  return `ldr ${reg(opc, Rt)}, ${target}`;
}

function pair({ opc, V, mode, L, imm7, Rt2, Rn, Rt }: DisFields): string | null {
  if (opc === 3) return null;
  const word = V === 0 && opc === 1;
  if (word && (L === 0 || mode === 0)) return null;
  const log2 = V === 1 ? 2 + opc : opc === 2 ? 3 : 2;
  const register = (n: number) => (V === 1 ? scalar(log2, n) : reg(opc === 0 ? 0 : 1, n));
  const by = signed(imm7, 7) * 2 ** log2;
  const name = `${L === 1 ? "ld" : "st"}${mode === 0 ? "np" : "p"}${word ? "sw" : ""}`;
  return `${name} ${register(Rt)}, ${register(Rt2)}, ${place(xsp(Rn), mode, by)}`;
}

const SINGLE = "size:2 111 V:1";

export const LDST: readonly Row[] = [
  row(`${SINGLE} 00 opc:2 0 imm9:9 00 Rn:5 Rt:5`, unscaled("u")),
  row(`${SINGLE} 00 opc:2 0 imm9:9 10 Rn:5 Rt:5`, unscaled("t")),
  row(`${SINGLE} 00 opc:2 0 imm9:9 mode:1 1 Rn:5 Rt:5`, indexed),
  row(`${SINGLE} 01 opc:2 imm12:12 Rn:5 Rt:5`, unsigned),
  row(`${SINGLE} 00 opc:2 1 Rm:5 option:3 S:1 10 Rn:5 Rt:5`, registerOffset),
  row("opc:2 011 V:1 00 imm19:19 Rt:5", literal),
  row("opc:2 101 V:1 0 mode:2 L:1 imm7:7 Rt2:5 Rn:5 Rt:5", pair),
];
