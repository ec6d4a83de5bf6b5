// Owns: which eventfds a VM has that comes from a file or a peer: named where it was saved, found
// or made where it is loaded, ended again where it comes to nothing. HTTP thread.
//
//   saved ─ name ─▶ named ─ attach ─▶ found by name ─┬ keep: they stay, counts that moved are added
//                              └────▶ made ──────────┴ discard: what was made for it alone ends

import { ServiceError } from "../base/errors.js";
import { EVENTFD_COUNT_MAX } from "../base/eventfd-counters.js";
import type { MadeEventfd, MovedEventfd, SavedEventfds } from "../migration/index.js";
import type { Eventfds } from "./eventfd-service.js";

export interface AttachOptions {
  /**
   * "names": those that are made have the names that they come with, and those that are here count
   * what the others had counted: the VM comes from another host. "counters": what is here is what
   * the VM had, with its count; what is made gets an id of its own.
   */
  readonly by: "names" | "counters";
  /** The VM that it was still has its irqfds, and ends when this one is let go. */
  readonly mayWait: boolean;
}

export interface Attachment {
  readonly eventfds: readonly MadeEventfd[];
  /** The VM has them for good. Resolves when it has heard of what they count. */
  keep(): Promise<void>;
  /** It comes to nothing. May be repeated. */
  discard(): Promise<void>;
}

/** What is known of an eventfd while VMs that brought it aren't there for good. */
interface Made {
  users: number;
}

export class EventfdAttachments {
  readonly #eventfds: Eventfds;
  readonly #made = new Map<string, Made>();

  constructor(eventfds: Eventfds) {
    this.#eventfds = eventfds;
  }

  /** By the ids that clients have for them. */
  named(saved: SavedEventfds): readonly MovedEventfd[] {
    return saved.map(({ local, index, count }) => {
      const known = this.#eventfds.named(index);
      const [name, isSemaphore] = [known?.id ?? null, known?.isSemaphore ?? false];
      return { local, name, count, isSemaphore };
    });
  }

  /** The VM counts on elsewhere: what went with it is no longer here. */
  moved(eventfds: readonly MovedEventfd[]): void {
    for (const { name, count } of eventfds) if (name !== null) this.#eventfds.withdraw(name, count);
  }

  /** @throws KvmError EMFILE; ServiceError "state-mismatch". Nothing is made then */
  async attach(moved: readonly MovedEventfd[], options: AttachOptions): Promise<Attachment> {
    const ids: string[] = [];
    const eventfds: MadeEventfd[] = [];
    const adds: { readonly id: string; readonly count: bigint }[] = [];
    try {
      for (const { local, name, count, isSemaphore } of moved) {
        const isHere = this.#isHere(name);
        const id = isHere ? name : await this.#make(name, { count, isSemaphore }, options);
        const made = this.#made.get(id);
        if (made !== undefined) made.users += 1;
        ids.push(id);
        if (isHere && options.by === "names" && count > 0n) adds.push({ id, count });
        eventfds.push({ local, fd: this.#eventfds.resolve(id), mayWait: options.mayWait });
      }
    } catch (error) {
      await this.#discard(ids);
      throw error;
    }
    return {
      eventfds,
      keep: async () => {
        for (const id of ids.splice(0)) this.#made.delete(id);
        for (const { id, count } of adds.splice(0)) await this.#add(id, count);
      },
      discard: () => this.#discard(ids.splice(0)),
    };
  }

  #isHere(name: string | null): name is string {
    const { isEventfd, index } = this.#eventfds.resolve(name);
    return isEventfd && index >= 0;
  }

  async #make(
    name: string | null,
    { count, isSemaphore }: Pick<MovedEventfd, "count" | "isSemaphore">,
    { by }: AttachOptions,
  ): Promise<string> {
    // A kernel's own signals count to one more than anybody may begin with.
    const initial = count > EVENTFD_COUNT_MAX ? EVENTFD_COUNT_MAX : count;
    const { id } =
      name === null || by === "counters"
        ? await this.#eventfds.create(initial, isSemaphore)
        : await this.#eventfds.adopt(name, initial, isSemaphore);
    this.#made.set(id, { users: 0 });
    return id;
  }

  /** As much as there is room for. */
  async #add(id: string, count: bigint): Promise<void> {
    try {
      const room = EVENTFD_COUNT_MAX - (await this.#eventfds.get(id, 0)).count;
      const most = count < room ? count : room;
      if (most > 0n) await this.#eventfds.write(id, most, true);
    } catch (error) {
      ignoreClosed(error);
    }
  }

  async #discard(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      const made = this.#made.get(id);
      if (made === undefined) continue;
      made.users -= 1;
      if (made.users > 0) continue;
      this.#made.delete(id);
      await this.#eventfds.delete(id, false).catch(ignoreClosed);
    }
  }
}

/** A client may have closed it since. */
function ignoreClosed(error: unknown): void {
  if (!(error instanceof ServiceError) || error.code !== "eventfd-not-found") throw error;
}
