// Owns: what a CPU interface of GICv5 keeps for the context that is loaded: APR, PCR, CR0, ICSR and
// the PPIs. Plain registers; the hypervisor moves them. VM thread.
// @source gicv5-observed.md 4.1
import type { Saved } from "../../../base/saved.js";

export const PPIS = 128;
const PPI_WORDS = PPIS / 64;
const PRIORITY_WORDS = PPIS / 8;
/** Only SW_PPI is edge; PPIs that don't exist read 1 as well. */
const HM_RESET = [0xffff_ffff_ffff_fff7n, 0xffff_ffff_ffff_ffffn] as const;

/** One bit, or one byte of priority, for each PPI. */
export class PpiState {
  readonly enable = new BigUint64Array(PPI_WORDS);
  readonly active = new BigUint64Array(PPI_WORDS);
  /** Of an edge PPI a latch, of a level PPI its line. */
  readonly pend = new BigUint64Array(PPI_WORDS);
  /** 1 is level. */
  readonly hm = BigUint64Array.from(HM_RESET);
  readonly priority = new BigUint64Array(PRIORITY_WORDS);
  // The same bytes in pieces that are quick to look at; a little-endian machine, as elsewhere.
  readonly #enable = new Uint32Array(this.enable.buffer);
  readonly #active = new Uint32Array(this.active.buffer);
  readonly #pend = new Uint32Array(this.pend.buffer);
  readonly #priority = new Uint8Array(this.priority.buffer);

  priorityOf(ppi: number): number {
    return this.#priority[ppi]! & 0x1f;
  }

  /** Most urgent of those enabled, pending and not active, ties by the lowest ID; -1 for none. */
  best(): number {
    let best = -1;
    for (let word = 0; word < this.#enable.length; word++) {
      let bits = this.#enable[word]! & this.#pend[word]! & ~this.#active[word]!;
      while (bits !== 0) {
        const ppi = 32 * word + 31 - Math.clz32(bits & -bits);
        bits &= bits - 1;
        if (best < 0 || this.priorityOf(ppi) < this.priorityOf(best)) best = ppi;
      }
    }
    return best;
  }

  get(words: "enable" | "active" | "pend" | "hm", ppi: number): boolean {
    return ((this[words][ppi >> 6]! >> BigInt(ppi & 63)) & 1n) !== 0n;
  }

  set(words: "enable" | "active" | "pend" | "hm", ppi: number, on: boolean): void {
    const bit = 1n << BigInt(ppi & 63);
    const at = ppi >> 6;
    this[words][at] = on ? this[words][at]! | bit : this[words][at]! & ~bit;
  }
}

const WORDS = ["enable", "active", "pend", "hm", "priority"] as const;

export class PeGicState {
  /** ICC_CR0_EL1 but for what always reads 1: EN. */
  cr0 = 0;
  /** ICC_PCR_EL1.PRIORITY. */
  pcr = 0;
  /** ICC_APR_EL1, one bit for each active priority. */
  apr = 0;
  icsr = 0n;
  readonly ppi = new PpiState();

  copyFrom(other: PeGicState): void {
    this.cr0 = other.cr0;
    this.pcr = other.pcr;
    this.apr = other.apr;
    this.icsr = other.icsr;
    for (const words of WORDS) this.ppi[words].set(other.ppi[words]);
  }

  reset(): void {
    this.copyFrom(new PeGicState());
  }

  save(): Saved {
    const { cr0, pcr, apr, icsr, ppi } = this;
    const ppis = Object.fromEntries(WORDS.map((words) => [words, [...ppi[words]]]));
    return { kind: "pe-gic-state", version: 1, data: { cr0, pcr, apr, icsr, ppis } };
  }

  load(saved: Saved): void {
    const data = saved.data as Pick<PeGicState, "cr0" | "pcr" | "apr" | "icsr"> & {
      ppis: Record<(typeof WORDS)[number], bigint[]>;
    };
    this.cr0 = data.cr0;
    this.pcr = data.pcr;
    this.apr = data.apr;
    this.icsr = data.icsr;
    for (const words of WORDS) this.ppi[words].set(data.ppis[words]);
  }
}
