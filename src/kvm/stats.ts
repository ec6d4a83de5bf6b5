// Owns: the file that KVM_GET_STATS_FD gives: header, id, descriptors, data. VM thread.
// @source virt/kvm/binary_stats.c by behaviour; kvm-uapi.md 4.8
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

const HEADER_BYTES = 24;
const NAME_BYTES = 48;
const DESCRIPTOR_BYTES = 16 + NAME_BYTES;
/** KVM_STATS_TYPE_CUMULATIVE, unit none, base power of ten. */
const CUMULATIVE = 0;

/**
 * @param vcpu null for the VM's own statistics
 * @returns the whole file, little-endian
 */
export function statsFile(vm: Vm, vcpu: Vcpu | null): Uint8Array {
  const rows = vcpu === null ? vmRows(vm) : vcpuRows(vcpu);
  const id = vcpu === null ? `kvm-${vm.vmid}` : `kvm-${vm.vmid}/vcpu-${vcpu.id}`;
  const descriptors = HEADER_BYTES + NAME_BYTES;
  const data = descriptors + rows.length * DESCRIPTOR_BYTES;
  const out = new Uint8Array(data + rows.length * 8);
  const view = new DataView(out.buffer);
  const text = new TextEncoder();
  const header = [0, NAME_BYTES, rows.length, HEADER_BYTES, descriptors, data];
  for (const [at, word] of header.entries()) view.setUint32(at * 4, word, true);
  out.set(text.encode(id), HEADER_BYTES);
  for (const [at, [name, value]] of rows.entries()) {
    const base = descriptors + at * DESCRIPTOR_BYTES;
    view.setUint32(base, CUMULATIVE, true);
    view.setInt16(base + 4, 0, true);
    view.setUint16(base + 6, 1, true);
    view.setUint32(base + 8, at * 8, true);
    view.setUint32(base + 12, 0, true);
    out.set(text.encode(name).subarray(0, NAME_BYTES - 1), base + 16);
    view.setBigUint64(data + at * 8, BigInt(value), true);
  }
  return out;
}

function vmRows(vm: Vm): readonly (readonly [string, number])[] {
  const { values } = vm.counters;
  const requests = values.tlbiVmid + values.tlbiRange;
  return [
    ["remote_tlb_flush", requests],
    ["remote_tlb_flush_requests", requests],
    ["exits", values.exits],
    ["mmio_exit_user", values.mmioExitUser],
    ["mmio_exit_kernel", values.mmioExitKernel],
    ["signal_exits", values.signalExits],
  ];
}

function vcpuRows(vcpu: Vcpu): readonly (readonly [string, number])[] {
  const { stats } = vcpu;
  return [
    ["hvc_exit_stat", stats.hvcExit],
    ["wfe_exit_stat", stats.wfeExit],
    ["wfi_exit_stat", stats.wfiExit],
    ["exits", stats.exits],
    ["mmio_exit_user", stats.mmioExitUser],
    ["mmio_exit_kernel", stats.mmioExitKernel],
    ["signal_exits", stats.signalExits],
    ["retired_accesses", vcpu.engine.retired],
  ];
}
