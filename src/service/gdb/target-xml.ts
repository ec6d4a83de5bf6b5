// Owns: the target description: what registers there are, as GDB wants to read it. HTTP thread.
// @source GDB manual, appendix G
import { REGISTERS, type RegisterRow } from "./registers.table.js";

/** Bits of SPSR as GDB's cpsr shows them. */
const FLAGS: readonly (readonly [string, number, number])[] = [
  ["SP", 0, 0],
  ["EL", 2, 3],
  ["nRW", 4, 4],
  ["F", 6, 6],
  ["I", 7, 7],
  ["A", 8, 8],
  ["D", 9, 9],
  ["IL", 20, 20],
  ["SS", 21, 21],
  ["V", 28, 28],
  ["C", 29, 29],
  ["Z", 30, 30],
  ["N", 31, 31],
];

/** Views of a vector register, as $v0.d.u: how wide, and as what; then type and elements. */
const VIEWS: readonly (readonly [string, string, string, number])[] = [
  ["d", "f", "ieee_double", 2],
  ["d", "u", "uint64", 2],
  ["d", "s", "int64", 2],
  ["s", "f", "ieee_single", 4],
  ["s", "u", "uint32", 4],
  ["s", "s", "int32", 4],
  ["h", "u", "uint16", 8],
  ["h", "s", "int16", 8],
  ["b", "u", "uint8", 16],
  ["b", "s", "int8", 16],
  ["q", "u", "uint128", 1],
  ["q", "s", "int128", 1],
];
const WIDTHS = [...new Set(VIEWS.map(([width]) => width))];

function types(feature: RegisterRow["feature"]): readonly string[] {
  if (feature === "core") {
    const fields = FLAGS.map(
      ([name, start, end]) => `<field name="${name}" start="${start}" end="${end}"/>`,
    );
    return ['<flags id="cpsr_flags" size="4">', ...fields, "</flags>"];
  }
  if (feature === "system") return [];
  const vectors = VIEWS.map(
    ([width, as, type, count]) => `<vector id="v${width}${as}" type="${type}" count="${count}"/>`,
  );
  const unions = WIDTHS.flatMap((width) => {
    const views = VIEWS.filter(([of]) => of === width);
    const fields = views.map(([, as]) => `<field name="${as}" type="v${width}${as}"/>`);
    return [`<union id="vn${width}">`, ...fields, "</union>"];
  });
  const fields = WIDTHS.map((width) => `<field name="${width}" type="vn${width}"/>`);
  return [...vectors, ...unions, '<union id="aarch64v">', ...fields, "</union>"];
}

function feature(name: string, of: RegisterRow["feature"]): readonly string[] {
  const registers = REGISTERS.flatMap(({ name, bits, type, feature }, number) => {
    if (feature !== of) return [];
    return [`<reg name="${name}" bitsize="${bits}" type="${type}" regnum="${number}"/>`];
  });
  return [`<feature name="${name}">`, ...types(of), ...registers, "</feature>"];
}

export const TARGET_XML = [
  '<?xml version="1.0"?>',
  '<!DOCTYPE target SYSTEM "gdb-target.dtd">',
  '<target version="1.0">',
  "<architecture>aarch64</architecture>",
  ...feature("org.gnu.gdb.aarch64.core", "core"),
  ...feature("org.gnu.gdb.aarch64.fpu", "fpu"),
  ...feature("org.tidemark.el1", "system"),
  "</target>",
  "",
].join("\n");
