// Goal: whoever copies the pages of each harvest has, once every vCPU has stopped, all of memory:
// by every method, on boards and client VMs, beside other consumers that come and go.
// Method: each consumer keeps a replica of memory by harvests alone; replica and memory are
// compared byte by byte at every rest. Pages that were told of and hadn't changed are counted.
import { describe, expect, it } from "vitest";
import { Prng } from "../../../src/base/prng.js";
import type { DirtyPages, RunResult, TrackingMethod } from "../../../src/vmm/commands.js";
import * as a64 from "../../support/a64.js";
import { InlineBoard } from "../../support/board.js";
import { BASE, Inline, type InlineOptions, type Pending, pagesOf } from "../../support/inline.js";

const K4 = 4096;
const RING = 223;
const RING_BITMAP = 225;
const OTHER = 0x9000_0000;
const UNBACKED = 0xa000_0000;
const VCPUS = 3;
const DATA_PAGES = 256;
/** Where guest code stores, behind itself. */
const DATA = BASE + 0x10_0000;

/** Memory as a consumer knows it: content of RAM pages, write sequences of others. */
class Replica {
  readonly #vm: Inline;
  readonly #pages = new Map<string, string | number>();
  told = 0;
  needless = 0;

  constructor(vm: Inline) {
    this.#vm = vm;
    for (const { id, bytes } of this.#objects) {
      for (let page = 0; page < bytes / vm.page; page++) this.#copy(id, page);
    }
  }

  get #objects() {
    return this.#vm.kvm.vm.mm.list();
  }

  #content(id: number, page: number): string | number {
    const { mm, host } = this.#vm.kvm.vm;
    const object = mm.byId(id)!;
    const pa = object.pa + page * this.#vm.page;
    if (object.backing === "unbacked") return host.unbacked.sequence(pa);
    return Buffer.from(host.memory.u8.subarray(pa, pa + this.#vm.page)).toString("latin1");
  }

  /** @returns whether it was another */
  #copy(id: number, page: number): boolean {
    const key = `${id}/${page}`;
    const content = this.#content(id, page);
    if (this.#pages.get(key) === content) return false;
    this.#pages.set(key, content);
    return true;
  }

  take({ blocks }: DirtyPages): void {
    for (const { object, bitmap } of blocks) {
      for (const page of pagesOf(bitmap)) {
        this.told++;
        if (!this.#copy(object, page)) this.needless++;
      }
    }
  }

  /** Pages that differ from memory. */
  get stale(): string[] {
    const stale: string[] = [];
    for (const { id, bytes } of this.#objects) {
      for (let page = 0; page < bytes / this.#vm.page; page++) {
        const key = `${id}/${page}`;
        if (this.#pages.get(key) !== this.#content(id, page)) stale.push(key);
      }
    }
    return stale;
  }
}

/** A VM with vCPUs that store all the time, and how to stop them. */
interface Machine {
  readonly vm: Inline;
  start(): void;
  stop(): void;
  /** Something beside the vCPUs writes, or changes the memory map. */
  disturb(prng: Prng): void;
}

function words(prng: Prng): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(prng.below(2 ** 31))).buffer);
}

class Client implements Machine {
  readonly vm: Inline;
  readonly #isGuest: boolean;
  #runs: Pending<RunResult>[] = [];
  #seed = 1n;

  constructor(options: InlineOptions, isGuest: boolean, ring: number) {
    this.vm = new Inline({ hostCpus: 2, schedule: "seeded", ...options });
    this.#isGuest = isGuest;
    const { vm } = this;
    if (ring !== 0) {
      vm.enable(RING, BigInt(ring));
      vm.enable(RING_BITMAP);
    }
    const { object } = vm.slot(0, 256 + DATA_PAGES, { huge: true });
    vm.region(1, OTHER, 70 * K4, object.userspaceAddr + BigInt((256 + 33) * K4));
    vm.slot(2, 130, { gpa: UNBACKED, backing: "unbacked" });
    vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: a64.bytesOf(storing()) });
    for (let id = 0; id < VCPUS; id++) this.#addVcpu(id);
  }

  #addVcpu(id: number): void {
    const { vm } = this;
    vm.vcpu(id);
    if (!this.#isGuest) return;
    vm.call("vcpuInit", { vcpu: id, target: 5, features: [4n] });
    const set = (reg: bigint, value: bigint) => {
      const bytes = new Uint8Array(BigUint64Array.of(value).buffer);
      vm.call("setOneReg", { vcpu: id, reg: 0x6030_0000_0010_0000n | reg, value: bytes });
    };
    set(0x40n, BigInt(BASE));
    set(0n, BigInt(id + 1));
  }

  start(): void {
    const { vm } = this;
    for (let id = 0; id < VCPUS; id++) {
      if (!this.#isGuest) {
        const base = [DATA, OTHER, UNBACKED][id]!;
        const bytes = [DATA_PAGES, 70, 130][id]! * K4;
        vm.pattern(id, { base, bytes, count: 0 }, { seed: this.#seed++, writePercent: 60 });
      }
    }
    this.#runs = Array.from({ length: VCPUS }, (_, id) => vm.beginRun(id));
  }

  stop(): void {
    for (let id = 0; id < VCPUS; id++) this.vm.call("kick", { vcpu: id });
    for (const run of this.#runs) expect(this.vm.finish(run).errno).toBe("EINTR");
  }

  disturb(prng: Prng): void {
    const { vm } = this;
    const [object] = vm.call("listMemoryObjects", {});
    const page = 256 + prng.below(DATA_PAGES - 1);
    const choice = prng.below(5);
    const offset = page * K4 + K4 - 4;
    if (choice === 0) {
      const args = { id: object!.id, offset: BigInt(offset), bytes: words(prng) };
      vm.call("writeMemoryObject", args);
    } else if (choice === 1) {
      vm.call("writePhysicalMemory", { gpa: BigInt(BASE + offset), bytes: words(prng) });
    } else if (choice === 2) {
      expect(vm.kvm.vm.guestMemory?.write(BASE + offset, words(prng))).toBe(true);
    } else if (choice === 3) {
      // Moves the slot away and back: its pages come along.
      const [, slot] = vm.call("listMemslots", {});
      const at = slot!.guestPhysAddr === BigInt(OTHER) ? OTHER + 0x100_0000 : OTHER;
      if (this.#isGuest) vm.call("setUserMemoryRegion", { ...slot!, guestPhysAddr: BigInt(at) });
    } else {
      const slot = vm.call("listMemslots", {}).find((each) => each.slot === 2)!;
      if (this.#isGuest) {
        vm.deleteSlot(2);
        vm.call("setUserMemoryRegion", slot);
      }
    }
  }
}

/** Stores for ever to pages that it draws; X0 is its seed. */
function storing(): number[] {
  const [seed, factor, base, page, at] = [10, 11, 12, 13, 14];
  const loop = [
    a64.madd(seed, seed, factor, factor),
    a64.ubfx(page, seed, 40, 8),
    a64.addReg(at, base, page, 12), // tidy: a shift of the page's size
    a64.str(seed, at, 64),
  ];
  const setUp = [
    a64.orrReg(seed, 31, 0),
    ...a64.mov(factor, 0x5851_f42d_4c95_7f2dn),
    ...a64.mov(base, BigInt(DATA)),
  ];
  return [...setUp, ...loop, a64.b(-loop.length)];
}

const CPU_ON = 0xc400_0003n;

class OnBoard implements Machine {
  readonly vm: InlineBoard;

  constructor(options: InlineOptions, ring: number) {
    const more = { hostCpus: 2, schedule: "seeded", ...options } as const;
    this.vm = new InlineBoard({ vm: more, board: { vcpus: VCPUS, memoryMiB: 4 } });
    if (ring !== 0) {
      this.vm.enable(RING, BigInt(ring));
      this.vm.enable(RING_BITMAP);
    }
    this.vm.call("loadBoard", { image: a64.bytesOf(OnBoard.#image()), initrd: null });
  }

  /** The first core switches the others on; each stores with its own seed. */
  static #image(): number[] {
    const on = Array.from({ length: VCPUS - 1 }, (_, at) => [
      ...a64.mov(0, CPU_ON),
      ...a64.mov(1, BigInt(at + 1)),
      a64.orrReg(2, 31, 20),
      ...a64.mov(3, BigInt(at + 7)),
      a64.HVC,
    ]).flat();
    // Secondary cores begin at `storing`, where X0 is what CPU_ON gave.
    const head = [...on, ...a64.mov(0, 3n)];
    return [a64.adr(20, head.length + 1), ...head, ...storing()];
  }

  start(): void {
    const { state } = this.vm.view();
    this.vm.act(state === "paused" ? "resume" : "start");
  }

  stop(): void {
    this.vm.act("pause");
  }

  disturb(prng: Prng): void {
    const { vm } = this;
    const page = prng.below(DATA_PAGES - 1);
    const at = DATA + page * K4 + K4 - 4;
    const choice = prng.below(8);
    if (choice === 0) vm.act("reset");
    else if (choice < 4) vm.hardware.memory.write(at, words(prng));
    else if (choice < 6) expect(vm.kvm.vm.guestMemory?.write(at, words(prng))).toBe(true);
    else vm.call("writePhysicalMemory", { gpa: BigInt(at), bytes: words(prng) });
  }
}

/** As a migration does before its last harvest: KVM writes tables into memory as it saves. */
function hold({ vm }: Machine): void {
  vm.call("holdVm", { hold: true, why: "It moves." });
  vm.call("saveState", {});
}

function letGo(machine: Machine): void {
  machine.vm.call("holdVm", { hold: false, why: "It stays." });
  // A board goes on by itself, a client has to run its vCPUs again.
  if (machine instanceof Client) machine.start();
}

/** A consumer and what it knows; a migration, or somebody who comes and goes beside it. */
class Consumer {
  readonly name: string;
  readonly #vm: Inline;
  replica: Replica | null = null;

  constructor(vm: Inline, name: string) {
    this.#vm = vm;
    this.name = name;
  }

  begin(method: TrackingMethod | null): void {
    this.#vm.call("trackDirty", { consumer: this.name, on: true, method });
    this.replica ??= new Replica(this.#vm);
  }

  end(): void {
    this.#vm.call("trackDirty", { consumer: this.name, on: false, method: null });
    this.replica = null;
  }

  harvest(prng: Prng): void {
    const { name: consumer, replica } = this;
    if (replica === null) return;
    const pages = this.#vm.call("harvestDirty", { consumer });
    if (prng.below(4) === 0) this.#vm.call("returnDirty", { consumer, pages });
    else replica.take(pages);
  }

  /** The last harvest, with every vCPU stopped. */
  settle(): void {
    const { name: consumer, replica } = this;
    if (replica === null) return;
    replica.take(this.#vm.call("harvestDirty", { consumer }));
    expect(replica.stale).toEqual([]);
  }
}

/** INV-5: nothing is left in a buffer, a ring or an array. */
function expectDrained({ vm, log, hacdbs }: Inline["kvm"]): void {
  expect(vm.vcpus.map(({ hdbss }) => hdbss?.index ?? 0)).toEqual([0, 0, 0]);
  const left = vm.vcpus.map(({ ring }) => (ring === null ? 0 : ring.dirtyIndex - ring.resetIndex));
  expect(left).toEqual([0, 0, 0]);
  expect([hacdbs.inFlight, log.deferred.pendingPages]).toEqual([0, 0]);
}

function play(machine: Machine, methods: readonly TrackingMethod[], prng: Prng): Consumer {
  const { vm } = machine;
  const main = new Consumer(vm, "migrations/m1");
  const other = new Consumer(vm, "dirty-rate");
  machine.start();
  vm.pump(prng.below(400));
  main.begin(methods[0]!);
  for (let rest = 0; rest < 3; rest++) {
    for (let round = 0; round < 6; round++) {
      vm.pump(prng.below(300));
      if (prng.below(3) === 0) machine.disturb(prng);
      if (prng.below(2) === 0) main.harvest(prng);
      const choice = prng.below(6);
      if (choice === 0 && other.replica !== null) other.end();
      else if (choice === 1) other.begin(methods[prng.below(methods.length)]!);
      else if (choice === 2) other.harvest(prng);
    }
    const isMoved = prng.below(2) === 0;
    if (isMoved) hold(machine);
    else machine.stop();
    main.settle();
    other.settle();
    expectDrained(vm.kvm);
    if (isMoved) letGo(machine);
    else machine.start();
  }
  machine.stop();
  return main;
}

/** False positives are allowed, but most of what is told is news. */
function expectUseful(replica: Replica | null): void {
  const { told = 0, needless = 0 } = replica ?? {};
  expect(told).toBeGreaterThan(100);
  expect(needless).toBeLessThan(0.6 * told);
}

const SEEDS = [1n, 2n, 3n, 4n] as const;
const ALL: readonly TrackingMethod[] = ["bitmap", "manual-protect", "hdbss", "hdbss+hacdbs"];
const dbm = { dirtyTracking: "dbm" } as const;

const ROWS: readonly (readonly [string, readonly TrackingMethod[], number, InlineOptions])[] = [
  ...ALL.map((method) => [method, [method], 0, {}] as const),
  ["bitmap over scanned descriptors", ["bitmap", "manual-protect"], 0, dbm],
  ["one after the other", ALL, 0, {}],
  ["one after the other, over scanned descriptors", ALL, 0, dbm],
  ["ring", ["ring"], 4096, {}],
  ["ring and hdbss", ["ring", "hdbss", "hdbss+hacdbs"], 16_384, {}],
];

describe.each(ROWS)("%s", (_name, methods, ring, options) => {
  it.each(SEEDS)("synthetic vCPUs, seed %d", (seed) => {
    const machine = new Client({ ...options, seed, pageSize: 4096 }, false, ring);
    const { replica } = play(machine, methods, new Prng(seed));
    expectUseful(replica);
  });

  it.each(SEEDS)("guest code, seed %d", (seed) => {
    const machine = new Client({ ...options, seed }, true, ring);
    const { replica } = play(machine, methods, new Prng(seed));
    expectUseful(replica);
  });

  it.each(SEEDS)("a board, seed %d", (seed) => {
    const machine = new OnBoard({ ...options, seed }, ring);
    const { replica } = play(machine, methods, new Prng(seed));
    expectUseful(replica);
  });
});

describe("async-run", () => {
  it.each(SEEDS)("a board, seed %d", (seed) => {
    const machine = new OnBoard({ seed }, 0);
    const { replica } = play(machine, ["async-run", "bitmap", "async-run"], new Prng(seed));
    expectUseful(replica);
    expect(machine.vm.view().state).toBe("paused");
  });
});
