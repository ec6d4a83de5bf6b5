// Owns: every VM by id, in order of creation. HTTP thread.
// The records are held in memory as well as in the store: the service is the only writer of both,
// so reads cost no query.
import { ServiceError } from "../base/errors.js";
import { cursorOf, readCursor } from "./cursor.js";
import type { Page, VmFilter, VmResource, VmState } from "./services.js";
import type { VmEntry } from "./vm-entry.js";

export class VmRegistry {
  readonly #byId = new Map<string, VmEntry>();
  /** Also of VMs that are just being created. */
  readonly #uuids = new Set<string>();
  #nextSeq = 1;
  #creating = 0;

  /** VMs that exist or are being created. */
  get count(): number {
    return this.#byId.size + this.#creating;
  }

  /** Entries must come in order of creation. */
  add(entry: VmEntry): void {
    this.#byId.set(entry.id, entry);
    if (holdsUuid(entry)) this.#uuids.add(entry.record.uuid);
    this.#nextSeq = Math.max(this.#nextSeq, entry.record.seq + 1);
  }

  /**
   * Keeps a uuid and a place for a VM that is being created.
   * @returns a function to call once it was added or given up
   * @throws ServiceError "uuid-taken"
   */
  reserve(uuid: string): (isAdded: boolean) => void {
    if (this.#uuids.has(uuid)) {
      throw new ServiceError("uuid-taken", `Another VM has the uuid ${uuid}.`);
    }
    this.#uuids.add(uuid);
    this.#creating += 1;
    return (isAdded) => {
      this.#creating -= 1;
      if (!isAdded) this.#uuids.delete(uuid);
    };
  }

  /** To be taken just before the record is written: writes keep their order, so lists do too. */
  nextSeq(): number {
    const seq = this.#nextSeq;
    this.#nextSeq += 1;
    return seq;
  }

  remove(entry: VmEntry): void {
    this.#byId.delete(entry.id);
    this.#settleUuid(entry.record.uuid);
  }

  /** Whether a VM that is of this host has the uuid, or one under creation. */
  hasUuid(uuid: string): boolean {
    return this.#uuids.has(uuid);
  }

  /** A VM has come or gone by moving: it has its uuid from now on, or no longer. */
  moved(entry: VmEntry): void {
    this.#settleUuid(entry.record.uuid);
  }

  #settleUuid(uuid: string): void {
    const all = [...this.#byId.values()];
    if (all.some((one) => one.record.uuid === uuid && holdsUuid(one))) this.#uuids.add(uuid);
    else this.#uuids.delete(uuid);
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** @throws ServiceError "vm-not-found" */
  require(id: string): VmEntry {
    const entry = this.#byId.get(id);
    if (entry === undefined || entry.isDeleted) {
      throw new ServiceError("vm-not-found", `There is no VM ${id}.`);
    }
    return entry;
  }

  all(): readonly VmEntry[] {
    return [...this.#byId.values()];
  }

  /** How many are in each state. */
  counts(): ReadonlyMap<VmState, number> {
    const counted = new Map<VmState, number>();
    for (const { isDeleted, resource } of this.#byId.values()) {
      if (!isDeleted) counted.set(resource.state, (counted.get(resource.state) ?? 0) + 1);
    }
    return counted;
  }

  list(filter: VmFilter): Page<VmResource> {
    const after = filter.cursor === null ? 0 : readCursor(filter.cursor);
    const items: VmResource[] = [];
    let last = 0;
    for (const entry of this.#byId.values()) {
      if (entry.record.seq <= after || entry.isDeleted || !matches(entry, filter)) continue;
      if (items.length === filter.limit) return { items, nextCursor: cursorOf(last) };
      items.push(entry.resource);
      last = entry.record.seq;
    }
    return { items, nextCursor: null };
  }
}

/** What a VM left behind, and one that is still to come, keep nobody from having its uuid. */
function holdsUuid({ record: { state } }: VmEntry): boolean {
  return state !== "migrated" && state !== "incoming";
}

function matches(entry: VmEntry, filter: VmFilter): boolean {
  const { state, labels } = entry.record;
  if (filter.state !== null && filter.state !== state) return false;
  return filter.labels.every(
    ([name, value]) => Object.hasOwn(labels, name) && labels[name] === value,
  );
}
