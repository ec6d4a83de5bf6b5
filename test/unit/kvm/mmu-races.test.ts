// Goal: a stage-2 fault that is overtaken between two of its steps loses no write and no memory.
// Method: the fault's own steps are taken one by one, and something else happens in between.
import { describe, expect, it } from "vitest";
import { type Op, POINT, type PointName } from "../../../src/kvm/index.js";
import type { Stage2Fault } from "../../../src/machine/index.js";
import { BASE, Inline } from "../../support/inline.js";

/** Seeded, because a vCPU alone in a round-robin VM takes a fault in one step. */
function setUp(dirtyTracking: "write-protect" | "dbm", flags = 1, huge = false) {
  const vm = new Inline({ dirtyTracking, schedule: "seeded" });
  const pages = huge ? 1024 : 16;
  const made = vm.slot(0, pages, { flags, huge });
  for (const id of [0, 1]) vm.vcpu(id);
  return { vm, ...made };
}

/** A fault of vCPU 0, taken by hand; the scheduler knows nothing of it. */
class Fault {
  readonly vm: Inline;
  readonly op: Op<{ kind: string }>;
  outcome: { kind: string } | null = null;

  constructor(vm: Inline, fault: Partial<Stage2Fault> & { ipa: number }) {
    const { kvm } = vm;
    const vcpu = kvm.vm.vcpuById(0)!;
    kvm.vm.loadVcpu(vcpu, kvm.vm.host.cpus[0]!);
    this.vm = vm;
    this.op = kvm.mmu.handleAbort(vcpu, {
      kind: "translation",
      level: 3,
      isWrite: false,
      hdbssf: false,
      ...fault,
    });
  }

  to(point: PointName): this {
    for (;;) {
      const step = this.op.next();
      if (step.done === true) throw new Error(`the fault was over before ${point}`);
      if (step.value === POINT[point]) return this;
    }
  }

  finish(): string {
    for (;;) {
      const step = this.op.next();
      if (step.done !== true) continue;
      const { vm } = this.vm.kvm;
      vm.putVcpu(vm.vcpuById(0)!);
      return step.value.kind;
    }
  }
}

const PAGE = 3;
const IPA = BASE + PAGE * 4096;

describe.each(["write-protect", "dbm"] as const)("%s", (mode) => {
  it("a load's old fault does not take back what a store has dirtied since", () => {
    const { vm } = setUp(mode);
    const load = new Fault(vm, { ipa: IPA }).to("abort-page-found");
    vm.store(1, [IPA]);
    expect(vm.dirty(0)).toEqual([PAGE]);
    vm.store(1, [IPA]);
    expect(load.finish()).toBe("resume");
    expect(vm.dirty(0)).toEqual([PAGE]);
    // And the load itself comes through.
    expect(vm.load(0, [IPA])).toEqual([1n]);
  });

  it("a store's old fault on a page that a load has mapped since still marks its store", () => {
    const { vm } = setUp(mode);
    const store = new Fault(vm, { ipa: IPA, isWrite: true }).to("abort-page-found");
    vm.load(1, [IPA]);
    store.finish();
    vm.store(0, [IPA]);
    expect(vm.dirty(0)).toEqual([PAGE]);
  });

  it("a store's fault overtaken by a GET is reported by the next GET", () => {
    const { vm } = setUp(mode);
    vm.store(1, [IPA]);
    const store = new Fault(vm, { kind: "permission", ipa: IPA, isWrite: true });
    store.to("abort-page-found");
    expect(vm.dirty(0)).toEqual([PAGE]);
    store.finish();
    vm.store(0, [IPA]);
    expect(vm.dirty(0)).toEqual([PAGE]);
  });

  it("logging switched on in the middle waits for the fault, then protects its page", () => {
    const { vm, slot } = setUp(mode, 0);
    const store = new Fault(vm, { ipa: IPA, isWrite: true }).to("abort-page-found");
    const enabling = vm.begin("setUserMemoryRegion", { ...slot, flags: 1 });
    vm.pumpUntil(() => enabling.done);
    // The fault found the slot without a log; KVM waits for such readers before it protects.
    expect(enabling.done).toBe(false);
    store.finish();
    vm.finish(enabling);
    expect(vm.dirty(0)).toEqual([]);
    vm.store(0, [IPA]);
    expect(vm.dirty(0)).toEqual([PAGE]);
  });

  it("memory that goes away in the middle is not mapped any more", () => {
    const { vm, object } = setUp(mode);
    const store = new Fault(vm, { ipa: IPA, isWrite: true }).to("abort-page-found");
    vm.call("deleteMemoryObject", { id: object.id });
    expect(store.finish()).toBe("resume");
    expect(vm.leaf(IPA)).toBeNull();
    expect(vm.store(0, [IPA]).errno).toBe("EFAULT");
    expect(vm.counter("s2Retries")).toBe(1);
  });

  it("a slot that is deleted in the middle waits for the fault, then unmaps its page", () => {
    const { vm } = setUp(mode);
    const store = new Fault(vm, { ipa: IPA, isWrite: true }).to("abort-slot-found");
    const deleting = vm.begin("setUserMemoryRegion", {
      slot: 0,
      flags: 0,
      guestPhysAddr: 0n,
      memorySize: 0n,
      userspaceAddr: 0n,
    });
    vm.pumpUntil(() => deleting.done);
    expect(deleting.done).toBe(false);
    // The window: the slot is invalid, so other accesses go the MMIO way.
    expect(vm.store(1, [IPA]).exitReason).toBe("KVM_EXIT_MMIO");
    expect(store.finish()).toBe("resume");
    vm.finish(deleting);
    expect(vm.leaf(IPA)).toBeNull();
    expect(vm.call("listMemslots", {})).toEqual([]);
  });

  it("T-47 a writable copy in a TLB from before logging does not survive its start", () => {
    const { vm, slot } = setUp(mode, 0);
    vm.store(0, [IPA]);
    expect(vm.kvm.vm.host.cpus[0]!.tlb.count).toBe(1);
    vm.setFlags(slot, 1);
    for (const vcpu of [0, 1]) {
      vm.store(vcpu, [IPA]);
      expect(vm.dirty(0)).toEqual([PAGE]);
    }
  });

  it("a block that another vCPU split in the middle is not put back", () => {
    const { vm, slot } = setUp(mode, 0, true);
    vm.setFlags(slot, 1);
    const load = new Fault(vm, { ipa: IPA, level: 2 }).to("abort-page-found");
    vm.store(1, [IPA, IPA + 4096]);
    load.finish();
    expect(vm.leaf(IPA)).toMatchObject({ level: 3 });
    expect(vm.dirty(0)).toEqual([PAGE, PAGE + 1]);
  });
});

describe("a hole that is being punched", () => {
  it.each([0, 1, 2, 3, 4, 5])("takes in no page that is about to go (seed %d)", (seed) => {
    const vm = new Inline({ schedule: "seeded", seed: BigInt(seed) });
    // Many batches, so that a fault fits in between.
    const pages = 32 * 512;
    const file = vm.call("createGuestMemfd", { size: BigInt(pages * 4096), flags: 1n });
    vm.call("setUserMemoryRegion2", {
      slot: 0,
      flags: 4,
      guestPhysAddr: BigInt(BASE),
      memorySize: file.size,
      userspaceAddr: 0n,
      guestMemfd: file.id,
      guestMemfdOffset: 0n,
    });
    vm.vcpu();
    const at = Array.from({ length: 32 }, (_, i) => BASE + i * 512 * 4096);
    vm.store(0, at, 7n);
    const punching = vm.begin("fallocateGuestMemfd", {
      id: file.id,
      mode: 3,
      offset: 0n,
      length: file.size,
    });
    // One batch is unmapped, the others wait for the lock.
    vm.pumpUntil(() => punching.done || vm.leaf(BASE) === null);
    expect(punching.done).toBe(false);
    // The first page is gone already; the guest wants it back before the hole is done.
    vm.list(0, [{ op: "write", address: BigInt(BASE), length: 8, value: 9n }]);
    const run = vm.beginRun();
    vm.pumpUntil(() => punching.done && run.done);
    expect(run.value.exitReason).toBe("KVM_EXIT_HLT");
    const own = vm.kvm.vm.memfds.open(file.id)!.pages.get(0);
    expect(vm.leaf(BASE)?.outputAddress).toBe(BigInt(own!));
    expect(vm.load(0, at)).toEqual(at.map((_, i) => (i === 0 ? 9n : 0n)));
  });
});
