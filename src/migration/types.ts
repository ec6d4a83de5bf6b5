// Owns: what a migration is, as plain data: parameters, states, rounds, records. Any thread.
import type { TrackingMethod } from "../runtime/index.js";

/** As QEMU names them, and "queued". @source qapi/migration.json, MigrationStatus */
export type MigrationState =
  | "queued"
  | "setup"
  | "active"
  | "pre-switchover"
  | "device"
  | "postcopy-active"
  | "postcopy-paused"
  | "postcopy-recover"
  | "completed"
  | "failed"
  | "cancelling"
  | "cancelled";

/** States that nothing leaves. */
export const ENDED: ReadonlySet<MigrationState> = new Set(["completed", "failed", "cancelled"]);

/**
 * What is durable of who may run the VM. Source: none → released. Target: none → ready → running.
 * "aborted": by this session the target never runs it; it stays where it was.
 */
export type CommitPoint = "none" | "ready" | "released" | "running" | "aborted";

export type Direction = "outgoing" | "incoming";
export type Strategy = "stop-and-copy" | "pre-copy" | "post-copy" | "hybrid";
export type OnTimeout = "cancel" | "force" | "postcopy";
export type Compression = "none" | "deflate" | "delta";

export interface MigrationParameters {
  readonly strategy: Strategy;
  readonly tracking: TrackingMethod | "auto";
  /** Connections that carry pages, 1 to 8. */
  readonly channels: number;
  readonly compression: Compression;
  /** Pages that the source keeps as they were sent, for compression "delta". */
  readonly deltaCacheBytes: number;
  /** 0: as fast as it goes. */
  readonly bandwidthBytesPerSecond: number;
  /** The same of pages that follow the VM in post-copy; those that it waits for have no limit. */
  readonly postcopyBandwidthBytesPerSecond: number;
  /** Longest pause that may be planned. */
  readonly downtimeMs: number;
  /** Longest time before the switchover, from setup on; 0: none. */
  readonly timeoutMs: number;
  readonly onTimeout: OnTimeout;
  /** Slows vCPUs down when rounds don't get smaller. */
  readonly autoConverge: boolean;
  readonly throttleInitial: number;
  readonly throttleIncrement: number;
  readonly throttleMax: number;
  /** New dirty pages a second that each vCPU may make from the second round on; 0: no limit. */
  readonly dirtyLimitPagesPerSecond: number;
  /** Waits in pre-switchover for :continue. */
  readonly pauseBeforeSwitchover: boolean;
  /** Both sides compute a digest of all memory before the target is ready. */
  readonly verify: boolean;
}

/** What may change while it runs. */
export type LiveParameters = Pick<
  MigrationParameters,
  | "bandwidthBytesPerSecond"
  | "postcopyBandwidthBytesPerSecond"
  | "downtimeMs"
  | "timeoutMs"
  | "onTimeout"
  | "autoConverge"
  | "throttleInitial"
  | "throttleIncrement"
  | "throttleMax"
  | "dirtyLimitPagesPerSecond"
>;

export const DEFAULT_PARAMETERS: MigrationParameters = {
  strategy: "pre-copy",
  tracking: "auto",
  channels: 1,
  compression: "none",
  deltaCacheBytes: 64 * 2 ** 20,
  bandwidthBytesPerSecond: 0,
  postcopyBandwidthBytesPerSecond: 0,
  downtimeMs: 300,
  timeoutMs: 0,
  onTimeout: "cancel",
  autoConverge: false,
  throttleInitial: 20,
  throttleIncrement: 10,
  throttleMax: 99,
  dirtyLimitPagesPerSecond: 0,
  pauseBeforeSwitchover: false,
  verify: false,
};

/** "push": nothing was chosen, these pages followed the VM in post-copy. */
export type Action =
  | "next-round"
  | "throttle"
  | "switchover"
  | "postcopy"
  | "force"
  | "cancel"
  | "push";

/** What the policy chose after a round, and from which figures, in words. */
export interface Decision {
  readonly action: Action;
  readonly why: string;
  /** It has seen that the guest dirties memory faster than it is sent. */
  readonly isConverging: boolean;
}

/** What went over the wire. */
export interface Traffic {
  readonly pagesSent: number;
  readonly pagesZero: number;
  /** Sent before in this session. */
  readonly pagesDuplicate: number;
  /** Frames with their headers. */
  readonly bytes: number;
}

export interface RoundRecord extends Traffic {
  /** From 1. The last one is sent with every vCPU held; in post-copy after the switchover. */
  readonly round: number;
  /** Since the session began. */
  readonly startMs: number;
  readonly durationMs: number;
  /** What the round had to send. */
  readonly pagesDirty: number;
  /** New dirty pages a second, over this round. */
  readonly dirtyPagesPerSecond: number;
  readonly bytesPerSecond: number;
  readonly throttlePercent: number;
  /** What each vCPU was allowed, in new dirty pages a second; 0: no limit. */
  readonly dirtyLimitPagesPerSecond: number;
  /** Of a switchover now; null in the last round. */
  readonly predictedDowntimeMs: number | null;
  /** In the last round before the target ran the VM: what it really was. Null in the others. */
  readonly downtimeMs: number | null;
  readonly decision: Decision;
}

export interface Progress extends Traffic {
  readonly bytesTotal: number;
  /** Still to be sent, as known now. */
  readonly bytesRemaining: number;
  readonly round: number;
  readonly bytesPerSecond: number;
  readonly dirtyPagesPerSecond: number;
  readonly throttlePercent: number;
  readonly predictedDowntimeMs: number | null;
  /** Post-copy: pages that the target asked for, and those pushed without. */
  readonly pagesRequested: number;
  readonly pagesPushed: number;
  /** Post-copy, at the target: time that vCPUs waited for pages, together. */
  readonly vcpuWaitMs?: number;
}

/** Where the time went, in milliseconds; null: not reached. */
export interface Statistics {
  /** Until the target had built the VM and was connected. */
  readonly setupMs: number | null;
  readonly totalMs: number;
  /** From the first vCPU held to the target's word that it runs. */
  readonly downtimeMs: number | null;
  readonly holdMs: number | null;
  readonly saveMs: number | null;
  /** The last round; saving the state is in it. */
  readonly lastRoundMs: number | null;
  /** The target takes the state and gets ready. */
  readonly finishMs: number | null;
  /** What was left of writing it down once the target was ready. */
  readonly releaseMs: number | null;
  readonly commitMs: number | null;
  readonly stateBytes: number | null;
}

/** Why it failed: to the client, not only to the log. */
export interface Failure {
  readonly side: "source" | "target" | "wire" | "operator";
  readonly during: MigrationState;
  readonly code: string;
  readonly detail: string;
  /** Innermost last. */
  readonly causes: readonly string[];
}

/** An eventfd that the VM will want at its target. */
export interface PassportEventfd {
  /** null: no client knows it. */
  readonly name: string | null;
  /** An irqfd waits on it. */
  readonly isTrigger: boolean;
}

/** What the target builds a VM from; made and read by the service. JSON. */
export interface Passport {
  readonly version: number;
  /** Versions of the page stream that the source can send. */
  readonly streams: readonly number[];
  readonly source: { readonly instance: string; readonly session: string; readonly url: string };
  readonly vm: {
    readonly uuid: string;
    readonly name: string | null;
    readonly labels: Readonly<Record<string, string>>;
    readonly definition: unknown;
    readonly shape: unknown;
    /** Guest images by hash; what the target lacks it is sent first. */
    readonly images: readonly { readonly sha256: string; readonly size: number }[];
    /** How it is snapshotted by itself; absent: it isn't, or the source knows no such thing. */
    readonly autosnapshot?: {
      readonly everySeconds: number;
      readonly keep: number;
      readonly differential: boolean;
    };
  };
  /** Parts of the state to come; absent: from before they were told. */
  readonly parts?: readonly { readonly kind: string; readonly version: number }[];
  /** What its irqfds and ioeventfds name as it begins to move; absent: nothing. */
  readonly eventfds?: readonly PassportEventfd[];
  /** Each memory object in order, and as of which page an unbacked one's content is computed. */
  readonly memory: readonly {
    readonly object: number;
    readonly bytes: number;
    readonly contentPage: number;
  }[];
}

/** The target's answer to a passport. */
export interface Offer {
  readonly session: string;
  readonly stream: number;
  readonly dataPlane: { readonly url: string; readonly secret: string };
  /** The VM's state may come as one part of bytes; absent: from before there was that. */
  readonly takesPacked?: boolean;
}
