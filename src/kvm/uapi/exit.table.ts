// Owns: the exit reasons that a run can end with. Data only.
// @source include/uapi/linux/kvm.h; kvm-uapi.md 8.4

/** Name → number and meaning. */
export const EXITS = {
  KVM_EXIT_UNKNOWN: { number: 0, meaning: "No exit happened yet." },
  KVM_EXIT_HYPERCALL: {
    number: 3,
    meaning: "An HVC or SMC that the SMCCC filter forwards; answer in X0 to X3, then run on.",
  },
  KVM_EXIT_DEBUG: {
    number: 4,
    meaning: "What KVM_SET_GUEST_DEBUG asked for: a step, a breakpoint, a watchpoint, a BRK.",
  },
  KVM_EXIT_HLT: {
    number: 5,
    meaning: "Our choice: the synthetic program is over. No A64 guest exits like this.",
  },
  KVM_EXIT_MMIO: { number: 6, meaning: "An access that no memory and no device took." },
  KVM_EXIT_INTR: { number: 10, meaning: "Kicked; errno is EINTR." },
  KVM_EXIT_SYSTEM_EVENT: {
    number: 24,
    meaning: "The guest asked by PSCI for power-off, reset or suspend; the type says which.",
  },
  KVM_EXIT_ARM_NISV: {
    number: 28,
    meaning: "An access that no memory took and no syndrome describes: emulate it, or inject an abort.",
  },
  KVM_EXIT_DIRTY_RING_FULL: {
    number: 31,
    meaning: "The dirty ring reached its limit: harvest and reset, then run on.",
  },
  KVM_EXIT_MEMORY_FAULT: {
    number: 39,
    meaning: "Memory of a guest_memfd could not be had; errno says why.",
  },
  KVM_EXIT_ARM_SEA: {
    number: 41,
    meaning: "The host's memory gave no answer: inject an abort, or let the guest try again.",
  },
  KVM_EXIT_CLEANED: {
    number: 1000,
    meaning: "Our choice, Linux has none: the pages of a deferred CLEAR are clean, copy them now.",
  },
} as const;

export type ExitReason = keyof typeof EXITS;
