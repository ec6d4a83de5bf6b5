// Owns: vgic_init: the number of interrupts is fixed, they come into being. VM thread.
// @source arch/arm64/kvm/vgic/vgic-init.c (vgic_init, vgic_lazy_init) by behaviour;
//   interrupts.md 2.3, 3.10
import type { VgicContext } from "./context.js";

/** Once; from then on there are no more vCPUs. */
export function initVgic({ dist, vm }: VgicContext): void {
  if (dist.isInitialized) return;
  dist.allocateSpis();
  vm.routing.setDefaults(dist.nrSpis);
  dist.isInitialized = true;
}

/** A GICv2 is initialised by its first use. @returns whether it is initialised now */
export function lazyInit(vgic: VgicContext): boolean {
  if (vgic.dist.model === "v2") initVgic(vgic);
  return vgic.dist.isInitialized;
}
