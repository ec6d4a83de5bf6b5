// Owns: a walk of stage 2 and a host CPU, as commands answer them. Plain data. Any thread.
// kvm has types of the same shape in stage2-view.ts, on purpose: commands name no type of kvm, so
// that kvm may change its own, and the compiler tells at `command.table.ts` when the two part.

export type Stage2LeafState =
  | "read-only"
  | "writable-clean"
  | "writable-dirty"
  | "writable-unmanaged";

/** A descriptor field by field; a leaf's mean nothing in a table descriptor. */
export interface Stage2Bits {
  readonly valid: boolean;
  readonly type: boolean;
  readonly memAttr: number;
  readonly read: boolean;
  readonly write: boolean;
  readonly shareability: number;
  readonly accessFlag: boolean;
  readonly outputAddress: bigint;
  readonly dbm: boolean;
  readonly contiguous: boolean;
  readonly executeNever: number;
  readonly software: number;
}

export interface Stage2Walk {
  readonly ipa: bigint;
  readonly startLevel: number;
  readonly steps: readonly {
    readonly level: number;
    readonly tableAddress: bigint;
    readonly index: number;
    readonly descriptor: bigint;
    readonly kind: "invalid" | "table" | "block" | "page";
    readonly descriptorAddress: bigint;
    readonly bits: Stage2Bits;
    /** As in `leaf`; null unless this descriptor is one. */
    readonly state: Stage2LeafState | null;
  }[];
  /** null when the walk ends in an invalid descriptor. */
  readonly leaf: null | {
    readonly outputAddress: bigint;
    readonly level: number;
    readonly size: bigint;
    readonly state: Stage2LeafState;
    readonly accessFlag: boolean;
    readonly dbm: boolean;
    readonly contiguous: boolean;
    readonly executeNever: number;
  };
}

export interface HostCpuView {
  readonly index: number;
  readonly loadedVcpu: number | null;
  readonly vttbr: bigint;
  readonly vtcr: bigint;
  readonly hcr: bigint;
  readonly tlbEntries: number;
}
