// Goal: lent bytes belong to their reader until they come back, and nobody has to give them back.
// Method: a lender of two buffers, asked for more, for other sizes, and after returns.
import { expect, it } from "vitest";
import { giveBack, isLent, Lender } from "../../../src/base/lent-bytes.js";

it("lends each buffer to one reader at a time", () => {
  const lender = new Lender(2);
  const [one, two] = [lender.lend(64)!, lender.lend(64)!];
  expect([one.length, two.length]).toEqual([64, 64]);
  expect(one.buffer).not.toBe(two.buffer);
  expect([isLent(one), isLent(two)]).toEqual([true, true]);
  expect(lender.lend(64)).toBeNull();
  one.fill(7);
  giveBack(one);
  const again = lender.lend(64)!;
  expect(again.buffer).toBe(one.buffer);
  expect(lender.lend(64)).toBeNull();
});

it("makes a new buffer for another size and leaves the reader's old one alone", () => {
  const lender = new Lender(1);
  const small = lender.lend(8)!;
  small.fill(1);
  giveBack(small);
  const large = lender.lend(4096)!;
  large.fill(2);
  expect(large.length).toBe(4096);
  expect([...small]).toEqual(new Array(8).fill(1));
  // Whoever kept the old one may give it back again; it is nobody's.
  giveBack(small);
  expect(lender.lend(4096)).toBeNull();
});

it("knows what is not lent", () => {
  const own = new Uint8Array(16);
  const view = new Uint8Array(new SharedArrayBuffer(64), 16);
  expect([isLent(own), isLent(own.subarray(8)), isLent(view)]).toEqual([false, false, false]);
  giveBack(own);
  giveBack(view);
  expect([...view]).toEqual(new Array(48).fill(0));
});
