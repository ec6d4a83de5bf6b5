// Owns: PSCI as KVM presents it: power of vCPUs and of the VM. VM thread.
// @source arch/arm64/kvm/psci.c by behaviour; kvm-uapi.md 9.5
import { KVM_MP_STATE } from "../uapi/flags.js";
import type { RunOutcome, Vcpu } from "../vcpu.js";
import type { CallRegisters, FirmwareState } from "./guest.js";
import {
  PSCI,
  PSCI_0_1,
  PSCI_RET,
  PSCI_VERSION,
  SMCCC,
  SMCCC_64,
  SYSTEM_EVENT,
  SYSTEM_EVENT_FLAG,
} from "./smccc.table.js";

/** The VM as PSCI sees it. */
export interface PsciVm {
  readonly vcpus: readonly Vcpu[];
  readonly firmware: FirmwareState;
}

/** MPIDR_EL1: Aff3 in 39:32, Aff2 to Aff0 in 23:0. */
export const MPIDR_HWID_BITMASK = 0xff_00ff_ffffn;
const AFFINITY_LEVEL_MAX = 3n;
/** Trusted OS migration: none is there. */
const TOS_MP = 2n;
const HIBERNATE_OFF = 1n;
const VENDOR_RESET = 0x8000_0000n;
const MASK_32 = 0xffff_ffffn;

/** A value for X0, what the run ends with, or null: the vCPU is off now. */
export type CallResult = bigint | RunOutcome | null;

interface Call {
  readonly vm: PsciVm;
  readonly vcpu: Vcpu;
  readonly regs: CallRegisters;
  /** Argument n, as wide as the call's convention. */
  arg(n: number): bigint;
}

function cpuOn({ vm, arg }: Call): bigint {
  const mpidr = arg(1);
  if ((mpidr & ~MPIDR_HWID_BITMASK) !== 0n) return PSCI_RET.INVALID_PARAMS;
  const target = vm.vcpus.find((vcpu) => vcpu.mpidr === mpidr);
  if (target === undefined) return PSCI_RET.INVALID_PARAMS;
  if (target.mpState !== KVM_MP_STATE.STOPPED) {
    const is01 = vm.firmware.psciVersion === PSCI_VERSION.V0_1;
    return is01 ? PSCI_RET.INVALID_PARAMS : PSCI_RET.ALREADY_ON;
  }
  target.resetState = { pc: arg(2), x0: arg(3) };
  target.mpState = KVM_MP_STATE.RUNNABLE;
  target.wait.wake();
  return PSCI_RET.SUCCESS;
}

function affinityInfo({ vm, arg }: Call): bigint {
  const level = arg(2);
  if (level > AFFINITY_LEVEL_MAX) return PSCI_RET.INVALID_PARAMS;
  const shift = [0n, 8n, 16n, 32n][Number(level)]!;
  const mask = (MPIDR_HWID_BITMASK >> shift) << shift;
  const wanted = arg(1);
  if ((wanted & ~MPIDR_HWID_BITMASK) !== 0n) return PSCI_RET.INVALID_PARAMS;
  const matching = vm.vcpus.filter((vcpu) => (vcpu.mpidr & mask) === (wanted & mask));
  if (matching.length === 0) return PSCI_RET.INVALID_PARAMS;
  return matching.some((vcpu) => vcpu.mpState !== KVM_MP_STATE.STOPPED) ? 0n : 1n;
}

/** Every vCPU stops; the caller finds INTERNAL_FAILURE should it be run on unchanged. */
function systemEvent({ vm, regs }: Call, type: number, flags: bigint): RunOutcome {
  for (const vcpu of vm.vcpus) vcpu.mpState = KVM_MP_STATE.STOPPED;
  regs.setX(0, PSCI_RET.INTERNAL_FAILURE);
  return {
    errno: null,
    exitReason: "KVM_EXIT_SYSTEM_EVENT",
    systemEvent: { type, data: [flags] },
  };
}

function reset2(call: Call): CallResult {
  const type = call.arg(1);
  const isKnown = type === 0n || (type & VENDOR_RESET) !== 0n;
  if (!isKnown) return PSCI_RET.INVALID_PARAMS;
  return systemEvent(call, SYSTEM_EVENT.RESET, SYSTEM_EVENT_FLAG.RESET2);
}

function off2(call: Call): CallResult {
  const isKnown = call.arg(1) <= HIBERNATE_OFF && call.arg(2) === 0n;
  if (!isKnown) return PSCI_RET.INVALID_PARAMS;
  return systemEvent(call, SYSTEM_EVENT.SHUTDOWN, SYSTEM_EVENT_FLAG.OFF2);
}

function suspend({ vm }: Call): CallResult {
  if (!vm.firmware.systemSuspend) return PSCI_RET.NOT_SUPPORTED;
  return {
    errno: null,
    exitReason: "KVM_EXIT_SYSTEM_EVENT",
    systemEvent: { type: SYSTEM_EVENT.SUSPEND, data: [] },
  };
}

/** Whatever state is asked for, it is a standby: a WFI. */
function standby({ vcpu }: Call): bigint {
  vcpu.waitsForInterrupt = true;
  return PSCI_RET.SUCCESS;
}

function off({ vcpu }: Call): null {
  vcpu.mpState = KVM_MP_STATE.STOPPED;
  return null;
}

interface Row {
  readonly id: number;
  /** There is a 64-bit form too. */
  readonly is64?: true;
  /** Least version that has it. */
  readonly since: bigint;
  /** What PSCI_FEATURES answers. */
  readonly feature?: bigint;
  /** Whether PSCI_FEATURES names it at all. */
  readonly hidden?: (call: Call) => boolean;
  readonly call: (call: Call) => CallResult;
}

const V1 = PSCI_VERSION.V1_0;
const { V0_2 } = PSCI_VERSION;

const ROWS: readonly Row[] = [
  { id: PSCI.VERSION, since: V0_2, call: ({ vm }) => vm.firmware.psciVersion },
  { id: PSCI.CPU_SUSPEND, is64: true, since: V0_2, call: standby },
  { id: PSCI.CPU_OFF, since: V0_2, call: off },
  { id: PSCI.CPU_ON, is64: true, since: V0_2, call: cpuOn },
  { id: PSCI.AFFINITY_INFO, is64: true, since: V0_2, call: affinityInfo },
  { id: PSCI.MIGRATE_INFO_TYPE, since: V0_2, call: () => TOS_MP },
  { id: PSCI.SYSTEM_OFF, since: V0_2, call: (c) => systemEvent(c, SYSTEM_EVENT.SHUTDOWN, 0n) },
  { id: PSCI.SYSTEM_RESET, since: V0_2, call: (c) => systemEvent(c, SYSTEM_EVENT.RESET, 0n) },
  { id: PSCI.FEATURES, since: V1, call: features },
  {
    id: PSCI.SYSTEM_SUSPEND,
    is64: true,
    since: V1,
    hidden: ({ vm }) => !vm.firmware.systemSuspend,
    call: suspend,
  },
  { id: PSCI.SYSTEM_RESET2, is64: true, since: PSCI_VERSION.V1_1, call: reset2 },
  {
    id: PSCI.SYSTEM_OFF2,
    is64: true,
    since: PSCI_VERSION.V1_3,
    feature: HIBERNATE_OFF,
    call: off2,
  },
];

function rowOf(id: number, version: bigint): Row | undefined {
  const plain = (id & ~SMCCC_64) >>> 0;
  const is64 = (id & SMCCC_64) !== 0;
  return ROWS.find((row) => {
    return row.id === plain && version >= row.since && (!is64 || row.is64 === true);
  });
}

function features(call: Call): bigint {
  const id = Number(call.arg(1) & MASK_32);
  if (id === SMCCC.VERSION) return PSCI_RET.SUCCESS;
  const row = rowOf(id, call.vm.firmware.psciVersion);
  if (row === undefined || row.hidden?.(call) === true) return PSCI_RET.NOT_SUPPORTED;
  return row.feature ?? PSCI_RET.SUCCESS;
}

const ROWS_0_1: ReadonlyMap<number, (call: Call) => CallResult> = new Map<
  number,
  (call: Call) => CallResult
>([
  [PSCI_0_1.CPU_OFF, off],
  [PSCI_0_1.CPU_ON, cpuOn],
]);

/** Whether the function belongs to PSCI, of any version. */
export function isPsci(id: number): boolean {
  const plain = (id & ~SMCCC_64) >>> 0;
  const isStandard = plain >= PSCI.VERSION && plain <= PSCI.VERSION + 0x1f;
  return isStandard || (id >= PSCI_0_1.CPU_SUSPEND && id <= PSCI_0_1.MIGRATE);
}

/** kvm_psci_call. @returns the value for X0, the exit, or null when the caller went off */
export function psciCall(vm: PsciVm, vcpu: Vcpu, regs: CallRegisters, id: number): CallResult {
  const { psciVersion } = vm.firmware;
  const isNarrow = (id & SMCCC_64) === 0;
  const arg = (n: number): bigint => (isNarrow ? regs.x(n) & MASK_32 : regs.x(n));
  const call = { vm, vcpu, regs, arg };
  const body = psciVersion === PSCI_VERSION.V0_1 ? ROWS_0_1.get(id) : rowOf(id, psciVersion)?.call;
  return body === undefined ? PSCI_RET.NOT_SUPPORTED : body(call);
}
