// Owns: a board's interrupt controller as its VMM makes and resets it, by KVM's device ioctls.
// VM thread.
import { createDevice, KVM_DEV_TYPE, type Kvm, type KvmDevice } from "../../kvm/index.js";
import type { BoardDefinition, GicVersion } from "../definition.js";
import { ADDR, CTRL, GROUP, NOTHING, setU32, setU64 } from "../device-attributes.js";
import { resetGicV2, resetGicV3 } from "./gic-reset.js";
import { GIC } from "./memory-map.table.js";

/** KVM_DEV_ARM_ITS_CTRL_RESET. */
const ITS_RESET = 4n;
/** As QEMU's virt machine has them. */
const SPIS = 256;
const SGIS_AND_PPIS = 32;

interface Model {
  readonly type: number;
  /** NR_IRQS, which is no number of SPIs before a GICv5. */
  readonly irqs: number;
  /** Frames: the address's attribute, and where it is. */
  readonly frames: readonly (readonly [attr: bigint, base: number])[];
  /** While no vCPU runs. */
  readonly reset: (kvm: Kvm, device: KvmDevice) => void;
}

const IRQS = SGIS_AND_PPIS + SPIS;

const MODELS: Readonly<Record<GicVersion, Model>> = {
  2: {
    type: KVM_DEV_TYPE.ARM_VGIC_V2,
    irqs: IRQS,
    frames: [
      [ADDR.V2_DIST, GIC.distributor.base],
      [ADDR.V2_CPU, GIC.cpuInterface.base],
    ],
    reset: ({ vm }, device) => resetGicV2(device, vm.vcpus, IRQS),
  },
  3: {
    type: KVM_DEV_TYPE.ARM_VGIC_V3,
    irqs: IRQS,
    frames: [
      [ADDR.V3_DIST, GIC.distributor.base],
      [ADDR.V3_REDIST, GIC.redistributors.base],
    ],
    reset: ({ vm }, device) => resetGicV3(device, vm.vcpus, IRQS),
  },
  5: {
    type: KVM_DEV_TYPE.ARM_VGIC_V5,
    irqs: SPIS,
    frames: [[ADDR.V5_IRS, GIC.irs.base]],
    // No attribute does it: KVM takes registers and tables only before the first run, and a table
    // that stayed valid the next kernel would give up on. A VMM on Linux makes such a VM anew.
    reset: ({ vm }) => vm.vgic.v5?.reset(),
  },
};

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
  const model = MODELS[gic];
  const device = make(kvm, model.type);
  setU32(device, GROUP.NR_IRQS, 0n, model.irqs);
  for (const [attr, base] of model.frames) setU64(device, GROUP.ADDR, attr, BigInt(base));
  device.set(GROUP.CTRL, CTRL.INIT, NOTHING);
  const resetGic = () => model.reset(kvm, device);
  if (its !== true) return resetGic;
  const itsDevice = make(kvm, KVM_DEV_TYPE.ARM_VGIC_ITS);
  setU64(itsDevice, GROUP.ADDR, ADDR.ITS, BigInt(GIC.its.base));
  itsDevice.set(GROUP.CTRL, CTRL.INIT, NOTHING);
  return () => {
    itsDevice.set(GROUP.CTRL, ITS_RESET, NOTHING);
    resetGic();
  };
}
