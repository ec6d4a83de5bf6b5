// Goal: a VM that two hold goes on when both have let go, in any order.
// Method: a client's VM; a run is refused as long as anybody holds it.
import { expect, it } from "vitest";
import { BASE, Inline } from "../../support/inline.js";

it.each([
  ["the first", ["a", "b"]],
  ["the second", ["b", "a"]],
])("is held until the last lets go, %s before the other", (_, [early = "", late = ""]) => {
  const vm = new Inline();
  vm.slot(0, 4);
  vm.vcpu();
  const hold = (on: boolean, why: string) => vm.call("holdVm", { hold: on, why });
  hold(true, "a");
  hold(true, "b");
  // To hold it twice is to hold it once.
  hold(true, "b");
  hold(false, early);
  expect(vm.refused("run", { vcpu: 0, immediateExit: false, mmioData: null })).toBe("vm-held");
  // Somebody who doesn't hold it lets nobody go.
  hold(true, "c");
  hold(false, "d");
  hold(false, "c");
  expect(vm.refused("run", { vcpu: 0, immediateExit: false, mmioData: null })).toBe("vm-held");
  hold(false, late);
  expect(vm.load(0, [BASE])).toEqual([0n]);
});
