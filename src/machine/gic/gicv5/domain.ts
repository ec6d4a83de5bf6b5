// Owns: the SPIs and LPIs of one interrupt domain, the host's own or one VM's: what instructions
// and wires do to their state, and which of them a CPU takes next. VM thread.
//
//   CDPEND, CDEN … ─┐                                   ┌─ queue of IAFFID 0 ─▶ candidate(0)
//   VDPEND, lines  ─┼─▶ entry in its table (the truth) ─┤
//   CDIA, CDDI     ─┘                                   └─ queue of IAFFID 1 ─▶ candidate(1)
// @source interrupts.md 5.2 to 5.4; gicv5-observed.md 4.2, 4.3
import type { Saved } from "../../../base/saved.js";
import {
  ICSR_F,
  INTID_TYPE,
  ISTE,
  iaffidOf,
  icsrOf,
  idOf,
  intidOf,
  isOffered,
  priorityOf,
  typeOf,
  withIaffid,
  withPriority,
} from "./intid.js";
import type { StateTable } from "./ist.js";
import { InterruptQueue, intidOfKey, keyOf } from "./queue.js";

/** What a CPU would take next. */
export interface Candidate {
  readonly intid: number;
  readonly priority: number;
}

/** SET_EDGE, SET_LEVEL and CLEAR: what a wire tells the IRS. */
export type WireEvent = "set-edge" | "set-level" | "clear";

/** Types whose state lies in a table. */
type TableType = typeof INTID_TYPE.LPI | typeof INTID_TYPE.SPI;

export class InterruptDomain {
  /** IRS_CR0.IRSEN of a physical domain; a VM's stays true, its CPU interfaces know better. */
  isEnabled = true;
  /** The candidate of a PE may have changed. */
  onCandidate: ((iaffid: number) => void) | null = null;
  /** Told of each interrupt that was active and isn't any more: for onlookers. */
  onDeactivated: ((intid: number) => void) | null = null;
  readonly #tables: Record<TableType, StateTable | null> = { 2: null, 3: null };
  readonly #queues = new Map<number, InterruptQueue>();

  /** Another table from now on, or none; what is pending in it is found. */
  setTable(type: TableType, table: StateTable | null): void {
    const affected = this.#forget(type);
    this.#tables[type] = table;
    if (table !== null) {
      for (const id of table.pending()) this.#offer(intidOf(type, id), table.read(id));
    }
    for (const iaffid of new Set([...affected, ...this.#queues.keys()])) this.onCandidate?.(iaffid);
  }

  table(type: TableType): StateTable | null {
    return this.#tables[type];
  }

  /** Entries were written by somebody else: what is pending is found anew. */
  rescan(): void {
    for (const type of [INTID_TYPE.LPI, INTID_TYPE.SPI]) this.setTable(type, this.#tables[type]);
  }

  /** @returns whom it was offered to */
  #forget(type: TableType): readonly number[] {
    const affected = [...this.#queues.keys()];
    for (const queue of this.#queues.values()) {
      queue.trim((key) => typeOf(intidOfKey(key)) !== type);
    }
    return affected;
  }

  #tableOf(intid: number): StateTable | null {
    const type = typeOf(intid);
    return type === INTID_TYPE.LPI || type === INTID_TYPE.SPI ? this.#tables[type] : null;
  }

  /** The entry; -1 when it can't be reached. */
  entry(intid: number): number {
    return this.#tableOf(intid)?.read(idOf(intid)) ?? -1;
  }

  /** CDRCFG, VDRCFG. @returns ICSR */
  config(intid: number): bigint {
    const word = this.entry(intid);
    return word < 0 ? ICSR_F : icsrOf(word);
  }

  // ── state ───────────────────────────────────────────────────────────────────────────────────

  /** Changes an entry, if there is one. @returns what it was, or -1 */
  #change(intid: number, to: (word: number) => number): number {
    const table = this.#tableOf(intid);
    const id = idOf(intid);
    const was = table?.read(id) ?? -1;
    if (table === null || was < 0) return -1;
    const word = to(was) >>> 0;
    if (word !== was) table.write(id, word);
    const typed = intidOf(typeOf(intid), id);
    // Offered before anybody hears of it: a doorbell looks at once.
    if (isOffered(word)) this.#offer(typed, word);
    if (isOffered(was)) this.#notify(iaffidOf(was));
    if (isOffered(word) && (!isOffered(was) || iaffidOf(was) !== iaffidOf(word))) {
      this.#notify(iaffidOf(word));
    }
    return was;
  }

  #notify(iaffid: number): void {
    this.onCandidate?.(iaffid);
  }

  #offer(intid: number, word: number): void {
    if (!isOffered(word)) return;
    const iaffid = iaffidOf(word);
    let queue = this.#queues.get(iaffid);
    if (queue === undefined) {
      queue = new InterruptQueue();
      this.#queues.set(iaffid, queue);
    }
    queue.add(keyOf(priorityOf(word), intid));
    if (queue.isCrowded) queue.trim((key) => this.#isLive(key, iaffid));
  }

  #isLive(key: number, iaffid: number): boolean {
    const word = this.entry(intidOfKey(key));
    return (
      word >= 0 &&
      isOffered(word) &&
      iaffidOf(word) === iaffid &&
      keyOf(priorityOf(word), intidOfKey(key)) === key
    );
  }

  enable(intid: number, on: boolean): void {
    this.#change(intid, (word) => (on ? word | ISTE.ENABLE : word & ~ISTE.ENABLE));
  }

  priority(intid: number, priority: number): void {
    this.#change(intid, (word) => withPriority(word, priority));
  }

  /** CDAFF. Without 1-of-N there is no IRM: the IAFFID counts whatever it says. */
  affinity(intid: number, iaffid: number): void {
    this.#change(intid, (word) => withIaffid(word, iaffid));
  }

  pend(intid: number, on: boolean): void {
    this.#change(intid, (word) => (on ? word | ISTE.PENDING : word & ~ISTE.PENDING));
  }

  /** CDHM. */
  handling(intid: number, isLevel: boolean): void {
    this.#change(intid, (word) => (isLevel ? word | ISTE.HM : word & ~ISTE.HM));
  }

  /** CDDI. @returns whether Active went from 1 to 0 */
  deactivate(intid: number): boolean {
    const was = this.#change(intid, (word) => word & ~ISTE.ACTIVE);
    const isOver = was >= 0 && (was & ISTE.ACTIVE) !== 0;
    if (isOver) this.onDeactivated?.(intidOf(typeOf(intid), idOf(intid)));
    return isOver;
  }

  /** What CDIA does to the interrupt it returns: an edge is over with it, a level is not. */
  activate(intid: number): void {
    this.#change(intid, (word) => {
      const active = word | ISTE.ACTIVE;
      return (word & ISTE.HM) === 0 ? active & ~ISTE.PENDING : active;
    });
  }

  event(intid: number, event: WireEvent): void {
    this.#change(intid, (word) => {
      if (event === "clear") return word & ~ISTE.PENDING;
      const pending = word | ISTE.PENDING;
      return event === "set-level" ? pending | ISTE.HM : pending & ~ISTE.HM;
    });
  }

  // ── candidates ──────────────────────────────────────────────────────────────────────────────

  /** Most urgent of the enabled, pending, inactive ones; ties by the lowest INTID word. */
  candidate(iaffid: number): Candidate | null {
    if (!this.isEnabled) return null;
    const key = this.#queues.get(iaffid)?.first((k) => this.#isLive(k, iaffid)) ?? null;
    if (key === null) return null;
    const intid = intidOfKey(key);
    return { intid, priority: priorityOf(this.entry(intid)) };
  }

  setEnabled(on: boolean): void {
    if (this.isEnabled === on) return;
    this.isEnabled = on;
    for (const iaffid of this.#queues.keys()) this.#notify(iaffid);
  }

  /** Who is offered what: a table may hold pending ones that the IRS hasn't seen. */
  save(): Saved {
    const offered = [...this.#queues].flatMap(([iaffid, queue]) =>
      queue
        .keys()
        .filter((key) => this.#isLive(key, iaffid))
        .map(intidOfKey),
    );
    offered.sort((a, b) => a - b);
    return { kind: "interrupt-domain", version: 1, data: { isEnabled: this.isEnabled, offered } };
  }

  /** After the tables are in their place. */
  load(saved: Saved): void {
    const data = saved.data as { isEnabled: boolean; offered: number[] };
    this.isEnabled = data.isEnabled;
    this.#queues.clear();
    for (const intid of data.offered) this.#offer(intid, this.entry(intid));
  }
}
