// Owns: the commands of the oracle beside KVM's dirty log, as types. Any thread.

/** What synthetic vCPUs stored to since the last take: the ground truth that a log is held to. */
export interface ShadowTake {
  /** Pages of the slot; 0 when it doesn't log. */
  readonly npages: number;
  readonly stored: number;
  /** As a dirty log's. */
  readonly bitmap: Uint8Array;
}

export interface ShadowCommands {
  /** Begins to observe stores of synthetic vCPUs; counts lostPages and falsePositives from now. */
  shadowStart: [Record<string, never>, null];
  shadowTake: [{ slot: number }, ShadowTake];
}
