// Owns: which leaves carry DBM, and what becomes of blocks while hardware logs. VM thread.
// @source dirty-tracking.md 2.6, 4.7 (hdbss.dbm, hdbss.split)
import { isLogging, isReadOnly, type Memslot } from "../memslots.js";
import type { Vm } from "../vm.js";

/** What becomes of DBM when a block loses write permission. */
export type BlockRule = "strip" | "keep" | "set";

/** system_supports_hdbss, for this VM: CPU, EL3 firmware and kernel allow it. */
export function hasHdbss({ host, policies }: Vm): boolean {
  const { model } = host;
  const isNested = policies["nested.hacdbs"] === "emulated";
  if (isNested && policies["hdbss.nested"] === "off-if-NV") return false;
  return model["hardware.hdbss"] && model["hardware.scrHdbssEn"] && model["hardware.vhe"];
}

/**
 * A block that hardware manages has one entry for all of its pages. Never with a ring, which such
 * an entry would overflow, nor where a scan looks for dirty pages: it looks at pages alone.
 */
export function blockRule({ policies, caps, config, isHdbssOn }: Vm): BlockRule {
  if (caps.dirtyRingBytes !== 0 || config.dirtyTracking === "dbm") return "strip";
  const split = policies["hdbss.split"];
  if (split === "expand-ttwl") return isHdbssOn ? "set" : "keep";
  return split === "none" ? "keep" : "strip";
}

/** Whether pages that lose write permission become writable-clean, whatever they were. */
export function addsDbm(vm: Vm, slot: Memslot): boolean {
  if (isReadOnly(slot)) return false;
  if (vm.isDbm) return true;
  return vm.isHdbssOn && vm.policies["hdbss.dbm"] !== "on-write-fault-while-logging";
}

/** Chunk of eager splitting: the capability's, or one page where a policy says so. */
export function eagerSplitChunk(vm: Vm): bigint {
  const { caps, policies, host, seedBugs } = vm;
  if (caps.eagerSplitChunkSize !== 0n) return caps.eagerSplitChunkSize;
  if (vm.isHdbssOn && policies["hdbss.split"] === "forced-page-size") return BigInt(vm.pageSize);
  if (policies["dirtyLog.eagerSplit"] !== "forced-page-size") return 0n;
  const { "hardware.hacdbs": hasHacdbs } = host.model;
  const has = seedBugs.has("D15") ? hasHacdbs : hasHacdbs || hasHdbss(vm);
  return has ? BigInt(vm.pageSize) : 0n;
}

/** What a leaf maps: pages together, and whether they are a device's. */
export interface Mapped {
  readonly span: number;
  readonly isDevice?: boolean;
}

/**
 * Whether a leaf that is made or relaxed opts into hardware dirty management.
 * @param writable whether it gets write permission now
 */
export function carriesDbm(vm: Vm, slot: Memslot, writable: boolean, leaf: Mapped): boolean {
  if (isReadOnly(slot)) return false;
  if (leaf.isDevice === true && !vm.seedBugs.has("B20")) return false;
  if (vm.isDbm && isLogging(slot)) return true;
  const policy = vm.policies["hdbss.dbm"];
  if (policy === "on-write-fault-while-logging") {
    return vm.isHdbssOn && writable && isLogging(slot);
  }
  if (!hasHdbss(vm)) return false;
  return leaf.span === 1 || (policy !== "pte-sized-from-start" && blockRule(vm) !== "strip");
}
