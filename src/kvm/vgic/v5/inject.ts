// Owns: the way of an SPI's line, or of an edge, to the hardware. VM thread.
// Whoever drives the line: KVM_IRQ_LINE, an irqfd, a resampler that lowers it.
// @source arch/arm64/kvm/vgic/vgic.c (kvm_vgic_inject_irq), vgic-v5.c by behaviour;
//   interrupts.md 5.8
import type { V5Context } from "./context.js";
import type { V5Spi } from "./state.js";

/** kvm_vgic_inject_irq of an SPI. */
export function injectSpi(v5: V5Context, spi: V5Spi, level: boolean): void {
  if (!isNews(spi, level)) return;
  const { vm, tracking, state } = v5;
  if (vm.trace.isOn) {
    vm.trace.add("vgic_update_irq_pending", null, { irq: spi.intid, level: level ? 1 : 0 });
  }
  v5.tellPending(spi);
  // A restored table had it pending, and its line fell before the first run.
  if (!spi.pending) state.replay = state.replay.filter((intid) => intid !== spi.intid);
  tracking.injected(spi);
}

/** vgic_validate_injection, and what becomes of line and latch. @returns false: nothing comes */
function isNews(spi: V5Spi, level: boolean): boolean {
  if (spi.config === "edge") {
    if (spi.keepsLevel) spi.lineLevel = level;
    if (level) spi.pendingLatch = true;
    return level;
  }
  // A line that falls is the end of what was latched too, as CLEAR is of a pended level SPI.
  const clears = !level && spi.pendingLatch;
  if (spi.lineLevel === level && !clears) return false;
  spi.lineLevel = level;
  if (clears) spi.pendingLatch = false;
  return true;
}

/** IRS_SPI_CFGR of the guest: the hardware's handling mode goes with it. */
export function configureSpi({ tables, tracking }: V5Context, spi: V5Spi, isLevel: boolean): void {
  const config = isLevel ? "level" : "edge";
  if (spi.config === config) return;
  spi.config = config;
  tables.domain?.handling(spi.intid, isLevel);
  tracking.configured(spi);
}
