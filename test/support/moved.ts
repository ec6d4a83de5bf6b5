// Owns: moving an inline VM to another host of the test's own process: state as bytes, memory by
// objects, other physical addresses there. The source goes on as the twin that never moved.
// Test process.
import { expect } from "vitest";
import { EventfdCounters } from "../../src/base/eventfd-counters.js";
import { Digest, type Saved } from "../../src/base/saved.js";
import { decodeSaved, encodeSaved } from "../../src/base/saved-codec.js";
import type { Kvm } from "../../src/kvm/index.js";
import { FLAG_N, FLAG_V, FLAG_Z } from "../../src/machine/a64/window.js";
import type { StateEventfd } from "../../src/vmm/commands.js";
import { Inline, type InlineOptions } from "./inline.js";

export const WHY = "It is being moved.";

export function hold(vm: Inline): { wasRunning: boolean } {
  return vm.call("holdVm", { hold: true, why: WHY });
}
export function letGo(vm: Inline): { wasRunning: boolean } {
  return vm.call("holdVm", { hold: false, why: "" });
}

/** Whatever is allocated next lies elsewhere than in another VM. */
export function displace(vm: Inline): void {
  const { host } = vm.kvm.vm;
  host.frames.allocate(37);
  host.unbacked.allocate(5 * vm.page, vm.page);
}

/** As service/rebuild.ts builds it: memory objects, slots, vCPUs. */
export function builtLike(from: Inline, options: InlineOptions = {}): Inline {
  const { definition } = from.instance;
  const built = new Inline({ ...definition, eventfds: EventfdCounters.create(64), ...options });
  displace(built);
  for (const { size, userspaceAddr, backing, hugePages } of from.call("listMemoryObjects", {})) {
    built.call("createMemoryObject", { size, userspaceAddr, backing, hugePages });
  }
  for (const slot of from.call("listMemslots", {})) built.call("setUserMemoryRegion", slot);
  for (const { id } of from.call("listVcpus", {})) built.vcpu(id);
  return built;
}

/** What a data plane does: bytes, and sequences where there are none. */
export function copyMemory(from: Inline, to: Inline): void {
  const [source, target] = [from, to].map((vm) => vm.call("describeMemory", {}));
  for (const [at, block] of source!.blocks.entries()) {
    const other = target!.blocks[at]!;
    if (block.backing === "ram") {
      const bytes = new Uint8Array(source!.memory.buffer, block.pa, block.bytes);
      new Uint8Array(target!.memory.buffer, other.pa, block.bytes).set(bytes);
      continue;
    }
    const count = block.bytes / source!.pageSize;
    const all = from.call("readSequences", { object: block.object, first: 0, count });
    const pages = Uint32Array.from([...all.keys()].filter((page) => all[page] !== 0));
    const sequences = pages.map((page) => all[page]!);
    to.call("writeSequences", { object: other.object, pages, sequences });
  }
}

export interface Taken {
  readonly parts: readonly Saved[];
  readonly eventfds: readonly StateEventfd[];
}

export function take(vm: Inline): Taken {
  const { parts, eventfds } = vm.call("saveState", {});
  return { parts: decodeSaved(encodeSaved(parts)), eventfds };
}

/** The same eventfds, by the same numbers, with what they count. */
function makeEventfds(to: Inline, eventfds: readonly StateEventfd[]): void {
  const wanted = new Map(eventfds.map(({ local, count }) => [local, count]));
  const last = Math.max(-1, ...wanted.keys());
  for (let index = 0; index <= last; index++) to.eventfds.create(wanted.get(index) ?? 0n);
}

/**
 * @param built alike, but for what its state brings
 * @returns `built`; both are held
 */
export function move<V extends Inline>(from: Inline, built: V): V {
  hold(from);
  hold(built);
  const { parts, eventfds } = take(from);
  makeEventfds(built, eventfds);
  copyMemory(from, built);
  built.call("loadState", { parts });
  return built;
}

function finish(op: Iterator<unknown>): void {
  while (op.next().done !== true);
}

/**
 * What a host decides by itself is made the same: whose turn it is, which pages are mapped. So two
 * VMs in the same state go on in the same steps.
 */
export function align(twin: Inline, moved: Inline): void {
  for (const vm of [twin, moved]) {
    const { regions, vm: own }: Kvm = vm.kvm;
    for (const slot of [...own.slots.list()]) {
      const region = {
        slot: slot.id,
        flags: slot.flags,
        guestPhysAddr: BigInt(slot.baseGfn * vm.page),
        memorySize: BigInt(slot.npages * vm.page),
        userspaceAddr: BigInt(slot.userspaceAddr),
        guestMemfd: 0,
        guestMemfdOffset: 0n,
      };
      finish(regions.set({ ...region, memorySize: 0n }, true));
      finish(regions.set(region, true));
    }
  }
  moved.kvm.vm.sched.load(twin.kvm.vm.sched.save());
}

/** Members of a part that are the host's. */
const HOSTS: Readonly<Record<string, readonly string[]>> = {
  vcpu: ["cpu", "stats", "ring", "hdbss", "requests", "isInGuest", "ipiStep", "rescanFrom"],
  vm: ["vtcr", "isHdbssOn", "invalidateSeq"],
  its: ["cache"],
  // The first run decides; and whoever restores a GICv2 has shown that it knows groups.
  vgic: ["isReady", "isConnected", "v2GroupsUserWritable"],
};
const OF_IRQ = ["own", "owner", "hw", "keepsLevel", "list"] as const;
/** What a restored IRS reads is as written; pending bits and owners wait for the first run. */
const OF_V5 = [
  ...["idr0", "idr1Priority", "idr2", "isIrsRestored", "isReady", "isConnected", "owners"],
  ...["vmtBase", "spiIstBase", "lpiIstBase", "replay", "vdpendCalls"],
] as const;
const KINDS =
  /^(vcpu-|vgic-|its-|vm$|irq-routing|io-bus|irqfds|jobs|harvests|unacknowledged|board|unbacked$)/;

function without(value: unknown, names: readonly string[]): unknown {
  if (Array.isArray(value)) return value.map((item) => without(item, names));
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  const kept = Object.entries(value).filter(([name]) => !names.includes(name));
  return Object.fromEntries(kept.map(([name, member]) => [name, without(member, names)]));
}

/** Compares what two VMs are, part by part; those that differ are shown. */
export function expectSameState(twin: Inline, moved: Inline): void {
  const [theirs, own] = [ownState(twin), ownState(moved)];
  const digestOf = (value: unknown): string => {
    const digest = new Digest();
    digest.value(value);
    return digest.hex();
  };
  const differ = Object.keys({ ...theirs, ...own }).filter((kind) => {
    return digestOf(own[kind]) !== digestOf(theirs[kind]);
  });
  const shown = (all: Record<string, unknown>) => differ.map((kind) => [kind, all[kind]]);
  expect(shown(own)).toEqual(shown(theirs));
  expect(differ).toEqual([]);
}

/** The VM's own state, as its parts have it, without what is its host's. */
function ownState(vm: Inline): Record<string, unknown> {
  const saved = vm.instance.machine.save().filter(({ kind }) => KINDS.test(kind));
  return Object.fromEntries(
    saved.map(({ kind, data }) => {
      const [room = ""] = kind.split("-");
      const own = { ...(data as Record<string, unknown>) };
      for (const name of HOSTS[room] ?? []) delete own[name];
      if (kind === "unbacked") return [kind, contentOf(vm)];
      if (kind === "board") own["hardware"] = withoutLog(own["hardware"] as Saved);
      if (room === "vcpu") own["a64"] = withPlainFlags(own["a64"] as Saved | null);
      return [kind, room === "vgic" ? without(own, [...OF_IRQ, ...OF_V5]) : own];
    }),
  );
}

/** Pages that devices wrote to are for whoever reads the log at the source. */
function withoutLog(hardware: Saved): unknown {
  const { memory: _log, ...others } = hardware.data as Record<string, unknown>;
  return others;
}

/** N, Z and V are one bit each, kept as words of which the others mean nothing. */
function withPlainFlags(a64: Saved | null): unknown {
  if (a64 === null) return null;
  const data = a64.data as { readonly state: readonly Uint8Array[] };
  const [general, ...others] = data.state.map((bytes) => bytes.slice());
  const view = new DataView(general!.buffer);
  for (const at of [FLAG_N, FLAG_V]) view.setUint32(at, view.getUint32(at, true) >>> 31, true);
  view.setUint32(FLAG_Z, Math.min(1, view.getUint32(FLAG_Z, true)), true);
  return { ...a64, data: { ...data, state: [general, ...others] } };
}

/** Bytes of every page of unbacked objects. */
function contentOf(vm: Inline): unknown {
  const { host, mm } = vm.kvm.vm;
  return mm.list().flatMap(({ backing, pa, bytes }) => {
    if (backing !== "unbacked") return [];
    const out = new Uint8Array(Math.min(bytes, 64 * vm.page));
    host.unbacked.read(pa, out);
    return [out];
  });
}

/** Bytes of guest memory, by object. */
export function memoryOf(vm: Inline): readonly Uint8Array[] {
  const { memory, blocks } = vm.call("describeMemory", {});
  const ram = blocks.filter(({ backing }) => backing === "ram");
  return ram.map(({ pa, bytes }) => new Uint8Array(memory.buffer, pa, bytes).slice());
}

/** Pages of guest memory that differ, as offsets in their object. */
export function differingPages(one: Inline, other: Inline): string[] {
  const [a, b] = [memoryOf(one), memoryOf(other)];
  const found: string[] = [];
  for (const [n, bytes] of a.entries()) {
    const theirs = b[n] ?? new Uint8Array(0);
    if (Buffer.compare(bytes, theirs) === 0) continue;
    for (let at = 0; at < bytes.length; at += one.page) {
      const [mine, its] = [bytes, theirs].map((all) => all.subarray(at, at + one.page));
      if (Buffer.compare(mine!, its!) !== 0) found.push(`object ${n} at 0x${at.toString(16)}`);
    }
  }
  return found;
}
