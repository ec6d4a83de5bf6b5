// Owns: what becomes of sessions when the service starts again. HTTP thread.
//
//   outgoing  never sent anything ─▶ failed · else it asks the target until it knows
//   incoming  the VM ran already ─▶ completed · else its memory is gone, and it never runs here
//   VM that was arriving for a session that has ended, or for none ─▶ forgotten
import { timestamp } from "../../base/clock.js";
import type { Failure } from "../../migration/index.js";
import type { VmRegistry } from "../vm-registry.js";
import type { Incoming } from "./incoming.js";
import type { Outgoing } from "./outgoing.js";
import type { Session, SessionBook } from "./session-book.js";
import type { VmMoves } from "./vm-moves.js";

interface Deps {
  readonly book: SessionBook;
  readonly registry: VmRegistry;
  readonly outgoing: Outgoing;
  readonly incoming: Incoming;
  readonly moves: VmMoves;
}

/** To be called once the VMs are known. What has to ask somebody goes on by itself. */
export async function reconcileSessions(deps: Deps): Promise<void> {
  const { book, registry, outgoing, incoming } = deps;
  for (const session of book.all()) {
    const { vmId, direction } = session.record;
    if (registry.has(vmId)) registry.require(vmId).migrationId = session.id;
    if (session.isEnded) continue;
    if (direction === "incoming") await incoming.resume(session);
    else if (session.state === "queued" && session.point === "none")
      await neverBegan(book, session);
    else outgoing.resume(session);
  }
  await forgetArrivals(deps);
}

/** Of sessions whose end was written without them: the store had no room for more, say. */
async function forgetArrivals({ book, registry, moves }: Deps): Promise<void> {
  const left = registry.all().filter(({ record, migrationId }) => {
    const session = migrationId === null ? null : book.find(migrationId);
    return record.state === "incoming" && (session === null || session.isEnded);
  });
  if (left.length === 0) return;
  const effects = left.map((entry) => moves.discarded(entry));
  await book.deps.recorder.commit(effects.flatMap(({ changes }) => changes));
  for (const { done } of effects) done();
}

async function neverBegan(book: SessionBook, session: Session): Promise<void> {
  const failure: Failure = {
    side: "source",
    during: "queued",
    code: "host-restarted",
    detail: "The source's service ended before the migration began.",
    causes: [],
  };
  const endedAt = timestamp(book.deps.clock);
  await book.change(session, { state: "failed", endedAt, failure: { ...failure } }, "ended");
}
