// Owns: the tracking modes that the simulation runs under. Data only.

export interface Mode {
  readonly name: string;
  readonly tracking: "write-protect" | "dbm";
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: 0 legacy, 1 manual, 3 manual with INITIALLY_SET. */
  readonly manual: 0 | 1 | 3;
  readonly ring: "none" | "only" | "with-bitmap";
  /** Memory that the host backs with blocks, so that splits happen. */
  readonly hasBlocks: boolean;
  /** KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE set to a level 2 block. */
  readonly splitsEagerly: boolean;
  /** Some vCPUs, or all, run guest code instead of lists of accesses. */
  readonly hasGuests?: true;
  /** HDBSS is on, off and on again; and who cleans pages. Settings and faults are drawn per seed. */
  readonly clean?: Cleaning;
}

/** Software, or HACDBS: looked at, awaited by its interrupt, or while vCPUs run. */
export type Cleaning = "software" | "poll" | "irq" | "async";

const SYNTHETIC: readonly Mode[] = [
  { name: "wp-legacy", tracking: "write-protect", manual: 0, ring: "none", hasBlocks: false, splitsEagerly: false },
  { name: "wp-legacy-blocks", tracking: "write-protect", manual: 0, ring: "none", hasBlocks: true, splitsEagerly: false },
  { name: "wp-manual", tracking: "write-protect", manual: 1, ring: "none", hasBlocks: false, splitsEagerly: false },
  { name: "wp-manual-split", tracking: "write-protect", manual: 1, ring: "none", hasBlocks: true, splitsEagerly: true },
  { name: "wp-initset", tracking: "write-protect", manual: 3, ring: "none", hasBlocks: true, splitsEagerly: false },
  { name: "wp-initset-split", tracking: "write-protect", manual: 3, ring: "none", hasBlocks: true, splitsEagerly: true },
  { name: "ring", tracking: "write-protect", manual: 0, ring: "only", hasBlocks: false, splitsEagerly: false },
  { name: "ring-blocks", tracking: "write-protect", manual: 1, ring: "only", hasBlocks: true, splitsEagerly: true },
  { name: "ring-bitmap", tracking: "write-protect", manual: 0, ring: "with-bitmap", hasBlocks: false, splitsEagerly: false },
  { name: "ring-dbm-host", tracking: "dbm", manual: 1, ring: "with-bitmap", hasBlocks: false, splitsEagerly: false },
  { name: "dbm-legacy", tracking: "dbm", manual: 0, ring: "none", hasBlocks: false, splitsEagerly: false },
  { name: "dbm-legacy-blocks", tracking: "dbm", manual: 0, ring: "none", hasBlocks: true, splitsEagerly: false },
  { name: "dbm-manual", tracking: "dbm", manual: 1, ring: "none", hasBlocks: false, splitsEagerly: false },
  { name: "dbm-initset", tracking: "dbm", manual: 3, ring: "none", hasBlocks: true, splitsEagerly: false },
  { name: "dbm-initset-split", tracking: "dbm", manual: 3, ring: "none", hasBlocks: true, splitsEagerly: true },
];

/** What HDBSS is put under. */
const LOGGED: readonly Mode[] = [
  { name: "legacy", tracking: "write-protect", manual: 0, ring: "none", hasBlocks: false, splitsEagerly: false },
  { name: "manual", tracking: "write-protect", manual: 1, ring: "none", hasBlocks: true, splitsEagerly: true },
  { name: "initset", tracking: "dbm", manual: 3, ring: "none", hasBlocks: true, splitsEagerly: false },
  { name: "ring", tracking: "write-protect", manual: 0, ring: "only", hasBlocks: false, splitsEagerly: false },
  { name: "ring-bitmap", tracking: "write-protect", manual: 1, ring: "with-bitmap", hasBlocks: false, splitsEagerly: false },
];
const CLEANINGS: readonly Cleaning[] = ["software", "poll", "irq"];

/** Deferred CLEARs need a log that is cleared by hand. */
const DEFERRED: readonly Mode[] = LOGGED.filter(({ name }) => name === "manual" || name === "initset");

const withGuests = (mode: Mode): Mode => ({ ...mode, name: `a64-${mode.name}`, hasGuests: true });
const withHdbss = (modes: readonly Mode[], clean: Cleaning) =>
  modes.map((mode): Mode => ({ ...mode, name: `hdbss-${mode.name}-${clean}`, clean }));
const HDBSS: readonly Mode[] = [
  ...CLEANINGS.flatMap((clean) => withHdbss(LOGGED, clean)),
  ...withHdbss(DEFERRED, "async"),
];

/** Modes without dirty hardware of their own. */
export const PLAIN_MODES: readonly Mode[] = [...SYNTHETIC, ...SYNTHETIC.map(withGuests)];
/** Modes with HDBSS, some with HACDBS. */
export const DIRTY_MODES: readonly Mode[] = [...HDBSS, ...HDBSS.map(withGuests)];
export const MODES: readonly Mode[] = [...PLAIN_MODES, ...DIRTY_MODES];
