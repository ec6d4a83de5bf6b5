// Owns: commands of vCPUs that run guest code, and of what firmware shows them, as types. Part of
// VmCommands; plain data on both sides. Any thread.

/** struct kvm_vcpu_events without its padding. */
export interface VcpuEvents {
  readonly serrorPending: boolean;
  readonly serrorHasEsr: boolean;
  readonly extDabtPending: boolean;
  readonly serrorEsr: bigint;
}

/** struct kvm_guest_debug: at most 16 of each register. */
interface GuestDebug {
  readonly control: number;
  readonly bcr: readonly bigint[];
  readonly bvr: readonly bigint[];
  readonly wcr: readonly bigint[];
  readonly wvr: readonly bigint[];
}

export interface GuestCommands {
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
