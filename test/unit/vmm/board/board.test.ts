// Goal: a board runs its guest as QEMU would: loads, console, PSCI, power switch, owned parts.
// Method: the guests of test/guest and a few words of code, on a VM inline, by commands alone.
import { describe, expect, it } from "vitest";
import { AssertionFailed } from "../../../../src/base/assert.js";
import * as a64 from "../../../support/a64.js";
import { guestImage, InlineBoard } from "../../../support/board.js";

const HELLO = guestImage("hello");
const SMP = guestImage("smp");
const PC = 0x6030_0000_0010_0040n;
const UART = 0x900_0000n;

const code = (...words: readonly number[]): Uint8Array => a64.bytesOf(words);
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

describe("a flat guest", () => {
  it("greets, takes a typed line and powers off", () => {
    const vm = InlineBoard.with(HELLO);
    expect(vm.view()).toMatchObject({
      state: "created",
      format: "flat",
      entry: 0x4008_0000n,
      dtb: 0x4040_0000n,
    });
    vm.act("start");
    vm.until("type a line\n");
    vm.typed("moin\r");
    vm.pumpUntil(() => vm.view().state === "shutdown");
    expect(vm.console()).toBe(
      "hello from a flat binary\ntype a line\nyou typed: moin\nEXIT: STATUS=1\n",
    );
    expect(vm.view().reason).toMatch(/switched itself off/);
    expect(vm.events()).toEqual(["running", "shutdown"]);
    expect(vm.kvm.vm.sched.contexts).toHaveLength(0);
  });

  it("brings a second core up and sees it go", () => {
    for (const schedule of ["round-robin", "seeded"] as const) {
      const vm = InlineBoard.with(SMP, { board: { vcpus: 2 }, vm: { schedule } });
      vm.act("start");
      vm.pumpUntil(() => vm.view().state === "shutdown");
      const expected = "core 0 is up\ncore 1 is up\ncore 1 is off\nEXIT: STATUS=1\n";
      expect(vm.console()).toBe(expected);
    }
  });

  it("runs with every page size of the host", () => {
    for (const pageSize of [4096, 16384, 65536] as const) {
      const vm = InlineBoard.with(SMP, { board: { vcpus: 2 }, vm: { pageSize } });
      vm.act("start");
      vm.pumpUntil(() => vm.view().state === "shutdown");
      expect(vm.console()).toContain("STATUS=1");
    }
  });

  it("finds zeros where no device is, and says so", () => {
    const vm = InlineBoard.with(
      code(...a64.mov(0, 0xa00_0000n), a64.ldrw(1, 0), a64.strb(1, 0), ...a64.powerOff()),
    );
    vm.act("start");
    vm.pumpUntil(() => vm.view().state === "shutdown");
    expect(vm.view().unassigned).toEqual({ count: 2, last: 0xa00_0000n });
  });

  it("crashes with a reason where the hardware describes no access", () => {
    const vm = InlineBoard.with(code(...a64.mov(0, UART), a64.ldp(1, 2, 0)), {
      board: { vcpus: 2 },
    });
    vm.act("start");
    vm.pumpUntil(() => vm.view().state === "crashed");
    expect(vm.view().reason).toMatch(/^vCPU 0 at PC 0x40080004 can't go on: .*ENOSYS/);
    expect(vm.events()).toEqual(["running", "crashed"]);
    vm.pump(50);
    expect(vm.kvm.vm.sched.contexts).toHaveLength(0);
    expect(vm.act("start").state).toBe("running");
    vm.pumpUntil(() => vm.view().state === "crashed");
    expect(vm.view().resets).toBe(1);
  });
});

describe("the power switch", () => {
  it("pauses, resumes and loses nothing that was typed", () => {
    const vm = InlineBoard.with(HELLO);
    vm.act("start");
    vm.until("type a line\n");
    expect(vm.act("pause").state).toBe("paused");
    expect(vm.kvm.vm.sched.contexts).toHaveLength(0);
    const at = vm.kvm.vm.instructions;
    vm.typed("abc\n");
    vm.pump(100);
    expect(vm.kvm.vm.instructions).toBe(at);
    expect(vm.call("getOneReg", { vcpu: 0, reg: PC }).value).toBeGreaterThan(0x4008_0000n);
    expect(vm.act("pause").state).toBe("paused");
    expect(vm.act("resume").state).toBe("running");
    vm.pumpUntil(() => vm.view().state === "shutdown");
    expect(vm.console()).toContain("you typed: abc\nEXIT: STATUS=1");
    expect(vm.events()).toEqual(["running", "paused", "running", "shutdown"]);
  });

  it("resets a guest that runs, and one that is paused, from its image", () => {
    const vm = InlineBoard.with(HELLO);
    vm.act("start");
    vm.until("type a line\n");
    // The guest's own data is what the image says again.
    vm.call("writePhysicalMemory", { gpa: 0x4008_0000n, bytes: new Uint8Array(4) });
    expect(vm.act("reset")).toMatchObject({ state: "running", resets: 1 });
    vm.pumpUntil(() => vm.console().split("type a line").length === 3);
    vm.act("pause");
    expect(vm.act("reset")).toMatchObject({ state: "paused", resets: 2 });
    expect(vm.call("getOneReg", { vcpu: 0, reg: PC }).value).toBe(0x4008_0000n);
    vm.act("resume");
    vm.pumpUntil(() => vm.console().split("type a line").length === 4);
    vm.typed("x\n");
    vm.pumpUntil(() => vm.view().state === "shutdown");
    const events = ["running", "reset", "paused", "reset", "running", "shutdown"];
    expect(vm.events()).toEqual(events);
  });

  it("resets when the guest asks by PSCI, all cores with it", () => {
    // The first time the flag is 0: it is set and the board reset. RAM keeps it.
    const vm = InlineBoard.with(
      code(
        ...a64.mov(1, 0x4010_0000n),
        a64.ldrw(2, 1),
        a64.subs(2, 2, 0),
        a64.bne(6),
        ...a64.mov(3, 1n),
        a64.strb(3, 1),
        ...a64.mov(0, 0x8400_0009n),
        a64.HVC,
        ...a64.powerOff(),
      ),
      { board: { vcpus: 3 } },
    );
    vm.act("start");
    vm.pumpUntil(() => vm.view().state === "shutdown");
    expect(vm.view().resets).toBe(1);
    expect(vm.events()).toEqual(["running", "reset", "shutdown"]);
    expect(vm.call("listVcpus", {}).map(({ mpState }) => mpState)).toEqual([5, 5, 5]);
  });

  it("powers off and on again", () => {
    const vm = InlineBoard.with(SMP, { board: { vcpus: 2 } });
    vm.act("start");
    vm.until("core 0 is up");
    expect(vm.act("power-off")).toMatchObject({ state: "shutdown" });
    expect(vm.act("power-off").state).toBe("shutdown");
    expect(vm.act("start").state).toBe("running");
    expect(vm.act("start").state).toBe("running");
    vm.pumpUntil(() => vm.view().state === "shutdown");
    expect(vm.console()).toContain("core 1 is off\n");
  });

  it("refuses what makes no sense", () => {
    const empty = new InlineBoard();
    expect(empty.refused("boardAction", { action: "start" })).toBe("board-state");
    const vm = InlineBoard.with(HELLO);
    for (const action of ["pause", "resume", "reset", "power-off"] as const) {
      expect([action, vm.refused("boardAction", { action })]).toEqual([action, "board-state"]);
    }
    expect(vm.refused("loadBoard", { image: HELLO, initrd: null })).toBe("board-state");
  });
});

describe("loading", () => {
  it("puts a Linux Image, initrd and device tree where QEMU does", () => {
    const image = new Uint8Array(4096);
    // The header's first word branches over it.
    image.set(code(a64.b(16)));
    image.set(code(...a64.powerOff()), 64);
    const header = new DataView(image.buffer);
    header.setBigUint64(8, 0x1_0000n, true);
    header.setBigUint64(16, 0x8000n, true);
    header.setUint32(56, 0x644d_5241, true);
    const initrd = Uint8Array.of(7, 8, 9);
    const vm = InlineBoard.with(image, { initrd, board: { cmdline: "quiet" } });
    expect(vm.view()).toMatchObject({
      format: "linux",
      entry: 0x4021_0000n,
      initrd: { start: 0x4040_0000n, end: 0x4040_0003n },
      dtb: 0x4060_0000n,
    });
    const at = (gpa: bigint, length: number) => vm.call("readPhysicalMemory", { gpa, length });
    expect(at(0x4040_0000n, 3)).toEqual(initrd);
    expect(text(at(0x4060_0000n, 2048))).toContain("quiet\0");
    vm.act("start");
    vm.pumpUntil(() => vm.view().state === "shutdown");
  });

  it("refuses what is no image, and what does not fit", () => {
    const refused = (image: Uint8Array, initrd: Uint8Array | null = null) =>
      new InlineBoard().refused("loadBoard", { image, initrd });
    expect(refused(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2))).toBe("image-format");
    expect(refused(Uint8Array.of(0x1f, 0x8b, 8))).toBe("image-format");
    expect(refused(new Uint8Array(0))).toBe("image-format");
    expect(refused(new Uint8Array(8 * 2 ** 20))).toBe("image-does-not-fit");
    expect(refused(HELLO, new Uint8Array(4 * 2 ** 20))).toBe("image-does-not-fit");
  });

  it("over the budget is ENOMEM", () => {
    const small = new InlineBoard({ vm: { budgetBytes: 2 ** 20 } });
    expect(small.refused("loadBoard", { image: HELLO, initrd: null })).toBe("ENOMEM");
  });
});

describe("what is the board's", () => {
  it("no client changes; looking, and what is beside it, is free", () => {
    const vm = InlineBoard.with(HELLO);
    const region = { flags: 0, guestPhysAddr: 0n, memorySize: 4096n, userspaceAddr: 0x7000_0000n };
    const more = { guestMemfd: 0, guestMemfdOffset: 0n };
    const ram = vm.call("listMemoryObjects", {})[0]?.id ?? -1;
    const owned = [
      () => vm.refused("run", { vcpu: 0, immediateExit: true, mmioData: null }),
      () => vm.refused("createVcpu", { id: 5 }),
      () => vm.refused("vcpuInit", { vcpu: 0, target: 5, features: [4n] }),
      () => vm.refused("setOneReg", { vcpu: 0, reg: PC, value: new Uint8Array(8) }),
      () => vm.refused("setRegs", { vcpu: 0, registers: [] }),
      () => vm.refused("setSignalMask", { vcpu: 0, len: 8, sigset: null }),
      () => vm.refused("setMpState", { vcpu: 0, mpState: 5 }),
      () => vm.refused("irqLine", { irq: 0, level: 1 }),
      () => vm.refused("irqLineStatus", { irq: 0, level: 1 }),
      () => vm.refused("setCounterOffset", { offset: 0n, reserved: 0n }),
      () => vm.refused("setVcpuAttr", { vcpu: 0, group: 1, attr: 0n, value: new Uint8Array(4) }),
      () => vm.refused("createDevice", { type: 7, flags: 0 }),
      () => vm.refused("createIrqchip", {}),
      () => vm.refused("setDeviceAddr", { id: 0n, addr: 0n }),
      () => vm.refused("setProgram", { vcpu: 0, program: { kind: "accesses", accesses: [] } }),
      () => vm.refused("setUserMemoryRegion", { slot: 0, ...region }),
      () => vm.refused("setUserMemoryRegion2", { slot: 0, ...region, ...more }),
      () => vm.refused("deleteMemoryObject", { id: ram }),
    ];
    for (const refused of owned) expect(refused()).toBe("owned-by-board");
    vm.slot(3, 4, { gpa: 0x1_0000_0000 });
    vm.kvm.vm.checkAlive("KVM_RUN");
    expect(vm.call("createDevice", { type: 4, flags: 0 })).not.toBeNull();
    expect(vm.call("listMemslots", {}).map(({ slot }) => slot)).toEqual([0, 3]);
    expect(vm.call("getOneReg", { vcpu: 0, reg: PC }).value).toBe(0x4008_0000n);
  });
});

describe("state", () => {
  const built = () => InlineBoard.with(HELLO);

  it("a paused board is restored into one like it and goes on the same way", () => {
    const original = built();
    original.act("start");
    original.until("type a line\n");
    original.typed("ab");
    original.act("pause");
    original.typed("c");
    const state = structuredClone(original.instance.machine.save());
    const copy = built();
    copy.instance.machine.load(state);
    expect(copy.instance.digest()).toEqual(original.instance.digest());
    for (const vm of [original, copy]) {
      vm.typed("\n");
      vm.act("resume");
      vm.pumpUntil(() => vm.view().state === "shutdown");
      expect(vm.console()).toContain("you typed: abc\n");
    }
    expect(copy.digest()).toBe(original.digest());
  });

  it("a board that runs is not restored: its vCPUs are under way", () => {
    const original = built();
    original.act("start");
    original.until("type a line\n");
    const state = original.instance.machine.save();
    expect(() => built().instance.machine.load(state)).toThrow(AssertionFailed);
  });

  it("typed bytes that nobody takes are bounded", () => {
    const vm = built();
    vm.call("typeConsole", { bytes: new Uint8Array(65_536) });
    expect(vm.refused("typeConsole", { bytes: new Uint8Array(17) })).toBe("console-full");
  });
});

describe("a board that is debugged", () => {
  const BRK_CLASS = 0x3cn;
  const debug = { bcr: [], bvr: [], wcr: [], wvr: [] };
  /** ENABLE and USE_SW_BP. */
  const watched = () => {
    const vm = InlineBoard.with(code(a64.NOP, a64.brk(3), a64.b(0)), { board: { vcpus: 2 } });
    vm.call("setGuestDebug", { vcpu: 0, control: 0x1_0001, ...debug });
    return vm;
  };

  it("pauses at a BRK and tells which; it is met again when it goes on", () => {
    const vm = watched();
    expect(vm.call("describeDebugStop", {})).toBe(null);
    vm.act("start");
    vm.pumpUntil(() => vm.view().state === "paused");
    vm.act("pause");
    const stop = vm.call("describeDebugStop", {});
    expect(stop).toMatchObject({ vcpu: 0, far: 0n });
    expect([(stop?.hsr ?? 0n) >> 26n, (stop?.hsr ?? 0n) & 0xffffn]).toEqual([BRK_CLASS, 3n]);
    expect(vm.call("readRegisters", { vcpu: 0, regs: [PC] })).toEqual([0x4008_0004n]);
    const copy = watched();
    copy.instance.machine.load(structuredClone(vm.instance.machine.save()));
    expect(copy.call("describeDebugStop", {})).toEqual(stop);
    vm.act("resume");
    vm.pumpUntil(() => vm.view().state === "paused");
    expect(vm.view().reason).toBe("vCPU 0 stopped for its debugger.");
  });

  it("runs only the vCPUs that it is told to, once", () => {
    const vm = watched();
    expect(vm.refused("resumeVcpus", { vcpus: [7n] })).toBe("board-state");
    vm.call("resumeVcpus", { vcpus: [1n] });
    vm.pump(100);
    expect(vm.view().state).toBe("running");
    expect(vm.call("describeVcpu", { vcpu: 0 }).state).toBe("idle");
    expect(vm.refused("resumeVcpus", { vcpus: [0n] })).toBe("board-state");
    vm.act("pause");
    expect(vm.call("describeDebugStop", {})).toBe(null);
    vm.act("resume");
    vm.pumpUntil(() => vm.view().state === "paused");
    expect(vm.call("describeDebugStop", {})?.vcpu).toBe(0);
  });
});
