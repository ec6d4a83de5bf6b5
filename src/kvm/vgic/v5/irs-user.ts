// Owns: the virtual IRS's registers as userspace saves and restores them:
// KVM_DEV_ARM_VGIC_GRP_IRS_REGS. VM thread.
// A restore must find what the VM is: numbers of interrupts and features are compared, not set.
// Nothing happens but that registers change: no memory is taken before the tables come.
// @source arch/arm64/kvm/vgic/vgic-irs-v5.c by behaviour; interrupts.md 5.15
import type { ErrnoName } from "../../../base/errno.table.js";
import type { V5Context } from "./context.js";
import {
  baserOf,
  cfgrOf,
  IDR0,
  IDR1,
  IDR2,
  IRS,
  idr1Of,
  istBaserOf,
  LPI_ID_BITS,
  setIstBaser,
  setIstCfgr,
} from "./irs.js";
import type { IrsRegister } from "./irs-registers.table.js";

/** Bits of a priority that the host has, less one. */
const PRIORITY_BITS = 4;
const IDLE = 1n;

type Set = (v5: V5Context, value: bigint) => ErrnoName | null;

const sameSpis: Set = ({ state }, value) =>
  (value & 0x1ff_ffffn) === BigInt(state.nrSpis) ? null : "EINVAL";

const setIdr0: Set = ({ state }, value) => {
  const low = Number(value & 0xffff_ffffn);
  if ((low & IDR0.DOMAIN) !== IDR0.NON_SECURE || (low & IDR0.FEATURES) !== 0) return "EINVAL";
  state.idr0 = low;
  return null;
};

/** How many vCPUs there are isn't asked: it is what it is. */
const setIdr1: Set = ({ state }, value) => {
  const low = Number(value & 0xffff_ffffn);
  const field = (shift: number, mask: number) => (low >>> shift) & mask;
  const iaffid = field(IDR1.IAFFID_BITS_SHIFT, IDR1.IAFFID_BITS);
  const priority = field(IDR1.PRIORITY_BITS_SHIFT, IDR1.PRIORITY_BITS);
  const own = (idr1Of(state) >>> IDR1.IAFFID_BITS_SHIFT) & IDR1.IAFFID_BITS;
  if (iaffid !== own || priority > PRIORITY_BITS) return "EINVAL";
  state.idr1Priority = priority;
  return null;
};

const setIdr2: Set = ({ state }, value) => {
  const low = Number(value & 0xffff_ffffn);
  const bits = low & IDR2.ID_BITS;
  const min = (low >>> IDR2.MIN_SHIFT) & IDR2.MIN;
  const hasMore = (low & (IDR2.LEVELS | IDR2.ISTMD | IDR2.ISTMD_SZ)) !== 0;
  if ((low & IDR2.LPI) === 0 || hasMore) return "EINVAL";
  if (bits > LPI_ID_BITS.max || min < LPI_ID_BITS.min || min > bits) return "EINVAL";
  state.idr2 = low;
  return null;
};

const setCfgr: Set = ({ state }, value) => {
  if (state.lpiIstBase >= 0 && cfgrOf(value) !== state.istCfgr) return "EINVAL";
  setIstCfgr(state, cfgrOf(value));
  return null;
};

const setBaser: Set = ({ state }, value) => {
  if (state.lpiIstBase >= 0 && baserOf(value) !== istBaserOf(state)) return "EINVAL";
  setIstBaser(state, value);
  return null;
};

const IGNORED: Set = () => null;

/** Registers that userspace doesn't write as a guest does. */
const SETS: ReadonlyMap<string, Set> = new Map<string, Set>([
  ["IRS_IDR0", setIdr0],
  ["IRS_IDR1", setIdr1],
  ["IRS_IDR2", setIdr2],
  ["IRS_IDR5", sameSpis],
  ["IRS_IDR6", sameSpis],
  ["IRS_IDR7", (_v5, value) => ((value & 0xff_ffffn) === 0n ? null : "EINVAL")],
  [
    "IRS_CR0",
    ({ state }, value) => {
      state.enabled = (value & BigInt(IRS.CR0_IRSEN)) !== 0n;
      return null;
    },
  ],
  // An SPI's configuration comes with its table.
  ["IRS_SPI_CFGR", IGNORED],
  ["IRS_IST_CFGR", setCfgr],
  ["IRS_IST_BASER", setBaser],
]);

export function userReadIrs(v5: V5Context, row: IrsRegister): bigint {
  return row.name.endsWith("_STATUSR") ? IDLE : row.read(v5);
}

/** @returns the errno that it is refused with */
export function userWriteIrs(v5: V5Context, row: IrsRegister, value: bigint): ErrnoName | null {
  v5.state.isIrsRestored = true;
  const set = SETS.get(row.name);
  if (set !== undefined) return set(v5, value);
  row.write(v5, row.bytes === 4 ? value & 0xffff_ffffn : value);
  return null;
}
