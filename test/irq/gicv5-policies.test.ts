// Goal: when KVM's GICv5 tells that a guest is done with an SPI, by policy: interrupts.md 5.10 to
// 5.13 and 6.6, T72 to T86 and T93. Method: guest code acknowledges and deactivates; every exec()
// is one exit; resamplefds and counters are read. Where a policy of the seed must break what holds
// by the default, the case runs with it too.
import { expect, it } from "vitest";
import type { V5Counters } from "../../src/kvm/vgic/v5/view.js";
import type { EventfdRef } from "../../src/vmm/commands.js";
import * as a64 from "../support/a64.js";
import { twice } from "../support/dirty-case.js";
import { spiOf, type V5Guest, V5Vm } from "../support/gicv5-case.js";
import { gic } from "../support/gicv5-code.js";
import { pinRoute } from "../support/irq-uapi.js";

const SPI = 5;
const OTHER = 6;
const VALID = 1n << 32n;
const tracking = (policy: string): string => `vgicV5.spiTracking=${policy}`;

interface Case {
  readonly vm: V5Vm;
  readonly cpu: V5Guest;
  readonly trigger: EventfdRef;
  readonly resample: EventfdRef;
  acks(): number;
}

/** An SPI that the guest has claimed and a resampling irqfd drives. */
function resampled(setting: string | null, config: "edge" | "level" = "level", vcpus = 1): Case {
  const vm = new V5Vm({ settings: setting === null ? [] : [setting], vcpus });
  vm.cpu.claim(SPI, config);
  const { trigger, resample } = vm.resampler(SPI);
  return { vm, cpu: vm.cpu, trigger, resample, acks: () => vm.count(resample) };
}

/** What counters grew by. */
function grown(vm: V5Vm, act: () => void): Partial<V5Counters> {
  const before = { ...vm.counters };
  act();
  const names = Object.keys(before) as (keyof V5Counters)[];
  const changed = names.filter((name) => vm.counters[name] !== before[name]);
  return Object.fromEntries(changed.map((name) => [name, vm.counters[name] - before[name]]));
}

/** Taken, priority dropped, deactivated: three exits. */
function serve(cpu: V5Guest, id = SPI): void {
  expect(cpu.cdia()).toBe(VALID | BigInt(spiOf(id)));
  cpu.cdeoi();
  cpu.cddi(spiOf(id));
}

/** Completions are answered, missed, or still owed: nothing is lost of the counters. */
function expectBalance(vm: V5Vm): void {
  const { acks, acksWithoutNotifier, spuriousAcks, missedAcks, completions } = vm.counters;
  const ids = Array.from({ length: vm.v5.nrSpis }, (_, id) => id);
  const owed = ids.filter((id) => vm.spi(id).isUnacknowledged).length;
  expect(acks - acksWithoutNotifier - spuriousAcks + missedAcks + owed).toBe(completions);
}

it("T72: as merged, nobody hears of it, and the line that stays high comes for ever", () => {
  const { vm, cpu, trigger, acks } = resampled(tracking("none"));
  vm.signal(trigger);
  for (let n = 0; n < 20; n++) serve(cpu);
  expect([acks(), vm.spi(SPI).lineLevel]).toEqual([0, true]);
  expect(vm.counters).toMatchObject({
    acks: 0,
    completions: 20,
    missedAcks: 19,
    stormsDetected: 1,
    vdrcfgCalls: 0,
    listLockAcquisitions: 0,
    deactivationTraps: 0,
  });
  expect(vm.spi(SPI).isUnacknowledged).toBe(true);
  expectBalance(vm);
});

twice(
  "T73",
  "deactivating a level SPI that is high still acknowledges it once, and it is quiet",
  (_on, setting) => {
    const { vm, cpu, trigger, acks } = resampled(setting);
    vm.signal(trigger);
    serve(cpu);
    expect([acks(), vm.spi(SPI).lineLevel]).toEqual([1, false]);
    expect(cpu.cdia()).toBe(0n);
    expect(vm.counters).toMatchObject({
      acks: 1,
      completions: 1,
      lateAcks: 0,
      missedAcks: 0,
      spuriousAcks: 0,
      stormsDetected: 0,
    });
    vm.signal(trigger);
    serve(cpu);
    expect([acks(), vm.spi(SPI).lineLevel]).toEqual([2, false]);
    expect(vm.counters).toMatchObject({ acks: 2, deactivationTraps: 2, vdrcfgCalls: 2 });
    expectBalance(vm);
  },
  { bug: [tracking("none"), tracking("seed004"), tracking("seed004-notifier-only")] },
);

it("T74: the seed never acknowledges a line that stays high, and asks at every exit", () => {
  const { vm, cpu, trigger, acks } = resampled(tracking("seed004"));
  vm.signal(trigger);
  serve(cpu);
  expect(acks()).toBe(0);
  expect(vm.v5.inFlight()).toEqual([SPI]);
  const more = grown(vm, () => {
    for (let n = 0; n < 5; n++) cpu.exec(a64.NOP);
  });
  expect(more).toEqual({ exits: 5, exitsInspected: 5, vdrcfgCalls: 5, listLockAcquisitions: 5 });
  expect(acks()).toBe(0);
});

it.each(["exact", "seed004", "seed004-notifier-only"])(
  "T75: a level that fell while it was active is acknowledged (%s)",
  (policy) => {
    const { vm, cpu, acks } = resampled(tracking(policy));
    vm.line(SPI, 1);
    expect(cpu.cdia()).not.toBe(0n);
    vm.line(SPI, 0);
    cpu.cdeoi();
    cpu.cddi(spiOf(SPI));
    expect([acks(), vm.v5.inFlight()]).toEqual([1, []]);
    const next = grown(vm, () => cpu.exec(a64.NOP));
    expect(next).toEqual(
      policy === "exact" ? { exits: 1 } : { exits: 1, earlyOuts: 1, listLockAcquisitions: 1 },
    );
    expectBalance(vm);
  },
);

twice(
  "T76",
  "an edge is acknowledged by nothing, as on a GICv3",
  (_on, setting) => {
    const { vm, cpu, trigger, acks } = resampled(setting, "edge");
    vm.signal(trigger);
    serve(cpu);
    expect([acks(), vm.counters.spuriousAcks]).toEqual([0, 0]);
  },
  { bug: [tracking("seed004"), tracking("seed004-notifier-only")] },
);

it("T76: the seed acknowledges an edge, at the exit after its deactivation", () => {
  const { vm, cpu, trigger, acks } = resampled(tracking("seed004"), "edge");
  vm.signal(trigger);
  expect(cpu.cdia()).not.toBe(0n);
  cpu.cdeoi();
  expect([acks(), vm.spi(SPI).active]).toEqual([0, true]);
  cpu.cddi(spiOf(SPI));
  expect([acks(), vm.counters.spuriousAcks]).toEqual([1, 1]);
});

it("T77: an edge that came again while active is one acknowledgement, after the second", () => {
  const { vm, cpu, trigger, acks } = resampled(tracking("seed004"), "edge");
  vm.signal(trigger);
  expect(cpu.cdia()).not.toBe(0n);
  vm.signal(trigger);
  cpu.cdeoi();
  cpu.cddi(spiOf(SPI));
  expect(acks()).toBe(0);
  serve(cpu);
  expect(acks()).toBe(1);
});

twice(
  "T78",
  "an edge that the guest itself takes back acknowledges nothing",
  (_on, setting) => {
    const { vm, cpu, trigger, acks } = resampled(setting, "edge");
    vm.signal(trigger);
    cpu.gic("CDDIS", spiOf(SPI));
    cpu.pend(spiOf(SPI), false);
    cpu.exec(a64.NOP);
    expect([acks(), vm.spi(SPI).iste & 3]).toEqual([0, 0]);
  },
  { bug: [tracking("seed004"), tracking("seed004-notifier-only")] },
);

it("a level that fell untaken is acknowledged by the seed, and not by the default", () => {
  for (const [policy, expected] of [
    ["exact", 0],
    ["seed004", 1],
  ] as const) {
    const { vm, cpu, acks } = resampled(tracking(policy));
    vm.line(SPI, 1);
    vm.line(SPI, 0);
    cpu.exec(a64.NOP);
    expect([policy, acks(), vm.counters.spuriousAcks]).toEqual([policy, expected, expected]);
  }
});

/** Three edges with listeners, each idle: the guest has taken them back. */
function threeIdle(setting: string): { vm: V5Vm; acks(): number[]; exit(): void } {
  const vm = new V5Vm({ settings: [setting] });
  const ids = [1, 2, 3];
  const resamplers = ids.map((id) => {
    vm.cpu.claim(id, "edge");
    return vm.resampler(id);
  });
  for (const { trigger } of resamplers) vm.signal(trigger);
  const unpend = ids.flatMap((id) => vm.cpu.words("CDPEND", BigInt(spiOf(id))));
  return {
    vm,
    acks: () => resamplers.map(({ resample }) => vm.count(resample)),
    exit: () => vm.cpu.exec(...unpend),
  };
}

it("T79: without memory the seed tells of those before, and of the rest at another exit", () => {
  const { vm, acks, exit } = threeIdle(tracking("seed004"));
  const fault = { kind: "vgic-v5-ack-alloc", nth: 2, vcpu: null, times: 1, delay: 0 } as const;
  vm.kvm.vm.host.faults.arm(fault);
  const first = grown(vm, exit);
  expect([acks(), vm.v5.inFlight()]).toEqual([
    [1, 0, 0],
    [2, 3],
  ]);
  expect(first).toMatchObject({ vdrcfgCalls: 2, allocFailures: 1, acks: 1 });
  expect([vm.spi(2).pendingLatch, vm.spi(3).pendingLatch]).toEqual([false, true]);
  vm.cpu.exec(a64.NOP);
  expect([acks(), vm.v5.inFlight()]).toEqual([[1, 1, 1], []]);
  expect(vm.counters.allocFailures).toBe(1);
});

it("while memory never comes, those behind the first starve", () => {
  const { vm, acks, exit } = threeIdle(tracking("seed004"));
  const fault = { kind: "vgic-v5-ack-alloc", nth: 1, vcpu: null, times: null, delay: 0 } as const;
  const { id } = vm.kvm.vm.host.faults.arm(fault);
  exit();
  for (let n = 0; n < 4; n++) vm.cpu.exec(a64.NOP);
  expect([acks(), vm.v5.inFlight(), vm.counters.allocFailures]).toEqual([[0, 0, 0], [1, 2, 3], 5]);
  vm.kvm.vm.host.faults.disarm(id);
  vm.cpu.exec(a64.NOP);
  expect(acks()).toEqual([1, 1, 1]);
});

it.each(["exact", "seed004"])(
  "T80: two vCPUs that leave together are one acknowledgement (%s)",
  (policy) => {
    const { vm, acks } = resampled(tracking(policy), "level", 2);
    const [first, second] = vm.cpus as [V5Guest, V5Guest];
    second.exec(a64.NOP);
    vm.line(SPI, 1);
    expect(first.cdia()).not.toBe(0n);
    vm.line(SPI, 0);
    first.cdeoi();
    const both = [first.begin(...first.words("CDDI", BigInt(spiOf(SPI)))), second.begin(a64.NOP)];
    for (const [n, one] of both.entries()) vm.cpus[n]?.finish(one);
    expect(acks()).toBe(1);
  },
);

it("T81: while nobody leaves the guest the seed says nothing; another vCPU's exit does", () => {
  const { vm, acks } = resampled(tracking("seed004"), "level", 2);
  const [first, second] = vm.cpus as [V5Guest, V5Guest];
  second.exec(a64.NOP);
  vm.line(SPI, 1);
  expect(first.cdia()).not.toBe(0n);
  vm.line(SPI, 0);
  first.cdeoi();
  // It deactivates, and then never leaves the guest by itself.
  const spins = first.begin(...first.words("CDDI", BigInt(spiOf(SPI))), a64.b(0));
  vm.pump(50);
  expect([acks(), vm.spi(SPI).iste & 2, vm.spi(SPI).isUnacknowledged]).toEqual([0, 0, true]);
  second.exec(a64.NOP);
  expect([acks(), vm.counters.lateAcks]).toEqual([1, 1]);
  expect(vm.counters.ackDelayNs).toBeGreaterThan(1000);
  vm.call("kick", { vcpu: 0 });
  expect(() => first.finish(spins)).toThrow(/INTR/);
});

it("T81: by the default the deactivation itself is the acknowledgement", () => {
  const { vm, cpu, trigger, acks } = resampled(null);
  vm.signal(trigger);
  expect(cpu.cdia()).not.toBe(0n);
  cpu.cdeoi();
  const spins = cpu.begin(...cpu.words("CDDI", BigInt(spiOf(SPI))), a64.b(0));
  vm.pump(20);
  expect([acks(), vm.counters.ackDelayNs]).toEqual([1, 0]);
  vm.call("kick", { vcpu: 0 });
  expect(() => cpu.finish(spins)).toThrow(/INTR/);
});

/** SPI 5 with a listener and SPI 6 without, both pending and never taken: ten exits. */
function tenExits(policy: string): Readonly<V5Counters> {
  const { vm, cpu, trigger } = resampled(tracking(policy));
  cpu.claim(OTHER);
  cpu.setIcc("ICC_CR0_EL1", 0n);
  vm.signal(trigger);
  vm.line(OTHER, 1);
  const { vdrcfgCalls, vdrcfgSkippedNoNotifier } = vm.counters;
  expect([vdrcfgCalls, vdrcfgSkippedNoNotifier]).toEqual([0, 0]);
  for (let n = 0; n < 10; n++) cpu.exec(a64.NOP);
  return vm.counters;
}

it("T82: with notifiers only, what the seed reads more is counted as saved", () => {
  const only = tenExits("seed004-notifier-only");
  expect(only).toMatchObject({ vdrcfgCalls: 10, vdrcfgSkippedNoNotifier: 10, maxListLen: 1 });
  const all = tenExits("seed004");
  expect(all).toMatchObject({ vdrcfgCalls: 20, vdrcfgSkippedNoNotifier: 0, maxListLen: 2 });
  expect(only.vdrcfgCalls + only.vdrcfgSkippedNoNotifier).toBe(all.vdrcfgCalls);
});

/** A mixed life of two SPIs, one with a listener; the same exits whatever the policy. */
function mixedLife(policy: string): Readonly<V5Counters> {
  const { vm, cpu, trigger } = resampled(tracking(policy), "edge");
  cpu.claim(OTHER);
  for (let n = 0; n < 3; n++) {
    vm.signal(trigger);
    vm.line(OTHER, 1);
    expect(cpu.cdia()).toBe(VALID | BigInt(spiOf(SPI)));
    cpu.cdeoi();
    if (n === 1) vm.signal(trigger);
    cpu.cddi(spiOf(SPI));
    if (n === 1) serve(cpu);
    expect(cpu.cdia()).toBe(VALID | BigInt(spiOf(OTHER)));
    vm.line(OTHER, 0);
    cpu.cdeoi();
    cpu.cddi(spiOf(OTHER));
  }
  return vm.counters;
}

it("T82: the reads of both add up over a whole life", () => {
  const [only, all] = [mixedLife("seed004-notifier-only"), mixedLife("seed004")];
  expect(only.vdrcfgCalls + only.vdrcfgSkippedNoNotifier).toBe(all.vdrcfgCalls);
  expect(only.vdrcfgSkippedNoNotifier).toBeGreaterThan(0);
  expect(all.acksWithoutNotifier).toBe(3);
  expect([only.acksWithoutNotifier, only.acks]).toEqual([0, all.acks - 3]);
});

it.each(["exact", "seed004", "seed004-notifier-only"])(
  "T83: who begins to listen while the SPI is in flight hears of its end (%s)",
  (policy) => {
    const vm = new V5Vm({ settings: [tracking(policy)] });
    vm.cpu.claim(SPI);
    vm.line(SPI, 1);
    expect(vm.cpu.cdia()).not.toBe(0n);
    if (policy === "exact") vm.line(SPI, 0);
    const { resample } = vm.resampler(SPI);
    expect(vm.v5.inFlight()).toEqual(policy === "exact" ? [] : [SPI]);
    vm.line(SPI, 0);
    vm.cpu.cdeoi();
    vm.cpu.cddi(spiOf(SPI));
    expect(vm.count(resample)).toBe(1);
  },
);

it.each(["exact", "seed004"])(
  "T84: a pin's end is told to the gsi that has the pin (%s)",
  (policy) => {
    const vm = new V5Vm({ settings: [tracking(policy)] });
    vm.cpu.claim(3);
    vm.call("setGsiRouting", { flags: 0, entries: [pinRoute(20, 3)] });
    const [far, near] = [vm.resampler(20), vm.resampler(3)];
    vm.line(3, 1);
    expect(vm.cpu.cdia()).not.toBe(0n);
    vm.line(3, 0);
    vm.cpu.cdeoi();
    vm.cpu.cddi(spiOf(3));
    expect([vm.count(far.resample), vm.count(near.resample)]).toEqual([1, 0]);
  },
);

it("T85: an SPI beyond the pins ends without anybody being told", () => {
  const vm = new V5Vm({ nrSpis: 1024, settings: [tracking("seed004")] });
  vm.cpu.claim(1000, "edge");
  vm.cpu.claim(987, "edge");
  vm.line(1000, 1);
  serve(vm.cpu, 1000);
  expect(vm.counters).toMatchObject({ acks: 0, acksWithoutNotifier: 0 });
  expect(vm.v5.inFlight()).toEqual([]);
  vm.line(987, 1);
  serve(vm.cpu, 987);
  expect(vm.counters).toMatchObject({ acks: 1, acksWithoutNotifier: 1 });
});

/** Injected while the vCPU is in the guest, which leaves as soon as a byte in memory says so. */
function lateVdpend(policy: string, latency: number, isDrained: boolean): Case {
  const settings = [tracking(policy), `hardware.vdpendLatency=${latency}`];
  const vm = new V5Vm({ settings });
  const { cpu } = vm;
  cpu.claim(SPI, "edge");
  const { trigger, resample } = vm.resampler(SPI);
  const flag = cpu.base + 0x3800;
  const words = [...a64.mov(1, BigInt(flag)), a64.ldrw(0, 1), a64.cbnz(0, 2), a64.b(-2)];
  const spins = cpu.begin(...words, ...(isDrained ? [gic("GSB_SYS", 31)] : []));
  vm.pump(20);
  vm.signal(trigger);
  vm.words(flag, [1]);
  cpu.finish(spins);
  return { vm, cpu, trigger, resample, acks: () => vm.count(resample) };
}

it("T86: a VDPEND that isn't there yet is taken for an end by the seed", () => {
  const { vm, cpu, acks } = lateVdpend("seed004", 1, false);
  expect([acks(), vm.v5.inFlight()]).toEqual([1, []]);
  // The hardware delivers it all the same, and its real end is told to nobody.
  serve(cpu);
  expect(acks()).toBe(1);
});

it.each([
  ["seed004", 1, true],
  ["seed004", 0, false],
  ["exact", 1, false],
] as const)(
  "T86: no end before it is there (%s, latency %i, GSB SYS %s)",
  (policy, latency, isDrained) => {
    const { cpu, acks } = lateVdpend(policy, latency, isDrained);
    expect(acks()).toBe(0);
    serve(cpu);
    expect(acks()).toBe(policy === "seed004" ? 1 : 0);
  },
);

it.each(["exact", "seed004", "seed004-notifier-only"])(
  "T93: who is told may inject again and detach others: nothing is locked (%s)",
  (policy) => {
    const { vm, cpu, acks } = resampled(tracking(policy));
    const other = vm.resampler(OTHER);
    const { onSpiAcked } = vm.kvm.vm;
    let isFirst = true;
    vm.kvm.vm.onSpiAcked = (pin) => {
      onSpiAcked?.(pin);
      if (!isFirst) return;
      isFirst = false;
      vm.kvm.vm.irqfds.irqfd({
        fd: other.trigger,
        gsi: OTHER,
        flags: 1,
        resamplefd: other.resample,
      });
      vm.kvm.vm.vgic.setSpi(SPI, true);
    };
    vm.line(SPI, 1);
    expect(cpu.cdia()).not.toBe(0n);
    vm.line(SPI, 0);
    cpu.cdeoi();
    cpu.cddi(spiOf(SPI));
    expect([acks(), vm.spi(SPI).lineLevel, vm.kvm.vm.ackNotifiers.has(0, OTHER)]).toEqual([
      1,
      true,
      false,
    ]);
    expect(cpu.cdia()).not.toBe(0n);
    vm.line(SPI, 0);
    cpu.cdeoi();
    cpu.cddi(spiOf(SPI));
    expect(acks()).toBe(2);
    expectBalance(vm);
  },
);

it("a line that falls while its rise is under way leaves nothing to wait for", () => {
  const settings = [tracking("exact"), "hardware.vdpendLatency=5"];
  const vm = new V5Vm({ settings });
  const { cpu } = vm;
  cpu.claim(SPI);
  vm.resampler(SPI);
  const flag = cpu.base + 0x3800;
  const spins = cpu.begin(...a64.mov(1, BigInt(flag)), a64.ldrw(0, 1), a64.cbnz(0, 2), a64.b(-2));
  vm.pump(20);
  vm.line(SPI, 1);
  vm.line(SPI, 0);
  vm.words(flag, [1]);
  cpu.finish(spins);
  expect(cpu.cdia()).toBe(0n);
  const traps = grown(vm, () => cpu.cddi(spiOf(OTHER)));
  expect(traps).toEqual({ exits: 1 });
});

it("a level that was an edge when it came is served and acknowledged once", () => {
  const { vm, cpu, trigger, acks } = resampled(null, "edge");
  vm.signal(trigger);
  cpu.setTrigger(SPI, "level");
  serve(cpu);
  expect([acks(), vm.spi(SPI).pending]).toEqual([1, false]);
  expect(cpu.cdia()).toBe(0n);
  vm.signal(trigger);
  serve(cpu);
  expect(acks()).toBe(2);
});

it("deactivations of others come to KVM only while one is awaited", () => {
  const { vm, cpu, trigger } = resampled(null);
  cpu.claim(OTHER, "edge");
  const others = () => {
    vm.line(OTHER, 1);
    serve(cpu, OTHER);
  };
  expect(grown(vm, others)).not.toHaveProperty("deactivationTraps");
  cpu.setIcc("ICC_PCR_EL1", 7n);
  vm.signal(trigger);
  cpu.setIcc("ICC_PCR_EL1", 31n);
  expect(cpu.cdia()).not.toBe(0n);
  cpu.cdeoi();
  expect(grown(vm, others)).toMatchObject({ deactivationTraps: 1 });
  cpu.cddi(spiOf(SPI));
  expect(grown(vm, others)).not.toHaveProperty("deactivationTraps");
});
