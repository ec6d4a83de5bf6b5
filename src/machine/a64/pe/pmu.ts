// Owns: the performance monitors of a PE: counters, overflow and its line. VM thread.
//
//   instructions retired ─ since the last look ─▶ counters ─ past their width ─▶ PMOVS ─▶ line
//
// Counters are brought up to date when somebody looks, and whenever the PE rests: then what is
// stored is what they are. A cycle is an instruction here.
// @source Arm ARM D13; arch/arm64/kvm/pmu-emul.c, sys_regs.c by behaviour
import {
  ALWAYS,
  CYCLE_COUNTER,
  EVENT,
  PMU_BY_NAME,
  type PmuConfig,
  type PmuRegister,
} from "./pmu.table.js";
import type { PeRegisters } from "./registers.js";

const PMCR = { E: 1n, P: 1n << 1n, C: 1n << 2n, LC: 1n << 6n } as const;
/** E, D, X and DP are kept; LC is always 1 where EL0 has no AArch32. */
const PMCR_KEPT = 0x39n;
const PMCR_N_SHIFT = 11n;
const SELECT = 0x1fn;
const USERENR_MASK = 0xfn;
/** PMEVTYPER: not at EL1, not at EL0; ten bits of event number. */
const NOT_AT_EL1 = 1n << 31n;
const NOT_AT_EL0 = 1n << 30n;
const EVENT_MASK = 0x3ffn;
const CYCLE_BIT = 1n << BigInt(CYCLE_COUNTER);
const WIDTH = 32n;
const MASK_32 = 0xffff_ffffn;
const MASK_64 = 2n ** 64n - 1n;
const SPAN_32 = 1n << WIDTH;
const SPAN_64 = 1n << 64n;

const counterName = (n: number): string => `PMEVCNTR${n}_EL0`;
const typeName = (n: number): string => `PMEVTYPER${n}_EL0`;

export class Pmu {
  /** null: the PE has none. */
  config: PmuConfig | null = null;
  readonly #registers: PeRegisters;
  readonly #retired: () => number;
  /** Retired when the counters were brought up to date last. */
  #counted = 0;

  /** @param retired instructions of the PE before this moment */
  constructor(registers: PeRegisters, retired: () => number) {
    this.#registers = registers;
    this.#retired = retired;
  }

  /** After a reset, and after saved state came back: the counters are as they are stored. */
  restart(): void {
    this.#counted = this.#retired();
  }

  /** Brings the counters up to date. */
  sync(): void {
    if (this.config === null) return;
    const now = this.#retired();
    if (now === this.#counted) return;
    const by = BigInt(now - this.#counted);
    this.#counted = now;
    const enabled = this.#enabled;
    if (enabled === 0n) return;
    const registers = this.#registers;
    for (let n = 0; n < this.config.counters; n++) {
      if ((enabled & (1n << BigInt(n))) !== 0n && this.#countsHere(n)) this.#add(n, by);
    }
    if ((enabled & CYCLE_BIT) === 0n || !this.#cyclesCount) return;
    if (!this.#isAtLevel(registers.get("PMCCFILTR_EL0"))) return;
    const cycles = registers.get("PMCCNTR_EL0") + by;
    registers.set("PMCCNTR_EL0", cycles & MASK_64);
    if (cycles > MASK_64) this.#overflowed(CYCLE_BIT);
  }

  /** The overflow interrupt. */
  get line(): boolean {
    if (this.config === null || this.#registers.get("PMINTENSET_EL1") === 0n) return false;
    this.sync();
    return this.#overflows !== 0n && this.#isOn;
  }

  /** Instructions until the line may rise by itself, at least; up to date after `line`. */
  get instructionsToOverflow(): number {
    const registers = this.#registers;
    if (this.config === null || registers.get("PMINTENSET_EL1") === 0n) {
      return Number.POSITIVE_INFINITY;
    }
    const watched = registers.get("PMINTENSET_EL1") & this.#enabled;
    if (watched === 0n || this.#overflows !== 0n) return Number.POSITIVE_INFINITY;
    let least = SPAN_64;
    for (let n = 0; n < this.config.counters; n++) {
      if ((watched & (1n << BigInt(n))) === 0n) continue;
      const left = this.#distance(n);
      if (left < least) least = left;
    }
    if ((watched & CYCLE_BIT) !== 0n && this.#cyclesCount) {
      const left = SPAN_64 - registers.get("PMCCNTR_EL0");
      if (left < least) least = left;
    }
    return Number(least);
  }

  get #cyclesCount(): boolean {
    return this.config?.isCounted(EVENT.CPU_CYCLES) === true;
  }

  get #isOn(): boolean {
    return (this.#registers.get("PMCR_EL0") & PMCR.E) !== 0n;
  }

  get #enabled(): bigint {
    return this.#isOn ? this.#registers.get("PMCNTENSET_EL0") : 0n;
  }

  get #overflows(): bigint {
    return this.#registers.get("PMOVSSET_EL0") & this.#registers.get("PMINTENSET_EL1");
  }

  /** Bits of counters that are there. */
  get #present(): bigint {
    return ((1n << BigInt(this.config?.counters ?? 0)) - 1n) | CYCLE_BIT;
  }

  #eventOf(n: number): number {
    return Number(this.#registers.get(typeName(n)) & EVENT_MASK);
  }

  /** Whether it counts instructions, at whatever level. */
  #counts(n: number): boolean {
    const event = this.#eventOf(n);
    if (event !== EVENT.INST_RETIRED && event !== EVENT.CPU_CYCLES) return false;
    return this.config?.isCounted(event) === true;
  }

  #countsHere(n: number): boolean {
    return this.#counts(n) && this.#isAtLevel(this.#registers.get(typeName(n)));
  }

  #isAtLevel(type: bigint): boolean {
    return (type & (this.#registers.el === 0 ? NOT_AT_EL0 : NOT_AT_EL1)) === 0n;
  }

  /** Whether a counter counts the overflows of the one before it. */
  #isChained(n: number): boolean {
    return (n & 1) === 1 && this.#eventOf(n) === EVENT.CHAIN;
  }

  /** Instructions until a counter overflows, if all count; 2^64 when none makes it. */
  #distance(n: number): bigint {
    const left = SPAN_32 - this.#registers.get(counterName(n));
    if (this.#counts(n)) return left;
    const isFed = (this.#enabled & (1n << BigInt(n - 1))) !== 0n && n > 0;
    if (!this.#isChained(n) || !isFed || !this.#counts(n - 1)) return SPAN_64;
    return (left - 1n) * SPAN_32 + SPAN_32 - this.#registers.get(counterName(n - 1));
  }

  #add(n: number, by: bigint): void {
    const sum = this.#registers.get(counterName(n)) + by;
    this.#registers.set(counterName(n), sum & MASK_32);
    if (sum < SPAN_32) return;
    this.#overflowed(1n << BigInt(n));
    const next = n + 1;
    const hasNext = next < (this.config?.counters ?? 0) && this.#isChained(next);
    if (hasNext && (this.#enabled & (1n << BigInt(next))) !== 0n) this.#add(next, sum >> WIDTH);
  }

  #overflowed(bit: bigint): void {
    this.#registers.set("PMOVSSET_EL0", this.#registers.get("PMOVSSET_EL0") | bit);
  }

  // ── registers ───────────────────────────────────────────────────────────────────────────────

  /**
   * Whether an access is there for this exception level. KVM's guests get UNDEFINED where the
   * silicon alone would trap to EL1: KVM takes every access and looks at PMUSERENR_EL0 itself.
   */
  allows(name: string, isRead: boolean): boolean {
    const register = PMU_BY_NAME.get(name);
    if (register === undefined || this.config === null) return false;
    if (isRead ? name === "PMSWINC_EL0" : name.startsWith("PMCEID")) return false;
    if (this.#registers.el === 0) {
      const by = isRead ? register.read : register.write;
      if (by !== ALWAYS && (this.#registers.get("PMUSERENR_EL0") & by) === 0n) return false;
    }
    const selects = name.startsWith("PMXEV");
    if (!selects) return register.counter === null || register.counter < this.config.counters;
    const selected = this.#selected;
    return selected < this.config.counters || selected === CYCLE_COUNTER;
  }

  get #selected(): number {
    return Number(this.#registers.get("PMSELR_EL0") & SELECT);
  }

  /** The register that PMXEVTYPER and PMXEVCNTR stand for; others stand for themselves. */
  #target(name: string): string {
    const n = this.#selected;
    if (name === "PMXEVTYPER_EL0") return n === CYCLE_COUNTER ? "PMCCFILTR_EL0" : typeName(n);
    if (name === "PMXEVCNTR_EL0") return n === CYCLE_COUNTER ? "PMCCNTR_EL0" : counterName(n);
    return name;
  }

  read(name: string): bigint {
    this.sync();
    const target = this.#target(name);
    switch (target) {
      case "PMCR_EL0":
        return this.#registers.get(target) | (BigInt(this.config?.counters ?? 0) << PMCR_N_SHIFT);
      case "PMCEID0_EL0":
        return this.#events;
      case "PMCEID1_EL0":
      case "PMSWINC_EL0":
        return 0n;
      default: {
        const value = this.#registers.get(storageOf(target));
        return isMask(storageOf(target)) ? value & this.#present : value;
      }
    }
  }

  /** Events below 32 that are there. */
  get #events(): bigint {
    const counted = Object.values(EVENT).filter((event) => this.config?.isCounted(event));
    return counted.reduce((bits, event) => bits | (1n << BigInt(event)), 0n);
  }

  write(name: string, value: bigint): void {
    this.sync();
    const target = this.#target(name);
    const old = target === "PMSWINC_EL0" ? 0n : this.#registers.get(storageOf(target));
    switch (target) {
      case "PMCR_EL0":
        this.#control(value);
        return;
      case "PMSWINC_EL0":
        this.#softwareIncrement(value);
        return;
      case "PMCNTENCLR_EL0":
      case "PMINTENCLR_EL1":
      case "PMOVSCLR_EL0":
        this.#registers.set(storageOf(target), old & ~value);
        return;
      case "PMCNTENSET_EL0":
      case "PMINTENSET_EL1":
      case "PMOVSSET_EL0":
        this.#registers.set(target, old | (value & this.#present));
        return;
      default:
        this.#registers.set(target, value & widthOf(target));
    }
  }

  #control(value: bigint): void {
    const registers = this.#registers;
    if ((value & PMCR.P) !== 0n) {
      for (let n = 0; n < (this.config?.counters ?? 0); n++) registers.set(counterName(n), 0n);
    }
    if ((value & PMCR.C) !== 0n) registers.set("PMCCNTR_EL0", 0n);
    registers.set("PMCR_EL0", (value & PMCR_KEPT) | PMCR.LC);
  }

  #softwareIncrement(value: bigint): void {
    const enabled = this.#enabled & value;
    for (let n = 0; n < (this.config?.counters ?? 0); n++) {
      const isMeant = (enabled & (1n << BigInt(n))) !== 0n;
      if (isMeant && this.#eventOf(n) === EVENT.SW_INCR) this.#add(n, 1n);
    }
  }

  /**
   * KVM_SET_ONE_REG: masks are set as they are written, by either of their two names, so that a
   * list that was read comes back in any order.
   */
  restore(name: string, value: bigint): void {
    const { storage } = PMU_BY_NAME.get(name)!;
    this.sync();
    if (storage === null) return;
    if (storage === "PMCR_EL0") this.#registers.set(storage, (value & PMCR_KEPT) | PMCR.LC);
    else if (isMask(storage)) this.#registers.set(storage, value & this.#present);
    else this.#registers.set(storage, value & widthOf(storage));
  }
}

function storageOf(name: string): string {
  return PMU_BY_NAME.get(name)?.storage ?? name;
}

function isMask(name: string): boolean {
  return name === "PMCNTENSET_EL0" || name === "PMINTENSET_EL1" || name === "PMOVSSET_EL0";
}

/** Bits of a register that is stored as it is written. */
function widthOf(name: string): bigint {
  if (name === "PMSELR_EL0") return SELECT;
  if (name === "PMUSERENR_EL0") return USERENR_MASK;
  if (name === "PMCCNTR_EL0") return MASK_64;
  if (name === "PMCCFILTR_EL0") return NOT_AT_EL1 | NOT_AT_EL0;
  return name.startsWith("PMEVTYPER") ? NOT_AT_EL1 | NOT_AT_EL0 | EVENT_MASK : MASK_32;
}

/** What KVM lists of the PMU: what is stored, and PMSWINC, which reads as zero. */
export function isListed({ name, storage }: PmuRegister): boolean {
  return storage !== null || name === "PMSWINC_EL0";
}

/** PMCR_EL0.N of a value. */
export function countersOf(pmcr: bigint): number {
  return Number((pmcr >> PMCR_N_SHIFT) & 0x1fn);
}
