// Owns: ICC registers of a vCPU as userspace saves and restores them. VM thread.
// @source arch/arm64/kvm/vgic-sys-reg-v3.c by behaviour; kvm-uapi.md 6.2; interrupts.md 4.5, 7.2
import { ICC_BY_ENCODING, type IccName, VirtualInterface } from "../../machine/index.js";
import { GET, refused, SET } from "./attribute.js";
import type { VgicCpu } from "./state.js";

/** Registers with state; the others are what a guest does. */
const SAVED: ReadonlySet<IccName> = new Set<IccName>([
  "ICC_PMR_EL1",
  "ICC_BPR0_EL1",
  "ICC_BPR1_EL1",
  "ICC_AP0R0_EL1",
  "ICC_AP0R1_EL1",
  "ICC_AP0R2_EL1",
  "ICC_AP0R3_EL1",
  "ICC_AP1R0_EL1",
  "ICC_AP1R1_EL1",
  "ICC_AP1R2_EL1",
  "ICC_AP1R3_EL1",
  "ICC_CTLR_EL1",
  "ICC_SRE_EL1",
  "ICC_IGRPEN0_EL1",
  "ICC_IGRPEN1_EL1",
]);

/** APnR1 to 3 hold priorities that five bits don't make. */
const BEYOND = /^ICC_AP[01]R[123]_EL1$/;
const CTLR = { PRIBITS_SHIFT: 8n, PRIBITS: 7n, IDBITS_SHIFT: 11n, IDBITS: 7n } as const;
const SEIS = 1n << 14n;
const A3V = 1n << 15n;
const SRE = 1n;

function nameOf(encoding: number): IccName | null {
  const name = ICC_BY_ENCODING.get(encoding)?.name;
  return name !== undefined && SAVED.has(name) ? name : null;
}

export function hasIcc(encoding: number): boolean {
  return nameOf(encoding) !== null;
}

/** The CPU interface of a vCPU that isn't in the guest. */
function faceOf(cpu: VgicCpu): VirtualInterface {
  const face = new VirtualInterface();
  face.vmcr = cpu.vmcr;
  face.apr.set(cpu.apr);
  return face;
}

/** @throws KvmError ENXIO, EINVAL */
export function readIcc(cpu: VgicCpu, encoding: number): bigint {
  const name = nameOf(encoding);
  if (name === null) throw refused("ENXIO", GET);
  if (BEYOND.test(name)) throw refused("EINVAL", GET, "this host has five priority bits");
  const value = faceOf(cpu).read(name);
  if (name !== "ICC_CTLR_EL1") return value;
  const bits = BigInt(cpu.priorityBits - 1) << CTLR.PRIBITS_SHIFT;
  return (value & ~(CTLR.PRIBITS << CTLR.PRIBITS_SHIFT)) | bits;
}

/** @throws KvmError ENXIO, EFAULT, EINVAL */
export function writeIcc(cpu: VgicCpu, encoding: number, read: () => bigint): void {
  const value = read();
  const name = nameOf(encoding);
  if (name === null) throw refused("ENXIO", SET);
  if (BEYOND.test(name)) throw refused("EINVAL", SET, "this host has five priority bits");
  if (name === "ICC_SRE_EL1" && (value & SRE) === 0n) {
    throw refused("EINVAL", SET, "a GICv3 guest has its system registers");
  }
  if (name === "ICC_CTLR_EL1") restoreBits(cpu, value);
  const face = faceOf(cpu);
  face.write(name, value);
  cpu.vmcr = face.vmcr;
  cpu.apr.set(face.apr);
}

/** What the source had must be there: priority and INTID bits no more, the rest as here. */
function restoreBits(cpu: VgicCpu, value: bigint): void {
  const bits = Number((value >> CTLR.PRIBITS_SHIFT) & CTLR.PRIBITS) + 1;
  const host = faceOf(cpu).read("ICC_CTLR_EL1");
  const isTooWide = bits > cpu.priorityBits || ((value >> CTLR.IDBITS_SHIFT) & CTLR.IDBITS) !== 0n;
  if (isTooWide || ((value ^ host) & (SEIS | A3V)) !== 0n) {
    throw refused("EINVAL", SET, "this host's CPU interface has other bits");
  }
  cpu.priorityBits = bits;
}
