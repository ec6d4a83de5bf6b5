// Owns: commands that only a debugger needs, as types. Part of VmCommands; plain data on both
// sides. Any thread.

/** KVM_EXIT_DEBUG of a board's vCPU, for which the board paused. */
export interface DebugStop {
  readonly vcpu: number;
  readonly hsr: bigint;
  readonly far: bigint;
}

export interface DebuggerCommands {
  /** Stage 1 of the vCPU, privileged; null where it leads nowhere. Nothing changes by it. */
  translate: [{ vcpu: number; address: bigint }, { ipa: bigint | null }];
  /** KVM_GET_ONE_REG of each. */
  readRegisters: [{ vcpu: number; regs: readonly bigint[] }, readonly bigint[]];
  /** KVM_SET_ONE_REG, of a board's vCPU too. */
  writeRegister: [{ vcpu: number; reg: bigint; value: Uint8Array }, null];
  /** The BRK that the vCPU left KVM_RUN for is the guest's own: its exception is taken to EL1. */
  passBreakpoint: [{ vcpu: number }, null];
}

/** The same of a board; ServiceError "no-board" on a VM without one. */
export interface BoardDebuggerCommands {
  /** Switches on or resumes, but runs only these vCPUs; ServiceError "board-state". */
  resumeVcpus: [{ vcpus: readonly bigint[] }, null];
  /** Why the board paused by itself; null when it didn't. */
  describeDebugStop: [Record<string, never>, DebugStop | null];
}
