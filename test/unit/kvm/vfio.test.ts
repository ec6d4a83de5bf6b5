// Goal: the KVM-VFIO device answers as a real host's, with every errno, and its list of files
// follows descriptors that close.
// Method: commands of an inline VM.
import { describe, expect, it } from "vitest";
import { Inline } from "../../support/inline.js";

const ADD = 1n;
const DEL = 2n;
const TYPE_VFIO = 4;

const int = (value: number) => new Uint8Array(Int32Array.of(value).buffer);

function withDevice(): Inline {
  const vm = new Inline();
  expect(vm.call("createDevice", { type: TYPE_VFIO, flags: 0 })).toBe(0);
  return vm;
}

function file(vm: Inline, attr: bigint, fd: number | Uint8Array, device = 0): string | null {
  const value = typeof fd === "number" ? int(fd) : fd;
  return vm.refused("setDeviceAttr", { device, group: 1, attr, value });
}

const isAdded = (vm: Inline) => vm.call("listVfioFiles", {}).map((one) => one.isAdded);

describe("a KVM-VFIO device", () => {
  it("exists once, and asking for it always works", () => {
    const vm = withDevice();
    expect(vm.refused("createDevice", { type: TYPE_VFIO, flags: 2 })).toBe("EBUSY");
    expect(vm.call("createDevice", { type: TYPE_VFIO, flags: 3 })).toBeNull();
    expect(vm.call("listDevices", {})).toEqual([{ device: 0, type: TYPE_VFIO }]);
  });

  it("takes each file once, and gives it up once", () => {
    const vm = withDevice();
    const { fd } = vm.call("openVfioFile", {});
    expect(file(vm, DEL, fd)).toBe("ENOENT");
    expect(file(vm, ADD, fd)).toBeNull();
    expect(file(vm, ADD, fd)).toBe("EEXIST");
    expect(isAdded(vm)).toEqual([true]);
    expect(file(vm, DEL, fd)).toBeNull();
    expect(isAdded(vm)).toEqual([false]);
    expect(file(vm, ADD, fd)).toBeNull();
  });

  it("tells descriptors of another kind from closed ones", () => {
    const vm = withDevice();
    const memfd = vm.call("createGuestMemfd", { size: 4096n, flags: 0n }).id;
    expect(file(vm, ADD, memfd)).toBe("EINVAL");
    expect(file(vm, DEL, memfd)).toBe("ENOENT");
    vm.call("closeGuestMemfd", { id: memfd });
    expect(file(vm, ADD, memfd)).toBe("EBADF");
    expect(file(vm, DEL, -1)).toBe("EBADF");
    expect(file(vm, ADD, new Uint8Array(3))).toBe("EFAULT");
    expect(file(vm, 3n, -1)).toBe("ENXIO");
  });

  it("keeps a file whose descriptor is closed, until it is closed itself", () => {
    const vm = withDevice();
    const { fd } = vm.call("openVfioFile", {});
    file(vm, ADD, fd);
    vm.call("closeVfioFile", { fd });
    expect(vm.refused("closeVfioFile", { fd })).toBe("vfio-file-not-found");
    expect(file(vm, DEL, fd)).toBe("EBADF");
    expect(vm.kvm.vm.vfio.save().data).toMatchObject({ files: [{ fd, isAdded: true }] });
    vm.call("closeDevice", { device: 0 });
    expect(vm.kvm.vm.vfio.save().data).toMatchObject({ files: [], hasDevice: false });
  });

  it("makes room for another one when it is closed", () => {
    const vm = withDevice();
    const { fd } = vm.call("openVfioFile", {});
    file(vm, ADD, fd);
    vm.call("closeDevice", { device: 0 });
    expect(isAdded(vm)).toEqual([false]);
    expect(vm.refused("describeDevice", { device: 0 })).toBe("device-not-found");
    expect(file(vm, ADD, fd)).toBe("device-not-found");
    expect(vm.call("createDevice", { type: TYPE_VFIO, flags: 0 })).toBe(1);
    expect(vm.call("listDevices", {})).toEqual([{ device: 1, type: TYPE_VFIO }]);
    expect(file(vm, ADD, fd, 1)).toBeNull();
  });

  it("has nothing to read, before anything else is looked at", () => {
    const vm = withDevice();
    const args = { device: 0, group: 99, attr: 0n, value: new Uint8Array(0) };
    expect(vm.refused("getDeviceAttr", args)).toBe("EPERM");
  });
});
