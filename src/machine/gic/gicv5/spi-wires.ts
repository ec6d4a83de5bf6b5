// Owns: the wires of the host's SPIs: their levels, their trigger modes, and the events that they
// make. VM thread.
// @source gicv5-observed.md 4.3
import type { Saved } from "../../../base/saved.js";
import type { InterruptDomain, WireEvent } from "./domain.js";
import { INTID_TYPE, intidOf } from "./intid.js";
import type { StateTable } from "./ist.js";

/** State of SPIs inside the IRS: not in memory, unlike that of LPIs. */
export class SpiState implements StateTable {
  readonly words: Uint32Array;

  constructor(spis: number) {
    this.words = new Uint32Array(spis);
  }

  read(id: number): number {
    return this.words[id] ?? -1;
  }

  write(id: number, word: number): void {
    this.words[id] = word;
  }

  mapLevel2(): void {}

  pending(): Iterable<number> {
    return [];
  }
}

export class SpiWires {
  readonly count: number;
  readonly #domain: InterruptDomain;
  readonly #lines: Uint8Array;
  /** TM: 1 is level. */
  readonly #modes: Uint8Array;

  constructor(domain: InterruptDomain, count: number) {
    this.#domain = domain;
    this.count = count;
    this.#lines = new Uint8Array(count);
    this.#modes = new Uint8Array(count);
  }

  isLevel(id: number): boolean {
    return this.#modes[id] === 1;
  }

  setLine(id: number, level: boolean): void {
    if (id >= this.count || (this.#lines[id] === 1) === level) return;
    this.#lines[id] = level ? 1 : 0;
    if (level) this.#rise(id);
    else if (this.isLevel(id)) this.#event(id, "clear");
  }

  setMode(id: number, isLevel: boolean): void {
    if (id >= this.count || this.isLevel(id) === isLevel) return;
    this.#modes[id] = isLevel ? 1 : 0;
    if (isLevel) this.resample(id);
    else if (this.#lines[id] === 1) this.#event(id, "clear");
  }

  /** IRS_SPI_RESAMPLER. */
  resample(id: number): void {
    if (id >= this.count) return;
    if (this.#lines[id] === 1) this.#rise(id);
    else if (this.isLevel(id)) this.#event(id, "clear");
  }

  #rise(id: number): void {
    this.#event(id, this.isLevel(id) ? "set-level" : "set-edge");
  }

  #event(id: number, event: WireEvent): void {
    this.#domain.event(intidOf(INTID_TYPE.SPI, id), event);
  }

  save(): Saved {
    const data = { lines: this.#lines.slice(), modes: this.#modes.slice() };
    return { kind: "spi-wires", version: 1, data };
  }

  load(saved: Saved): void {
    const { lines, modes } = saved.data as { lines: Uint8Array; modes: Uint8Array };
    this.#lines.set(lines);
    this.#modes.set(modes);
  }
}
