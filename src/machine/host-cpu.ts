// Owns: one host CPU of a slice: EL2 registers, TLB, and the guest's accesses through stage 2.
// VM thread.
import { assert } from "../base/assert.js";
import type { PageGeometry } from "../base/page.js";
import type { Saved } from "../base/saved.js";
import type { HostMemory } from "./host-memory.js";
import { HI, LO, outputAddress } from "./mmu/descriptor.js";
import { decodeRegime, type Stage2Regime } from "./mmu/regime.js";
import { TLB_PERM, Tlb } from "./mmu/tlb.js";
import { emptyWalk, walkStage2 } from "./mmu/walk.js";

/** EL2 registers that KVM programs here; names as in the Arm ARM. */
export type El2Register = "HCR_EL2" | "VTCR_EL2" | "VTTBR_EL2";

/** HCR_EL2.VM: stage 2 on. */
export const HCR_VM = 1n;

export type FaultKind = "translation" | "permission" | "access-flag" | "address-size";

/** The syndrome of the last stage-2 abort; valid after translate() returned -1. */
export interface Stage2Fault {
  kind: FaultKind;
  level: number;
  /** Faulting IPA, exact. */
  ipa: number;
  isWrite: boolean;
}

export class HostCpu {
  readonly index: number;
  readonly tlb: Tlb;
  readonly fault: Stage2Fault = { kind: "translation", level: 0, ipa: 0, isWrite: false };
  /** Clean-to-dirty updates done by this CPU's MMU. */
  hardwareDirtied = 0;
  /** A statistic, no state: translated code may begin a walk that an abort makes it do again. */
  walks = 0;
  readonly #memory: HostMemory;
  readonly #geometry: PageGeometry;
  readonly #registers: Record<El2Register, bigint> = {
    HCR_EL2: 0n,
    VTCR_EL2: 0n,
    VTTBR_EL2: 0n,
  };
  readonly #walk = emptyWalk();
  #regime: Stage2Regime | null = null;

  constructor(index: number, memory: HostMemory, geometry: PageGeometry) {
    this.index = index;
    this.#memory = memory;
    this.#geometry = geometry;
    this.tlb = new Tlb(geometry);
  }

  /** MRS at EL2. */
  mrs(register: El2Register): bigint {
    return this.#registers[register];
  }

  /** MSR at EL2; takes effect for the next access (KVM's ISB is implied). */
  msr(register: El2Register, value: bigint): void {
    this.#registers[register] = value;
    this.#regime = null;
    this.tlb.walks.forget();
  }

  /** The regime in force; decoded at the first use after a register write. */
  regime(): Stage2Regime {
    if (this.#regime === null) {
      assert((this.#registers.HCR_EL2 & HCR_VM) !== 0n, "guest access with stage 2 off");
      this.#regime = decodeRegime(this.#registers.VTCR_EL2, this.#registers.VTTBR_EL2);
    }
    return this.#regime;
  }

  /**
   * Translates one guest access that does not cross a page.
   * @returns physical address, or -1 with `fault` set; a store returns only once the descriptor
   *   allows it, so the caller may commit without another look
   * @source dirty-tracking.md 1.4
   */
  translate(ipa: number, isWrite: boolean): number {
    const regime = this.#regime ?? this.regime();
    const size = this.#geometry.size;
    const page = Math.floor(ipa / size);
    const at = this.tlb.lookup(page, regime.vmid);
    if (at >= 0) {
      const perm = this.tlb.perms[at]!;
      const need = isWrite ? TLB_PERM.WRITE : TLB_PERM.READ;
      if ((perm & need) !== 0) return this.tlb.pages[at]! + (ipa - page * size);
      // A cached copy that forbids the store faults as it is, without another walk; only a
      // writable-clean copy sends the MMU back to memory.
      if (!isWrite || (perm & TLB_PERM.CLEAN) === 0) {
        return this.#abort("permission", this.tlb.levels[at]!, ipa, isWrite);
      }
    }
    return this.#walkAndFill(regime, ipa, page, isWrite);
  }

  #walkAndFill(regime: Stage2Regime, ipa: number, page: number, isWrite: boolean): number {
    if (ipa >= regime.ipaEnd) return this.#abort("address-size", 0, ipa, isWrite);
    const walk = this.#walk;
    this.walks++;
    walkStage2(this.#memory, regime, ipa, walk, this.tlb.walks);
    if (!walk.found) return this.#abort("translation", walk.level, ipa, isWrite);
    let lo = walk.lo;
    const hi = walk.hi;
    // The access-flag fault has priority over permission faults.
    if ((lo & LO.AF) === 0) {
      if (!regime.ha) return this.#abort("access-flag", walk.level, ipa, isWrite);
      lo |= LO.AF;
    }
    const managed = regime.ha && regime.hd && (hi & HI.DBM) !== 0;
    if (isWrite && (lo & LO.S2AP_WRITE) === 0) {
      if (!managed) return this.#abort("permission", walk.level, ipa, isWrite);
      // Clean to dirty; AF goes in with the same update, so "dirty with AF clear" is never seen.
      lo |= LO.S2AP_WRITE;
      this.hardwareDirtied++;
    } else if (!isWrite && (lo & LO.S2AP_READ) === 0) {
      return this.#abort("permission", walk.level, ipa, isWrite);
    }
    if (lo !== walk.lo) this.#memory.u32[walk.descriptorPa >>> 2] = lo;
    let perm = (lo & LO.S2AP_READ) !== 0 ? TLB_PERM.READ : 0;
    if ((lo & LO.S2AP_WRITE) !== 0) perm |= TLB_PERM.WRITE;
    else if (managed) perm |= TLB_PERM.CLEAN;
    const size = this.#geometry.size;
    let pagePa = outputAddress(lo, hi, walk.size);
    if (walk.level < 3) pagePa += (page * size) % walk.size;
    this.tlb.fill(page, regime.vmid, pagePa, perm, walk.level);
    return pagePa + (ipa - page * size);
  }

  #abort(kind: FaultKind, level: number, ipa: number, isWrite: boolean): -1 {
    const { fault } = this;
    fault.kind = kind;
    fault.level = level;
    fault.ipa = ipa;
    fault.isWrite = isWrite;
    return -1;
  }

  save(): Saved {
    const data = {
      registers: { ...this.#registers },
      tlb: this.tlb.save(),
      hardwareDirtied: this.hardwareDirtied,
    };
    return { kind: `host-cpu-${this.index}`, version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      registers: Record<El2Register, bigint>;
      tlb: Saved;
      hardwareDirtied: number;
    };
    Object.assign(this.#registers, data.registers);
    this.tlb.load(data.tlb);
    this.hardwareDirtied = data.hardwareDirtied;
    this.#regime = null;
  }
}
