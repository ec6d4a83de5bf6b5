// Owns: what one VM has charged to the process-wide memory budget (DESIGN 5). VM thread.
// Worst-case stage-2 tables are charged with the memory they can map; tables are then taken from
// that reserve, and only more mappings of the same memory (slots that alias) charge anew.
import { assert } from "../base/assert.js";
import type { Saved } from "../base/saved.js";

/** The budget as a VM sees it: bytes in, bytes out. */
export interface Charger {
  charge(bytes: number): boolean;
  release(bytes: number): void;
}

export class Account {
  readonly #budget: Charger;
  #charged = 0;
  #reserve = 0;
  #tables = 0;
  #tablesCharged = 0;

  constructor(budget: Charger) {
    this.#budget = budget;
  }

  get chargedBytes(): number {
    return this.#charged;
  }

  get tableBytes(): number {
    return this.#tables;
  }

  charge(bytes: number): boolean {
    if (!this.#budget.charge(bytes)) return false;
    this.#charged += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#charged -= bytes;
    this.#budget.release(bytes);
  }

  reserveTables(bytes: number): void {
    this.#reserve += bytes;
  }

  unreserveTables(bytes: number): void {
    this.#reserve -= bytes;
  }

  /** Accounts for one more table. @returns false when reserve and budget are used up: ENOMEM. */
  takeTable(bytes: number): boolean {
    const uncovered = this.#tables + bytes - this.#reserve - this.#tablesCharged;
    if (uncovered > 0) {
      if (!this.charge(uncovered)) return false;
      this.#tablesCharged += uncovered;
    }
    this.#tables += bytes;
    return true;
  }

  returnTable(bytes: number): void {
    this.#tables -= bytes;
    const spare = Math.min(this.#tablesCharged, bytes);
    this.#tablesCharged -= spare;
    if (spare > 0) this.release(spare);
  }

  save(): Saved {
    const data = {
      charged: this.#charged,
      reserve: this.#reserve,
      tables: this.#tables,
      tablesCharged: this.#tablesCharged,
    };
    return { kind: "account", version: 1, data };
  }

  /** Books what the restored VM holds; whoever restores has made sure that there is room. */
  load(saved: Saved): void {
    const data = saved.data as {
      charged: number;
      reserve: number;
      tables: number;
      tablesCharged: number;
    };
    this.release(this.#charged);
    assert(this.charge(data.charged), "a restored VM fits the memory budget");
    this.#reserve = data.reserve;
    this.#tables = data.tables;
    this.#tablesCharged = data.tablesCharged;
  }

  /** Gives everything back; the VM is gone. */
  close(): void {
    if (this.#charged > 0) this.#budget.release(this.#charged);
    this.#charged = 0;
  }
}
