// Goal: KVM_RUN ends when and how KVM's does, and a vCPU can always be got out of it.
// Method: short programs, exits looked at member by member; blocked and crowded vCPUs by steps.
import { describe, expect, it } from "vitest";
import { BASE, Inline } from "../../support/inline.js";

const MMIO = 0x900_0000;
const K4 = 4096;

function setUp(options: ConstructorParameters<typeof Inline>[0] = {}) {
  const vm = new Inline(options);
  vm.slot(0, 16);
  vm.vcpu();
  return vm;
}

describe("exits", () => {
  it("HLT when the program is over, and at once when there is none", () => {
    const vm = setUp();
    expect(vm.run()).toEqual({
      errno: null,
      exitReason: "KVM_EXIT_HLT",
      deviceIrqLevel: 0,
      retired: 0,
      program: { completed: 0, finished: true },
    });
    expect(vm.store(0, [BASE, BASE + 8])).toEqual({
      errno: null,
      exitReason: "KVM_EXIT_HLT",
      deviceIrqLevel: 0,
      retired: 2,
      program: { completed: 2, finished: true },
    });
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_HLT", retired: 0 });
  });

  it.each([1, 2, 3, 4, 8])("MMIO of a store of %d bytes carries its bytes", (length) => {
    const vm = setUp();
    const exit = vm.store(0, [MMIO + 1], 0x8877_6655_4433_2211n, length);
    expect(exit.mmio).toEqual({
      physAddr: BigInt(MMIO + 1),
      data: Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88).slice(0, length),
      len: length,
      isWrite: true,
    });
    expect(exit).toMatchObject({ retired: 0, program: { completed: 0, finished: false } });
  });

  it.each([
    ["between slots", 0x1000_0000],
    ["beyond the VM's IPA size", 2 ** 40],
    ["beyond the host's", 2 ** 51],
  ])("MMIO for an address %s", (_where, at) => {
    const vm = setUp();
    vm.list(0, [{ op: "read", address: BigInt(at), length: 2 }]);
    expect(vm.run().mmio).toEqual({
      physAddr: BigInt(at),
      data: new Uint8Array(2),
      len: 2,
      isWrite: false,
    });
  });

  it("EFAULT for a hole in userspace memory: nothing done, and the VM goes on", () => {
    const vm = setUp();
    vm.region(1, 0x9000_0000, 4 * K4, 0x7000_0000);
    const failed = vm.store(0, [BASE, 0x9000_0000, BASE + 8]);
    expect(failed).toMatchObject({ errno: "EFAULT", retired: 1, program: { completed: 1 } });
    expect(failed.exitReason).toBe("KVM_EXIT_UNKNOWN");
    expect(vm.run()).toMatchObject({ errno: "EFAULT", retired: 0 });
    vm.ram(4 * K4, { at: 0x7000_0000 });
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_HLT", retired: 2 });
  });

  it("EFAULT when a hole is only loaded from", () => {
    const vm = setUp();
    vm.region(1, 0x9000_0000, 4 * K4, 0x7000_0000);
    vm.list(0, [{ op: "read", address: 0x9000_0000n, length: 1 }]);
    expect(vm.run().errno).toBe("EFAULT");
  });

  it("a page of a slot that straddles into nothing exits for the second page", () => {
    const vm = setUp();
    const end = BASE + 16 * K4;
    expect(vm.store(0, [end - 4]).mmio).toMatchObject({ physAddr: BigInt(end) });
  });
});

describe("completing an MMIO", () => {
  const READS = [0, 1].map((i) => ({ op: "read" as const, address: BigInt(MMIO + i), length: 4 }));
  const loads = (vm: Inline) => vm.call("readProgram", { vcpu: 0, from: 0, limit: 9 }).loads;

  it("happens in the next RUN: a load gets what userspace gives, zeros beyond", () => {
    const vm = setUp();
    vm.list(0, READS);
    vm.run();
    expect(vm.run(0, { mmioData: [0xa0, 0xa1, 0xa2, 0xa3, 0xa4] })).toMatchObject({ retired: 1 });
    expect(vm.run(0, { mmioData: [0xb0] }).exitReason).toBe("KVM_EXIT_HLT");
    expect(loads(vm)).toEqual([0xa3a2_a1a0n, 0xb0n]);
  });

  it("happens also with immediate_exit, which keeps the old exit reason", () => {
    const vm = setUp();
    vm.list(0, READS);
    vm.run();
    expect(vm.run(0, { immediateExit: true, mmioData: [7] })).toEqual({
      errno: "EINTR",
      exitReason: "KVM_EXIT_MMIO",
      deviceIrqLevel: 0,
      retired: 1,
      program: { completed: 1, finished: false },
    });
    // Completed once, not again.
    expect(vm.run(0, { immediateExit: true, mmioData: [9] }).retired).toBe(0);
    expect(vm.run().mmio?.physAddr).toBe(BigInt(MMIO + 1));
    expect(loads(vm)).toEqual([7n]);
  });

  it("without data reads zeros; a store needs none", () => {
    const vm = setUp();
    vm.list(0, [READS[0]!, { op: "write", address: BigInt(MMIO), length: 1, value: 1n }]);
    vm.run();
    expect(vm.run().mmio?.isWrite).toBe(true);
    expect(vm.run(0, { mmioData: [1, 2, 3] }).exitReason).toBe("KVM_EXIT_HLT");
    expect(loads(vm)).toEqual([0n]);
  });

  it("is dropped with the program it belonged to", () => {
    const vm = setUp();
    vm.list(0, READS);
    vm.run();
    vm.store(0, [BASE], 3n);
    expect(vm.call("describeVcpu", { vcpu: 0 }).program).toMatchObject({ completed: 1 });
    expect(vm.load(0, [BASE])).toEqual([3n]);
  });

  it("immediate_exit before the first RUN tells of no exit", () => {
    const vm = setUp();
    expect(vm.run(0, { immediateExit: true })).toMatchObject({
      errno: "EINTR",
      exitReason: "KVM_EXIT_UNKNOWN",
    });
  });
});

describe.each(["round-robin", "seeded"] as const)("%s: kicks", (schedule) => {
  it("end a program that never ends, with EINTR", () => {
    const vm = setUp({ schedule });
    vm.pattern(0, { base: BASE, bytes: 16 * K4, count: 0 });
    const run = vm.beginRun();
    vm.pump(100);
    expect(run.done).toBe(false);
    expect(vm.call("describe", {}).runningVcpus).toBe(1);
    vm.call("kick", { vcpu: 0 });
    const before = vm.kvm.vm.instructions;
    const result = vm.finish(run);
    expect(result).toMatchObject({ errno: "EINTR", exitReason: "KVM_EXIT_INTR" });
    expect(vm.kvm.vm.instructions - before).toBeLessThanOrEqual(4096);
    expect(vm.call("describeVcpu", { vcpu: 0 })).toMatchObject({ state: "idle", hostCpu: null });
    expect(vm.counter("signalExits")).toBe(1);
    // It goes on where it was.
    const again = vm.beginRun();
    vm.pump(100);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(again).program.completed).toBeGreaterThan(result.program.completed);
  });

  it("before the first step stop the run before the guest", () => {
    const vm = setUp({ schedule });
    vm.pattern(0, { base: BASE, bytes: K4, count: 0 });
    const run = vm.beginRun();
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run)).toMatchObject({ errno: "EINTR", retired: 0 });
  });

  it("of an idle vCPU are forgotten", () => {
    const vm = setUp({ schedule });
    vm.call("kick", { vcpu: 0 });
    expect(vm.store(0, [BASE]).exitReason).toBe("KVM_EXIT_HLT");
    expect(vm.refused("kick", { vcpu: 9 })).toBe("vcpu-not-found");
  });

  it.each([5, 10])("wake a vCPU that is blocked in MP_STATE %d", (mpState) => {
    const vm = setUp({ schedule });
    vm.call("setMpState", { vcpu: 0, mpState });
    const run = vm.beginRun();
    vm.pumpUntil(() => run.done);
    expect(run.done).toBe(false);
    expect(vm.call("describeVcpu", { vcpu: 0 }).state).toBe("blocked");
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run)).toMatchObject({ errno: "EINTR", retired: 0 });
    expect(vm.call("getMpState", { vcpu: 0 }).mpState).toBe(mpState);
    vm.call("setMpState", { vcpu: 0, mpState: 0 });
    expect(vm.store(0, [BASE]).exitReason).toBe("KVM_EXIT_HLT");
  });

  it("reach a vCPU that waits for a host CPU", () => {
    const vm = setUp({ schedule, hostCpus: 1 });
    vm.vcpu(1);
    for (const id of [0, 1]) vm.pattern(id, { base: BASE, bytes: K4, count: 0 });
    const runs = [vm.beginRun(0), vm.beginRun(1)];
    vm.pump(50);
    for (const id of [1, 0]) {
      vm.call("kick", { vcpu: id });
      expect(vm.finish(runs[id]!).errno).toBe("EINTR");
    }
    expect(vm.kvm.vm.sched.contexts.length).toBe(0);
    expect(vm.store(1, [BASE]).exitReason).toBe("KVM_EXIT_HLT");
  });
});

describe("one at a time", () => {
  it("a second RUN, a new program and MP_STATE wait until the vCPU is idle", () => {
    const vm = setUp();
    vm.pattern(0, { base: BASE, bytes: K4, count: 0 });
    const run = vm.beginRun();
    vm.pump(10);
    const args = { vcpu: 0, immediateExit: false, mmioData: null };
    expect(vm.refused("run", args)).toBe("vcpu-running");
    expect(vm.refused("run", { ...args, immediateExit: true })).toBe("vcpu-running");
    const program = { kind: "accesses" as const, accesses: [] };
    expect(vm.refused("setProgram", { vcpu: 0, program })).toBe("vcpu-running");
    expect(vm.refused("getMpState", { vcpu: 0 })).toBe("vcpu-running");
    expect(vm.refused("setMpState", { vcpu: 0, mpState: 0 })).toBe("vcpu-running");
    vm.call("kick", { vcpu: 0 });
    vm.finish(run);
    expect(vm.refused("setMpState", { vcpu: 0, mpState: 0 })).toBeNull();
  });

  it.each([0, 5, 10])("MP_STATE %d can be set and read", (mpState) => {
    const vm = setUp();
    expect(vm.call("getMpState", { vcpu: 0 })).toEqual({ mpState: 0 });
    vm.call("setMpState", { vcpu: 0, mpState });
    expect(vm.call("getMpState", { vcpu: 0 })).toEqual({ mpState });
  });

  it.each([1, 2, 3, 4, 6, 9, 11, 2 ** 32 - 1])("MP_STATE %d is EINVAL", (mpState) => {
    const vm = setUp();
    expect(vm.refused("setMpState", { vcpu: 0, mpState })).toBe("EINVAL");
    expect(vm.refused("setMpState", { vcpu: 7, mpState })).toBe("vcpu-not-found");
  });
});

describe("host CPUs", () => {
  it.each([
    ["round-robin", 2, 1],
    ["round-robin", 3, 2],
    ["round-robin", 5, 2],
    ["round-robin", 8, 3],
    ["seeded", 5, 2],
  ] as const)(
    "%s: %d vCPUs on %d CPUs all progress, about equally",
    (schedule, vcpus, hostCpus) => {
      const vm = new Inline({ hostCpus, schedule });
      vm.slot(0, 16);
      for (let id = 0; id < vcpus; id++) {
        vm.vcpu(id);
        vm.pattern(id, { base: BASE, bytes: 16 * K4, count: 0 });
        vm.beginRun(id);
      }
      expect(vm.call("describe", {}).hostCpus).toBe(Math.min(vcpus, hostCpus));
      vm.pump(2000);
      const retired = vm.call("listVcpus", {}).map((view) => view.retired);
      expect(Math.min(...retired)).toBeGreaterThan(Math.max(...retired) / 3);
      const loaded = vm.call("listHostCpus", {}).map((cpu) => cpu.loadedVcpu);
      expect(new Set(loaded.filter((id) => id !== null)).size).toBe(
        loaded.filter((id) => id !== null).length,
      );
    },
  );

  it("hold the VM's registers while a vCPU is on them, and stage 2 is off after", () => {
    const vm = setUp();
    vm.pattern(0, { base: BASE, bytes: K4, count: 0 });
    const run = vm.beginRun();
    vm.pump(20);
    const { vtcr, vttbr } = vm.call("describe", {});
    expect(vm.call("listHostCpus", {})[0]).toMatchObject({
      index: 0,
      loadedVcpu: 0,
      vtcr,
      vttbr,
      hcr: 1n,
    });
    vm.call("kick", { vcpu: 0 });
    vm.finish(run);
    expect(vm.call("listHostCpus", {})[0]).toMatchObject({ loadedVcpu: null, hcr: 0n });
  });

  it("come with the vCPUs, as many or as few as were asked for", () => {
    const vm = new Inline({ hostCpus: 3 });
    const counts = [0, 1, 2, 3, 4].map((id) => {
      vm.vcpu(id);
      return vm.call("listHostCpus", {}).length;
    });
    expect(counts).toEqual([1, 2, 3, 3, 3]);
    const own = new Inline();
    for (let id = 0; id < 5; id++) own.vcpu(id);
    expect(own.call("listHostCpus", {}).length).toBe(5);
  });

  it("an ioctl gets its turn while every CPU is busy", () => {
    const vm = setUp();
    vm.slot(1, 4096, { gpa: 0x9000_0000, flags: 1 });
    vm.pattern(0, { base: 0x9000_0000, bytes: 4096 * K4, count: 0 });
    const run = vm.beginRun();
    vm.pump(200);
    expect(vm.dirty(1).length).toBeGreaterThan(0);
    expect(run.done).toBe(false);
  });
});
