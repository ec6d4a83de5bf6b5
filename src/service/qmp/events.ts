// Owns: QMP's events: how they look, and which of them tell a VM's news. HTTP thread.
import type { JsonObject } from "./json.js";
import { MIGRATION_STATUS, statusOf } from "./migration-info.js";
import type { VmNews } from "./ports.js";
import { BOOL, INT, NOTHING, type ObjectOf, object, oneOf } from "./qapi.js";

const BY_HOST = "host-qmp-system-reset";
const CAUSES = oneOf(
  ...["host-qmp-quit", BY_HOST, "host-signal"],
  ...["guest-shutdown", "guest-reset"],
);
const CAUSE = object({ guest: BOOL, reason: CAUSES });

export const EVENTS: Readonly<Record<EventName, ObjectOf>> = {
  STOP: NOTHING,
  RESUME: NOTHING,
  SHUTDOWN: CAUSE,
  RESET: CAUSE,
  MIGRATION: object({ status: MIGRATION_STATUS }),
  MIGRATION_PASS: object({ pass: INT }),
};

type EventName = "STOP" | "RESUME" | "SHUTDOWN" | "RESET" | "MIGRATION" | "MIGRATION_PASS";

export interface QmpEvent {
  readonly event: EventName;
  readonly data?: JsonObject;
}

const cause = (event: EventName, guest: boolean, reason: string): QmpEvent => ({
  event,
  data: { guest, reason },
});

const MS = 1000;

/** As a client is told of it. */
export function stamped({ event, data }: QmpEvent, nowMs: number): JsonObject {
  const microseconds = Math.floor((nowMs % MS) * MS);
  const timestamp = { seconds: Math.floor(nowMs / MS), microseconds };
  return { timestamp, event, ...(data === undefined ? {} : { data }) };
}

/** Turns news into events; what it remembers is what a client was told last. */
export class EventTeller {
  #isRunning: boolean;
  #isQuitting = false;
  #status = "none";

  /** @param isRunning what the VM is when its socket is opened */
  constructor(isRunning: boolean) {
    this.#isRunning = isRunning;
  }

  /** Its end is a client's wish. */
  quits(): void {
    this.#isQuitting = true;
  }

  /** @param hasEvents the migration capability "events": without it there are none of migrations */
  of(news: VmNews, hasEvents: boolean): readonly QmpEvent[] {
    switch (news.kind) {
      case "running":
        return this.#runs(true);
      case "paused":
      case "crashed":
        return this.#runs(false);
      case "shutdown":
        return [
          news.byGuest
            ? cause("SHUTDOWN", true, "guest-shutdown")
            : cause("SHUTDOWN", false, "host-signal"),
          ...this.#runs(false),
        ];
      case "reset":
        return [
          news.byGuest ? cause("RESET", true, "guest-reset") : cause("RESET", false, BY_HOST),
        ];
      case "stopped":
        this.#isRunning = false;
        return [cause("SHUTDOWN", false, this.#isQuitting ? "host-qmp-quit" : "host-signal")];
      case "migration":
        return hasEvents ? this.#migration(news) : [];
      case "round":
        if (!hasEvents || news.state !== "active") return [];
        return [{ event: "MIGRATION_PASS", data: { pass: news.round + 1 } }];
    }
  }

  #runs(isRunning: boolean): readonly QmpEvent[] {
    if (this.#isRunning === isRunning) return [];
    this.#isRunning = isRunning;
    return [{ event: isRunning ? "RESUME" : "STOP" }];
  }

  /** That the VM is held, and let go, is told as its other pauses are. */
  #migration({ state, isOutgoing }: VmNews & { kind: "migration" }): readonly QmpEvent[] {
    const status = statusOf(state);
    const before = this.#status;
    if (status === before) return [];
    this.#status = status;
    const told: QmpEvent = { event: "MIGRATION", data: { status } };
    // After a pause before its switchover it is active again, and the round before it told of this.
    if (!isOutgoing || state !== "active" || before === "pre-switchover") return [told];
    return [told, { event: "MIGRATION_PASS", data: { pass: 1 } }];
  }
}
