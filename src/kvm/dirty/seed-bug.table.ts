// Owns: the seeds' defects, each as a switch that is off. Data only.
// @source dirty-tracking.md 4.8 (B, of message 001), 5.4 (D, of message 002)

export interface SeedBugRow {
  /** What goes wrong with the switch on. */
  readonly says: string;
  /** Test case of dirty-tracking.md 10 that fails with it on; null: documented, nothing to run. */
  readonly test: string | null;
}

export const SEED_BUGS = {
  B1: { says: "A failed enable frees buffers again that were freed before.", test: "T-30" },
  B2: { says: "The buffer's page order is programmed as its size code.", test: "T-31" },
  B3: { says: "A vCPU created later runs without a buffer: entries go to address 0.", test: "T-32" },
  B4: { says: "Disabling frees buffers while vCPUs still append.", test: "T-34" },
  B5: { says: "Disabling drains nothing.", test: "T-35" },
  B6: { says: "A kicked vCPU goes on with the old registers.", test: "T-36" },
  B7: { says: "A drain trusts an index that another vCPU left.", test: "T-37" },
  B8: { says: "The sync waits for nothing.", test: "T-38" },
  B9: { says: "The sync kicks nobody.", test: "T-39" },
  B12: { says: "No DSB before entries are read.", test: "T-21, T-40" },
  B13: { says: "An entry's level is ignored.", test: "T-41" },
  B14: { says: "A lost entry fails the run, and the next put forgets it.", test: "T-42" },
  B15: { says: "HDBSSF is looked at after the external-abort shortcut.", test: "T-43" },
  B16: { says: "A drain looks slots up without SRCU.", test: "T-44" },
  B17: { says: "Buffers are freed only while HDBSS is on.", test: "T-45" },
  B18: { says: "Disabling with a senseless size is refused.", test: "T-46" },
  B19: { says: "A change of mode invalidates no TLB.", test: "T-47" },
  B20: { says: "Device mappings get DBM too.", test: "T-48" },
  B22: { says: "A drain pushes more than the ring holds.", test: "T-50" },
  D1: { says: "The base gfn adds first_page modulo 64.", test: "T-52" },
  D2: { says: "The user's bitmap is indexed from the slot's start.", test: "T-53" },
  D4: { says: "An array that is exactly full counts as failed.", test: "T-54" },
  D5: { says: "A fallback overwrites what hardware has cleaned already.", test: "T-55" },
  D7: { says: "Eligibility is tested before preemption is off.", test: "T-56" },
  D8: { says: "The interrupt's handler leaves the line high.", test: "T-57" },
  D9: { says: "The wait sleeps without looking first.", test: "T-58" },
  D10: { says: "Any interrupt without an error counts as done.", test: "T-59" },
  D11: { says: "TTWL follows the split chunk size.", test: "T-60" },
  D12: { says: "One page that can't be cleaned abandons all.", test: "T-61" },
  D13: { says: "Splitting drops mmu_lock while bits are in the array.", test: "T-62" },
  D14: { says: "A failed split is ignored.", test: "T-63" },
  D15: { says: "Eager splitting asks for HACDBS where it means HDBSS.", test: "T-64" },
  D16: { says: "No DSB before the array is used again.", test: "T-65" },
  D17: { says: "No ISB between HCR_EL2.VM and the start.", test: "T-66" },
  D18: { says: "VTTBR_EL2 stays the VM's after a batch.", test: "T-67" },
  D19: { says: "Nothing is invalidated if the first entry fails.", test: "T-68" },
  D20: { says: "The array's tail is stale.", test: "T-69" },
} as const satisfies Record<string, SeedBugRow>;

export type SeedBug = keyof typeof SEED_BUGS;
