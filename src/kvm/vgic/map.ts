// Owns: kvm_vgic_map_resources: what must be so before the first KVM_RUN. VM thread.
// @source arch/arm64/kvm/vgic/vgic-init.c, vgic-v2.c, vgic-v3.c by behaviour; kvm-uapi.md 6.3
import type { ErrnoName } from "../../base/errno.table.js";
import type { VgicContext } from "./context.js";
import { CPU_V2_BYTES, DIST_V2_BYTES, overlaps } from "./frame-range.js";
import { initVgic } from "./init.js";
import { frameErrno } from "./redist.js";

/** @returns the errno that KVM_RUN fails with, and the VM is dead */
export function mapResources(vgic: VgicContext): ErrnoName | null {
  const errno = vgic.dist.model === "v2" ? mapV2(vgic) : mapV3(vgic);
  if (errno === null) vgic.dist.isReady = true;
  return errno;
}

function mapV2(vgic: VgicContext): ErrnoName | null {
  const { distBase, cpuBase } = vgic.dist;
  if (distBase < 0 || cpuBase < 0) return "ENXIO";
  const dist = { base: distBase, bytes: DIST_V2_BYTES };
  if (overlaps(dist, { base: cpuBase, bytes: CPU_V2_BYTES })) return "EINVAL";
  initVgic(vgic);
  return null;
}

function mapV3({ dist, vm }: VgicContext): ErrnoName | null {
  if (dist.cpus.some(({ redist }) => redist === null)) return "ENXIO";
  if (dist.distBase < 0) return "ENXIO";
  const errno = frameErrno(dist, dist.cpus.length, vm.ipaBits);
  if (errno !== null) return errno;
  return dist.isInitialized ? null : "EBUSY";
}
