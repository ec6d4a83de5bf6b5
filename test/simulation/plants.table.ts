// Owns: the defects that are planted to prove that the simulation sees them. Data only; how each one
// is planted stands in plants/ under the same name.
//
// Every row must be caught in every mode that it names, within PLANT_SEEDS_MAX seeds.

import type { WatchName } from "./hardware/detectors.js";
import type { Pins } from "./hardware/draw.js";

export interface PlantRow {
  readonly name: string;
  /** What goes wrong. */
  readonly breaks: string;
  readonly modes: readonly string[];
  /** What makes it visible; runs without the plant are drawn alike. */
  readonly pins?: Pins;
  /** Looked at when a run ends, with the plant and without. */
  readonly watch?: WatchName;
}

/** Seeds tried per mode before a plant counts as a survivor. */
export const PLANT_SEEDS_MAX = 6000;

export const PLANTS = [
  // TLB maintenance.
  { name: "get-no-tlbi", breaks: "legacy GET leaves writable TLB copies of what it protected", modes: ["wp-legacy", "wp-legacy-blocks", "dbm-legacy", "a64-wp-legacy", "hdbss-legacy-software", "hdbss-legacy-poll", "a64-hdbss-legacy-poll"] },
  { name: "clear-no-tlbi", breaks: "CLEAR leaves writable TLB copies of what it protected", modes: ["wp-manual", "wp-initset", "dbm-manual", "dbm-initset-split", "a64-wp-manual", "hdbss-manual-software", "hdbss-manual-poll", "hdbss-initset-irq"] },
  { name: "enable-no-tlbi", breaks: "turning the log on leaves writable TLB copies", modes: ["wp-legacy", "wp-manual", "ring", "dbm-legacy", "a64-wp-legacy"] },
  { name: "reset-no-tlbi", breaks: "ring reset leaves writable TLB copies", modes: ["ring", "ring-bitmap", "a64-ring", "hdbss-ring-software", "hdbss-ring-poll"] },
  { name: "move-no-tlbi", breaks: "deleting or moving a slot leaves TLB copies of it", modes: ["wp-legacy", "wp-manual", "ring", "dbm-manual", "a64-wp-legacy"] },
  { name: "munmap-no-tlbi", breaks: "munmap leaves TLB copies of freed pages", modes: ["wp-legacy", "ring", "dbm-legacy", "a64-wp-legacy"] },
  { name: "tlbi-local", breaks: "GET and CLEAR invalidate one CPU's TLB instead of all", modes: ["wp-legacy", "wp-manual", "dbm-legacy", "dbm-manual", "a64-wp-legacy"] },
  { name: "tlbi-short", breaks: "the range of a slot's TLBI ends one page early", modes: ["wp-legacy", "wp-manual", "dbm-legacy", "a64-wp-legacy"] },
  { name: "tlbi-misses-blocks", breaks: "TLBI by range misses copies of blocks", modes: ["wp-legacy-blocks", "wp-manual-split", "ring-blocks", "a64-wp-legacy-blocks"] },
  { name: "tlb-clean-writable", breaks: "a TLB takes a writable-clean leaf for writable", modes: ["dbm-legacy", "dbm-manual", "dbm-initset", "a64-dbm-legacy", "hdbss-legacy-software", "a64-hdbss-legacy-software"] },

  // GET and CLEAR.
  { name: "get-drops-bit-63", breaks: "bit 63 of a word is cleared and not reported", modes: ["wp-legacy", "dbm-legacy", "a64-wp-legacy"] },
  { name: "get-drops-bit-31", breaks: "bit 31 of a word is cleared and not reported", modes: ["wp-legacy", "dbm-legacy", "a64-wp-legacy"] },
  { name: "get-no-copy", breaks: "words are taken and not copied to the snapshot", modes: ["wp-legacy", "wp-legacy-blocks", "dbm-legacy", "a64-wp-legacy"] },
  { name: "get-forgets-tail", breaks: "the last word of a slot is reported and not protected", modes: ["wp-legacy", "dbm-legacy", "a64-wp-legacy"] },
  { name: "protect-shifted", breaks: "protects the page after the one that was taken", modes: ["wp-legacy", "wp-manual", "ring", "dbm-legacy", "a64-wp-legacy"] },
  { name: "protect-drops-bit-32", breaks: "the word's bit 32 is taken and not protected", modes: ["wp-legacy", "wp-manual", "dbm-legacy", "dbm-manual", "a64-wp-legacy"] },
  { name: "protect-nothing", breaks: "bits are taken, nothing is protected", modes: ["wp-legacy", "wp-manual", "wp-initset-split", "dbm-manual", "a64-wp-legacy"] },
  { name: "protect-then-exchange", breaks: "pages are protected, the lock dropped, and only then bits taken", modes: ["wp-legacy", "wp-legacy-blocks", "a64-wp-legacy"] },
  { name: "clear-takes-unnamed", breaks: "CLEAR takes bits that the user did not name", modes: ["wp-manual", "wp-initset", "dbm-manual", "a64-wp-manual"] },
  { name: "clear-wrong-word", breaks: "CLEAR protects the neighbour of the word it took", modes: ["wp-manual", "dbm-manual", "a64-wp-manual"] },

  // Hardware dirty state.
  { name: "get-no-sync", breaks: "hardware dirty state never reaches the bitmap", modes: ["dbm-legacy", "dbm-manual", "a64-dbm-legacy"] },
  { name: "sync-after-exchange", breaks: "bits are taken before hardware dirty state is folded in", modes: ["dbm-legacy", "dbm-legacy-blocks", "a64-dbm-legacy"] },
  { name: "sync-misses-last-page", breaks: "the scan stops one page early", modes: ["dbm-legacy", "dbm-manual", "a64-dbm-legacy"] },
  { name: "sync-misses-last-batch", breaks: "the scan skips all batches after the first", modes: ["dbm-legacy-blocks", "dbm-initset", "a64-dbm-legacy-blocks"] },
  { name: "dbm-span-clean", breaks: "the span between a word's bits is cleaned, not the bits", modes: ["dbm-legacy", "dbm-manual", "a64-dbm-legacy"] },
  { name: "dbm-unmap-drops", breaks: "a writable-dirty leaf vanishes without a mark", modes: ["dbm-legacy", "dbm-manual", "dbm-initset", "a64-dbm-legacy"] },
  { name: "dbm-map-takes-back", breaks: "an overtaken read fault makes a dirty leaf clean again", modes: ["dbm-legacy", "dbm-manual"] },

  // Faults.
  { name: "mark-before-map", breaks: "a page is marked before its mapping is writable", modes: ["wp-legacy", "wp-manual", "ring", "a64-wp-legacy"] },
  { name: "map-no-mark", breaks: "a store that maps its page does not mark it", modes: ["wp-legacy", "wp-manual", "ring", "a64-wp-legacy"] },
  { name: "relax-no-mark", breaks: "a store that gets write permission does not mark its page", modes: ["wp-legacy", "wp-manual", "ring", "a64-wp-legacy"] },
  { name: "read-maps-writable", breaks: "a load maps its page writable while the slot logs", modes: ["wp-legacy", "wp-manual", "ring", "a64-wp-legacy"] },
  { name: "block-not-split", breaks: "a store to a protected block makes all of it writable", modes: ["wp-legacy-blocks", "ring-blocks", "dbm-legacy-blocks", "a64-wp-legacy-blocks"] },
  { name: "split-writable", breaks: "splitting a block gives its pages write permission", modes: ["wp-manual-split", "wp-initset-split", "ring-blocks", "a64-wp-manual-split"] },

  // Slots.
  { name: "move-loses-bitmap", breaks: "a moved slot starts with an empty bitmap", modes: ["wp-legacy", "wp-manual", "wp-initset", "dbm-legacy", "a64-wp-legacy"] },
  { name: "initset-empty", breaks: "INITIALLY_SET leaves the bitmap empty", modes: ["wp-initset", "wp-initset-split", "dbm-initset", "a64-wp-initset"] },
  { name: "initset-no-tail", breaks: "INITIALLY_SET leaves out the bits after the last full word", modes: ["wp-initset", "dbm-initset-split", "a64-wp-initset"] },
  { name: "enable-no-protect", breaks: "turning the log on protects nothing", modes: ["wp-legacy", "wp-manual-split", "ring", "dbm-legacy", "a64-wp-legacy"] },
  { name: "enable-first-batch", breaks: "turning the log on protects 512 pages at most", modes: ["wp-legacy-blocks", "ring-blocks", "a64-wp-legacy-blocks"] },
  { name: "enable-protect-early", breaks: "the write-protect pass comes before the slot logs", modes: ["wp-legacy", "wp-manual", "ring", "a64-wp-legacy"] },
  { name: "srcu-not-awaited", breaks: "a slot change does not wait for faults that use the old slot", modes: ["wp-legacy", "wp-manual", "ring", "a64-wp-legacy"] },

  { name: "move-protects-again", breaks: "a moved slot's new mappings are protected, and hardware's record of them is wiped", modes: ["dbm-legacy", "dbm-manual"] },

  // Dirty rings.
  { name: "ring-drops-at-limit", breaks: "the entry that reaches the soft limit is dropped", modes: ["ring", "ring-bitmap"] },
  { name: "reset-no-rearm", breaks: "a reset takes entries back and protects nothing", modes: ["ring", "ring-blocks", "ring-dbm-host", "a64-ring"] },
  { name: "reset-forgets-run-end", breaks: "the last page of a run of entries is not protected", modes: ["ring", "ring-bitmap", "a64-ring"] },
  { name: "reset-takes-unharvested", breaks: "a reset takes entries that nobody harvested", modes: ["ring", "ring-bitmap", "a64-ring"] },

  // What is kept, and what is taken away.
  { name: "harvest-not-kept", breaks: "a harvest is gone with its reply", modes: ["wp-legacy", "dbm-legacy", "a64-wp-legacy"] },
  { name: "munmap-no-sequence", breaks: "a fault installs a page that munmap has freed meanwhile", modes: ["wp-legacy", "wp-manual", "ring", "dbm-legacy", "a64-wp-legacy"] },
  { name: "munmap-stale-slot", breaks: "munmap uses a slot that has been replaced meanwhile", modes: ["dbm-manual", "dbm-legacy-blocks"] },

  // Guest code.
  { name: "pe-keeps-tlb", breaks: "a PE's own TLB survives what invalidates stage 2", modes: ["a64-wp-legacy", "a64-wp-manual", "a64-ring", "a64-dbm-legacy", "a64-dbm-initset-split", "a64-hdbss-legacy-software", "a64-hdbss-initset-poll"] },
  { name: "host-store-keeps-code", breaks: "code that the host has overwritten runs on", modes: ["a64-wp-legacy", "a64-ring"] },

  // HDBSS.
  { name: "hdbss-index-stuck", breaks: "now and then INDEX does not move, and an entry overwrites the one before", modes: ["hdbss-legacy-software", "hdbss-ring-software", "a64-hdbss-legacy-software"] },
  { name: "hdbss-entry-next-page", breaks: "an odd page's entry names the page before", modes: ["hdbss-legacy-software", "hdbss-manual-poll", "a64-hdbss-legacy-software"] },
  { name: "hdbss-block-as-page", breaks: "a block's entry says level 3", modes: ["hdbss-manual-software"] },
  { name: "hdbss-drain-drops-last", breaks: "a drain takes one entry less than INDEX says", modes: ["hdbss-legacy-software", "hdbss-ring-bitmap-software", "a64-hdbss-legacy-software"] },
  { name: "hdbss-drain-drops-first", breaks: "the first of several entries is lost to the drain", modes: ["hdbss-legacy-software", "hdbss-ring-software", "a64-hdbss-legacy-software"] },
  { name: "hdbss-index-kept", breaks: "INDEX is not reset after a drain", modes: ["hdbss-legacy-software", "hdbss-manual-poll"] },
  { name: "hdbss-fsc-ignored", breaks: "nobody looks at FSC: what was lost stays lost", modes: ["hdbss-legacy-software", "hdbss-ring-software"] },
  { name: "hdbss-put-forgets", breaks: "a vCPU that leaves its CPU takes only odd numbers of entries along", modes: ["hdbss-legacy-software", "hdbss-ring-software", "a64-hdbss-legacy-software"] },
  { name: "hdbss-load-no-base", breaks: "a CPU keeps the buffer of the first vCPU that ran there", modes: ["hdbss-legacy-software", "hdbss-ring-software"] },
  { name: "hdbss-sync-nothing", breaks: "GET and CLEAR wait for no drain", modes: ["hdbss-legacy-software", "hdbss-manual-software"] },

  // HACDBS.
  { name: "hacdbs-skips-first", breaks: "hardware skips the first entry of an array", modes: ["hdbss-legacy-poll", "hdbss-manual-irq"] },
  { name: "hacdbs-cleans-next", breaks: "hardware cleans the page behind the first entry's", modes: ["hdbss-legacy-poll", "hdbss-manual-poll"] },
  { name: "hacdbs-drops-last", breaks: "the last entry before the terminator is not cleaned", modes: ["hdbss-legacy-poll", "hdbss-manual-irq"] },
  { name: "hacdbs-rollback-forgets", breaks: "a short batch counts 64 entries more than were done", modes: ["hdbss-legacy-poll", "hdbss-manual-irq"] },
  { name: "hacdbs-refused-forgotten", breaks: "entries that hardware refused are cleaned by nobody", modes: ["hdbss-legacy-poll", "hdbss-manual-poll"] },
  { name: "hacdbs-unowned-cpu", breaks: "a vCPU may load on the CPU where HACDBS runs", modes: ["hdbss-legacy-poll", "hdbss-manual-irq"] },

  // Deferred CLEARs.
  { name: "async-get-forgets", breaks: "a GET leaves out what a deferred CLEAR has not cleaned yet", modes: ["hdbss-manual-async", "hdbss-initset-async"] },
  { name: "async-no-tlbi", breaks: "what vCPUs clean as they run stays writable in TLBs", modes: ["hdbss-manual-async", "hdbss-initset-async"] },
  { name: "async-drains-nothing", breaks: "a CLEAR answers while pages of an older one wait", modes: ["hdbss-manual-async", "hdbss-initset-async"] },
  { name: "async-page-forgotten", breaks: "the first of several pages is never cleaned", modes: ["hdbss-manual-async", "a64-hdbss-initset-async"] },

  // The seeds' own.
  { name: "seed-B1", breaks: "a failed enable frees buffers again", modes: ["hdbss-legacy-software", "hdbss-manual-software"] },
  { name: "seed-B4", breaks: "disabling frees buffers while vCPUs append", modes: ["hdbss-legacy-software", "hdbss-ring-software", "hdbss-ring-bitmap-software"] },
  { name: "seed-B5", breaks: "disabling drains nothing", modes: ["hdbss-legacy-software", "hdbss-ring-software", "hdbss-ring-bitmap-software"] },
  { name: "seed-B6", breaks: "a kicked vCPU goes on with the old registers", modes: ["hdbss-legacy-software", "hdbss-manual-software"] },
  { name: "seed-B7", breaks: "a drain trusts an index that another vCPU left", modes: ["hdbss-legacy-software", "hdbss-manual-software"] },
  { name: "seed-B12", breaks: "no DSB before entries are read", modes: ["hdbss-legacy-software", "hdbss-manual-software", "hdbss-ring-software", "hdbss-ring-bitmap-software"] },
  { name: "seed-B14", breaks: "a lost entry is forgotten", modes: ["hdbss-legacy-software", "hdbss-ring-software", "hdbss-ring-bitmap-software"] },
  { name: "seed-B16", breaks: "a drain looks slots up without SRCU", modes: ["hdbss-legacy-software", "hdbss-manual-software"] },
  { name: "seed-B18", breaks: "disabling with a senseless size is refused", modes: ["hdbss-legacy-software", "hdbss-manual-software"] },
  { name: "seed-D2", breaks: "CLEAR indexes the user's bitmap from the slot's start", modes: ["hdbss-initset-irq"] },
  { name: "seed-D8", breaks: "the interrupt's handler leaves the line high", modes: ["hdbss-legacy-irq", "hdbss-initset-irq"] },
  { name: "seed-D10", breaks: "any interrupt without an error counts as done", modes: ["hdbss-legacy-irq", "hdbss-initset-irq"] },
  { name: "seed-B3", breaks: "a vCPU that comes later runs without a buffer", modes: ["hdbss-legacy-software", "hdbss-ring-software"], pins: { isLastLate: true, faults: [] } },
  { name: "seed-B13", breaks: "an entry's level is ignored", modes: ["hdbss-manual-software"], pins: { settings: { "hdbss.split": "expand-ttwl", "hdbss.dbm": "all-writable-from-start" }, faults: ["split-alloc"] } },
  { name: "seed-B15", breaks: "what HDBSS's own write ended in is taken for the guest's", modes: ["a64-hdbss-legacy-software", "a64-hdbss-manual-poll"], pins: { settings: { "hardware.hdbssAbortReport": "sync" }, faults: ["hdbss-append-abort"] } },
  { name: "seed-B17", breaks: "a VM that ends with HDBSS off keeps its buffers", modes: ["hdbss-legacy-software", "hdbss-manual-poll"], pins: { settings: { "hdbss.enableBy": "auto-buffers-at-vcpu-create" } } },
  { name: "seed-B22", breaks: "a drain pushes more than the ring holds", modes: ["hdbss-ring-software", "hdbss-ring-poll"], pins: { settings: { "hdbss.ring": "naive" } } },
  { name: "seed-D1", breaks: "entries are off by what a CLEAR begins within a word", modes: ["hdbss-manual-poll", "hdbss-initset-irq"] },
  { name: "seed-D4", breaks: "an array that is exactly full counts as failed", modes: ["hdbss-initset-poll"], pins: { settings: { "clear.onError": "skip-and-software", "hacdbs.timeoutUs": 100_000 }, faults: [] }, watch: "spurious-eagain" },
  { name: "seed-D5", breaks: "a fallback overwrites what hardware has cleaned already", modes: ["hdbss-legacy-poll", "a64-hdbss-legacy-poll"], pins: { settings: { "clear.onError": "abandon" }, faults: ["hacdbs-structf", "hacdbs-ipahacf"] } },
  { name: "seed-D7", breaks: "eligibility is tested before the CPU is known", modes: ["hdbss-legacy-irq"], pins: { settings: { "hacdbs.timeoutUs": 100_000, "hacdbs.discovery": "acpi", "hacdbs.madtLength": "with-hacdbsirq", "hacdbs.completion": "irq-wfi" }, faults: [], downCpus: [0] }, watch: "timed-out" },
  { name: "seed-D9", breaks: "the wait sleeps without looking first", modes: ["hdbss-legacy-irq", "hdbss-initset-irq"], pins: { settings: { "hacdbs.timeoutUs": 100_000, "hacdbs.completion": "irq-wfi" }, faults: [] }, watch: "slow-wait" },
  { name: "seed-D11", breaks: "TTWL follows the split chunk size", modes: ["hdbss-manual-poll"], pins: { settings: { "hdbss.dbm": "all-writable-from-start", "hdbss.split": "forced-page-size" }, faults: [] }, watch: "refused-leaf" },
  { name: "seed-D12", breaks: "one page that can't be cleaned abandons all", modes: ["hdbss-initset-poll", "hdbss-legacy-poll"], pins: { settings: { "clear.onError": "skip-and-software", "hacdbs.timeoutUs": 100_000 }, faults: ["hacdbs-ipaf"] }, watch: "spurious-eagain" },
  { name: "seed-D13", breaks: "splitting drops mmu_lock while bits are in the array", modes: ["hdbss-initset-poll"] },
  { name: "seed-D14", breaks: "a failed split is ignored", modes: ["hdbss-manual-poll"], pins: { settings: { "hdbss.split": "expand-ttwl", "hdbss.dbm": "all-writable-from-start" }, faults: ["split-alloc"] }, watch: "refused-leaf" },
  { name: "seed-D17", breaks: "no ISB before HACDBS starts", modes: ["hdbss-legacy-poll", "hdbss-manual-irq"] },
  { name: "seed-D19", breaks: "nothing is invalidated if the first entry fails", modes: ["hdbss-initset-poll"], pins: { settings: { "clear.onError": "skip-and-software" } } },
  { name: "seed-D20", breaks: "the array's tail is stale", modes: ["hdbss-legacy-poll", "hdbss-initset-poll"], pins: { settings: { "hardware.lookahead": 512 } } },
] as const satisfies readonly PlantRow[];

export type PlantName = (typeof PLANTS)[number]["name"];
