// Owns: power-on state of a board's interrupt controller. KVM has no ioctl for it: its VMM writes
// each register through the device, as QEMU's does. VM thread.
// @source hw/intc/arm_gic_kvm.c, arm_gicv3_kvm.c, arm_gic_common.c by behaviour
import type { KvmDevice, Vcpu } from "../../kvm/index.js";
import { attribute, GROUP, getU32, setU32 } from "../device-attributes.js";
import { GICD, GICR, PLPIS, SGI_FRAME } from "../gic-offsets.table.js";

const ALL = 0xffff_ffff;
const PRIVATE = 32;
/** CTLR, PMR, BPR, ABPR, APR0 of a GICv2's CPU interface; ABPR is one more than BPR can be. */
const GICC: readonly (readonly [offset: number, value: number])[] = [
  [0x00, 0],
  [0x04, 0],
  [0x08, 0],
  [0x1c, 1],
  [0xd0, 0],
];
const SGIS_ENABLED = 0xffff;
/** ICC registers by encoding: PMR, BPR0, AP0R0, AP1R0, BPR1, IGRPEN0, IGRPEN1 become 0. */
const ICC_ZERO: readonly bigint[] = [0xc230n, 0xc643n, 0xc644n, 0xc648n, 0xc663n, 0xc666n, 0xc667n];
/** ICC_CTLR_EL1; the VMM keeps what the host's interface is, and switches CBPR and EOImode off. */
const ICC_CTLR = 0xc664n;
const CTLR_MODES = 3n;

type Write = (offset: number, value: number) => void;

/** Every interrupt of a range: off, neither pending nor active, a level, priority 0, group 0. */
function quiet(write: Write, first: number, count: number): void {
  for (let irq = first; irq < first + count; irq += 32) {
    const word = irq / 8;
    write(GICD.ICENABLER + word, ALL);
    write(GICD.IGROUPR + word, 0);
    write(GICD.ICPENDR + word, ALL);
    // A GICv3 has userspace say all of what is pending by this one.
    write(GICD.ISPENDR + word, 0);
    write(GICD.ICACTIVER + word, ALL);
    for (let at = irq; at < irq + 32; at += 4) write(GICD.IPRIORITYR + at, 0);
    for (let at = irq; at < irq + 32; at += 16) {
      // SGIs are edges for good.
      if (at >= 16) write(GICD.ICFGR + at / 4, 0);
    }
  }
}

const writerOf =
  (device: KvmDevice) =>
  (group: number, cpu: number): Write =>
  (offset, value) =>
    setU32(device, group, attribute(cpu, offset), value);

/** @param irqs the number that the device has */
export function resetGicV2(device: KvmDevice, vcpus: readonly Vcpu[], irqs: number): void {
  const writer = writerOf(device);
  const shared = writer(GROUP.DIST, 0);
  shared(GICD.CTLR, 0);
  // Groups of a GICv2 are userspace's to write only once it has shown that it knows IIDR.
  const iidr = attribute(0, GICD.IIDR);
  setU32(device, GROUP.DIST, iidr, getU32(device, GROUP.DIST, iidr));
  for (const { id } of vcpus) {
    const banked = writer(GROUP.DIST, id);
    quiet(banked, 0, PRIVATE);
    banked(GICD.ISENABLER, SGIS_ENABLED);
    for (let at = 0; at < 16; at += 4) banked(GICD.CPENDSGIR + at, ALL);
    const face = writer(GROUP.CPU, id);
    for (const [offset, value] of GICC) face(offset, value);
  }
  quiet(shared, PRIVATE, irqs - PRIVATE);
  // Only the one vCPU of a uniprocessor is a target before the guest names one.
  const targets = vcpus.length === 1 ? 0x0101_0101 : 0;
  for (let at = PRIVATE; at < irqs; at += 4) shared(GICD.ITARGETSR + at, targets);
}

/** Aff3 to Aff0, a byte each. */
const affinityOf = ({ mpidr }: Vcpu): number => Number(mpidr & 0xff_ffffn);

/** @param irqs the number that the device has */
export function resetGicV3(device: KvmDevice, vcpus: readonly Vcpu[], irqs: number): void {
  const writer = writerOf(device);
  // What all share is seen from the first, whose affinity is 0.
  const shared = writer(GROUP.DIST, 0);
  shared(GICD.CTLR, 0);
  for (const vcpu of vcpus) {
    const redist = writer(GROUP.REDIST, affinityOf(vcpu));
    if (hasLpis(device, affinityOf(vcpu))) {
      redist(GICR.CTLR, 0);
      for (const base of [GICR.PROPBASER, GICR.PENDBASER]) {
        redist(base, 0);
        redist(base + 4, 0);
      }
    }
    redist(GICR.STATUSR, 0);
    writer(GROUP.LEVEL, affinityOf(vcpu))(0, 0);
    quiet((offset, value) => redist(SGI_FRAME + offset, value), 0, PRIVATE);
    resetIcc(device, affinityOf(vcpu));
  }
  shared(GICD.STATUSR, 0);
  const level = writer(GROUP.LEVEL, 0);
  for (let irq = PRIVATE; irq < irqs; irq += 32) level(irq, 0);
  quiet(shared, PRIVATE, irqs - PRIVATE);
  for (let irq = PRIVATE; irq < irqs; irq++) {
    shared(GICD.IROUTER + irq * 8, 0);
    shared(GICD.IROUTER + irq * 8 + 4, 0);
  }
}

function hasLpis(device: KvmDevice, affinity: number): boolean {
  return (getU32(device, GROUP.REDIST, attribute(affinity, GICR.TYPER)) & PLPIS) !== 0;
}

function resetIcc(device: KvmDevice, affinity: number): void {
  const attr = (encoding: bigint): bigint => attribute(affinity, Number(encoding));
  const zero = new Uint8Array(8);
  for (const encoding of ICC_ZERO) device.set(GROUP.SYSREG, attr(encoding), zero);
  const ctlr = device.get(GROUP.SYSREG, attr(ICC_CTLR), zero);
  const view = new DataView(ctlr.buffer, ctlr.byteOffset);
  view.setBigUint64(0, view.getBigUint64(0, true) & ~CTLR_MODES, true);
  device.set(GROUP.SYSREG, attr(ICC_CTLR), ctlr);
}
