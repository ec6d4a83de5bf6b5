// Goal: the host tracks dirty pages for whoever asks, by every method, and gives back what it
// borrowed; the client's own log is refused meanwhile.
// Method: client VMs with synthetic vCPUs; pages are looked at by memory object.
import { describe, expect, it } from "vitest";
import type { DirtyPages, TrackingMethod } from "../../../src/vmm/commands.js";
import { BASE, Inline, type InlineOptions, pagesOf } from "../../support/inline.js";

const K4 = 4096;
const MANUAL = 168;
const RING = 223;
const RING_BITMAP = 225;
const HDBSS = 502;
const NAME = "migrations/m1";
const OTHER = "dirty-rate";

const gpa = (page: number): number => BASE + page * K4;

class TrackedVm extends Inline {
  readonly object: number;

  constructor(options: InlineOptions & { ring?: number; pages?: number; vcpus?: number } = {}) {
    const { ring = 0, pages = 256, vcpus = 1, ...more } = options;
    super(more);
    if (ring !== 0) {
      this.enable(RING, BigInt(ring));
      this.enable(RING_BITMAP);
    }
    this.object = this.slot(0, pages).object.id;
    for (let id = 0; id < vcpus; id++) this.vcpu(id);
  }

  track(method: TrackingMethod | null = null, consumer = NAME) {
    return this.call("trackDirty", { consumer, on: true, method });
  }
  untrack(consumer = NAME) {
    return this.call("trackDirty", { consumer, on: false, method: null });
  }
  harvest(consumer = NAME): number[] {
    return pagesIn(this.call("harvestDirty", { consumer }), this.object);
  }
  stores(pages: readonly number[], vcpu = 0): void {
    this.store(vcpu, pages.map(gpa));
  }
}

function pagesIn({ blocks }: DirtyPages, object: number): number[] {
  const block = blocks.find((each) => each.object === object);
  return block === undefined ? [] : pagesOf(block.bitmap);
}

const METHODS: readonly (readonly [TrackingMethod, number])[] = [
  ["bitmap", 0],
  ["manual-protect", 0],
  ["hdbss", 0],
  ["hdbss+hacdbs", 0],
  ["ring", 4096],
  ["hdbss", 32_768],
];

describe.each(METHODS)("by %s, with rings of %d bytes", (method, ring) => {
  it("tells each consumer of each page once, and again after another store", () => {
    const vm = new TrackedVm({ ring });
    vm.stores([1, 2, 3]);
    expect(vm.track(method)).toMatchObject({ owner: "vmm", method });
    expect(vm.harvest()).toEqual([]);
    vm.stores([2, 9, 200]);
    expect(vm.harvest()).toEqual([2, 9, 200]);
    expect(vm.harvest()).toEqual([]);
    vm.stores([9]);
    expect(vm.harvest()).toEqual([9]);
  });

  it("gives everything back at the end, for the client to use again", () => {
    const vm = new TrackedVm({ ring });
    const { settings } = vm.call("describeDirty", {});
    const caps = { ...vm.kvm.vm.caps };
    const charged = vm.kvm.vm.account.chargedBytes;
    vm.track(method);
    expect(vm.call("describeDirty", {}).settings).toEqual(settings);
    vm.stores([2, 9, 200]);
    expect(vm.untrack()).toMatchObject({ owner: "none", method: null, consumers: [] });
    expect(vm.call("describeDirty", {}).settings).toEqual(settings);
    expect({ ...vm.kvm.vm.caps }).toEqual(caps);
    expect(vm.kvm.vm.isHdbssOn).toBe(false);
    expect(vm.kvm.vm.vcpus.map(({ hdbss }) => hdbss?.isHeld ?? false)).toEqual([false]);
    expect(vm.kvm.vm.account.chargedBytes).toBe(charged);
    expect(vm.call("listMemslots", {})[0]?.flags).toBe(0);
    vm.setFlags(vm.call("listMemslots", {})[0]!, 1);
    vm.stores([7]);
    if (ring === 0) expect(vm.dirty(0)).toEqual([7]);
    else expect(vm.call("describeVcpu", { vcpu: 0 }).dirtyRing).toMatchObject({ softFull: false });
  });
});

describe("consumers", () => {
  it("each get what became dirty since they were told, whoever came later or harvests more", () => {
    const vm = new TrackedVm();
    vm.track();
    vm.stores([1]);
    vm.track(null, OTHER);
    vm.stores([2]);
    expect(vm.harvest(OTHER)).toEqual([2]);
    vm.stores([3]);
    expect(vm.harvest(OTHER)).toEqual([3]);
    expect(vm.harvest()).toEqual([1, 2, 3]);
    vm.untrack(OTHER);
    vm.stores([4]);
    expect(vm.harvest()).toEqual([4]);
    expect(vm.refused("harvestDirty", { consumer: OTHER })).toBe("consumer-not-found");
  });

  it("may look without taking, and give back what they could not use", () => {
    const vm = new TrackedVm();
    vm.track();
    vm.stores([1, 65]);
    const pages = vm.call("harvestDirty", { consumer: NAME });
    expect(pages).toMatchObject({ pages: 2, blocks: [{ object: vm.object, pages: 2 }] });
    expect(vm.call("peekDirty", { consumer: NAME }).pages).toBe(0);
    vm.call("returnDirty", { consumer: NAME, pages });
    expect(vm.call("peekDirty", { consumer: NAME })).toEqual(pages);
    expect(vm.call("describeTracking", {}).consumers).toEqual([{ name: NAME, pages: 2 }]);
    const tooLong = { object: vm.object, pages: 1, bitmap: new Uint8Array(4096).fill(0xff) };
    const gone = { object: 99, pages: 1, bitmap: new Uint8Array(8).fill(0xff) };
    vm.call("returnDirty", { consumer: NAME, pages: { blocks: [tooLong, gone], pages: 2 } });
    expect(vm.harvest()).toHaveLength(256);
  });

  it("beginning and ending twice changes nothing", () => {
    const vm = new TrackedVm();
    vm.track();
    vm.stores([1]);
    vm.track();
    expect(vm.harvest()).toEqual([1]);
    vm.untrack();
    expect(vm.untrack()).toMatchObject({ owner: "none" });
  });

  it("a method that is named later is in force for all, and no page is lost on the way", () => {
    const vm = new TrackedVm();
    vm.track("bitmap");
    const seen: (string | null)[] = [];
    for (const method of ["hdbss+hacdbs", "manual-protect", "hdbss", "bitmap"] as const) {
      vm.stores([10, 11]);
      seen.push(vm.track(method, OTHER).method);
      vm.stores([12]);
      expect(vm.harvest()).toEqual([10, 11, 12]);
      expect(vm.kvm.vm.isHdbssOn).toBe(method.startsWith("hdbss"));
    }
    expect(seen).toEqual(["hdbss+hacdbs", "manual-protect", "hdbss", "bitmap"]);
  });

  it("are refused with ENOMEM without room for their bitmaps, and nothing has changed", () => {
    const vm = new TrackedVm();
    vm.slot(1, 2 ** 24, { gpa: 2 ** 37, backing: "unbacked" });
    const before = vm.instance.digest().parts;
    const left = vm.budget.totalBytes() - vm.budget.usedBytes();
    expect(vm.budget.charge(left)).toBe(true);
    expect(vm.refused("trackDirty", { consumer: NAME, on: true, method: null })).toBe("ENOMEM");
    vm.budget.release(left);
    const after = vm.instance.digest().parts;
    expect({ ...after, scheduler: "" }).toEqual({ ...before, scheduler: "" });
  });
});

describe("what userspace and KVM write themselves", () => {
  it("is told as well as what vCPUs store", () => {
    const vm = new TrackedVm();
    vm.track();
    const bytes = new Uint8Array(K4 + 2);
    const offset = BigInt(5 * K4 - 1);
    vm.call("writeMemoryObject", { id: vm.object, offset, bytes });
    vm.call("writePhysicalMemory", { gpa: BigInt(gpa(20)), bytes: bytes.slice(0, 1) });
    vm.kvm.vm.guestMemory?.write(gpa(30) + K4 - 1, bytes.slice(0, 2));
    expect(vm.harvest()).toEqual([4, 5, 6, 20, 30, 31]);
  });

  it("by KVM outside of any vCPU, is found in the bitmap beside the rings", () => {
    const vm = new TrackedVm({ ring: 4096 });
    vm.track("ring");
    vm.kvm.vm.guestMemory?.write(gpa(30), Uint8Array.of(1));
    vm.stores([3]);
    expect(vm.harvest()).toEqual([3, 30]);
    expect(vm.harvest()).toEqual([]);
  });

  it("in memory that two slots show is told of once, by object", () => {
    const vm = new TrackedVm();
    const object = vm.call("listMemoryObjects", {})[0]!;
    vm.region(1, 0x9000_0000, 64 * K4, object.userspaceAddr + BigInt(33 * K4));
    vm.track();
    vm.store(0, [0x9000_0000 + 2 * K4, gpa(35), gpa(36)]);
    expect(vm.harvest()).toEqual([35, 36]);
  });
});

describe("while the host tracks", () => {
  it("the client's own log is refused, with who tracks and where to look", () => {
    const vm = new TrackedVm({ ring: 4096 });
    vm.track();
    const bitmap = new Uint8Array(32);
    const range = { slot: 0, firstPage: 0n, numPages: 256, bitmap };
    const refusals = [
      vm.refused("getDirtyLog", { slot: 0 }),
      vm.refused("harvestDirtyLog", { slot: 0, key: "k", after: null }),
      vm.refused("clearDirtyLog", range),
      vm.refused("deferDirtyLogClear", range),
      vm.refused("resetDirtyRings", {}),
      vm.refused("readDirtyRing", { vcpu: 0, from: 0, limit: 1 }),
      vm.refused("harvestDirtyRing", { vcpu: 0, upTo: 0 }),
      vm.refused("setDirtyRingFlags", { vcpu: 0, index: 0, flags: 0 }),
      vm.refused("enableCap", { cap: MANUAL, flags: 0, args: [1n] }),
      vm.refused("enableCap", { cap: HDBSS, flags: 0, args: [0n, 1n] }),
      vm.refused("changeDirty", { settings: { "hacdbs.use": "off" }, seedBugs: null }),
    ];
    expect(new Set(refusals)).toEqual(new Set(["dirty-log-owned"]));
    const at = { slot: 1, guestPhysAddr: 0xa000_0000n, memorySize: 4096n, userspaceAddr: 0n };
    expect(vm.refused("setUserMemoryRegion", { ...at, flags: 1 })).toBe("dirty-log-owned");
    expect(() => vm.call("getDirtyLog", { slot: 0 })).toThrow(
      expect.objectContaining({
        extensions: { owner: "vmm", consumers: [NAME], links: [`/v1/${NAME}`] },
      }),
    );
    vm.untrack();
    expect(vm.refused("resetDirtyRings", {})).toBeNull();
  });

  it("a client that logs itself keeps its log", () => {
    const vm = new TrackedVm();
    vm.setFlags(vm.call("listMemslots", {})[0]!, 1);
    expect(vm.call("describeTracking", {}).owner).toBe("client");
    expect(vm.refused("trackDirty", { consumer: NAME, on: true, method: null })).toBe(
      "dirty-log-owned",
    );
    vm.stores([3]);
    expect(vm.dirty(0)).toEqual([3]);
  });

  it("new slots log from their first store, moved ones keep their pages", () => {
    const vm = new TrackedVm();
    vm.track();
    const { object, slot } = vm.slot(1, 64, { gpa: 0x9000_0000 });
    expect(slot.flags).toBe(0);
    expect(vm.call("listMemslots", {}).map(({ flags }) => flags)).toEqual([0, 0]);
    vm.store(0, [0x9000_0000 + 3 * K4]);
    vm.region(1, 0xa000_0000, 64 * K4, object.userspaceAddr);
    vm.store(0, [0xa000_0000 + 4 * K4]);
    const pages = vm.call("harvestDirty", { consumer: NAME });
    expect(pagesIn(pages, object.id)).toEqual([3, 4]);
  });

  it("of a slot that goes every page is told, of an object that goes none", () => {
    const vm = new TrackedVm();
    const { object } = vm.slot(1, 64, { gpa: 0x9000_0000 });
    vm.track();
    vm.store(0, [0x9000_0000]);
    vm.deleteSlot(1);
    expect(pagesIn(vm.call("peekDirty", { consumer: NAME }), object.id)).toHaveLength(64);
    vm.call("deleteMemoryObject", { id: object.id });
    expect(vm.call("harvestDirty", { consumer: NAME }).blocks).toEqual([]);
  });

  it("a ring has no entry left of a slot that went, when a smaller one takes its number", () => {
    const vm = new TrackedVm({ ring: 4096 });
    vm.slot(1, 64, { gpa: 0x9000_0000 });
    vm.track("ring");
    vm.store(0, [0x9000_0000 + 60 * K4, 0x9000_0000 + 61 * K4]);
    vm.deleteSlot(1);
    expect(vm.call("describeVcpu", { vcpu: 0 }).dirtyRing).toMatchObject({
      dirtyIndex: 2,
      resetIndex: 2,
    });
    const { object } = vm.slot(1, 8, { gpa: 0x9000_0000 });
    for (const _ of [1, 2]) {
      vm.store(0, [0x9000_0000 + 3 * K4]);
      expect(pagesIn(vm.call("harvestDirty", { consumer: NAME }), object.id)).toEqual([3]);
    }
  });

  it("a full ring is reaped at once: the client's run goes on", () => {
    const vm = new TrackedVm({ ring: 4096, pages: 2048 });
    vm.track("ring");
    vm.pattern(
      0,
      { base: BASE, bytes: 2048 * K4, count: 2048 },
      { pattern: "sequential", stride: K4 },
    );
    expect(vm.run(0)).toMatchObject({ exitReason: "KVM_EXIT_HLT", retired: 2048 });
    expect(vm.counter("dirtyRingExits")).toBeGreaterThan(9);
    expect(vm.harvest()).toHaveLength(2048);
  });
});

describe("methods", () => {
  const whyNot = (vm: Inline) =>
    Object.fromEntries(
      vm.call("describeTracking", {}).methods.map(({ method, whyNot: why }) => [method, why]),
    );

  it("a VM says what it can't do, and why", () => {
    const plain = whyNot(new TrackedVm());
    expect(plain).toMatchObject({ bitmap: null, "manual-protect": null, "hdbss+hacdbs": null });
    expect(plain["ring"]).toContain("built without dirty rings");
    expect(plain["async-run"]).toContain("only a board's vCPUs");
    const rings = whyNot(new TrackedVm({ ring: 4096 }));
    expect(rings).toMatchObject({ ring: null, bitmap: "it records in dirty rings, for good" });
    expect(rings["hdbss"]).toContain("no room");
    const bare = { "hardware.hdbss": false, "hardware.hacdbs": false };
    const old = whyNot(new TrackedVm({ dirty: { settings: bare, seedBugs: [] } }));
    expect(old["hdbss"]).toContain("no HDBSS");
  });

  it.each([
    ["of everything", {}, 0, "hdbss+hacdbs"],
    ["without HACDBS", { "hardware.hacdbs": false }, 0, "hdbss"],
    ["without HDBSS", { "hardware.hdbss": false }, 0, "manual-protect"],
    ["with rings", {}, 32_768, "ring"],
  ])("the best %s", (_what, settings, ring, best) => {
    const vm = new TrackedVm({ ring, dirty: { settings, seedBugs: [] } });
    expect(vm.track().method).toBe(best);
  });

  it.each(["ioctl-v2", "auto-first-logging-slot", "auto-buffers-at-vcpu-create"])(
    "HDBSS of a VM where it is turned on by %s",
    (by) => {
      const settings = { "hdbss.enableBy": by };
      const vm = new TrackedVm({ dirty: { settings, seedBugs: [] } });
      vm.track("hdbss");
      expect(vm.kvm.vm.isHdbssOn).toBe(true);
      vm.stores([4]);
      vm.stores([4]);
      expect(vm.harvest()).toEqual([4]);
      vm.stores([4]);
      expect(vm.harvest()).toEqual([4]);
      vm.untrack();
      expect(vm.kvm.vm.isHdbssOn).toBe(false);
    },
  );

  it("a client sees the manual protect that it asked for, and has it again", () => {
    const vm = new TrackedVm();
    vm.enable(MANUAL, 3n);
    for (const method of ["bitmap", "manual-protect"] as const) {
      vm.track(method);
      expect(vm.call("describe", {}).manualDirtyLogProtect).toBe(3);
      vm.stores([4]);
      expect(vm.harvest()).toEqual([4]);
    }
    vm.untrack();
    expect(vm.kvm.vm.caps.manualDirtyLogProtect).toBe(3);
  });

  it("HDBSS that the client has turned on stays on", () => {
    const vm = new TrackedVm();
    vm.enable(HDBSS, 0n, 1n);
    vm.track("hdbss");
    vm.stores([4]);
    expect(vm.harvest()).toEqual([4]);
    vm.untrack();
    expect(vm.kvm.vm.isHdbssOn).toBe(true);
  });

  it("KVM that fails to turn HDBSS on leaves nothing behind", () => {
    const vm = new TrackedVm();
    vm.kvm.vm.host.faults.arm({ kind: "hdbss-alloc", nth: 1, vcpu: null, times: 1, delay: 0 });
    expect(vm.refused("trackDirty", { consumer: NAME, on: true, method: "hdbss" })).toBe("ENOMEM");
    expect(vm.call("describeTracking", {})).toMatchObject({ owner: "none", consumers: [] });
    expect(vm.call("listMemslots", {})[0]?.flags).toBe(0);
    expect(vm.track("hdbss").method).toBe("hdbss");
  });

  it("a guest_memfd can't be tracked", () => {
    const vm = new TrackedVm();
    const file = vm.call("createGuestMemfd", { size: 65536n, flags: 1n });
    const region = {
      slot: 5,
      flags: 4,
      guestPhysAddr: 0xb000_0000n,
      memorySize: 65536n,
      userspaceAddr: 0n,
      guestMemfd: file.id,
      guestMemfdOffset: 0n,
    };
    vm.call("setUserMemoryRegion2", region);
    expect(vm.refused("trackDirty", { consumer: NAME, on: true, method: null })).toBe(
      "tracking-unavailable",
    );
    vm.deleteSlot(5);
    vm.track();
    expect(vm.refused("setUserMemoryRegion2", region)).toBe("dirty-log-owned");
  });
});
