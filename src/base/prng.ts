// Owns: the only source of pseudo-random numbers (xoshiro128** seeded by splitmix64).
// Runs on any thread. A seed replays a whole run.

/** Deterministic generator; its state is four u32 and can be saved. */
export class Prng {
  readonly state: Uint32Array;

  constructor(seed: bigint) {
    this.state = new Uint32Array(4);
    let x = BigInt.asUintN(64, seed);
    for (let i = 0; i < 4; i += 2) {
      x = BigInt.asUintN(64, x + 0x9e37_79b9_7f4a_7c15n);
      let z = x;
      z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58_476d_1ce4_e5b9n);
      z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn);
      z ^= z >> 31n;
      this.state[i] = Number(z & 0xffff_ffffn);
      this.state[i + 1] = Number(z >> 32n);
    }
    if (this.state.every((word) => word === 0)) this.state[0] = 1;
  }

  /** @returns the next u32. */
  u32(): number {
    const s = this.state;
    const s1 = s[1]!;
    const r = Math.imul(s1, 5);
    const result = Math.imul((r << 7) | (r >>> 25), 9) >>> 0;
    const t = s1 << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s1;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    const s3 = s[3]!;
    s[3] = (s3 << 11) | (s3 >>> 21);
    return result;
  }

  /** @returns an integer in [0, bound); bound up to 2^53. */
  below(bound: number): number {
    if (bound <= 0x1_0000_0000) return Math.floor((this.u32() / 0x1_0000_0000) * bound);
    const wide = (this.u32() & 0x1f_ffff) * 0x1_0000_0000 + this.u32();
    return wide % bound;
  }

  /** @returns a fraction in [0, 1) with 32 bits. */
  fraction(): number {
    return this.u32() / 0x1_0000_0000;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** @returns one element; the list must not be empty. */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

/** Mixes three u32 into one; the content function of unbacked pages. */
export function mix32(a: number, b: number, c: number): number {
  let h = Math.imul(a ^ 0x9e37_79b9, 0x85eb_ca6b);
  h = Math.imul((h ^ (h >>> 15)) + b, 0xc2b2_ae35);
  h = Math.imul((h ^ (h >>> 13)) + c, 0x27d4_eb2f);
  h ^= h >>> 16;
  return h >>> 0;
}
