// The client's deferred CLEARs: their pages are acquired at KVM_EXIT_CLEANED, or when a GET that
// was sent after the CLEAR's answer does not hold them any more.
import type { CommandResult } from "../../../src/vmm/index.js";

export type Cleaned = NonNullable<CommandResult<"run">["cleaned"]>;

interface Deferred extends Cleaned {
  /** Offsets of pages that wait; none when the client never saw the answer. */
  readonly pages: Set<number>;
  /** When the answer came. */
  readonly time: number;
}

export class DeferredClears {
  #waiting: Deferred[] = [];

  /** CLEARs whose CLEANED is still to come. */
  get count(): number {
    return this.#waiting.length;
  }

  answered(window: Cleaned, pages: readonly number[], time: number): void {
    this.#waiting.push({ ...window, pages: new Set(pages), time });
  }

  /** KVM_EXIT_CLEANED. @returns pages to copy now, or null for a CLEAR that nobody deferred */
  cleaned({ slot, firstPage, numPages }: Cleaned): Iterable<number> | null {
    const at = this.#waiting.findIndex((one) => {
      return one.slot === slot && one.firstPage === firstPage && one.numPages === numPages;
    });
    const [done] = at < 0 ? [] : this.#waiting.splice(at, 1);
    return done?.pages ?? null;
  }

  /** A GET was asked at `time`. @returns pages that wait and that it calls clean: copy them now */
  asked(slot: number, time: number, isReported: (offset: number) => boolean): number[] {
    const clean: number[] = [];
    for (const one of this.#waiting) {
      if (one.slot !== slot || one.time >= time) continue;
      for (const page of one.pages) {
        if (isReported(page)) continue;
        one.pages.delete(page);
        clean.push(page);
      }
    }
    return clean;
  }

  isWaiting(slot: number, offset: number): boolean {
    return this.#waiting.some((one) => one.slot === slot && one.pages.has(offset));
  }
}
