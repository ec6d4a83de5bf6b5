// Owns: interrupt lines of a vCPU without an in-kernel controller: those of its timers and PMU that
// go out to userspace, and IRQ and FIQ that come in from there. VM thread.
//
//   timers, PMU ──▶ device_irq_level ──▶ userspace ──KVM_IRQ_LINE──▶ IRQ, FIQ of the PE
// @source arch/arm64/kvm/arch_timer.c (kvm_timer_should_notify_user), arm.c (vcpu_interrupt_line)
//   by behaviour; kvm-uapi.md 7.1, 8.4, 10
import type { ErrnoName } from "../base/errno.table.js";
import { KvmError } from "../base/errors.js";
import { KVM_MP_STATE } from "./uapi/flags.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/** LINE bits of the vCPU's timers and PMU; KVM_ARM_DEV_EL1_VTIMER and so on are the same bits. */
export function outputLines(vcpu: Vcpu): number {
  return vcpu.a64?.pe.outputLines() ?? 0;
}

/** Userspace drives the controller: it must hear of every change before the guest goes on. */
export function shouldNotifyUser(vm: Vm, vcpu: Vcpu): boolean {
  return !vm.irqchipInKernel && outputLines(vcpu) !== vcpu.deviceIrqLevel;
}

/** Whether a WFI is over: a line is high, masked or not, a timer has fired, an SError waits. */
export function hasPendingInterrupt(vm: Vm, vcpu: Vcpu): boolean {
  const pe = vcpu.a64?.pe;
  if (pe !== undefined && pe.serror !== null) return true;
  if (pe?.irqLine === true || pe?.fiqLine === true) return true;
  // With a controller a timer counts once its PPI would be delivered.
  return vm.irqchipInKernel ? vm.vgic.hasPending(vcpu) : pe?.timerFired === true;
}

/** Whether it sleeps on in WFI, WFE or a suspension. An event that ends a WFE is used up. */
export function isAsleep(vm: Vm, vcpu: Vcpu): boolean {
  const isSuspended = vcpu.mpState === KVM_MP_STATE.SUSPENDED;
  if (!vcpu.waitsForInterrupt && !vcpu.waitsForEvent && !isSuspended) return false;
  if (hasPendingInterrupt(vm, vcpu)) return false;
  const pe = vcpu.a64?.pe;
  if (!vcpu.waitsForEvent || pe === undefined) return true;
  pe.updateEvents();
  if (!pe.registers.event) return true;
  pe.registers.event = false;
  return false;
}

/** kvm_timer_blocking: the first of its timers, or of its events, wakes a vCPU that sleeps. */
export function armWakeUp(vm: Vm, vcpu: Vcpu): void {
  const pe = vcpu.a64?.pe;
  const timer = pe?.ticksToFire() ?? null;
  const event = vcpu.waitsForEvent ? (pe?.ticksToEvent() ?? null) : null;
  const ticks = timer === null || (event !== null && event < timer) ? event : timer;
  if (ticks !== null) vm.timers.arm(vcpu, ticks);
  // Time of a wall clock goes on: what fired since it was found asleep has nothing armed any more.
  if (hasPendingInterrupt(vm, vcpu)) vm.timers.arm(vcpu, 0n);
}

type LineIoctl = "KVM_IRQ_LINE" | "KVM_IRQ_LINE_STATUS";
type Refuse = (errno: ErrnoName, why: string) => never;

const IRQ_TYPE = { CPU: 0, SPI: 1, PPI: 2 } as const;
const IRQ_CPU = { IRQ: 0, FIQ: 1 } as const;

/**
 * KVM_IRQ_LINE.
 * @param irq vcpu2[31:28] type[27:24] vcpu[23:16] num[15:0]
 * @throws KvmError ENXIO the line belongs to a controller that isn't there, or not any more;
 *   EINVAL; EBUSY the controller is not initialised
 */
export function irqLine(
  vm: Vm,
  irq: number,
  isHigh: boolean,
  ioctl: LineIoctl = "KVM_IRQ_LINE",
): void {
  const refuse: Refuse = (errno, why) => {
    throw new KvmError(errno, ioctl, why);
  };
  const type = (irq >>> 24) & 0xf;
  const num = irq & 0xffff;
  const id = (irq >>> 28) * 256 + ((irq >>> 16) & 0xff);
  if (type === IRQ_TYPE.SPI || type === IRQ_TYPE.PPI) {
    if (!vm.irqchipInKernel) refuse("ENXIO", "the VM has no in-kernel interrupt controller");
    vgicLine(vm, { isPpi: type === IRQ_TYPE.PPI, id, intid: num }, isHigh, refuse);
    return;
  }
  if (type !== IRQ_TYPE.CPU) refuse("EINVAL", "the type is 0 (CPU), 1 (SPI) or 2 (PPI)");
  if (vm.irqchipInKernel) refuse("ENXIO", "the in-kernel interrupt controller drives these lines");
  const vcpu = vm.vcpuById(id) ?? refuse("EINVAL", `the VM has no vCPU ${id}`);
  if (num > IRQ_CPU.FIQ) refuse("EINVAL", "a vCPU has lines 0 (IRQ) and 1 (FIQ)");
  // What is set before KVM_ARM_VCPU_INIT would be lost with it.
  const pe = vcpu.a64?.pe;
  if (pe === undefined) return;
  const level = isHigh ? 1 : 0;
  if (vm.trace.isOn) {
    vm.trace.add("kvm_irq_line", null, { type: "CPU", vcpu_idx: id, irq_num: num, level });
  }
  if (num === IRQ_CPU.IRQ) pe.irqLine = isHigh;
  else pe.fiqLine = isHigh;
  vcpu.wait.wake();
}

/**
 * KVM_IRQ_LINE_STATUS. struct kvm_irq_level comes back as it went in: on other architectures its
 * first word says then how the interrupt fared, which arm64 never writes there.
 * @throws KvmError as irqLine
 */
export function irqLineStatus(
  vm: Vm,
  irq: number,
  level: number,
): { readonly status: number; readonly level: number } {
  irqLine(vm, irq, level !== 0, "KVM_IRQ_LINE_STATUS");
  return { status: irq, level };
}

/** INTIDs of the lines into a controller. */
const [PPI_FIRST, SPI_FIRST] = [16, 32];

interface VgicLine {
  readonly isPpi: boolean;
  /** The vCPU of a PPI. */
  readonly id: number;
  readonly intid: number;
}

function vgicLine(vm: Vm, { isPpi, id, intid }: VgicLine, isHigh: boolean, refuse: Refuse): void {
  const vcpu = isPpi ? (vm.vcpuById(id) ?? refuse("EINVAL", `the VM has no vCPU ${id}`)) : null;
  // A GICv5 counts each kind from 0, and looks for itself.
  if (vm.vgic.name !== "v5") {
    if (isPpi && (intid < PPI_FIRST || intid >= SPI_FIRST)) refuse("EINVAL", "PPIs are 16 to 31");
    if (!isPpi && intid < SPI_FIRST) refuse("EINVAL", "SPIs begin with 32");
  }
  if (vm.trace.isOn) {
    const fields = { vcpu_idx: id, irq_num: intid, level: isHigh ? 1 : 0 };
    vm.trace.add("kvm_irq_line", null, { type: isPpi ? "VGIC PPI" : "VGIC SPI", ...fields });
  }
  const errno = vm.vgic.injectLine(vcpu, intid, isHigh);
  if (errno === "EBUSY") refuse(errno, "the interrupt controller is not initialised");
  if (errno !== null) refuse(errno, `the controller has no interrupt ${intid}`);
}
