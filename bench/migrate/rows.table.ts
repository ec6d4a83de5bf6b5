// Owns: what is migrated side by side: working sets, rates, bandwidths and settings of the baselines.
// Bench process. @source guest-payloads.md 9
const MIB = 2 ** 20;

export interface MigrationCase {
  readonly name: string;
  /** `g.dirty=W,R,S` without its S; null: the guest idles. */
  readonly dirty: { readonly mib: number; readonly pagesPerSecond: number } | null;
  /** 0: as fast as it goes. */
  readonly bandwidth: number;
  readonly smp?: number;
  readonly memoryMiB?: number;
  readonly channels?: number;
  readonly kind?: "auto-converge" | "postcopy" | "delta";
  /** QEMU doesn't complete it within 30 s: "not converging" has to be said within five rounds. */
  readonly endless?: true;
}

const LINK = 128 * MIB;
const w = (mib: number, pagesPerSecond: number) => ({ mib, pagesPerSecond });

/** Rates of 4096, 16384, 28672 and 49152 pages a second; 0 is without pause. */
export const CASES: readonly MigrationCase[] = [
  { name: "idle", dirty: null, bandwidth: LINK },
  { name: "W128 4k", dirty: w(128, 4096), bandwidth: LINK }, // tidy: pages a second
  { name: "W128 16k", dirty: w(128, 16_384), bandwidth: LINK },
  { name: "W128 28k", dirty: w(128, 28_672), bandwidth: LINK },
  { name: "W128 48k", dirty: w(128, 49_152), bandwidth: LINK, endless: true },
  { name: "W128 max", dirty: w(128, 0), bandwidth: LINK, endless: true },
  { name: "W256 16k", dirty: w(256, 16_384), bandwidth: LINK },
  { name: "idle, unlimited", dirty: null, bandwidth: 0 },
  { name: "idle, 2 CPUs", dirty: null, bandwidth: 0, smp: 2 },
  { name: "idle, 1 GiB", dirty: null, bandwidth: 0, memoryMiB: 1024 },
  { name: "W128 4k, unlimited", dirty: w(128, 4096), bandwidth: 0 }, // tidy: pages a second
  { name: "W128 16k, unlimited", dirty: w(128, 16_384), bandwidth: 0 },
  { name: "W128 28k, unlimited", dirty: w(128, 28_672), bandwidth: 0 },
  { name: "W128 48k, unlimited", dirty: w(128, 49_152), bandwidth: 0 },
  { name: "W128 48k, 2 CPUs", dirty: w(128, 49_152), bandwidth: 0, smp: 2 },
  { name: "W128 max, unlimited", dirty: w(128, 0), bandwidth: 0 },
  { name: "W128 48k, 4 channels", dirty: w(128, 49_152), bandwidth: 0, channels: 4 },
  { name: "W128 max, 4 channels", dirty: w(128, 0), bandwidth: 0, channels: 4 },
  { name: "W128 28k, converge", dirty: w(128, 28_672), bandwidth: LINK, kind: "auto-converge" },
  { name: "W128 48k, converge", dirty: w(128, 49_152), bandwidth: LINK, kind: "auto-converge" },
  { name: "W128 16k, postcopy", dirty: w(128, 16_384), bandwidth: LINK, kind: "postcopy" },
  { name: "W128 48k, postcopy", dirty: w(128, 49_152), bandwidth: LINK, kind: "postcopy" },
  { name: "W128 max, postcopy", dirty: w(128, 0), bandwidth: LINK, kind: "postcopy" },
  { name: "W128 48k, delta", dirty: w(128, 49_152), bandwidth: LINK, kind: "delta" },
];

export const MEMORY_MIB = 512;
export const DOWNTIME_MS = 300;

/** What one migration took. */
export interface Moved {
  readonly completed: boolean;
  readonly totalMs: number;
  /** From the source's stop to the target's run, one clock. */
  readonly blackoutMs: number;
  readonly rounds: number;
  readonly megabytes: number;
  /** What the guest's program said at the target: stamps that were wrong; null: it said nothing. */
  readonly bad: number | null;
}
