// Owns: the choices that the architecture leaves to an implementation, as settings. Data only.
// @source dirty-tracking.md 1 to 3
import {
  atCreation,
  defaultsOf,
  row,
  type SettingRow,
  type ValuesOf,
} from "../../base/settings.js";


export const DIRTY_MODEL = {
  "hardware.hdbss": row([true, false], "The host's CPUs implement FEAT_HDBSS.", "ID_AA64MMFR1_EL1.HAFDBS", atCreation),
  "hardware.hacdbs": row([true, false], "The host's CPUs implement FEAT_HACDBS.", "ID_AA64MMFR4_EL1.HACDBS", atCreation),
  "hardware.vhe": row([true, false], "The host's kernel runs at EL2; HDBSS and HACDBS need that.", "S1, C1", atCreation),
  "hardware.scrHdbssEn": row([true, false], "EL3 firmware set SCR_EL3.HDBSSEn.", "dirty-tracking.md 1.7", atCreation),
  "hardware.scrHacdbsEn": row([true, false], "EL3 firmware set SCR_EL3.HACDBSEn; without it EN reads as written and does nothing.", "dirty-tracking.md 3.1", atCreation),
  "hardware.hdbssAbortReport": row(["fsc", "sync"], "How an external abort on writing an entry is told: later in HDBSSPROD_EL2.FSC, or as a synchronous abort.", "R_JHHQW, R_QNJKV"),
  "hardware.gpfReport": row(["fsc", "sync"], "How a granule protection fault on writing an entry is told.", "R_LHLSD"),
  "hardware.zeroAhead": row([false, true], "The PE writes zeros into slots beyond INDEX.", "R_HKCCN"),
  "hardware.weakHdbssOrdering": row([false, true], "Entries reach memory only with a DSB.", "R_CGCHP"),
  "hardware.lookahead": row({ min: 0, max: 512 }, "Entries that HACDBS may have cleaned beyond the one with the error.", "R_JSHZF", { default: 0 }),
  "hardware.delayedFetch": row([false, true], "After an error those entries are fetched later, unless a DSB ends it.", "R_BBWCH"),
  "hardware.terminatorErr": row(["ipahacf", "ipaf"], "Which error an entry with a reserved TTWL raises.", "dirty-tracking.md 3.6"),
  "hardware.spuriousDirty": row([false, true], "A store that another fault kills dirties its page all the same.", "R_DYCFD"),
  "hardware.unknownAtReset": row([false, true], "HDBSSPROD_EL2 and HACDBSCONS_EL2 hold seeded noise after a reset.", "dirty-tracking.md 2.1", atCreation),
  "hardware.hacdbsPpi": row({ min: 16, max: 31 }, "INTID of HACDBSIRQ.", "dirty-tracking.md 6.3", { default: 18, changeable: "at-creation" }),
  "hardware.vdpendLatency": row({ min: 0, max: 64 }, "Looks of the hypervisor that come before a VDPEND takes effect; GSB SYS ends the wait.", "interrupts.md 5.8", { default: 0 }),
  "hardware.hacdbsEntriesPerStep": row({ min: 1, max: 512 }, "Entries that HACDBS processes while software takes one step.", "our choice", { default: 64 }),
} as const satisfies Record<string, SettingRow>;

export type DirtyModel = ValuesOf<typeof DIRTY_MODEL>;

export function defaultModel(): DirtyModel {
  return defaultsOf(DIRTY_MODEL);
}
