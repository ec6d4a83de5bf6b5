// A defect planted into sessions from outside, and what it needs to be seen.
import type {
  Kept,
  MigrationParameters,
  Peer,
  ResumedSource,
  SourceSession,
  SourceVoice,
  TargetSession,
} from "../../../src/migration/index.js";
import type { FaultKind } from "./faults.table.js";
import type { Kind } from "./kinds.table.js";

/** What is overridden, in every session of a run. */
interface Planting {
  readonly source?: (session: SourceSession) => void;
  readonly target?: (session: TargetSession) => void;
  readonly resumed?: (session: ResumedSource) => void;
  readonly peer?: (peer: Peer, isResumed: boolean) => Peer;
  readonly voice?: (voice: SourceVoice) => SourceVoice;
  readonly kept?: (kept: Kept) => Kept;
  /** Into every session of this thread, before one begins. @returns how to take it out */
  readonly everywhere?: () => () => void;
}

export interface MigrationPlant extends Planting {
  readonly name: string;
  /** What goes wrong. */
  readonly breaks: string;
  /** Faults that make it visible; runs without the plant have them too. */
  readonly faults?: ReadonlyMap<FaultKind, number>;
  /** Instead of the seed's choice; the same without the plant. */
  readonly parameters?: Partial<MigrationParameters>;
  /** By default a toy. */
  readonly kind?: Kind;
}

export const none = async (): Promise<void> => {};
export const faults = (rows: readonly (readonly [FaultKind, number])[]) => new Map(rows);

type Switchover = NonNullable<SourceSession["connection"]>["switchover"];

/** Changes the switchover as soon as there is one. */
export function atSwitchover(
  change: (switchover: Switchover) => void,
): (session: SourceSession) => void {
  return (session) => {
    const setup = session.setup.bind(session);
    session.setup = async () => {
      const made = await setup();
      change(made.connection.switchover);
      return made;
    };
  };
}
