// Owns: what KVM's firmware calls need of a vCPU and its VM. VM thread.
/** Registers of the caller, as the call sees them. */
export interface CallRegisters {
  x(n: number): bigint;
  setX(n: number, value: bigint): void;
}

/** A PSCI CPU_ON that the target takes before it runs or is looked at. */
export interface ResetState {
  readonly pc: bigint;
  readonly x0: bigint;
}

/** Firmware state of one VM: what KVM_REG_ARM_FW and FW_FEAT_BMAP say. */
export interface FirmwareState {
  /** PSCI_VERSION of uapi; 0.1 without the vCPU feature. */
  psciVersion: bigint;
  /** KVM_REG_ARM_STD_BMAP: bit 0 TRNG. */
  std: bigint;
  /** KVM_REG_ARM_STD_HYP_BMAP: bit 0 PV time. */
  stdHyp: bigint;
  /** KVM_REG_ARM_VENDOR_HYP_BMAP: bit 0 features and UID, bit 1 PTP. */
  vendorHyp: bigint;
  /** KVM_REG_ARM_VENDOR_HYP_BMAP_2: bits 0 and 1, discovery of implementations. */
  vendorHyp2: bigint;
  /** KVM_CAP_ARM_SYSTEM_SUSPEND. */
  systemSuspend: boolean;
}

export function newFirmware(): FirmwareState {
  const bitmaps = { std: 1n, stdHyp: 1n, vendorHyp: 3n, vendorHyp2: 0n };
  return { psciVersion: 0x1_0003n, ...bitmaps, systemSuspend: false };
}
