// Owns: a PE's way to memory: what code in WebAssembly asks when its TLB and jump cache don't know.
// VM thread.
//
//   va ─ alignment ─ stage 1 ─ stage 2 ─ watchpoints ─▶ host page ─ TLB of the window
//                └─ abort to EL1   └─ abort to EL2: the run is left, KVM decides
//
// A write tag goes into the window's TLB only after stage 2 has let a store pass (which marks the
// page dirty), and never for a page of decoded code: such a store comes here, and the code is
// dropped first. Device memory and checked alignment never get a tag.
import type { HostMemory } from "../../host-memory.js";
import { UNBACKED_BASE } from "../../host-memory.js";
import type { CodeCache } from "../code-cache.js";
import {
  BOUNCE,
  PC,
  SLOW,
  SLOW_ELEMENT_SHIFT,
  TLB,
  TLB_ADDEND,
  TLB_BANK_BYTES,
  TLB_BANKS,
  TLB_ENTRIES,
  TLB_ENTRY_BYTES,
  TLB_GENERATION,
  TLB_PAGE_SHIFT,
  TLB_READ,
  TLB_WRITE,
} from "../window.js";
import {
  type AskedStage2,
  decodeStage1,
  newStage1Result,
  type Stage1Regime,
  type Stage1Registers,
  translateStage1,
  untaggedHigh,
} from "./stage1.js";
import { FSC, SCTLR } from "./stage1.table.js";

const PAGE = 2 ** TLB_PAGE_SHIFT;
const IN_PAGE = PAGE - 1;
/** What is remembered of larger mappings: 2 MiB regions. */
const REGION_SHIFT = 21;
const REGION = 2 ** REGION_SHIFT;
const RANGES_MAX = 16;
/** Regions noted last that are found without a set, a power of two. */
const NOTED = 256;
/** Eras that a page's stamp can tell apart. */
const ERAS = 2 ** 16;
/** Generations that fit the top bits of a tag. */
const GENERATIONS = 2 ** (TLB_PAGE_SHIFT - 1);
const GENERATION_SHIFT = 32 - TLB_PAGE_SHIFT;
/** Bits of the page in the upper word of a tag. */
const PAGE_HIGH = 2 ** GENERATION_SHIFT - 1;

/** Regions from first to last. */
interface Range {
  readonly first: number;
  readonly last: number;
}

const NO_RANGE: Range = { first: 0, last: -1 };

/** An access that stage 2 refused; KVM maps, emulates, or gives it back to the guest. */
export interface Stage2Abort {
  readonly kind: "read" | "write" | "execute";
  readonly vaLow: number;
  readonly vaHigh: number;
  readonly bytes: number;
  /** Level of the stage-1 descriptor whose fetch or update it was (S1PTW), or null. */
  readonly walkLevel: number | null;
  /** Where stage 2 has a page but nothing answers there: its IPA; null for any other abort. */
  readonly externalIpa: number | null;
}

/** What the MMU needs of its PE. */
export interface MmuContext {
  /** Host address of the window. */
  readonly window: number;
  /** Stage 2 of the host CPU that the vCPU is loaded on. */
  readonly stage2: AskedStage2;
  readonly isPrivileged: boolean;
  stage1Registers(): Stage1Registers;
  /** Whether any watchpoint is enabled; then every access is asked about. */
  readonly watches: boolean;
  /** @returns whether a watchpoint exception was taken */
  watchpoint(
    vaLow: number,
    vaHigh: number,
    bytes: number,
    isWrite: boolean,
    isPrivileged: boolean,
  ): boolean;
  /** Takes a data or instruction abort to EL1. */
  abort(kind: "read" | "write" | "execute", fsc: number, vaLow: number, vaHigh: number): void;
  misalignedPc(vaLow: number, vaHigh: number): void;
  misalignedSp(): void;
  /** @returns whether it was answered at once: stage 2 is to be asked again */
  stage2Abort(abort: Stage2Abort): boolean;
  /** Code at this host page was decoded: no TLB of the VM may keep a write tag for it. */
  codeDecoded(page: number): void;
  /** Code at this host page was dropped: no jump cache of the VM may keep its records. */
  codeDropped(page: number): void;
}

export class PeMmu {
  readonly #memory: HostMemory;
  readonly #cache: CodeCache;
  readonly #pe: MmuContext;
  readonly #result = newStage1Result();
  #regime: Stage1Regime | null = null;
  #sctlr = 0;
  /** The access is tier 1's attempt: where it fails, nothing has happened. */
  #isAttempt = false;
  /** Of the access that is under way. */
  #isAligned = true;
  #generation = 0;
  /** For each host page the era in which an entry let stores through to it; 0: in none. */
  readonly #stored = new Uint16Array(UNBACKED_BASE / PAGE);
  /** Entries of earlier eras are gone. */
  #era = 1;
  /** Regions of 2 MiB in which pages of larger mappings are cached: none of them goes alone. */
  readonly #blocks = new Set<number>();
  /** Of these, the ones noted last, by their low bits: spares a look into the set. */
  readonly #noted = new Float64Array(NOTED).fill(-1);
  /** The same for still larger ones: first and last region. */
  #ranges: Range[] = [];
  /** Of these, the newest. */
  #range: Range = NO_RANGE;
  /** Something is cached that no address finds: too many of these, or one with an address tag. */
  #isCoarse = false;
  /** Where a store that crosses a page goes. */
  #bounced = { first: 0, second: 0, room: 0, bytes: 0 };

  constructor(memory: HostMemory, cache: CodeCache, pe: MmuContext) {
    this.#memory = memory;
    this.#cache = cache;
    this.#pe = pe;
    this.clear();
  }

  /** After a write to SCTLR, TCR, TTBRn or MAIR: the next access decodes them anew. */
  registersChanged(): void {
    this.#regime = null;
    this.invalidate();
  }

  /** Forgets every cached translation of this PE. */
  invalidate(): void {
    this.#regime?.walks.forget();
    if (this.#blocks.size > 0) {
      this.#blocks.clear();
      this.#noted.fill(-1);
    }
    if (this.#ranges.length > 0) this.#ranges = [];
    this.#range = NO_RANGE;
    this.#isCoarse = false;
    this.#era++;
    if (this.#era === ERAS) {
      this.#stored.fill(0);
      this.#era = 1;
    }
    this.#generation++;
    if (this.#generation === GENERATIONS) this.clear();
    const at = (this.#pe.window + TLB_GENERATION) / 4;
    this.#memory.u32[at] = 0;
    this.#memory.u32[at + 1] = this.#generation << GENERATION_SHIFT;
  }

  /**
   * Forgets what is cached for the page of an address, whatever its ASID.
   * @returns false: more may have to go, and nothing was done
   */
  invalidatePage(low: number, high: number, isLastLevel: boolean): boolean {
    const region = regionOf(low, high);
    if (this.#isCoarse || this.#blocks.has(region) || this.#isInRange(region)) return false;
    if (!isLastLevel) this.#regime?.walks.forget();
    const { u32 } = this.#memory;
    const [pageLow, pageHigh] = [tagLow(low, high) >>> 0, high >>> TLB_PAGE_SHIFT];
    const index = indexOf(low, high);
    for (let bank = 0; bank < TLB_BANKS; bank++) {
      const at = (this.#pe.window + TLB + bank * TLB_BANK_BYTES + index * TLB_ENTRY_BYTES) / 4;
      if (u32[at] !== pageLow || (u32[at + 1]! & PAGE_HIGH) !== pageHigh) continue;
      u32.fill(0xffff_ffff, at + TLB_READ / 4, at + TLB_WRITE / 4 + 2);
    }
    return true;
  }

  #isInRange(region: number): boolean {
    return this.#ranges.some(({ first, last }) => region >= first && region <= last);
  }

  /** One of its pages is cached from now on. */
  #noteBlock(region: number, span: number): void {
    if (span <= REGION) {
      const at = region & (NOTED - 1);
      if (this.#noted[at] === region) return;
      this.#noted[at] = region;
      this.#blocks.add(region);
      return;
    }
    const { first: lowest, last: highest } = this.#range;
    if ((region >= lowest && region <= highest) || this.#isInRange(region)) return;
    const count = span / REGION;
    const first = region - (region % count);
    this.#range = { first, last: first + count - 1 };
    this.#ranges.push(this.#range);
    if (this.#ranges.length > RANGES_MAX) this.#isCoarse = true;
  }

  /** A page's code is about to be decoded: no store goes there unnoticed from now on. */
  pageDecoded(page: number): void {
    if (this.#stored[page / PAGE] === this.#era) this.invalidate();
  }

  /** Forgets every cached translation by its bytes. */
  clear(): void {
    const { u8, u32 } = this.#memory;
    const { window } = this.#pe;
    // Tags of all ones belong to no generation.
    u8.fill(0xff, window + TLB, window + TLB + 2 * TLB_BANK_BYTES);
    this.#generation = 0;
    u32[(window + TLB_GENERATION) / 4 + 1] = 0;
  }

  #stage1(): Stage1Regime {
    if (this.#regime === null) {
      const registers = this.#pe.stage1Registers();
      this.#regime = decodeStage1(registers);
      this.#sctlr = Number(registers.sctlr & 0xffff_ffffn);
    }
    return this.#regime;
  }

  /** CoreHooks.fetchPage. */
  fetchPage(low: number, high: number): number {
    const untagged = untaggedHigh(this.#stage1(), high);
    if (untagged !== high) this.#memory.u32[(this.#pe.window + PC) / 4 + 1] = untagged;
    if ((low & 3) !== 0) {
      this.#pe.misalignedPc(low, untagged);
      return -1;
    }
    const host = this.#translate(low, untagged, "execute", this.#pe.isPrivileged, 4);
    if (host < 0) return -1;
    const page = host - (host & IN_PAGE);
    if (!this.#cache.has(page)) this.#pe.codeDecoded(page);
    return page;
  }

  /** CoreHooks.access. */
  access(low: number, high: number, flags: number): number {
    this.#isAttempt = (flags & SLOW.attempt) !== 0;
    const host = this.#access(low, high, flags);
    this.#isAttempt = false;
    return host;
  }

  #access(low: number, high: number, flags: number): number {
    const bytes = flags & SLOW.bytes;
    const regime = this.#stage1();
    if (bytes === 0) return this.#checkSp();
    const isWrite = (flags & SLOW.write) !== 0;
    const kind = isWrite ? "write" : "read";
    const element = 1 << ((flags >>> SLOW_ELEMENT_SHIFT) & 7);
    const isAligned = (low & (element - 1)) === 0;
    const checks = (flags & SLOW.aligned) !== 0 || (this.#sctlr & SCTLR.A) !== 0;
    if (checks && !isAligned) return this.#abort(kind, FSC.alignment, low, high);
    const room = PAGE - (low & IN_PAGE);
    if (this.#isAttempt && (bytes > room || this.#pe.watches || this.#mayRefuse())) return 0;
    const isPrivileged = this.#pe.isPrivileged && (flags & SLOW.unprivileged) === 0;
    this.#isAligned = isAligned;
    if (isWrite && this.#isKilled(low, high, isPrivileged, room, bytes)) return 0;
    const first = this.#translate(low, high, kind, isPrivileged, bytes);
    if (first < 0) return 0;
    const { device, writable } = this.#result;
    const { watches } = this.#pe;
    if (watches && this.#pe.watchpoint(low, high, bytes, isWrite, isPrivileged)) return 0;
    if (bytes > room) return this.#crossing(low, high, kind, isPrivileged, first, room, bytes);
    if (isWrite) this.#dropCode(first);
    const always = device || watches || (this.#sctlr & SCTLR.A) !== 0;
    if (!always && regime.enabled) this.#fill(low, high, isPrivileged, first, isWrite && writable);
    return first;
  }

  /** CoreHooks.commit: the two pieces of a store that crossed a page. */
  commit(): void {
    const { u8 } = this.#memory;
    const { first, second, room, bytes } = this.#bounced;
    const at = this.#pe.window + BOUNCE;
    u8.copyWithin(first, at, at + room);
    u8.copyWithin(second, at + room, at + bytes);
  }

  #checkSp(): number {
    const checked = this.#pe.isPrivileged ? SCTLR.SA : SCTLR.SA0;
    if ((this.#sctlr & checked) === 0) return 1;
    this.#pe.misalignedSp();
    return 0;
  }

  /** What an attempt may not decide: a refusal is told once. */
  #mayRefuse(): boolean {
    return this.#pe.stage2.mayRefuseDirty;
  }

  /**
   * Whether a store ends by a watchpoint, or by a fault of its second page. Asked before any dirty
   * state changes: only some hardware dirties pages for a store that is not done.
   */
  #isKilled(
    low: number,
    high: number,
    isPrivileged: boolean,
    room: number,
    bytes: number,
  ): boolean {
    const { watches, stage2 } = this.#pe;
    if ((!watches && bytes <= room) || stage2.dirtiesSpuriously) return false;
    if (!this.#mayStore(low, high, isPrivileged)) return false;
    if (watches && this.#pe.watchpoint(low, high, bytes, true, isPrivileged)) return true;
    if (bytes <= room) return false;
    const nextLow = (low + room) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    if (this.#mayStore(nextLow, nextHigh, isPrivileged)) return false;
    return this.#translate(nextLow, nextHigh, "write", isPrivileged, bytes - room) < 0;
  }

  /** Both stages, without an abort and with nothing dirtied. */
  #mayStore(low: number, high: number, isPrivileged: boolean): boolean {
    const { stage2 } = this.#pe;
    const result = this.#result;
    const regime = this.#stage1();
    const memory = this.#memory;
    const done = translateStage1(stage2, memory, regime, low, high, "check", isPrivileged, result);
    if (done !== "ok" || (result.device && !this.#isAligned)) return false;
    const pa = stage2.at(result.ipa, true);
    return pa >= 0 && pa < UNBACKED_BASE;
  }

  #crossing(
    low: number,
    high: number,
    kind: "read" | "write",
    isPrivileged: boolean,
    first: number,
    room: number,
    bytes: number,
  ): number {
    const nextLow = (low + room) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    const second = this.#translate(nextLow, nextHigh, kind, isPrivileged, bytes - room);
    if (second < 0) return 0;
    if (kind === "write") {
      this.#dropCode(first);
      this.#dropCode(second);
    }
    const { u8 } = this.#memory;
    const at = this.#pe.window + BOUNCE;
    u8.copyWithin(at, first, first + room);
    u8.copyWithin(at + room, second, second + bytes - room);
    this.#bounced = { first, second, room, bytes };
    return at;
  }

  #dropCode(host: number): void {
    if (!this.#cache.mayHaveCode(host)) return;
    const page = host - (host & IN_PAGE);
    if (this.#cache.drop(page)) this.#pe.codeDropped(page);
  }

  /** Both stages. @returns host address, or -1 after an abort was taken or left */
  #translate(
    low: number,
    high: number,
    kind: "read" | "write" | "execute",
    isPrivileged: boolean,
    bytes: number,
  ): number {
    const { stage2 } = this.#pe;
    const result = this.#result;
    const regime = this.#stage1();
    const memory = this.#memory;
    const done = translateStage1(stage2, memory, regime, low, high, kind, isPrivileged, result);
    if (done === "fault") {
      if (this.#isAttempt) return -1;
      this.#pe.abort(kind, result.fsc, low, high);
      return -1;
    }
    // Device memory is stage 1's word: its alignment fault comes before any of stage 2.
    if (done === "ok" && result.device && kind !== "execute" && !this.#isAligned) {
      this.#abort(kind, FSC.alignment, low, high);
      return -1;
    }
    for (;;) {
      if (done === "ok") {
        const pa = stage2.translate(result.ipa, kind === "write");
        if (pa >= 0 && pa < UNBACKED_BASE) return pa;
        // Code needs bytes to run from and to store to.
        result.external = pa >= 0;
      }
      if (this.#isAttempt) return -1;
      const { walk, level, external, ipa } = result;
      const walkLevel = walk ? level : null;
      const externalIpa = external ? ipa : null;
      const abort = { kind, vaLow: low, vaHigh: high, bytes, walkLevel, externalIpa };
      if (!this.#pe.stage2Abort(abort)) return -1;
    }
  }

  #abort(kind: "read" | "write", fsc: number, low: number, high: number): 0 {
    if (!this.#isAttempt) this.#pe.abort(kind, fsc, low, high);
    return 0;
  }

  #fill(low: number, high: number, isPrivileged: boolean, host: number, writes: boolean): void {
    const { u32 } = this.#memory;
    if (this.#result.span > PAGE) this.#noteBlock(regionOf(low, high), this.#result.span);
    const top = high >> 24;
    if (top !== 0 && top !== -1) this.#isCoarse = true;
    const pageLow = tagLow(low, high);
    const pageHigh = (high >>> TLB_PAGE_SHIFT) | (this.#generation << GENERATION_SHIFT);
    const index = indexOf(low, high);
    const bank = this.#pe.window + TLB + (isPrivileged ? TLB_BANK_BYTES : 0);
    const at = (bank + index * TLB_ENTRY_BYTES) / 4;
    const isSame = u32[at] === pageLow >>> 0 && u32[at + 1] === pageHigh >>> 0;
    u32[at + TLB_READ / 4] = pageLow;
    u32[at + TLB_READ / 4 + 1] = pageHigh;
    if (writes) {
      this.#stored[host >>> TLB_PAGE_SHIFT] = this.#era;
      u32[at + TLB_WRITE / 4] = pageLow;
      u32[at + TLB_WRITE / 4 + 1] = pageHigh;
    } else if (!isSame) {
      u32[at + TLB_WRITE / 4] = 0xffff_ffff;
      u32[at + TLB_WRITE / 4 + 1] = 0xffff_ffff;
    }
    u32[at + TLB_ADDEND / 4] = host - (low >>> 0);
  }
}

/** Lower word of a tag: bits of the page's number. */
function tagLow(low: number, high: number): number {
  return (low >>> TLB_PAGE_SHIFT) | (high << (32 - TLB_PAGE_SHIFT));
}

/** Place in a bank, as the inline lookup hashes: the page number, and itself shifted. */
function indexOf(low: number, high: number): number {
  const above = (high << (32 - 2 * TLB_PAGE_SHIFT)) | (low >>> (2 * TLB_PAGE_SHIFT));
  return (tagLow(low, high) ^ above) & (TLB_ENTRIES - 1);
}

function regionOf(low: number, high: number): number {
  return ((low >>> REGION_SHIFT) | (high << (32 - REGION_SHIFT))) >>> 0;
}
