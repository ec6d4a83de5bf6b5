// Owns: KVM_CREATE_VCPU. VM thread.
// @source virt/kvm/kvm_main.c (kvm_vm_ioctl_create_vcpu) by behaviour; kvm-uapi.md 4.2
import { KvmError } from "../base/errors.js";
import { DirtyRing } from "./dirty-ring.js";
import { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/**
 * @throws KvmError EINVAL id or number of vCPUs too large, or frames that overlap; EBUSY; ENOMEM no
 *   room for the ring; EEXIST
 */
export function createVcpu(vm: Vm, id: number): Vcpu {
  const ioctl = "KVM_CREATE_VCPU";
  if (id >= vm.maxVcpus || vm.vcpus.length >= vm.maxVcpus) {
    throw new KvmError("EINVAL", ioctl, `ids and vCPUs of a VM are at most ${vm.maxVcpus}`);
  }
  const busy = vm.vgic.checkVcpu();
  if (busy === "EBUSY") throw new KvmError(busy, ioctl, "the interrupt controller is initialised");
  const ringBytes = vm.caps.dirtyRingBytes;
  const noRoom = () => new KvmError("ENOMEM", ioctl, "no room for the vCPU's dirty ring");
  // KVM notices a taken id late, after it has allocated; here the charge stands for that.
  if (!vm.account.charge(ringBytes)) throw noRoom();
  if (vm.vcpuById(id) !== undefined) {
    vm.account.release(ringBytes);
    throw new KvmError("EEXIST", ioctl, `vCPU ${id} exists; ids are never used again`);
  }
  if (busy !== null) {
    vm.account.release(ringBytes);
    throw new KvmError(busy, ioctl, "the frames of the interrupt controller overlap");
  }
  const pa = ringBytes > 0 ? vm.host.frames.allocate(ringBytes / vm.pageSize) : 0;
  if (pa < 0) {
    vm.account.release(ringBytes);
    throw noRoom();
  }
  const vcpu = new Vcpu(id, vm.vcpus.length, vm.host);
  if (ringBytes > 0) vcpu.ring = new DirtyRing(vm.host, pa, ringBytes);
  const errno = vm.hdbss?.attach(vcpu) ?? null;
  if (errno !== null) {
    if (ringBytes > 0) vm.host.frames.release(pa, ringBytes / vm.pageSize);
    vm.account.release(ringBytes);
    throw new KvmError(errno, ioctl, "the vCPU's HDBSS buffer can't be had");
  }
  vm.vcpus.push(vcpu);
  vm.vgic.addVcpu(vcpu);
  const limit = vm.config.hostCpus === 0 ? vm.vcpus.length : vm.config.hostCpus;
  if (vm.host.cpus.length < limit) vm.host.addCpu();
  return vcpu;
}
