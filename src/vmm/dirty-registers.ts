// Owns: the registers of HDBSS and HACDBS, decoded beside their raw values, and what lies in a
// vCPU's buffer. Pure looks. VM thread.
import { ServiceError } from "../base/errors.js";
import type { Vcpu } from "../kvm/index.js";
import {
  BR_EN,
  decodeBase,
  decodeCons,
  decodeEntry,
  decodeProd,
  ENTRY_BYTES,
  ERR_REASON,
  encodeProd,
  entriesOf,
  HDBSS_FSC,
  type HostCpu,
  SZ_MAX,
} from "../machine/index.js";
import type { BaseRegisterView, HacdbsView, HdbssView } from "./dirty-commands.js";
import type { Machine } from "./machine.js";
import { vcpuOf } from "./vcpu-of.js";

/** HDBSSBR_EL2.BADDR and HACDBSBR_EL2.BADDR, as they are written. */
const BADDR_MASK = 0x00ff_ffff_ffff_f000n;

interface Registers {
  readonly source: HdbssView["source"];
  readonly br: bigint;
  readonly prod: bigint;
}

/** Those of the CPU while the vCPU's are loaded there, else what KVM would load. */
function registersOf({ cpu, hdbss }: Vcpu, isOn: boolean): Registers {
  if (cpu !== null && (isOn || hdbss?.isLive === true)) {
    return { source: "live", br: cpu.mrs("HDBSSBR_EL2"), prod: cpu.mrs("HDBSSPROD_EL2") };
  }
  if (hdbss === null) return { source: "none", br: 0n, prod: 0n };
  const { raw, pa, sz, index, fsc } = hdbss;
  const saved = raw ?? { br: BigInt(pa) | BigInt(sz), prod: encodeProd(index, fsc) };
  return { source: "saved", ...saved };
}

function nameOf(names: Readonly<Record<string, number>>, code: number): string {
  return Object.entries(names).find(([, known]) => known === code)?.[0] ?? "reserved";
}

function baseView(raw: bigint): BaseRegisterView {
  const { base, sz } = decodeBase(raw);
  const capacity = entriesOf(sz);
  return {
    raw,
    baddr: raw & BADDR_MASK,
    sz,
    isReservedSize: sz > SZ_MAX,
    base: BigInt(base),
    capacity,
    bytes: capacity * ENTRY_BYTES,
  };
}

function entriesAt(m: Machine, base: number, from: number, to: number, produced: number) {
  const { u32 } = m.kvm.vm.host.memory;
  const entries: HdbssView["entries"][number][] = [];
  for (let index = from; index < to; index++) {
    const pa = base + index * ENTRY_BYTES;
    const [lo, hi] = [u32[pa / 4], u32[pa / 4 + 1]];
    // A base that was made up leads out of memory.
    if (lo === undefined || hi === undefined) break;
    const { ipa, ...decoded } = decodeEntry(lo, hi);
    const raw = (BigInt(hi) << 32n) | BigInt(lo);
    const isProduced = index < produced;
    const at = { index, address: BigInt(pa), raw, ipa: BigInt(ipa) };
    entries.push({ ...at, ...decoded, isProduced });
  }
  return entries;
}

/** Slots [from, from + limit) of a vCPU's buffer, whatever they hold, and its registers. */
export function hdbssView(
  m: Machine,
  { vcpu: id, from, limit }: { vcpu: number; from: number; limit: number },
): HdbssView {
  const vcpu = vcpuOf(m, id);
  const { vm } = m.kvm;
  const { source, br, prod } = registersOf(vcpu, vm.isHdbssOn);
  const registers = baseView(br);
  const { index, fsc } = decodeProd(prod);
  const to = source === "none" ? 0 : Math.min(from + limit, registers.capacity);
  return {
    vcpu: id,
    isOn: vm.isHdbssOn,
    source,
    hostCpu: vcpu.cpu?.index ?? null,
    isOwned: vm.host.diagnostics.owns(id, Number(registers.base)),
    br: registers,
    prod: { raw: prod, index, fsc, fscName: nameOf(HDBSS_FSC, fsc) },
    isFull: source !== "none" && index >= registers.capacity,
    from,
    entries: entriesAt(m, Number(registers.base), from, to, index),
  };
}

function cpuOf(m: Machine, index: number): HostCpu {
  const cpu = m.kvm.vm.host.cpus[index];
  if (cpu !== undefined) return cpu;
  throw new ServiceError("host-cpu-not-found", `The slice has no host CPU ${index}.`);
}

export function hacdbsView(m: Machine, { hostCpu }: { hostCpu: number }): HacdbsView {
  const cpu = cpuOf(m, hostCpu);
  const { hacdbs: unit } = cpu;
  const { index, err } = decodeCons(unit.cons);
  const { cleaned, alreadyClean, skipped, terminators, entries } = unit;
  return {
    hostCpu,
    loadedVcpu: cpu.vcpuId < 0 ? null : cpu.vcpuId,
    br: { ...baseView(unit.br), en: (unit.br & BR_EN) !== 0n },
    cons: { raw: unit.cons, index, err, errName: nameOf(ERR_REASON, err) },
    isEnabled: unit.isEnabled,
    isRunning: unit.isRunning,
    isFinished: unit.isFinished,
    irq: unit.irq,
    counts: { entries, cleaned, alreadyClean, skipped, terminators },
  };
}
