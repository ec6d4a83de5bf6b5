// Owns: a PE's registers as the system side sees them: by name, PSTATE, banked SP. VM thread.
// Everything is bytes of the PE's window; this object holds no state.
import { assert } from "../../../base/assert.js";
import type { HostMemory } from "../../host-memory.js";
import {
  EVENT,
  EXCLUSIVE_VA,
  FETCH_TAG,
  FLAG_C,
  FLAG_N,
  FLAG_V,
  FLAG_Z,
  FP_TRAP,
  FPCR,
  FPSR,
  PC,
  PSTATE,
  SLOT_SP,
  SYSREGS,
  slotV,
  slotX,
  TLB,
  TLB_BANK,
  TLB_BANK_BYTES,
  TPIDR_EL0,
  TPIDRRO_EL0,
  ZVA_TRAP,
} from "../window.js";
import { type PeConfig, SYSREG_BY_NAME, SYSREGS_TABLE } from "./sysreg.table.js";

/** PSTATE bits where SPSR_EL1 has them. */
export const PSTATE_BIT = {
  SP: 1 << 0,
  EL: 3 << 2,
  F: 1 << 6,
  I: 1 << 7,
  A: 1 << 8,
  D: 1 << 9,
  DAIF: 0xf << 6,
  IL: 1 << 20,
  SS: 1 << 21,
} as const;
const EL1H = 0b0101;
const NZCV_SHIFT = 28;
const FPEN_SHIFT = 20n;
const SCTLR_DZE = 1n << 14n;

export class PeRegisters {
  readonly window: number;
  /** Told before the exception level changes. */
  onLevelChange: (() => void) | null = null;
  readonly #view: DataView;

  /** @param window host address; the memory may grow, and the window stays where it is */
  constructor(memory: HostMemory, window: number) {
    this.window = window;
    this.#view = new DataView(memory.memory.buffer);
  }

  u32(offset: number): number {
    return this.#view.getUint32(this.window + offset, true);
  }
  setU32(offset: number, value: number): void {
    this.#view.setUint32(this.window + offset, value, true);
  }
  u64(offset: number): bigint {
    return this.#view.getBigUint64(this.window + offset, true);
  }
  setU64(offset: number, value: bigint): void {
    this.#view.setBigUint64(this.window + offset, BigInt.asUintN(64, value), true);
  }

  // ── general registers ───────────────────────────────────────────────────────────────────────

  x(n: number): bigint {
    return n === 31 ? 0n : this.u64(slotX(n));
  }
  setX(n: number, value: bigint): void {
    if (n !== 31) this.setU64(slotX(n), value);
  }
  v(n: number): bigint {
    return this.u64(slotV(n)) | (this.u64(slotV(n) + 8) << 64n);
  }
  setV(n: number, value: bigint): void {
    this.setU64(slotV(n), value);
    this.setU64(slotV(n) + 8, value >> 64n);
  }
  get pc(): bigint {
    return this.u64(PC);
  }
  set pc(value: bigint) {
    this.setU64(PC, value);
  }
  get fpcr(): number {
    return this.u32(FPCR);
  }
  set fpcr(value: number) {
    this.setU32(FPCR, value);
  }
  get fpsr(): number {
    return this.u32(FPSR);
  }
  set fpsr(value: number) {
    this.setU32(FPSR, value);
  }

  // ── system registers ────────────────────────────────────────────────────────────────────────

  /** A register with storage, or TPIDR_EL0 and TPIDRRO_EL0; SP banks are brought up to date. */
  get(name: string): bigint {
    if (name === "TPIDR_EL0") return this.u64(TPIDR_EL0);
    if (name === "TPIDRRO_EL0") return this.u64(TPIDRRO_EL0);
    if (name === this.#activeSp) return this.u64(SLOT_SP);
    return this.u64(SYSREGS + 8 * this.#slot(name));
  }

  /** Bits 31:0 of a register with storage. */
  low(name: string): number {
    return this.u32(SYSREGS + 8 * this.#slot(name));
  }

  /** Writes all bits, whatever the table's mask says. */
  set(name: string, value: bigint): void {
    if (name === "TPIDR_EL0") this.setU64(TPIDR_EL0, value);
    else if (name === "TPIDRRO_EL0") this.setU64(TPIDRRO_EL0, value);
    else if (name === this.#activeSp) this.setU64(SLOT_SP, value);
    else this.setU64(SYSREGS + 8 * this.#slot(name), value);
    if (name === "CPACR_EL1" || name === "SCTLR_EL1") this.refreshLevel();
  }

  #slot(name: string): number {
    const row = SYSREG_BY_NAME.get(name);
    assert(row !== undefined && row.slot >= 0, `${name} has storage`);
    return row.slot;
  }

  // ── PSTATE ──────────────────────────────────────────────────────────────────────────────────

  /** PSTATE without NZCV. */
  get pstate(): number {
    return this.u32(PSTATE);
  }

  get el(): number {
    return (this.pstate & PSTATE_BIT.EL) >>> 2;
  }

  get #activeSp(): string {
    const { pstate } = this;
    return (pstate & PSTATE_BIT.EL) !== 0 && (pstate & PSTATE_BIT.SP) !== 0 ? "SP_EL1" : "SP_EL0";
  }

  /** Changes PSTATE, with the stack pointer and whatever else hangs on the exception level. */
  set pstate(value: number) {
    if (((value ^ this.pstate) & PSTATE_BIT.EL) !== 0) this.onLevelChange?.();
    const before = this.#activeSp;
    const sp = this.u64(SLOT_SP);
    this.setU32(PSTATE, value);
    if (this.#activeSp !== before) {
      const next = this.u64(SYSREGS + 8 * this.#slot(this.#activeSp));
      this.setU64(SYSREGS + 8 * this.#slot(before), sp);
      this.setU64(SLOT_SP, next);
    }
    this.refreshLevel();
  }

  /** TLB bank, jump-cache tag and traps of the present exception level. */
  refreshLevel(): void {
    const { el } = this;
    this.setU32(TLB_BANK, this.window + TLB + (el === 0 ? 0 : TLB_BANK_BYTES));
    this.setU32(FETCH_TAG, el);
    const fpen = Number((this.u64(SYSREGS + 8 * this.#slot("CPACR_EL1")) >> FPEN_SHIFT) & 3n);
    this.setU32(FP_TRAP, fpen === 3 || (fpen === 1 && el === 1) ? 0 : 1);
    const sctlr = this.u64(SYSREGS + 8 * this.#slot("SCTLR_EL1"));
    this.setU32(ZVA_TRAP, el === 0 && (sctlr & SCTLR_DZE) === 0n ? 1 : 0);
  }

  get nzcv(): number {
    const n = this.u32(FLAG_N) >>> 31;
    const z = this.u32(FLAG_Z) === 0 ? 1 : 0;
    return n * 8 + z * 4 + this.u32(FLAG_C) * 2 + (this.u32(FLAG_V) >>> 31);
  }
  set nzcv(value: number) {
    this.setU32(FLAG_N, (value & 8) << 28);
    this.setU32(FLAG_Z, (value & 4) === 0 ? 1 : 0);
    this.setU32(FLAG_C, (value >>> 1) & 1);
    this.setU32(FLAG_V, (value & 1) << 31);
  }

  /** PSTATE as SPSR_EL1 gets it. */
  get spsr(): number {
    return (this.pstate | (this.nzcv << NZCV_SHIFT)) >>> 0;
  }
  set spsr(value: number) {
    this.nzcv = value >>> NZCV_SHIFT;
    this.pstate = value & (PSTATE_BIT.SS | PSTATE_BIT.IL | PSTATE_BIT.DAIF | 0xf);
  }

  clearExclusive(): void {
    this.setU64(EXCLUSIVE_VA, 2n ** 64n - 1n);
  }

  get event(): boolean {
    return this.u32(EVENT) !== 0;
  }
  set event(value: boolean) {
    this.setU32(EVENT, value ? 1 : 0);
  }

  /** KVM_ARM_VCPU_INIT's reset: EL1h with DAIF masked, the rest zero or as the table says. */
  reset(config: PeConfig): void {
    for (let n = 0; n < 31; n++) this.setX(n, 0n);
    for (let n = 0; n < 32; n++) this.setV(n, 0n);
    this.setU64(SLOT_SP, 0n);
    this.setU32(PSTATE, EL1H | PSTATE_BIT.DAIF);
    for (const row of SYSREGS_TABLE) {
      const value = config.ids?.get(row.name) ?? row.reset(config);
      if (row.slot >= 0) this.setU64(SYSREGS + 8 * row.slot, value);
    }
    this.setU64(TPIDR_EL0, 0n);
    this.setU64(TPIDRRO_EL0, 0n);
    this.pc = 0n;
    this.nzcv = 0;
    this.fpcr = 0;
    this.fpsr = 0;
    this.event = false;
    this.clearExclusive();
    this.refreshLevel();
  }
}
