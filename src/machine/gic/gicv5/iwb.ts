// Owns: the wire bridge (IWB) of the host's GICv5: wires that become events of an ITS. VM thread.
//
//   wire n ─▶ WENABLER, WTMR ─▶ event n of the bridge's DeviceID ─▶ ITS
// @source interrupts.md 5.7; gicv5-observed.md 3.4; events as those of an SPI, 4.3
import type { Saved } from "../../../base/saved.js";
import type { WireEvent } from "./domain.js";
import { IDLE } from "./irs-frame.table.js";
import { IWB_CR0, IWB_INT_DOMS, IWB32 } from "./its.table.js";

const WIRES_PER_WORD = 32;
/** Takes the events. */
export type SendEvent = (wire: number, event: WireEvent) => void;

export class Iwb {
  readonly #send: SendEvent;
  readonly #words: number;
  #isOn = false;
  readonly #lines: Uint32Array;
  readonly #enabled: Uint32Array;
  /** WTMR: 1 is level. */
  readonly #modes: Uint32Array;

  /** @param wires a multiple of 32 */
  constructor(wires: number, send: SendEvent) {
    this.#words = wires / WIRES_PER_WORD;
    this.#send = send;
    this.#lines = new Uint32Array(this.#words);
    this.#enabled = new Uint32Array(this.#words);
    this.#modes = new Uint32Array(this.#words);
  }

  setWire(wire: number, level: boolean): void {
    const at = Math.floor(wire / WIRES_PER_WORD);
    const bit = 1 << (wire % WIRES_PER_WORD);
    if (at >= this.#words || ((this.#lines[at]! & bit) !== 0) === level) return;
    this.#lines[at]! ^= bit;
    if (!this.#isHeard(at, bit)) return;
    if (level) this.#rise(at, wire);
    else if (this.#isLevel(at, bit)) this.#send(wire, "clear");
  }

  #isHeard(at: number, bit: number): boolean {
    return this.#isOn && (this.#enabled[at]! & bit) !== 0;
  }

  #isLevel(at: number, bit: number): boolean {
    return (this.#modes[at]! & bit) !== 0;
  }

  #rise(at: number, wire: number): void {
    const bit = 1 << (wire % WIRES_PER_WORD);
    this.#send(wire, this.#isLevel(at, bit) ? "set-level" : "set-edge");
  }

  /** Level wires that are heard from now on say what they are; an edge that passed is lost. */
  #sample(at: number, bits: number): void {
    for (let n = 0; n < WIRES_PER_WORD; n++) {
      const bit = 1 << n;
      if ((bits & bit) === 0 || !this.#isHeard(at, bit) || !this.#isLevel(at, bit)) continue;
      const wire = WIRES_PER_WORD * at + n;
      this.#send(wire, (this.#lines[at]! & bit) !== 0 ? "set-level" : "clear");
    }
  }

  read(offset: number, bytes: number): bigint | "abort" {
    if (bytes < 4) return "abort";
    if (bytes === 8) return 0n;
    switch (offset) {
      case IWB32.IDR0:
        return BigInt(IWB_INT_DOMS | (this.#words - 1));
      case IWB32.CR0:
        return BigInt(IWB_CR0.IDLE | (this.#isOn ? IWB_CR0.IWBEN : 0));
      case IWB32.WENABLE_STATUSR:
        return BigInt(IDLE);
    }
    const [words, at] = this.#wordOf(offset);
    return BigInt(words?.[at] ?? 0);
  }

  /** WENABLER<n> and WTMR<n>. */
  #wordOf(offset: number): readonly [Uint32Array | null, number] {
    for (const [base, words] of [
      [IWB32.WENABLER, this.#enabled],
      [IWB32.WTMR, this.#modes],
    ] as const) {
      const at = (offset - base) / 4;
      if (at >= 0 && at < this.#words) return [words, at];
    }
    return [null, 0];
  }

  write(offset: number, bytes: number, value: bigint): "abort" | undefined {
    if (bytes < 4) return "abort";
    if (bytes === 8) return undefined;
    const word = Number(value & 0xffff_ffffn);
    if (offset === IWB32.CR0) {
      const wasOn = this.#isOn;
      this.#isOn = (word & IWB_CR0.IWBEN) !== 0;
      if (!wasOn) for (let at = 0; at < this.#words; at++) this.#sample(at, ~0);
      return undefined;
    }
    const [words, at] = this.#wordOf(offset);
    if (words === null) return undefined;
    const changed = words[at]! ^ word;
    words[at] = word;
    this.#sample(at, changed);
    return undefined;
  }

  save(): Saved {
    const data = {
      isOn: this.#isOn,
      lines: this.#lines.slice(),
      enabled: this.#enabled.slice(),
      modes: this.#modes.slice(),
    };
    return { kind: "iwb", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      isOn: boolean;
      lines: Uint32Array;
      enabled: Uint32Array;
      modes: Uint32Array;
    };
    this.#isOn = data.isOn;
    this.#lines.set(data.lines);
    this.#enabled.set(data.enabled);
    this.#modes.set(data.modes);
  }
}
