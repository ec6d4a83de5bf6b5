// Goal: a vCPU that needs a page which hasn't come waits for it alone, and whoever else needs one
// gets its bytes or waits, never something older.
// Method: VMs whose pages are said to be absent; the test is the data plane that brings them.
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { PageRequests } from "../../../../src/base/page-requests.js";
import type { MemoryMap } from "../../../../src/vmm/commands.js";
import * as a64 from "../../../support/a64.js";
import { InlineBoard } from "../../../support/board.js";
import { BASE, Inline } from "../../../support/inline.js";
import { hold, letGo } from "../../../support/moved.js";

const PAGES = 64;

/** What a data plane keeps at the target, filled by hand. */
class Arriving {
  readonly present = new Map<number, Int32Array<SharedArrayBuffer>>();
  readonly asked: string[] = [];
  readonly #vm: Inline;
  readonly map: MemoryMap;
  readonly #ring = new PageRequests();
  #read = 0;

  /** @param fetch brings pages at once, as a data plane of the same thread does */
  constructor(vm: Inline, fetch: ((object: number, page: number) => number) | null = null) {
    this.#vm = vm;
    hold(vm);
    this.map = vm.call("describeMemory", {});
    for (const { object, bytes } of this.map.blocks) {
      const words = Math.ceil(bytes / this.map.pageSize / 32);
      this.present.set(object, new Int32Array(new SharedArrayBuffer(words * 4)));
    }
    vm.call("awaitPages", {
      present: this.present,
      requests: this.#ring.shared,
      ...(fetch === null
        ? {}
        : {
            fetch: (object: number, page: number) => {
              this.asked.push(`now ${object}:${page}`);
              this.land(object, page, fetch(object, page));
            },
          }),
    });
    letGo(vm);
  }

  get ring(): SharedArrayBuffer {
    return this.#ring.shared;
  }

  /** Requests that are new, as "object:page". */
  requests(): readonly string[] {
    const words = new Int32Array(this.#ring.shared);
    const fresh: string[] = [];
    for (; this.#read < (words[0] ?? 0); this.#read++) {
      const at = 2 + (this.#read % 1024) * 2;
      fresh.push(`${words[at]}:${words[at + 1]}`);
    }
    return fresh;
  }

  /** Bytes first, the bit last. */
  land(object: number, page: number, byte: number): void {
    const block = this.map.blocks.find((one) => one.object === object);
    if (block?.backing === "ram") {
      const at = block.pa + page * this.map.pageSize;
      new Uint8Array(this.map.memory.buffer, at, this.map.pageSize).fill(byte);
    }
    Atomics.or(this.present.get(object)!, page >> 5, 1 << (page & 31));
  }

  bring(object: number, page: number, byte: number): void {
    this.land(object, page, byte);
    this.#vm.call("pagesArrived", {});
  }
}

function twoVcpus(huge = false, pages = PAGES): { vm: Inline; pages: Arriving } {
  const vm = new Inline({ hostCpus: 2 });
  vm.slot(0, pages, { huge });
  vm.vcpu(0);
  vm.vcpu(1);
  return { vm, pages: new Arriving(vm) };
}

const at = (page: number): number => BASE + page * 4096; // tidy: pages of the VM
const loads = (vm: Inline, vcpu: number): readonly bigint[] =>
  vm.call("readProgram", { vcpu, from: 0, limit: 16 }).loads;
const read = (page: number) => ({ op: "read", address: BigInt(at(page)), length: 8 }) as const;

describe("a vCPU that needs a page which hasn't come", () => {
  it("waits, and loads what has come then; others run on", () => {
    const { vm, pages } = twoVcpus();
    pages.bring(1, 9, 0x99);
    vm.list(0, [read(5)]);
    vm.list(1, [read(9)]);
    const waits = vm.beginRun(0);
    const runs = vm.beginRun(1);
    expect(vm.finish(runs).exitReason).toBe("KVM_EXIT_HLT");
    expect(loads(vm, 1)).toEqual([0x9999_9999_9999_9999n]);
    vm.pump(20);
    expect(waits.done).toBe(false);
    expect(pages.requests()).toEqual(["1:5"]);
    // News that are not about its page change nothing, and it doesn't ask again.
    pages.bring(1, 6, 0x66);
    vm.pump(20);
    expect(waits.done).toBe(false);
    expect(pages.requests()).toEqual([]);
    pages.bring(1, 5, 0x55);
    expect(vm.finish(waits).exitReason).toBe("KVM_EXIT_HLT");
    expect(loads(vm, 0)).toEqual([0x5555_5555_5555_5555n]);
  });

  it("asks once, however many wait for it", () => {
    const { vm, pages } = twoVcpus();
    vm.list(0, [read(5)]);
    vm.list(1, [{ op: "write", address: BigInt(at(5)), length: 8, value: 1n }, read(5)]);
    const runs = [vm.beginRun(0), vm.beginRun(1)];
    vm.pump(100);
    expect(runs.map(({ done }) => done)).toEqual([false, false]);
    expect(pages.requests()).toEqual(["1:5"]);
    pages.bring(1, 5, 0x55);
    for (const run of runs) expect(vm.finish(run).exitReason).toBe("KVM_EXIT_HLT");
    expect(loads(vm, 1).at(-1)).toBe(1n);
    expect(vm.call("pagesArrived", {}).demanded).toBe(1);
  });

  it("leaves KVM_RUN when it is kicked, is held, and waits again in the next", () => {
    const { vm, pages } = twoVcpus();
    vm.list(0, [read(5)]);
    const run = vm.beginRun(0);
    vm.pump(20);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run)).toMatchObject({ errno: "EINTR" });
    const again = vm.beginRun(0);
    vm.pump(20);
    expect(hold(vm)).toEqual({ wasRunning: true });
    expect(vm.finish(again)).toMatchObject({ errno: "EINTR" });
    letGo(vm);
    const last = vm.beginRun(0);
    vm.pump(20);
    expect(last.done).toBe(false);
    pages.bring(1, 5, 0x55);
    expect(vm.finish(last).exitReason).toBe("KVM_EXIT_HLT");
    expect(pages.requests()).toEqual(["1:5"]);
  });

  it("gets its page alone: blocks map nothing that is absent, until all is here", () => {
    const { vm, pages } = twoVcpus(true, 1024);
    pages.bring(1, 5, 0x55);
    expect(vm.load(0, [at(5)])).toEqual([0x5555_5555_5555_5555n]);
    const waits = vm.beginRun(0);
    vm.finish(waits);
    vm.list(0, [read(6)]);
    const run = vm.beginRun(0);
    vm.pump(20);
    expect(run.done).toBe(false);
    for (let page = 0; page < 1024; page++) pages.land(1, page, page === 6 ? 0x66 : 0);
    vm.call("allPagesHere", {});
    expect(vm.finish(run).exitReason).toBe("KVM_EXIT_HLT");
    expect(loads(vm, 0)).toEqual([0x6666_6666_6666_6666n]);
    expect(vm.kvm.vm.tables.leaf(BASE / 4096)?.span).toBe(512); // tidy: pages of the VM
  });

  it("waits for unbacked pages too, and keeps what it stored when they come twice", () => {
    const vm = new Inline();
    const { object } = vm.slot(0, PAGES, { backing: "unbacked" });
    vm.vcpu(0);
    const pages = new Arriving(vm);
    vm.list(0, [{ op: "write", address: BigInt(at(3)), length: 8, value: 1n }]);
    const run = vm.beginRun(0);
    vm.pump(20);
    expect(pages.requests()).toEqual([`${object.id}:3`]);
    const came = { object: object.id, pages: Uint32Array.of(3), sequences: Uint32Array.of(7) };
    vm.call("writeSequences", came);
    pages.bring(object.id, 3, 0);
    vm.finish(run);
    vm.call("writeSequences", came);
    const now = vm.call("readSequences", { object: object.id, first: 3, count: 1 });
    expect([...now]).toEqual([8]);
  });
});

describe("others that need a page which hasn't come", () => {
  it("a client's read and write wait for all of theirs, while other commands are answered", () => {
    const { vm, pages } = twoVcpus();
    pages.bring(1, 5, 0x55);
    const both = vm.begin("readPhysicalMemory", { gpa: BigInt(at(5)), length: 8192 });
    const write = vm.begin("writeMemoryObject", {
      id: 1,
      offset: BigInt(7 * vm.page + 1),
      bytes: Uint8Array.of(1, 2),
    });
    vm.pump(20);
    expect([both.done, write.done]).toEqual([false, false]);
    expect(vm.call("listVcpus", {})).toHaveLength(2);
    expect(pages.requests()).toEqual(["1:6", "1:7"]);
    pages.bring(1, 6, 0x66);
    const bytes = vm.finish(both);
    expect([bytes[0], bytes[4096]]).toEqual([0x55, 0x66]); // tidy: the second page
    expect(write.done).toBe(false);
    pages.bring(1, 7, 0x77);
    vm.finish(write);
    const at7 = vm.call("readMemoryObject", { id: 1, offset: BigInt(7 * vm.page), length: 4 });
    expect([...at7]).toEqual([0x77, 1, 2, 0x77]);
  });

  it("KVM's own accesses and a device's have the page before they go on", () => {
    const vm = InlineBoard.with(a64.bytesOf([a64.b(0)]));
    const pages = new Arriving(vm, (_object, page) => page & 0xff);
    const { guestMemory } = vm.kvm.vm;
    expect([...(guestMemory?.read(0x4000_5ffe, 4) ?? [])]).toEqual([5, 5, 6, 6]);
    vm.hardware.memory.write(0x4000_7001, Uint8Array.of(0xaa));
    expect([...vm.hardware.memory.read(0x4000_7000, 3)]).toEqual([7, 0xaa, 7]);
    expect(vm.hardware.memory.u16(0x4000_9000)).toBe(0x0909);
    expect(pages.asked).toEqual(["now 1:5", "now 1:6", "now 1:7", "now 1:9"]);
    expect(pages.requests()).toEqual([]);
  });

  it("the thread stands still for a device until another brings the page", async () => {
    const vm = InlineBoard.with(a64.bytesOf([a64.b(0)]));
    const pages = new Arriving(vm);
    const { memory, blocks } = pages.map;
    const plane = new Worker(
      `const { workerData } = require("node:worker_threads");
       const { ring, words, memory, pa } = workerData;
       const requests = new Int32Array(ring);
       Atomics.wait(requests, 0, 0);
       const page = requests[3];
       setTimeout(() => {
         new Uint8Array(memory.buffer, pa + page * 4096, 4096).fill(page);
         Atomics.or(new Int32Array(words.buffer), page >> 5, 1 << (page & 31));
         Atomics.notify(new Int32Array(words.buffer), page >> 5);
       }, 20);`,
      {
        eval: true,
        workerData: { ring: pages.ring, words: pages.present.get(1), memory, pa: blocks[0]?.pa },
      },
    );
    expect([...vm.hardware.memory.read(0x4002_1000, 2)]).toEqual([0x21, 0x21]);
    expect(vm.call("pagesArrived", {}).waitedMs).toBeGreaterThanOrEqual(0);
    expect(pages.requests()).toEqual(["1:33"]);
    await plane.terminate();
  });

  it("nobody moves it on, or runs without all of its pages, before it is allowed", () => {
    const { vm } = twoVcpus();
    expect(vm.refused("describeMemory", {})).toBe("vm-not-movable");
    const free = new Inline();
    const args = { present: new Map(), requests: new PageRequests().shared };
    expect(free.refused("awaitPages", args)).toBe("vm-not-held");
    expect(free.call("allPagesHere", {})).toEqual({ demanded: 0, waitedMs: 0 });
  });
});
