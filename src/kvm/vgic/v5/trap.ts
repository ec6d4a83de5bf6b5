// Owns: what of a GICv5's CPU interface comes to KVM: registers that tell who the vCPU is, enables
// of PPIs that the VM doesn't have, and deactivation where the policy waits for it. VM thread.
// @source interrupts.md 5.3, 5.13
import {
  type CpuInterface,
  ICC_V5_BY_ENCODING,
  INTID_TYPE,
  idOf,
  typeOf,
} from "../../../machine/index.js";
import type { Vcpu } from "../../vcpu.js";
import type { V5Context } from "./context.js";
import type { V5Cpu } from "./state.js";

/** 16-bit IDs, priorities of five bits, no legacy. */
const IDR0 = 0x40n;
const READS = ["ICC_IDR0_EL1", "ICC_IAFFIDR_EL1"] as const;
const WRITES = ["ICC_PPI_ENABLER0_EL1", "ICC_PPI_ENABLER1_EL1"] as const;
const OP0_SYSREG = 3;

/** ICH_HFGRTR_EL2, ICH_HFGWTR_EL2 and ICH_HFGITR_EL2 of a vCPU that is about to run. */
export function setTraps({ traps }: CpuInterface, trapsDeactivation: boolean): void {
  for (const name of READS) traps.read.add(name);
  for (const name of WRITES) traps.write.add(name);
  if (trapsDeactivation) traps.insn.add("CDDI");
  else traps.insn.delete("CDDI");
}

/** Its PC is behind the instruction already. */
export function handleTrap(v5: V5Context, cpu: V5Cpu, vcpu: Vcpu, esr: bigint): void {
  const registers = vcpu.a64?.pe.registers;
  const iss = Number(esr & 0x1ff_ffffn);
  const op0 = (iss >>> 20) & 3;
  const rt = (iss >>> 5) & 31;
  const value = registers?.x(rt) ?? 0n;
  if (op0 !== OP0_SYSREG) {
    deactivate(v5, cpu, Number(value & 0xffff_ffffn));
    return;
  }
  const encoding =
    (op0 << 14) |
    (((iss >>> 14) & 7) << 11) |
    (((iss >>> 10) & 15) << 7) |
    (((iss >>> 1) & 15) << 3) |
    ((iss >>> 17) & 7);
  const name = ICC_V5_BY_ENCODING.get(encoding)?.name;
  if (name === "ICC_IDR0_EL1") registers?.setX(rt, IDR0);
  else if (name === "ICC_IAFFIDR_EL1") registers?.setX(rt, BigInt(cpu.vcpuId));
  else if (name === "ICC_PPI_ENABLER0_EL1") cpu.state.ppi.enable[0] = value & cpu.visible;
}

/** GIC CDDI in the guest's place. */
function deactivate({ state, tables, tracking }: V5Context, cpu: V5Cpu, intid: number): void {
  state.count("deactivationTraps");
  const id = idOf(intid);
  if (typeOf(intid) === INTID_TYPE.PPI) {
    if (id < 128) cpu.state.ppi.set("active", id, false);
    return;
  }
  const spi = typeOf(intid) === INTID_TYPE.SPI ? state.spi(id) : null;
  const isEnd = spi !== null && tracking.awaits(spi) && tracking.isActive(spi);
  tables.domain?.deactivate(intid);
  if (isEnd && spi !== null) tracking.deactivated(spi);
}
