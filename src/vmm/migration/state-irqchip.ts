// Owns: the part of a state that holds in-kernel devices: which there are, and the interrupt
// controller and its ITSes through their attributes. VM thread.
//
//   save: pending tables, ITS tables (into guest memory), then registers
//   load: devices, addresses, INIT ─▶ vCPUs' attributes ─▶ registers ─▶ ITS, tables ─▶ the rest
// @source interrupts.md 7.1 to 7.4; kvm-uapi.md 12.2, 12.3 (3, 7, 8)
import {
  createDevice,
  createIrqchip,
  KVM_DEV_TYPE,
  type KvmDevice,
  loadVgicLatent,
  type VgicDist,
  type VgicLatent,
  vgicLatent,
} from "../../kvm/index.js";
import {
  ADDR,
  CTRL,
  GROUP,
  getU64,
  NOTHING,
  setU32,
  setU64,
  u32Bytes,
  u64Bytes,
} from "../device-attributes.js";
import type { Machine } from "../machine.js";
import {
  type GicV2Words,
  type GicV3Words,
  readGicV2,
  readGicV3,
  readIts,
  writeGicV2,
  writeGicV3,
  writeIts,
} from "./state-gic-words.js";
import {
  configureGicV5,
  type GicV5State,
  gicV5Config,
  loadGicV5,
  saveGicV5,
} from "./state-gicv5.js";
import { mismatch, type StatePart } from "./state-part.js";
import { STATE_VERSIONS } from "./state-versions.table.js";

const KIND = "irqchip";
const MAINTENANCE_DEFAULT = 25;
const REGION_COUNT_SHIFT = 52n;

interface GicConfig {
  readonly irqs: number;
  readonly isInitialized: boolean;
  readonly maintenance: number;
  /** -1: not set. */
  readonly dist: number;
  readonly cpuInterface: number;
  /** Of redistributors; count 0: the legacy region. */
  readonly regions: readonly { readonly base: number; readonly count: number }[];
}

interface GicState extends GicConfig {
  readonly words: GicV2Words | GicV3Words | null;
  readonly latent: VgicLatent | null;
}

interface ItsState {
  /** IPA; null: not set. */
  readonly base: bigint | null;
  readonly words: BigUint64Array | null;
}

export interface IrqchipState {
  /** enum kvm_device_type, in the order of creation. */
  readonly devices: readonly { readonly type: number; readonly isClosed: boolean }[];
  /** KVM_CREATE_IRQCHIP made the GICv2. */
  readonly isIrqchip: boolean;
  readonly gic: GicState | null;
  readonly gicV5: GicV5State | null;
  readonly itses: readonly ItsState[];
}

const NOT_SET = 2n ** 64n - 1n;

function gicOf({ kvm }: Machine): KvmDevice | null {
  const { irqchip, devices } = kvm.vm;
  const { ARM_VGIC_V2, ARM_VGIC_V3, ARM_VGIC_V5 } = KVM_DEV_TYPE;
  const types: readonly number[] = [ARM_VGIC_V2, ARM_VGIC_V3, ARM_VGIC_V5];
  return irqchip ?? devices.find(({ type }) => types.includes(type)) ?? null;
}

function itsesOf({ kvm }: Machine): readonly KvmDevice[] {
  return kvm.vm.devices.filter(({ type }) => type === KVM_DEV_TYPE.ARM_VGIC_ITS);
}

const idsOf = ({ kvm }: Machine): number[] => kvm.vm.vcpus.map(({ id }) => id);
const affinitiesOf = ({ cpus }: VgicDist): number[] => cpus.map(({ affinity }) => affinity);
/** Aff3 to Aff0, a byte each. */
const affinitiesIn = ({ kvm }: Machine): number[] =>
  kvm.vm.vcpus.map(({ mpidr }) => Number(mpidr & 0xff_ffffn));

// ── save ──────────────────────────────────────────────────────────────────────────────────────

/** Both before the registers, and before the last look at dirty pages. @throws KvmError EFAULT */
function saveTables(m: Machine): void {
  const gic = gicOf(m);
  const { dist } = m.kvm.vm.vgic;
  for (const its of itsesOf(m)) {
    if (baseOf(its) !== null) its.set(GROUP.CTRL, CTRL.SAVE_TABLES, NOTHING);
  }
  if (gic === null || dist?.isInitialized !== true || dist.model !== "v3") return;
  gic.set(GROUP.CTRL, CTRL.SAVE_PENDING, NOTHING);
}

function baseOf(its: KvmDevice): bigint | null {
  const base = getU64(its, GROUP.ADDR, ADDR.ITS);
  return base === NOT_SET ? null : base;
}

function configOf(dist: VgicDist): GicConfig {
  return {
    irqs: dist.nrSpis === 0 ? 0 : dist.nrIrqs,
    isInitialized: dist.isInitialized,
    maintenance: dist.maintenanceIrq,
    dist: dist.distBase,
    cpuInterface: dist.cpuBase,
    regions: dist.redistRegions.map(({ base, count }) => ({ base, count })),
  };
}

function saveGic(m: Machine): GicState | null {
  const gic = gicOf(m);
  const { dist } = m.kvm.vm.vgic;
  if (gic === null || dist === null) return null;
  const config = configOf(dist);
  if (!dist.isInitialized) return { ...config, words: null, latent: null };
  const words =
    dist.model === "v2"
      ? readGicV2(gic, idsOf(m), config.irqs)
      : readGicV3(gic, affinitiesOf(dist), config.irqs);
  return { ...config, words, latent: vgicLatent(dist) };
}

function saveV5(m: Machine): GicV5State | null {
  const gic = gicOf(m);
  const { v5 } = m.kvm.vm.vgic;
  return gic === null || v5 === null ? null : saveGicV5(gic, v5, affinitiesIn(m));
}

function save(m: Machine): IrqchipState {
  saveTables(m);
  return {
    devices: m.kvm.vm.devices.map(({ type, isClosed = false }) => ({ type, isClosed })),
    isIrqchip: m.kvm.vm.irqchip !== null,
    gic: saveGic(m),
    gicV5: saveV5(m),
    itses: itsesOf(m).map((its) => {
      const base = baseOf(its);
      return { base, words: base === null ? null : readIts(its) };
    }),
  };
}

// ── load ──────────────────────────────────────────────────────────────────────────────────────

/** What of a controller's configuration is another in the state. */
function otherConfig(own: object | null, theirs: object | null): string | null {
  if (own === null) return null;
  const other = Object.entries(own).find(([name, value]) => {
    const there: unknown = (theirs as Readonly<Record<string, unknown>> | null)?.[name];
    return asText(value) !== asText(there);
  });
  return other === undefined ? null : `${other[0]} of the controller is another`;
}

const asText = (value: unknown): string =>
  JSON.stringify(value, (_, one) => (typeof one === "bigint" ? String(one) : one)) ?? "";

function check(m: Machine, { devices, gic, gicV5 }: IrqchipState): string | null {
  const { vm } = m.kvm;
  if (m.board === null)
    return vm.devices.length > 0 || vm.irqchip !== null ? "it has devices" : null;
  const [own, theirs] = [vm.devices, devices].map((list) => list.map(({ type }) => type).join());
  if (own !== theirs) return `the board has devices of types ${own}, the state of ${theirs}`;
  const { dist, v5 } = vm.vgic;
  const ofOlder = otherConfig(dist === null ? null : configOf(dist), gic);
  return ofOlder ?? otherConfig(v5 === null ? null : gicV5Config(v5), gicV5);
}

/** A client's VM has no devices yet: they come as they came there, with numbers and addresses. */
export function createDevices(m: Machine, state: IrqchipState): void {
  const { devices, isIrqchip, gic, gicV5, itses } = state;
  const { vm } = m.kvm;
  if (m.board !== null) return;
  if (isIrqchip) createIrqchip(vm);
  for (const { type, isClosed } of devices) {
    createDevice(vm, type, 0);
    if (isClosed) vm.devices.at(-1)?.close?.();
  }
  const made = gicOf(m);
  if (made !== null && gic !== null) configure(made, vm.vgic.name === "v2", gic);
  if (made !== null && gicV5 !== null) configureGicV5(made, gicV5);
  for (const [at, its] of itsesOf(m).entries()) {
    const base = itses[at]?.base ?? null;
    if (base === null) continue;
    its.set(GROUP.ADDR, ADDR.ITS, u64Bytes(base));
    its.set(GROUP.CTRL, CTRL.INIT, NOTHING);
  }
}

function configure(device: KvmDevice, isV2: boolean, gic: GicConfig): void {
  if (gic.irqs > 0) device.set(GROUP.NR_IRQS, 0n, u32Bytes(gic.irqs));
  const place = (attr: bigint, base: number) => {
    if (base >= 0) setU64(device, GROUP.ADDR, attr, BigInt(base));
  };
  if (isV2) {
    place(ADDR.V2_DIST, gic.dist);
    place(ADDR.V2_CPU, gic.cpuInterface);
  } else {
    if (gic.maintenance !== MAINTENANCE_DEFAULT) {
      setU32(device, GROUP.MAINTENANCE, 0n, gic.maintenance);
    }
    place(ADDR.V3_DIST, gic.dist);
    for (const [index, { base, count }] of gic.regions.entries()) {
      if (count === 0) place(ADDR.V3_REDIST, base);
      else {
        const region = (BigInt(count) << REGION_COUNT_SHIFT) | BigInt(base) | BigInt(index);
        setU64(device, GROUP.ADDR, ADDR.V3_REGION, region);
      }
    }
  }
  if (gic.isInitialized) device.set(GROUP.CTRL, CTRL.INIT, NOTHING);
}

/** After the vCPUs have their registers, and guest memory its content. */
function load(m: Machine, { gic, gicV5, itses }: IrqchipState): void {
  const { vm } = m.kvm;
  const device = gicOf(m);
  const { dist, v5 } = vm.vgic;
  if (device !== null && v5 !== null && gicV5 !== null) {
    const why = loadGicV5(device, v5, affinitiesIn(m), gicV5);
    if (why !== null) throw mismatch(KIND, why);
  }
  if (device === null || dist === null || gic?.words == null) return;
  if (dist.nrIrqs !== gic.irqs) throw mismatch(KIND, `it has ${dist.nrIrqs} interrupts`);
  if ("shared" in gic.words && "lines" in gic.words) {
    writeGicV3(device, affinitiesOf(dist), gic.irqs, gic.words);
  } else writeGicV2(device, idsOf(m), gic.irqs, gic.words);
  for (const [at, its] of itsesOf(m).entries()) {
    const words = itses[at]?.words ?? null;
    if (words === null) continue;
    writeIts(its, words, () => its.set(GROUP.CTRL, CTRL.RESTORE_TABLES, NOTHING));
  }
  const why = gic.latent === null ? null : loadVgicLatent(dist, gic.latent);
  if (why !== null) throw mismatch(KIND, why);
}

export const IRQCHIP_PART: StatePart<IrqchipState> = {
  kind: KIND,
  version: STATE_VERSIONS.irqchip,
  save,
  check,
  load: ({ m }, data) => load(m, data),
};
