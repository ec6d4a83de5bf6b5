// Goal: what the kernel's selftests check without looking at interrupts holds in a VM with a GICv3,
// which is how the kernel runs them. Method: the other files' tests once more, each VM with one.
import { expect, it } from "vitest";
import { giveVgic, Inline } from "../../../support/inline.js";

giveVgic();
await import("../selftests.test.js");
await import("./dirty-log-test.test.js");
await import("./kvm-page-table-test.test.js");
await import("./page-fault-test.test.js");
await import("./set-memory-region-test.test.js");
await import("../psci.test.js");
await import("../hypercalls.test.js");
await import("../smccc-filter.test.js");
await import("../external-aborts.test.js");
await import("../debug-exceptions.test.js");
await import("../set-id-regs.test.js");
await import("../get-reg-list.test.js");

it("they have one indeed", () => {
  const vm = new Inline();
  vm.vcpu();
  vm.list(0, []);
  vm.run();
  expect(vm.kvm.vm.vgic.dist).toMatchObject({ model: "v3", isInitialized: true, isReady: true });
});
