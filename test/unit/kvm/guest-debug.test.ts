// Goal: KVM_SET_GUEST_DEBUG as debuggers use it: steps, breakpoints, watchpoints and BRK exit, and
// the guest notices nothing. Method: guests that are run from exit to exit.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import {
  brk,
  daifClr,
  dbgBcr,
  dbgBvr,
  Guest,
  K4,
  ldr,
  mrs,
  msr,
  NOP,
  PC,
  PSTATE,
  report,
  SYS,
  UART,
  useVectors,
  VECTORS,
  X,
} from "../../support/guest-code.js";
import { BASE, Inline } from "../../support/inline.js";

const ENABLE = 1;
const SINGLESTEP = 2;
const USE_SW_BP = 1 << 16;
const USE_HW = 1 << 17;
const STEPPED = { exitReason: "KVM_EXIT_DEBUG", debug: { hsr: 0xcb00_0022n, far: 0n } };
const OFF = { exitReason: "KVM_EXIT_SYSTEM_EVENT" };
const BREAK = 1n | (3n << 1n) | (0xfn << 5n);
const DATA = BASE + 0x8000;
const at = (word: number): bigint => BigInt(BASE + 4 * word);

interface Registers {
  bcr?: bigint[];
  bvr?: bigint[];
  wcr?: bigint[];
  wvr?: bigint[];
}
function debug(vm: Inline, control: number, registers: Registers = {}): void {
  const none = { bcr: [], bvr: [], wcr: [], wvr: [] };
  vm.call("setGuestDebug", { vcpu: 0, control, ...none, ...registers });
}

describe("single steps", () => {
  it("exit after each instruction, also branches, and end with it", () => {
    const vm = new Guest([...a64.mov(5, 2n), a64.subs(5, 5, 1), a64.bne(-1), ...a64.powerOff()]);
    debug(vm, ENABLE | SINGLESTEP);
    const pcs: bigint[] = [];
    for (let n = 0; n < 6; n++) {
      expect(vm.run()).toMatchObject({ ...STEPPED, errno: null, retired: 1 });
      pcs.push(vm.get(PC));
    }
    expect(pcs).toEqual([at(1), at(2), at(1), at(2), at(3), at(4)]);
    debug(vm, 0);
    expect(vm.run()).toMatchObject(OFF);
  });

  it("tell of a load-exclusive", () => {
    const LDXR = 0xc85f_7c22;
    const vm = new Guest([...a64.mov(1, BigInt(DATA)), LDXR]);
    debug(vm, ENABLE | SINGLESTEP);
    const hsr = a64.mov(1, BigInt(DATA)).map(() => vm.run().debug?.hsr);
    expect(new Set(hsr)).toEqual(new Set([0xcb00_0022n]));
    expect(vm.run().debug?.hsr).toBe(0xcb00_0062n);
  });

  it("an exception that the guest takes is a step to its vector", () => {
    const vm = new Guest([...useVectors(), a64.svc(1)]);
    debug(vm, ENABLE | SINGLESTEP);
    for (const _ of useVectors()) expect(vm.run()).toMatchObject(STEPPED);
    expect(vm.run()).toMatchObject(STEPPED);
    expect(vm.get(PC)).toBe(BigInt(VECTORS + 0x200));
  });

  it("an exit between two steps comes first, and its instruction is the step", () => {
    const vm = new Guest([...a64.mov(1, UART), a64.ldrw(2, 1), NOP, ...a64.powerOff()]);
    const before = a64.mov(1, UART).length;
    debug(vm, ENABLE | SINGLESTEP);
    for (let n = 0; n < before; n++) expect(vm.run()).toMatchObject(STEPPED);
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
    expect(vm.run(0, { mmioData: [1, 0, 0, 0] })).toMatchObject(STEPPED);
    expect([vm.get(PC), vm.get(X(2))]).toEqual([at(before + 1), 1n]);
    expect(vm.run()).toMatchObject(STEPPED);
    expect(vm.get(PC)).toBe(at(before + 2));
  });

  it("a call to KVM is one step", () => {
    const vm = new Guest([...a64.mov(0, 0x8400_0000n), a64.HVC, NOP]);
    const before = a64.mov(0, 0x8400_0000n).length;
    debug(vm, ENABLE | SINGLESTEP);
    for (let n = 0; n < before; n++) vm.run();
    expect(vm.run()).toMatchObject(STEPPED);
    expect([vm.get(PC), vm.get(X(0))]).toEqual([at(before + 1), 0x1_0003n]);
  });

  it("the guest sees neither bits of PSTATE nor of MDSCR_EL1", () => {
    const vm = new Guest([mrs(5, SYS.MDSCR_EL1), a64.svc(0)]);
    debug(vm, ENABLE | SINGLESTEP);
    vm.run();
    expect([vm.get(X(5)), vm.get(PSTATE)]).toEqual([0n, 0x3c5n]);
  });
});

describe("breakpoints of the host", () => {
  it("BRK exits where it is; without the host it is the guest's", () => {
    const vm = new Guest([...useVectors(), NOP, brk(0x77)]);
    const where = at(useVectors().length + 1);
    vm.onSync(report());
    debug(vm, ENABLE | USE_SW_BP);
    expect(vm.run()).toMatchObject({ ...STEPPED, debug: { hsr: 0xf200_0077n, far: 0n } });
    expect(vm.get(PC)).toBe(where);
    debug(vm, 0);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(20, 21)).toEqual([0xf200_0077n, where]);
  });

  it("hardware's stop before the instruction, masked or not, until they are moved on", () => {
    const vm = new Guest([NOP, NOP, a64.add(5, 5, 1), ...a64.powerOff()]);
    debug(vm, ENABLE | USE_HW, { bcr: [0n, BREAK], bvr: [0n, at(2)] });
    const stop = { ...STEPPED, debug: { hsr: 0xc200_0022n, far: 0n } };
    expect(vm.run()).toMatchObject({ ...stop, retired: 2 });
    expect([vm.get(PC), vm.get(X(5))]).toEqual([at(2), 0n]);
    expect(vm.run()).toMatchObject({ ...stop, retired: 0 });
    debug(vm, ENABLE | USE_HW | SINGLESTEP);
    expect(vm.run()).toMatchObject(STEPPED);
    debug(vm, ENABLE | USE_HW, { bcr: [BREAK], bvr: [at(2)] });
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(5))).toBe(1n);
  });

  it("watchpoints tell the address", () => {
    const vm = new Guest([
      ...a64.mov(1, BigInt(DATA)),
      a64.str(1, 1),
      ldr(2, 1),
      ...a64.powerOff(),
    ]);
    const STORES = 1n | (3n << 1n) | (2n << 3n) | (0xffn << 5n);
    debug(vm, ENABLE | USE_HW, { wcr: [0n, 0n, 0n, STORES], wvr: [0n, 0n, 0n, BigInt(DATA)] });
    const where = at(a64.mov(1, BigInt(DATA)).length);
    expect(vm.run()).toMatchObject({
      exitReason: "KVM_EXIT_DEBUG",
      debug: { hsr: 0xd200_0062n, far: BigInt(DATA) },
    });
    expect(vm.get(PC)).toBe(where);
    debug(vm, 0);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(2))).toBe(BigInt(DATA));
  });

  it("the guest's own wait meanwhile, and its registers stay its own", () => {
    const own = [
      ...a64.mov(1, BigInt(BASE + 3 * K4)),
      msr(dbgBvr(0), 1),
      ...a64.mov(2, BREAK),
      msr(dbgBcr(0), 2),
      ...a64.mov(3, (1n << 13n) | (1n << 15n)),
      msr(SYS.MDSCR_EL1, 3),
      daifClr(8),
      mrs(6, dbgBvr(0)),
      0xd61f_0020,
    ];
    for (const control of [0, ENABLE]) {
      const vm = new Guest([...useVectors(), ...own]);
      vm.code(BASE + 3 * K4, a64.powerOff());
      vm.onSync(report());
      debug(vm, control);
      expect(vm.run()).toMatchObject(OFF);
      expect(vm.xs(6, 20)).toEqual([BigInt(BASE + 3 * K4), control === 0 ? 0xc600_0022n : 0n]);
    }
  });
});

describe("code that is hot", () => {
  const before = a64.mov(1, BigInt(DATA)).length;
  /** Endless: counts in X5 and stores it. */
  const words = [...a64.mov(1, BigInt(DATA)), a64.add(5, 5, 1), a64.str(5, 1), a64.b(-2)];

  function hot(): Guest {
    const vm = new Guest(words);
    const run = vm.beginRun();
    vm.pump(40);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run).errno).toBe("EINTR");
    expect(vm.get(X(5))).toBeGreaterThan(10_000n);
    return vm;
  }

  it("is stepped like any other", () => {
    const vm = hot();
    debug(vm, ENABLE | SINGLESTEP);
    const pcs: number[] = [];
    for (let n = 0; n < 9; n++) {
      expect(vm.run()).toMatchObject({ ...STEPPED, retired: 1 });
      pcs.push(Number(vm.get(PC) - at(before)) / 4);
    }
    for (const [n, pc] of pcs.entries()) expect(pc).toBe((pcs[0]! + n) % 3);
  });

  it("stops at breakpoints and watchpoints", () => {
    const vm = hot();
    debug(vm, ENABLE | USE_HW, { bcr: [BREAK], bvr: [at(before)] });
    expect(vm.run().debug?.hsr).toBe(0xc200_0022n);
    expect(vm.get(PC)).toBe(at(before));
    const wcr = [1n | (3n << 1n) | (2n << 3n) | (0xffn << 5n)];
    debug(vm, ENABLE | USE_HW, { wcr, wvr: [BigInt(DATA)] });
    expect(vm.run().debug).toEqual({ hsr: 0xd200_0062n, far: BigInt(DATA) });
    expect(vm.get(PC)).toBe(at(before + 1));
  });

  it("goes on being fast afterwards", () => {
    const vm = hot();
    debug(vm, ENABLE | SINGLESTEP);
    vm.run();
    debug(vm, 0);
    const count = vm.get(X(5));
    const run = vm.beginRun();
    vm.pump(40);
    vm.call("kick", { vcpu: 0 });
    vm.finish(run);
    expect(vm.get(X(5)) - count).toBeGreaterThan(10_000n);
  });
});

describe("KVM_SET_GUEST_DEBUG", () => {
  it("holds from before the initialisation on", () => {
    const vm = new Inline();
    vm.slot(0, 1);
    vm.vcpu();
    debug(vm, ENABLE | SINGLESTEP);
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: a64.bytesOf([NOP, NOP]) });
    const value = a64.bytesOf([BASE, 0]);
    vm.call("setOneReg", { vcpu: 0, reg: PC, value });
    expect(vm.run()).toMatchObject(STEPPED);
  });

  it("takes the bits that KVM_CAP_SET_GUEST_DEBUG2 tells", () => {
    const vm = new Guest([]);
    const mask = vm.call("checkExtension", { cap: 195 });
    expect(mask).toBe(ENABLE | SINGLESTEP | USE_SW_BP | USE_HW);
    const none = { vcpu: 0, bcr: [], bvr: [], wcr: [], wvr: [] };
    for (let bit = 0; bit < 32; bit++) {
      const control = 2 ** bit;
      const errno = ((mask >>> bit) & 1) === 1 ? null : "EINVAL";
      expect(vm.refused("setGuestDebug", { ...none, control })).toBe(errno);
    }
  });
});
