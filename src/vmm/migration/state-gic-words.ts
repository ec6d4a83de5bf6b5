// Owns: the registers of a vGIC that are state, by device attributes, in the order in which they
// are restored. VM thread. @source interrupts.md 7.1, 7.2; kvm-uapi.md 12.1, 12.3
import type { KvmDevice } from "../../kvm/index.js";
import { attribute, GROUP, getU32, getU64, setU32, setU64 } from "../device-attributes.js";
import { GICD, GICR, PLPIS, SGI_FRAME } from "../gic-offsets.table.js";

/** One word: where it is read, and what is written first where a set alone can't take away. */
interface Word {
  readonly offset: number;
  readonly clears?: number;
}

const ALL = 0xffff_ffff;
const PRIVATE = 32;
const SGIS = 16;
/** CTLR, PMR, BPR, ABPR, APR0. */
const GICC_OFFSETS = [0x00, 0x04, 0x08, 0x1c, 0xd0];
const GICC: readonly Word[] = GICC_OFFSETS.map((offset) => ({ offset }));
/** SRE, CTLR, PMR, BPR0, BPR1, AP0R0, AP1R0, IGRPEN0, IGRPEN1. */
const ICC: readonly number[] = [
  0xc665, 0xc664, 0xc230, 0xc643, 0xc663, 0xc644, 0xc648, 0xc666, 0xc667,
];

/** Of every 32 interrupts of a range, by what a GIC of either version has of each. */
function ofRange(first: number, end: number, isV2: boolean): Word[] {
  const words: Word[] = [];
  for (let irq = first; irq < end; irq += 32) {
    const bit = irq / 8;
    const rest = { offset: GICD.ISPENDR + bit };
    // A line that is a level must be known as one before it is pending.
    for (let at = irq; at < irq + 32; at += 16) {
      if (at >= SGIS) words.push({ offset: GICD.ICFGR + at / 4 });
    }
    words.push({ offset: GICD.IGROUPR + bit });
    for (let at = irq; at < irq + 32; at += 4) words.push({ offset: GICD.IPRIORITYR + at });
    words.push({ offset: GICD.ISENABLER + bit, clears: GICD.ICENABLER + bit });
    // A GICv3 is told all of what is latched by ISPENDR itself.
    words.push(isV2 ? { ...rest, clears: GICD.ICPENDR + bit } : rest);
    words.push({ offset: GICD.ISACTIVER + bit, clears: GICD.ICACTIVER + bit });
  }
  return words;
}

function sharedV2(irqs: number): Word[] {
  const words = ofRange(PRIVATE, irqs, true);
  for (let at = PRIVATE; at < irqs; at += 4) words.push({ offset: GICD.ITARGETSR + at });
  return words;
}

function bankedV2(): Word[] {
  const words = ofRange(0, PRIVATE, true);
  for (let at = 0; at < SGIS; at += 4) {
    words.push({ offset: GICD.SPENDSGIR + at, clears: GICD.CPENDSGIR + at });
  }
  return words;
}

function sharedV3(irqs: number): Word[] {
  const words: Word[] = [{ offset: GICD.STATUSR }];
  for (let at = PRIVATE; at < irqs; at++) {
    words.push({ offset: GICD.IROUTER + at * 8 }, { offset: GICD.IROUTER + at * 8 + 4 });
  }
  return [...words, ...ofRange(PRIVATE, irqs, false)];
}

/** PROPBASER and PENDBASER before EnableLPIs: it reads the pending table. */
const REDIST_LPIS: readonly Word[] = [
  ...[GICR.PROPBASER, GICR.PENDBASER].flatMap((at) => [{ offset: at }, { offset: at + 4 }]),
  { offset: GICR.CTLR },
];
const REDIST: readonly Word[] = [
  { offset: GICR.STATUSR },
  ...ofRange(0, PRIVATE, false).map(({ offset, clears }) => ({
    offset: SGI_FRAME + offset,
    ...(clears === undefined ? {} : { clears: SGI_FRAME + clears }),
  })),
];

/** A register file of one CPU, or the distributor's. */
interface Bank {
  readonly device: KvmDevice;
  readonly group: number;
  /** vCPU id, or affinity. */
  readonly who: number;
}

function read({ device, group, who }: Bank, words: readonly Word[]): Uint32Array {
  return Uint32Array.from(words, ({ offset }) => getU32(device, group, attribute(who, offset)));
}

function write({ device, group, who }: Bank, words: readonly Word[], values: Uint32Array): void {
  for (const [at, { offset, clears }] of words.entries()) {
    if (clears !== undefined) setU32(device, group, attribute(who, clears), ALL);
    setU32(device, group, attribute(who, offset), values[at] ?? 0);
  }
}

// ── GICv2 ─────────────────────────────────────────────────────────────────────────────────────

export interface GicV2Words {
  readonly iidr: number;
  readonly ctlr: number;
  readonly shared: Uint32Array;
  /** By creation order of the vCPUs. */
  readonly cpus: readonly { readonly banked: Uint32Array; readonly face: Uint32Array }[];
}

/** @param ids of the vCPUs, in the order of their creation */
export function readGicV2(device: KvmDevice, ids: readonly number[], irqs: number): GicV2Words {
  const dist = (who: number): Bank => ({ device, group: GROUP.DIST, who });
  const first = dist(ids[0] ?? 0);
  return {
    iidr: getU32(device, GROUP.DIST, attribute(first.who, GICD.IIDR)),
    ctlr: getU32(device, GROUP.DIST, attribute(first.who, GICD.CTLR)),
    shared: read(first, sharedV2(irqs)),
    cpus: ids.map((who) => ({
      banked: read(dist(who), bankedV2()),
      face: read({ device, group: GROUP.CPU, who }, GICC),
    })),
  };
}

/** IIDR first, or groups aren't userspace's to write; GICD_CTLR last. @throws KvmError */
export function writeGicV2(
  device: KvmDevice,
  ids: readonly number[],
  irqs: number,
  words: GicV2Words,
): void {
  const dist = (who: number): Bank => ({ device, group: GROUP.DIST, who });
  const first = ids[0] ?? 0;
  setU32(device, GROUP.DIST, attribute(first, GICD.IIDR), words.iidr);
  write(dist(first), sharedV2(irqs), words.shared);
  for (const [index, who] of ids.entries()) {
    const cpu = words.cpus[index];
    if (cpu === undefined) continue;
    write(dist(who), bankedV2(), cpu.banked);
    write({ device, group: GROUP.CPU, who }, GICC, cpu.face);
  }
  setU32(device, GROUP.DIST, attribute(first, GICD.CTLR), words.ctlr);
}

// ── GICv3 ─────────────────────────────────────────────────────────────────────────────────────

export interface GicV3Words {
  readonly iidr: number;
  readonly ctlr: number;
  readonly shared: Uint32Array;
  /** Lines of SPIs, 32 in a word. */
  readonly lines: Uint32Array;
  /** By creation order of the vCPUs. */
  readonly cpus: readonly {
    /** null: the redistributor has no LPIs. */
    readonly lpis: Uint32Array | null;
    readonly redist: Uint32Array;
    readonly lines: number;
    readonly icc: BigUint64Array;
  }[];
}

function lineWords(irqs: number): number[] {
  return Array.from({ length: (irqs - PRIVATE) / 32 }, (_, n) => PRIVATE + 32 * n);
}

/** @param affinities of the vCPUs, in the order of their creation */
export function readGicV3(
  device: KvmDevice,
  affinities: readonly number[],
  irqs: number,
): GicV3Words {
  const first: Bank = { device, group: GROUP.DIST, who: affinities[0] ?? 0 };
  const line = (who: number, irq: number) => getU32(device, GROUP.LEVEL, attribute(who, irq));
  return {
    iidr: getU32(device, GROUP.DIST, attribute(0, GICD.IIDR)),
    ctlr: getU32(device, GROUP.DIST, attribute(0, GICD.CTLR)),
    shared: read(first, sharedV3(irqs)),
    lines: Uint32Array.from(lineWords(irqs), (irq) => line(first.who, irq)),
    cpus: affinities.map((who) => {
      const bank: Bank = { device, group: GROUP.REDIST, who };
      const hasLpis = (getU32(device, GROUP.REDIST, attribute(who, GICR.TYPER)) & PLPIS) !== 0;
      return {
        lpis: hasLpis ? read(bank, REDIST_LPIS) : null,
        redist: read(bank, REDIST),
        lines: line(who, 0),
        icc: BigUint64Array.from(ICC, (reg) => getU64(device, GROUP.SYSREG, attribute(who, reg))),
      };
    }),
  };
}

/** Revision, distributor, redistributors, lines, then CPU interfaces. @throws KvmError */
export function writeGicV3(
  device: KvmDevice,
  affinities: readonly number[],
  irqs: number,
  words: GicV3Words,
): void {
  const who = affinities[0] ?? 0;
  setU32(device, GROUP.DIST, attribute(0, GICD.IIDR), words.iidr);
  setU32(device, GROUP.DIST, attribute(0, GICD.CTLR), words.ctlr);
  const redist = (affinity: number): Bank => ({ device, group: GROUP.REDIST, who: affinity });
  for (const [index, affinity] of affinities.entries()) {
    const lpis = words.cpus[index]?.lpis ?? null;
    if (lpis !== null) write(redist(affinity), REDIST_LPIS, lpis);
  }
  for (const [index, affinity] of affinities.entries()) {
    const cpu = words.cpus[index];
    if (cpu !== undefined) write(redist(affinity), REDIST, cpu.redist);
  }
  write({ device, group: GROUP.DIST, who }, sharedV3(irqs), words.shared);
  for (const [at, irq] of lineWords(irqs).entries()) {
    setU32(device, GROUP.LEVEL, attribute(who, irq), words.lines[at] ?? 0);
  }
  for (const [index, affinity] of affinities.entries()) {
    const cpu = words.cpus[index];
    if (cpu === undefined) continue;
    setU32(device, GROUP.LEVEL, attribute(affinity, 0), cpu.lines);
    for (const [at, reg] of ICC.entries()) {
      setU64(device, GROUP.SYSREG, attribute(affinity, reg), cpu.icc[at] ?? 0n);
    }
  }
}

// ── ITS ───────────────────────────────────────────────────────────────────────────────────────

/**
 * IIDR, CBASER, CREADR, BASER0, BASER1, CWRITER. CBASER zeroes the two that are places in its
 * queue; GITS_CTLR comes last of all, after RESTORE_TABLES.
 */
const ITS_WORDS: readonly number[] = [0x4, 0x80, 0x90, 0x100, 0x108, 0x88];
const GITS_CTLR = 0n;

export function readIts(device: KvmDevice): BigUint64Array {
  const offsets = [...ITS_WORDS.map(BigInt), GITS_CTLR];
  return BigUint64Array.from(offsets, (at) => getU64(device, GROUP.ITS, at));
}

/** @param restore makes the mappings from the tables in guest memory; @throws KvmError */
export function writeIts(device: KvmDevice, words: BigUint64Array, restore: () => void): void {
  for (const [at, offset] of ITS_WORDS.entries()) {
    setU64(device, GROUP.ITS, BigInt(offset), words[at] ?? 0n);
  }
  restore();
  setU64(device, GROUP.ITS, GITS_CTLR, words[ITS_WORDS.length] ?? 0n);
}
