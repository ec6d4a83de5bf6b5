// Owns: AES, SHA1, SHA256.
// VM thread.
// @source Arm ARM C4.1, "Cryptographic AES", "Cryptographic three- and two-register SHA"

import type { Feature } from "../features.table.js";
import { type Insn, insn } from "../insn.js";
import { ZERO } from "../lanes.js";
import { AES_DECRYPT, AES_ENCRYPT, AES_INVERSE_MIX, AES_MIX } from "../lib/aes.js";
import type { LibFunction } from "../lib/function.js";
import {
  SHA1_CHOOSE,
  SHA1_MAJORITY,
  SHA1_PARITY,
  SHA256_HASH,
  SHA256_HASH2,
  SHA256_UPDATE0,
  SHA256_UPDATE1,
} from "../lib/sha.js";
import { vec } from "../operand.js";
import type { Fields } from "../pattern.js";

const twoOps = ({ Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!) });
const threeOps = ({ Rm, Rn, Rd }: Fields) => ({ d: vec(Rd!), n: vec(Rn!), m: vec(Rm!) });

/** AESE and AESD take the state in Rd and the key in Rn. */
function aesRound(name: string, opcode: string, fn: LibFunction<"v128">): Insn {
  return insn(`${name}_cryptoaes`, `01001110 00 10100 ${opcode} 10 Rn:5 Rd:5`, {
    feature: "FEAT_AES",
    ops: twoOps,
    sem: (a, { d, n }) => a.setV(d, a.call(fn, a.v(d).xor(a.v(n)))),
  });
}
function aesMix(name: string, opcode: string, fn: LibFunction<"v128">): Insn {
  return insn(`${name}_cryptoaes`, `01001110 00 10100 ${opcode} 10 Rn:5 Rd:5`, {
    feature: "FEAT_AES",
    ops: twoOps,
    sem: (a, { d, n }) => a.setV(d, a.call(fn, a.v(n))),
  });
}

/** (d, n, m) → d. */
function sha3(name: string, feature: Feature, opcode: string, fn: LibFunction<"v128">): Insn {
  return insn(`${name}_cryptosha3`, `01011110 00 0 Rm:5 0 ${opcode} 00 Rn:5 Rd:5`, {
    feature,
    ops: threeOps,
    sem: (a, { d, n, m }) => a.setV(d, a.call(fn, a.v(d), a.v(n), a.v(m))),
  });
}

const SHA1SU0: Insn = insn("SHA1SU0_cryptosha3", "01011110 00 0 Rm:5 0 011 00 Rn:5 Rd:5", {
  feature: "FEAT_SHA1",
  ops: threeOps,
  sem: (a, { d, n, m }) => {
    const middle = [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];
    a.setV(d, a.v(d).shuffle(a.v(n), middle).xor(a.v(d)).xor(a.v(m)));
  },
});

const SHA1H: Insn = insn("SHA1H_cryptosha2", "01011110 00 10100 00000 10 Rn:5 Rd:5", {
  feature: "FEAT_SHA1",
  ops: twoOps,
  sem: (a, { d, n }) => a.setScalar(d, a.v(n).lane32("i32x4", 0).rotl(30).extendU()),
});

const SHA1SU1: Insn = insn("SHA1SU1_cryptosha2", "01011110 00 10100 00001 10 Rn:5 Rd:5", {
  feature: "FEAT_SHA1",
  ops: twoOps,
  sem: (a, { d, n }) => {
    // Rn moved down by a word, with zeros above.
    const down = a.v(n).shuffle(ZERO, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    const t = a.keep(a.v(d).xor(down));
    const rotated = a.keep(t.shift("i32x4.shl", 1).or(t.shift("i32x4.shr_u", 31)));
    const first = t.lane32("i32x4", 0).rotl(2);
    a.setV(d, rotated.replace("i32x4", 3, rotated.lane32("i32x4", 3).xor(first)));
  },
});

const SHA256SU0: Insn = insn("SHA256SU0_cryptosha2", "01011110 00 10100 00010 10 Rn:5 Rd:5", {
  feature: "FEAT_SHA256",
  ops: twoOps,
  sem: (a, { d, n }) => a.setV(d, a.call(SHA256_UPDATE0, a.v(d), a.v(n))),
});

export const CRYPTO: readonly Insn[] = [
  aesRound("AESE", "00100", AES_ENCRYPT),
  aesRound("AESD", "00101", AES_DECRYPT),
  aesMix("AESMC", "00110", AES_MIX),
  aesMix("AESIMC", "00111", AES_INVERSE_MIX),
  sha3("SHA1C", "FEAT_SHA1", "000", SHA1_CHOOSE),
  sha3("SHA1P", "FEAT_SHA1", "001", SHA1_PARITY),
  sha3("SHA1M", "FEAT_SHA1", "010", SHA1_MAJORITY),
  SHA1SU0,
  sha3("SHA256H", "FEAT_SHA256", "100", SHA256_HASH),
  sha3("SHA256H2", "FEAT_SHA256", "101", SHA256_HASH2),
  sha3("SHA256SU1", "FEAT_SHA256", "110", SHA256_UPDATE1),
  SHA1H,
  SHA1SU1,
  SHA256SU0,
];
