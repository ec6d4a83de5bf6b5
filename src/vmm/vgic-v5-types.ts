// Owns: a GICv5 decoded, as types: its IRS, each vCPU's CPU interface, each SPI with its entry of
// the interrupt state table. Plain data. Any thread.
import type { V5Counters } from "../base/v5-counters.table.js";
import type { V5CpuView, V5View } from "../kvm/index.js";

/** As in GICD_ISPENDR and GICD_ISACTIVER together. */
export type IrqState = "inactive" | "pending" | "active" | "active-and-pending";

/** IRS_IST_CFGR and IRS_IST_BASER. */
export interface V5IstView {
  readonly baser: bigint;
  readonly cfgr: number;
  readonly isValid: boolean;
  readonly address: bigint;
  readonly lpiIdBits: number;
  /** Of an entry. */
  readonly bytes: number;
  readonly isTwoLevel: boolean;
}

export interface VgicV5View {
  readonly isInitialized: V5View["isInitialized"];
  readonly isReady: V5View["isReady"];
  readonly irs: {
    readonly base: bigint | null;
    /** IRS_CR0.IRSEN. */
    readonly enabled: boolean;
    readonly cr1: number;
    readonly nrSpis: number;
    readonly ist: V5IstView;
  };
  /** vgicV5.spiTracking. */
  readonly tracking: string;
  readonly inFlight: readonly number[];
  readonly counters: Readonly<V5Counters>;
  readonly cpuInterfaces: readonly V5CpuView[];
}

/** The 32 bits of an interrupt state table entry. */
export interface V5IsteView {
  readonly raw: number;
  readonly pending: boolean;
  readonly active: boolean;
  /** HM: how an acknowledge treats Pending. */
  readonly handling: "edge" | "level";
  readonly enabled: boolean;
  /** IRM: any one of the CPUs, instead of `iaffid`. */
  readonly oneOfN: boolean;
  /** For hardware's own use. */
  readonly hwu: number;
  readonly priority: number;
  readonly iaffid: number;
}

export interface VgicV5SpiView {
  readonly id: number;
  /** With its type. */
  readonly intid: number;
  /** By its entry; KVM's own where the hardware can't reach that. */
  readonly state: IrqState;
  /** Trigger mode, as KVM keeps it. */
  readonly config: "edge" | "level";
  readonly lineLevel: boolean;
  readonly pendingLatch: boolean;
  /** Of the line or the latch: what KVM tells the hardware. */
  readonly pending: boolean;
  /** As tracking saw it last. */
  readonly active: boolean;
  /** On the list of SPIs in flight. */
  readonly isListed: boolean;
  readonly hasNotifier: boolean;
  readonly isUnacknowledged: boolean;
  /** vCPU that it would be delivered to; null: none has that IAFFID. */
  readonly target: number | null;
  /** null: the hardware can't reach it. */
  readonly iste: V5IsteView | null;
}

export interface VgicV5SpiFilter {
  /** IDs [from, to]. */
  readonly from: number;
  readonly to: number;
  /** "pending", "active", "enabled", "listed", "idle"; null: all. */
  readonly state: string | null;
  /** Only IDs beyond it; null: from the first. */
  readonly after: bigint | null;
  /** SPIs at most. */
  readonly limit: number;
}
