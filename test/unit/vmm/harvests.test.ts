// Goal: a destructive read of the dirty log is kept until it is acknowledged.
// Method: harvests on a VM inline, in both modes of the log, and two at once by seed.
import { describe, expect, it } from "vitest";
import { BASE, Inline } from "../../support/inline.js";

describe("harvests", () => {
  const take = (vm: Inline, key: string | null, after: string | null) =>
    vm.call("harvestDirtyLog", { slot: 0, key, after });

  it.each([0n, 1n])("keep their bits until they are acknowledged (manual protect %d)", (manual) => {
    const vm = new Inline();
    vm.enable(168, manual);
    vm.slot(0, 64, { flags: 1 });
    vm.vcpu();
    vm.store(0, [BASE]);
    const first = take(vm, null, null);
    vm.store(0, [BASE + 4096]);
    const again = take(vm, null, null);
    expect(again).toEqual({ ...first, repeated: true });
    // What was handed out is the caller's own.
    again.bitmap.fill(0);
    expect(vm.call("getHarvest", { slot: 0, id: "h1" }).bitmap).toEqual(first.bitmap);
    const next = take(vm, null, "h1");
    expect(next).toMatchObject({ id: "h2", repeated: false });
    expect(next.bitmap[0]).toBe(manual === 1n ? 3 : 2);
    vm.call("acknowledgeHarvest", { slot: 0, id: "h2" });
    vm.call("acknowledgeHarvest", { slot: 0, id: "h2" });
    expect(vm.refused("getHarvest", { slot: 0, id: "h2" })).toBe("harvest-not-found");
  });

  it("two at once take the bits once", () => {
    for (const seed of [1n, 2n, 3n, 4n]) {
      const vm = new Inline({ schedule: "seeded", seed });
      vm.slot(0, 4096, { flags: 1 });
      vm.vcpu();
      vm.store(0, [BASE, BASE + 4000 * 4096]);
      const args = { slot: 0, key: "same", after: null };
      const both = [0, 1].map(() => vm.begin("harvestDirtyLog", args));
      vm.pumpUntil(() => both.every(({ done }) => done));
      const [one, two] = both.map((pending) => pending.value);
      expect(one!.bitmap).toEqual(two!.bitmap);
      expect(one!.bitmap[0]).toBe(1);
      expect([one!.repeated, two!.repeated].sort()).toEqual([false, true]);
    }
  });

  it("of a deleted slot stay readable, and the next slot of that number begins anew", () => {
    const vm = new Inline();
    vm.slot(0, 64, { flags: 1 });
    vm.vcpu();
    vm.store(0, [BASE]);
    take(vm, null, null);
    vm.deleteSlot(0);
    expect(vm.call("getHarvest", { slot: 0, id: "h1" }).bitmap[0]).toBe(1);
    vm.slot(0, 128, { flags: 1 });
    expect(take(vm, "k", "h1")).toMatchObject({ id: "h2", npages: 128, repeated: false });
  });
});
