// Owns: PPIs of one vCPU of a GICv5: who drives them, and whether one would wake the vCPU.
// VM thread.
// Enable, active, priority and latched edges are the CPU interface's own registers and go in and
// out with it; a level PPI is pending while its line is high.
// @source arch/arm64/kvm/vgic/vgic-v5.c by behaviour; interrupts.md 5.4, 5.5
import type { ErrnoName } from "../../../base/errno.table.js";
import { LINE } from "../../../machine/index.js";
import type { Vcpu } from "../../vcpu.js";
import type { Vm } from "../../vm.js";
import { V5_NR_PPIS, V5_PPI, V5_USER_PPIS, type V5Cpu } from "./state.js";

/** Lines of a PE, in the order of the VM's timers. */
const TIMER_LINES = [LINE.virtualTimer, LINE.physicalTimer] as const;
/** @source Arm AES 0070: PPIs of CNTV and CNTP */
const TIMER_PPIS = [27, 30] as const;
const IDLE_PRIORITY = 32;

/** A line into a PPI changed, or userspace drives it. */
export function drivePpi({ state, lines }: V5Cpu, ppi: number, level: boolean): void {
  const isLevel = state.ppi.get("hm", ppi);
  lines[ppi] = level ? 1 : 0;
  if (level || isLevel) state.ppi.set("pend", ppi, level);
}

/** KVM_IRQ_LINE: only what no device drives. */
export function injectPpi(cpu: V5Cpu, ppi: number, level: boolean): ErrnoName | null {
  const isMine = ppi < V5_NR_PPIS && ((V5_USER_PPIS[0] ?? 0n) >> BigInt(ppi)) % 2n === 1n;
  if (!isMine) return "EINVAL";
  drivePpi(cpu, ppi, level);
  return null;
}

/** kvm_timer_enable: a GICv5's timers have the PPIs that the architecture gives them. */
export function connectTimers(vm: Vm, cpus: readonly V5Cpu[]): ErrnoName | null {
  if (TIMER_PPIS.some((ppi, timer) => vm.timerPpis[timer] !== ppi)) return "EINVAL";
  for (const cpu of cpus) for (const ppi of TIMER_PPIS) cpu.owners.set(ppi, "timer");
  return null;
}

export function claimPmuPpi(cpu: V5Cpu, intid: number): ErrnoName | null {
  if (intid !== V5_PPI.PMU) return "EINVAL";
  if (cpu.owners.has(intid)) return "EEXIST";
  cpu.owners.set(intid, "pmu");
  return null;
}

/** Levels of timers and PMU as they are. */
export function syncPpis(cpu: V5Cpu, vcpu: Vcpu): void {
  const lines = vcpu.a64?.pe.outputLines() ?? 0;
  for (const [timer, line] of TIMER_LINES.entries()) {
    const ppi = TIMER_PPIS[timer];
    if (ppi !== undefined && cpu.owners.has(ppi)) drivePpi(cpu, ppi, (lines & line) !== 0);
  }
  if (cpu.owners.get(V5_PPI.PMU) === "pmu") drivePpi(cpu, V5_PPI.PMU, (lines & LINE.pmu) !== 0);
}

/** Interrupts of a priority below this are taken; 0: none is. */
export function priorityBound({ state: { cr0, apr, pcr } }: V5Cpu): number {
  if ((cr0 & 1) === 0) return 0;
  const running = apr === 0 ? IDLE_PRIORITY : 31 - Math.clz32(apr & -apr);
  return Math.min(running, pcr + 1);
}

/** vgic_v5_has_pending_ppi. */
export function hasPendingPpi(cpu: V5Cpu): boolean {
  const { ppi } = cpu.state;
  const best = ppi.best();
  return best >= 0 && ppi.priorityOf(best) < priorityBound(cpu);
}
