// Owns: commands of vCPUs that run guest code, and of what firmware shows them, as types. Part of
// VmCommands; plain data on both sides. Any thread.

/** struct kvm_vcpu_events without its padding. */
export interface VcpuEvents {
  readonly serrorPending: boolean;
  readonly serrorHasEsr: boolean;
  readonly extDabtPending: boolean;
  readonly serrorEsr: bigint;
}

/** Bit n - 1 is signal n; null: KVM_RUN installs none. */
interface SignalMaskView {
  readonly sigset: bigint | null;
}

/** struct kvm_guest_debug: at most 16 of each register. */
interface GuestDebug {
  readonly control: number;
  readonly bcr: readonly bigint[];
  readonly bvr: readonly bigint[];
  readonly wcr: readonly bigint[];
  readonly wvr: readonly bigint[];
}

/** Little-endian bytes, as many as the id says. */
export interface RegisterWrite {
  readonly reg: bigint;
  readonly value: Uint8Array;
}

export interface GuestCommands {
  /** KVM_IRQ_LINE_STATUS; irq as KVM packs it. */
  irqLineStatus: [{ irq: number; level: number }, { status: number; level: number }];
  /**
   * KVM_SET_ONE_REG of each, in order. Ids and sizes are looked at first; a refusal tells `index`
   * and `register`, and as "partly-written" which ones were written.
   */
  setRegs: [{ vcpu: number; registers: readonly RegisterWrite[] }, null];
  /** KVM_SET_SIGNAL_MASK; without a sigset there is no mask, and len counts for nothing. */
  setSignalMask: [{ vcpu: number; len: number; sigset: bigint | null }, SignalMaskView];
  describeSignalMask: [{ vcpu: number }, SignalMaskView];
  /** KVM_ARM_MTE_COPY_TAGS, to the guest, or from it where tags is null. */
  copyMteTags: [{ ipa: bigint; length: bigint; tags: Uint8Array | null }, Uint8Array];
  finalizeVcpu: [{ vcpu: number; feature: number }, null];
  getVcpuEvents: [{ vcpu: number }, VcpuEvents];
  setVcpuEvents: [{ vcpu: number } & VcpuEvents, null];
  setGuestDebug: [{ vcpu: number } & GuestDebug, null];
  /** 192 masks: op1 0, 1 and 3, each with CRm 0 to 7 and op2 0 to 7. */
  getRegWritableMasks: [{ range: number }, readonly bigint[]];
  /** Attributes of the VM: group 0, attribute 0 is the SMCCC filter, 24 bytes. */
  setVmAttr: [{ group: number; attr: bigint; value: Uint8Array }, null];
  getVmAttr: [{ group: number; attr: bigint }, Uint8Array];
  hasVmAttr: [{ group: number; attr: bigint }, null];
}
