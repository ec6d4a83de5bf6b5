// Owns: what a strategy's VM runs, as whoever measures it sees it. HTTP thread.
import type { CommandArgs, CommandName, CommandResult } from "../../runtime/index.js";

export type Call = <K extends CommandName>(
  name: K,
  args: CommandArgs<K>,
) => Promise<CommandResult<K>>;

/** The slot that holds all memory; a board's RAM is there too. */
export const SLOT = 0;

/** How far a round has come. */
export interface Stretch {
  readonly isOver: boolean;
  /** A ring is full: it goes on once rings are reset. */
  readonly ringFull: boolean;
  /** First pages of deferred CLEARs that ended. */
  readonly cleaned: readonly number[];
  /** Runs that failed, and what the last of them says. */
  readonly errors: number;
  readonly error: Error | null;
}

export interface Load {
  /** Memory, slot and vCPUs. */
  build(): Promise<void>;
  /** KVM_MEM_LOG_DIRTY_PAGES. */
  startLogging(): Promise<void>;
  /** Makes a round ready; 0 is what comes before logging. */
  begin(round: number): Promise<void>;
  /** Makes ready to enter the guest only, for what KVM_RUN has to tell. */
  enter(): Promise<void>;
  /** Runs until the round is over or a ring is full; again until it says so. */
  run(): Promise<Stretch>;
}
