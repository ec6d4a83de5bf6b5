// Owns: a GICv5 decoded: what KVM keeps of it beside the words that its hardware works on. Pure
// looks. VM thread. @source gicv5-observed.md 2, 3.1; interrupts.md 5.6, 5.7
import { ServiceError } from "../base/errors.js";
import type { V5Port, V5SpiView } from "../kvm/index.js";
import { INTID_TYPE, ISTE, iaffidOf, intidOf, priorityOf } from "../machine/index.js";
import type { Machine } from "./machine.js";
import type {
  V5IsteView,
  V5IstView,
  VgicV5SpiFilter,
  VgicV5SpiView,
  VgicV5View,
} from "./vgic-v5-types.js";
import { stateOf } from "./vgic-view.js";

const BASER_VALID = 1n;
/** IRS_IST_BASER.ADDR[55:6]. */
const BASER_ADDR = 0x00ff_ffff_ffff_ffc0n;
/** IRS_IST_CFGR: LPI_ID_BITS[4:0], ISTSZ[8:7], STRUCTURE b16. */
const CFGR = { ID_BITS: 0x1f, SIZE_SHIFT: 7, SIZE: 3, STRUCTURE: 1 << 16 } as const;
const HWU_SHIFT = 9;
/** Of an entry of the smallest size; each step doubles it, and the last one is reserved. */
const ENTRY_BYTES = [4, 8, 16, 4];

/** @throws ServiceError "vgic-not-found" */
function portOf(m: Machine): V5Port {
  const { v5, name } = m.kvm.vm.vgic;
  if (v5 !== null) return v5;
  const why =
    name === "none" ? "The VM has no in-kernel interrupt controller." : `It is a GIC${name}.`;
  throw new ServiceError("vgic-not-found", why);
}

function istView(baser: bigint, cfgr: number, lpiIdBits: number): V5IstView {
  return {
    baser,
    cfgr,
    isValid: (baser & BASER_VALID) !== 0n,
    address: baser & BASER_ADDR,
    lpiIdBits,
    bytes: ENTRY_BYTES[(cfgr >>> CFGR.SIZE_SHIFT) & CFGR.SIZE] ?? 0,
    isTwoLevel: (cfgr & CFGR.STRUCTURE) !== 0,
  };
}

export function vgicV5View(m: Machine): VgicV5View {
  const view = portOf(m).view();
  const { irsBase, nrSpis, enabled, cr1, istBaser, istCfgr, lpiIdBits, cpus } = view;
  const { isInitialized, isReady, tracking, inFlight, counters } = view;
  return {
    isInitialized,
    isReady,
    irs: { base: irsBase, enabled, cr1, nrSpis, ist: istView(istBaser, istCfgr, lpiIdBits) },
    tracking,
    inFlight,
    counters,
    cpuInterfaces: cpus,
  };
}

export function isteView(raw: number): V5IsteView {
  const has = (bit: number) => (raw & bit) !== 0;
  return {
    raw: raw >>> 0,
    pending: has(ISTE.PENDING),
    active: has(ISTE.ACTIVE),
    handling: has(ISTE.HM) ? "level" : "edge",
    enabled: has(ISTE.ENABLE),
    oneOfN: has(ISTE.IRM),
    hwu: (raw & ISTE.HWU) >>> HWU_SHIFT,
    priority: priorityOf(raw),
    iaffid: iaffidOf(raw),
  };
}

function spiView(m: Machine, { iste: raw, ...spi }: V5SpiView): VgicV5SpiView {
  const iste = raw < 0 ? null : isteView(raw);
  return {
    ...spi,
    intid: intidOf(INTID_TYPE.SPI, spi.id),
    state: stateOf(iste ?? spi),
    target: iste === null ? null : (m.kvm.vm.vcpuById(iste.iaffid)?.id ?? null),
    iste,
  };
}

const isBusy = ({ state, iste }: VgicV5SpiView, bit: "pending" | "active"): boolean =>
  iste?.[bit] ?? state.includes(bit);

const IS_IN_STATE: Readonly<Record<string, (spi: VgicV5SpiView) => boolean>> = {
  pending: (spi) => isBusy(spi, "pending"),
  active: (spi) => isBusy(spi, "active"),
  enabled: ({ iste }) => iste?.enabled === true,
  listed: ({ isListed }) => isListed,
  idle: ({ state }) => state === "inactive",
};

export function vgicV5SpiViews(m: Machine, filter: VgicV5SpiFilter): readonly VgicV5SpiView[] {
  const port = portOf(m);
  const { from, to, state, after, limit } = filter;
  const isInState = state === null ? () => true : IS_IN_STATE[state];
  if (isInState === undefined) {
    const states = Object.keys(IS_IN_STATE).join(", ");
    throw new ServiceError("validation", `state is one of ${states}.`);
  }
  const views: VgicV5SpiView[] = [];
  const first = Math.max(from, after === null ? 0 : Number(after) + 1);
  for (let id = first; id < port.nrSpis && id <= to && views.length < limit; id++) {
    const spi = port.spi(id);
    if (spi === null) continue;
    const view = spiView(m, spi);
    if (isInState(view)) views.push(view);
  }
  return views;
}
