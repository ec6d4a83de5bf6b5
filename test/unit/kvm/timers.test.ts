// Goal: timers fire at the exact instruction, reach userspace, wake who sleeps, and replay exactly.
// Method: small guests on a VM inline; virtual time counted by hand, wall time by a manual clock.
import { describe, expect, it } from "vitest";
import { ManualClock } from "../../../src/base/clock.js";
import * as a64 from "../../support/a64.js";
import {
  FIQ_VECTOR,
  Guest,
  INTR,
  IRQ_VECTOR,
  OFF,
  PC,
  S,
  VECTORS,
  X,
} from "../../support/guest.js";
import { BASE } from "../../support/inline.js";

const CNTV_CTL = S(3, 3, 14, 3, 1);
const CNTV_CVAL = 0x6030_0000_0013_df02n;
const TIMER_CNT = 0x6030_0000_0013_df1an;
const PTIMER_CTL = 0x6030_0000_0013_df11n;
const PTIMER_CVAL = 0x6030_0000_0013_df12n;
const PTIMER_CNT = 0x6030_0000_0013_df01n;
const VTIMER = 1;
const PTIMER = 2;

/** Arms the virtual timer `ticks` from the moment that TVAL is written. */
const arm = (ticks: bigint): number[] => [
  ...a64.mov(1, 1n),
  ...a64.mov(0, ticks),
  a64.msr("CNTV_TVAL_EL0", 0),
  a64.msr("CNTV_CTL_EL0", 1),
];

describe("without an in-kernel controller", () => {
  it.each([1, 3, 7])("a run ends where the line rises, at %d ns an instruction", (ns) => {
    const clock = { mode: "virtual" as const, nsPerInstruction: ns, idle: "jump" as const };
    const vm = new Guest({ clock });
    vm.boot(0, [...arm(1000n), a64.add(2, 2, 1), a64.b(-1)]);
    expect(vm.run()).toMatchObject({ ...INTR, deviceIrqLevel: VTIMER });
    // TVAL is written after two movs; the line is high from the first count at or past CVAL on.
    const until = 2 + Math.ceil(1000 / ns);
    expect(vm.call("describeVcpu", { vcpu: 0 }).retired).toBe(until);
    expect(vm.get(CNTV_CTL)).toBe(5n);
    expect(vm.get(TIMER_CNT)).toBe(BigInt(until * ns));
    expect(vm.get(CNTV_CVAL)).toBe(BigInt(1000 + 2 * ns));
  });

  it("in code that is hot too, millions of instructions on", () => {
    const vm = new Guest();
    vm.boot(0, [...arm(0x30_0000n), a64.add(2, 2, 1), a64.subs(31, 2, 7), a64.b(-2)]);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 2 + 0x30_0000, deviceIrqLevel: VTIMER });
    // Four before the loop of three.
    expect(vm.get(X(2))).toBe(BigInt(Math.ceil((2 + 0x30_0000 - 4) / 3)));
  });

  it("userspace raises IRQ, the guest masks its timer, and userspace hears of that too", () => {
    const vm = new Guest();
    const spin = [a64.daifclr(2), ...arm(500n), a64.add(2, 2, 1), a64.b(-1)];
    vm.boot(0, spin);
    vm.put(IRQ_VECTOR, [
      a64.mrs(5, "ISR_EL1"),
      a64.mrs(6, "ELR_EL1"),
      ...a64.mov(0, 3n),
      a64.msr("CNTV_CTL_EL0", 0),
      ...a64.powerOff(),
    ]);
    expect(vm.run()).toMatchObject({ ...INTR, deviceIrqLevel: VTIMER });
    const interrupted = vm.get(PC);
    vm.irq(1);
    expect(vm.run()).toMatchObject({ ...INTR, deviceIrqLevel: 0, retired: 4 });
    expect([vm.get(X(5)), vm.get(X(6))]).toEqual([0x80n, interrupted]);
    vm.irq(0);
    expect(vm.run()).toMatchObject({ ...OFF, deviceIrqLevel: 0 });
  });

  it("the physical timer has its bit; both can be high; FIQ has its vector", () => {
    const vm = new Guest();
    vm.boot(0, [
      ...arm(60n),
      ...a64.mov(0, 30n),
      a64.msr("CNTP_TVAL_EL0", 0),
      a64.msr("CNTP_CTL_EL0", 1),
      a64.b(0),
    ]);
    vm.put(FIQ_VECTOR, [a64.mrs(7, "ISR_EL1"), ...a64.powerOff()]);
    expect(vm.run()).toMatchObject({ ...INTR, deviceIrqLevel: PTIMER });
    expect(vm.run()).toMatchObject({ ...INTR, deviceIrqLevel: PTIMER | VTIMER });
    vm.call("irqLine", { irq: 1, level: 1 });
    const masked = vm.beginRun();
    vm.pump(10);
    expect(masked.done).toBe(false);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(masked)).toMatchObject({ ...INTR, deviceIrqLevel: PTIMER | VTIMER });
    vm.set(S(3, 0, 12, 0, 0), BigInt(VECTORS));
    vm.set(0x6030_0000_0010_0042n, 0x385n);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(7))).toBe(0x40n);
  });

  it("a level that changed between two runs ends the second before it begins", () => {
    const vm = new Guest();
    vm.boot(0, [a64.b(0)]);
    vm.set(CNTV_CVAL, 0n);
    vm.set(CNTV_CTL, 1n);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 0, deviceIrqLevel: VTIMER });
    vm.set(CNTV_CTL, 3n);
    // What kvm_run says stays as it was when a run is over before it begins.
    expect(vm.run(0, { immediateExit: true })).toMatchObject({ deviceIrqLevel: VTIMER });
    expect(vm.run()).toMatchObject({ ...INTR, retired: 0, deviceIrqLevel: 0 });
  });

  it("a reset lowers timers and the lines that userspace drives", () => {
    const vm = new Guest();
    vm.boot(0, [a64.daifclr(2), ...a64.powerOff()]);
    vm.irq(1);
    vm.set(CNTV_CTL, 1n);
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    vm.set(PC, BigInt(BASE));
    expect(vm.get(CNTV_CTL)).toBe(4n);
    expect(vm.run()).toMatchObject({ ...OFF, deviceIrqLevel: 0 });
  });
});

/** A bit less than a millisecond: one word of code makes it. */
const MS = 0xf_0000n;

describe("WFI", () => {
  const sleep = [...arm(MS), a64.WFI, a64.mrs(3, "CNTVCT_EL0"), ...a64.powerOff()];

  it("in virtual time jumps to the timer, to the tick", () => {
    const vm = new Guest();
    vm.boot(0, sleep);
    expect(vm.run()).toMatchObject({ ...INTR, deviceIrqLevel: VTIMER });
    const { virtualNs, instructions } = vm.call("describe", {});
    expect([instructions, virtualNs]).toEqual([5, Number(MS) + 2]);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(3))).toBe(MS + 2n);
  });

  it("with a masked timer only userspace wakes it, and the clock stops", () => {
    const vm = new Guest();
    const words = [...arm(1000n), ...a64.mov(0, 3n), a64.msr("CNTV_CTL_EL0", 0), a64.WFI];
    vm.boot(0, [...words, ...a64.powerOff()]);
    const run = vm.beginRun();
    vm.pump(50);
    expect(run.done).toBe(false);
    const { steps, virtualNs } = vm.call("describe", {});
    vm.pump(50);
    expect(vm.call("describe", {})).toMatchObject({ steps, virtualNs });
    // Masked at the PE, it ends the WFI all the same.
    vm.irq(1);
    expect(vm.finish(run)).toMatchObject(OFF);
  });

  it("a vCPU that waits is woken while another one runs on", () => {
    const vm = new Guest({ hostCpus: 1 });
    const flag = BASE + 0x8000;
    vm.boot(0, [
      ...arm(100_000n),
      a64.WFI,
      a64.mrs(3, "CNTVCT_EL0"),
      ...a64.mov(4, BigInt(flag)),
      a64.str(3, 4),
      ...a64.powerOff(),
    ]);
    vm.boot(
      1,
      [...a64.mov(4, BigInt(flag)), 0xf940_0085, 0xb4ff_ffe5, ...a64.powerOff()],
      BASE + 0x1000,
    );
    const waiting = vm.beginRun(0);
    const spinning = vm.beginRun(1);
    expect(vm.finish(waiting)).toMatchObject({ ...INTR, deviceIrqLevel: VTIMER });
    expect(vm.finish(vm.beginRun(0))).toMatchObject(OFF);
    vm.call("kick", { vcpu: 1 });
    vm.finish(spinning);
    const woke = vm.get(X(3), 0);
    expect(woke).toBeGreaterThanOrEqual(100_002n);
    // Runnable at its tick; then the other one's turn, a few slices, comes to its end.
    const slice = vm.kvm.vm.vcpus[1]!.engine.sliceMax;
    expect(woke).toBeLessThan(100_002n + 5n * BigInt(slice));
  });

  it("a timer beyond what can be counted never comes", () => {
    const vm = new Guest();
    vm.boot(0, [a64.WFI, ...a64.powerOff()]);
    vm.set(CNTV_CVAL, 2n ** 63n);
    vm.set(CNTV_CTL, 1n);
    const run = vm.beginRun();
    vm.pump(50);
    expect([run.done, vm.instance.msToSleep()]).toEqual([false, Number.POSITIVE_INFINITY]);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run)).toMatchObject(INTR);
  });

  it.each([
    ["wall", "jump"],
    ["virtual", "paced"],
  ] as const)("in %s time, %s, real time wakes it", (mode, idle) => {
    const time = new ManualClock(5000);
    const vm = new Guest({ clock: { mode, nsPerInstruction: 1, idle }, time });
    vm.boot(0, sleep);
    const run = vm.beginRun();
    // A paced VM may not even run ahead of real time.
    if (idle === "paced") time.advance(0.25);
    const before = Number(MS) / 1e6 - (idle === "paced" ? 0.25 : 0);
    vm.pump(50);
    expect(run.done).toBe(false);
    expect(vm.instance.msToSleep()).toBeCloseTo(before, 4);
    time.advance(before - 0.25);
    vm.pump(50);
    expect([run.done, vm.instance.msToSleep()]).toEqual([false, expect.closeTo(0.25, 4)]);
    time.advance(0.26);
    vm.pump(50);
    expect(run.value).toMatchObject({ ...INTR, deviceIrqLevel: VTIMER });
  });
});

/** Real time goes on with every look at it. */
class Ticking extends ManualClock {
  override monotonicMs(): number {
    this.advance(0.0005);
    return super.monotonicMs();
  }
}

describe("WFI in wall time", () => {
  // Steps of the clock that a run takes before it sleeps: somewhere among these the timer fires.
  it.each(Array.from({ length: 60 }, (_, at) => at))(
    "never sleeps past a timer that fires on the way, %d looks at the clock later",
    (looks) => {
      const clock = { mode: "wall", nsPerInstruction: 1, idle: "jump" } as const;
      const time = new Ticking(5000);
      const vm = new Guest({ clock, time });
      vm.boot(0, [...arm(BigInt(looks * 500)), a64.WFI, a64.b(-1)]);
      const run = vm.beginRun();
      for (let n = 0; n < 200 && !run.done; n++) vm.pump(50);
      expect(run.value).toMatchObject({ ...INTR, deviceIrqLevel: VTIMER });
    },
  );
});

describe("WFE", () => {
  it("goes on at once when the event register is set, and gives its turn up when not", () => {
    const vm = new Guest();
    vm.boot(0, [a64.SEV, a64.WFE, a64.WFE, a64.WFE, ...a64.powerOff()]);
    expect(vm.run()).toMatchObject({ ...OFF, retired: 7 });
    // SEV's own event is taken by the first WFE; the others leave the guest, as the HVC does.
    expect(vm.counter("exits")).toBe(2 + 1 + faults(vm));
  });

  const faults = (vm: Guest) => vm.counter("s2MapFaults") + vm.counter("s2WriteFaults");

  it.each([
    ["rising", 0],
    ["falling", 8],
  ] as const)("the event stream sets it at %s edges of the counter's bit", (_name, dir) => {
    const vm = new Guest();
    // Bit 8 of the counter; the first WFE waits for an edge, the next one comes meanwhile.
    const head = [...a64.mov(0, BigInt(4 | dir | (8 << 4))), a64.msr("CNTKCTL_EL1", 0)];
    const nops = new Array<number>(512).fill(a64.NOP);
    vm.boot(0, [...head, a64.WFE, ...nops, a64.WFE, ...a64.powerOff()]);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.counter("exits")).toBe(1 + 1 + faults(vm));
  });

  it.each([
    ["rising", 0, 256n],
    ["falling", 8, 512n],
  ] as const)("sleeps until the %s edge of the event stream", (_name, dir, edge) => {
    const vm = new Guest();
    const head = [...a64.mov(0, BigInt(4 | dir | (8 << 4))), a64.msr("CNTKCTL_EL1", 0)];
    const wfe = [a64.WFE, a64.mrs(1, "CNTVCT_EL0"), a64.WFE, a64.mrs(2, "CNTVCT_EL0")];
    vm.boot(0, [...head, ...wfe, ...a64.powerOff()]);
    expect(vm.run()).toMatchObject(OFF);
    expect([vm.get(X(1)), vm.get(X(2))]).toEqual([edge, edge + 512n]);
  });

  it("an event of another vCPU ends it before that, and so does an interrupt", () => {
    const vm = new Guest();
    const head = [...a64.mov(0, BigInt(4 | (15 << 4))), a64.msr("CNTKCTL_EL1", 0)];
    const sleeper = [...head, a64.WFE, a64.mrs(1, "CNTVCT_EL0"), ...a64.powerOff()];
    vm.boot(0, sleeper);
    // After its event it leaves the guest, so that the other one is alone.
    const device = [...a64.mov(4, 0x900_0000n), a64.SEV, a64.strb(4, 4)];
    const count = [...a64.mov(3, 1000n), a64.subs(3, 3, 1), a64.bne(-1)];
    vm.boot(1, [...count, ...device], BASE + 0x1000);
    const runs = [vm.beginRun(0), vm.beginRun(1)];
    expect(vm.finish(runs[0]!)).toMatchObject(OFF);
    expect(vm.finish(runs[1]!)).toMatchObject({ exitReason: "KVM_EXIT_MMIO" });
    expect(vm.get(X(1))).toBeGreaterThan(2000n);
    expect(vm.get(X(1))).toBeLessThan(10_000n);

    const alone = new Guest();
    alone.boot(0, sleeper);
    const run = alone.beginRun();
    alone.pump(2);
    alone.irq(1);
    expect(alone.finish(run)).toMatchObject(OFF);
    expect(alone.get(X(1))).toBeLessThan(32_768n);
  });

  it("a vCPU that spins on WFE leaves the CPU to the others", () => {
    const vm = new Guest({ hostCpus: 1 });
    vm.boot(0, [a64.WFE, a64.b(-1)]);
    vm.boot(
      1,
      [...a64.mov(3, 1000n), a64.subs(3, 3, 1), a64.bne(-1), ...a64.powerOff()],
      BASE + 0x1000,
    );
    const spinning = vm.beginRun(0);
    expect(vm.finish(vm.beginRun(1))).toMatchObject(OFF);
    expect(vm.call("describeVcpu", { vcpu: 0 }).retired).toBeLessThan(100);
    vm.call("kick", { vcpu: 0 });
    vm.finish(spinning);
  });
});

describe("registers of the timers", () => {
  it("ISTATUS tells of an expired timer that is off, and can't be written", () => {
    const vm = new Guest();
    vm.boot(0, []);
    for (const [ctl, cval, cnt] of [
      [CNTV_CTL, CNTV_CVAL, TIMER_CNT],
      [PTIMER_CTL, PTIMER_CVAL, PTIMER_CNT],
    ] as const) {
      vm.set(cval, 5000n);
      expect(vm.get(ctl)).toBe(0n);
      vm.set(ctl, 7n);
      expect(vm.get(ctl)).toBe(3n);
      vm.set(cnt, 5000n);
      expect([vm.get(ctl), vm.get(cnt)]).toEqual([7n, 5000n]);
      vm.set(ctl, 0n);
      expect(vm.get(ctl)).toBe(4n);
    }
  });

  it("a counter that is moved past CVAL fires, and behind it takes the line back", () => {
    const vm = new Guest();
    vm.boot(0, [a64.b(0)]);
    vm.set(CNTV_CVAL, 10_000n);
    vm.set(CNTV_CTL, 1n);
    vm.set(TIMER_CNT, 2n ** 64n - 100n);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 0, deviceIrqLevel: VTIMER });
    // The counter wraps: 100 instructions later the line falls by itself.
    expect(vm.run()).toMatchObject({ ...INTR, retired: 100, deviceIrqLevel: 0 });
    expect(vm.get(TIMER_CNT)).toBe(0n);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 10_000, deviceIrqLevel: VTIMER });
  });

  it("TVAL is signed: in the past it fires at once", () => {
    const vm = new Guest();
    vm.boot(0, [...arm(0xffff_ffffn), a64.b(0)]);
    vm.set(TIMER_CNT, 1000n);
    expect(vm.run()).toMatchObject({ ...INTR, retired: 5, deviceIrqLevel: VTIMER });
    expect(vm.get(CNTV_CVAL)).toBe(1002n);
  });
});

/** A guest that programs its timer, sleeps, and takes its interrupts, ten times. */
function ticker(options: ConstructorParameters<typeof Guest>[0], sliceMax?: number): Guest {
  const vm = new Guest(options);
  const loop = [...a64.mov(1, 1n), ...a64.mov(9, 777n)];
  const again = [
    a64.msr("CNTV_TVAL_EL0", 9),
    a64.msr("CNTV_CTL_EL0", 1),
    a64.daifclr(2),
    a64.add(2, 2, 1),
    a64.mrs(4, "CNTVCT_EL0"),
    a64.WFI,
    ...a64.mov(5, 300n),
    a64.subs(5, 5, 1),
    a64.bne(-1),
    a64.add(9, 9, 13),
    a64.subs(31, 20, 10),
  ];
  vm.boot(0, [...loop, ...again, a64.bne(-again.length), ...a64.powerOff()]);
  vm.put(IRQ_VECTOR, [
    a64.add(20, 20, 1),
    a64.mrs(21, "CNTVCT_EL0"),
    0xca15_02d6,
    ...a64.mov(0, 3n),
    a64.msr("CNTV_CTL_EL0", 0),
    a64.ERET,
  ]);
  if (sliceMax !== undefined) {
    const engine = vm.kvm.vm.vcpus[0]!.a64!;
    Object.defineProperty(engine, "sliceMax", { value: sliceMax });
  }
  return vm;
}

/** Runs it as a userspace controller would: level by level. */
function drive(vm: Guest): number {
  for (let runs = 1; runs < 200; runs++) {
    const { errno, deviceIrqLevel } = vm.run();
    if (errno === null) return runs;
    vm.irq(deviceIrqLevel === 0 ? 0 : 1);
  }
  throw new Error("the guest never came to its end");
}

describe("exact time", () => {
  it("slices of any size give the same VM, to the bit", () => {
    const seen = [undefined, 20_000, 997, 64, 3].map((sliceMax) => {
      const vm = ticker({}, sliceMax);
      const runs = drive(vm);
      const { parts } = vm.instance.digest();
      expect(vm.get(X(20))).toBe(10n);
      return { runs, parts: { ...parts, scheduler: "" }, time: vm.call("describe", {}).virtualNs };
    });
    for (const other of seen.slice(1)) expect(other).toEqual(seen[0]);
  });

  it("drawn slices do too", () => {
    const seen = [1n, 2n, 3n].map((seed) => {
      const vm = ticker({ schedule: "seeded", seed });
      drive(vm);
      return [vm.get(X(2)), vm.get(X(22)), vm.get(TIMER_CNT), vm.call("describe", {}).virtualNs];
    });
    for (const other of seen.slice(1)) expect(other).toEqual(seen[0]);
  });

  it("a jump is a step: commands on either side of it replay there", () => {
    const build = () => ticker({});
    const vm = build();
    const script: { stamp: ReturnType<typeof vm.instance.submit>; name: string }[] = [];
    const log = (name: "run" | "irqLine", args: object) => {
      const stamp = vm.instance.submit({ name, args } as never, () => {});
      script.push({ stamp, name });
      return { name, args };
    };
    const commands: { name: string; args: object }[] = [];
    for (let n = 0; n < 12; n++) {
      commands.push(log("run", { vcpu: 0, immediateExit: false, mmioData: null }));
      // Sometimes before the jump, sometimes after it.
      vm.pump(2 + (n % 5));
      commands.push(log("irqLine", { irq: 0, level: n % 2 }));
      vm.pump(30);
    }
    const again = build();
    for (const [at, { stamp }] of script.entries()) {
      expect(again.instance.advanceTo(stamp)).toBeNull();
      expect(again.instance.submit(commands[at] as never, () => {})).toEqual(stamp);
    }
    again.pump(30);
    expect(again.digest()).toBe(vm.digest());
  });
});
