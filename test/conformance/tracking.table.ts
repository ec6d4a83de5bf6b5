// Owns: the ways to notice stores that a recording is replayed on: no answer may depend on them.
// Data only. Test process.

/** Members of POST /v1/vms that must not change any answer. */
export type VmSettings = Readonly<Record<string, unknown>>;

export interface Tracking {
  readonly name: string;
  readonly vm: VmSettings;
  /** Counters that show the way was taken: all of them have moved at the end of a run. */
  readonly counts: readonly string[];
}

const dirty = (settings: VmSettings): VmSettings => ({ dirty: { settings } });
/** KVM turns it on by itself: the client that was recorded knows nothing of it. */
const HDBSS: VmSettings = { "hdbss.enableBy": "auto-first-logging-slot" };

export const TRACKINGS: readonly Tracking[] = [
  {
    name: "write-protect",
    vm: { dirtyTracking: "write-protect" },
    counts: ["s2WriteFaults", "pagesProtected"],
  },
  { name: "dbm", vm: { dirtyTracking: "dbm" }, counts: ["hwDirtied", "pagesScanned"] },
  {
    name: "dbm+hacdbs",
    vm: { dirtyTracking: "dbm", ...dirty({ "hacdbs.use": "with-dbm" }) },
    counts: ["hwDirtied", "hacdbsCleaned"],
  },
  {
    name: "hdbss",
    vm: dirty({ ...HDBSS, "hacdbs.use": "off" }),
    counts: ["hdbssAppends", "hdbssDrainedEntries", "pagesProtected"],
  },
  {
    name: "hdbss+hacdbs",
    vm: dirty({ ...HDBSS, "hacdbs.use": "with-hdbss" }),
    counts: ["hdbssAppends", "hdbssDrainedEntries", "hacdbsCleaned"],
  },
];
