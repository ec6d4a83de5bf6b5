// Owns: the CPU interface of a GICv2 as userspace sees it. The guest's own accesses reach the
// virtual interface itself. Data, but for the functions that rows name. VM thread.
// @source arch/arm64/kvm/vgic/vgic-mmio-v2.c (vgic_mmio_read_vcpuif) by behaviour; interrupts.md 4.2
import { readCpuFrame, VirtualInterface, writeCpuFrame } from "../../machine/index.js";
import { CPU_V2_BYTES } from "./frame-range.js";
import { type Register, type RegisterAt, RegisterFrame, words } from "./register.js";

/** VMPriMask has the five bits that exist, at the bottom. */
const PMR_SHIFT = 3;

/** @param change what is done with the registers of a vCPU that isn't in the guest */
function withFace<T>({ cpu }: RegisterAt, change: (face: VirtualInterface) => T): T {
  const face = new VirtualInterface();
  face.vmcr = cpu.vmcr;
  face.apr.set(cpu.apr);
  const result = change(face);
  cpu.vmcr = face.vmcr;
  cpu.apr.set(face.apr);
  return result;
}

/** A register of the frame, seen shifted to the right. */
function row(name: string, offset: number, shift = 0): Register {
  return words(name, offset, 4, {
    read: (at) => withFace(at, (face) => readCpuFrame(face, offset)) >>> shift,
    write: (at, value) => {
      withFace(at, (face) => writeCpuFrame(face, offset, value << shift));
    },
  });
}

const ROWS: readonly Register[] = [
  row("GICC_CTLR", 0x00),
  row("GICC_PMR", 0x04, PMR_SHIFT),
  row("GICC_BPR", 0x08),
  row("GICC_ABPR", 0x1c),
  row("GICC_APR0", 0xd0),
  // Priorities that five bits don't make.
  words("GICC_APR1", 0xd4, 12), // tidy: three words
  row("GICC_IIDR", 0xfc),
];

export const CPU_V2_FRAME = new RegisterFrame(CPU_V2_BYTES, ROWS);
