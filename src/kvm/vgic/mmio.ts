// Owns: which frame a guest's access goes to. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio.c by behaviour
import type { Vcpu } from "../vcpu.js";
import type { VgicContext } from "./context.js";
import { accessCpuFrame } from "./cpu-frame.js";
import { CPU_V2_BYTES, DIST_V2_BYTES, DIST_V3_BYTES, FRAME_ALIGN } from "./frame-range.js";
import { type FrameTarget, guestRead, guestWrite } from "./register.js";
import { DIST_V2_FRAME } from "./registers-dist-v2.table.js";
import { DIST_V3_FRAME } from "./registers-dist-v3.table.js";
import { REDIST_FRAME } from "./registers-redist.table.js";
import type { VgicCpu } from "./state.js";

export interface FrameAccess {
  readonly ipa: number;
  /** Bytes: 1 to 8. */
  readonly length: number;
  /** null: a load. */
  readonly store: Uint8Array | null;
}

const NO_BYTES = new Uint8Array(0);

/** @returns bytes of a load, empty for a store; null: the address is in no frame */
export function accessFrame(
  vgic: VgicContext,
  cpu: VgicCpu,
  vcpu: Vcpu,
  access: FrameAccess,
): Uint8Array | null {
  const { dist } = vgic;
  if (!dist.isReady) return null;
  const { ipa } = access;
  if (dist.model === "v2") {
    if (isIn(ipa, dist.distBase, DIST_V2_BYTES)) {
      return accessRegister({ frame: DIST_V2_FRAME, vgic, cpu }, ipa - dist.distBase, access);
    }
    if (!isIn(ipa, dist.cpuBase, CPU_V2_BYTES)) return null;
    return accessCpuFrame(vgic, cpu, vcpu, { ...access, ipa: ipa - dist.cpuBase });
  }
  if (isIn(ipa, dist.distBase, DIST_V3_BYTES)) {
    return accessRegister({ frame: DIST_V3_FRAME, vgic, cpu }, ipa - dist.distBase, access);
  }
  const owner = dist.redistFrames.get(Math.floor(ipa / FRAME_ALIGN));
  if (owner?.redist) {
    const target = { frame: REDIST_FRAME, vgic, cpu: owner };
    return accessRegister(target, ipa - owner.redist.base, access);
  }
  return null;
}

function isIn(ipa: number, base: number, bytes: number): boolean {
  return base >= 0 && ipa >= base && ipa < base + bytes;
}

function accessRegister(
  target: FrameTarget,
  offset: number,
  { length, store }: FrameAccess,
): Uint8Array {
  if (store === null) return guestRead(target, offset, length);
  guestWrite(target, offset, store);
  return NO_BYTES;
}
