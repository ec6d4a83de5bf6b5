// What every part of a simulated client shares.
import type { Prng } from "../../src/base/prng.js";
import type { Program } from "../../src/vmm/index.js";
import type { Content } from "./client/content.js";
import type { Cleaned, DeferredClears } from "./client/deferred.js";
import type { Layout } from "./layout.js";
import type { Link } from "./link.js";
import type { Mode } from "./modes.table.js";
import type { Oracle } from "./oracle/oracle.js";

export interface World {
  readonly mode: Mode;
  readonly layout: Layout;
  readonly prng: Prng;
  readonly link: Link;
  readonly oracle: Oracle;
  readonly content: Content;
  readonly deferred: DeferredClears;
  /** Guest pages that all vCPUs like to store to in this phase, so that they meet. */
  hot: readonly number[];
  /** A program that several vCPUs run at a time: they fault on the same pages together. */
  common: Program;
}

/** A run ended with KVM_EXIT_CLEANED: the client copies the pages of that CLEAR now. */
export function takeCleaned({ deferred, oracle, content }: World, cleaned: Cleaned): void {
  const { slot, firstPage, numPages } = cleaned;
  const pages = deferred.cleaned(cleaned);
  if (pages === null) {
    oracle.fail(`CLEANED of pages ${firstPage}+${numPages} of slot ${slot}, which nobody deferred`);
    return;
  }
  const time = oracle.now();
  for (const offset of pages) {
    oracle.acquire(slot, offset, time, false);
    content.copy(slot, offset);
  }
}

/** True in `percent` of 100 draws. */
export function chance(world: World, percent: number): boolean {
  return world.prng.below(100) < percent;
}
