// Goal: KVM_ARM_MTE_COPY_TAGS on a host without MTE refuses as KVM does, before it looks at
// anything else. Method: arguments that KVM would refuse for other reasons, and some that it would
// take.
import { describe, expect, it } from "vitest";
import { KvmError } from "../../../src/base/errors.js";
import { BASE, Inline } from "../../support/inline.js";

const IN_SLOT = BigInt(BASE);
const PAGE = 0x1000n;

function refusal(vm: Inline, ipa: bigint, length: bigint, tags: Uint8Array | null): unknown {
  try {
    return vm.call("copyMteTags", { ipa, length, tags });
  } catch (error) {
    return error;
  }
}

describe("KVM_ARM_MTE_COPY_TAGS", () => {
  it.each([
    ["of a page of a slot", IN_SLOT, PAGE, null],
    ["to a page of a slot", IN_SLOT, PAGE, new Uint8Array(256)],
    ["of nothing", IN_SLOT, 0n, null],
    ["of half a page", IN_SLOT, PAGE / 2n, null],
    ["from the middle of a page", IN_SLOT + 8n, PAGE, null],
    ["of more than INT_MAX", IN_SLOT, 2n ** 31n, null],
    ["where no slot is", 0n, PAGE, null],
  ])("%s is EINVAL: there is no MTE", (_name, ipa, length, tags) => {
    const vm = new Inline();
    vm.slot(0, 4);
    const error = refusal(vm, ipa, length, tags);
    expect(error).toBeInstanceOf(KvmError);
    expect(error).toMatchObject({ errno: "EINVAL", ioctl: "KVM_ARM_MTE_COPY_TAGS" });
    expect(String(error)).toContain("the VM has no MTE");
  });

  it("is what the capability says, which can't be enabled", () => {
    const vm = new Inline();
    expect(vm.call("checkExtension", { cap: 205 })).toBe(0);
    expect(vm.refused("enableCap", { cap: 205, flags: 0, args: [0n, 0n, 0n, 0n] })).toBe("EINVAL");
    vm.kvm.vm.dead = true;
    expect(vm.refused("copyMteTags", { ipa: 0n, length: PAGE, tags: null })).toBe("EIO");
  });
});
