// Goal: firmware services follow their bitmaps, as the kernel's selftest hypercalls wants it.
// Method: the bitmap registers, then guests that make every optional call.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { Guest } from "../../support/guest-code.js";
import { BASE } from "../../support/inline.js";

const bmap = (index: number): bigint => 0x6030_0000_0016_0000n | BigInt(index);
const NOT_SUPPORTED = 2n ** 64n - 1n;
const RESULTS = BASE + 0x8000;

/** Register, what it reads at first, all that it may have. */
const BITMAPS = [
  [bmap(0), 1n, 1n],
  [bmap(1), 1n, 1n],
  [bmap(2), 3n, 3n],
  [bmap(3), 0n, 3n],
] as const;

/** Function and X1. */
const CALLS: readonly (readonly [number, number])[] = [
  [0x8400_0050, 0],
  [0x8400_0051, 0x8400_0053],
  [0x8400_0052, 0],
  [0x8400_0053, 32],
  [0xc400_0053, 64],
  [0x8000_0001, 0xc500_0020],
  [0x8600_ff01, 0],
  [0x8600_0000, 0],
  [0x8600_0001, 0],
];
/** Asked of a family about a call of another: never there. */
const FALSE_CALLS: readonly (readonly [number, number])[] = [
  [0x8000_0001, 0x8400_0050],
  [0x8000_0001, 0x8600_0000],
  [0xc500_0020, 0x8400_0050],
  [0xc500_0020, 0x8600_ff01],
  [0x8400_0051, 0xc500_0020],
  [0x8400_0051, 0x8600_0000],
];

function guest(calls: readonly (readonly [number, number])[]): Guest {
  const words = calls.flatMap(([id, arg]) => [
    ...a64.mov(0, BigInt(id)),
    ...a64.mov(1, BigInt(arg)),
    a64.HVC,
    a64.str(0, 19),
    a64.add(19, 19, 8),
  ]);
  return new Guest([...a64.mov(19, BigInt(RESULTS)), ...words, ...a64.powerOff()]);
}

function results(vm: Guest, count: number): bigint[] {
  expect(vm.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
  const at = { gpa: BigInt(RESULTS), length: 8 * count };
  const bytes = vm.call("readPhysicalMemory", at);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return Array.from({ length: count }, (_, n) => view.getBigUint64(8 * n, true));
}

describe("firmware bitmaps", () => {
  it.each(BITMAPS)("%s begins as it should, and takes what it may have", (reg, first, all) => {
    const vm = new Guest(a64.powerOff());
    expect(vm.get(reg)).toBe(first);
    for (const value of [0n, all]) {
      vm.set(reg, value);
      expect(vm.get(reg)).toBe(value);
    }
    expect(vm.setRefused(reg, all + 1n)).toBe("EINVAL");
    vm.run();
    expect(vm.setRefused(reg, 0n)).toBe("EBUSY");
    expect(vm.setRefused(reg, all)).toBe(null);
  });
});

describe("workaround levels", () => {
  const reg = (n: number): bigint => 0x6030_0000_0014_0000n | BigInt(n);

  it("say that nothing is needed, and accept every lesser level", () => {
    const vm = new Guest([]);
    expect([1, 2, 3].map((n) => vm.get(reg(n)))).toEqual([2n, 3n, 2n]);
    for (const n of [1, 3]) {
      expect([0n, 1n, 2n, 3n, 16n].map((level) => vm.setRefused(reg(n), level))).toEqual([
        ...[null, null, null],
        ...["EINVAL", "EINVAL"],
      ]);
    }
    const levels = [0n, 1n, 2n, 3n, 0x12n, 4n, 0x13n, 0x10n, 0x20n];
    expect(levels.map((level) => vm.setRefused(reg(2), level))).toEqual([
      ...[null, null, null, null, null],
      ...["EINVAL", "EINVAL", "EINVAL", "EINVAL"],
    ]);
    expect(vm.get(reg(2))).toBe(3n);
  });
});

describe("a guest", () => {
  it("finds every service on a fresh VM", () => {
    expect(results(guest(CALLS), CALLS.length)).not.toContain(NOT_SUPPORTED);
  });

  it("finds none of them once their bits are gone", () => {
    const vm = guest(CALLS);
    for (const [reg] of BITMAPS) vm.set(reg, 0n);
    const values = results(vm, CALLS.length);
    expect(values).toEqual(CALLS.map(() => NOT_SUPPORTED));
  });

  it("never finds one family's call in another", () => {
    const values = results(guest(FALSE_CALLS), FALSE_CALLS.length);
    expect(values).toEqual(FALSE_CALLS.map(() => NOT_SUPPORTED));
  });

  it("reads both vendor bitmaps", () => {
    const vm = new Guest([
      ...a64.mov(0, 0x8600_0000n),
      a64.HVC,
      a64.add(20, 0, 0),
      a64.add(21, 2, 0),
      ...a64.powerOff(),
    ]);
    vm.set(bmap(2), 1n);
    vm.set(bmap(3), 2n);
    vm.run();
    expect(vm.xs(20, 21)).toEqual([1n, 2n]);
  });
});
