// Owns: one host CPU of a slice: EL2 registers, TLB, dirty hardware, the guest's accesses through
// stage 2. VM thread.
import { assert } from "../base/assert.js";
import type { PageGeometry } from "../base/page.js";
import type { Saved } from "../base/saved.js";
import { HacdbsUnit } from "./dirty/hacdbs.js";
import { type DirtyDeps, HdbssUnit } from "./dirty/hdbss.js";
import { CpuInterface } from "./gic/gicv5/cpu-interface.js";
import type { Irs } from "./gic/gicv5/irs.js";
import { VirtualInterface } from "./gic/virtual-interface.js";
import type { HostMemory } from "./host-memory.js";
import { HI, LO, outputAddress } from "./mmu/descriptor.js";
import { decodeRegime, type Stage2Regime } from "./mmu/regime.js";
import { TLB_PERM, Tlb } from "./mmu/tlb.js";
import { emptyWalk, type WalkResult, walkStage2 } from "./mmu/walk.js";

/** EL2 registers that KVM programs here; names as in the Arm ARM. */
export type El2Register = "HCR_EL2" | "VTCR_EL2" | "VTTBR_EL2";

/** Registers of FEAT_HDBSS and FEAT_HACDBS. */
export type DirtyRegister = "HDBSSBR_EL2" | "HDBSSPROD_EL2" | "HACDBSBR_EL2" | "HACDBSCONS_EL2";

/** HCR_EL2.VM: stage 2 on. */
export const HCR_VM = 1n;

/** The last two come from HDBSS's own write of an entry. */
export type FaultKind =
  | "translation"
  | "permission"
  | "access-flag"
  | "address-size"
  | "external-abort"
  | "gpf";

/** The syndrome of the last stage-2 abort; valid after translate() returned -1. */
export interface Stage2Fault {
  kind: FaultKind;
  level: number;
  /** Faulting IPA, exact. */
  ipa: number;
  isWrite: boolean;
  /** ESR_EL2.ISS2.HDBSSF: the entry could not be appended. */
  hdbssf: boolean;
}

export class HostCpu {
  readonly index: number;
  readonly tlb: Tlb;
  readonly hdbss: HdbssUnit;
  readonly hacdbs: HacdbsUnit;
  readonly gic = new VirtualInterface();
  /** What a GICv5 guest has instead. */
  readonly gicv5: CpuInterface;
  readonly fault: Stage2Fault = {
    kind: "translation",
    level: 0,
    ipa: 0,
    isWrite: false,
    hdbssf: false,
  };
  /** Whose guest context is loaded; -1 for nobody's. */
  vcpuId = -1;
  /** HCR_EL2.VM was written, and no ISB came after it. */
  isUnsynchronised = false;
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

  readonly #dirty: DirtyDeps;
  /** Whether the features are there for EL2: the CPU has them and EL3 lets them be used. */
  readonly #hasHdbss: boolean;

  constructor(
    index: number,
    memory: HostMemory,
    geometry: PageGeometry,
    dirty: DirtyDeps,
    irs: Irs,
  ) {
    this.index = index;
    this.gicv5 = new CpuInterface(irs);
    this.#memory = memory;
    this.#geometry = geometry;
    this.#dirty = dirty;
    this.#hasHdbss = dirty.model["hardware.hdbss"] && dirty.model["hardware.scrHdbssEn"];
    this.tlb = new Tlb(geometry);
    this.hdbss = new HdbssUnit(dirty);
    this.hacdbs = new HacdbsUnit(dirty, {
      regime: () => this.#loadedRegime(),
      cpu: this,
    });
  }

  /** MRS at EL2. */
  mrs(register: El2Register | DirtyRegister): bigint {
    this.#mustExist(register);
    switch (register) {
      case "HDBSSBR_EL2":
        return this.hdbss.br;
      case "HDBSSPROD_EL2":
        return this.hdbss.prod;
      case "HACDBSBR_EL2":
        return this.hacdbs.br;
      case "HACDBSCONS_EL2":
        return this.hacdbs.cons;
      default:
        return this.#registers[register];
    }
  }

  /**
   * MSR at EL2; takes effect for the next access of the guest (KVM's ISB is implied). For HACDBS,
   * HCR_EL2 takes effect with isb().
   */
  msr(register: El2Register | DirtyRegister, value: bigint): void {
    this.#mustExist(register);
    switch (register) {
      case "HDBSSBR_EL2":
        this.hdbss.br = value;
        return;
      case "HDBSSPROD_EL2":
        this.hdbss.prod = value;
        return;
      case "HACDBSBR_EL2":
        this.hacdbs.br = value;
        return;
      case "HACDBSCONS_EL2":
        this.hacdbs.cons = value;
        return;
      case "HCR_EL2":
        if (((this.#registers.HCR_EL2 ^ value) & HCR_VM) !== 0n) this.isUnsynchronised = true;
    }
    this.#registers[register] = value;
    this.#regime = null;
    this.tlb.walks.forget();
  }

  /** A register of a feature that the CPU lacks is UNDEFINED. */
  #mustExist(register: El2Register | DirtyRegister): void {
    const { model } = this.#dirty;
    if (register.startsWith("HDBSS")) assert(model["hardware.hdbss"], "the CPU has HDBSS");
    if (register.startsWith("HACDBS")) assert(model["hardware.hacdbs"], "the CPU has HACDBS");
  }

  /** Context synchronisation. */
  isb(): void {
    this.isUnsynchronised = false;
  }

  /** Entries of HDBSS are in memory, and what HACDBS had under way is over. */
  dsb(): void {
    this.hdbss.dsb();
    this.hacdbs.dsb();
  }

  #loadedRegime(): Stage2Regime | null {
    return (this.#registers.HCR_EL2 & HCR_VM) === 0n ? null : this.regime();
  }

  /** The regime in force; decoded at the first use after a register write. */
  regime(): Stage2Regime {
    if (this.#regime === null) {
      assert((this.#registers.HCR_EL2 & HCR_VM) !== 0n, "guest access with stage 2 off");
      this.#regime = decodeRegime(this.#registers.VTCR_EL2, this.#registers.VTTBR_EL2);
      const { ha, hd, hdbss } = this.#regime;
      if (hdbss && !(ha && hd)) {
        const { VTCR_EL2 } = this.#registers;
        const detail = `0x${VTCR_EL2.toString(16)}`;
        this.#dirty.diagnostics.report("illegal-vtcr-combination", detail);
      }
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

  /** A store that another fault kills may dirty its page all the same. */
  get dirtiesSpuriously(): boolean {
    return this.#dirty.model["hardware.spuriousDirty"];
  }

  /** Whether the next clean-to-dirty update may be refused, or go wrong as somebody asked for. */
  get mayRefuseDirty(): boolean {
    const isOn = (this.#regime ?? this.regime()).hdbss && this.#hasHdbss;
    return isOn && (this.#dirty.faults.isArmed || this.hdbss.isBlocked);
  }

  /**
   * AT S12E1R or S12E1W: what an access would meet, by TLB and tables. No dirty state changes, no
   * entry is written, no access flag is set.
   * @returns physical address, or -1 with `fault` set
   * @source R_ZYGHJ
   */
  at(ipa: number, isWrite: boolean): number {
    const regime = this.#regime ?? this.regime();
    const size = this.#geometry.size;
    const page = Math.floor(ipa / size);
    const hit = this.tlb.lookup(page, regime.vmid);
    if (hit >= 0) {
      const perm = this.tlb.perms[hit]!;
      const need = isWrite ? TLB_PERM.WRITE : TLB_PERM.READ;
      if ((perm & need) !== 0) return this.tlb.pages[hit]! + (ipa - page * size);
      if (!isWrite || (perm & TLB_PERM.CLEAN) === 0) {
        return this.#abort("permission", this.tlb.levels[hit]!, ipa, isWrite);
      }
    }
    if (ipa >= regime.ipaEnd) return this.#abort("address-size", 0, ipa, isWrite);
    const walk = this.#walk;
    walkStage2(this.#memory, regime, ipa, walk, this.tlb.walks);
    const { found, level, lo, hi } = walk;
    if (!found) return this.#abort("translation", level, ipa, isWrite);
    if ((lo & LO.AF) === 0 && !regime.ha) return this.#abort("access-flag", level, ipa, isWrite);
    const isManaged = regime.ha && regime.hd && (hi & HI.DBM) !== 0;
    const isFull = regime.hdbss && this.#hasHdbss && this.hdbss.isBlocked;
    const mayWrite = (lo & LO.S2AP_WRITE) !== 0 || (isManaged && !isFull);
    if (isWrite ? !mayWrite : (lo & LO.S2AP_READ) === 0) {
      return this.#abort("permission", level, ipa, isWrite);
    }
    return outputAddress(lo, hi, walk.size) + (ipa % walk.size);
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
      if (regime.hdbss && this.#hasHdbss && !this.#append(ipa, walk)) return -1;
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

  /** The entry goes in before the descriptor changes. @returns false with `fault` set */
  #append(ipa: number, { level, size }: WalkResult): boolean {
    const done = this.hdbss.append(ipa, level, size, this.vcpuId);
    if (done === "appended" || done === "lost") return true;
    let kind: FaultKind = "permission";
    if (done === "abort") kind = "external-abort";
    else if (done === "gpf") kind = "gpf";
    this.#abort(kind, level, ipa, true);
    this.fault.hdbssf = true;
    return false;
  }

  #abort(kind: FaultKind, level: number, ipa: number, isWrite: boolean): -1 {
    const { fault } = this;
    fault.hdbssf = false;
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
      vcpuId: this.vcpuId,
      isUnsynchronised: this.isUnsynchronised,
      hdbss: this.hdbss.save(),
      hacdbs: this.hacdbs.save(),
      gic: this.gic.save(),
      gicv5: this.gicv5.save(),
    };
    return { kind: `host-cpu-${this.index}`, version: 1, data };
  }

  load(saved: Saved): void {
    const data = saved.data as {
      registers: Record<El2Register, bigint>;
      tlb: Saved;
      hardwareDirtied: number;
      vcpuId: number;
      isUnsynchronised: boolean;
      hdbss: Saved;
      hacdbs: Saved;
      gic: Saved;
      gicv5: Saved;
    };
    Object.assign(this.#registers, data.registers);
    this.tlb.load(data.tlb);
    this.hardwareDirtied = data.hardwareDirtied;
    this.vcpuId = data.vcpuId;
    this.isUnsynchronised = data.isUnsynchronised;
    this.hdbss.load(data.hdbss);
    this.hacdbs.load(data.hacdbs);
    this.gic.load(data.gic);
    this.gicv5.load(data.gicv5);
    this.#regime = null;
  }
}
