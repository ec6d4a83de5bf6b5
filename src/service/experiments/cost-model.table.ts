// Owns: what each event of dirty tracking costs on silicon that nobody has measured: cycles at 3 GHz,
// with the range that is believable and where the figure comes from. Data only. Any thread.
// @source dirty-tracking.md 8.1, 8.2: P1 dirty_log_perf_test on 96 vCPUs (2023), P2 scans of stage 2
// (2020), P3 Linux commit c862626e19ef, P4 cover letter of eager splitting, P9 ATC'17 KVM/ARM

export interface CostRow {
  /** Cycles, or a factor where `says` calls it one. */
  readonly cycles: number;
  readonly min: number;
  readonly max: number;
  readonly says: string;
  readonly source: string;
}

const row = (cycles: number, min: number, max: number, says: string, source: string): CostRow => ({
  cycles,
  min,
  max,
  says,
  source,
});

const CHOICE = "Our choice: no text that we could read gives a figure.";

export const COST_MODEL = {
  exitEntry: row(1500, 700, 4000, "A guest exit and re-entry that does next to nothing.", "Order of magnitude of P9."),
  s2WpFault: row(6000, 3000, 20_000, "A write-protection fault from exit to re-entry, alone.", "Our choice, between P9 and P1."),
  s2WpFaultContention: row(0.15, 0, 1, "Factor: each further faulting vCPU makes such a fault longer by this share.", "Fitted to P1: 96 vCPUs take 30 us for one."),
  s2MapFault: row(9000, 5000, 50_000, "A translation fault and the new mapping.", CHOICE),
  hwDirty: row(80, 30, 300, "Hardware turns a leaf from clean to dirty: a walk and an atomic.", CHOICE),
  hdbssAppend: row(20, 5, 100, "The entry that HDBSS writes on top.", CHOICE),
  hdbssFullExit: row(2500, 1500, 6000, "A fault for a full buffer, without its drain.", CHOICE),
  drainPerEntry: row(25, 10, 80, "Decoding an entry and setting its bit.", CHOICE),
  drainFixed: row(400, 200, 2000, "What any drain costs: registers, ISB, DSB.", CHOICE),
  drainTtwlBlock: row(2, 1, 5, "A page more of an entry that stands for a block.", CHOICE),
  kickIpi: row(500, 300, 2000, "Asking one vCPU to leave the guest.", CHOICE),
  kickExit: row(2500, 1500, 6000, "Leaving for that, looking at requests, entering again.", CHOICE),
  swWpPage: row(55, 50, 120, "Write-protecting one leaf by software.", "P3 gives 51, P1 114."),
  swWalkPerWord: row(150, 50, 400, "Fixed cost of a 64-page word in a software CLEAR.", CHOICE),
  scanLeaf: row(7, 6, 800, "Looking at one leaf for hardware dirty state.", "P2; P1 is the upper end."),
  tlbiVmid: row(3000, 1000, 9_000_000, "Whole-VMID broadcast invalidation and DSB.", "P4 is the upper end."),
  tlbiVmidPerCpu: row(200, 0, 2000, "The same, for each CPU.", CHOICE),
  tlbiRange: row(2000, 1000, 100_000, "Range invalidation and DSB.", CHOICE),
  tlbiRangePerCpu: row(100, 0, 1000, "The same, for each CPU.", CHOICE),
  tlbRefill: row(100, 50, 300, "The guest's miss on a page after an invalidation.", CHOICE),
  splitBlock: row(20_000, 5000, 3_000_000, "Splitting a 2 MiB block: 512 stores, break before make.", "P4 is the upper end."),
  hacdbsStart: row(1200, 500, 5000, "Starting and ending a batch of HACDBS.", CHOICE),
  hacdbsPerEntry: row(40, 15, 200, "HACDBS fetches, walks and cleans one entry.", "Our choice; at 55 it is as dear as swWpPage."),
  hacdbsSkip: row(4, 2, 10, "HACDBS skips an invalid entry.", CHOICE),
  convertBit: row(8, 4, 20, "A bit of the bitmap becomes an entry.", CHOICE),
  rollbackEntry: row(6, 3, 20, "An entry becomes a bit again.", CHOICE),
  irqEntryExit: row(2000, 1000, 8000, "Taking HACDBSIRQ.", CHOICE),
  pollQuantum: row(30_000, 3000, 300_000, "One wait of 10 us between two looks at HACDBSCONS_EL2.", "dirty-tracking.md 6.2."),
  ringPush: row(30, 10, 200, "An entry of a dirty ring.", CHOICE),
  ringReset: row(60, 10, 200, "Taking that entry back and protecting its page.", CHOICE),
  irqInject: row(900, 300, 3000, "Raising an SPI of a guest: its lock, its state, VDPEND or a queue.", CHOICE),
  irqTaken: row(600, 200, 2000, "The guest takes an interrupt and ends it, without its handler's work.", CHOICE),
  vdrcfgRead: row(700, 200, 4000, "One GIC VDRCFG, its ISB and the read of ICC_ICSR_EL1, behind a call to EL2.", CHOICE),
  spiListLock: row(40, 20, 200, "Taking and releasing the lock of the list of SPIs in flight, alone.", CHOICE),
  spiListContention: row(0.5, 0, 4, "Factor: each further vCPU makes that lock longer by this share.", CHOICE),
  ackNotify: row(1500, 500, 6000, "Telling a notifier: reverse map, line lowered, resamplefd signalled.", CHOICE),
} as const satisfies Record<string, CostRow>;

export type CostKey = keyof typeof COST_MODEL;
export type CostModel = Readonly<Record<CostKey, number>>;

export const COST_KEYS = Object.keys(COST_MODEL) as CostKey[];

/** The defaults, and what a caller puts in their place. */
export function costModel(overrides: Readonly<Partial<Record<CostKey, number>>>): CostModel {
  const entries = COST_KEYS.map((key) => [key, overrides[key] ?? COST_MODEL[key].cycles]);
  return Object.fromEntries(entries) as CostModel;
}
