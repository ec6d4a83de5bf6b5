// Owns: one VM's slice of the host put together: memory, frames, host CPUs, TLB maintenance.
// VM thread.
import { assert } from "../base/assert.js";
import { type PageGeometry, type PageSize, pageGeometry } from "../base/page.js";
import { Prng } from "../base/prng.js";
import type { Saved } from "../base/saved.js";
import { Diagnostics } from "./dirty/diagnostics.js";
import { Faults } from "./dirty/faults.js";
import { type DirtyModel, defaultModel } from "./dirty/model.table.js";
import { FrameAllocator } from "./frame-allocator.js";
import { Irs } from "./gic/gicv5/irs.js";
import { ItsV5 } from "./gic/gicv5/its.js";
import { Iwb } from "./gic/gicv5/iwb.js";
import { HostCpu } from "./host-cpu.js";
import { HostMemory, UNBACKED_BASE } from "./host-memory.js";
import { UnbackedMemory } from "./unbacked-memory.js";

export interface HostConfig {
  readonly pageSize: PageSize;
  readonly seed: bigint;
  /** Bytes that real memory may grow to, at most 4 GiB. */
  readonly memoryBytesMax: number;
  /** What differs from the defaults of dirty/model.table.ts. */
  readonly model?: Partial<DirtyModel>;
}

/** Wires into the host's own IRS. */
const SPIS = 256;
/** And of the wire bridge, with its DeviceID at the ITS: our choice. */
const IWB_WIRES = 64;
const IWB_DEVICE = 0xfff; // tidy: a DeviceID

export class Host {
  readonly geometry: PageGeometry;
  readonly memory: HostMemory;
  readonly frames: FrameAllocator;
  readonly unbacked: UnbackedMemory;
  readonly cpus: HostCpu[] = [];
  readonly irs: Irs;
  readonly its: ItsV5;
  readonly iwb: Iwb;
  /** Choices that the architecture leaves to an implementation. */
  readonly model: DirtyModel;
  readonly faults = new Faults();
  readonly diagnostics = new Diagnostics();
  /** Told of bytes that change not by guest code's own stores: code in them is stale. */
  codeWatcher: ((pa: number, bytes: number) => void) | null = null;
  /** Told before bytes are touched by anybody but a guest: they may have to come first. */
  pageGuard: ((pa: number, bytes: number) => void) | null = null;
  /** Counts invalidations of stage 2 that every PE must see before it goes on. */
  stage2Version = 0;
  readonly #seed: bigint;

  constructor(config: HostConfig) {
    this.#seed = config.seed;
    this.geometry = pageGeometry(config.pageSize);
    this.model = Object.assign(defaultModel(), config.model);
    this.memory = new HostMemory(config.memoryBytesMax);
    this.frames = new FrameAllocator(this.memory, this.geometry);
    this.frames.onRelease = (pa, bytes) => this.codeWatcher?.(pa, bytes);
    this.unbacked = new UnbackedMemory(this.geometry, config.seed);
    this.irs = new Irs(this.memory, {
      irsId: 0,
      hasVirtualization: true,
      spis: SPIS,
      pes: () => this.cpus.length,
      vdpendLatency: () => this.model["hardware.vdpendLatency"],
    });
    this.its = new ItsV5(this.memory, this.irs);
    this.iwb = new Iwb(IWB_WIRES, (wire, event) => this.its.send(IWB_DEVICE, wire, event));
  }

  /** Brings one more host CPU online. */
  addCpu(): HostCpu {
    const cpu = new HostCpu(this.cpus.length, this.memory, this.geometry, this, this.irs);
    this.cpus.push(cpu);
    if (this.model["hardware.unknownAtReset"]) this.#scramble(cpu);
    return cpu;
  }

  /** What a warm reset leaves UNKNOWN; EN of HACDBSBR_EL2 is 0 all the same. */
  #scramble(cpu: HostCpu): void {
    const noise = new Prng(this.#seed ^ BigInt(cpu.index + 1));
    if (this.model["hardware.hdbss"]) cpu.msr("HDBSSPROD_EL2", noise.u64());
    if (this.model["hardware.hacdbs"]) cpu.msr("HACDBSCONS_EL2", noise.u64());
  }

  /** TLBI VMALLS12E1IS + DSB: every CPU, whole VMID. */
  tlbiVmid(vmid: number): void {
    this.stage2Version++;
    for (const cpu of this.cpus) cpu.tlb.invalidateVmid(vmid);
  }

  /** TLBI RIPAS2E1IS + DSB: every CPU, pages [first, first + count). */
  tlbiRange(vmid: number, first: number, count: number): void {
    this.stage2Version++;
    for (const cpu of this.cpus) cpu.tlb.invalidateRange(vmid, first, count);
  }

  /** TLBI IPAS2E1 (non-shareable): this CPU only. */
  tlbiLocal(cpu: HostCpu, vmid: number, page: number): void {
    cpu.tlb.invalidateRange(vmid, page, 1);
  }

  /** Copies bytes out of one physically contiguous range, backed or not. */
  readPhysical(pa: number, out: Uint8Array): void {
    this.pageGuard?.(pa, out.length);
    if (pa >= UNBACKED_BASE) this.unbacked.read(pa, out);
    else out.set(this.memory.u8.subarray(pa, pa + out.length));
  }

  /** Copies bytes into a backed range. */
  writePhysical(pa: number, bytes: Uint8Array): void {
    assert(pa < UNBACKED_BASE, "unbacked memory keeps no bytes");
    this.pageGuard?.(pa, bytes.length);
    this.memory.u8.set(bytes, pa);
    this.codeWatcher?.(pa, bytes.length);
  }

  /** Parts with state of their own; HostMemory apart, because its size is not like the others'. */
  parts(): readonly { save(): Saved; load(saved: Saved): void }[] {
    const { irs, its, iwb } = this;
    const hardware = [irs, its, iwb, ...this.cpus];
    return [this.frames, this.unbacked, this.faults, this.diagnostics, ...hardware];
  }
}
