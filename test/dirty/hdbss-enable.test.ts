// Goal: HDBSS is turned on and off as the capability's table says; no buffer is lost or freed
// twice. Method: cases of dirty-tracking 10 through the ioctls, each with its defect.
import { describe, expect, it } from "vitest";
import { checkExtension } from "../../src/kvm/index.js";
import { twice } from "../support/dirty-case.js";
import { BUFFER_SIZE, HdbssVm, HW_DIRTY, hdbssVm, LOG, RING, range } from "./hdbss-world.js";

const cap = (...args: bigint[]) => ({ cap: HW_DIRTY, flags: 0, args });

describe("HDBSS", () => {
  it("logs what hardware appends, without a fault from the second round on", () => {
    const vm = hdbssVm(1000);
    expect(vm.dirtyPages(0, range(0, 100)).exitReason).toBe("KVM_EXIT_HLT");
    expect(vm.dirty(0)).toEqual(range(0, 100));
    const faults = vm.counter("s2WriteFaults");
    vm.dirtyPages(0, range(50, 100));
    expect(vm.dirty(0)).toEqual(range(50, 100));
    expect(vm.counter("s2WriteFaults")).toBe(faults);
    expect(vm.counter("hdbssAppends")).toBe(50);
    expect(vm.dirty(0)).toEqual([]);
  });

  it("fills a buffer again and again", () => {
    const vm = hdbssVm(3000);
    vm.dirtyPages(0, range(0, 3000));
    expect(vm.dirty(0)).toEqual(range(0, 3000));
    vm.dirtyPages(0, range(0, 3000));
    expect(vm.counter("hdbssFullFaults")).toBe(5);
    expect(vm.dirty(0)).toEqual(range(0, 3000));
  });
});

twice(
  "T-30",
  "a failed enable frees each buffer once",
  (_on, bug) => {
    const vm = new HdbssVm({}, bug);
    vm.vcpu(0);
    vm.vcpu(1);
    const before = vm.memory;
    vm.enableHdbss(1);
    vm.disableHdbss();
    vm.arm("hdbss-alloc", { vcpu: 1 });
    expect(vm.refused("enableCap", cap(1n, 1n))).toBe("ENOMEM");
    expect(vm.diagnosed("page-freed-twice")).toBe(0);
    expect(vm.memory).toEqual(before);
    expect(vm.kvm.vm.isHdbssOn).toBe(false);
    vm.enableHdbss(0);
  },
  { bug: "B1" },
);

twice(
  "T-31",
  "a buffer's size code says what was allocated, on 16 KiB pages too",
  (_on, bug) => {
    const vm = hdbssVm(64, { on: bug, order: 1, vm: { pageSize: 16_384 } });
    const { sz, allocated } = vm.buffer(0)!;
    vm.dirtyPages(0, [1, 2]);
    expect(allocated.frames).toBe(1);
    expect(4096 * 2 ** sz).toBe(allocated.frames * vm.page);
    expect(vm.dirty(0)).toEqual([1, 2]);
  },
  { bug: "B2" },
);

twice(
  "T-32",
  "a vCPU that is created while HDBSS is on logs into a buffer of its own",
  (_on, bug) => {
    const vm = hdbssVm(64, { on: bug, vcpus: 2 });
    vm.dirtyPages(0, range(0, 20));
    vm.dirty(0);
    vm.vcpu(2);
    vm.dirtyPages(2, range(3, 13));
    expect(vm.diagnosed("hdbss-write-outside-owned-buffer")).toBe(0);
    const { u8 } = vm.kvm.vm.host.memory;
    expect(u8.subarray(0, vm.page).every((byte) => byte === 0)).toBe(true);
    expect(vm.dirty(0)).toEqual(range(3, 13));
  },
  { bug: "B3" },
);

twice(
  "T-33",
  "the end of that vCPU frees nothing of address 0",
  (_on, bug) => {
    const vm = hdbssVm(64, { on: bug });
    vm.vcpu(1);
    vm.dirtyPages(1, [4]);
    vm.instance.close();
    expect(vm.diagnosed("page-freed-twice")).toBe(0);
  },
  { bug: "B3" },
);

/** A vCPU that stores round and round, one round done, nothing of it in a log. */
function spinning(on: string | null, pages = 64, accesses = pages) {
  const vm = hdbssVm(pages, { on, vcpus: 2 });
  vm.dirtyPages(0, range(0, pages));
  vm.dirty(0);
  const run = vm.spin(0, pages);
  vm.pumpAccesses(0, accesses);
  return { vm, run };
}

twice(
  "T-34",
  "disabling waits for a vCPU whose kick is late, and nothing is written to a freed buffer",
  (_on, bug) => {
    const pages = 20_000;
    const { vm, run } = spinning(bug, pages, 700);
    const { engine } = vm.kvm.vm.vcpuById(0)!;
    vm.arm("kick-delayed", { delay: 4 });
    vm.disableHdbss();
    vm.pump(20);
    vm.stop(0);
    expect(vm.finish(run).exitReason).toBe("KVM_EXIT_INTR");
    expect(vm.diagnosed("hdbss-write-outside-owned-buffer")).toBe(0);
    const stored = engine.retired - pages;
    // One more, if the kick came between a store's fault and the store.
    const dirty = vm.dirty(0);
    expect(dirty.length - Math.min(pages, stored)).toBeLessThanOrEqual(1);
    expect(dirty).toEqual(expect.arrayContaining(range(0, Math.min(pages, stored))));
  },
  { bug: ["B4", "B6"] },
);

twice(
  "T-35",
  "a hundred entries that nobody drained survive disabling",
  (_on, bug) => {
    const { vm } = spinning(bug, 100);
    expect(vm.counter("hdbssDrainedEntries")).toBe(0);
    vm.disableHdbss();
    vm.stop(0);
    expect(vm.dirty(0)).toEqual(range(0, 100));
  },
  { bug: "B5" },
);

twice(
  "T-36",
  "a vCPU that stays in KVM_RUN is tracked by hardware from the enable on",
  (_on, bug) => {
    // A batch of HACDBS would borrow the vCPU's CPU, and so load it anew.
    const settings = { "hacdbs.use": "off" };
    const vm = hdbssVm(64, { settings, on: bug, vcpus: 2, isOff: true });
    vm.spin(0, 64);
    vm.pumpAccesses(0, 100);
    vm.enableHdbss();
    // Round one gives write permission with DBM, the second is the hardware's.
    for (let round = 0; round < 2; round++) {
      vm.dirty(0);
      vm.pumpAccesses(0, 200);
    }
    expect(vm.cpu().mrs("VTCR_EL2")).toBe(vm.kvm.vm.vtcr);
    expect(vm.counter("hdbssAppends")).toBeGreaterThan(0);
    expect(vm.dirty(0)).toEqual(range(0, 64));
  },
  { bug: "B6" },
);

twice(
  "T-37",
  "a drain trusts no index that this buffer did not leave",
  (_on, bug) => {
    const settings = { "hdbss.stop": "kick-only" };
    const vm = hdbssVm(64, { settings, on: bug, isOff: true, vcpus: 2 });
    vm.spin(0, 8);
    vm.pumpAccesses(0, 50);
    vm.cpu().msr("HDBSSPROD_EL2", 300n);
    vm.enableHdbss();
    vm.pump(8);
    expect(vm.diagnosed("hdbss-index-not-owned")).toBe(0);
    expect(vm.counter("hdbssInvalidSlots")).toBe(0);
    expect(vm.dirty(0)).toEqual(range(0, 8));
  },
  { bug: "B7" },
);

const LIVES: readonly [string, Record<string, string>, (vm: HdbssVm) => void][] = [
  ["off", {}, (vm) => vm.dirtyPages(0, [1])],
  ["off, buffers kept", { "hdbss.enableBy": "auto-buffers-at-vcpu-create" }, () => {}],
  ["on", {}, (vm) => vm.enableHdbss(2)],
  [
    "after a failed enable",
    {},
    (vm) => {
      vm.arm("hdbss-alloc", { vcpu: 1 });
      expect(vm.refused("enableCap", cap(0n, 1n))).toBe("ENOMEM");
    },
  ],
  [
    "off, with a vCPU that never came back to give its buffer up",
    { "hdbss.stop": "kick-only" },
    (vm) => {
      vm.enableHdbss();
      vm.spin(0, 8);
      vm.pumpAccesses(0, 20);
      vm.arm("kick-delayed", { delay: 1000 });
      vm.disableHdbss();
    },
  ],
];

twice(
  "T-45",
  "a VM that ends gives every buffer back, on, off, and after a failed enable",
  (_on, bug) => {
    for (const [, settings, live] of LIVES) {
      const vm = new HdbssVm(settings, bug);
      vm.slot(0, 64);
      const frames = vm.kvm.vm.host.frames.used;
      const tables = vm.kvm.vm.account.tableBytes;
      vm.vcpu(0);
      vm.vcpu(1);
      live(vm);
      vm.instance.close();
      const grown = (vm.kvm.vm.account.tableBytes - tables) / vm.page;
      expect(vm.kvm.vm.host.frames.used - frames - grown).toBe(0);
      expect(vm.counter("bytesHdbssBuffers")).toBe(0);
      expect(vm.budget.chargedBytes()).toBe(0);
    }
  },
  { bug: "B17" },
);

twice(
  "T-46",
  "the capability's refusals are the table's",
  (_on, bug) => {
    const vm = hdbssVm(8, { on: bug });
    expect(vm.refused("enableCap", cap(0n, 1n))).toBe("EINVAL");
    expect(vm.refused("enableCap", cap(99n, 0n))).toBeNull();
    expect(vm.refused("enableCap", cap(0n, 0n))).toBeNull();
    expect(vm.refused("enableCap", cap(10n, 1n))).toBe("EINVAL");
    expect(vm.refused("enableCap", { ...cap(0n, 1n), flags: 1 })).toBe("EINVAL");
    expect(vm.refused("enableCap", cap(0n, 1n, 1n))).toBe("EINVAL");
    expect(vm.call("checkExtension", { cap: HW_DIRTY })).toBe(1);
  },
  { bug: "B18" },
);

describe.each([
  ["hardware.hdbss", false],
  ["hardware.vhe", false],
  ["hardware.scrHdbssEn", false],
  ["nested.hacdbs", "emulated"],
] as const)("T-46: a host with %s %s", (key, value) => {
  it("has no such capability", () => {
    const vm = new HdbssVm({ [key]: value });
    expect(vm.call("checkExtension", { cap: HW_DIRTY })).toBe(0);
    expect(vm.refused("enableCap", cap(0n, 1n))).toBe("EINVAL");
    expect(vm.refused("enableCap", cap(0n, 0n))).toBe("EINVAL");
  });
});

it("a VM with nested virtualisation may have it if the policy allows that", () => {
  const vm = new HdbssVm({ "nested.hacdbs": "emulated", "hdbss.nested": "allow" });
  expect(vm.refused("enableCap", cap(0n, 1n))).toBeNull();
});

twice(
  "T-47",
  "no TLB copy outlives the change of mode, and the next store is logged",
  (_on, bug) => {
    const vm = hdbssVm(8, { on: bug, isOff: true });
    vm.dirtyPages(0, [0, 1, 2]);
    expect(vm.dirty(0)).toEqual([0, 1, 2]);
    vm.dirtyPages(0, [0, 1]);
    const { vmid } = vm.kvm.vm;
    expect(vm.cpu().tlb.lookup(vm.gpa(0) / vm.page, vmid)).toBeGreaterThanOrEqual(0);
    vm.enableHdbss();
    expect(vm.cpu().tlb.lookup(vm.gpa(0) / vm.page, vmid)).toBe(-1);
    vm.dirtyPages(0, [0, 2]);
    expect(vm.dirty(0)).toEqual([0, 1, 2]);
  },
  { bug: "B19" },
);

it("T-51: the size in bytes is set once, before vCPUs and without a ring", () => {
  const sized = (settings = {}) =>
    new HdbssVm({ "hdbss.capShape": "buffer-size-only", ...settings });
  const bytes = (n: number) => ({ cap: BUFFER_SIZE, flags: 0, args: [BigInt(n)] });
  const vm = sized({ "hdbss.enableBy": "auto-first-logging-slot" });
  for (const wrong of [0, 2048, 3000, 2 ** 22]) {
    expect(vm.refused("enableCap", bytes(wrong))).toBe("EINVAL");
  }
  expect(vm.call("checkExtension", { cap: BUFFER_SIZE })).toBe(4096);
  expect(vm.refused("enableCap", bytes(8192))).toBeNull();
  expect(vm.refused("enableCap", bytes(4096))).toBe("EBUSY");
  expect(vm.call("checkExtension", { cap: BUFFER_SIZE })).toBe(8192);
  vm.vcpu(0);
  expect(vm.refused("enableCap", bytes(4096))).toBe("EINVAL");
  vm.slot(0, 8, { flags: LOG });
  expect(vm.buffer(0)?.sz).toBe(1);
  expect(vm.call("checkExtension", { cap: HW_DIRTY })).toBe(0);
  expect(vm.refused("enableCap", cap(0n, 1n))).toBe("EINVAL");

  const late = sized();
  late.vcpu(0);
  expect(late.refused("enableCap", bytes(4096))).toBe("EINVAL");
  const ringed = sized();
  ringed.enable(RING, 65_536n);
  expect(ringed.refused("enableCap", bytes(4096))).toBe("EINVAL");
  const reset = sized();
  expect(reset.refused("enableCap", bytes(8192))).toBeNull();
  reset.enable(RING, 65_536n);
  expect(reset.call("checkExtension", { cap: BUFFER_SIZE })).toBe(4096);
  const host = { hostCpus: 1, leafSizes: [4096] };
  expect(checkExtension(BUFFER_SIZE, host, null)).toBe(2_097_152);
});

it("T-51: the host's allocator may refuse a large order", () => {
  const vm = new HdbssVm({}, null, { budgetBytes: 2 ** 20 });
  vm.vcpu(0);
  expect(vm.refused("enableCap", cap(9n, 1n))).toBe("ENOMEM");
});
