// The memory layout as the client of a VM knows it: what it mapped, which slots it set, and what an
// ioctl under way may already have changed. Imports nothing of kvm, so it can't share its mistakes.

/** One mmap: userspace pages [hvaPage, hvaPage + pages) lie at host pages [paPage, …). */
export interface ObjectPages {
  readonly id: number;
  readonly hvaPage: number;
  readonly pages: number;
  readonly paPage: number;
}

/** Where a slot stands in guest and userspace memory, in pages. */
export interface Placement {
  readonly baseGfn: number;
  readonly npages: number;
  readonly hvaPage: number;
  readonly isLogging: boolean;
  readonly isReadOnly: boolean;
}

/** A slot, and for each of its pages when it was last stored to and last acquired. */
export interface SlotModel {
  readonly id: number;
  current: Placement | null;
  /** What it becomes when the change under way succeeds; null for a delete. */
  next: Placement | null;
  isChanging: boolean;
  /** Times on the oracle's clock, one per page; -1 for never. */
  stored: Float64Array;
  acquired: Float64Array;
}

/** Which slot page a store went to; or why no slot allowed it. */
export type Attribution =
  | { readonly kind: "page"; readonly slot: SlotModel; readonly offset: number }
  | { readonly kind: "ambiguous" }
  | { readonly kind: "illegal"; readonly why: string };

const NONE = new Float64Array(0);

export class MemoryModel {
  readonly pageSize: number;
  readonly objects = new Map<number, ObjectPages>();
  readonly slots = new Map<number, SlotModel>();

  constructor(pageSize: number) {
    this.pageSize = pageSize;
  }

  slot(id: number): SlotModel {
    let slot = this.slots.get(id);
    if (slot === undefined) {
      slot = { id, current: null, next: null, isChanging: false, stored: NONE, acquired: NONE };
      this.slots.set(id, slot);
    }
    return slot;
  }

  /** A slot change was sent. */
  begin(id: number, next: Placement | null): void {
    const slot = this.slot(id);
    slot.next = next;
    slot.isChanging = true;
    if (slot.current === null && next !== null) {
      slot.stored = new Float64Array(next.npages).fill(-1);
      slot.acquired = new Float64Array(next.npages).fill(-1);
    }
  }

  /**
   * A slot change was answered. Replies of ioctls that hold the slots lock to their end arrive in
   * the order of that lock, so from here on the slot is what the change made of it.
   */
  end(id: number, isDone: boolean, now: number): void {
    const slot = this.slot(id);
    if (isDone) {
      const wasLogging = slot.current?.isLogging === true;
      slot.current = slot.next;
      // Userspace copies the whole slot once its log is on: everything is acquired at that moment.
      if (slot.current?.isLogging === true && !wasLogging) slot.acquired.fill(now);
    }
    if (slot.current === null) {
      slot.stored = NONE;
      slot.acquired = NONE;
    }
    slot.next = null;
    slot.isChanging = false;
  }

  /** The object whose memory holds a host page. */
  objectAt(paPage: number): ObjectPages | undefined {
    for (const object of this.objects.values()) {
      if (paPage >= object.paPage && paPage < object.paPage + object.pages) return object;
    }
    return undefined;
  }

  /** Host page behind a userspace page, or -1 for a hole. */
  hostPage(hvaPage: number): number {
    for (const object of this.objects.values()) {
      const at = hvaPage - object.hvaPage;
      if (at >= 0 && at < object.pages) return object.paPage + at;
    }
    return -1;
  }

  /** The slot that holds a guest page, between two ioctls. */
  slotAt(gfn: number): SlotModel | undefined {
    for (const slot of this.slots.values()) {
      const at = slot.current === null ? -1 : gfn - slot.current.baseGfn;
      if (slot.current !== null && at >= 0 && at < slot.current.npages) return slot;
    }
    return undefined;
  }

  /**
   * Finds the slot page of a committed store by where its bytes really went. While a slot changes,
   * a store may go through its old place or its new one.
   */
  attribute(gfn: number, paPage: number): Attribution {
    const object = this.objectAt(paPage);
    if (object === undefined) return illegal(gfn, paPage, "in no memory object");
    const hvaPage = object.hvaPage + paPage - object.paPage;
    let found: SlotModel | null = null;
    let offset = 0;
    let where = "which no slot maps there";
    for (const slot of this.slots.values()) {
      for (const place of [slot.current, slot.isChanging ? slot.next : null]) {
        if (place === null) continue;
        const at = hvaPage - place.hvaPage;
        if (at < 0 || at >= place.npages || place.baseGfn + at !== gfn) continue;
        if (place.isReadOnly) {
          where = "in a read-only slot";
          continue;
        }
        if (found !== null && found !== slot) return { kind: "ambiguous" };
        found = slot;
        offset = at;
      }
    }
    if (found === null) return illegal(gfn, paPage, where);
    return { kind: "page", slot: found, offset };
  }
}

function illegal(gfn: number, paPage: number, where: string): Attribution {
  const gpa = `gfn 0x${gfn.toString(16)}`;
  return { kind: "illegal", why: `store to ${gpa} hit host page ${paPage}, ${where}` };
}
