// Owns: texts of LD1 to LD4 and ST1 to ST4. Any thread.
// @source Arm ARM C4.1, "Advanced SIMD load/store multiple structures", "… single structure"
import { arrangement, letter, list, x, xsp } from "./names.js";
import { type DisFields, type Row, row } from "./row.js";

const IMMEDIATE = 31;

/** Structure size and number of registers, by opcode. */
const MULTIPLE: Readonly<Record<number, readonly [structure: number, registers: number]>> = {
  0: [4, 4],
  2: [1, 4],
  4: [3, 3],
  6: [1, 3],
  7: [1, 1],
  8: [2, 2],
  10: [1, 2],
};

/** "[x0]", "[x0], #16", "[x0], x1". */
function place({ Rn, Rm }: DisFields, post: boolean, bytes: number): string {
  const base = `[${xsp(Rn)}]`;
  if (!post) return base;
  return `${base}, ${Rm === IMMEDIATE ? `#${bytes}` : x(Rm)}`;
}

function multiple(post: boolean) {
  return (f: DisFields): string | null => {
    const { Q, L, opcode, size, Rt } = f;
    const [structure, registers] = MULTIPLE[opcode] ?? [0, 0];
    // A structure of several 64-bit elements in 64-bit registers doesn't exist.
    if (registers === 0 || (structure > 1 && size === 3 && Q === 0)) return null;
    const regs = list(Rt, registers, arrangement(size, Q));
    return `${L === 1 ? "ld" : "st"}${structure} ${regs}, ${place(f, post, registers * (8 << Q))}`;
  };
}

function replicate(f: DisFields, structure: number, post: boolean): string | null {
  const { Q, L, S, size, Rt } = f;
  if (L === 0 || S === 1) return null;
  const regs = list(Rt, structure, arrangement(size, Q));
  return `ld${structure}r ${regs}, ${place(f, post, structure << size)}`;
}

/** Element size and index of a single structure. @returns null where there is none */
function element({ Q, S, opcode, size }: DisFields): readonly [number, number] | null {
  const kind = opcode >> 1;
  if (kind === 0) return [0, 8 * Q + 4 * S + size];
  if (kind === 1) return (size & 1) === 1 ? null : [1, 4 * Q + 2 * S + (size >> 1)];
  if (size === 0) return [2, 2 * Q + S];
  return size === 1 && S === 0 ? [3, Q] : null;
}

function single(post: boolean) {
  return (f: DisFields): string | null => {
    const { L, R, opcode, Rt } = f;
    const structure = ((opcode & 1) << 1) + R + 1;
    if (opcode >> 1 === 3) return replicate(f, structure, post);
    const found = element(f);
    if (found === null) return null;
    const [size, at] = found;
    const regs = `${list(Rt, structure, letter(size))}[${at}]`;
    return `${L === 1 ? "ld" : "st"}${structure} ${regs}, ${place(f, post, structure << size)}`;
  };
}

export const LDST_STRUCT: readonly Row[] = [
  row("0 Q:1 0011000 L:1 000000 opcode:4 size:2 Rn:5 Rt:5", multiple(false)),
  row("0 Q:1 0011001 L:1 0 Rm:5 opcode:4 size:2 Rn:5 Rt:5", multiple(true)),
  row("0 Q:1 0011010 L:1 R:1 00000 opcode:3 S:1 size:2 Rn:5 Rt:5", single(false)),
  row("0 Q:1 0011011 L:1 R:1 Rm:5 opcode:3 S:1 size:2 Rn:5 Rt:5", single(true)),
];
