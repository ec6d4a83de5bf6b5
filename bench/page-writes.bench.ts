// Owns: pages written per second by synthetic vCPUs: the first store to each page ever, and the
// first after each CLEAR, under both kinds of tracking. Inline, so no messages between threads.
import { GIB, MIB, PAGE } from "./support/guest.js";
import { allBits, InlineGuest, type Tracking } from "./support/inline.js";
import { median, timed } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

interface Case {
  readonly tracking: Tracking;
  readonly vcpus: number;
  /** "in order": every page once, neighbours after each other; "random": some twice. */
  readonly order: "in order" | "random";
}

/** As many stores as there are pages, each vCPU in its own part of the slot. @returns ms */
function writeAll(guest: InlineGuest, { vcpus, order }: Case): number {
  const share = guest.pages / vcpus;
  for (let vcpu = 0; vcpu < vcpus; vcpu++) {
    const window = { base: vcpu * share * PAGE, bytes: share * PAGE, count: share };
    guest.stores(vcpu, window, order === "random" ? "uniform" : { stride: PAGE });
  }
  return timed(() => guest.runAll(vcpus));
}

function measure(context: BenchContext, bytes: number, one: Case): void {
  const { tracking, vcpus, order } = one;
  const first: number[] = [];
  const again: number[] = [];
  for (let round = 0; round < (context.quick ? 2 : 5); round++) {
    const guest = new InlineGuest({ bytes, dirtyTracking: tracking, vcpus });
    const bits = allBits(guest.pages);
    // The same seeds store to the same pages, so the second pass finds each of them mapped.
    for (const rates of [first, again, again]) {
      const ms = writeAll(guest, one);
      const pages = guest.clear(bits);
      if (order === "in order" && pages !== guest.pages) throw new Error(`${pages} pages dirty`);
      rates.push((pages / ms) * 1000);
    }
    guest.close();
  }
  const who = `${order}, ${vcpus === 1 ? "1 vCPU" : `${vcpus} vCPUs`}, ${tracking}`;
  context.report({ what: `first touch, ${who}`, figure: median(first), unit: "pages/s" });
  context.report({ what: `re-dirty, ${who}`, figure: median(again), unit: "pages/s" });
}

/** Stores to pages that are dirty already: no fault, no walk; what a store costs by itself. */
function measureHot(context: BenchContext): void {
  const guest = new InlineGuest({ bytes: 4 * MIB });
  const count = context.quick ? 1_000_000 : 10_000_000;
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    guest.stores(0, { bytes: 4 * MIB, count }, { stride: PAGE });
    times.push(timed(() => guest.runAll(1)));
  }
  guest.close();
  const figure = (count / median(times)) * 1000;
  context.report({ what: "stores to dirty pages in the TLB", figure, unit: "stores/s" });
}

export default function pageWrites(context: BenchContext): void {
  const bytes = context.quick ? 256 * MIB : 2 * GIB;
  for (const tracking of ["write-protect", "dbm"] as const) {
    for (const vcpus of [1, 4]) {
      measure(context, bytes, { tracking, vcpus, order: "in order" });
      measure(context, bytes, { tracking, vcpus, order: "random" });
    }
  }
  measureHot(context);
}
