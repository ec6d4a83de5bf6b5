// Owns: a guest's access to the CPU interface of a GICv2, which on hardware is the GICV frame and
// no exit. Here it is one: the list registers are filled for its sake. VM thread.
// @source interrupts.md 4.2
import { assert } from "../../base/assert.js";
import { readCpuFrame, writeCpuFrame } from "../../machine/index.js";
import type { Vcpu } from "../vcpu.js";
import type { VgicContext } from "./context.js";
import { WIDTH } from "./register.js";
import type { VgicCpu } from "./state.js";

interface Access {
  /** Offset in the frame. */
  readonly ipa: number;
  readonly length: number;
  readonly store: Uint8Array | null;
}

/** @returns bytes of a load, empty for a store */
export function accessCpuFrame(
  { dist, delivery }: VgicContext,
  cpu: VgicCpu,
  vcpu: Vcpu,
  { ipa: offset, length, store }: Access,
): Uint8Array {
  const bytes = new Uint8Array(store === null ? length : 0);
  if (length !== WIDTH.WORD || offset % WIDTH.WORD !== 0) return bytes;
  assert(vcpu.cpu !== null, "a vCPU that has just left the guest is loaded");
  const { gic } = vcpu.cpu;
  delivery.flush(cpu, gic);
  let notHere: number | null = null;
  if (store === null) {
    new DataView(bytes.buffer).setUint32(0, readCpuFrame(gic, offset), true);
  } else {
    const value = new DataView(store.buffer, store.byteOffset, length).getUint32(0, true);
    notHere = writeCpuFrame(gic, offset, value);
  }
  delivery.fold(cpu, gic);
  // DIR of what found no list register.
  const irq = notHere === null ? null : dist.irq(cpu, notHere);
  if (irq?.active === true) {
    delivery.deactivate(irq);
    delivery.queue(irq);
  }
  return bytes;
}
