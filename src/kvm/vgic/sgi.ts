// Owns: SGIs that a guest sends by ICC_SGI1R_EL1, ICC_ASGI1R_EL1 and ICC_SGI0R_EL1. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio-v3.c (vgic_v3_dispatch_sgi) by behaviour; interrupts.md 4.5
import type { Delivery } from "./delivery.js";
import type { VgicDist } from "./dist.js";
import type { VgicCpu } from "./state.js";

/** Targets of one write: affinities 3 to 1 and a list of 16. */
const LIST_BITS = 16;
const IRM = 1n << 40n;

/**
 * @param mayGroup1 SGI1R; the other two reach SGIs of group 0 only
 */
export function sendSgi(
  parts: { readonly dist: VgicDist; readonly delivery: Delivery },
  from: VgicCpu,
  value: bigint,
  mayGroup1: boolean,
): void {
  const { dist, delivery } = parts;
  const field = (shift: bigint, bits: bigint) => Number((value >> shift) & ((1n << bits) - 1n));
  const intid = field(24n, 4n);
  const isBroadcast = (value & IRM) !== 0n;
  const [aff3, aff2, aff1, rs] = [field(48n, 8n), field(32n, 8n), field(16n, 8n), field(44n, 4n)];
  const cluster = ((aff3 << 24) | (aff2 << 16) | (aff1 << 8)) >>> 0;
  const list = field(0n, 16n);
  for (const cpu of dist.cpus) {
    if (isBroadcast) {
      if (cpu === from) continue;
    } else {
      const aff0 = cpu.affinity & 0xff;
      if ((cpu.affinity & ~0xff) >>> 0 !== cluster || aff0 >>> 4 !== rs) continue;
      if ((list & (1 << (aff0 % LIST_BITS))) === 0) continue;
    }
    const irq = cpu.privateIrqs[intid];
    // A write for one group doesn't raise an SGI of the other: but SGI1R never raises group 0's.
    if (irq === undefined || (irq.group === 1) !== mayGroup1) continue;
    irq.pendingLatch = true;
    delivery.queue(irq);
  }
}

/** GICD_SGIR.TargetListFilter. */
const FILTER = { LIST: 0, OTHERS: 1, SELF: 2 } as const;

/** vgic_mmio_write_sgir: a GICv2 remembers who asked. */
export function sendSgiV2(
  parts: { readonly dist: VgicDist; readonly delivery: Delivery },
  from: VgicCpu,
  value: number,
): void {
  const filter = (value >>> 24) & 3;
  const list = (value >>> 16) & 0xff;
  for (const cpu of parts.dist.cpus) {
    const isListed = filter === FILTER.LIST && (list & (1 << cpu.index)) !== 0;
    const isOther = filter === FILTER.OTHERS && cpu !== from;
    const isSelf = filter === FILTER.SELF && cpu === from;
    const irq = cpu.privateIrqs[value & 0xf];
    if (irq === undefined || !(isListed || isOther || isSelf)) continue;
    irq.pendingLatch = true;
    irq.source |= 1 << from.index;
    parts.delivery.queue(irq);
  }
}
