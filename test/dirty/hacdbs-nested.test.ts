// Goal: a guest hypervisor either sees no HACDBS, or one that cleans its stage 2 and L0's shadow.
// Method: T-78 of dirty-tracking.md 10 on a model of L1 whose tables are bytes in guest memory.
import { describe, expect, it } from "vitest";
import { decodeCons, encodeVtcr, entryHigh, entryLow, HI, LO } from "../../src/machine/index.js";
import { BASE } from "../support/inline.js";
import { CleaningVm, K4, range } from "./hacdbs-support.js";

const VNCR = BASE;
/** L1's stage 2 of 39 bits: level 1, one level 2, one level 3 table. */
const ROOT = BASE + K4;
const ARRAY = BASE + 4 * K4;
const L2 = 0x20_0000;
const EN = 1n << 11n;

class L1 extends CleaningVm {
  constructor(settings = {}) {
    super({ settings: { "nested.hacdbs": "emulated", ...settings } });
    this.logging(64);
    const { geometry } = this.kvm.vm.host;
    this.put(VNCR + 0x040, encodeVtcr(geometry, 39, true));
    this.put(VNCR + 0x020, BigInt(ROOT));
    this.put(VNCR + 0x078, 1n);
    this.put(ROOT, BigInt(ROOT + K4) | 3n);
    this.put(ROOT + K4 + 8, BigInt(ROOT + 2 * K4) | 3n);
    for (const page of range(0, 8)) this.descriptor(page, true);
  }

  put(gpa: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes });
  }

  /** Maps an L2 page, writable-clean. */
  descriptor(page: number, isManaged: boolean): void {
    const lo = LO.VALID | LO.TYPE | LO.AF | LO.S2AP_READ;
    const hi = isManaged ? HI.DBM : 0;
    const at = ROOT + 2 * K4 + page * 8;
    this.put(at, (BigInt(hi) << 32n) | BigInt(lo + 0x9000_0000));
  }

  isDirty(page: number): boolean {
    const gpa = BigInt(ROOT + 2 * K4 + page * 8);
    const bytes = this.call("readPhysicalMemory", { gpa, length: 8 });
    return (bytes[0]! & LO.S2AP_WRITE) !== 0;
  }

  l2Store(page: number) {
    return this.call("storeNested", { vncr: BigInt(VNCR), ipa: BigInt(L2 + page * K4) });
  }

  write(register: string, value: bigint) {
    return this.call("writeNestedRegister", { vncr: BigInt(VNCR), register, value });
  }

  /** Fills the array with these L2 pages. */
  entries(pages: readonly number[], level = 3): void {
    for (const [i, page] of pages.entries()) {
      const ipa = L2 + page * K4;
      const entry = (BigInt(entryHigh(ipa)) << 32n) | BigInt(entryLow(ipa, level));
      this.put(ARRAY + i * 8, entry);
    }
  }
}

describe("T-78", () => {
  it("T-78: L1 cleans pages of L2, L0's shadow goes, and the next store is seen again", () => {
    const vm = new L1();
    for (const page of [1, 2, 3]) expect(vm.l2Store(page).outcome).toBe("stored");
    expect(range(0, 5).map((page) => vm.isDirty(page))).toEqual([false, true, true, true, false]);
    vm.entries([1, 2, 4]);
    vm.write("HACDBSCONS_EL2", 0n);
    const ran = vm.write("HACDBSBR_EL2", BigInt(ARRAY) | EN);
    expect(ran).toMatchObject({
      outcome: "ran",
      idField: 1,
      cleaned: 2,
      invalidated: 2,
      irq: true,
    });
    expect(decodeCons(ran.registers!.HACDBSCONS_EL2)).toEqual({ index: 512, err: 0 });
    expect(range(0, 5).map((page) => vm.isDirty(page))).toEqual([false, false, false, true, false]);
    vm.l2Store(2);
    expect(vm.isDirty(2)).toBe(true);
    expect(vm.write("HACDBSBR_EL2", BigInt(ARRAY)).irq).toBe(false);
  });

  it("T-78: errors stop at their entry, and L1 resumes behind it", () => {
    const vm = new L1();
    for (const page of [1, 3]) vm.l2Store(page);
    vm.entries([1, 100, 3]);
    const first = vm.write("HACDBSBR_EL2", BigInt(ARRAY) | EN);
    expect(decodeCons(first.registers!.HACDBSCONS_EL2)).toEqual({ index: 1, err: 2 });
    expect([first.irq, vm.isDirty(1), vm.isDirty(3)]).toEqual([true, false, true]);
    const second = vm.write("HACDBSCONS_EL2", 2n);
    expect(decodeCons(second.registers!.HACDBSCONS_EL2)).toEqual({ index: 512, err: 0 });
    expect(vm.isDirty(3)).toBe(false);
    vm.descriptor(5, false);
    vm.write("HACDBSBR_EL2", 0n);
    vm.write("HACDBSCONS_EL2", 0n);
    vm.entries([5]);
    const third = vm.write("HACDBSBR_EL2", BigInt(ARRAY) | EN);
    expect(decodeCons(third.registers!.HACDBSCONS_EL2)).toEqual({ index: 0, err: 3 });
    vm.write("HACDBSBR_EL2", 0n);
    vm.write("HACDBSCONS_EL2", 0n);
    const nowhere = vm.write("HACDBSBR_EL2", 0x7000_0000n | EN);
    expect(decodeCons(nowhere.registers!.HACDBSCONS_EL2)).toEqual({ index: 0, err: 1 });
  });

  it("T-78: what L0 writes for L1 is dirty in L0's own log", () => {
    const vm = new L1();
    vm.l2Store(1);
    vm.clear(0, 0, 64, range(0, 64));
    expect(vm.dirty(0)).toEqual([]);
    vm.entries([1]);
    vm.write("HACDBSBR_EL2", BigInt(ARRAY) | EN);
    expect(vm.dirty(0)).toEqual(expect.arrayContaining([0, 3]));
    expect(vm.isDirty(1)).toBe(false);
  });

  it("T-78: hidden, L1 reads 0 in the ID field, and the access is UNDEF", () => {
    const vm = new L1({ "nested.hacdbs": "hidden" });
    vm.l2Store(1);
    vm.entries([1]);
    const answer = vm.write("HACDBSBR_EL2", BigInt(ARRAY) | EN);
    expect(answer).toMatchObject({ outcome: "undefined", idField: 0, registers: null });
    expect(vm.isDirty(1)).toBe(true);
  });
});
