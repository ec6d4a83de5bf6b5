// Goal: a client's VM goes on elsewhere with everything that KVM tells of it and what it doesn't:
// devices, registers, exits half done, programs, wires, clocks.
// Method: each state is made, the VM moved to one that has only memory, slots and vCPUs, and both
// it and the twin that stayed go on with the same commands.
import { describe, expect, it } from "vitest";
import { ManualClock } from "../../../../src/base/clock.js";
import * as a64 from "../../../support/a64.js";
import { Guest, PC, S, X } from "../../../support/guest.js";
import { BASE, Inline, type InlineOptions } from "../../../support/inline.js";
import { IrqVm } from "../../../support/irq-case.js";
import { Its } from "../../../support/irq-its.js";
import { IRQFD, pinRoute } from "../../../support/irq-uapi.js";
import { LPI } from "../../../support/its-code.js";
import {
  align,
  builtLike,
  differingPages,
  expectSameState,
  hold,
  letGo,
  move,
  take,
} from "../../../support/moved.js";

const K4 = 4096;
const MMIO = 0x900_0000;
const FAR = 0x9000_0000;

function moved(from: Inline, options: InlineOptions = {}): Inline {
  const to = move(from, builtLike(from, options));
  expectSameState(from, to);
  expect(differingPages(from, to)).toEqual([]);
  // Saved again, it is what it was.
  expect(take(to)).toEqual(take(from));
  align(from, to);
  letGo(from);
  letGo(to);
  return to;
}

/** The same on both. */
function both<T>(twin: Inline, other: Inline, act: (vm: Inline) => T): T {
  const [a, b] = [act(twin), act(other)];
  expect(b).toEqual(a);
  expectSameState(twin, other);
  return b;
}

/** Every array of bytes in a value. */
function bytesIn(value: unknown): Uint8Array[] {
  if (value instanceof Uint8Array) return [value];
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return [];
  return Object.values(value).flatMap(bytesIn);
}

function kicked(vm: Inline, vcpu: number, steps: number) {
  const run = vm.beginRun(vcpu);
  vm.pump(steps);
  vm.call("kick", { vcpu });
  return vm.finish(run);
}

describe("synthetic vCPUs", () => {
  function patterns(): Inline {
    const vm = new Inline();
    vm.slot(0, 64);
    vm.slot(1, 512, { gpa: FAR, backing: "unbacked" });
    vm.vcpu(0);
    vm.vcpu(1);
    vm.pattern(
      0,
      { base: BASE, bytes: 64 * K4, count: 0 },
      { pattern: "zipf", skew: 90, seed: 5n },
    );
    vm.pattern(1, { base: FAR, bytes: 512 * K4, count: 0 }, { writePercent: 70, seed: 9n });
    return vm;
  }

  it("go on with their programs, and unbacked pages keep their content", () => {
    let twin = patterns();
    for (let round = 0; round < 2; round++) {
      for (const vcpu of [0, 1]) kicked(twin, vcpu, 40);
      const other = moved(twin);
      for (const vcpu of [0, 1, 0, 1]) both(twin, other, (vm) => kicked(vm, vcpu, 25));
      expect(differingPages(twin, other)).toEqual([]);
      twin = other;
    }
    expect(twin.kvm.vm.vcpus[1]!.engine.retired).toBeGreaterThan(1000);
  });

  it("complete an MMIO load that was under way, and keep what they loaded", () => {
    const twin = patterns();
    twin.list(0, [
      { op: "read", address: BigInt(FAR + 5 * K4), length: 8 },
      { op: "read", address: BigInt(MMIO), length: 4 },
      { op: "read", address: BigInt(FAR + 6 * K4 - 3), length: 8 },
      { op: "write", address: BigInt(MMIO + 8), length: 2, value: 7n },
    ]);
    expect(twin.run(0)).toMatchObject({ exitReason: "KVM_EXIT_MMIO", mmio: { len: 4 } });
    const other = moved(twin);
    both(twin, other, (vm) => vm.run(0, { mmioData: [1, 2, 3, 4] }));
    const { loads } = both(twin, other, (vm) =>
      vm.call("readProgram", { vcpu: 0, from: 0, limit: 9 }),
    );
    expect(loads).toHaveLength(3);
    expect(loads[1]).toBe(0x0403_0201n);
  });
});

describe("guest code without a controller", () => {
  const TPIDR = S(3, 0, 13, 0, 4);

  it("keeps MMIO exits, timers, lines, PMU, exclusives and debugging", () => {
    const twin = new Guest();
    twin.boot(0, [
      ...a64.mov(1, BigInt(MMIO)),
      ...a64.mov(2, BigInt(BASE + 9 * K4)),
      a64.ldxr(3, 2),
      a64.ldrw(4, 1),
      a64.stxr(5, 4, 2),
      ...a64.mov(6, 5000n),
      a64.msr("CNTV_TVAL_EL0", 6),
      ...a64.mov(6, 1n),
      a64.msr("CNTV_CTL_EL0", 6),
      a64.WFI,
      a64.mrs(7, "CNTVCT_EL0"),
      ...a64.powerOff(),
    ]);
    twin.set(TPIDR, 0x1234_5678_9abc_def0n);
    expect(twin.run()).toMatchObject({ exitReason: "KVM_EXIT_MMIO" });
    twin.irq(1);
    twin.call("setSignalMask", { vcpu: 0, len: 8, sigset: 0x200n });
    twin.call("setVcpuEvents", {
      vcpu: 0,
      serrorPending: true,
      serrorHasEsr: true,
      extDabtPending: false,
      serrorEsr: 0x123n,
    });
    const other = moved(twin);
    expect(other.call("describeSignalMask", { vcpu: 0 }).sigset).toBe(0x200n);
    expect(other.call("getVcpuEvents", { vcpu: 0 })).toMatchObject({
      serrorPending: true,
      serrorEsr: 0x123n,
    });
    expect(other.call("getOneReg", { vcpu: 0, reg: TPIDR }).value).toBe(0x1234_5678_9abc_def0n);
    const mmioData = [9, 0, 0, 0];
    const exits: string[] = [both(twin, other, (vm) => vm.run(0, { mmioData })).exitReason];
    // The store was conditional on the load before the move.
    expect(other.call("getOneReg", { vcpu: 0, reg: X(5) }).value).toBe(0n);
    while (exits.at(-1) !== "KVM_EXIT_SYSTEM_EVENT" && exits.length < 4) {
      exits.push(both(twin, other, (vm) => vm.run()).exitReason);
    }
    expect(exits.at(-1)).toBe("KVM_EXIT_SYSTEM_EVENT");
    expect(differingPages(twin, other)).toEqual([]);
  });

  it("takes a CPU_ON that waited, and single-steps on", () => {
    const twin = new Guest();
    const second = BASE + 0x800;
    twin.boot(0, [
      ...a64.mov(0, 0xc400_0003n),
      ...a64.mov(1, 1n),
      ...a64.mov(2, BigInt(second)),
      ...a64.mov(3, 77n),
      a64.HVC,
      ...a64.mov(1, BigInt(MMIO)),
      a64.ldrw(2, 1),
    ]);
    twin.vcpu(1);
    twin.call("vcpuInit", { vcpu: 1, target: 5, features: [5n] });
    twin.put(second, [a64.add(1, 0, 1), a64.add(2, 0, 2), ...a64.powerOff()]);
    expect(twin.run()).toMatchObject({ exitReason: "KVM_EXIT_MMIO" });
    expect(twin.kvm.vm.vcpus[1]!.resetState).not.toBeNull();
    const step = { vcpu: 1, control: 3, bcr: [], bvr: [], wcr: [], wvr: [] };
    twin.call("setGuestDebug", step);
    const other = moved(twin);
    expect(other.call("getOneReg", { vcpu: 1, reg: PC }).value).toBe(BigInt(second));
    for (let n = 0; n < 2; n++) {
      const { exitReason } = both(twin, other, (vm) => vm.run(1));
      expect(exitReason).toBe("KVM_EXIT_DEBUG");
    }
    expect(other.call("getOneReg", { vcpu: 1, reg: X(2) }).value).toBe(79n);
  });

  it("has what a VMM has configured: firmware, ID registers, filters, PMU, stolen time", () => {
    const twin = new Guest();
    twin.boot(0, [a64.SEV, a64.WFE, ...a64.powerOff()], BASE, 12n);
    const vcpu = 0;
    const u64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);
    twin.set(0x6030_0000_0014_0000n, 0x1_0001n);
    twin.set(0x6030_0000_0016_0002n, 1n);
    twin.set(S(3, 0, 0, 6, 0), 0n);
    twin.call("setVcpuAttr", { vcpu, group: 0, attr: 1n, value: new Uint8Array(0) });
    twin.call("setVcpuAttr", { vcpu, group: 2, attr: 0n, value: u64(BigInt(BASE + 20 * K4)) });
    // struct kvm_smccc_filter: one function from 1 on, DENY.
    const filter = Uint8Array.from({ length: 24 }, (_, at) => Number(at % 4 === 0 && at <= 8));
    twin.call("setVmAttr", { group: 0, attr: 0n, value: filter });
    twin.call("setCounterOffset", { offset: 1000n, reserved: 0n });
    expect(twin.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    const other = moved(twin);
    const regs = other.call("getRegList", { vcpu });
    both(twin, other, (vm) => vm.call("getRegs", { vcpu, regs }));
    expect(other.refused("setOneReg", { vcpu, reg: S(3, 0, 0, 6, 1), value: u64(0n) })).toBe(
      "EBUSY",
    );
  });
});

describe("a controller in the kernel", () => {
  function busy(model: "v2" | "v3"): IrqVm {
    const vm = new IrqVm(model, { vcpus: 2, nrIrqs: 96 });
    vm.cpu.claim(40);
    vm.cpu.claim(41, "edge");
    vm.cpus[1]!.claim(50);
    vm.spi(40, 1);
    vm.spi(41, 1);
    vm.spi(50, 1);
    expect([40, 41]).toContain(vm.cpu.iar());
    vm.cpus[1]!.sendSgi(3);
    return vm;
  }

  it.each(["v2", "v3"] as const)("is made anew, in the middle of interrupts (%s)", (model) => {
    let twin: Inline = busy(model);
    const { cpus } = twin as IrqVm;
    for (let round = 0; round < 2; round++) {
      const other = moved(twin);
      expect(other.call("listDevices", {})).toEqual(twin.call("listDevices", {}));
      // The guest's loop goes on with what the test puts before it.
      for (const { id, places } of cpus) {
        both(twin, other, (vm) => {
          const words = a64.bytesOf([...a64.mov(5, BigInt(round)), a64.RET]);
          vm.call("writePhysicalMemory", { gpa: BigInt(places.snippet), bytes: words });
          return vm.run(id);
        });
      }
      twin = other;
    }
  });

  it("is not initialised there where it was not here, and has its addresses", () => {
    const twin = new Inline();
    twin.slot(0, 16);
    twin.vcpu(0);
    twin.vcpu(3);
    twin.call("createDevice", { type: 7, flags: 0 });
    const set = (group: number, attr: bigint, value: bigint) =>
      twin.call("setDeviceAttr", {
        device: 0,
        group,
        attr,
        value: new Uint8Array(BigUint64Array.of(value).buffer),
      });
    set(3, 0n, 128n);
    set(0, 2n, 0x800_0000n);
    set(0, 5n, (1n << 52n) | 0x80a_0000n);
    set(0, 5n, (4n << 52n) | 0x90a_0000n | 1n);
    const other = moved(twin);
    expect(other.call("describeVgic", {})).toEqual(twin.call("describeVgic", {}));
    const legacy = new Inline();
    legacy.slot(0, 16);
    legacy.vcpu(0);
    legacy.call("createIrqchip", {});
    legacy.call("setDeviceAddr", { id: 0n, addr: 0x800_0000n });
    const again = moved(legacy);
    expect(again.call("describeVgic", {})).toEqual(legacy.call("describeVgic", {}));
    expect(again.call("listDevices", {})).toEqual([]);
  });

  it("has its ITS, with LPIs that are pending", () => {
    const its = Its.inNewVm();
    const { vm } = its;
    its.enableLpi(LPI);
    its.mapDevice(2);
    its.mapCollection(3, 0);
    its.mapEvent(2, 20, LPI, 3);
    its.enableLpi(LPI + 1);
    its.mapEvent(2, 21, LPI + 1, 3);
    expect(its.signalMsi({ event: 20, device: 2 })).toBe(1);
    const to = move(vm, builtLike(vm));
    expectSameState(vm, to);
    expect(to.kvm.vm.vgic.dist?.lpis.get(LPI)?.pendingLatch).toBe(true);
    expect(to.kvm.vm.vgic.dist?.lpis.get(LPI + 1)?.pendingLatch).toBe(false);
    letGo(to);
    expect(to.call("signalMsi", its.msi({ event: 21, device: 2 }))).toEqual({ delivered: 1 });
  });
});

describe("wires", () => {
  it("lead to the same eventfds, after the controller is what it was", () => {
    const twin = new IrqVm("v3");
    twin.cpu.claim(40);
    twin.call("setGsiRouting", { flags: 0, entries: [pinRoute(5, 8), pinRoute(6, 9)] });
    const [trigger, resample] = [twin.eventfd(), twin.eventfd()];
    const bell = twin.eventfd(7n);
    twin.irqfd(trigger, 6);
    twin.irqfd(trigger, 6, IRQFD.DEASSIGN);
    twin.irqfd(trigger, 5, IRQFD.RESAMPLE, resample);
    twin.call("ioeventfd", { datamatch: 3n, addr: BigInt(MMIO), len: 4, fd: bell, flags: 1 });
    twin.call("registerCoalescedZone", { addr: BigInt(MMIO + 64), size: 16, pio: 0 });
    twin.cpu.write(MMIO + 64, 9);
    twin.call("drainCoalescedRing", { key: "a", after: null });
    twin.cpu.write(MMIO + 68, 10);
    twin.signal(trigger);
    const to = move(twin, builtLike(twin));
    expectSameState(twin, to);
    expect(to.call("listIrqfds", {})).toEqual(twin.call("listIrqfds", {}));
    expect(to.call("listIrqfds", {})).toMatchObject([{ id: 2, gsi: 5, flags: IRQFD.RESAMPLE }]);
    expect(to.eventfds.peek(bell.index)).toBe(7n);
    letGo(to);
    letGo(twin);
    const args = { key: "b", after: "d1" };
    expect(to.call("drainCoalescedRing", args)).toEqual(twin.call("drainCoalescedRing", args));
  });

  it("leave a log that nobody has acknowledged with its source, and take it along", () => {
    const twin = new Inline();
    twin.slot(0, 64, { flags: 1 });
    twin.vcpu(0);
    twin.store(0, [BASE + 3 * K4, BASE + 9 * K4]);
    const { bitmap, id } = twin.call("harvestDirtyLog", { slot: 0, key: "a", after: null });
    expect(bitmap.slice(0, 2)).toEqual(Uint8Array.of(8, 2));
    hold(twin);
    const { parts } = twin.call("saveState", {});
    const to = builtLike(twin);
    hold(to);
    to.call("loadState", { parts: structuredClone(parts) });
    for (const array of bytesIn(parts)) array.fill(0xee);
    for (const vm of [twin, to]) {
      expect(vm.call("getHarvest", { slot: 0, id }).bitmap).toEqual(bitmap);
    }
  });

  it("inject what was counted while nobody listened, once the VM is let go", () => {
    const twin = new IrqVm("v3");
    twin.cpu.claim(40, "edge");
    const trigger = twin.eventfd();
    twin.irqfd(trigger, 8);
    hold(twin);
    const { parts } = take(twin);
    const to = builtLike(twin);
    hold(to);
    to.eventfds.create(1n);
    to.call("loadState", { parts });
    to.kvm.vm.jobs.drain();
    expect(to.kvm.vm.vgic.dist?.irq(null, 40)).toMatchObject({ pendingLatch: false });
    letGo(to);
    to.kvm.vm.jobs.drain();
    expect(to.kvm.vm.vgic.dist?.irq(null, 40)).toMatchObject({ pendingLatch: true });
    const missing = builtLike(twin);
    hold(missing);
    expect(missing.refused("loadState", { parts })).toBe("state-mismatch");
    expect(missing.call("listDevices", {})).toEqual([]);
  });
});

describe("a wall clock", () => {
  it("counts on from where it was held, whatever time it is there", () => {
    const [here, there] = [new ManualClock(), new ManualClock()];
    here.advance(50_000);
    const clock = { mode: "wall" as const, nsPerInstruction: 1, idle: "jump" as const };
    const twin = new Guest({ clock, time: here });
    twin.boot(0, [a64.mrs(1, "CNTVCT_EL0"), a64.mrs(2, "CNTPCT_EL0"), ...a64.powerOff()]);
    here.advance(3);
    hold(twin);
    here.advance(100);
    const to = builtLike(twin, { clock, time: there });
    there.advance(7);
    move(twin, to);
    there.advance(40);
    letGo(to);
    there.advance(2);
    to.run();
    const [virtual, physical] = [X(1), X(2)].map(
      (reg) => to.call("getOneReg", { vcpu: 0, reg }).value,
    );
    // Three milliseconds before the hold and two after it.
    expect([virtual, physical]).toEqual([5_000_000n, 50_005_000_000n]);
  });
});
