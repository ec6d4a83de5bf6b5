// Owns: where the frames of an interrupt controller may lie. Any thread.
// @source arch/arm64/kvm/vgic/vgic-kvm-device.c (vgic_check_iorange) by behaviour; kvm-uapi.md 6.2
import type { ErrnoName } from "../../base/errno.table.js";

/** GICv3 frames are 64 KiB. */
export const FRAME_ALIGN = 0x1_0000;
export const DIST_V3_BYTES = 0x1_0000;
/** GICv2: a distributor, and a CPU interface with DIR in its second page. */
export const FRAME_ALIGN_V2 = 0x1000; // tidy: GICv2's frames, whatever the page is
export const DIST_V2_BYTES = 0x1000; // tidy: as above
export const CPU_V2_BYTES = 0x2000;

interface Range {
  readonly base: number;
  readonly bytes: number;
}

export function overlaps(a: Range, b: Range): boolean {
  return a.base < b.base + b.bytes && b.base < a.base + a.bytes;
}

/** Of an address that isn't set yet. */
export function checkIoRange(
  base: number,
  bytes: number,
  align: number,
  ipaBits: number,
): ErrnoName | null {
  if (base % align !== 0) return "EINVAL";
  return base + bytes > 2 ** ipaBits ? "E2BIG" : null;
}
