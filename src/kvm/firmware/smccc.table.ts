// Owns: SMCCC function identifiers and return codes as KVM serves them. Data only. Any thread.
// @source include/linux/arm-smccc.h, include/uapi/linux/psci.h; kvm-uapi.md 9

/** Bit 30: 64-bit convention. Arguments of 32-bit calls are 32 bits wide. */
export const SMCCC_64 = 0x4000_0000;

export const SMCCC = {
  VERSION: 0x8000_0000,
  ARCH_FEATURES: 0x8000_0001,
  ARCH_WORKAROUND_2: 0x8000_7fff,
  ARCH_WORKAROUND_1: 0x8000_8000,
  ARCH_WORKAROUND_3: 0x8000_3fff,
  TRNG_VERSION: 0x8400_0050,
  TRNG_FEATURES: 0x8400_0051,
  TRNG_GET_UUID: 0x8400_0052,
  TRNG_RND32: 0x8400_0053,
  TRNG_RND64: 0xc400_0053,
  PV_TIME_FEATURES: 0xc500_0020,
  PV_TIME_ST: 0xc500_0021,
  VENDOR_HYP_FEATURES: 0x8600_0000,
  VENDOR_HYP_PTP: 0x8600_0001,
  VENDOR_HYP_CALL_UID: 0x8600_ff01,
} as const;

/** Identifiers of PSCI 0.2 and later; SMCCC_64 marks the 64-bit forms. */
export const PSCI = {
  VERSION: 0x8400_0000,
  CPU_SUSPEND: 0x8400_0001,
  CPU_OFF: 0x8400_0002,
  CPU_ON: 0x8400_0003,
  AFFINITY_INFO: 0x8400_0004,
  MIGRATE_INFO_TYPE: 0x8400_0006,
  SYSTEM_OFF: 0x8400_0008,
  SYSTEM_RESET: 0x8400_0009,
  FEATURES: 0x8400_000a,
  SYSTEM_SUSPEND: 0x8400_000e,
  SYSTEM_RESET2: 0x8400_0012,
  SYSTEM_OFF2: 0x8400_0015,
} as const;

/** Identifiers of PSCI 0.1, which KVM chose itself. */
export const PSCI_0_1 = {
  CPU_SUSPEND: 0x95c1_ba5e,
  CPU_OFF: 0x95c1_ba5f,
  CPU_ON: 0x95c1_ba60,
  MIGRATE: 0x95c1_ba61,
} as const;

export const PSCI_RET = {
  SUCCESS: 0n,
  NOT_SUPPORTED: -1n,
  INVALID_PARAMS: -2n,
  ALREADY_ON: -4n,
  INTERNAL_FAILURE: -6n,
} as const;

export const SMCCC_RET = { SUCCESS: 0n, NOT_SUPPORTED: -1n, NOT_REQUIRED: -2n } as const;
export const TRNG_RET = { SUCCESS: 0n, NOT_SUPPORTED: -1n, INVALID: -2n } as const;

export const SMCCC_VERSION_1_1 = 0x1_0001n;

/** kvm_run.system_event.type. */
export const SYSTEM_EVENT = { SHUTDOWN: 1, RESET: 2, CRASH: 3, WAKEUP: 4, SUSPEND: 5 } as const;
/** data[0] of a system event. */
export const SYSTEM_EVENT_FLAG = { RESET2: 1n, OFF2: 1n } as const;

/** PSCI versions as KVM_REG_ARM_PSCI_VERSION takes them. */
export const PSCI_VERSION = {
  V0_1: 0x0_0001n,
  V0_2: 0x0_0002n,
  V1_0: 0x1_0000n,
  V1_1: 0x1_0001n,
  V1_2: 0x1_0002n,
  V1_3: 0x1_0003n,
} as const;
