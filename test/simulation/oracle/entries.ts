// What HDBSS has recorded and nobody has drained, and rules 3 to 5, seen from the silicon, its
// diagnostics and counters. Imports nothing of kvm.
//
//   INV-3: every entry is consumed exactly once: appended = drained + found invalid + still there.
//   INV-4: hardware writes only inside buffers of the vCPU that runs; no other mistake is told.
//   INV-5: with every vCPU out of RUN and after a sync, no entry and no bit is under way.
import type { Host } from "../../../src/machine/host.js";
import { decodeEntry, decodeProd, ENTRY_BYTES, entriesOf } from "../../../src/machine/index.js";

/** A vCPU's buffer while it isn't loaded, as KVM keeps it. */
export interface ParkedBuffer {
  readonly pa: number;
  readonly sz: number;
  readonly index: number;
  readonly fsc: number;
  /** Its registers are those of the CPU that the vCPU is loaded on. */
  readonly isLive: boolean;
}

export interface Undrained {
  /** Guest pages that entries name. */
  readonly pages: ReadonlySet<number>;
  /** Entries were lost: any page may be dirty, and a drain will say so. */
  readonly isAnyLost: boolean;
  readonly entries: number;
}

const BYTES_OF_SZ_0 = 4096; // tidy: the architecture's unit
/** Pages of entries that stand in no memory yet: weak ordering holds them back. */
interface Posted {
  readonly pa: number;
  readonly lo: number;
  readonly hi: number;
}

/** Looks at the buffers of all vCPUs, loaded or not. */
export function undrained(host: Host, parked: readonly (ParkedBuffer | null)[]): Undrained {
  const pages = new Set<number>();
  const { size, levelSizes } = host.geometry;
  const { u32 } = host.memory;
  let isAnyLost = false;
  let entries = 0;
  const add = (pa: number, posted: ReadonlyMap<number, Posted>): void => {
    const at = posted.get(pa);
    const entry = decodeEntry(at?.lo ?? u32[pa / 4]!, at?.hi ?? u32[pa / 4 + 1]!);
    if (!entry.valid || entry.level === null) return;
    const first = Math.floor(entry.ipa / size);
    const count = levelSizes[entry.level]! / size;
    for (let n = 0; n < count; n++) pages.add(first + n);
  };
  const read = (pa: number, index: number, posted: ReadonlyMap<number, Posted>): void => {
    entries += index;
    for (let n = 0; n < index; n++) add(pa + n * ENTRY_BYTES, posted);
  };
  for (const [vcpu, buffer] of parked.entries()) {
    if (buffer === null) continue;
    const capacity = entriesOf(buffer.sz);
    if (!buffer.isLive) {
      if (buffer.fsc !== 0) isAnyLost = true;
      read(buffer.pa, Math.min(buffer.index, capacity), new Map());
      continue;
    }
    const cpu = host.cpus.find(({ vcpuId }) => vcpuId === vcpu);
    if (cpu === undefined) continue;
    const { index, fsc } = decodeProd(cpu.mrs("HDBSSPROD_EL2"));
    if (fsc !== 0) isAnyLost = true;
    const { posted } = cpu.hdbss.save().data as { posted: readonly Posted[] };
    const base = buffer.pa - (buffer.pa % (BYTES_OF_SZ_0 * 2 ** buffer.sz));
    read(base, Math.min(index, capacity), new Map(posted.map((one) => [one.pa, one])));
  }
  return { pages, isAnyLost, entries };
}

/** Diagnostics that a client can bring about without any mistake of KVM's. */
const HARMLESS: readonly string[] = ["hdbss-misaligned-base"];

/** @returns the first mistake that the silicon was told of, as a sentence, or null */
export function mistake({ diagnostics }: Host): string | null {
  for (const [kind, count] of Object.entries(diagnostics.counts)) {
    if (HARMLESS.includes(kind)) continue;
    const last = diagnostics.last[kind as keyof typeof diagnostics.last];
    return `${count} time(s) ${kind}: ${last}`;
  }
  return null;
}

export interface Consumed {
  readonly drained: number;
  readonly invalid: number;
}

/** INV-3, while nothing is being drained. @returns what is wrong, or null */
export function uneven(host: Host, consumed: Consumed, entries: number): string | null {
  let appended = 0;
  for (const { hdbss } of host.cpus) appended += hdbss.appends;
  const { drained, invalid } = consumed;
  if (appended === drained + invalid + entries) return null;
  return `${appended} entries appended, ${drained} drained, ${invalid} invalid, ${entries} left`;
}
