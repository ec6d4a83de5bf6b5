// Owns: what a debugger does to a VM, and why it stopped, as types. HTTP thread.

/** DBGBVR, DBGBCR, DBGWVR, DBGWCR as KVM_SET_GUEST_DEBUG takes them. */
export interface HardwareDebug {
  readonly bvr: readonly bigint[];
  readonly bcr: readonly bigint[];
  readonly wvr: readonly bigint[];
  readonly wcr: readonly bigint[];
}

export interface Resumed {
  readonly vcpu: number;
  readonly mode: "step" | "continue";
}

/** Why nothing runs any more. */
export type Stopped =
  /** KVM_EXIT_DEBUG. */
  | { readonly kind: "debug"; readonly vcpu: number; readonly hsr: bigint; readonly far: bigint }
  | { readonly kind: "interrupted" }
  /** An exit that is not the debugger's; `why` is for people. */
  | { readonly kind: "mmio" | "exit"; readonly vcpu: number; readonly why: string }
  | { readonly kind: "off" };

/** Starting and stopping vCPUs; who is asked depends on whose VMM it is. */
export interface RunControl {
  /** Stops whatever runs; from now on nobody else may start it. */
  attach(): Promise<void>;
  /** Runs until one stops, and then stops all: resolves once none runs. */
  resume(plan: readonly Resumed[]): Promise<Stopped>;
  /** Makes a resume() under way end. */
  interrupt(): void;
  /** @param goesOn the debugger wants the guest to go on as it did before */
  detach(goesOn: boolean): Promise<void>;
}
