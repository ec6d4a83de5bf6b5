// Owns: eventfds by id; the counters themselves are process-wide memory (DESIGN 11). HTTP thread.
// They live as long as the process: a restart leaves none, as closing a process does.
import { type Clock, timestamp } from "../base/clock.js";
import { KvmError, ServiceError } from "../base/errors.js";
import { U64_MAX } from "../base/hex.js";
import { newId } from "../base/ids.js";
import { Unacknowledged } from "../base/unacknowledged.js";
import type { EventfdTable } from "../runtime/index.js";
import { cursorOf, readCursor } from "./cursor.js";
import type { EventfdResource, EventfdService, Page } from "./services.js";

interface Eventfd {
  readonly id: string;
  readonly seq: number;
  readonly index: number;
  readonly isSemaphore: boolean;
  readonly createdAt: string;
  readonly reads: Unacknowledged<bigint>;
  deleted: boolean;
}

interface Deps {
  readonly table: EventfdTable;
  readonly clock: Clock;
  /** Whether an id names some other open descriptor, such as a VM's. */
  readonly isOtherDescriptor: (id: string) => boolean;
}

const PREFIX = "efd";
/** What newId makes, and room for what others make. */
const EVENTFD_ID = /^efd_[\w-]{1,60}$/;

export class Eventfds implements EventfdService {
  readonly #deps: Deps;
  /** In order of creation. */
  readonly #byId = new Map<string, Eventfd>();
  #nextSeq = 1;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  async create(initial: bigint, isSemaphore: boolean): Promise<EventfdResource> {
    return this.adopt(newId(PREFIX), initial, isSemaphore);
  }

  /**
   * One that another host, or another life of this one, has under this id.
   * @param id of no open eventfd
   * @throws ServiceError "state-mismatch" for what is no id; KvmError EINVAL, EMFILE
   */
  async adopt(id: string, initial: bigint, isSemaphore: boolean): Promise<EventfdResource> {
    if (!EVENTFD_ID.test(id) || this.#byId.has(id)) {
      throw new ServiceError("state-mismatch", `${id} can't be the id of an eventfd here.`);
    }
    if (initial === U64_MAX) {
      throw new KvmError("EINVAL", "eventfd2", "An eventfd counts to 0xfffffffffffffffe.");
    }
    const index = this.#deps.table.create(initial, isSemaphore);
    if (index < 0) {
      throw new KvmError("EMFILE", "eventfd2", "No eventfd is free: delete some first.");
    }
    const eventfd: Eventfd = {
      id,
      seq: this.#nextSeq,
      index,
      isSemaphore,
      createdAt: timestamp(this.#deps.clock),
      reads: new Unacknowledged("r"),
      deleted: false,
    };
    this.#nextSeq += 1;
    this.#byId.set(eventfd.id, eventfd);
    return this.#resource(eventfd);
  }

  async list(limit: number, cursor: string | null): Promise<Page<EventfdResource>> {
    const after = cursor === null ? 0 : readCursor(cursor);
    const items: EventfdResource[] = [];
    let last = 0;
    for (const eventfd of this.#byId.values()) {
      if (eventfd.seq <= after) continue;
      if (items.length === limit) return { items, nextCursor: cursorOf(last) };
      items.push(this.#resource(eventfd));
      last = eventfd.seq;
    }
    return { items, nextCursor: null };
  }

  async get(id: string, waitMs: number): Promise<EventfdResource> {
    const eventfd = this.#require(id);
    const { clock, table } = this.#deps;
    const end = clock.monotonicMs() + waitMs;
    for (let left = waitMs; left > 0; left = end - clock.monotonicMs()) {
      if (table.peek(eventfd.index) !== 0n) break;
      await table.changed(eventfd.index, left);
      if (eventfd.deleted) throw notFound(id);
    }
    return this.#resource(eventfd);
  }

  async write(id: string, value: bigint, drain: boolean): Promise<EventfdResource> {
    const eventfd = this.#require(id);
    if (value === U64_MAX) {
      throw new KvmError("EINVAL", "write", "An eventfd takes at most 0xfffffffffffffffe at once.");
    }
    await this.#deps.table.write(eventfd.index, value, drain);
    return this.#resource(eventfd);
  }

  /** So much of the count is counted elsewhere now. */
  withdraw(id: string, n: bigint): void {
    const eventfd = this.#byId.get(id);
    if (eventfd !== undefined) this.#deps.table.withdraw(eventfd.index, n);
  }

  /** Whether a VM's irqfd waits on it. */
  isClaimed(id: string): boolean {
    const eventfd = this.#byId.get(id);
    return eventfd !== undefined && this.#deps.table.isClaimed(eventfd.index);
  }

  /** How many more there can be. */
  get free(): number {
    return this.#deps.table.free();
  }

  async read(
    id: string,
    consume: { key: string | null; after: string | null },
  ): Promise<{ id: string; value: bigint; repeated: boolean }> {
    const eventfd = this.#require(id);
    return eventfd.reads.take(consume, () => {
      const value = this.#deps.table.take(eventfd.index);
      if (value === 0n) throw new KvmError("EAGAIN", "read", "The eventfd's count is zero.");
      return value;
    });
  }

  async delete(id: string, drain: boolean): Promise<void> {
    const eventfd = this.#require(id);
    eventfd.deleted = true;
    this.#byId.delete(id);
    await this.#deps.table.close(eventfd.index, drain);
  }

  async follow(
    id: string,
    seen: number | null,
    waitMs: number,
  ): Promise<{ eventfd: EventfdResource | null; seen: number }> {
    const eventfd = this.#byId.get(id);
    if (eventfd === undefined) return { eventfd: null, seen: 0 };
    const { table } = this.#deps;
    if (seen !== null) await table.moved(eventfd.index, seen, waitMs);
    if (eventfd.deleted) return { eventfd: null, seen: 0 };
    // Before the count: what comes in between is seen as another change.
    const now = table.sequence(eventfd.index);
    return { eventfd: this.#resource(eventfd), seen: now };
  }

  resolve(id: string | null): { index: number; isEventfd: boolean } {
    const eventfd = id === null ? undefined : this.#byId.get(id);
    if (eventfd !== undefined) return { index: eventfd.index, isEventfd: true };
    // Any index that is not -1 says "open"; it is not used, since isEventfd is false.
    if (id !== null && this.#deps.isOtherDescriptor(id)) return { index: 0, isEventfd: false };
    return { index: -1, isEventfd: true };
  }

  named(index: number | null): { readonly id: string; readonly isSemaphore: boolean } | null {
    return [...this.#byId.values()].find((eventfd) => eventfd.index === index) ?? null;
  }

  #resource(eventfd: Eventfd): EventfdResource {
    const count = this.#deps.table.peek(eventfd.index);
    const { id, isSemaphore, createdAt } = eventfd;
    return { id, count, isSemaphore, createdAt };
  }

  #require(id: string): Eventfd {
    const eventfd = this.#byId.get(id);
    if (eventfd === undefined) throw notFound(id);
    return eventfd;
  }
}

function notFound(id: string): ServiceError {
  return new ServiceError("eventfd-not-found", `There is no eventfd ${id}.`);
}
