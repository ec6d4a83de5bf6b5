// Goal: set_memory_region_test with guest code: a region that moves or goes away under a vCPU that
// reads and stores shows its own data or exits, never what lies next to it.
// Method: a guest reads one word in a loop and ends when it is neither what was stored nor what
// userspace answers; in both tiers and in several interleavings.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { Guest, INTR, X } from "../../../support/guest.js";
import { BASE, type InlineOptions } from "../../../support/inline.js";

const K4 = 4096;
const MOVED = BASE + 0x100_0000;
const PAGES = 8;
const DATA = 0x1111n;
const ANSWER = 0x2222n;

/** Powers off at a bad read, or after x6 good ones; x7 counts what userspace answered. */
const reader = [
  a64.ldr(1, 0),
  a64.subsReg(31, 1, 2),
  a64.beq(4),
  a64.subsReg(31, 1, 3),
  a64.bne(5),
  a64.add(7, 7, 1),
  a64.subs(6, 6, 1),
  a64.bne(-7),
  ...a64.powerOff(),
];

const HOSTS: readonly InlineOptions[] = [
  { schedule: "round-robin" },
  { schedule: "round-robin", translation: null },
  ...[1n, 2n, 3n].map((seed) => ({ schedule: "seeded" as const, seed })),
  { schedule: "seeded", seed: 4n, dirtyTracking: "dbm" },
];

function setUp(options: InlineOptions) {
  const vm = new Guest(options);
  const { slot } = vm.slot(1, PAGES, { gpa: MOVED });
  // What must never be seen: the pages behind, in a slot of their own.
  vm.slot(2, PAGES, { gpa: MOVED + 2 * PAGES * K4 });
  const word = MOVED + PAGES * K4 - 8;
  vm.put(word, [Number(DATA), 0]);
  vm.put(MOVED + 2 * PAGES * K4, [0xbad, 0]);
  vm.boot(0, reader);
  for (const [n, value] of [BigInt(word), 0n, DATA, ANSWER].entries()) vm.set(X(n), value);
  vm.set(X(6), 2n ** 40n);
  return { vm, slot, word };
}

describe("set_memory_region_test, a guest reads while", () => {
  it.each(HOSTS)("%o: a region moves away and back", (options) => {
    const { vm, slot, word } = setUp(options);
    let exits = 0;
    let run = vm.beginRun();
    const answer = () => {
      if (!run.done || run.value.exitReason !== "KVM_EXIT_MMIO") return;
      expect(run.value.mmio).toMatchObject({ physAddr: BigInt(word), len: 8, isWrite: false });
      exits++;
      run = vm.beginRun(0, { mmioData: [0x22, 0x22, 0, 0, 0, 0, 0, 0] });
    };
    for (let round = 0; round < 6; round++) {
      for (const gpa of [MOVED + PAGES * K4, MOVED]) {
        for (let step = 0; step < 6; step++) {
          vm.pump(1);
          answer();
        }
        const moving = vm.begin("setUserMemoryRegion", { ...slot, guestPhysAddr: BigInt(gpa) });
        while (!moving.done) {
          vm.pump(1);
          answer();
        }
        moving.value;
      }
    }
    answer();
    // Room to count the last answer.
    vm.pump(30);
    if (!run.done) vm.call("kick", { vcpu: 0 });
    // A bad read would have powered off.
    expect(vm.finish(run)).toMatchObject(INTR);
    expect(vm.get(X(7))).toBe(BigInt(exits));
    expect(exits).toBeGreaterThan(5);
  });

  it.each(HOSTS)("%o: it is deleted and made again", (options) => {
    const { vm, slot, word } = setUp(options);
    for (let round = 0; round < 3; round++) {
      const run = vm.beginRun();
      vm.pump(8);
      vm.deleteSlot(1);
      const { mmio } = vm.finish(run);
      expect(mmio).toMatchObject({ physAddr: BigInt(word), len: 8, isWrite: false });
      vm.call("setUserMemoryRegion", slot);
      // Userspace answers with what is there: the guest sees no difference.
      const data = [0x11, 0x11, 0, 0, 0, 0, 0, 0];
      const next = vm.beginRun(0, { mmioData: data });
      vm.pump(8);
      vm.call("kick", { vcpu: 0 });
      expect(vm.finish(next).errno).toBe("EINTR");
    }
    expect(vm.get(X(7))).toBe(0n);
  });
});
