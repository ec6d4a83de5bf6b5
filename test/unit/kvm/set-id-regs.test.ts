// Goal: ID registers are one for the VM, go down and never up, and freeze with the first run; as
// the kernel's selftest set_id_regs wants it. Method: KVM's own ids; a guest that reads them.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { Guest, mrs, SYS, sysId, X } from "../../support/guest-code.js";
import { Inline } from "../../support/inline.js";

const ISAR0 = sysId(SYS.ID_AA64ISAR0_EL1);
const PFR0 = sysId(SYS.ID_AA64PFR0_EL1);
const DFR0 = sysId(SYS.ID_AA64DFR0_EL1);
const MMFR0 = sysId(SYS.ID_AA64MMFR0_EL1);
const MIDR = sysId(SYS.MIDR_EL1);
const CTR = sysId(SYS.CTR_EL0);
const IMP_ID_REGS = 239;
const field = (shift: number): bigint => 0xfn << BigInt(shift);
const withField = (value: bigint, shift: number, part: bigint): bigint =>
  (value & ~field(shift)) | (part << BigInt(shift));

describe("ID registers", () => {
  it("are lowered for the whole VM, which its guests see, and survive a reset", () => {
    const vm = new Guest([mrs(20, SYS.ID_AA64ISAR0_EL1), ...a64.powerOff()]);
    vm.init(1, true);
    const atomic = 20;
    const lowered = withField(vm.get(ISAR0), atomic, 0n);
    expect(lowered).not.toBe(vm.get(ISAR0));
    vm.set(ISAR0, lowered);
    expect(vm.get(ISAR0, 1)).toBe(lowered);
    vm.init(2, true);
    expect(vm.get(ISAR0, 2)).toBe(lowered);
    vm.call("vcpuInit", { vcpu: 1, target: 5, features: [4n] });
    expect(vm.get(ISAR0, 1)).toBe(lowered);
    vm.run();
    expect(vm.get(X(20))).toBe(lowered);
  });

  it("go back up to what the host has, and no further", () => {
    const vm = new Guest([]);
    const host = vm.get(ISAR0);
    vm.set(ISAR0, 0n);
    vm.set(ISAR0, host);
    expect(vm.setRefused(ISAR0, withField(host, 20, 3n))).toBe("EINVAL");
    // Reserved, and of a feature that isn't there.
    expect(vm.setRefused(ISAR0, host | 1n)).toBe("EINVAL");
    expect(vm.setRefused(ISAR0, withField(host, 60, 1n))).toBe("EINVAL");
  });

  it("compare some fields as signed numbers, and don't touch others", () => {
    const vm = new Guest([]);
    const [mmfr0, dfr0, pfr0] = [vm.get(MMFR0), vm.get(DFR0), vm.get(PFR0)];
    // TGran4: 0 is there, 15 isn't.
    expect(vm.setRefused(MMFR0, withField(mmfr0, 28, 15n))).toBe(null);
    expect(vm.setRefused(MMFR0, withField(mmfr0, 28, 1n))).toBe("EINVAL");
    expect(vm.setRefused(MMFR0, withField(mmfr0, 4, 0n))).toBe("EINVAL");
    expect(vm.setRefused(DFR0, withField(dfr0, 20, 1n))).toBe(null);
    expect(vm.setRefused(DFR0, withField(dfr0, 12, 1n))).toBe("EINVAL");
    expect(vm.setRefused(DFR0, withField(dfr0, 0, 5n))).toBe("EINVAL");
    expect(vm.setRefused(PFR0, withField(pfr0, 28, 0n))).toBe(null);
    expect(vm.setRefused(PFR0, withField(pfr0, 16, 15n))).toBe("EINVAL");
    const ctr = vm.get(CTR);
    expect(vm.setRefused(CTR, ctr & ~(1n << 29n))).toBe(null);
    expect(vm.setRefused(CTR, ctr ^ (1n << 14n))).toBe("EINVAL");
  });

  it("are frozen by a run, but take their own value", () => {
    const vm = new Guest(a64.powerOff());
    vm.run();
    const value = vm.get(ISAR0);
    expect(vm.setRefused(ISAR0, value)).toBe(null);
    expect(vm.setRefused(ISAR0, 0n)).toBe("EBUSY");
  });

  it("tell nothing where the architecture has none, and take 0 there", () => {
    const vm = new Guest([]);
    const unallocated = sysId([3, 0, 0, 3, 3]);
    expect(vm.get(unallocated)).toBe(0n);
    expect(vm.setRefused(unallocated, 0n)).toBe(null);
    expect(vm.setRefused(unallocated, 1n)).toBe("EINVAL");
  });

  it("of the implementation are writable where KVM_CAP_ARM_WRITABLE_IMP_ID_REGS is on", () => {
    expect(new Guest([]).setRefused(MIDR, 0x1234n)).toBe("EINVAL");
    const vm = new Guest([mrs(20, SYS.MIDR_EL1), ...a64.powerOff()], { caps: [IMP_ID_REGS] });
    expect(vm.setRefused(MIDR, 1n << 32n)).toBe("EINVAL");
    vm.set(MIDR, 0x1234n);
    vm.run();
    expect(vm.get(X(20))).toBe(0x1234n);
    expect(vm.setRefused(MIDR, 0x1235n)).toBe("EBUSY");
    const late = new Inline();
    late.vcpu();
    expect(late.refused("enableCap", { cap: IMP_ID_REGS, flags: 0, args: [] })).toBe("EINVAL");
  });

  it("have masks: what a mask allows may be lowered, what it doesn't may not change", () => {
    const vm = new Guest([]);
    const masks = vm.call("getRegWritableMasks", { range: 0 });
    expect(masks).toHaveLength(192);
    for (const [at, mask] of masks.entries()) {
      const op1 = [0, 1, 3][at >>> 6]!;
      const reg = sysId([3, op1, 0, (at >>> 3) & 7, at & 7]);
      // Registers of the implementation need their capability.
      if (mask === 0n || (at & 0x3f) < 8) continue;
      const value = vm.get(reg);
      for (let bit = 0n; bit < 64n; bit++) {
        if (((mask >> bit) & 1n) !== 0n) continue;
        expect(vm.setRefused(reg, value ^ (1n << bit))).toBe("EINVAL");
      }
    }
    expect(masks[4 * 8]! & field(28)).toBe(field(28));
    expect(masks[2 * 64 + 1]).not.toBe(0n);
    expect(masks[64 + 7]).toBe(2n ** 64n - 1n);
  });
});
