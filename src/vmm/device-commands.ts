// Owns: commands around in-kernel devices and the interrupt controller, as types. Part of
// VmCommands; plain data on both sides. Any thread.
import type { IrqState, VgicV5SpiFilter, VgicV5SpiView, VgicV5View } from "./vgic-v5-types.js";

/** An in-kernel device; its number counts the creations in its VM. */
export interface DeviceView {
  readonly device: number;
  /** enum kvm_device_type. */
  readonly type: number;
}

export interface DeviceAttr {
  readonly device: number;
  readonly group: number;
  readonly attr: bigint;
}

/** A file that stands for an assigned device. */
export interface VfioFileView {
  readonly fd: number;
  /** KVM was told of it. */
  readonly isAdded: boolean;
}

export type IrqKind = "sgi" | "ppi" | "spi" | "lpi";

/** One interrupt as KVM keeps it while no list register holds it. vCPUs by their ids. */
export interface VgicIrqView {
  /** Orders the list: INTID, then creation order of the vCPU whose it is. */
  readonly key: bigint;
  readonly intid: number;
  readonly kind: IrqKind;
  /** Whose private interrupt; null: shared. */
  readonly vcpu: number | null;
  readonly state: IrqState;
  readonly config: "edge" | "level";
  readonly enabled: boolean;
  readonly lineLevel: boolean;
  readonly pendingLatch: boolean;
  readonly pending: boolean;
  readonly active: boolean;
  readonly priority: number;
  readonly group: number;
  /** Where it would be delivered. */
  readonly target: number | null;
  /** GICD_ITARGETSR of an SPI, GICv2. */
  readonly targets: number;
  /** GICD_IROUTER's lower word of an SPI, GICv3. */
  readonly mpidr: number;
  /** SGI of a GICv2: vCPU indexes that asked for it, a bit each; who asked for the active one. */
  readonly source: number;
  readonly activeSource: number;
  /** On whose AP list it is. */
  readonly list: number | null;
  /** A device in KVM that alone drives the line. */
  readonly owner: string | null;
  /** Mapped to a physical interrupt. */
  readonly isHardware: boolean;
}

/** GICH_VMCR or ICH_VMCR_EL2 as KVM keeps it. */
export interface VmcrView {
  readonly raw: number;
  readonly enableGroup0: boolean;
  readonly enableGroup1: boolean;
  readonly ackCtl: boolean;
  readonly fiqEnable: boolean;
  readonly commonBpr: boolean;
  readonly eoiMode: number;
  readonly bpr0: number;
  readonly bpr1: number;
  readonly priorityMask: number;
}

export interface VgicCpuView {
  readonly vcpu: number;
  readonly index: number;
  /** Aff3 to Aff0, a byte each. */
  readonly affinity: number;
  readonly vmcr: VmcrView;
  /** Active priorities of group 0 and group 1. */
  readonly ap0r0: number;
  readonly ap1r0: number;
  /** INTIDs of its AP list, in its order. */
  readonly apList: readonly number[];
  readonly redistributor: { readonly base: bigint; readonly region: number } | null;
  readonly lpisEnabled: boolean;
  readonly pendbaser: bigint;
}

export interface VgicView {
  readonly model: "v2" | "v3";
  /** KVM_DEV_ARM_VGIC_CTRL_INIT was done. */
  readonly isInitialized: boolean;
  /** Its frames are mapped: a vCPU has run. */
  readonly isReady: boolean;
  readonly distributor: {
    /** null: not set. */
    readonly base: bigint | null;
    /** GICv2's CPU interface frame. */
    readonly cpuBase: bigint | null;
    /** All interrupts but LPIs; 32 before the SPIs are there. */
    readonly nrIrqs: number;
    readonly enabled: boolean;
    readonly nAssgiReq: boolean;
    readonly implementationRev: number;
    readonly hasIts: boolean;
    readonly lpis: number;
    /** GICR_PROPBASER, one for all. */
    readonly propbaser: bigint;
    readonly maintenanceIrq: number;
  };
  readonly redistributorRegions: readonly {
    readonly index: number;
    readonly base: bigint;
    readonly count: number;
    readonly used: number;
    readonly isLegacy: boolean;
  }[];
  readonly cpuInterfaces: readonly VgicCpuView[];
}

export interface VgicIrqFilter {
  /** INTIDs [from, to]. */
  readonly from: number;
  readonly to: number;
  /** Private interrupts of this vCPU, and shared ones that it is the target of; null: all. */
  readonly vcpu: number | null;
  /** "pending", "active", "enabled", "queued", "idle"; null: all. */
  readonly state: string | null;
  /** Only keys beyond it; null: from the first. */
  readonly after: bigint | null;
  /** Interrupts at most. */
  readonly limit: number;
}

export interface DeviceCommands {
  /** The device's number; null: it was only asked whether the type is there. */
  createDevice: [{ type: number; flags: number }, number | null];
  listDevices: [Record<string, never>, readonly DeviceView[]];
  /** ServiceError "device-not-found", as of all below that name one. */
  describeDevice: [{ device: number }, DeviceView];
  /** Closing its descriptor. ServiceError "device-stays": KVM keeps it as long as the VM. */
  closeDevice: [{ device: number }, null];
  hasDeviceAttr: [DeviceAttr, null];
  /** `value` is what lies at the address before; the answer what lies there afterwards. */
  getDeviceAttr: [DeviceAttr & { value: Uint8Array }, Uint8Array];
  setDeviceAttr: [DeviceAttr & { value: Uint8Array }, null];
  createIrqchip: [Record<string, never>, null];
  /** KVM_ARM_SET_DEVICE_ADDR. */
  setDeviceAddr: [{ id: bigint; addr: bigint }, null];
  openVfioFile: [Record<string, never>, VfioFileView];
  listVfioFiles: [Record<string, never>, readonly VfioFileView[]];
  /** ServiceError "vfio-file-not-found". */
  closeVfioFile: [{ fd: number }, null];
  /** ServiceError "vgic-not-found", as of the next. */
  describeVgic: [Record<string, never>, VgicView];
  /** In order of their keys: INTID, then the vCPU whose it is. */
  listVgicIrqs: [VgicIrqFilter, readonly VgicIrqView[]];
  /** ServiceError "vgic-not-found": the VM has no GICv5, as of the next. */
  describeVgicV5: [Record<string, never>, VgicV5View];
  /** In order of their IDs. */
  listVgicV5Spis: [VgicV5SpiFilter, readonly VgicV5SpiView[]];
}
