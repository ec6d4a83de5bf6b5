// Owns: registers of a vCPU's CPU interface as userspace saves and restores them:
// KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS of a GICv5. VM thread.
// Writes are of the state behind a register: SACTIVER and SPENDR take whole words.
// @source interrupts.md 5.15
import { ICC_V5_BY_ENCODING, type IccV5Register, type PeGicState } from "../../../machine/index.js";

/** PPIs have priorities of five bits. */
const PRIORITIES = 0x1f1f_1f1f_1f1f_1f1fn;
const PRIORITY = 0x1fn;
const LOW = 0xffff_ffffn;
/** LINK and LINK_IDLE of CR0. */
const CR0_READ = 6n;

interface Access {
  readonly get: (state: PeGicState, index: number) => bigint;
  readonly set: (state: PeGicState, index: number, value: bigint) => void;
}

const words = (name: "enable" | "active" | "pend"): Access => ({
  get: ({ ppi }, index) => ppi[name][index] ?? 0n,
  set: ({ ppi }, index, value) => {
    ppi[name][index] = value;
  },
});

/** By name without its number. */
const ACCESS: ReadonlyMap<string, Access> = new Map<string, Access>([
  ["ICC_PPI_ENABLER", words("enable")],
  ["ICC_PPI_SACTIVER", words("active")],
  ["ICC_PPI_SPENDR", words("pend")],
  [
    "ICC_PPI_PRIORITYR",
    {
      get: ({ ppi }, index) => ppi.priority[index] ?? 0n,
      set: ({ ppi }, index, value) => {
        ppi.priority[index] = value & PRIORITIES;
      },
    },
  ],
  [
    "ICC_ICSR",
    {
      get: ({ icsr }) => icsr,
      set: (state, _index, value) => {
        state.icsr = value;
      },
    },
  ],
  [
    "ICC_APR",
    {
      get: ({ apr }) => BigInt(apr >>> 0),
      set: (state, _index, value) => {
        state.apr = Number(value & LOW);
      },
    },
  ],
  [
    "ICC_CR0",
    {
      get: ({ cr0 }) => CR0_READ | BigInt(cr0),
      set: (state, _index, value) => {
        state.cr0 = Number(value & 1n);
      },
    },
  ],
  [
    "ICC_PCR",
    {
      get: ({ pcr }) => BigInt(pcr),
      set: (state, _index, value) => {
        state.pcr = Number(value & PRIORITY);
      },
    },
  ],
]);

function find(encoding: number): { access: Access; row: IccV5Register } | null {
  const row = ICC_V5_BY_ENCODING.get(encoding);
  const access = row && ACCESS.get(row.name.replace(/\d*_EL1$/, ""));
  // CR0 keeps its number: it is part of the name.
  const named = access ?? (row && ACCESS.get(row.name.replace(/_EL1$/, "")));
  return row === undefined || named === undefined ? null : { access: named, row };
}

export function hasSysreg(encoding: number): boolean {
  return find(encoding) !== null;
}

/** @returns null: there is no such register */
export function readSysreg(state: PeGicState, encoding: number): bigint | null {
  const found = find(encoding);
  return found === null ? null : found.access.get(state, found.row.index);
}

/** @returns false: there is no such register */
export function writeSysreg(state: PeGicState, encoding: number, value: bigint): boolean {
  const found = find(encoding);
  found?.access.set(state, found.row.index, value);
  return found !== null;
}
