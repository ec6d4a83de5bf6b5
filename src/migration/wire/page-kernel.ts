// Owns: what a page stream computes over memory at memory's speed: sums of blocks, runs of zero
// pages. WebAssembly, made once for each thread. Any thread.
//
// The block sum (version 2 of the stream): a block is 32 lanes of 32 words, word w is of lane
// w mod 32, and every lane, then the lanes, then the blocks are joined by one step:
//
//   step(sum, word):  x = (sum + word) * 0x85ebca77 mod 2^32;  x xor (x >> 15)
//
//   words ──step──▶ lane 0 … lane 31 ──step──▶ 4 lanes ──step──▶ block ──step──▶ content
//
// The step is one to one in each of its arguments, so damage within one word always changes the
// sum. It mixes upwards by the product and downwards by the shift, so that two flipped bits don't
// cancel.
import { Code, type Variable } from "../../base/wasm/code.js";
import { ModuleBuilder } from "../../base/wasm/module.js";
import { const32, constV, type I32, type V128 } from "../../base/wasm/value.js";

/** Content is summed in blocks of so many bytes; a page of any size is some of them. */
// tidy: a block's bytes
export const BLOCK_BYTES = 4096;

/** XXH32's second prime: odd, with bits all over, three of them at its low end. */
const PRIME = 0x85eb_ca77;
const SHIFT = 15;
const VECTOR_BYTES = 16;
const LANES = 4;
/** Vectors at a time: as many as hide what a multiplication takes. */
const VECTORS = 8;
const STRIPE_BYTES = VECTORS * VECTOR_BYTES;
/** What any memory is allowed to be, in pages of 64 KiB. */
const ANY_MEMORY = { initial: 1, maximum: 65_536 };

/** Addresses are those of the memory that the kernel was made for. */
export interface PageKernel {
  /**
   * Sums whole blocks.
   * @param bytes a multiple of BLOCK_BYTES, at least one
   * @param start the sum of what comes before; 0: nothing
   */
  readonly sum: (at: number, bytes: number, start: number) => number;
  /** Pages of zeros at the beginning of these pages, as far as one look can tell. */
  readonly zeroPages: (at: number, pages: number, pageSize: number) => number;
  /** Pages at the beginning of these pages that hold anything but zeros. */
  readonly dataPages: (at: number, pages: number, pageSize: number) => number;
}

let compiled: WebAssembly.Module | null = null;
const kernels = new WeakMap<WebAssembly.Memory, PageKernel>();

/** The kernel of a shared memory; one for each memory and thread. */
export function pageKernel(memory: WebAssembly.Memory): PageKernel {
  const known = kernels.get(memory);
  if (known !== undefined) return known;
  compiled ??= new WebAssembly.Module(moduleBytes());
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory } });
  const { sum, zeroPages, dataPages } = exports as unknown as PageKernel;
  const kernel: PageKernel = {
    sum: (at, bytes, start) => sum(at, bytes, start) >>> 0,
    zeroPages,
    dataPages,
  };
  kernels.set(memory, kernel);
  return kernel;
}

function moduleBytes(): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder(ANY_MEMORY);
  const signature = { params: ["i32", "i32", "i32"], result: "i32" } as const;
  const bodies = {
    sum: writeSum,
    zeroPages: (c: Code) => writeRun(c, true),
    dataPages: (c: Code) => writeRun(c, false),
  };
  for (const [name, write] of Object.entries(bodies)) {
    const index = module.declare(signature);
    const c = new Code(signature.params);
    write(c);
    module.define(index, c.locals, c.bytes());
    module.exportFunction(name, index);
  }
  return module.build().slice();
}

/** The step of 32-bit sums. */
function step(c: Code, sum: I32, word: I32): I32 {
  const x = c.keep(sum.add(word).mul(PRIME));
  return x.xor(x.shrU(SHIFT));
}

/** The same of four lanes. */
function stepLanes(sum: Variable<V128>, words: V128, primes: V128): void {
  sum.set(sum.get().binary("i32x4.add", words).binary("i32x4.mul", primes));
  sum.set(sum.get().xor(sum.get().shift("i32x4.shr_u", SHIFT)));
}

/** Lanes begin apart from each other, so that zeros in one are not zeros in another. */
function firstLanes(vector: number): V128 {
  const lanes = Array.from({ length: LANES }, (_, lane) =>
    BigInt(Math.imul(vector * LANES + lane + 1, PRIME) >>> 0),
  );
  const [a = 0n, b = 0n, d = 0n, e = 0n] = lanes;
  return constV(a | (b << 32n), d | (e << 32n));
}

/** sum(at, bytes, start) */
function writeSum(c: Code): void {
  const at = c.variable("i32");
  const end = c.variable("i32");
  const block = c.variable("i32");
  const total = c.variable("i32");
  const sums = Array.from({ length: VECTORS }, () => c.variable("v128"));
  const joined = c.variable("v128");
  const primes = c.keep(const32(PRIME).splat32());
  at.set(c.param(0, "i32"));
  end.set(c.param(0, "i32").add(c.param(1, "i32")));
  total.set(c.param(2, "i32"));
  c.loop((nextBlock) => {
    for (const [i, sum] of sums.entries()) sum.set(firstLanes(i));
    block.set(at.get().add(BLOCK_BYTES));
    c.loop((nextStripe) => {
      for (const [i, sum] of sums.entries()) {
        stepLanes(sum, c.loadV(at.get(), i * VECTOR_BYTES), primes);
      }
      at.set(at.get().add(STRIPE_BYTES));
      c.branchIf(at.get().ne(block.get()), nextStripe);
    });
    joined.set(constV(0n, 0n));
    for (const sum of sums) stepLanes(joined, sum.get(), primes);
    let sum: I32 = const32(0);
    for (let lane = 0; lane < LANES; lane++) sum = step(c, sum, joined.get().lane32("i32x4", lane));
    total.set(step(c, total.get(), sum));
    c.branchIf(at.get().ne(end.get()), nextBlock);
  });
  c.return(total.get());
}

/** zeroPages or dataPages(at, pages, pageSize) */
function writeRun(c: Code, ofZeros: boolean): void {
  const page = c.variable("i32");
  const left = c.variable("i32");
  const at = c.variable("i32");
  const end = c.variable("i32");
  const whole = (): I32 => c.param(1, "i32").sub(left.get());
  page.set(c.param(0, "i32"));
  left.set(c.param(1, "i32"));
  c.loop((nextPage) => {
    c.if(left.get().eqz(), () => c.return(c.param(1, "i32")));
    at.set(page.get());
    end.set(page.get().add(c.param(2, "i32")));
    c.block((found) => {
      c.loop((nextStripe) => {
        let all = c.loadV(at.get());
        for (let i = 1; i < VECTORS; i++) all = all.or(c.loadV(at.get(), i * VECTOR_BYTES));
        c.branchIf(all.reduce("v128.any_true"), found);
        at.set(at.get().add(STRIPE_BYTES));
        c.branchIf(at.get().ne(end.get()), nextStripe);
      });
      // Nothing in all of it.
      if (!ofZeros) c.return(whole());
    });
    // After the block: of zeros something was found unless `at` came to the end.
    if (ofZeros) c.if(at.get().ne(end.get()), () => c.return(whole()));
    page.set(end.get());
    left.set(left.get().sub(1));
    c.branch(nextPage);
  });
  c.unreachable();
}
