// Owns: the service's history: ids, order, what is kept (DESIGN 12). HTTP thread.
//
//   announce ─────────────┐                             ┌─▶ listeners (SSE)
//   reserve ─▶ publish() ─┴▶ waiting, in order of id ───┼─▶ recent, in memory
//                 or void()                             └─▶ unsaved ─batch─▶ store
//
// A state change is written together with its event, so its id is given before it is known whether
// it happens. Later events wait behind it: a follower never sees ids out of order.
import { type Clock, timestamp } from "../base/clock.js";
import type { Store } from "../store/index.js";
import {
  EVENT_FLUSH_COUNT,
  EVENT_FLUSH_MS,
  EVENTS_PER_TRIM,
  EVENTS_UNSAVED_MAX,
  RESAVE_MS,
  type ServiceLimits,
} from "./limits.js";
import type { Recorder } from "./recorder.js";
import type { EventService, ServiceEvent } from "./services.js";

type Data = Readonly<Record<string, unknown>>;

/** An event with an id that is not published yet. */
export interface ReservedEvent {
  /** To be written together with what it tells. */
  readonly event: ServiceEvent;
  /** It was written. */
  publish(): void;
  /** It did not happen; its id tells so instead. */
  void(): void;
}

interface Waiting {
  event: ServiceEvent;
  settled: boolean;
  saved: boolean;
}

interface Deps {
  readonly store: Store;
  readonly recorder: Recorder;
  readonly clock: Clock;
  readonly limits: ServiceLimits;
}

export class EventLog implements EventService {
  readonly #deps: Deps;
  readonly #listeners = new Set<(event: ServiceEvent) => void>();
  readonly #waiting: Waiting[] = [];
  /** Contiguous ids, the newest last; holds at least everything that is unsaved. */
  #recent: ServiceEvent[] = [];
  #unsaved: ServiceEvent[] = [];
  #nextId: number;
  #oldest: number;
  #newest: number;
  #sinceTrim = 0;
  #flushing: Promise<void> | null = null;
  #cancelTimer: (() => void) | null = null;

  private constructor(deps: Deps, range: { oldest: number; newest: number }, nextId: number) {
    this.#deps = deps;
    this.#oldest = range.oldest;
    this.#newest = range.newest;
    this.#nextId = nextId;
  }

  /** @param afterCrash the last life ended without close(): events of its last batch may be lost */
  static async open(deps: Deps, afterCrash: boolean): Promise<EventLog> {
    const range = await deps.store.eventRange();
    const step = afterCrash ? EVENTS_UNSAVED_MAX + 1 : 1;
    return new EventLog(deps, range, range.newest + step);
  }

  /** Adds one line; on disk with the next batch. */
  announce(type: string, subject: string, data: Data): void {
    const event = this.#make(type, subject, data);
    this.#waiting.push({ event, settled: true, saved: false });
    this.#release();
  }

  /** Gives an event its id now; the caller writes it and then publishes it, or voids it. */
  reserve(type: string, subject: string, data: Data): ReservedEvent {
    const entry: Waiting = {
      event: this.#make(type, subject, data),
      settled: false,
      saved: true,
    };
    this.#waiting.push(entry);
    const settle = (): void => {
      entry.settled = true;
      this.#release();
    };
    return {
      event: entry.event,
      publish: settle,
      void: () => {
        const { id, time } = entry.event;
        const why = { refused: type };
        entry.event = { id, type: "server.record-refused", time, subject, data: why };
        entry.saved = false;
        settle();
      },
    };
  }

  oldest(): number {
    return this.#oldest === 0 ? this.#newest : this.#oldest;
  }

  newest(): number {
    return this.#newest;
  }

  subscribe(listener: (event: ServiceEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async list(
    after: number,
    limit: number,
  ): Promise<{ items: readonly ServiceEvent[]; gap: boolean }> {
    if (after > this.#newest) return { items: [], gap: true };
    const items = await this.#read(after, limit);
    let expected = after + 1;
    let gap = items.length === 0 && after < this.#newest && limit > 0;
    for (const item of items) {
      if (item.id !== expected) gap = true;
      expected = item.id + 1;
    }
    return { items, gap };
  }

  /** Writes what is not written yet; gives up when the store refuses. */
  async flush(): Promise<void> {
    do {
      this.#cancelTimer?.();
      this.#cancelTimer = null;
      this.#flushing ??= this.#write().finally(() => {
        this.#flushing = null;
        if (this.#unsaved.length > 0) this.#schedule();
      });
      await this.#flushing;
    } while (this.#unsaved.length > 0 && this.#deps.recorder.failure === null);
  }

  async #read(after: number, limit: number): Promise<readonly ServiceEvent[]> {
    const inMemory = this.#recent[0];
    if (inMemory !== undefined && after >= inMemory.id - 1) {
      // Ids in memory follow each other, so the place is known.
      const from = after - inMemory.id + 1;
      return this.#recent.slice(from, from + limit);
    }
    const stored = await this.#deps.store.readEvents(after, limit);
    // What memory has is told from memory: the store may be behind it, and also ahead of it by
    // what was written but waits for an earlier one to be published.
    const memory = this.#recent;
    const from = memory[0]?.id ?? this.#newest + 1;
    const older = stored.filter((event) => event.id < from);
    return [...older, ...memory.slice(0, limit - older.length)];
  }

  #make(type: string, subject: string, data: Data): ServiceEvent {
    const id = this.#nextId;
    this.#nextId += 1;
    return { id, type, time: timestamp(this.#deps.clock), subject, data };
  }

  #release(): void {
    for (;;) {
      const entry = this.#waiting[0];
      if (entry === undefined || !entry.settled) break;
      this.#waiting.shift();
      this.#recent.push(entry.event);
      this.#newest = entry.event.id;
      if (this.#oldest === 0) this.#oldest = entry.event.id;
      if (!entry.saved) this.#unsaved.push(entry.event);
      this.#sinceTrim += 1;
      for (const listener of this.#listeners) listener(entry.event);
    }
    this.#bound();
    if (this.#unsaved.length > 0 || this.#sinceTrim >= EVENTS_PER_TRIM) this.#schedule();
  }

  #bound(): void {
    if (this.#unsaved.length > EVENTS_UNSAVED_MAX) {
      this.#unsaved = this.#unsaved.slice(-EVENTS_UNSAVED_MAX);
    }
    const { eventsInMemory } = this.#deps.limits;
    if (this.#recent.length < eventsInMemory * 2) return;
    const firstUnsaved = this.#unsaved[0]?.id ?? Number.POSITIVE_INFINITY;
    const keepFrom = this.#recent.length - eventsInMemory;
    const cut = this.#recent.findIndex((event, i) => i >= keepFrom || event.id >= firstUnsaved);
    if (cut > 0) this.#recent = this.#recent.slice(cut);
  }

  #schedule(): void {
    if (this.#flushing !== null || this.#cancelTimer !== null) return;
    const isWell = this.#deps.recorder.failure === null;
    const delay = isWell ? EVENT_FLUSH_MS : RESAVE_MS;
    if (isWell && this.#unsaved.length >= EVENT_FLUSH_COUNT) {
      void this.flush();
      return;
    }
    this.#cancelTimer = this.#deps.clock.timer(delay, () => {
      this.#cancelTimer = null;
      void this.flush();
    });
  }

  async #write(): Promise<void> {
    const batch = [...this.#unsaved];
    const last = batch.at(-1)?.id ?? 0;
    const trim = this.#sinceTrim >= EVENTS_PER_TRIM;
    try {
      await this.#deps.recorder.commit([
        { kind: "add-events", events: batch },
        ...(trim ? [{ kind: "trim-events", keep: this.#deps.limits.events } as const] : []),
      ]);
      this.#unsaved = this.#unsaved.filter((event) => event.id > last);
      if (!trim) return;
      this.#sinceTrim = 0;
      this.#oldest = (await this.#deps.store.eventRange()).oldest;
    } catch {
      // The recorder has logged it, and readiness tells; the events stay unsaved.
    }
  }
}
