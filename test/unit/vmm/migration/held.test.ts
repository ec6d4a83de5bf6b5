// Goal: a VM that is held runs nothing, of whichever kind it is, and is what it was afterwards.
// Method: boards in every state and clients' VMs in KVM_RUN are held, asked to run, and let go.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";
import { Guest } from "../../../support/guest.js";
import { BASE, Inline, type Pending } from "../../../support/inline.js";
import { hold, letGo, take } from "../../../support/moved.js";

const SPIN = a64.bytesOf([a64.add(1, 1, 1), a64.b(-1)]);

describe("a board that runs", () => {
  it("is paused, and goes on by itself", () => {
    const vm = InlineBoard.with(SPIN, { board: { vcpus: 2, gic: 3 } });
    vm.act("start");
    vm.pump(20);
    expect(hold(vm)).toEqual({ wasRunning: true });
    expect(vm.view()).toMatchObject({ state: "paused", reason: "It is being moved." });
    const { instructions } = vm.kvm.vm;
    vm.pump(50);
    expect(vm.kvm.vm.instructions).toBe(instructions);
    for (const action of ["resume", "start", "reset", "power-off"] as const) {
      expect(vm.refused("boardAction", { action })).toBe("vm-held");
    }
    expect(vm.refused("runBoard", { ns: 1n })).toBe("vm-held");
    expect(vm.refused("resumeVcpus", { vcpus: [0n] })).toBe("vm-held");
    // Holding it again changes nothing.
    expect(hold(vm)).toEqual({ wasRunning: true });
    expect(letGo(vm)).toEqual({ wasRunning: true });
    vm.pump(50);
    expect(vm.view().state).toBe("running");
    expect(vm.kvm.vm.instructions).toBeGreaterThan(instructions);
    expect(vm.events()).toEqual(["running", "paused", "running"]);
    expect(letGo(vm)).toEqual({ wasRunning: false });
  });

  it("is off when its guest went off meanwhile", () => {
    const vm = InlineBoard.with(a64.bytesOf(a64.powerOff()));
    const started = vm.begin("boardAction", { action: "start" });
    const held = vm.begin("holdVm", { hold: true, why: "It is being moved." });
    vm.finish(started);
    vm.finish(held);
    letGo(vm);
    vm.pumpUntil(() => vm.view().state === "shutdown");
    expect(vm.view().state).toBe("shutdown");
  });

  it("ends a stretch of virtual time early", () => {
    const vm = InlineBoard.with(SPIN);
    const stretch = vm.begin("runBoard", { ns: 10_000_000_000n });
    vm.pump(10);
    hold(vm);
    expect(vm.finish(stretch)).toMatchObject({ state: "paused" });
    letGo(vm);
    expect(vm.view().state).toBe("running");
  });
});

describe("a board that doesn't run", () => {
  it.each(["created", "paused", "shutdown"] as const)("stays %s", (state) => {
    const vm = InlineBoard.with(SPIN);
    if (state !== "created") vm.act("start");
    if (state === "paused") vm.act("pause");
    if (state === "shutdown") vm.act("power-off");
    expect(hold(vm)).toEqual({ wasRunning: false });
    expect(vm.view().state).toBe(state);
    expect(letGo(vm)).toEqual({ wasRunning: false });
    expect(vm.view().state).toBe(state);
  });
});

describe("a client's VM", () => {
  it("has its runs kicked, whatever they wait for, and takes no others", () => {
    const vm = new Guest();
    vm.boot(0, [a64.add(1, 1, 1), a64.b(-1)]);
    vm.boot(1, [a64.WFI, a64.b(-1)], BASE + 0x1000);
    vm.boot(2, [a64.NOP, a64.b(-1)], BASE + 0x2000, 5n);
    const runs: Pending<{ errno: string | null }>[] = [0, 1, 2].map((id) => vm.beginRun(id));
    vm.pump(60);
    expect(hold(vm)).toEqual({ wasRunning: true });
    for (const run of runs) expect(run.value).toMatchObject({ errno: "EINTR" });
    expect(vm.refused("run", { vcpu: 0, immediateExit: false, mmioData: null })).toBe("vm-held");
    expect(vm.refused("runVcpus", { vcpus: [0n] })).toBe("vm-held");
    const value = new Uint8Array(8);
    const reg = 0x6030_0000_0010_0000n;
    expect(vm.refused("setOneReg", { vcpu: 0, reg, value })).toBe("vm-held");
    expect(vm.refused("setRegs", { vcpu: 0, registers: [{ reg, value }] })).toBe("vm-held");
    expect(vm.refused("setSignalMask", { vcpu: 0, len: 8, sigset: 1n })).toBe("vm-held");
    expect(vm.refused("irqLineStatus", { irq: 0, level: 1 })).toBe("vm-held");
    expect(vm.refused("getOneReg", { vcpu: 0, reg })).toBeNull();
    expect(letGo(vm)).toEqual({ wasRunning: true });
    const again = vm.beginRun(0);
    vm.pump(20);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(again).retired).toBeGreaterThan(0);
  });

  it("ends runs that were begun together", () => {
    const vm = new Inline();
    vm.slot(0, 64);
    for (const id of [0, 1]) {
      vm.vcpu(id);
      vm.pattern(id, { base: BASE, bytes: 64 * 4096, count: 0 });
    }
    const runs = vm.begin("runVcpus", { vcpus: [0n, 1n] });
    vm.pump(30);
    hold(vm);
    expect(vm.finish(runs).map(({ errno }) => errno)).toEqual(["EINTR", "EINTR"]);
    letGo(vm);
  });

  it("waits for a hold that is under way", () => {
    const vm = new Inline();
    vm.slot(0, 64);
    vm.vcpu(0);
    vm.pattern(0, { base: BASE, bytes: 64 * 4096, count: 0 });
    vm.beginRun(0);
    vm.pump(9);
    const args = { hold: true, why: "One." };
    const both = [vm.begin("holdVm", args), vm.begin("holdVm", { ...args, why: "Two." })];
    const free = ["One.", "Two."].map((why) => vm.begin("holdVm", { hold: false, why }));
    for (const held of both) expect(vm.finish(held)).toEqual({ wasRunning: true });
    // The last one to let go lets it run.
    expect(free.map((one) => vm.finish(one).wasRunning)).toEqual([false, true]);
    expect(vm.refused("run", { vcpu: 0, immediateExit: true, mmioData: null })).toBeNull();
  });
});

describe("state", () => {
  it("is saved and loaded while the VM is held, and not before", () => {
    const vm = new Inline();
    expect(vm.refused("saveState", {})).toBe("vm-not-held");
    expect(vm.refused("loadState", { parts: [] })).toBe("vm-not-held");
    hold(vm);
    const { parts } = take(vm);
    letGo(vm);
    expect(vm.refused("saveState", {})).toBe("vm-not-held");
    expect(parts.map(({ kind }) => kind)).toContain("time");
  });

  it.each([
    ["an assigned device", (vm: Inline) => void vm.call("openVfioFile", {})],
    ["its registers", (vm: Inline) => void vm.ram(4096, { backing: "device" })],
    [
      "pages of a guest_memfd",
      (vm: Inline) => {
        const { id } = vm.call("createGuestMemfd", { size: 4096n, flags: 1n });
        vm.call("fallocateGuestMemfd", { id, mode: 1, offset: 0n, length: 4096n });
      },
    ],
  ])("stays with its host because of %s", (_what, act) => {
    const vm = new Inline();
    expect(vm.refused("describeMemory", {})).toBeNull();
    act(vm);
    expect(vm.refused("describeMemory", {})).toBe("vm-not-movable");
    hold(vm);
    expect(vm.refused("saveState", {})).toBe("vm-not-movable");
  });
});
