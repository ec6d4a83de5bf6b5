// Owns: dirty logs that were read and not yet acknowledged, one per slot (DESIGN 9). VM thread.

import { ServiceError } from "../base/errors.js";
import type { Saved } from "../base/saved.js";
import { type Consume, Unacknowledged } from "../base/unacknowledged.js";
import { type Kvm, Mutex, type Op } from "../kvm/index.js";
import type { DirtyLog, Harvest } from "./commands.js";

/** Thrown by a probe to learn that a new result is due; never leaves this file. */
const DUE = new Error("a new result is due");

interface Source {
  readonly kept: Unacknowledged<DirtyLog>;
  /** Held while a harvest of the slot is under way, so that two can't both take the bits. */
  readonly busy: Mutex;
}

type OwnWrites = (slot: number, bitmap: Uint8Array) => void;

export class Harvests {
  readonly #kvm: Kvm;
  readonly #own: OwnWrites;
  readonly #sources = new Map<number, Source>();

  /** @param own adds what the VMM's own devices wrote to a slot's log */
  constructor(kvm: Kvm, own: OwnWrites) {
    this.#kvm = kvm;
    this.#own = own;
  }

  #source(slot: number): Source {
    let source = this.#sources.get(slot);
    if (source === undefined) {
      source = { kept: new Unacknowledged<DirtyLog>("h"), busy: new Mutex(`harvest-${slot}`) };
      this.#sources.set(slot, source);
    }
    return source;
  }

  /**
   * KVM_GET_DIRTY_LOG whose result is kept. The bytes given out are a copy: the kept ones stay.
   * @throws KvmError as GET; ServiceError "harvest-unacknowledged"
   */
  *take(slot: number, consume: Consume): Op<Harvest> {
    this.#kvm.log.checkGet(slot);
    const { kept, busy } = this.#source(slot);
    yield* busy.lock();
    try {
      const again = repeatOf(kept, consume);
      if (again !== null) return harvest(slot, again.id, again.value, true);
      const log = yield* this.#kvm.log.get(slot);
      this.#own(slot, log.bitmap);
      const taken = kept.take(consume, () => log);
      return harvest(slot, taken.id, taken.value, false);
    } finally {
      busy.unlock();
    }
  }

  /** @throws ServiceError "harvest-not-found" */
  get(slot: number, id: string): Harvest {
    const found = this.#sources.get(slot)?.kept.find(id) ?? null;
    if (found === null) throw notFound(slot, id);
    return harvest(slot, id, found.value, true);
  }

  /** Idempotent. @throws ServiceError "harvest-not-found" for an id that never was */
  acknowledge(slot: number, id: string): void {
    if (this.#sources.get(slot)?.kept.acknowledge(id) !== true) throw notFound(slot, id);
  }

  save(): Saved {
    const sources = [...this.#sources].map(([slot, source]) => [slot, source.kept.save()]);
    return { kind: "harvests", version: 1, data: { sources } };
  }

  load(saved: Saved): void {
    this.#sources.clear();
    for (const [slot, kept] of (saved.data as { sources: [number, Saved][] }).sources) {
      this.#source(slot).kept.load(kept);
    }
  }
}

function repeatOf(kept: Unacknowledged<DirtyLog>, consume: Consume) {
  try {
    return kept.take(consume, () => {
      throw DUE;
    });
  } catch (error) {
    if (error === DUE) return null;
    throw error;
  }
}

function harvest(slot: number, id: string, log: DirtyLog, repeated: boolean): Harvest {
  return { id, slot, repeated, npages: log.npages, bitmap: log.bitmap.slice() };
}

function notFound(slot: number, id: string): ServiceError {
  return new ServiceError(
    "harvest-not-found",
    `slot ${slot} keeps no harvest ${id}: it was acknowledged, or never taken`,
  );
}
