// Owns: the part of a state that holds the vCPUs: registers, events, MP state and attributes as KVM
// tells them, what it doesn't, and programs of synthetic ones. VM thread.
// @source kvm-uapi.md 12.1, 12.3 (6), 12.4
import {
  armVcpuInit,
  getOneReg,
  getRegList,
  getVcpuEvents,
  type Kvm,
  loadVcpuLatent,
  setRegs,
  setVcpuAttr,
  setVcpuEvents,
  type Vcpu,
  type VcpuLatent,
  vcpuLatent,
} from "../../kvm/index.js";
import type { Program } from "../commands.js";
import { NOTHING, u32Bytes, u64Bytes } from "../device-attributes.js";
import type { Machine } from "../machine.js";
import { programSource } from "../programs.js";
import type { StatePart } from "./state-part.js";
import { STATE_VERSIONS } from "./state-versions.table.js";

const TARGET_GENERIC_V8 = 5;
/** KVM_ARM_VCPU_PMU_V3_CTRL, TIMER_CTRL, PVTIME_CTRL. */
const ATTR_GROUP = { PMU: 0, TIMER: 1, PVTIME: 2 } as const;
const PMU = { IRQ: 0n, INIT: 1n } as const;
const PVTIME_IPA = 0n;

interface VcpuState {
  readonly id: number;
  /** features[0] of KVM_ARM_VCPU_INIT; null: it was not initialised. */
  readonly features: number | null;
  readonly mpState: number;
  readonly pmuIrq: number | null;
  readonly hasPmu: boolean;
  readonly pvtimeIpa: bigint | null;
  /** KVM_GET_REG_LIST, and each one's value. */
  readonly ids: BigUint64Array;
  readonly values: readonly bigint[];
  readonly serror: bigint | null;
  readonly program: Program | null;
  readonly latent: VcpuLatent;
}

export interface VcpusState {
  readonly timerPpis: readonly number[];
  readonly vcpus: readonly VcpuState[];
}

// ── the order of registers ────────────────────────────────────────────────────────────────────

const CLASS = 0x0fff_0000n;
const FW = 0x14_0000n;
const FW_FEAT_BMAP = 0x16_0000n;
/** The counters are the VM's, and come with its time. */
const COUNTERS: ReadonlySet<bigint> = new Set([0x6030_0000_0013_df1an, 0x6030_0000_0013_df01n]);
/** Enabled before CVAL is set, a timer would fire for nothing. */
const TIMER_CONTROLS: ReadonlySet<bigint> = new Set([
  0x6030_0000_0013_df19n,
  0x6030_0000_0013_df11n,
]);

function rankOf(id: bigint): number {
  const kind = id & CLASS;
  if (kind === FW || kind === FW_FEAT_BMAP) return 0;
  return TIMER_CONTROLS.has(id) ? 2 : 1;
}

/** Firmware first, timers' controls last. */
function registersOf({ vm }: Kvm, vcpu: Vcpu): bigint[] {
  const ids = getRegList(vm, vcpu).filter((id) => !COUNTERS.has(id));
  return [0, 1, 2].flatMap((rank) => ids.filter((id) => rankOf(id) === rank));
}

// ── save ──────────────────────────────────────────────────────────────────────────────────────

function saveVcpu(m: Machine, vcpu: Vcpu): VcpuState {
  const { vm } = m.kvm;
  // The first look at registers takes a CPU_ON that waits: so nothing of it is left to save.
  const ids = vcpu.features === null ? [] : registersOf(m.kvm, vcpu);
  const events = vcpu.features === null ? null : getVcpuEvents(vcpu);
  return {
    id: vcpu.id,
    features: vcpu.features,
    mpState: vcpu.mpState,
    pmuIrq: vcpu.pmuIrq,
    hasPmu: vcpu.pmuCreated,
    pvtimeIpa: vcpu.pvtimeIpa,
    ids: BigUint64Array.from(ids),
    values: ids.map((id) => getOneReg(vm, vcpu, id).value),
    serror: events?.serrorPending === true ? events.serrorEsr : null,
    program: m.programs.get(vcpu.id) ?? null,
    latent: vcpuLatent(vcpu),
  };
}

// ── load ──────────────────────────────────────────────────────────────────────────────────────

/** KVM_ARM_VCPU_INIT, and a PMU that has no interrupt: before there is a controller. */
export function initVcpus(m: Machine, { vcpus }: VcpusState): void {
  const { vm } = m.kvm;
  for (const [index, { features, hasPmu, pmuIrq }] of vcpus.entries()) {
    const vcpu = vm.vcpus[index];
    if (vcpu === undefined || features === null || m.board !== null) continue;
    armVcpuInit(vm, vcpu, TARGET_GENERIC_V8, [features]);
    if (hasPmu && pmuIrq === null) setVcpuAttr(vm, vcpu, ATTR_GROUP.PMU, PMU.INIT, NOTHING);
  }
}

/** What needs an initialised controller. A board has done so itself. */
export function setVcpuAttributes(m: Machine, { timerPpis, vcpus }: VcpusState): void {
  const { vm } = m.kvm;
  const [first] = vm.vcpus;
  for (const [timer, ppi] of timerPpis.entries()) {
    if (first === undefined || vm.timerPpis[timer] === ppi) continue;
    setVcpuAttr(vm, first, ATTR_GROUP.TIMER, BigInt(timer), u32Bytes(ppi));
  }
  for (const [index, { pmuIrq, hasPmu, pvtimeIpa }] of vcpus.entries()) {
    const vcpu = vm.vcpus[index];
    if (vcpu === undefined || m.board !== null) continue;
    if (pmuIrq !== null) setVcpuAttr(vm, vcpu, ATTR_GROUP.PMU, PMU.IRQ, u32Bytes(pmuIrq));
    if (pmuIrq !== null && hasPmu) setVcpuAttr(vm, vcpu, ATTR_GROUP.PMU, PMU.INIT, NOTHING);
    if (pvtimeIpa === null) continue;
    setVcpuAttr(vm, vcpu, ATTR_GROUP.PVTIME, PVTIME_IPA, u64Bytes(pvtimeIpa));
  }
}

function loadVcpu(m: Machine, vcpu: Vcpu, state: VcpuState): void {
  const { vm } = m.kvm;
  if (state.features !== null) {
    const values = [...state.ids].map((id, at) => [id, state.values[at] ?? 0n] as const);
    setRegs(vm, vcpu, values);
  }
  if (state.serror !== null) {
    const events = { serrorPending: true, serrorHasEsr: true, extDabtPending: false };
    setVcpuEvents(vcpu, { ...events, serrorEsr: state.serror });
  }
  vcpu.mpState = state.mpState;
  const { program } = state;
  if (program !== null) {
    vcpu.synthetic.start(programSource(program, vm.pageSize));
    m.programs.set(vcpu.id, program);
  }
  loadVcpuLatent(vcpu, state.latent);
}

export const VCPUS_PART: StatePart<VcpusState> = {
  kind: "vcpus",
  version: STATE_VERSIONS.vcpus,
  save: (m) => ({
    timerPpis: [...m.kvm.vm.timerPpis],
    vcpus: m.kvm.vm.vcpus.map((vcpu) => saveVcpu(m, vcpu)),
  }),
  load: ({ m }, { vcpus }) => {
    for (const [index, state] of vcpus.entries()) {
      const vcpu = m.kvm.vm.vcpus[index];
      if (vcpu !== undefined) loadVcpu(m, vcpu, state);
    }
  },
};
