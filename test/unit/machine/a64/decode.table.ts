// Owns: encodings that the Arm ARM leaves unallocated or reserved, and where GNU objdump knows more
// than the PE has. Data only.
// @source Arm ARM (DDI 0487) C4.1

type Fields = Readonly<Record<string, number>>;

export interface Unallocated {
  readonly name: string;
  /** As patterns of the instruction tables; fields without a rule are any. */
  readonly pattern: string;
  readonly only?: (f: Fields) => boolean;
}

export const UNALLOCATED: readonly Unallocated[] = [
  { name: "reserved, op0 0000", pattern: "0 00 0000 rest:25" },
  { name: "op0 0001", pattern: "any:3 0001 rest:25" },
  { name: "op0 0011", pattern: "any:3 0011 rest:25" },
  {
    name: "logical immediate, sf 0 and N 1",
    pattern: "0 opc:2 100100 1 immr:6 imms:6 Rn:5 Rd:5",
  },
  {
    name: "logical immediate of all ones, 64 bits",
    pattern: "1 opc:2 100100 1 immr:6 111111 Rn:5 Rd:5",
  },
  {
    name: "logical immediate of all ones, 2 bits",
    pattern: "sf:1 opc:2 100100 0 immr:6 11110 1 Rn:5 Rd:5",
  },
  {
    name: "logical immediate, no element size",
    pattern: "sf:1 opc:2 100100 0 immr:6 11111 x:1 Rn:5 Rd:5",
  },
  { name: "move wide, opc 01", pattern: "sf:1 01 100101 hw:2 imm16:16 Rd:5" },
  { name: "move wide, W by 32 or 48", pattern: "0 opc:2 100101 1 hw:1 imm16:16 Rd:5" },
  { name: "bitfield, opc 11", pattern: "sf:1 11 100110 N:1 immr:6 imms:6 Rn:5 Rd:5" },
  { name: "bitfield, sf 0 and N 1", pattern: "0 opc:2 100110 1 immr:6 imms:6 Rn:5 Rd:5" },
  { name: "bitfield, sf 1 and N 0", pattern: "1 opc:2 100110 0 immr:6 imms:6 Rn:5 Rd:5" },
  { name: "bitfield W, immr ≥ 32", pattern: "0 opc:2 100110 N:1 1 immr:5 imms:6 Rn:5 Rd:5" },
  { name: "bitfield W, imms ≥ 32", pattern: "0 opc:2 100110 N:1 immr:6 1 imms:5 Rn:5 Rd:5" },
  { name: "extract W, lsb ≥ 32", pattern: "0 00 100111 0 0 Rm:5 1 imms:5 Rn:5 Rd:5" },
  { name: "extract, N is not sf", pattern: "1 00 100111 0 0 Rm:5 imms:6 Rn:5 Rd:5" },
  { name: "extract, op21 not 00", pattern: "sf:1 01 100111 N:1 o0:1 Rm:5 imms:6 Rn:5 Rd:5" },
  { name: "add shifted, ROR", pattern: "sf:1 op:1 S:1 01011 11 0 Rm:5 imm6:6 Rn:5 Rd:5" },
  {
    name: "add shifted W, by 32 or more",
    pattern: "0 op:1 S:1 01011 shift:2 0 Rm:5 1 imm5:5 Rn:5 Rd:5",
  },
  {
    name: "logical shifted W, by 32 or more",
    pattern: "0 opc:2 01010 shift:2 N:1 Rm:5 1 imm5:5 Rn:5 Rd:5",
  },
  {
    name: "add extended, shift over 4",
    pattern: "sf:1 op:1 S:1 01011 00 1 Rm:5 option:3 imm3:3 Rn:5 Rd:5",
    only: ({ imm3 }) => imm3! > 4,
  },
  {
    name: "add extended, opt not 00",
    pattern: "sf:1 op:1 S:1 01011 opt:2 1 Rm:5 option:3 imm3:3 Rn:5 Rd:5",
    only: ({ opt }) => opt !== 0,
  },
  {
    name: "conditional compare, S 0",
    pattern: "sf:1 op:1 0 11010010 Rm:5 cond:4 k:1 0 Rn:5 0 nzcv:4",
  },
  { name: "conditional compare, o3 1", pattern: "sf:1 op:1 1 11010010 Rm:5 cond:4 k:1 0 Rn:5 1 nzcv:4" },
  { name: "conditional select, S 1", pattern: "sf:1 op:1 1 11010100 Rm:5 cond:4 op2:2 Rn:5 Rd:5" },
  { name: "conditional select, op2 1x", pattern: "sf:1 op:1 0 11010100 Rm:5 cond:4 1 x:1 Rn:5 Rd:5" },
  { name: "REV32 as W", pattern: "0 1 0 11010110 00000 000011 Rn:5 Rd:5" },
  { name: "3 sources, op54 not 00", pattern: "sf:1 01 11011 op31:3 Rm:5 o0:1 Ra:5 Rn:5 Rd:5" },
  { name: "SMADDL as W", pattern: "0 00 11011 U:1 01 Rm:5 o0:1 Ra:5 Rn:5 Rd:5" },
  { name: "SMULH as W", pattern: "0 00 11011 U:1 10 Rm:5 0 Ra:5 Rn:5 Rd:5" },
  { name: "CRC32X as W, and the reverse", pattern: "0 0 0 11010110 Rm:5 010 C:1 11 Rn:5 Rd:5" },
  { name: "CRC32 of less as X", pattern: "1 0 0 11010110 Rm:5 010 C:1 0 sz:1 Rn:5 Rd:5" },
  { name: "loads, size 11 and opc 11", pattern: "11 111 0 01 11 imm12:12 Rn:5 Rt:5" },
  { name: "loads, size 10 and opc 11", pattern: "10 111 0 01 11 imm12:12 Rn:5 Rt:5" },
  { name: "indexed, size 11 and opc 10", pattern: "11 111 0 00 10 0 imm9:9 x:1 1 Rn:5 Rt:5" },
  { name: "unprivileged, size 11 and opc 1x", pattern: "11 111 0 00 1 x:1 0 imm9:9 10 Rn:5 Rt:5" },
  { name: "unprivileged, vectors", pattern: "size:2 111 1 00 opc:2 0 imm9:9 10 Rn:5 Rt:5" },
  {
    name: "vector loads, size not 00 and opc 1x",
    pattern: "size:2 111 1 01 1 L:1 imm12:12 Rn:5 Rt:5",
    only: ({ size }) => size !== 0,
  },
  {
    name: "register offset, option x0x",
    pattern: "size:2 111 V:1 00 opc:2 1 Rm:5 o:1 0 p:1 S:1 10 Rn:5 Rt:5",
  },
  { name: "pairs, opc 11", pattern: "11 101 V:1 0 mode:2 L:1 imm7:7 Rt2:5 Rn:5 Rt:5" },
  { name: "STNP and LDNP, opc 01", pattern: "01 101 0 000 L:1 imm7:7 Rt2:5 Rn:5 Rt:5" },
  { name: "vector literal, opc 11", pattern: "11 011 1 00 imm19:19 Rt:5" },
  { name: "exclusive pair of bytes", pattern: "0 sz:1 001000 0 L:1 1 Rs:5 o0:1 Rt2:5 Rn:5 Rt:5",
    only: ({ Rt2 }) => Rt2 !== 31 },
  { name: "CASP of odd registers", pattern: "0 sz:1 001000 0 L:1 1 Rs:4 1 o0:1 11111 Rn:5 Rt:5" },
  { name: "B.cond, o1 1", pattern: "0101010 1 imm19:19 o0:1 cond:4" },
  { name: "branch to register, op2 not 11111", pattern: "1101011 opc:4 0 x:4 000000 Rn:5 00000" },
  { name: "branch to register, opc 1100", pattern: "1101011 1100 11111 000000 Rn:5 00000" },
  { name: "exceptions, opc 000 and LL 00", pattern: "11010100 000 imm16:16 000 00" },
  { name: "BRK with LL", pattern: "11010100 001 imm16:16 000 LL:2", only: ({ LL }) => LL !== 0 },
  { name: "hints with Rt", pattern: "11010101000000110010 CRm:4 op2:3 Rt:5", only: ({ Rt }) => Rt !== 31 },
  { name: "FP, type 10", pattern: "0 0 0 11110 10 1 Rm:5 opcode:4 10 Rn:5 Rd:5" },
  { name: "FP compare, type 10", pattern: "0 0 0 11110 10 1 Rm:5 00 1000 Rn:5 o:2 000" },
  { name: "FP 1 source, type 10", pattern: "0 0 0 11110 10 1 opcode:6 10000 Rn:5 Rd:5" },
  { name: "FP 3 sources, type 10", pattern: "0 0 0 11111 10 o1:1 Rm:5 o0:1 Ra:5 Rn:5 Rd:5" },
  { name: "FP select, type 10", pattern: "0 0 0 11110 10 1 Rm:5 cond:4 11 Rn:5 Rd:5" },
  { name: "FP with M", pattern: "1 0 0 11110 type:2 1 Rm:5 opcode:4 10 Rn:5 Rd:5" },
  { name: "FCVT of a type to itself", pattern: "0 0 0 11110 00 1 000100 10000 Rn:5 Rd:5" },
  { name: "fixed point W, scale under 32", pattern: "0 0 0 11110 0 t:1 0 rm:2 op:3 0 scale:5 Rn:5 Rd:5" },
  { name: "vectors, 3 same of 1D", pattern: "0 0 U:1 01110 11 1 Rm:5 10000 1 Rn:5 Rd:5" },
  { name: "vectors, MUL of doubles", pattern: "0 Q:1 U:1 01110 11 1 Rm:5 10011 1 Rn:5 Rd:5" },
  { name: "vectors, FADD of 1D", pattern: "0 0 0 01110 0 1 1 Rm:5 11010 1 Rn:5 Rd:5" },
  { name: "vectors, SQDMULH of bytes", pattern: "0 Q:1 U:1 01110 00 1 Rm:5 10110 1 Rn:5 Rd:5" },
  { name: "vectors, TRN and ZIP of 1D", pattern: "0 0 001110 11 0 Rm:5 0 opcode:3 10 Rn:5 Rd:5" },
  { name: "vectors, EXT beyond 8 bytes", pattern: "0 0 101110 00 0 Rm:5 0 1 imm:3 0 Rn:5 Rd:5" },
  { name: "vectors, DUP of nothing", pattern: "0 Q:1 0 01110000 x:1 0000 0 0000 1 Rn:5 Rd:5" },
  { name: "vectors, shift of 1D", pattern: "0 0 U:1 011110 1 immh:3 immb:3 00000 1 Rn:5 Rd:5" },
  { name: "structures, opcode of nothing", pattern: "0 Q:1 0011000 L:1 000000 0001 size:2 Rn:5 Rt:5" },
  { name: "structures, LD2 of 1D", pattern: "0 0 0011000 L:1 000000 1000 11 Rn:5 Rt:5" },
  { name: "structures, store that replicates", pattern: "0 Q:1 0011010 0 R:1 00000 11 p:1 S:1 size:2 Rn:5 Rt:5" },
];

/** What objdump disassembles and the PE has not: by its name, and the disassembly or the word. */
export const NOT_OURS: readonly (readonly [string, RegExp])[] = [
  ["UDF, which is UNDEFINED", /^udf /],
  ["FEAT_FP16, FEAT_FHM", /^(f\w+|[su]cvtf) .*(\bv\d+\.[248]h\b|\bh\d+\b)/],
  ["FEAT_BF16", /^bf(cvt|dot|mlal|mmla)/],
  ["FEAT_I8MM", /^(us|su)dot|^(s|u|us)mmla/],
  ["FEAT_MTE", /^(stz?2?gm?|stgp|ldgm?|addg|subg|irg|gmi|subps?|cmpp) /],
  ["FEAT_PAuth", /^(ldra[ab]|pac\w+|aut\w+|xpac\w+|bl?ra[ab]z?|reta[ab]|ereta[ab])\b/],
  ["FEAT_LOR", /^(ldlar|stllr)[bh]?/],
  ["FEAT_LRCPC2, FEAT_LRCPC3", /^(ldapur|stlur)(s?[bhw])?\b|^(ldiapp|stilp|ldap1|stl1)/],
  ["FEAT_FlagM, FEAT_FlagM2", /^(rmif|setf8|setf16|cfinv|axflag|xaflag)/],
  ["FEAT_CSSC", /^([su](max|min)|ctz|cnt|abs) [wx]/],
  ["FEAT_MOPS", /^(cpy|set)[fgpme]\w*/],
  ["FEAT_HBC", /^bc\./],
  ["FEAT_FCMA", /^(fcmla|fcadd)/],
  ["FEAT_FRINTTS, FEAT_JSCVT", /^(frint(32|64)[xz]|fjcvtzs)/],
  ["FEAT_SHA512, SHA3, SM3, SM4", /^(sha512|eor3|bcax|rax1|xar|sm3|sm4)/],
  ["FEAT_LS64", /^(ld64b|st64b)/],
  ["FEAT_TME", /^(tcancel|tstart|tcommit|ttest)/],
  ["FEAT_LSE128, FEAT_THE", /^(ldclrp|ldsetp|swpp|rcw)/],
  ["FEAT_SME", /^sm(start|stop)\b/],
  ["FEAT_SB", /^sb\b/],
  ["FEAT_XS", /^dsb \w+nxs/],
  ["FEAT_WFxT", /^wf[ei]t /],
  ["Debug state only", /^(dcps[123]|drps)/],
];

/** What the PE takes and objdump refuses: fields that should be one, and UNPREDICTABLE registers. */
export const NOT_OBJDUMPS: readonly (readonly [string, RegExp])[] = [
  ["Rs and Rt2 should be ones", /^(LDAR|STLR)_ldstord$|^LDAPR_memop$/],
  ["LDPSW that loads its base, or one register twice", /^STP_LDP_ldstpair_/],
];
