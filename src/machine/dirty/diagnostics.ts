// Owns: mistakes of software that real hardware would not report, and which buffer belongs to whom.
// VM thread.
import type { Saved } from "../../base/saved.js";

/** Kind → what software did. */
export const DIAGNOSTICS = {
  "hdbss-write-outside-owned-buffer": "HDBSS wrote an entry outside of the running vCPU's buffer.",
  "hdbss-reserved-size": "HDBSSBR_EL2.SZ holds a reserved value: the buffer counts as full.",
  "illegal-vtcr-combination": "VTCR_EL2.HDBSS is set without HA and HD: nothing is appended.",
  "hdbss-misaligned-base": "A buffer's address is not aligned to its size: entries land elsewhere.",
  "hacdbs-write-while-running": "HACDBSBR or HACDBSCONS was written while HACDBS ran: ignored.",
  "hacdbs-start-ignored": "HACDBS was started before HCR_EL2.VM took effect: no ISB.",
  "hacdbs-cleaned-outside-request": "HACDBS cleaned a page that nobody asked for.",
  "page-freed-twice": "A buffer was given back that its owner does not hold.",
  "hdbss-index-not-owned": "A drain read HDBSSPROD_EL2 on a CPU that never loaded this buffer.",
  "hacdbs-interrupt-storm": "The HACDBSIRQ handler ran again and again without dropping EN.",
  "slot-used-after-free": "A drain marked a page in a slot that had been freed.",
  "ring-overflow": "A drain pushed more entries than the dirty ring had room for.",
  "dirty-outside-ring": "A page was dirtied without a running vCPU, and no bitmap takes it.",
} as const;

export type DiagnosticKind = keyof typeof DIAGNOSTICS;

interface Owned {
  readonly pa: number;
  readonly bytes: number;
  readonly vcpu: number;
}

export class Diagnostics {
  readonly counts: Partial<Record<DiagnosticKind, number>> = {};
  /** The last one of each kind, in words. */
  readonly last: Partial<Record<DiagnosticKind, string>> = {};
  /** What KVM asked HACDBS to clean on a CPU with this vCPU, -1 for none; null: nobody checks. */
  isRequested: ((ipa: number, vcpu: number) => boolean) | null = null;
  #owned: Owned[] = [];

  report(kind: DiagnosticKind, detail: string): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    this.last[kind] = detail;
  }

  /** A buffer that a vCPU's hardware may write to. */
  own(pa: number, bytes: number, vcpu: number): void {
    this.#owned.push({ pa, bytes, vcpu });
  }

  disown(pa: number): void {
    this.#owned = this.#owned.filter((owned) => owned.pa !== pa);
  }

  owns(vcpu: number, pa: number): boolean {
    for (const owned of this.#owned) {
      if (owned.vcpu === vcpu && pa >= owned.pa && pa < owned.pa + owned.bytes) return true;
    }
    return false;
  }

  save(): Saved {
    const owned = this.#owned.map((one) => ({ ...one }));
    const data = { counts: { ...this.counts }, last: { ...this.last }, owned };
    return { kind: "diagnostics", version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      counts: Diagnostics["counts"];
      last: Diagnostics["last"];
      owned: Owned[];
    };
    for (const key of Object.keys(this.counts)) delete this.counts[key as DiagnosticKind];
    for (const key of Object.keys(this.last)) delete this.last[key as DiagnosticKind];
    Object.assign(this.counts, data.counts);
    Object.assign(this.last, data.last);
    this.#owned = data.owned.map((one) => ({ ...one }));
  }
}
