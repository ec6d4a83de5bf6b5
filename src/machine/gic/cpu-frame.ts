// Owns: the GICV frame: a virtual CPU interface as a GICv2 guest's memory. VM thread.
// @source Arm IHI 0048 (GICv2) 4.4, 5.5; interrupts.md 4.2
import { INTID_SPURIOUS, INTID_V2, VMCR } from "./list-register.js";
import type { VirtualInterface } from "./virtual-interface.js";

const GICC = {
  CTLR: 0x00,
  PMR: 0x04,
  BPR: 0x08,
  IAR: 0x0c,
  EOIR: 0x10,
  RPR: 0x14,
  HPPIR: 0x18,
  ABPR: 0x1c,
  AIAR: 0x20,
  AEOIR: 0x24,
  AHPPIR: 0x28,
  APR0: 0xd0,
  IIDR: 0xfc,
  DIR: 0x1000, // tidy: an offset
} as const;

/** GICC_CTLR has its bits where ICH_VMCR_EL2 has them. */
const CTLR_BITS = VMCR.VENG0 | VMCR.VENG1 | VMCR.VACKCTL | VMCR.VFIQEN | VMCR.VCBPR | VMCR.VEOIM;
/** What waits belongs to the group that this register doesn't give. */
const INTID_OTHER_GROUP = 1022;
/** Product 0x4b, architecture 2, Arm. */
const GICC_IIDR = 0x04b2_043b;
const EOI_ID = 0x1fff;

const isGroup1 = (group: 0 | 1): boolean => group === 1;

/** With AckCtl the first set of registers serves group 1 too. */
function groupsOf({ vmcr }: VirtualInterface): (group: 0 | 1) => boolean {
  return (vmcr & VMCR.VACKCTL) === 0 ? (group) => group === 0 : () => true;
}

function acknowledge(face: VirtualInterface): number {
  const id = face.acknowledge(groupsOf(face));
  return id === INTID_SPURIOUS && (face.virq || face.vfiq) ? INTID_OTHER_GROUP : id;
}

function highestPending(face: VirtualInterface): number {
  const id = face.highestPendingOf(groupsOf(face));
  if (id !== INTID_SPURIOUS) return id;
  return face.highestPendingOf(isGroup1) === INTID_SPURIOUS ? id : INTID_OTHER_GROUP;
}

export function readCpuFrame(face: VirtualInterface, offset: number): number {
  switch (offset) {
    case GICC.CTLR:
      return face.vmcr & CTLR_BITS;
    case GICC.PMR:
      return face.pmr;
    case GICC.BPR:
      return face.bpr(0);
    case GICC.ABPR:
      return face.bpr(1);
    case GICC.IAR:
      return acknowledge(face);
    case GICC.AIAR:
      return face.acknowledge(isGroup1);
    case GICC.HPPIR:
      return highestPending(face);
    case GICC.AHPPIR:
      return face.highestPendingOf(isGroup1);
    case GICC.RPR:
      return face.runningPriority;
    case GICC.APR0:
      return (face.apr[0]! | face.apr[1]!) >>> 0;
    case GICC.IIDR:
      return GICC_IIDR;
    default:
      return 0;
  }
}

/** @returns an INTID to deactivate that no list register has; null: none */
export function writeCpuFrame(
  face: VirtualInterface,
  offset: number,
  value: number,
): number | null {
  switch (offset) {
    case GICC.CTLR:
      face.vmcr = (face.vmcr & ~CTLR_BITS) | (value & CTLR_BITS);
      return null;
    case GICC.PMR:
      face.setPmr(value & 0xff);
      return null;
    case GICC.BPR:
      face.setBpr(0, value);
      return null;
    case GICC.ABPR:
      face.setBpr(1, value);
      return null;
    case GICC.EOIR:
      face.endOfInterrupt(value & EOI_ID);
      return null;
    case GICC.AEOIR:
      face.endOfInterrupt(value & EOI_ID, [1]);
      return null;
    case GICC.APR0:
      // One register for both groups.
      face.apr[0] = value;
      face.apr[1] = 0;
      return null;
    case GICC.DIR:
      return face.deactivate(value & EOI_ID) ? null : value & INTID_V2;
    default:
      return null;
  }
}
