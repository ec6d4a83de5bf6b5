// Owns: what QMP's commands need of a VM and of its migrations, as interfaces. HTTP thread.
import type {
  LiveParameters,
  MigrationParameters,
  MigrationState,
  Progress,
  Statistics,
} from "../../migration/index.js";
import type { CommandArgs, CommandResult } from "../../runtime/index.js";

type BoardAction = CommandArgs<"boardAction">["action"];
type BoardState = CommandResult<"describeBoard">["state"];

/**
 * A board's state; "held", "incoming", "migrated": a migration says when it runs. "client": no
 * board, its client runs the vCPUs.
 */
export type RunState = BoardState | "client" | "held" | "incoming" | "migrated";

/** What happened to the VM, in order. */
export type VmNews =
  | { readonly kind: "running" | "paused" | "crashed" }
  | { readonly kind: "shutdown" | "reset"; readonly byGuest: boolean }
  | { readonly kind: "stopped" }
  | { readonly kind: "migration"; readonly state: MigrationState; readonly isOutgoing: boolean }
  /** A round has ended; with it in "active" another one follows. */
  | { readonly kind: "round"; readonly round: number; readonly state: MigrationState };

/** One session, as much of it as QMP tells. */
export interface SessionView {
  readonly id: string;
  readonly isOutgoing: boolean;
  readonly state: MigrationState;
  readonly parameters: MigrationParameters;
  readonly progress: Progress | null;
  readonly statistics: Statistics | null;
  /** Why it failed. */
  readonly failure: string | null;
  /** Milliseconds since 1970; null: not yet. */
  readonly startedMs: number | null;
  readonly endedMs: number | null;
  /** Bytes of the last round, sent with every vCPU held; 0 before it. */
  readonly downtimeBytes: number;
}

/** The VM's sessions. Refusals are ServiceErrors. */
export interface QmpMigrations {
  /** @param peer a configured one, by name */
  start(peer: string, parameters: Partial<MigrationParameters>): Promise<void>;
  /** The one under way, else the last one that is kept. */
  current(): Promise<SessionView | null>;
  cancel(): Promise<void>;
  proceed(): Promise<void>;
  startPostcopy(): Promise<void>;
  recover(): Promise<void>;
  adjust(change: Partial<LiveParameters>): Promise<void>;
}

/** Dirty pages of the VM, told to consumers by name. Refusals are ServiceErrors. */
export interface QmpDirty {
  /** @param method null: whichever is in force, or the best */
  begin(consumer: string, method: string | null): Promise<void>;
  end(consumer: string): Promise<void>;
  /** @returns pages that became dirty since the last harvest */
  harvest(consumer: string): Promise<number>;
  /** Pages that each vCPU has made dirty so far. */
  dirtied(): Promise<ReadonlyMap<number, number>>;
  /** New dirty pages a second of each vCPU; 0: no limit. */
  limit(pagesPerSecond: number): Promise<void>;
}

export interface QmpVm {
  readonly id: string;
  readonly uuid: string;
  readonly name: string | null;
  readonly pageSize: number;
  state(): Promise<RunState>;
  /** Ids of its vCPUs. */
  vcpus(): Promise<readonly number[]>;
  /** @throws ServiceError "board-state", "no-board", "vm-held" and others */
  act(action: BoardAction): Promise<void>;
  /** Ends its thread, if it has one. */
  stop(): Promise<void>;
  /** @returns the end of it */
  onNews(listener: (news: VmNews) => void): () => void;
  readonly migrations: QmpMigrations;
  readonly dirty: QmpDirty;
}
