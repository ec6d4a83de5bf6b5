// The truth about dirty pages: every store that committed, and everything that a client acquired.
// Imports nothing of kvm (DESIGN 8).
//
//   INV-1: a page whose last store is younger than its last acquisition is in a later report.
//
// An acquisition of a page completes when the reply arrives that covers it: a legacy GET or a
// harvest, a CLEAR, a ring reset. A store that came before it is covered by the data that the
// client reads afterwards; a store after it must be reported again. Too many reports are allowed.
import { MemoryModel, type SlotModel } from "./model.js";

export interface OracleCounts {
  stores: number;
  acquired: number;
  /** Pages reported though nothing was stored to them since they were last acquired. */
  falsePositives: number;
  lostPages: number;
  /** Stores through memory that two changing slots may both have owned. */
  ambiguous: number;
  /** Times that the truly dirty set was compared with a report or with what is reachable. */
  comparisons: number;
}

export class Oracle {
  readonly model: MemoryModel;
  readonly counts: OracleCounts = {
    stores: 0,
    acquired: 0,
    falsePositives: 0,
    lostPages: 0,
    ambiguous: 0,
    comparisons: 0,
  };
  /** The first thing that went wrong. */
  failure: string | null = null;
  #now = 0;

  constructor(pageSize: number) {
    this.model = new MemoryModel(pageSize);
  }

  fail(why: string): void {
    this.failure ??= why;
  }

  /** The present moment; later ones are greater. */
  now(): number {
    return ++this.#now;
  }

  /** A store of a vCPU committed; it never crosses a page. */
  store(ipa: number, pa: number): void {
    const { pageSize } = this.model;
    this.counts.stores++;
    if (ipa % pageSize !== pa % pageSize) {
      this.fail(`store to ipa 0x${ipa.toString(16)} hit pa 0x${pa.toString(16)}`);
      return;
    }
    const found = this.model.attribute(Math.floor(ipa / pageSize), Math.floor(pa / pageSize));
    if (found.kind === "illegal") this.fail(found.why);
    else if (found.kind === "ambiguous") this.counts.ambiguous++;
    else found.slot.stored[found.offset] = this.now();
  }

  changing(id: number, next: SlotModel["next"]): void {
    this.model.begin(id, next);
  }

  changed(id: number, isDone: boolean): void {
    this.model.end(id, isDone, this.now());
  }

  /**
   * A client has a page of a slot as of `time`.
   * @param isReport false for pages that the client named on its own account
   */
  acquire(id: number, offset: number, time: number, isReport: boolean): void {
    const slot = this.model.slot(id);
    if (slot.current === null || offset >= slot.acquired.length) return;
    const before = slot.acquired[offset]!;
    if (before >= time) return;
    this.counts.acquired++;
    if (isReport && slot.stored[offset]! <= before) this.counts.falsePositives++;
    slot.acquired[offset] = time;
  }

  isDirty(slot: SlotModel, offset: number): boolean {
    return slot.stored[offset]! > slot.acquired[offset]!;
  }

  /**
   * Every truly dirty page of a logging slot must be in a report, or be reachable by a later one.
   * @param what names the report for the failure's sentence
   */
  mustContain(id: number, what: string, contains: (offset: number) => boolean): void {
    const slot = this.model.slot(id);
    if (slot.current?.isLogging !== true || slot.isChanging) return;
    this.counts.comparisons++;
    const lost: number[] = [];
    for (let offset = 0; offset < slot.stored.length; offset++) {
      if (this.isDirty(slot, offset) && !contains(offset)) lost.push(offset);
    }
    if (lost.length === 0) return;
    this.counts.lostPages += lost.length;
    const pages = lost.slice(0, 8).join(", ");
    this.fail(`${lost.length} dirty page(s) of slot ${id} are not in ${what}: ${pages}`);
  }
}

/** Bit `page` of a dirty bitmap in KVM's layout. */
export function bitOf(bitmap: Uint8Array, page: number): boolean {
  return ((bitmap[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0;
}
