// Owns: what KVM keeps of a GICv5's interrupts and no device attribute tells: lines, latches, which
// SPIs are in flight, what was counted. VM thread.
// @source interrupts.md 7.4: there is no LEVEL_INFO
import type { V5Context } from "../vgic/v5/context.js";
import { V5Spi } from "../vgic/v5/state.js";
import type { V5Latent } from "../vgic/v5/view.js";

export function v5Latent({ state, tracking }: V5Context): V5Latent {
  const { spis, cpus, counters } = state.save();
  return { spis, lines: cpus.map(({ lines }) => lines), ...tracking.save(), counters };
}

/**
 * After registers and tables.
 * @returns null, or why it is another controller's
 */
export function loadV5Latent({ state, tracking }: V5Context, latent: V5Latent): string | null {
  const { spis, lines, counters, ...flight } = latent;
  if (lines.length !== state.cpus.length) return `it has ${state.cpus.length} CPU interfaces`;
  for (const spi of state.spis) Object.assign(spi, new V5Spi(spi.id));
  for (const saved of spis) {
    const spi = state.spi(saved.id);
    if (spi === null) return `it has no SPI ${saved.id}`;
    Object.assign(spi, saved);
  }
  for (const [index, cpu] of state.cpus.entries()) {
    cpu.lines.fill(0);
    for (const ppi of lines[index] ?? []) cpu.lines[ppi] = 1;
  }
  tracking.load(flight);
  Object.assign(state.counters, counters);
  return null;
}
