// Goal: scalar FP that takes WebAssembly's own arithmetic gives what the software path gives.
// Method: FPSR.IXC clear forces the software path, set allows the fast one; the same seeded and
// special operands go through both, in every rounding mode, with FZ and with DN. Doubles rounded
// to nearest are compared with JavaScript's too.
import { beforeAll, expect, it } from "vitest";
import { FlatMachine } from "../../../vectors/flat-machine.js";

const BASE = 0x4008_0000;
const IXC = 16;
const PAIRS = 4000;

type Width = 32 | 64;

/** Rd 0, Rn 1, Rm 2 and Ra 3, in the single form; bit 22 makes it double. */
const WORDS = {
  FADD: 0x1e22_2820,
  FSUB: 0x1e22_3820,
  FMUL: 0x1e22_0820,
  FDIV: 0x1e22_1820,
  FNMUL: 0x1e22_8820,
  FSQRT: 0x1e21_c020,
  FMADD: 0x1f02_0c20,
} as const;
type Name = keyof typeof WORDS;
const NAMES = Object.keys(WORDS) as Name[];
const DOUBLE = 1 << 22;

/** RMode 0…3, then FZ, DN, and FZ with rounding up. */
const CONTROLS = [0, 1 << 22, 2 << 22, 3 << 22, 1 << 24, 1 << 25, (1 << 24) | (1 << 22)];

let machine: FlatMachine;
beforeAll(() => {
  machine = new FlatMachine();
  machine.reset();
});

/** xorshift64*: the same operands in every run. */
function randoms(seed: bigint): () => bigint {
  let state = seed;
  return () => {
    state ^= state >> 12n; // tidy: xorshift's shift
    state = BigInt.asUintN(64, state ^ (state << 25n));
    state ^= state >> 27n;
    return BigInt.asUintN(64, state * 0x2545f4914f6cdd1dn);
  };
}

const EXPONENT_BITS = { 32: 8n, 64: 11n } as const;

/** Zeros, denormals, powers of two, the ends of the range, infinities, NaNs; each with a sign. */
function specials(width: Width): readonly bigint[] {
  const fraction = BigInt(width) - 1n - EXPONENT_BITS[width];
  const one = 1n << fraction;
  const top = ((1n << EXPONENT_BITS[width]) - 1n) << fraction;
  const bias = (top >> (fraction + 1n)) << fraction;
  const quiet = top | (one >> 1n);
  const near = [0n, one, 2n * one, bias, bias + one, top].flatMap((x) => [x, x + 1n, x + 2n]);
  const below = [one, 2n * one, bias, bias + one, top].map((x) => x - 1n);
  const positive = [...near, ...below, quiet, quiet + 5n];
  return positive.flatMap((x) => [x, x | (1n << BigInt(width - 1))]);
}

/** One in four is special, one in four near 1, where sums cancel; the rest is anything. */
function operand(random: () => bigint, width: Width, list: readonly bigint[]): bigint {
  const bits = BigInt.asUintN(width, random());
  const kind = random() >> 62n;
  if (kind === 0n) return list[Number((random() >> 8n) % BigInt(list.length))]!;
  if (kind > 1n) return bits;
  const fraction = BigInt(width) - 1n - EXPONENT_BITS[width];
  const bias = (1n << (EXPONENT_BITS[width] - 1n)) - 1n;
  const field = bias - 2n + (random() >> 62n);
  const sign = bits & (1n << BigInt(width - 1));
  return sign | (field << fraction) | (bits & ((1n << fraction) - 1n));
}

/** The word at its own address, so that nothing is decoded twice. */
function place(name: Name, width: Width): number {
  const at = BASE + 8 * (NAMES.indexOf(name) * 2 + (width === 64 ? 1 : 0));
  machine.writeWord(at, (WORDS[name] | (width === 64 ? DOUBLE : 0)) >>> 0);
  return at;
}

function run(at: number, fpcr: number, fpsr: number, operands: readonly bigint[]) {
  for (const [i, value] of operands.entries()) machine.registers.setV(i + 1, value);
  machine.registers.setV(0, 2n ** 128n - 1n);
  machine.registers.fpcr = fpcr;
  machine.registers.fpsr = fpsr;
  machine.pc = BigInt(at);
  const retired = machine.run(1);
  return { retired, value: machine.registers.v(0), fpsr: machine.registers.fpsr };
}

const hex = (values: readonly bigint[]): string => values.map((v) => v.toString(16)).join(" ");

for (const width of [32, 64] as const) {
  for (const name of NAMES) {
    it(`${name} of ${width} bits is the same with IXC set, to the bit and the flag`, () => {
      const at = place(name, width);
      const random = randoms(0x9e37_79b9_7f4a_7c15n + BigInt(WORDS[name] + width));
      const list = specials(width);
      const wrong: string[] = [];
      for (let i = 0; i < PAIRS; i++) {
        const operands = [0, 1, 2].map(() => operand(random, width, list));
        const fpcr = CONTROLS[i % CONTROLS.length]!;
        const soft = run(at, fpcr, 0, operands);
        const fast = run(at, fpcr, IXC, operands);
        const same = soft.value === fast.value && (soft.fpsr | IXC) === fast.fpsr;
        if (!same || soft.retired !== 1) {
          wrong.push(
            `${hex(operands)} fpcr ${fpcr.toString(16)}: ${hex([soft.value, fast.value])}`,
          );
        }
      }
      expect(wrong.slice(0, 5)).toEqual([]);
      expect(machine.problem).toBeNull();
    });
  }
}

const view = new DataView(new ArrayBuffer(8));
function toNumber(bits: bigint): number {
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}
function toBits(value: number): bigint {
  view.setFloat64(0, value);
  return view.getBigUint64(0);
}

const SCRIPT: Readonly<Record<string, (x: number, y: number) => number>> = {
  FADD: (x, y) => x + y,
  FSUB: (x, y) => x - y,
  FMUL: (x, y) => x * y,
  FDIV: (x, y) => x / y,
  FSQRT: (x) => Math.sqrt(x),
};

for (const fpsr of [0, IXC]) {
  it(`doubles to nearest are JavaScript's, with FPSR ${fpsr}`, () => {
    const random = randoms(0xd1b5_4a32_d192_ed03n);
    const list = specials(64);
    const wrong: string[] = [];
    for (const [name, compute] of Object.entries(SCRIPT)) {
      const at = place(name as Name, 64);
      for (let i = 0; i < PAIRS; i++) {
        const operands = [0, 1].map(() => operand(random, 64, list));
        const expected = compute(toNumber(operands[0]!), toNumber(operands[1]!));
        // Which NaN it is, is not JavaScript's to say.
        if (Number.isNaN(expected)) continue;
        const { value } = run(at, 0, fpsr, operands);
        if (value !== toBits(expected)) wrong.push(`${name} ${hex([...operands, value])}`);
      }
    }
    expect(wrong.slice(0, 5)).toEqual([]);
  });
}

it("FMADD is the same with IXC set where the sum cancels, or hardly touches the product", () => {
  const at = place("FMADD", 64);
  const random = randoms(0x94d0_49bb_1331_11ebn);
  const wrong: string[] = [];
  for (let i = 0; i < 4 * PAIRS; i++) {
    const near = (): number => toNumber((random() >> 12n) | (1023n << 52n)); // tidy: a fraction
    const [x, y] = [near(), near()];
    // The product of the other sign, a few units away, up to 2^±128 times as large.
    const moved = i % 2 === 0 ? 0 : Number(random() >> 56n) - 128;
    const addend = toBits(-(x * y) * 2 ** moved) + (random() >> 62n) - 1n;
    const operands = [toBits(x), toBits(y), addend];
    const soft = run(at, 0, 0, operands);
    const fast = run(at, 0, IXC, operands);
    if (soft.value !== fast.value) wrong.push(hex([...operands, soft.value, fast.value]));
  }
  expect(wrong.slice(0, 5)).toEqual([]);
});
