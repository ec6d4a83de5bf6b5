// Owns: ID registers as userspace may change them: one value for all vCPUs of a VM. VM thread.
// What is hidden this way is not trapped: as on hardware, the instructions of a feature go on
// working where nothing can trap them.
// @source arch/arm64/kvm/sys_regs.c (set_id_reg) by behaviour; kvm-uapi.md 4.4, 8.6
import { KvmError } from "../base/errors.js";
import { type PeConfig, SYSREGS_TABLE, type SysReg } from "../machine/index.js";
import { ID_REGISTERS, type IdField, IMPLEMENTATION_REGISTERS } from "./id-regs.table.js";
import type { Vgic } from "./vgic/model.js";
import type { Vm } from "./vm.js";

const SET = "KVM_SET_ONE_REG";
const einval = (why: string) => new KvmError("EINVAL", SET, why);

/** Whether a register is of the ID space, so that its value is the VM's. */
export function isIdRegister({ name }: SysReg): boolean {
  return name.startsWith("ID_") || ID_REGISTERS.has(name) || IMPLEMENTATION_REGISTERS.has(name);
}

const FIELD_WIDTH = 4;
const FIELDS_4: readonly IdField[] = Array.from({ length: 16 }, (_, n) => ({
  shift: 4 * n,
  width: FIELD_WIDTH,
  kind: "lower",
}));

function isSafe({ shift, width, kind }: IdField, value: bigint, limit: bigint): boolean {
  const part = (of: bigint): bigint => {
    const bits = BigInt.asUintN(width, of >> BigInt(shift));
    return kind === "signed" ? BigInt.asIntN(width, bits) : bits;
  };
  return kind === "exact" ? part(value) === part(limit) : part(value) <= part(limit);
}

/** Every field of the register: its own kinds, four-bit ones elsewhere. */
function fieldsOf(own: readonly IdField[]): readonly IdField[] {
  const covers = (a: IdField, b: IdField): boolean =>
    a.shift < b.shift + b.width && b.shift < a.shift + a.width;
  return [...own, ...FIELDS_4.filter((one) => !own.some((other) => covers(one, other)))];
}

/**
 * Changes an ID register for all vCPUs of the VM.
 * @param config of the vCPU that is asked, for what the host has
 * @throws KvmError EINVAL more than the host has, or a field that is fixed; EBUSY after a run
 */
export function setIdRegister(vm: Vm, row: SysReg, config: PeConfig, value: bigint): void {
  const { name } = row;
  const host = row.reset(config);
  if (value === (vm.idRegs.get(name) ?? host)) return;
  const free = IMPLEMENTATION_REGISTERS.get(name);
  const known = ID_REGISTERS.get(name);
  if (free !== undefined) {
    if (!vm.caps.writableImpIdRegs) throw einval(`${name} takes only its value`);
    if (vm.hasRun) throw busy();
    if ((value & ~free) !== 0n) throw einval(`${name} has bits 31:0`);
  } else {
    if (vm.hasRun) throw busy();
    if (known === undefined || ((value ^ host) & ~known.mask) !== 0n) {
      throw einval(`${name} takes only its value in what can't be changed`);
    }
    if (!fieldsOf(known.fields).every((field) => isSafe(field, value, host))) {
      throw einval(`${name} would tell more than this host has`);
    }
  }
  vm.idRegs.set(name, value);
  for (const { a64 } of vm.vcpus) a64?.pe.registers.set(name, value);
}

function busy(): KvmError {
  return new KvmError("EBUSY", SET, "ID registers are fixed once a vCPU has run");
}

const PFR0 = "ID_AA64PFR0_EL1";
const PFR0_GIC = 0xfn << 24n;

const PFR2 = "ID_AA64PFR2_EL1";
const PFR2_GCIE = 0xfn << 12n; // tidy: a bit position

/**
 * Which system registers of a GIC guests see: a GICv3's by ID_AA64PFR0_EL1.GIC, a GICv5's by
 * ID_AA64PFR2_EL1.GCIE, of every vCPU. Decided when a controller is made, and by the first run of a
 * VM that has none.
 */
export function showGic(vm: Vm, model: Vgic["name"]): void {
  const [hasIcc, hasGicv5] = [model === "v3", model === "v5"];
  const fields = [
    [PFR0, PFR0_GIC, hasIcc],
    [PFR2, PFR2_GCIE, hasGicv5],
  ] as const;
  for (const { a64 } of vm.vcpus) {
    if (a64 !== null) a64.config = { ...a64.config, hasIcc, hasGicv5 };
  }
  for (const [name, field, isThere] of fields) {
    const shown = (value: bigint) => (value & ~field) | (isThere ? field & -field : 0n);
    const changed = vm.idRegs.get(name);
    if (changed !== undefined) vm.idRegs.set(name, shown(changed));
    for (const { a64 } of vm.vcpus) {
      a64?.pe.registers.set(name, shown(a64.pe.registers.get(name)));
    }
  }
}

const MASKS = 192;

/**
 * KVM_ARM_GET_REG_WRITABLE_MASKS: of op0 3, op1 0, 1 and 3, CRn 0, by op1, CRm and op2.
 * @throws KvmError EINVAL
 */
export function regWritableMasks(range: number): readonly bigint[] {
  if (range !== 0) {
    throw new KvmError("EINVAL", "KVM_ARM_GET_REG_WRITABLE_MASKS", "the only range is 0");
  }
  const masks = new Array<bigint>(MASKS).fill(0n);
  for (const { name, encoding } of SYSREGS_TABLE) {
    const mask = ID_REGISTERS.get(name)?.mask ?? IMPLEMENTATION_REGISTERS.get(name);
    if (mask === undefined) continue;
    const op1 = (encoding >>> 11) & 3;
    masks[(op1 === 3 ? 2 : op1) * 64 + (encoding & 0x3f)] = mask;
  }
  return masks;
}
