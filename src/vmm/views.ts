// Owns: KVM's objects as plain data for the outside. VM thread.
import type { DirtyRing, GuestMemfd, Kvm, MemoryObject, Memslot, Vcpu } from "../kvm/index.js";
import type {
  DirtyRingWindow,
  GuestMemfdView,
  HostCpuView,
  MemoryObjectView,
  MemslotView,
  VcpuView,
  VmView,
} from "./commands.js";
import type { VmDefinition } from "./definition.js";

export function vmView(kvm: Kvm, definition: VmDefinition, replaying: boolean): VmView {
  const { vm } = kvm;
  return {
    ipaBits: vm.ipaBits,
    pageSize: vm.pageSize,
    startLevel: vm.tables.startLevel,
    vtcr: vm.vtcr,
    vttbr: vm.vttbr,
    hostCpus: vm.host.cpus.length,
    createdVcpus: vm.vcpus.length,
    runningVcpus: vm.vcpus.filter((vcpu) => vcpu.running).length,
    maxVcpus: vm.maxVcpus,
    memslotCount: vm.slots.size,
    hasRun: vm.hasRun,
    dead: vm.dead,
    vgicInitialized: vm.vgic.isInitialized,
    manualDirtyLogProtect: vm.caps.manualDirtyLogProtect,
    dirtyRingBytes: vm.caps.dirtyRingBytes,
    dirtyRingWithBitmap: vm.caps.dirtyRingWithBitmap,
    eagerSplitChunkSize: vm.caps.eagerSplitChunkSize,
    haltPollNs: vm.caps.haltPollNs,
    dirtyTracking: definition.dirtyTracking,
    instructions: vm.instructions,
    virtualNs: vm.virtualNs,
    steps: vm.sched.steps,
    replaying,
  };
}

export function vcpuView(vcpu: Vcpu): VcpuView {
  const { ring, engine, synthetic } = vcpu;
  const blocked = vcpu.running && vcpu.cpu === null;
  return {
    id: vcpu.id,
    index: vcpu.index,
    engine: engine.kind,
    state: blocked ? "blocked" : vcpu.running ? "running" : "idle",
    mpState: vcpu.mpState,
    hostCpu: vcpu.cpu?.index ?? null,
    retired: engine.retired,
    lastExit: vcpu.lastExit,
    program: {
      kind: synthetic.program,
      completed: synthetic.completed,
      finished: synthetic.finished,
    },
    dirtyRing:
      ring === null
        ? null
        : {
            entries: ring.size,
            dirtyIndex: ring.dirtyIndex,
            resetIndex: ring.resetIndex,
            harvestIndex: ring.harvestIndex,
            softFull: ring.isSoftFull(),
          },
  };
}

export function memslotView(slot: Memslot, pageSize: number): MemslotView {
  return {
    slot: slot.id,
    flags: slot.flags,
    guestPhysAddr: BigInt(slot.baseGfn) * BigInt(pageSize),
    memorySize: BigInt(slot.npages) * BigInt(pageSize),
    userspaceAddr: BigInt(slot.userspaceAddr),
    guestMemfdId: slot.guestMemfd?.memfdId ?? null,
    guestMemfdOffset: BigInt(slot.guestMemfd?.pageOffset ?? 0) * BigInt(pageSize),
    npages: slot.npages,
  };
}

export function memoryObjectView(object: MemoryObject): MemoryObjectView {
  return {
    id: object.id,
    userspaceAddr: BigInt(object.userspaceAddr),
    size: BigInt(object.bytes),
    backing: object.backing,
    hugePages: object.hugePages,
  };
}

export function guestMemfdView(file: GuestMemfd): GuestMemfdView {
  return {
    id: file.id,
    size: BigInt(file.bytes),
    flags: file.flags,
    allocatedPages: file.pages.size,
  };
}

export function hostCpuViews(kvm: Kvm): readonly HostCpuView[] {
  return kvm.vm.host.cpus.map((cpu) => ({
    index: cpu.index,
    loadedVcpu: kvm.vm.vcpus.find((vcpu) => vcpu.cpu === cpu)?.id ?? null,
    vttbr: cpu.mrs("VTTBR_EL2"),
    vtcr: cpu.mrs("VTCR_EL2"),
    hcr: cpu.mrs("HCR_EL2"),
    tlbEntries: cpu.tlb.count,
  }));
}

/** Entries [from, from + limit) of a vCPU's ring, raw; indexes are absolute. */
export function ringWindow(ring: DirtyRing, from: number, limit: number): DirtyRingWindow {
  const entries = [];
  for (let index = from; index < from + Math.min(limit, ring.size); index++) {
    const { flags, slot, offset } = ring.entry(index);
    entries.push({ index, flags, slot, offset: BigInt(offset) });
  }
  return {
    entries,
    size: ring.size,
    dirtyIndex: ring.dirtyIndex,
    resetIndex: ring.resetIndex,
    harvestIndex: ring.harvestIndex,
  };
}
