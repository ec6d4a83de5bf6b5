// Owns: a migration as server-sent events, until it ends; and waiting for that end. HTTP thread.
// Nothing is kept for a slow reader: it gets the migration as it is when it reads.
import { ServiceError } from "../base/errors.js";
import type { ApiDeps } from "./deps.js";
import type { MigrationResource } from "./services.js";
import type { Stream } from "./sse.js";
import { migrationView } from "./views/migration.js";

/** Progress is told at most so often, milliseconds. */
const PAUSE_MS = 250;

const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

/** A promise that others resolve, anew each time. */
class Bell {
  #ring: () => void = () => {};
  rung: Promise<void>;

  constructor() {
    this.rung = this.#next();
  }

  ring(): void {
    const ring = this.#ring;
    this.rung = this.#next();
    ring();
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      this.#ring = resolve;
    });
  }
}

/** Runs until the migration ends, the client goes or the service drains. */
export async function followMigration(deps: ApiDeps, stream: Stream, id: string): Promise<void> {
  const { migrations } = deps.services;
  const bell = new Bell();
  let isOver = false;
  const end = (): void => {
    isOver = true;
    bell.ring();
  };
  stream.onClose(end);
  const withdraw = deps.lifecycle.onDrain(end);
  const unsubscribe = migrations.subscribe(id, () => bell.ring());
  deps.metrics.streams(1);
  try {
    stream.sendHeaders();
    while (!isOver) {
      const { rung } = bell;
      const migration = await lookAt(deps, id);
      if (migration === null)
        return await stream.send({ event: "migration.deleted", data: { id } });
      const event = ENDED.has(migration.state) ? "migration.ended" : "migration";
      await stream.send({ event, data: migrationView(migration) });
      if (ENDED.has(migration.state)) return;
      await rung;
      if (!isOver) await deps.clock.sleep(PAUSE_MS);
    }
  } finally {
    unsubscribe();
    withdraw();
    deps.metrics.streams(-1);
  }
}

async function lookAt(deps: ApiDeps, id: string): Promise<MigrationResource | null> {
  try {
    return await deps.services.migrations.get(id);
  } catch (error) {
    if (error instanceof ServiceError && error.code === "migration-not-found") return null;
    throw error;
  }
}

/** @returns the migration once it has ended, or as it is after `waitMs` */
export async function untilEnded(
  deps: ApiDeps,
  id: string,
  waitMs: number,
): Promise<MigrationResource> {
  const { migrations } = deps.services;
  const { clock, lifecycle } = deps;
  const deadline = clock.monotonicMs() + waitMs;
  for (;;) {
    const bell = new Bell();
    const { rung } = bell;
    const unsubscribe = migrations.subscribe(id, () => bell.ring());
    const left = deadline - clock.monotonicMs();
    const cancel = clock.timer(Math.max(0, left), () => bell.ring());
    const withdraw = lifecycle.onDrain(() => bell.ring());
    try {
      const migration = await migrations.get(id);
      const isLast = left <= 0 || lifecycle.phase !== "serving";
      if (ENDED.has(migration.state) || isLast) return migration;
      await rung;
    } finally {
      unsubscribe();
      cancel();
      withdraw();
    }
  }
}
