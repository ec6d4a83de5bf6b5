// Goal: several KVM_SET_ONE_REG as one command are written in their order, all or none as far as
// can be known before, and a refusal tells what was written. Method: batches with one bad register.
import { describe, expect, it } from "vitest";
import { KvmError } from "../../../src/base/errors.js";
import { hex } from "../../../src/base/hex.js";
import { decodeArg, encodeArg } from "../../../src/runtime/arg-shapes.js";
import * as a64 from "../../support/a64.js";
import { Guest, little, PC, PSTATE, X } from "../../support/guest-code.js";
import { BASE, type Inline } from "../../support/inline.js";

const FPCR = 0x6020_0000_0010_00d5n;
const V3 = 0x6040_0000_0010_0060n;
const STD_BITMAP = 0x6030_0000_0016_0000n;
const NONE = 0x6030_0000_0013_ffffn;

type Write = readonly [reg: bigint, value: bigint, size?: number];
const batch = (...writes: readonly Write[]) => ({
  vcpu: 0,
  registers: writes.map(([reg, value, size]) => ({ reg, value: little(value, size) })),
});

function refusal(vm: Inline, ...writes: readonly Write[]): KvmError {
  try {
    vm.call("setRegs", batch(...writes));
  } catch (error) {
    if (error instanceof KvmError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("several registers", () => {
  it("of every size are written, in order: the last of a name counts", () => {
    const vm = new Guest([a64.add(1, 1, 2), ...a64.powerOff()]);
    vm.call(
      "setRegs",
      batch([X(1), 5n], [X(2), 6n], [FPCR, 0x100_0000n, 4], [V3, 2n ** 100n + 1n, 16], [X(1), 7n]),
    );
    expect([vm.get(X(1)), vm.get(X(2)), vm.get(FPCR)]).toEqual([7n, 6n, 0x100_0000n]);
    expect(vm.get(V3)).toBe(2n ** 100n + 1n);
    // The PE goes on with them.
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_SYSTEM_EVENT" });
    expect(vm.get(X(1))).toBe(9n);
    vm.call("setRegs", batch());
  });

  it("can be those that KVM_GET_REG_LIST names, with what they read", () => {
    const vm = new Guest([a64.NOP]);
    const ids = vm.call("getRegList", { vcpu: 0 });
    const before = ids.map((reg) => vm.call("getOneReg", { vcpu: 0, reg }));
    const writes = ids.map((reg, at): Write => [reg, before[at]!.value, before[at]!.size]);
    vm.call("setRegs", batch(...writes));
    expect(ids.map((reg) => vm.call("getOneReg", { vcpu: 0, reg }))).toEqual(before);
  });

  it.each([
    ["a name that is none", [NONE, 0n], "ENOENT"],
    ["an id of another architecture", [0x2030_0000_0010_0000n, 0n], "EINVAL"],
    ["a value of another size", [X(4), 0n, 4], "EINVAL"],
  ] as const)("with %s: none is written", (_name, bad, errno) => {
    const vm = new Guest([a64.NOP]);
    const error = refusal(vm, [X(1), 5n], [X(2), 6n], bad, [X(3), 7n]);
    expect(error).toMatchObject({ errno, ioctl: "KVM_SET_ONE_REG", code: "kvm-errno" });
    expect(error.extensions).toEqual({ index: 2, register: hex(bad[0]) });
    expect(vm.xs(1, 2, 3)).toEqual([0n, 0n, 0n]);
  });

  it("with a value that KVM refuses: what came before is written and named", () => {
    const vm = new Guest([a64.NOP]);
    // EL2h is no mode of this guest.
    const error = refusal(vm, [X(1), 5n], [X(2), 6n], [PSTATE, 9n], [X(3), 7n]);
    expect(error).toMatchObject({ errno: "EINVAL", code: "partly-written" });
    expect(error.extensions).toEqual({
      index: 2,
      register: hex(PSTATE),
      written: [hex(X(1)), hex(X(2))],
    });
    expect(error.message).toContain("EL1h");
    expect(vm.xs(1, 2, 3)).toEqual([5n, 6n, 0n]);
    expect(vm.get(PSTATE)).toBe(0x3c5n);
  });

  it("with the first one refused: nothing was written, and it says so", () => {
    const vm = new Guest([...a64.powerOff()]);
    vm.run();
    const error = refusal(vm, [STD_BITMAP, 0n], [X(1), 5n]);
    expect(error).toMatchObject({ errno: "EBUSY", code: "kvm-errno" });
    expect(error.extensions).toEqual({ index: 0, register: hex(STD_BITMAP) });
    expect(vm.get(X(1))).toBe(0n);
  });

  it("wait for the vCPU, and for its initialisation", () => {
    const vm = new Guest([a64.b(0)]);
    vm.vcpu(1);
    const registers = [{ reg: PC, value: little(BigInt(BASE)) }];
    expect(vm.refused("setRegs", { vcpu: 1, registers })).toBe("ENOEXEC");
    expect(vm.refused("setRegs", { vcpu: 2, registers })).toBe("vcpu-not-found");
    const run = vm.beginRun();
    vm.pump(20);
    expect(vm.refused("setRegs", { vcpu: 0, registers })).toBe("vcpu-running");
    vm.call("kick", { vcpu: 0 });
    vm.finish(run);
    vm.call("setRegs", { vcpu: 0, registers });
  });

  it("come back from an input log as they went in", () => {
    const { registers } = batch([X(1), 5n], [V3, 2n ** 127n, 16]);
    const text = JSON.stringify(encodeArg(registers));
    expect(decodeArg("register-writes", JSON.parse(text))).toEqual(registers);
    for (const bad of [{}, [{ reg: "0x1" }], [{ reg: 1, value: "" }], [{ reg: "0x1", value: 1 }]]) {
      expect(() => decodeArg("register-writes", bad)).toThrow();
    }
  });
});
