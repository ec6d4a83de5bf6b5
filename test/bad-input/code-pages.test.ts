// Goal: a guest that makes page after page of tiny code, for ever, costs no memory for what it had,
// and each page runs as it was written last.
// Method: a guest that writes a function of two instructions into the next page of a window, calls
// it until it is hot, and goes on; what the calls add up to, the VM's memory and its steps' time.
//   npm test         8,192 pages
//   TINY_PAGES=n     n pages, with what they cost printed: npm run fuzz:code is 1,000,000
import { expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import { Guest, OFF, X } from "../support/guest.js";
import { BASE, MIB } from "../support/inline.js";

const USUAL = 8192;
const PAGES = Number(process.env["TINY_PAGES"] ?? USUAL);
const IS_LONG = PAGES > USUAL;
/** Pages of code at once, a power of two: more than are kept decoded. */
const WINDOW_BITS = 11;
const WINDOW = BASE + 16 * MIB;
const PAGE_BITS = 12;
/** The immediate of ADD, in which pages differ. */
const IMM = { at: 10, bits: 12 };
/** Two of three pages never get hot. */
const HOT = { calls: 80, each: 3 };
const QUARTERS = 4;

const GROWTH_MIB = 150;
/** One step: in 100,000 instructions are a thousand pages, three hundred of them to translate. */
const STEP_MS = 5000;
/** A page, written, decoded, a third of them translated: several times what it takes. */
const PAGE_US = 2000;

/** X1 counts pages down from the top, X4 calls, X9 adds up; each page adds its own number. */
function code(): number[] {
  const write = [
    a64.ubfx(8, 1, 0, WINDOW_BITS),
    a64.addReg(2, 6, 8, PAGE_BITS),
    a64.ubfx(8, 1, 0, IMM.bits),
    a64.addReg(8, 5, 8, IMM.at),
    a64.strw(8, 2),
    a64.strw(11, 2, 4),
    a64.dcCvau(2),
    a64.DSB,
    a64.icIvau(2),
    a64.DSB,
    a64.ISB,
  ];
  // One call, or as many as make it hot where X12 has come to nothing.
  const choose = [...a64.mov(4, 1n), a64.subs(12, 12, 1), a64.bne(3)];
  const hot = [...a64.mov(4, BigInt(HOT.calls)), ...a64.mov(12, BigInt(HOT.each))];
  const call = [a64.blr(2), a64.subs(4, 4, 1), a64.bne(-2)];
  const body = [...write, ...choose, ...hot, ...call, a64.subs(1, 1, 1)];
  return [
    ...a64.mov(5, BigInt(a64.add(9, 9, 0))),
    ...a64.mov(6, BigInt(WINDOW)),
    ...a64.mov(11, BigInt(a64.RET)),
    ...a64.mov(12, BigInt(HOT.each)),
    ...body,
    a64.bne(-body.length),
    ...a64.powerOff(),
  ];
}

function sum(): bigint {
  let total = 0;
  for (let n = 0; n < PAGES; n++) {
    const calls = (n + 1) % HOT.each === 0 ? HOT.calls : 1;
    total += calls * ((PAGES - n) % 2 ** IMM.bits);
  }
  return BigInt(total);
}

it.each([
  ["with translation", {}],
  ["with the interpreter alone", null],
])("%s, pages of code come and go", { timeout: 3_600_000 }, (name, translation) => {
  const vm = new Guest({ translation });
  vm.slot(1, 2 ** WINDOW_BITS, { gpa: WINDOW });
  vm.boot(0, code());
  vm.set(X(1), BigInt(PAGES));
  const run = vm.beginRun();
  const left = () => Number(vm.kvm.vm.vcpus[0]!.a64!.pe.registers.x(1));
  const begun = performance.now();
  const rss: number[] = [];
  let longest = 0;
  for (let quarter = 1; quarter <= QUARTERS; quarter++) {
    const until = PAGES - (PAGES * quarter) / QUARTERS;
    while (!run.done && (left() > until || quarter === QUARTERS)) {
      const before = performance.now();
      vm.pump(1);
      longest = Math.max(longest, performance.now() - before);
    }
    rss.push(process.memoryUsage().rss / MIB);
  }
  const took = performance.now() - begun;
  if (IS_LONG) {
    const mib = rss.map((size) => Math.round(size)).join(", ");
    const time = `${Math.round(took / 1000)} s, longest step ${Math.round(longest)} ms`;
    console.log(`${name}: ${PAGES} pages in ${time}; MiB after each quarter: ${mib}`);
  }
  expect(run.value).toMatchObject(OFF);
  expect(vm.get(X(9))).toBe(sum());
  expect(longest).toBeLessThan(STEP_MS);
  expect((1000 * took) / PAGES).toBeLessThan(PAGE_US);
  expect(rss[QUARTERS - 1]! - rss[0]!).toBeLessThan(GROWTH_MIB);
  const { translated } = vm.kvm.vm.a64!;
  if (translation === null) expect(translated).toBeNull();
  else expect(translated!.regions).toBeGreaterThan(PAGES / HOT.each / 2);
});
