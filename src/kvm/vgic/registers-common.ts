// Owns: what identification registers of distributors and redistributors have in common. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio-v2.c, vgic-mmio-v3.c by behaviour; interrupts.md 4
import type { ErrnoName } from "../../base/errno.table.js";
import type { VgicDist } from "./dist.js";
import type { RegisterAt } from "./register.js";

/** PRODUCT_ID_KVM, and Arm as the implementer. */
export const PRODUCT_ID_KVM = 0x4b;
export const IMPLEMENTER_ARM = 0x43b;
const REVISION_SHIFT = 12; // tidy: bits of IIDR
const REVISION_MASK = 0xf << REVISION_SHIFT;
/** KVM_VGIC_IMP_REV_1 to _LATEST. */
const REVISIONS: readonly number[] = [1, 2, 3];
/** GICD_IIDR and GICR_IIDR show what groups and LPIs the guest may expect. */
const PRODUCT_SHIFT = 24;
const STATUSR_BITS = 0xf;

export function iidrOf({ implementationRev }: VgicDist): number {
  const product = PRODUCT_ID_KVM << PRODUCT_SHIFT;
  return (product | (implementationRev << REVISION_SHIFT) | IMPLEMENTER_ARM) >>> 0;
}

/** Userspace asks for the behaviour of an older KVM. */
export function setRevision(dist: VgicDist, value: number): ErrnoName | null {
  if (((iidrOf(dist) ^ value) & ~REVISION_MASK) !== 0) return "EINVAL";
  const revision = (value & REVISION_MASK) >>> REVISION_SHIFT;
  if (!REVISIONS.includes(revision)) return "EINVAL";
  dist.implementationRev = revision;
  return null;
}

/** GICD_TYPER.ITLinesNumber. */
export function ITLINES_OF({ nrIrqs }: VgicDist): number {
  return (nrIrqs >>> 5) - 1;
}

/** Userspace sets STATUSR's bits as they are; a guest's ones clear them. */
export function setStatus(of: { statusr: number }, value: number): null {
  of.statusr = value & STATUSR_BITS;
  return null;
}

/** GICD_PIDR and GICR_PIDR: the words up to the end of a frame's 64 KiB. */
export const PIDRS = 0xffd0;
export const PIDRS_BYTES = 0x30;
const PIDR2 = 0xffe8 - PIDRS;
const PIDR2_GICV3 = 0x3b;

export function PIDR2_V3({ offset }: RegisterAt): number {
  return offset === PIDR2 ? PIDR2_GICV3 : 0;
}
