// Owns: KVM's choices about HDBSS and HACDBS, each as somebody proposed it, and with them those
// about interrupts: one table of a VM's settings. Data only.
// The first value is the default: the corrected algorithm.
// @source dirty-tracking.md 4.7, 5.3, 6; S0 to S2 are the seeds, HL the series after v3
import {
  atCreation,
  beforeVcpus,
  defaultsOf,
  row,
  type SettingRow,
  type ValuesOf,
} from "../../base/settings.js";
import { IRQ_POLICIES } from "../irq-policy.table.js";


export const POLICIES = {
  "hdbss.enableBy": row(["ioctl-v3", "ioctl-v2", "auto-first-logging-slot", "auto-buffers-at-vcpu-create"], "Who turns HDBSS on: args[0] order and args[1] on/off; a size of which 0 is off; the first slot that logs; or a buffer with each vCPU and a mode computed at each slot change.", "S1, HL", beforeVcpus),
  "hdbss.capShape": row(["arm-specific", "arch-generic", "none", "buffer-size-only"], "Which capability userspace sees.", "S1, HL", atCreation),
  "hdbss.sizeUnit": row(["order", "bytes"], "What args[0] counts.", "S1", beforeVcpus),
  "hdbss.size": row({ min: -1, max: 9 }, "Order of a buffer that KVM sizes itself, in units of 4 KiB; -1 computes it from the VM's memory.", "S1, HL", { default: 0 }),
  "hdbss.alignCheck": row(["check", "mask", "trust"], "What becomes of a buffer whose address isn't aligned to its size: refused, masked so that entries land elsewhere, or programmed as it is.", "S1"),
  "hdbss.dbm": row(["on-write-fault-while-logging", "all-writable-from-start", "pte-sized-from-start", "hafdbs-when-not-logging"], "When a mapping gets the DBM bit.", "S1, H1, HL"),
  "hdbss.split": row(["forced-page-size", "user-chunk", "none", "expand-ttwl"], "What is done about blocks before hardware logs them.", "EAG, H3-L, dirty-tracking.md 2.6"),
  "hdbss.flushAt": row(["put+request+fault", "every-exit", "fault-sets-request", "preserve-index-on-put"], "When a vCPU's buffer is drained.", "S1, H3-L, HL"),
  "hdbss.sync": row(["wait-drain", "request-nowait", "request-wait-ack", "kick-async"], "What GET and CLEAR wait for before they read the bitmap.", "H2, S1"),
  "hdbss.stop": row(["stop-all", "kick-only"], "How vCPUs are held while HDBSS is turned on or off.", "H2, S1"),
  "hdbss.error": row(["conservative", "efault"], "What a lost entry leads to: every logged page is marked, or KVM_RUN fails with EFAULT.", "dirty-tracking.md 4.6, S1"),
  "hdbss.maxErrors": row({ min: 0, max: 1000 }, "Lost entries of a vCPU after which the VM goes back to write protection.", "dirty-tracking.md 4.6", { default: 1 }),
  "hdbss.savedState": row(["fields", "raw-registers"], "How a vCPU keeps its buffer's registers while it isn't loaded.", "H1, H3-L"),
  "hdbss.nested": row(["off-if-NV", "allow"], "Whether a VM with nested virtualisation may use HDBSS.", "HL"),
  "hdbss.ring": row(["reserve", "naive"], "Whether a dirty ring's soft limit leaves room for a full buffer.", "HL"),
  "hacdbs.use": row(["with-hdbss", "with-dbm", "off"], "Where CLEAR, GET and ring resets clean by HACDBS: while HDBSS is on, wherever leaves carry DBM, or never.", "our choice"),
  "hacdbs.completion": row(["poll-quantum", "poll-tight", "irq-wfi", "irq-or-poll"], "How the caller learns that a batch is done.", "S0"),
  "hacdbs.quantumUs": row({ min: 1, max: 10_000 }, "Wait between two looks at HACDBSCONS_EL2.", "dirty-tracking.md 6.2", { default: 10 }),
  "hacdbs.timeoutUs": row({ min: 1, max: 10_000_000 }, "Time after which a batch is given up.", "dirty-tracking.md 6.2", { default: 100_000 }),
  "hacdbs.discovery": row(["none", "acpi", "dt"], "Where the kernel learns of HACDBSIRQ.", "S0", atCreation),
  "hacdbs.madtLength": row(["with-hacdbsirq", "short"], "Whether the MADT's GICC structures are long enough to hold the interrupt.", "C1", atCreation),
  "hacdbs.dtInterrupt": row(["ppi", "spi"], "Interrupt of the device-tree node; an SPI is refused.", "dirty-tracking.md 6.3", atCreation),
  "nested.hacdbs": row(["hidden", "emulated"], "What a guest hypervisor sees of HACDBS.", "dirty-tracking.md 6.4", atCreation),
  "clear.mode": row(["sync", "async-run"], "Whether CLEAR returns when pages are clean, or at once while vCPUs clean as they run.", "S0"),
  "clear.deferMaxUs": row({ min: 1, max: 1_000_000 }, "Time after which a deferred CLEAR is done by the caller's thread, if every vCPU sleeps.", "dirty-tracking.md 6.5", { default: 1000 }),
  "clear.onError": row(["skip-and-software", "abandon"], "What an entry that HACDBS refuses leads to.", "dirty-tracking.md 5.3, S2"),
  "dirtyLog.eagerSplit": row(["by-capability", "forced-page-size"], "Whether a host with HDBSS or HACDBS splits blocks although no chunk size was set.", "EAG", beforeVcpus),
  ...IRQ_POLICIES,
} as const satisfies Record<string, SettingRow>;

export type Policies = ValuesOf<typeof POLICIES>;

export function defaultPolicies(): Policies {
  return defaultsOf(POLICIES);
}
