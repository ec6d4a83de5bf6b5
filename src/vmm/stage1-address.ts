// Owns: where a virtual address of a vCPU leads, as its stage 1 says now. VM thread.
import { ServiceError } from "../base/errors.js";
import type { Kvm, Vcpu } from "../kvm/index.js";
import { type A64Engine, lookUp } from "../machine/index.js";
import { pieceAt } from "./memory-access.js";

const DESCRIPTOR_BYTES = 8;

/** @throws ServiceError "vcpu-not-initialised" */
export function guestEngine(vcpu: Vcpu): A64Engine {
  if (vcpu.a64 !== null) return vcpu.a64;
  throw new ServiceError("vcpu-not-initialised", `vCPU ${vcpu.id} runs no guest code yet`);
}

/** @returns the IPA, or null where stage 1 has none; tables are read from RAM alone */
export function ipaOf(kvm: Kvm, { pe }: A64Engine, va: bigint): number | null {
  const tableAt = (ipa: number) => {
    const piece = pieceAt(kvm, ipa);
    if (piece === null || piece.object.backing !== "ram") return -1;
    const pa = piece.object.pa + piece.offset;
    kvm.vm.host.pageGuard?.(pa, DESCRIPTOR_BYTES);
    return pa;
  };
  return lookUp(kvm.vm.host.memory, pe.stage1Registers(), va, tableAt);
}
