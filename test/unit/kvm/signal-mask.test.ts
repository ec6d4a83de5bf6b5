// Goal: KVM_SET_SIGNAL_MASK keeps what KVM keeps of a mask, where KVM takes one, and nothing else
// comes of it. Method: masks of vCPUs in every state; a kick of a run under a full mask.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { Guest, PC } from "../../support/guest-code.js";
import { BASE, Inline } from "../../support/inline.js";

const ALL = 2n ** 64n - 1n;
const [SIGKILL, SIGUSR1, SIGSTOP] = [9n, 10n, 19n];
const bit = (signal: bigint): bigint => 1n << (signal - 1n);

const set = (vm: Inline, sigset: bigint | null, len = 8) =>
  vm.call("setSignalMask", { vcpu: 0, len, sigset }).sigset;
const kept = (vm: Inline) => vm.call("describeSignalMask", { vcpu: 0 }).sigset;

describe("KVM_SET_SIGNAL_MASK", () => {
  it("begins with none, takes any set before KVM_ARM_VCPU_INIT, and null clears it", () => {
    const vm = new Inline();
    vm.vcpu(0);
    vm.vcpu(1);
    expect(kept(vm)).toBeNull();
    expect(set(vm, bit(SIGUSR1))).toBe(bit(SIGUSR1));
    expect(kept(vm)).toBe(bit(SIGUSR1));
    expect(vm.call("describeSignalMask", { vcpu: 1 }).sigset).toBeNull();
    // A mask that blocks nothing is one.
    expect(set(vm, 0n)).toBe(0n);
    expect(kept(vm)).toBe(0n);
    expect(set(vm, null)).toBeNull();
    expect(kept(vm)).toBeNull();
  });

  it("leaves SIGKILL and SIGSTOP out", () => {
    const vm = new Inline();
    vm.vcpu(0);
    expect(set(vm, ALL)).toBe(ALL & ~bit(SIGKILL) & ~bit(SIGSTOP));
    expect(set(vm, bit(SIGKILL) | bit(SIGSTOP))).toBe(0n);
  });

  it("refuses a set of other than 8 bytes, and keeps the mask that there is", () => {
    const vm = new Inline();
    vm.vcpu(0);
    set(vm, bit(SIGUSR1));
    for (const len of [0, 4, 7, 9, 16, 0xffff_ffff]) {
      expect(vm.refused("setSignalMask", { vcpu: 0, len, sigset: 1n })).toBe("EINVAL");
    }
    expect(kept(vm)).toBe(bit(SIGUSR1));
    // A null pointer has no length.
    expect(set(vm, null, 0)).toBeNull();
  });

  it("waits for the vCPU, survives KVM_ARM_VCPU_INIT, and a kick ends a run all the same", () => {
    const vm = new Guest([a64.b(0)]);
    set(vm, ALL);
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    expect(kept(vm)).toBe(ALL & ~bit(SIGKILL) & ~bit(SIGSTOP));
    vm.set(PC, BigInt(BASE));
    const run = vm.beginRun();
    vm.pump(20);
    expect(vm.refused("setSignalMask", { vcpu: 0, len: 8, sigset: null })).toBe("vcpu-running");
    expect(kept(vm)).not.toBeNull();
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run)).toMatchObject({ errno: "EINTR", exitReason: "KVM_EXIT_INTR" });
  });

  it("is an ioctl of a living VM, while a look at the mask is none", () => {
    const vm = new Inline();
    vm.vcpu(0);
    set(vm, 5n);
    vm.kvm.vm.dead = true;
    expect(vm.refused("setSignalMask", { vcpu: 0, len: 8, sigset: null })).toBe("EIO");
    expect(kept(vm)).toBe(5n);
  });
});
