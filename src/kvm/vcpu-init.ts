// Owns: KVM_ARM_VCPU_INIT, KVM_ARM_PREFERRED_TARGET, and the reset that PSCI CPU_ON asks for.
// VM thread.
// @source arch/arm64/kvm/arm.c (kvm_vcpu_set_target), reset.c by behaviour; kvm-uapi.md 8.1
import { assert } from "../base/assert.js";
import { KvmError } from "../base/errors.js";
import { A64Engine, A64Machine, a64Pages } from "../machine/index.js";
import { PSCI_VERSION } from "./firmware/smccc.table.js";
import { applyGuestDebug } from "./guest-debug.js";
import { hasPmu } from "./pmu.js";
import { KVM_ARM_VCPU, KVM_MP_STATE } from "./uapi/flags.js";
import type { Vcpu } from "./vcpu.js";
import type { Vm } from "./vm.js";

/** KVM_ARM_TARGET_GENERIC_V8. */
const TARGET_GENERIC_V8 = 5;
const DEFINED = 0x1ff;
const { POWER_OFF, PSCI_0_2, PMU_V3 } = KVM_ARM_VCPU;
const SUPPORTED = (1 << POWER_OFF) | (1 << PSCI_0_2) | (1 << PMU_V3);
const FEATURE_WORDS = 7;

/** KVM_ARM_PREFERRED_TARGET: no feature is set. */
export function preferredTarget(): { target: number; features: readonly bigint[] } {
  return { target: TARGET_GENERIC_V8, features: new Array<bigint>(FEATURE_WORDS).fill(0n) };
}

/**
 * Initialises a vCPU for guest code, or resets it.
 * @throws KvmError EINVAL, ENOENT, ENOMEM
 */
export function armVcpuInit(vm: Vm, vcpu: Vcpu, target: number, features: readonly number[]): void {
  const ioctl = "KVM_ARM_VCPU_INIT";
  const refuse = (errno: "EINVAL" | "ENOENT", why: string): never => {
    throw new KvmError(errno, ioctl, why);
  };
  if (target !== TARGET_GENERIC_V8) refuse("EINVAL", "the target is GENERIC_V8, 5");
  const [first = 0, ...others] = features;
  if ((first & ~DEFINED) !== 0 || others.some((word) => word !== 0)) {
    refuse("ENOENT", `features[0] has bits 8:0, and words 1 to ${FEATURE_WORDS - 1} are 0`);
  }
  if ((first & ~SUPPORTED) !== 0) {
    refuse("EINVAL", "this host has POWER_OFF (bit 0), PSCI_0_2 (bit 2) and PMU_V3 (bit 3)");
  }
  const set = first & ~(1 << KVM_ARM_VCPU.POWER_OFF);
  const initialised = vm.vcpus.find((other) => other.features !== null);
  if (initialised !== undefined && initialised.features !== set) {
    refuse("EINVAL", "all vCPUs of a VM have the same features");
  }
  vcpu.a64 ??= newEngine(vm, ioctl);
  applyGuestDebug(vcpu);
  vcpu.a64.pe.onEvent = () => vcpu.wait.wake();
  vcpu.features = set;
  if ((set & (1 << KVM_ARM_VCPU.PSCI_0_2)) === 0) vm.firmware.psciVersion = PSCI_VERSION.V0_1;
  resetEngine(vm, vcpu);
  // Lines that userspace drives are part of what a reset clears; a CPU_ON keeps them.
  vcpu.a64.pe.irqLine = false;
  vcpu.a64.pe.fiqLine = false;
  const isOff = (first & (1 << KVM_ARM_VCPU.POWER_OFF)) !== 0;
  vcpu.mpState = isOff ? KVM_MP_STATE.STOPPED : KVM_MP_STATE.RUNNABLE;
  vcpu.wait.wake();
}

function resetEngine(vm: Vm, vcpu: Vcpu): void {
  const pmu = hasPmu(vcpu) ? { pmu: vm.pmu } : {};
  const gic = { hasIcc: showsIcc(vm), hasGicv5: vm.vgic.name === "v5" };
  vcpu.a64?.reset({ mpidr: vcpu.mpidr, ipaBits: vm.ipaBits, ids: vm.idRegs, ...pmu, ...gic });
  vcpu.resetState = null;
  vcpu.pendingMmio = null;
  vcpu.waitsForInterrupt = false;
  vcpu.waitsForEvent = false;
}

/** Until it is sure that no GICv3 comes, ID_AA64PFR0_EL1.GIC is what the host has. */
function showsIcc({ vgic, hasRun }: Vm): boolean {
  return vgic.name === "v3" || (vgic.name === "none" && !hasRun);
}

function newEngine(vm: Vm, ioctl: string): A64Engine {
  const { arena, window } = a64Pages(vm.pageSize);
  const noRoom = () => new KvmError("ENOMEM", ioctl, "no room for the vCPU's state and its code");
  const allocate = (pages: number): number => {
    if (!vm.account.charge(pages * vm.pageSize)) throw noRoom();
    const pa = vm.host.frames.allocate(pages);
    if (pa >= 0) return pa;
    vm.account.release(pages * vm.pageSize);
    throw noRoom();
  };
  vm.a64 ??= new A64Machine(vm.host, allocate(arena), (more) => vm.ticks(more), vm.translation);
  const engine = new A64Engine(vm.host, vm.a64, vm.a64.addPe(allocate(window)), vm);
  // CNTVCT begins near 0 with the last vCPU, VM-wide; our choice: at its first initialisation.
  vm.a64.virtualOffset = vm.counterOffset ?? vm.ticks();
  vm.a64.physicalOffset = vm.counterOffset ?? vm.a64.physicalOffset;
  return engine;
}

/** Takes a pending CPU_ON: everything is reset, then PC and X0 are as the caller said. */
export function applyReset(vcpu: Vcpu): void {
  const { resetState, a64 } = vcpu;
  if (resetState === null) return;
  assert(a64 !== null, "only an initialised vCPU is switched on");
  vcpu.resetState = null;
  a64.reset(a64.config);
  a64.pe.registers.pc = resetState.pc;
  a64.pe.registers.setX(0, resetState.x0);
}
