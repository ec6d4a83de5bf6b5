// Owns: a board's interrupt controller as its VMM makes and resets it, by KVM's device ioctls.
// VM thread.
import { createDevice, type Kvm, type KvmDevice } from "../../kvm/index.js";
import type { BoardDefinition } from "../definition.js";
import { resetGicV2, resetGicV3 } from "./gic-reset.js";
import { GIC } from "./memory-map.table.js";

/** KVM_DEV_TYPE_ARM_VGIC_V2, _V3 and _ITS. */
const DEVICE_TYPE = { 2: 5, 3: 7 } as const;
const ITS_TYPE = 8;
/** KVM_DEV_ARM_VGIC_GRP_*. */
const GROUP = { ADDR: 0, NR_IRQS: 3, CTRL: 4 } as const;
/** KVM_VGIC_V2_ADDR_TYPE_*, KVM_VGIC_V3_ADDR_TYPE_*, KVM_VGIC_ITS_ADDR_TYPE. */
const ADDR = { V2_DIST: 0n, V2_CPU: 1n, V3_DIST: 2n, V3_REDIST: 3n, ITS: 4n } as const;
/** KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_ITS_CTRL_RESET. */
const INIT = 0n;
const ITS_RESET = 4n;
/** As QEMU's virt machine has them: 256 SPIs. */
const NR_IRQS = 288;

const NOTHING = new Uint8Array(0);

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function make(kvm: Kvm, type: number): KvmDevice {
  createDevice(kvm.vm, type, 0);
  const device = kvm.vm.devices.at(-1);
  if (device === undefined) throw new Error("a created device is there");
  return device;
}

/**
 * KVM_CREATE_DEVICE and everything up to KVM_DEV_ARM_VGIC_CTRL_INIT, once the vCPUs exist.
 * @returns how it is reset while no vCPU runs
 * @throws KvmError E2BIG: a GICv2 serves eight vCPUs
 */
export function createGic(kvm: Kvm, { gic, its }: BoardDefinition): () => void {
  if (gic === undefined) return () => {};
  const device = make(kvm, DEVICE_TYPE[gic]);
  const isV2 = gic === 2;
  device.set(GROUP.NR_IRQS, 0n, u32(NR_IRQS));
  device.set(GROUP.ADDR, isV2 ? ADDR.V2_DIST : ADDR.V3_DIST, u64(GIC.distributor.base));
  const second = isV2 ? GIC.cpuInterface.base : GIC.redistributors.base;
  device.set(GROUP.ADDR, isV2 ? ADDR.V2_CPU : ADDR.V3_REDIST, u64(second));
  device.set(GROUP.CTRL, INIT, NOTHING);
  const reset = isV2 ? resetGicV2 : resetGicV3;
  const resetGic = () => reset(device, kvm.vm.vcpus, NR_IRQS);
  if (its !== true) return resetGic;
  const itsDevice = make(kvm, ITS_TYPE);
  itsDevice.set(GROUP.ADDR, ADDR.ITS, u64(GIC.its.base));
  itsDevice.set(GROUP.CTRL, INIT, NOTHING);
  return () => {
    itsDevice.set(GROUP.CTRL, ITS_RESET, NOTHING);
    resetGic();
  };
}
