// Owns: choices about irqfds and their acknowledgement, each as some kernel or proposal has it.
// Data only. The first value is the default.
// @source interrupts.md 0.3, 3.9; S003 is the message on irqfd for ARM
import { atCreation, row, type SettingRow } from "../base/settings.js";

export const IRQ_POLICIES = {
  "irq.era": row(["modern", "pre617"], "Whether an eventfd serves one irqfd in the whole host (Linux 6.17), or one in each VM, the oldest taking what is signalled.", "interrupts.md 1.3"),
  "irq.irqfdFastPath": row(["on", "off"], "Whether an irqfd injects where it is signalled; off: always by deferred work, which pulses the line (before Linux 5.8).", "interrupts.md 1.5"),
  "irq.spiDefaultLevelForIrqfd": row([false, true], "Whether the SPI of a resampling irqfd keeps the level of its line although it is still configured as edge-triggered, so that clearing it loses nothing.", "interrupts.md 3.9 C"),
  "irq.ackOnClearPending": row([false, true], "Whether a guest that clears a pending SPI acknowledges it to the resamplers, as message 003 proposed and its reviewers refused.", "S003"),
  "vgicV5.spiTracking": row(["exact", "none", "seed004", "seed004-notifier-only"], "How a GICv5's KVM learns that a guest is done with an SPI: from its deactivation of level SPIs that somebody listens to; not at all, as merged; or by asking the hardware about every SPI in flight at each exit, as message 004 proposed it, and with only those that somebody listens to.", "S004, interrupts.md 5.13", atCreation),
} as const satisfies Record<string, SettingRow>;
