// Owns: what a comparison of interrupt controllers is asked for and gives, as plain JSON-ready
// data. HTTP thread.
import type { CostKey } from "../cost-model.table.js";

/**
 * How a device's interrupt ends:
 *   level          the line stays high until KVM acknowledges it: VFIO with a resampling irqfd
 *   level-quieted  the guest's driver quiets the device by an exit, and userspace lowers the line
 *   edge           an event
 */
export type Trigger = "level" | "level-quieted" | "edge";
export type SpiTracking = "none" | "seed004" | "seed004-notifier-only" | "exact";

export interface InterruptWorkload {
  readonly kind: "interrupts";
  readonly vcpus: number;
  /** SPI n is delivered to vCPU n modulo vcpus. */
  readonly spis: number;
  readonly trigger: Trigger;
  /** Of all SPIs, those with a resampling irqfd. */
  readonly notifierPercent: number;
  /** Of guest time, all SPIs together. */
  readonly interruptsPerSecond: number;
  /** Of each vCPU to userspace, beside those that interrupts cause. */
  readonly exitsPerSecond: number;
  readonly interruptsPerRound: number;
  readonly rounds: number;
  /** u64 as text. */
  readonly seed: string;
  /** Interrupts in a row for nothing, after which the guest disables the SPI. */
  readonly stormLimit: number;
  /** An acknowledgement that comes later after the guest's deactivation counts as late. */
  readonly lateNs: number;
}

/** One controller, and how KVM tracks its SPIs. */
export interface InterruptStrategy {
  readonly name: string;
  readonly gic: 3 | 5;
  /** null: a GICv3, which has nothing to choose. */
  readonly spiTracking: SpiTracking | null;
  readonly settings: Readonly<Record<string, string | number | boolean>>;
}

type Costs = Readonly<Partial<Record<CostKey, number>>>;
type Counts = Readonly<Record<string, number>>;

export interface InterruptSpec {
  readonly name: string;
  readonly workload: InterruptWorkload;
  readonly strategies: readonly InterruptStrategy[];
  readonly costModel: Costs;
}

/** As a client sends it: what isn't named by Pick has a default. */
export interface InterruptRequest {
  readonly name?: string;
  readonly workload: Partial<InterruptWorkload> & Pick<InterruptWorkload, "kind" | "rounds">;
  readonly strategies: readonly (Partial<InterruptStrategy> & Pick<InterruptStrategy, "gic">)[];
  readonly costModel?: Costs;
}

export interface AckLatency {
  readonly mean: number;
  readonly max: number;
}

export interface InterruptCycles {
  readonly total: number;
  readonly perRoundTrip: number;
  readonly byEvent: Costs;
}

export interface InterruptRow {
  /** From 1. */
  readonly round: number;
  /** By devices. */
  readonly raised: number;
  /** That the guest took, found its device's work, and deactivated. */
  readonly roundTrips: number;
  /** Raised while the one before was not done: one interrupt for both. */
  readonly coalesced: number;
  /** Raised in this round or before, and not served at its end. */
  readonly unserved: number;
  /** Interrupts that found nothing to do. */
  readonly forNothing: number;
  /** SPIs that the guest disabled for that. */
  readonly storms: number;
  readonly exits: number;
  /**
   * Exits of a GICv3's maintenance interrupt, which ends each level interrupt on silicon; the
   * emulated host folds the list register without one.
   */
  readonly maintenanceExits: number;
  /** Exits of a GIC CDDI that KVM did in the guest's place; `exits` has them. */
  readonly deactivationTraps: number;
  /** That told a notifier. */
  readonly acks: number;
  /** Of them, later than `lateNs` after the deactivation. */
  readonly lateAcks: number;
  /** Deactivations of a level SPI with a notifier which nobody was told of by the round's end. */
  readonly missedAcks: number;
  /** Acknowledgements without such a deactivation: of edges, or for nothing. */
  readonly needlessAcks: number;
  /** From the guest's deactivation; null: none was acknowledged. */
  readonly ackLatencyNs: AckLatency | null;
  readonly vdrcfgReads: number;
  /** That plain seed004 would have made beside. */
  readonly vdrcfgSaved: number;
  readonly listLocks: number;
  /** Longest list of SPIs in flight until now. */
  readonly inFlightMax: number;
  readonly cycles: InterruptCycles;
  /** A GICv5's own counters of SPI tracking; null: a GICv3 has none. */
  readonly kvm: Counts | null;
  /** Virtual nanoseconds. */
  readonly guestNs: number;
  /** Real milliseconds here, the way to the VM's thread included. */
  readonly runMs: number;
}

export interface InterruptResult {
  readonly strategy: InterruptStrategy;
  readonly state: "done" | "failed" | "cancelled";
  readonly error: string | null;
  readonly rows: readonly InterruptRow[];
}
