// Owns: one VM as the VMM holds it: KVM's part and the VMM's own state; save, load, digest.
// VM thread.
import { assert } from "../base/assert.js";
import { Lender } from "../base/lent-bytes.js";
import { TRANSFER_BYTES_MIN } from "../base/limits.js";
import { Digest, type Saved, type Stateful } from "../base/saved.js";
import { Unacknowledged } from "../base/unacknowledged.js";
import { Kvm, type KvmDeps, type Policies, type SeedBug } from "../kvm/index.js";
import type { DirtyModel } from "../machine/index.js";
import { AssignedDevices } from "./assigned/assigned-devices.js";
import { Board } from "./board/board.js";
import { RAM_SLOT } from "./board/hardware.js";
import type { CoalescedEntry, Program } from "./commands.js";
import type { VmDefinition } from "./definition.js";
import { Harvests } from "./harvests.js";
import { Held } from "./migration/held.js";
import { Tracking } from "./migration/tracking.js";
import type { Shadow } from "./shadow.js";

/** Real memory of a slice grows to 4 GiB at most (DESIGN 5). */
const MEMORY_BYTES_MAX = 2 ** 32;
const BUILT_ALIKE = "a machine is restored into one that was built the same way";

/** Dirty logs that may be on their way at the same time without fresh memory. */
const LENT_BUFFERS = 2;

/** Keys of machine/dirty/model.table.ts; the others are KVM's. */
export function isHardware(key: string): boolean {
  return key.startsWith("hardware.");
}

/** The given settings of one floor; they were checked when the definition was made. */
function pick<T>({ dirty }: VmDefinition, isIts: (key: string) => boolean): Partial<T> {
  const its = Object.entries(dirty?.settings ?? {}).filter(([key]) => isIts(key));
  return Object.fromEntries(its) as Partial<T>;
}

export class Machine {
  readonly definition: VmDefinition;
  readonly kvm: Kvm;
  readonly assigned: AssignedDevices;
  readonly harvests: Harvests;
  readonly tracking: Tracking;
  /** null: the client is the VMM. */
  readonly board: Board | null;
  readonly held: Held;
  /** Of synthetic vCPUs, by id, as they were given: what another host needs to make them anew. */
  readonly programs = new Map<number, Program>();
  /** The oracle beside KVM's log; what it sees is no state of the VM. */
  shadow: Shadow | null = null;
  readonly #lender = new Lender(LENT_BUFFERS);
  readonly coalesced = new Unacknowledged<readonly CoalescedEntry[]>("d");

  /** @param onHeld told when the VM is held and when it is let go */
  constructor(definition: VmDefinition, deps: KvmDeps, onHeld: (isHeld: boolean) => void) {
    this.definition = definition;
    this.kvm = new Kvm(
      {
        type: definition.type,
        dirtyTracking: definition.dirtyTracking,
        hostCpus: definition.hostCpus,
        clock: definition.clock.mode,
        idle: definition.clock.idle,
        nsPerInstruction: definition.clock.nsPerInstruction,
        policies: pick<Policies>(definition, (key) => !isHardware(key)),
        seedBugs: (definition.dirty?.seedBugs ?? []) as readonly SeedBug[],
      },
      {
        pageSize: definition.pageSize,
        seed: definition.seed,
        memoryBytesMax: MEMORY_BYTES_MAX,
        model: pick<DirtyModel>(definition, isHardware),
      },
      deps,
    );
    this.harvests = new Harvests(this.kvm, (slot, bitmap) => this.addOwnWrites(slot, bitmap));
    this.assigned = new AssignedDevices(this.kvm);
    const { board, seed } = definition;
    this.board = board === undefined ? null : new Board(board, this.kvm, seed);
    this.held = new Held(this.kvm, this.board, onHeld);
    this.tracking = new Tracking(this.kvm, this.board !== null);
  }

  /** Adds pages that a board's devices wrote to, which KVM can't see, to a slot's log. */
  addOwnWrites(slot: number, bitmap: Uint8Array): void {
    if (slot !== RAM_SLOT) return;
    this.board?.hardware.memory.addTo(bitmap, !this.kvm.vm.manualProtect);
  }

  /** CLEAR took these bits: the devices' own go with them. */
  clearOwnWrites(slot: number, firstPage: bigint, bitmap: Uint8Array): void {
    if (slot === RAM_SLOT) this.board?.hardware.memory.cleared(Number(firstPage), bitmap);
  }

  /** Room for a large answer, lent to its reader: what is in it is no state of the VM. */
  room(bytes: number): Uint8Array {
    const lent = bytes < TRANSFER_BYTES_MIN ? null : this.#lender.lend(bytes);
    return lent ?? new Uint8Array(bytes);
  }

  /** Every part with state of its own, in the order in which they are loaded. */
  parts(): readonly Stateful[] {
    const { vm } = this.kvm;
    return [
      ...vm.host.parts(),
      vm.sched,
      vm,
      vm.account,
      vm.mm,
      vm.slots,
      vm.memfds,
      vm.bus,
      vm.routing,
      vm.irqfds,
      vm.jobs,
      vm.vfio,
      ...(vm.vgic.dist === null ? [] : [vm.vgic.dist]),
      ...(vm.vgic.v5 === null ? [] : [vm.vgic.v5]),
      ...(vm.msi?.parts() ?? []),
      vm.counters,
      vm.throttle,
      this.kvm.hacdbs,
      this.kvm.log.deferred,
      this.kvm.nested,
      ...vm.vcpus,
      this.assigned,
      this.harvests,
      this.coalesced,
      this.tracking,
      ...(this.board === null ? [] : [this.board]),
    ];
  }

  save(): readonly Saved[] {
    return [this.kvm.vm.host.memory.save(), ...this.parts().map((part) => part.save())];
  }

  /**
   * Restores a machine that was built the same way (definition, capabilities, vCPUs, programs) and
   * has nothing under way.
   */
  load(saved: readonly Saved[]): void {
    const [memory, ...rest] = saved;
    const parts = this.parts();
    assert(memory !== undefined && rest.length === parts.length, BUILT_ALIKE);
    this.kvm.vm.host.memory.load(memory);
    for (const [at, part] of parts.entries()) {
      const own = rest[at];
      assert(own !== undefined && own.kind === part.save().kind, BUILT_ALIKE);
      part.load(own);
    }
  }

  digest(): { digest: string; parts: Record<string, string> } {
    const parts: Record<string, string> = { "host-memory": this.kvm.vm.host.memory.digest() };
    for (const part of this.parts()) {
      const saved = part.save();
      const digest = new Digest();
      digest.value(saved);
      parts[saved.kind] = digest.hex();
    }
    const all = new Digest();
    all.value(parts);
    return { digest: all.hex(), parts };
  }
}
