// Owns: names of Advanced SIMD instructions by opcode, and the sizes they come in. Data only. Any thread.
// @source Arm ARM C4.1, "Data Processing -- Scalar Floating-Point and Advanced SIMD"

/** Sizes are letters: which of "bhsd" the vector form has, and the scalar form. */
export type IntegerSame = readonly [signed: string, unsigned: string, vector: string, scalar: string];

/** Three same, by opcode; "" is another table's. */
export const THREE_SAME: Readonly<Record<number, IntegerSame>> = {
  0: ["shadd", "uhadd", "bhs", ""],
  1: ["sqadd", "uqadd", "bhsd", "bhsd"],
  2: ["srhadd", "urhadd", "bhs", ""],
  4: ["shsub", "uhsub", "bhs", ""],
  5: ["sqsub", "uqsub", "bhsd", "bhsd"],
  6: ["cmgt", "cmhi", "bhsd", "d"],
  7: ["cmge", "cmhs", "bhsd", "d"],
  8: ["sshl", "ushl", "bhsd", "d"],
  9: ["sqshl", "uqshl", "bhsd", "bhsd"],
  10: ["srshl", "urshl", "bhsd", "d"],
  11: ["sqrshl", "uqrshl", "bhsd", "bhsd"],
  12: ["smax", "umax", "bhs", ""], // tidy: an opcode
  13: ["smin", "umin", "bhs", ""],
  14: ["sabd", "uabd", "bhs", ""],
  15: ["saba", "uaba", "bhs", ""],
  16: ["add", "sub", "bhsd", "d"],
  17: ["cmtst", "cmeq", "bhsd", "d"],
  18: ["mla", "mls", "bhs", ""],
  20: ["smaxp", "umaxp", "bhs", ""],
  21: ["sminp", "uminp", "bhs", ""],
  22: ["sqdmulh", "sqrdmulh", "hs", "hs"],
};

/** By U and the upper bit of size, then opcode; "*": a scalar form, too. */
export const FP_SAME: readonly (readonly string[])[] = [
  ["fmaxnm", "fmla", "fadd", "fmulx*", "fcmeq*", "", "fmax", "frecps*"],
  ["fminnm", "fmls", "fsub", "", "", "", "fmin", "frsqrts*"],
  ["fmaxnmp", "", "faddp", "fmul", "fcmge*", "facge*", "fmaxp", "fdiv"],
  ["fminnmp", "", "fabd*", "", "fcmgt*", "facgt*", "fminp", ""],
];

/** Logical: by U and size. */
export const LOGICAL = ["and", "bic", "orr", "orn", "eor", "bsl", "bit", "bif"];

/** Three different: name of the signed and the unsigned form, what is wide in it, element sizes. */
export type Different = readonly [signed: string, unsigned: string, shape: "long" | "wide" | "narrow", sizes: string];
export const THREE_DIFFERENT: readonly Different[] = [
  ["saddl", "uaddl", "long", "bhs"],
  ["saddw", "uaddw", "wide", "bhs"],
  ["ssubl", "usubl", "long", "bhs"],
  ["ssubw", "usubw", "wide", "bhs"],
  ["addhn", "raddhn", "narrow", "bhs"],
  ["sabal", "uabal", "long", "bhs"],
  ["subhn", "rsubhn", "narrow", "bhs"],
  ["sabdl", "uabdl", "long", "bhs"],
  ["smlal", "umlal", "long", "bhs"],
  ["sqdmlal", "", "long", "hs"],
  ["smlsl", "umlsl", "long", "bhs"],
  ["sqdmlsl", "", "long", "hs"],
  ["smull", "umull", "long", "bhs"],
  ["sqdmull", "", "long", "hs"],
  ["pmull", "", "long", "bd"],
];

/** Two-register miscellaneous on integers: U, opcode → name, shape, vector sizes, scalar sizes. */
export type Misc = readonly [name: string, shape: "same" | "zero" | "pair" | "narrow", vector: string, scalar: string];
export const MISC: Readonly<Record<string, Misc>> = {
  "0 0": ["rev64", "same", "bhs", ""],
  "0 1": ["rev16", "same", "b", ""],
  "0 2": ["saddlp", "pair", "bhs", ""],
  "0 3": ["suqadd", "same", "bhsd", "bhsd"],
  "0 4": ["cls", "same", "bhs", ""],
  "0 5": ["cnt", "same", "b", ""],
  "0 6": ["sadalp", "pair", "bhs", ""],
  "0 7": ["sqabs", "same", "bhsd", "bhsd"],
  "0 8": ["cmgt", "zero", "bhsd", "d"],
  "0 9": ["cmeq", "zero", "bhsd", "d"],
  "0 10": ["cmlt", "zero", "bhsd", "d"],
  "0 11": ["abs", "same", "bhsd", "d"],
  "0 18": ["xtn", "narrow", "bhs", ""],
  "0 20": ["sqxtn", "narrow", "bhs", "bhs"],
  "1 0": ["rev32", "same", "bh", ""],
  "1 2": ["uaddlp", "pair", "bhs", ""],
  "1 3": ["usqadd", "same", "bhsd", "bhsd"],
  "1 4": ["clz", "same", "bhs", ""],
  "1 6": ["uadalp", "pair", "bhs", ""],
  "1 7": ["sqneg", "same", "bhsd", "bhsd"],
  "1 8": ["cmge", "zero", "bhsd", "d"],
  "1 9": ["cmle", "zero", "bhsd", "d"],
  "1 11": ["neg", "same", "bhsd", "d"],
  "1 18": ["sqxtun", "narrow", "bhs", "bhs"],
  "1 20": ["uqxtn", "narrow", "bhs", "bhs"],
};

/** Floating-point miscellaneous, by U, upper bit of size, opcode: "0": with zero; "*": scalar too; "!": not of halves. */
export const FP_MISC: Readonly<Record<string, string>> = {
  "0 0 24": "frintn", "0 0 25": "frintm", "0 0 26": "fcvtns*", "0 0 27": "fcvtms*",
  "0 0 28": "fcvtas*", "0 0 29": "scvtf*", "0 0 30": "frint32z!", "0 0 31": "frint64z!",
  "0 1 12": "fcmgt0*", "0 1 13": "fcmeq0*", "0 1 14": "fcmlt0*", "0 1 15": "fabs",
  "0 1 24": "frintp", "0 1 25": "frintz", "0 1 26": "fcvtps*", "0 1 27": "fcvtzs*",
  "0 1 28": "urecpe!", "0 1 29": "frecpe*", "0 1 31": "frecpx-*",
  "1 0 24": "frinta", "1 0 25": "frintx", "1 0 26": "fcvtnu*", "1 0 27": "fcvtmu*",
  "1 0 28": "fcvtau*", "1 0 29": "ucvtf*", "1 0 30": "frint32x!", "1 0 31": "frint64x!",
  "1 1 12": "fcmge0*", "1 1 13": "fcmle0*", "1 1 15": "fneg",
  "1 1 25": "frinti", "1 1 26": "fcvtpu*", "1 1 27": "fcvtzu*",
  "1 1 28": "ursqrte!", "1 1 29": "frsqrte*", "1 1 31": "fsqrt",
};

/** Shift by immediate, by U and opcode: name, direction, shape, scalar sizes. */
export type Shift = readonly [name: string, direction: "left" | "right", shape: "same" | "narrow" | "long", scalar: string];
export const SHIFT: Readonly<Record<string, Shift>> = {
  "0 0": ["sshr", "right", "same", "d"],
  "0 2": ["ssra", "right", "same", "d"],
  "0 4": ["srshr", "right", "same", "d"],
  "0 6": ["srsra", "right", "same", "d"],
  "0 10": ["shl", "left", "same", "d"],
  "0 14": ["sqshl", "left", "same", "bhsd"],
  "0 16": ["shrn", "right", "narrow", ""],
  "0 17": ["rshrn", "right", "narrow", ""],
  "0 18": ["sqshrn", "right", "narrow", "bhs"],
  "0 19": ["sqrshrn", "right", "narrow", "bhs"],
  "0 20": ["sshll", "left", "long", ""],
  "1 0": ["ushr", "right", "same", "d"],
  "1 2": ["usra", "right", "same", "d"],
  "1 4": ["urshr", "right", "same", "d"],
  "1 6": ["ursra", "right", "same", "d"],
  "1 8": ["sri", "right", "same", "d"],
  "1 10": ["sli", "left", "same", "d"],
  "1 12": ["sqshlu", "left", "same", "bhsd"],
  "1 14": ["uqshl", "left", "same", "bhsd"],
  "1 16": ["sqshrun", "right", "narrow", "bhs"],
  "1 17": ["sqrshrun", "right", "narrow", "bhs"],
  "1 18": ["uqshrn", "right", "narrow", "bhs"],
  "1 19": ["uqrshrn", "right", "narrow", "bhs"],
  "1 20": ["ushll", "left", "long", ""],
};

/** By element, by U and opcode: name, shape, whether a scalar form is there. */
export type Element = readonly [name: string, shape: "same" | "long" | "float", scalar: boolean];
export const ELEMENT: Readonly<Record<string, Element>> = {
  "0 1": ["fmla", "float", true],
  "0 2": ["smlal", "long", false],
  "0 3": ["sqdmlal", "long", true],
  "0 5": ["fmls", "float", true],
  "0 6": ["smlsl", "long", false],
  "0 7": ["sqdmlsl", "long", true],
  "0 8": ["mul", "same", false],
  "0 9": ["fmul", "float", true],
  "0 10": ["smull", "long", false],
  "0 11": ["sqdmull", "long", true],
  "0 12": ["sqdmulh", "same", true],
  "0 13": ["sqrdmulh", "same", true],
  "1 0": ["mla", "same", false],
  "1 2": ["umlal", "long", false],
  "1 4": ["mls", "same", false],
  "1 6": ["umlsl", "long", false],
  "1 9": ["fmulx", "float", true],
  "1 10": ["umull", "long", false],
  "1 13": ["sqrdmlah", "same", true],
  "1 15": ["sqrdmlsh", "same", true],
};
