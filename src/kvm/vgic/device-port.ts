// Owns: an in-kernel device as its descriptor shows it: attributes by group. VM thread.

/** enum kvm_device_type. @source linux/kvm.h */
export const KVM_DEV_TYPE = {
  VFIO: 4,
  ARM_VGIC_V2: 5,
  ARM_VGIC_V3: 7,
  ARM_VGIC_ITS: 8,
  ARM_VGIC_V5: 16,
} as const;

export interface KvmDevice {
  /** enum kvm_device_type. */
  readonly type: number;
  /** KVM_HAS_DEVICE_ATTR. @throws KvmError ENXIO, or EINVAL for an unknown CPU */
  has(group: number, attr: bigint): void;
  /**
   * KVM_GET_DEVICE_ATTR.
   * @param value what lies at the address before; empty: there is no address
   * @returns what lies there afterwards
   */
  get(group: number, attr: bigint, value: Uint8Array): Uint8Array;
  /** KVM_SET_DEVICE_ATTR. @param value bytes at the address; empty: there is no address */
  set(group: number, attr: bigint, value: Uint8Array): void;
  /** What closing the descriptor does; absent: the device stays as long as its VM. */
  close?(): void;
  /** Its descriptor was closed, and it went away with it. */
  readonly isClosed?: boolean;
}
