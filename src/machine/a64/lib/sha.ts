// Owns: four rounds of SHA-1 and SHA-256, and their message schedules. VM thread.
// @source FIPS 180-4; Arm ARM J1, shared/functions/crypto (SHA256hash, SHAchoose, …)
import type { Code } from "../../../base/wasm/code.js";
import { constV, type I32, type V128 } from "../../../base/wasm/value.js";
import { type LibFunction, lib } from "./function.js";

type Mix = (c: Code, x: I32, y: I32, z: I32) => I32;
const choose: Mix = (_, x, y, z) => y.xor(z).and(x).xor(z);
const majority: Mix = (c, x, y, z) => {
  const either = c.keep(x.or(y));
  return x.and(y).or(either.and(z));
};
const parity: Mix = (_, x, y, z) => x.xor(y).xor(z);

const word = (v: V128, n: number): I32 => v.lane32("i32x4", n);

function words(c: Code, v: V128): I32[] {
  return [0, 1, 2, 3].map((n) => c.keep(word(v, n)));
}

function vectorOf(parts: readonly I32[]): V128 {
  return parts.reduce((v, part, n) => v.replace("i32x4", n, part), constV(0n, 0n));
}

/** (abcd, e, schedule) → abcd after four rounds. */
function sha1(name: string, mix: Mix): LibFunction<"v128"> {
  return lib(name, ["v128", "v128", "v128"], "v128", ({ c }, abcd, e, w) => {
    let [x0, x1, x2, x3] = words(c, abcd) as [I32, I32, I32, I32];
    let y = c.keep(word(e, 0));
    for (let round = 0; round < 4; round++) {
      const sum = y
        .add(x0.rotl(5))
        .add(mix(c, x1, x2, x3))
        .add(word(w, round));
      const next = c.keep(sum);
      [y, x3, x2, x1, x0] = [x3, x2, c.keep(x1.rotl(30)), x0, next];
    }
    c.return(vectorOf([x0, x1, x2, x3]));
  });
}

const sigma = (c: Code, x: I32, a: number, b: number, d: number): I32 =>
  c.keep(x.rotr(a).xor(x.rotr(b)).xor(x.rotr(d)));

/** (x, y, schedule) → the half of the state that the instruction returns. */
function sha256(name: string, part: 1 | 2): LibFunction<"v128"> {
  return lib(name, ["v128", "v128", "v128"], "v128", ({ c }, d, n, w) => {
    // SHA256H has abcd in d and efgh in n; SHA256H2 the other way round.
    const [x, y] = part === 1 ? [d, n] : [n, d];
    let [x0, x1, x2, x3] = words(c, x) as [I32, I32, I32, I32];
    let [y0, y1, y2, y3] = words(c, y) as [I32, I32, I32, I32];
    for (let round = 0; round < 4; round++) {
      const t = y3
        .add(sigma(c, y0, 6, 11, 25))
        .add(choose(c, y0, y1, y2))
        .add(word(w, round));
      const first = c.keep(t);
      const e = c.keep(x3.add(first));
      const a = c.keep(first.add(sigma(c, x0, 2, 13, 22)).add(majority(c, x0, x1, x2)));
      [x3, x2, x1, x0] = [x2, x1, x0, a];
      [y3, y2, y1, y0] = [y2, y1, y0, e];
    }
    c.return(vectorOf(part === 1 ? [x0, x1, x2, x3] : [y0, y1, y2, y3]));
  });
}

/** (d, n) → the first half of four words of the schedule. */
export const SHA256_UPDATE0 = lib("sha256_update0", ["v128", "v128"], "v128", ({ c }, d, n) => {
  const all = [...words(c, d), c.keep(word(n, 0))];
  const parts = [0, 1, 2, 3].map((i) => {
    const x = all[i + 1]!;
    const s = x.rotr(7).xor(x.rotr(18)).xor(x.shrU(3));
    return c.keep(all[i]!.add(s));
  });
  c.return(vectorOf(parts));
});

/** (d, n, m) → four words of the schedule. */
export const SHA256_UPDATE1 = lib(
  "sha256_update1",
  ["v128", "v128", "v128"],
  "v128",
  ({ c }, d, n, m) => {
    const sum = (x: I32): I32 => x.rotr(17).xor(x.rotr(19)).xor(x.shrU(10));
    const [d_, n_, m_] = [words(c, d), words(c, n), words(c, m)];
    const added = [n_[1]!, n_[2]!, n_[3]!, m_[0]!];
    const first = [m_[2]!, m_[3]!].map((x, i) => c.keep(sum(x).add(d_[i]!).add(added[i]!)));
    const second = first.map((x, i) =>
      c.keep(
        sum(x)
          .add(d_[i + 2]!)
          .add(added[i + 2]!),
      ),
    );
    c.return(vectorOf([...first, ...second]));
  },
);

export const SHA1_CHOOSE = sha1("sha1_choose", choose);
export const SHA1_MAJORITY = sha1("sha1_majority", majority);
export const SHA1_PARITY = sha1("sha1_parity", parity);
export const SHA256_HASH = sha256("sha256_hash", 1);
export const SHA256_HASH2 = sha256("sha256_hash2", 2);
