// Goal: what does not fit is refused before anything changes, and everything comes back in the end.
// Method: budgets of a few pages, then the same VM again with room; charges and frames compared.
import { describe, expect, it } from "vitest";
import { BASE, GIB, Inline, MIB } from "../../support/inline.js";

const K4 = 4096;
const LOG = 1;

/** Everything that a refusal must leave as it was. */
function stateOf(vm: Inline) {
  const { vm: state } = vm.kvm;
  return {
    used: vm.budget.usedBytes(),
    charged: state.account.chargedBytes,
    frames: state.host.frames.used,
    digest: vm.digest(),
  };
}

/** Fills the budget but for `left` bytes; @returns what empties it again. */
function fill(vm: Inline, left: number): () => void {
  const bytes = vm.budget.totalBytes() - vm.budget.usedBytes() - left;
  expect(vm.budget.charge(bytes)).toBe(true);
  return () => vm.budget.release(bytes);
}

describe("memory objects", () => {
  const map = (vm: Inline, size: bigint, more = {}) =>
    vm.refused("createMemoryObject", {
      size,
      userspaceAddr: null,
      backing: "ram",
      hugePages: false,
      ...more,
    });

  it.each([
    ["no size", { size: 0n }, "EINVAL"],
    ["part of a page", { size: 100n }, "EINVAL"],
    ["size 2^64-1", { size: 2n ** 64n - 1n }, "EINVAL"],
    ["address inside a page", { userspaceAddr: 1n }, "EINVAL"],
    ["address 2^64-1", { userspaceAddr: 2n ** 64n - 1n }, "EINVAL"],
    ["end beyond 2^48", { userspaceAddr: 2n ** 48n - 4096n, size: 8192n }, "ENOMEM"],
    ["address 2^64-4096", { userspaceAddr: 2n ** 64n - 4096n }, "ENOMEM"],
    ["size 2^64-4096", { size: 2n ** 64n - 4096n }, "ENOMEM"],
    ["over another one", { userspaceAddr: 0x7000_1000n }, "EEXIST"],
    ["around another one", { userspaceAddr: 0x6fff_f000n, size: 0x10_0000n }, "EEXIST"],
    ["more than the budget", { size: BigInt(GIB) }, "ENOMEM"],
    ["more than memory has", { size: 2n ** 33n }, "ENOMEM"],
    ["exactly at the end", { userspaceAddr: 2n ** 48n - 4096n }, null],
    ["right before another one", { userspaceAddr: 0x6fff_f000n }, null],
    ["right after another one", { userspaceAddr: 0x7000_4000n }, null],
  ] as const)("%s", (_rule, change, errno) => {
    const vm = new Inline();
    vm.ram(4 * K4, { at: 0x7000_0000 });
    const before = stateOf(vm);
    expect(map(vm, 4096n, change)).toBe(errno);
    if (errno !== null) expect(stateOf(vm)).toEqual(before);
  });

  it("beyond the slice's 4 GiB are ENOMEM, whatever the budget", () => {
    const vm = new Inline({ budgetBytes: 64 * GIB });
    const before = stateOf(vm);
    expect(map(vm, 4n * BigInt(GIB))).toBe("ENOMEM");
    expect(stateOf(vm)).toEqual(before);
    expect(map(vm, 2n ** 40n, { backing: "unbacked" })).toBeNull();
  });

  it("charge their worst-case tables with them, so that mapping them all charges nothing", () => {
    const vm = new Inline();
    vm.vcpu();
    // Not aligned to anything, so that every level has one table more.
    vm.slot(0, 1030, { gpa: 0x3fff_f000 });
    const before = vm.budget.usedBytes();
    vm.store(
      0,
      Array.from({ length: 1030 }, (_, i) => 0x3fff_f000 + i * K4),
    );
    expect(vm.budget.usedBytes()).toBe(before);
    expect(vm.kvm.vm.account.tableBytes).toBeGreaterThan(4 * K4);
  });

  it.each([1, 2, 511, 512, 513, 1024, 5000])("%d pages anywhere fit the tables reserved", (n) => {
    for (const gpa of [BASE, BASE + K4, 0x7fff_f000, 0x4020_0000 - 2 * K4]) {
      const vm = new Inline();
      vm.vcpu();
      vm.slot(0, n, { gpa, backing: "unbacked" });
      const empty = fill(vm, 0);
      const at = Array.from({ length: n }, (_, i) => gpa + i * K4);
      expect(vm.store(0, at).exitReason).toBe("KVM_EXIT_HLT");
      empty();
    }
  });

  it("find the first gap that is large enough when no address is given", () => {
    const vm = new Inline();
    const [a, b, c] = [vm.ram(K4), vm.ram(3 * MIB), vm.ram(K4)];
    expect([a, b, c].map((o) => o!.userspaceAddr % BigInt(2 * MIB))).toEqual([0n, 0n, 0n]);
    vm.call("deleteMemoryObject", { id: b!.id });
    expect(vm.ram(5 * MIB).userspaceAddr).toBeGreaterThan(c!.userspaceAddr);
    expect(vm.ram(MIB).userspaceAddr).toBe(b!.userspaceAddr);
    expect(vm.ram(MIB).userspaceAddr).toBe(b!.userspaceAddr + BigInt(2 * MIB));
  });

  it("are gone after a delete, and ids never come back", () => {
    const vm = new Inline();
    const { id } = vm.ram(K4);
    vm.call("deleteMemoryObject", { id });
    expect(vm.refused("deleteMemoryObject", { id })).toBe("memory-object-not-found");
    expect(vm.budget.usedBytes()).toBe(0);
    expect(vm.ram(K4).id).not.toBe(id);
  });
});

describe("bitmaps and rings", () => {
  it("a slot whose bitmap does not fit is not made, and not changed", () => {
    const vm = new Inline();
    const { slot } = vm.slot(0, 1024 * 1024, { backing: "unbacked" });
    const empty = fill(vm, 10 * K4);
    const before = stateOf(vm);
    expect(vm.refused("setUserMemoryRegion", { ...slot, flags: LOG })).toBe("ENOMEM");
    const other = { ...slot, slot: 1, guestPhysAddr: 2n ** 39n, flags: LOG };
    expect(vm.refused("setUserMemoryRegion", other)).toBe("ENOMEM");
    const steps = stateOf(vm);
    expect({ ...steps, digest: "" }).toEqual({ ...before, digest: "" });
    expect(vm.call("listMemslots", {})).toEqual([slot]);
    empty();
    expect(vm.refused("setUserMemoryRegion", { ...slot, flags: LOG })).toBeNull();
  });

  it("a vCPU whose ring does not fit is not made", () => {
    const vm = new Inline({ budgetBytes: 2 ** 20 + K4 });
    vm.enable(223, 2n ** 20n);
    vm.vcpu(0);
    const before = stateOf(vm);
    expect(vm.refused("createVcpu", { id: 1 })).toBe("ENOMEM");
    // KVM finds out late that an id is taken.
    expect(vm.refused("createVcpu", { id: 0 })).toBe("ENOMEM");
    expect(stateOf(vm)).toEqual(before);
    expect(vm.call("listVcpus", {}).length).toBe(1);
  });
});

describe("tables that can't be had", () => {
  /** One page of RAM under many slots, a table or two for each: only the first is paid for. */
  function aliases() {
    const vm = new Inline({ type: 48n });
    const { userspaceAddr } = vm.ram(K4);
    const bases = Array.from({ length: 12 }, (_, i) => (i + 1) * 2 ** 40);
    for (const [id, gpa] of bases.entries()) vm.region(id, gpa, K4, userspaceAddr);
    vm.vcpu();
    return { vm, bases };
  }

  it("end the run with ENOMEM; the VM survives, and goes on when there is room", () => {
    const { vm, bases } = aliases();
    const empty = fill(vm, 2 * K4);
    const failed = vm.store(0, bases);
    expect(failed).toMatchObject({ errno: "ENOMEM", exitReason: "KVM_EXIT_UNKNOWN" });
    expect(failed.program.completed).toBeGreaterThan(0);
    expect(failed.program.completed).toBeLessThan(bases.length);
    expect(vm.run()).toMatchObject({ errno: "ENOMEM", retired: 0 });
    empty();
    expect(vm.run()).toMatchObject({ exitReason: "KVM_EXIT_HLT" });
    expect(vm.load(0, bases)).toEqual(bases.map(() => 1n));
  });

  it("leave no table behind when the slots go, though a fault got half of its tables", () => {
    const { vm, bases } = aliases();
    for (let left = 0; left < 6; left++) {
      const empty = fill(vm, left * K4);
      vm.store(0, bases);
      empty();
      for (const id of bases.keys()) {
        const [slot] = vm.call("listMemslots", {}).filter((view) => view.slot === id);
        vm.deleteSlot(id);
        vm.region(id, bases[id]!, K4, slot!.userspaceAddr);
      }
      expect(vm.kvm.vm.account.tableBytes).toBe(0);
    }
    for (const id of bases.keys()) vm.deleteSlot(id);
    vm.call("deleteMemoryObject", { id: 1 });
    expect(vm.budget.usedBytes()).toBe(0);
    expect(vm.kvm.vm.host.frames.used).toBe(vm.kvm.vm.tables.rootPages);
  });
});

describe("taking memory from a running guest", () => {
  it("makes a hole: the run ends with EFAULT, also with copies in the TLB", () => {
    const vm = new Inline();
    const { object } = vm.slot(0, 64);
    vm.vcpu();
    vm.pattern(0, { base: BASE, bytes: 64 * K4, count: 0 });
    const run = vm.beginRun();
    vm.pump(200);
    expect(vm.call("listHostCpus", {})[0]!.tlbEntries).toBeGreaterThan(0);
    vm.call("deleteMemoryObject", { id: object.id });
    expect(vm.finish(run)).toMatchObject({ errno: "EFAULT", exitReason: "KVM_EXIT_UNKNOWN" });
    expect(vm.budget.usedBytes()).toBe(0);
    // The slot is still there; new memory at the same address fills it.
    vm.ram(64 * K4, { at: Number(object.userspaceAddr) });
    const again = vm.beginRun();
    vm.pump(100);
    expect(again.done).toBe(false);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(again).errno).toBe("EINTR");
  });

  it("tears only the part of a slot that lay over it", () => {
    const vm = new Inline();
    vm.ram(4 * K4, { at: 0x7000_0000 });
    const middle = vm.ram(4 * K4, { at: 0x7000_4000 });
    vm.ram(4 * K4, { at: 0x7000_8000 });
    vm.region(0, BASE, 12 * K4, 0x7000_0000);
    vm.vcpu();
    const pages = Array.from({ length: 12 }, (_, i) => BASE + i * K4);
    vm.store(0, pages, 7n);
    vm.call("deleteMemoryObject", { id: middle.id });
    expect(pages.map((at) => vm.leaf(at) !== null)).toEqual(pages.map((_, i) => i < 4 || i >= 8));
    expect(vm.load(0, [pages[3]!, pages[8]!])).toEqual([7n, 7n]);
    expect(vm.store(0, [pages[4]!]).errno).toBe("EFAULT");
    const range = { gpa: BigInt(pages[3]!), length: 2 * K4 };
    expect(vm.refused("readPhysicalMemory", range)).toBe("gpa-not-mapped");
  });

  it.each([0, 1, 2, 3])("twice at once takes it once (seed %d)", (seed) => {
    const vm = new Inline({ schedule: "seeded", seed: BigInt(seed) });
    const { object } = vm.slot(0, 2048);
    const other = vm.ram(K4);
    vm.vcpu();
    vm.store(
      0,
      [0, 700, 1400].map((page) => BASE + page * K4),
    );
    const both = [0, 1].map(() => vm.begin("deleteMemoryObject", { id: object.id }));
    vm.pumpUntil(() => both.every(({ done }) => done));
    const answers = both.map((pending) => vmRefusal(() => pending.value));
    expect(answers.sort()).toEqual([null, "memory-object-not-found"].sort());
    expect(vm.call("listMemoryObjects", {})).toEqual([other]);
    vm.call("deleteMemoryObject", { id: other.id });
    expect(vm.budget.usedBytes()).toBe(0);
  });

  it("gives its address away at once, and never the new memory's pages", () => {
    const vm = new Inline({ schedule: "seeded" });
    const { object } = vm.slot(0, 2048);
    vm.vcpu();
    vm.store(
      0,
      [0, 700, 1400].map((page) => BASE + page * K4),
      5n,
    );
    const deleting = vm.begin("deleteMemoryObject", { id: object.id });
    vm.pump(2);
    expect(deleting.done).toBe(false);
    const fresh = vm.ram(2048 * K4, { at: Number(object.userspaceAddr) });
    vm.finish(deleting);
    expect(vm.call("listMemoryObjects", {})).toEqual([fresh]);
    expect(vm.load(0, [BASE, BASE + 1400 * K4])).toEqual([0n, 0n]);
  });
});

function vmRefusal(act: () => unknown): string | null {
  try {
    act();
    return null;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

it("closing a VM gives back everything that it had charged", () => {
  const vm = new Inline();
  vm.enable(223, 4096n);
  vm.enable(225);
  vm.slot(0, 1000, { flags: LOG });
  vm.slot(1, 1000, { gpa: 0x9000_0000, backing: "unbacked" });
  const { id } = vm.call("createGuestMemfd", { size: 65536n, flags: 1n });
  vm.call("fallocateGuestMemfd", { id, mode: 1, offset: 0n, length: 65536n });
  vm.vcpu();
  vm.store(0, [BASE, 0x9000_0000]);
  expect(vm.budget.usedBytes()).toBeGreaterThan(1000 * K4);
  vm.instance.close();
  expect(vm.budget.usedBytes()).toBe(0);
});
