// Owns: the state of a VM that no ioctl tells, and its time: counters go on on another host as if
// nothing had happened in between. VM thread.
//
//   virtual clock: instructions and idle time travel, and with them every counter
//   wall clock:    the counters' values travel; the new host's offsets are made from them
// @source kvm-uapi.md 12.1 ("Time"), 10
import type { SmcccFilter } from "../firmware/filter.js";
import type { VmPmu } from "../pmu.js";
import type { Vm } from "../vm.js";

/** Capabilities that a guest can tell, and that no dirty tracking switches. */
interface GuestCaps {
  readonly nisvToUser: boolean;
  readonly seaToUser: boolean;
  readonly writableImpIdRegs: boolean;
  readonly haltPollNs: number | null;
}

export interface VmLatent {
  readonly caps: GuestCaps;
  readonly systemSuspend: boolean;
  readonly filter: ReturnType<SmcccFilter["list"]>;
  readonly pmu: ReturnType<VmPmu["save"]>;
  /** Of the TRNG service. */
  readonly trng: readonly number[];
  readonly hasRun: boolean;
}

export function vmLatent(vm: Vm): VmLatent {
  const { nisvToUser, seaToUser, writableImpIdRegs, haltPollNs } = vm.caps;
  return {
    caps: { nisvToUser, seaToUser, writableImpIdRegs, haltPollNs },
    systemSuspend: vm.firmware.systemSuspend,
    filter: [...vm.filter.list()],
    pmu: vm.pmu.save(),
    trng: [...vm.trng.state],
    hasRun: vm.hasRun,
  };
}

/** Before the vCPUs are initialised. */
export function loadVmLatent(vm: Vm, latent: VmLatent): void {
  const { nisvToUser, seaToUser, writableImpIdRegs, haltPollNs } = latent.caps;
  Object.assign(vm.caps, { nisvToUser, seaToUser, writableImpIdRegs, haltPollNs });
  vm.firmware.systemSuspend = latent.systemSuspend;
  vm.filter.restore(latent.filter);
  vm.pmu.load(latent.pmu);
  vm.trng.state.set(latent.trng);
}

export interface VmTime {
  readonly instructions: number;
  readonly idleNs: number;
  /** KVM_ARM_SET_COUNTER_OFFSET was called. */
  readonly isOffsetSet: boolean;
  /** CNTVCT_EL0 and CNTPCT_EL0 when the vCPUs had stopped. */
  readonly virtual: bigint;
  readonly physical: bigint;
}

const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);

/** @param ticks of the host's counter when the vCPUs had stopped */
export function vmTime(vm: Vm, ticks: bigint): VmTime {
  return {
    instructions: vm.instructions,
    idleNs: vm.idleNs,
    isOffsetSet: vm.counterOffset !== null,
    virtual: wrap(ticks - (vm.a64?.virtualOffset ?? 0n)),
    physical: wrap(ticks - (vm.a64?.physicalOffset ?? 0n)),
  };
}

/** Counters read as they did, and count on from now. */
export function setCounters(vm: Vm, { isOffsetSet, virtual, physical }: VmTime): void {
  const now = vm.ticks();
  const offset = wrap(now - virtual);
  if (isOffsetSet) vm.counterOffset = offset;
  if (vm.a64 === null) return;
  vm.a64.virtualOffset = offset;
  vm.a64.physicalOffset = wrap(now - physical);
  vm.timers.wakeAll();
}

export function loadVmTime(vm: Vm, time: VmTime): void {
  vm.instructions = time.instructions;
  vm.idleNs = time.idleNs;
  vm.timers.restart();
  setCounters(vm, time);
}
