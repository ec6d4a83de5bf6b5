// Owns: regions of redistributors, and which vCPU's lies where. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio-v3.c (vgic_register_redist_iodev, vgic_v3_set_redist_base)
//   by behaviour; kvm-uapi.md 6.2
import type { ErrnoName } from "../../base/errno.table.js";
import type { VgicDist } from "./dist.js";
import { checkIoRange, DIST_V3_BYTES, FRAME_ALIGN, overlaps } from "./frame-range.js";
import { REDIST_BYTES, type RedistRegion, type VgicCpu } from "./state.js";

/** Bytes of a region; a legacy one has room for every vCPU. */
export function regionBytes({ count }: RedistRegion, vcpus: number): number {
  return (count === 0 ? vcpus : count) * REDIST_BYTES;
}

/** vgic_v3_check_base: whether frames lie within the IPA space and beside one another. */
export function frameErrno(dist: VgicDist, vcpus: number, ipaBits: number): ErrnoName | null {
  const ranges = dist.redistRegions.map((region) => ({
    base: region.base,
    bytes: regionBytes(region, vcpus),
  }));
  if (dist.distBase >= 0) ranges.push({ base: dist.distBase, bytes: DIST_V3_BYTES });
  const isWrong = ranges.some(
    (range, n) =>
      checkIoRange(range.base, range.bytes, FRAME_ALIGN, ipaBits) !== null ||
      ranges.some((other, m) => m < n && overlaps(range, other)),
  );
  return isWrong ? "EINVAL" : null;
}

/**
 * vgic_v3_set_redist_base: a region more, and the vCPUs that still have none move in.
 * @param count redistributors; 0: the legacy region
 */
export function addRegion(
  dist: VgicDist,
  { index, base, count }: { index: number; base: number; count: number },
  ipaBits: number,
): ErrnoName | null {
  const last = dist.redistRegions.at(-1);
  if (last === undefined && index !== 0) return "EINVAL";
  if (last !== undefined) {
    if ((count === 0) !== (last.count === 0)) return "EINVAL";
    if (count === 0) return "EEXIST";
    if (index !== last.index + 1) return "EINVAL";
  }
  const vcpus = dist.cpus.length;
  const region = { index, base, count, used: 0 };
  const bytes = regionBytes(region, vcpus);
  const hits = (other: { base: number; bytes: number }) => overlaps({ base, bytes }, other);
  const others = dist.redistRegions.map((other) => ({
    base: other.base,
    bytes: regionBytes(other, vcpus),
  }));
  if (dist.distBase >= 0) others.push({ base: dist.distBase, bytes: DIST_V3_BYTES });
  if (others.some(hits)) return "EINVAL";
  const errno = checkIoRange(base, bytes, FRAME_ALIGN, ipaBits);
  if (errno !== null) return errno;
  dist.redistRegions.push(region);
  dist.isLegacyRedist = count === 0;
  for (const cpu of dist.cpus) dist.placeRedist(cpu);
  return null;
}

/** GICR_TYPER.Last: of the highest one in use, unless the next region goes on where this ends. */
export function isLastRedist({ redistRegions }: VgicDist, { redist }: VgicCpu): boolean {
  if (redist === null) return false;
  const { region, base } = redist;
  const place = (base - region.base) / REDIST_BYTES;
  if (place < region.used - 1) return false;
  if (place !== region.count - 1) return true;
  const end = region.base + region.count * REDIST_BYTES;
  return !redistRegions.some((other) => other.base === end && other.used > 0);
}
