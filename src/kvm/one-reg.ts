// Owns: KVM_GET_ONE_REG, KVM_SET_ONE_REG and KVM_GET_REG_LIST. VM thread.
// @source arch/arm64/kvm/guest.c, sys_regs.c by behaviour; kvm-uapi.md 8.5, 8.6
import { KvmError } from "../base/errors.js";
import {
  type A64Engine,
  COUNTER_HZ,
  countersOf,
  isListed,
  type PeRegisters,
  PMU_BY_NAME,
  readControl,
  SYSREGS_TABLE,
  type SysReg,
} from "../machine/index.js";
import { PSCI_VERSION } from "./firmware/smccc.table.js";
import { isIdRegister, setIdRegister } from "./id-regs.js";
import { HOST_PMU_COUNTERS } from "./pmu.js";
import { KVM_ARM_VCPU } from "./uapi/flags.js";
import type { Vcpu } from "./vcpu.js";
import { applyReset } from "./vcpu-init.js";
import type { Vm } from "./vm.js";

const ARM64 = 0x6000_0000_0000_0000n;
const SIZE_SHIFT = 52n;
const SIZE_U32 = 2n << SIZE_SHIFT;
const SIZE_U64 = 3n << SIZE_SHIFT;
const SIZE_U128 = 4n << SIZE_SHIFT;
const CORE = 0x0010_0000n;
const DEMUX = 0x0011_0000n;
const SYSREG = 0x0013_0000n;
const FW = 0x0014_0000n;
const FEAT_BMAP = 0x0016_0000n;

interface Context {
  readonly vm: Vm;
  readonly engine: A64Engine;
  readonly registers: PeRegisters;
}
interface Reg {
  readonly id: bigint;
  /** Bytes. */
  readonly size: number;
  readonly get: (c: Context) => bigint;
  /** @throws KvmError EINVAL, EBUSY */
  readonly set: (c: Context, value: bigint) => void;
  /** Only with KVM_ARM_VCPU_PMU_V3. */
  readonly isPmu?: true;
}

const SET = "KVM_SET_ONE_REG";
const einval = (why: string) => new KvmError("EINVAL", SET, why);

// ── core registers ────────────────────────────────────────────────────────────────────────────

/** Offsets in struct kvm_regs, in 32-bit words. */
const WORD = { sp: 0x3e, pc: 0x40, pstate: 0x42, spEl1: 0x44, elrEl1: 0x46 } as const;
/** SPSR_EL1, and AArch32's, which nothing uses here. */
const SPSR = { SPSR_EL1: 0x48, SPSR_ABT: 0x4a, SPSR_UND: 0x4c, SPSR_IRQ: 0x4e, SPSR_FIQ: 0x50 };
const VREG = 0x54;
const FPSR = 0xd4;
const FPCR = 0xd5;
/** Modes that userspace may set: EL0t, EL1t, EL1h. */
const MODES: readonly bigint[] = [0n, 4n, 5n];

function core(word: number, get: Reg["get"], set: Reg["set"]): Reg {
  return { id: ARM64 | SIZE_U64 | CORE | BigInt(word), size: 8, get, set };
}
function named(word: number, name: string): Reg {
  const get: Reg["get"] = ({ registers }) => registers.get(name);
  return core(word, get, ({ registers }, value) => registers.set(name, value));
}

function setPstate({ registers }: Context, value: bigint): void {
  if (!MODES.includes(value & 0x1fn)) throw einval("the mode is EL0t, EL1t or EL1h");
  registers.spsr = Number(value & 0xffff_ffffn);
}

function narrow(word: number, get: Reg["get"], set: Reg["set"]): Reg {
  return { id: ARM64 | SIZE_U32 | CORE | BigInt(word), size: 4, get, set };
}

const CORE_REGS: readonly Reg[] = [
  ...Array.from({ length: 31 }, (_, n) =>
    core(
      2 * n,
      ({ registers }) => registers.x(n),
      ({ registers }, value) => registers.setX(n, value),
    ),
  ),
  named(WORD.sp, "SP_EL0"),
  core(
    WORD.pc,
    ({ registers }) => registers.pc,
    ({ registers }, value) => {
      registers.pc = value;
    },
  ),
  core(WORD.pstate, ({ registers }) => BigInt(registers.spsr), setPstate),
  named(WORD.spEl1, "SP_EL1"),
  named(WORD.elrEl1, "ELR_EL1"),
  ...Object.entries(SPSR).map(([name, word]) => named(word, name)),
  ...Array.from(
    { length: 32 },
    (_, n): Reg => ({
      id: ARM64 | SIZE_U128 | CORE | BigInt(VREG + 4 * n),
      size: 16,
      get: ({ registers }) => registers.v(n),
      set: ({ registers }, value) => registers.setV(n, value),
    }),
  ),
  narrow(
    FPSR,
    ({ registers }) => BigInt(registers.fpsr),
    ({ registers }, value) => {
      registers.fpsr = Number(value);
    },
  ),
  narrow(
    FPCR,
    ({ registers }) => BigInt(registers.fpcr),
    ({ registers }, value) => {
      registers.fpcr = Number(value);
    },
  ),
];

// ── firmware, timers, system registers ────────────────────────────────────────────────────────

const PSCI_0_2 = 1 << KVM_ARM_VCPU.PSCI_0_2;
const VERSIONS: readonly bigint[] = Object.values(PSCI_VERSION);

function setPsciVersion({ vm }: Context, value: bigint): void {
  const has02 = vm.vcpus.some((vcpu) => ((vcpu.features ?? 0) & PSCI_0_2) !== 0);
  const isOld = value === PSCI_VERSION.V0_1;
  if (!VERSIONS.includes(value) || isOld === has02) {
    throw einval("the version is 0.1 without the PSCI_0_2 feature, or 0.2, 1.0 to 1.3 with it");
  }
  vm.firmware.psciVersion = value;
}

type Bitmap = "std" | "stdHyp" | "vendorHyp" | "vendorHyp2";

function bitmap(index: bigint, field: Bitmap, supported: bigint): Reg {
  return {
    id: ARM64 | SIZE_U64 | FEAT_BMAP | index,
    size: 8,
    get: ({ vm }) => vm.firmware[field],
    set: ({ vm }, value) => {
      if ((value & ~supported) !== 0n) throw einval(`bits ${supported} exist`);
      if (vm.hasRun && value !== vm.firmware[field]) {
        throw new KvmError("EBUSY", SET, "firmware features are fixed once a vCPU has run");
      }
      vm.firmware[field] = value;
    },
  };
}

const LEVEL_MASK = 0xfn;
/** KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1 and 3: 0 not available, 1 available, 2 not required. */
const NOT_REQUIRED = 2n;
/** The same of workaround 2: 0 not available, 1 unknown, 2 available, 3 not required; bit 4 on. */
const WA2 = { AVAILABLE: 2n, NOT_REQUIRED: 3n, ENABLED: 1n << 4n } as const;

/** This PE needs no workaround, so that any level is met; nothing is kept of what is written. */
function workaround(index: bigint): Reg {
  return {
    id: ARM64 | SIZE_U64 | FW | index,
    size: 8,
    get: () => (index === 2n ? WA2.NOT_REQUIRED : NOT_REQUIRED),
    set: (_, value) => {
      const level = value & LEVEL_MASK;
      if (index !== 2n) {
        if (value > NOT_REQUIRED) throw einval("the level is 0, 1 or 2");
        return;
      }
      const isOn = (value & WA2.ENABLED) !== 0n;
      const isKnown = (value & ~(LEVEL_MASK | WA2.ENABLED)) === 0n && level <= WA2.NOT_REQUIRED;
      if (!isKnown || (isOn && level !== WA2.AVAILABLE)) {
        throw einval("the level is 0 to 3, and bit 4 goes with 2");
      }
    },
  };
}

const FIRMWARE: readonly Reg[] = [
  {
    id: ARM64 | SIZE_U64 | FW,
    size: 8,
    get: ({ vm }) => vm.firmware.psciVersion,
    set: setPsciVersion,
  },
  ...[1n, 2n, 3n].map(workaround),
  bitmap(0n, "std", 1n),
  bitmap(1n, "stdHyp", 1n),
  bitmap(2n, "vendorHyp", 3n),
  bitmap(3n, "vendorHyp2", 3n),
];

const sysregId = (encoding: number): bigint => ARM64 | SIZE_U64 | SYSREG | BigInt(encoding);

/** CNT and CVAL of the virtual timer have each other's encoding: a mistake that became ABI. */
const TIMER_IDS: Readonly<Record<string, bigint>> = {
  CNTV_CTL_EL0: 0x6030_0000_0013_df19n,
  CNTV_CVAL_EL0: 0x6030_0000_0013_df02n,
};
function counter(id: bigint, which: "virtual" | "physical"): Reg {
  return {
    id,
    size: 8,
    get: ({ engine }) => engine.pe.counter(which),
    set: ({ vm }, value) => {
      // KVM_ARM_SET_COUNTER_OFFSET has the last word.
      if (vm.a64 === null || vm.counterOffset !== null) return;
      vm.a64[`${which}Offset`] = BigInt.asUintN(64, vm.ticks() - value);
      vm.timers.wakeAll();
    },
  };
}
const TIMER_CNT = counter(0x6030_0000_0013_df1an, "virtual");
const PTIMER_CNT = counter(0x6030_0000_0013_df01n, "physical");

/** A timer's control reads with ISTATUS; what is written there is ignored. */
const CONTROLS: Readonly<Record<string, "virtual" | "physical">> = {
  CNTV_CTL_EL0: "virtual",
  CNTP_CTL_EL0: "physical",
};

function readSysreg({ engine, registers }: Context, name: string): bigint {
  if (name === "CNTFRQ_EL0") return COUNTER_HZ;
  const timer = CONTROLS[name];
  if (timer === undefined) return registers.get(name);
  return readControl(registers, timer, engine.pe.counter(timer));
}

/** OSLSR_EL1.OSLK: what OSLAR changed must come back with the rest of the state. */
const OSLK = 2n;

function sysreg(row: SysReg): Reg {
  const { name } = row;
  const isReadOnly = row.access.startsWith("ro");
  return {
    id: TIMER_IDS[name] ?? sysregId(row.encoding),
    size: 8,
    get: (context) => readSysreg(context, name),
    set: ({ vm, engine, registers }, value) => {
      const old = registers.get(name);
      if (isIdRegister(row)) return setIdRegister(vm, row, engine.config, value);
      const isLock = name === "OSLSR_EL1" && ((value ^ old) & ~OSLK) === 0n;
      if (isLock) registers.set(name, value);
      else if (isReadOnly && value !== old) throw einval(`${name} takes only its value`);
      if (!isReadOnly) registers.set(name, (old & ~row.mask) | (value & row.mask));
    },
  };
}

/** KVM_GET and SET_ONE_REG of the PMU: PMCR_EL0.N is how many counters the VM has. */
const PMU: readonly Reg[] = SYSREGS_TABLE.flatMap(({ name, encoding }): Reg[] => {
  const register = PMU_BY_NAME.get(name);
  if (register === undefined || !isListed(register)) return [];
  const set: Reg["set"] = ({ vm, engine }, value) => {
    // More than the host has is ignored, and so is any once a vCPU has run.
    const counters = countersOf(value);
    const isN = name === "PMCR_EL0" && !vm.hasRun && counters <= HOST_PMU_COUNTERS;
    if (isN) vm.pmu.counters = counters;
    engine.pe.pmu.restore(name, value);
  };
  const get: Reg["get"] = ({ engine }) => engine.pe.pmu.read(name);
  return [{ id: sysregId(encoding), size: 8, get, set, isPmu: true }];
});

/** Not listed: what has no storage of its own, and what belongs to the core registers. */
const HIDDEN: ReadonlySet<string> = new Set([
  ...["SP_EL0", "SP_EL1", "ELR_EL1", ...Object.keys(SPSR)],
  // Read by the guest alone; CCSIDR_EL1 has ids of its own.
  ...["CCSIDR_EL1", "DCZID_EL0", "OSDLR_EL1", "DBGPRCR_EL1"],
]);
const LISTED = SYSREGS_TABLE.filter(({ name, slot, mask, isPmu }) => {
  return !isPmu && !HIDDEN.has(name) && mask !== 0n && (slot >= 0 || name.startsWith("TPIDR"));
});

/** CCSIDR_EL1 by CSSELR_EL1: data and instructions of level 1, level 2. */
const DEMUX_SELECTORS: readonly bigint[] = [0n, 1n, 2n];
const CACHES: readonly Reg[] = DEMUX_SELECTORS.map((selector) => ({
  id: ARM64 | SIZE_U32 | DEMUX | selector,
  size: 4,
  get: ({ registers }) => registers.get("CCSIDR_EL1"),
  set: ({ registers }, value) => {
    if (value !== registers.get("CCSIDR_EL1")) throw einval("the caches are as they are");
  },
}));

const REGS: readonly Reg[] = [
  ...CORE_REGS,
  ...FIRMWARE,
  ...CACHES,
  TIMER_CNT,
  PTIMER_CNT,
  ...LISTED.map(sysreg),
  ...PMU,
];
const BY_ID: ReadonlyMap<bigint, Reg> = new Map(REGS.map((reg) => [reg.id, reg]));

// ── the ioctls ────────────────────────────────────────────────────────────────────────────────

function contextOf(vm: Vm, vcpu: Vcpu, ioctl: string): Context {
  if (vcpu.a64 === null) {
    throw new KvmError("ENOEXEC", ioctl, `vCPU ${vcpu.id} is not initialised: KVM_ARM_VCPU_INIT`);
  }
  applyReset(vcpu);
  return { vm, engine: vcpu.a64, registers: vcpu.a64.pe.registers };
}

function isThere(reg: Reg, { engine }: Context): boolean {
  return reg.isPmu !== true || engine.pe.pmu.config !== null;
}

function find(context: Context, id: bigint, ioctl: string): Reg {
  const reg = BY_ID.get(id);
  if (reg !== undefined && isThere(reg, context)) return reg;
  // The architecture and the reserved bits come first, then whether there is such a register.
  const isArm64 = (id & ~0x00f0_0000_0fff_ffffn) === ARM64;
  if (!isArm64) throw new KvmError("EINVAL", ioctl, "the id is none of arm64");
  const isCore = (id & 0x0fff_0000n) === CORE;
  const inCore = isCore && CORE_REGS.some((other) => (other.id & 0xffffn) === (id & 0xffffn));
  if (inCore) throw new KvmError("EINVAL", ioctl, "the register has another size");
  throw new KvmError("ENOENT", ioctl, "the vCPU has no such register");
}

/** @returns value and bytes */
export function getOneReg(vm: Vm, vcpu: Vcpu, id: bigint): { value: bigint; size: number } {
  const context = contextOf(vm, vcpu, "KVM_GET_ONE_REG");
  const reg = find(context, id, "KVM_GET_ONE_REG");
  return { value: reg.get(context), size: reg.size };
}

function sized(context: Context, id: bigint, bytes: Uint8Array): Reg {
  const reg = find(context, id, SET);
  if (bytes.length !== reg.size) throw einval(`the register has ${reg.size} bytes`);
  return reg;
}

/**
 * What KVM_SET_ONE_REG looks at before the value: whether there is such a register, of that size.
 * @throws KvmError ENOEXEC, EINVAL, ENOENT
 */
export function checkOneReg(vm: Vm, vcpu: Vcpu, id: bigint, bytes: Uint8Array): void {
  sized(contextOf(vm, vcpu, SET), id, bytes);
}

/** @param bytes little-endian, as many as the register has */
export function setOneReg(vm: Vm, vcpu: Vcpu, id: bigint, bytes: Uint8Array): void {
  const context = contextOf(vm, vcpu, SET);
  const reg = sized(context, id, bytes);
  const value = bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  reg.set(context, value);
  context.engine.registersChanged();
}

/**
 * KVM_SET_ONE_REG of many, in their order. What a PE has cached is forgotten once, which is what
 * makes one cost its tens of microseconds.
 * @throws KvmError as setOneReg
 */
export function setRegs(
  vm: Vm,
  vcpu: Vcpu,
  values: Iterable<readonly [id: bigint, value: bigint]>,
): void {
  const context = contextOf(vm, vcpu, SET);
  try {
    for (const [id, value] of values) find(context, id, SET).set(context, value);
  } finally {
    context.engine.registersChanged();
  }
}

export function getRegList(vm: Vm, vcpu: Vcpu): readonly bigint[] {
  const context = contextOf(vm, vcpu, "KVM_GET_REG_LIST");
  return REGS.filter((reg) => isThere(reg, context)).map(({ id }) => id);
}
