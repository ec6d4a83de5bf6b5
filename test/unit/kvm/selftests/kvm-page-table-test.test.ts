// Goal: kvm_page_table_test with guest code: vCPUs store before, while and after a region is
// logged; blocks are mapped, split and mapped again, and no store is lost.
// Method: each vCPU adds to a word of its own in every page, round after round; stage 2 is walked
// between the phases.
import { describe, expect, it } from "vitest";
import { KVM_MP_STATE } from "../../../../src/kvm/uapi/flags.js";
import * as a64 from "../../../support/a64.js";
import { Guest, OFF, X } from "../../../support/guest.js";
import { BASE, type InlineOptions, MIB } from "../../../support/inline.js";

const K4 = 4096;
const DATA = BASE + 0x100_0000;
const BYTES = 4 * MIB;
const PAGES = BYTES / K4;
const VCPUS = 3;
const LOG = 1;

/** Adds 1 to this vCPU's word in every page of x5…x6, then tells by PSCI. */
const program = (vcpu: number): number[] => [
  a64.addReg(0, 31, 5),
  ...[a64.ldr(1, 0, 8 * vcpu), a64.add(1, 1, 1), a64.str(1, 0, 8 * vcpu)],
  a64.addReg(0, 0, 7),
  a64.subsReg(31, 0, 6),
  a64.bne(-5),
  ...a64.powerOff(),
];

class PageTableTest extends Guest {
  readonly log;
  readonly data: number;
  rounds = 0;

  constructor(huge: boolean, options: InlineOptions) {
    super(options);
    const { slot, object } = this.slot(1, PAGES, { gpa: DATA, huge });
    this.log = slot;
    this.data = object.id;
    for (let id = 0; id < VCPUS; id++) {
      this.boot(id, program(id), BASE + id * K4);
      this.set(X(5), BigInt(DATA), id);
      this.set(X(6), BigInt(DATA + BYTES), id);
      this.set(X(7), BigInt(K4), id);
    }
  }

  /** All vCPUs store to every page once, at the same time. `during` runs somewhere in it. */
  round(during: () => void = () => {}): void {
    const pc = 0x6030_0000_0010_0040n;
    for (let id = 0; id < VCPUS; id++) {
      this.set(pc, BigInt(BASE + id * K4), id);
      this.call("setMpState", { vcpu: id, mpState: KVM_MP_STATE.RUNNABLE });
    }
    // A vCPU that powers off stops the others; they all have to come that far.
    const left = new Set(Array.from({ length: VCPUS }, (_, id) => id));
    let runs = new Map([...left].map((id) => [id, this.beginRun(id)]));
    this.pump(200);
    during();
    while (left.size > 0) {
      for (const [id, run] of runs) {
        this.pumpUntil(() => run.done || [...runs.values()].some((other) => other.done));
        if (!run.done) continue;
        expect(run.value).toMatchObject(OFF);
        left.delete(id);
      }
      for (const id of left) this.call("kick", { vcpu: id });
      for (const id of left) this.finish(runs.get(id)!);
      for (const id of left) {
        this.call("setMpState", { vcpu: id, mpState: KVM_MP_STATE.RUNNABLE });
      }
      runs = new Map([...left].map((id) => [id, this.beginRun(id)]));
    }
    this.rounds++;
    this.check();
  }

  check(): void {
    const args = { id: this.data, offset: 0n, length: BYTES };
    const words = new Uint32Array(this.call("readMemoryObject", args).buffer);
    const wrong: string[] = [];
    for (let page = 0; page < PAGES; page++) {
      for (let id = 0; id < VCPUS; id++) {
        const found = words[(page * K4) / 4 + 2 * id];
        if (found !== this.rounds) wrong.push(`page ${page}, vCPU ${id}: ${found}`);
      }
    }
    expect(wrong).toEqual([]);
  }
}

const HOSTS = [
  { schedule: "round-robin" },
  { schedule: "seeded", seed: 3n },
  { schedule: "seeded", seed: 4n, dirtyTracking: "dbm" },
  { schedule: "round-robin", hostCpus: 2, translation: null },
] as const satisfies readonly InlineOptions[];
const ALL = Array.from({ length: PAGES }, (_, page) => page);

describe.each([false, true])("kvm_page_table_test, huge pages: %s", (huge) => {
  const size = BigInt(huge ? 2 * MIB : K4);
  it.each(HOSTS)("%o: before, while and after it is logged", (options) => {
    const vm = new PageTableTest(huge, options);
    vm.round();
    expect(vm.leaf(DATA)).toMatchObject({ size });
    vm.setFlags(vm.log, LOG);
    vm.round();
    expect(vm.leaf(DATA)).toMatchObject({ size: BigInt(K4) });
    expect(vm.dirty(1)).toEqual(ALL);
    expect(vm.dirty(1)).toEqual([]);
    vm.round();
    expect(vm.dirty(1)).toEqual(ALL);
    vm.setFlags(vm.log, 0);
    vm.round();
    // Blocks come back with the next fault, which hardware's dirty state doesn't need.
    if (!("dirtyTracking" in options)) expect(vm.leaf(DATA)).toMatchObject({ size });
  });

  it.each(HOSTS)("%o: logging comes and goes while they store", (options) => {
    const vm = new PageTableTest(huge, options);
    vm.round(() => vm.setFlags(vm.log, LOG));
    vm.dirty(1);
    vm.round(() => vm.dirty(1));
    vm.round(() => vm.setFlags(vm.log, 0));
    expect(vm.refused("getDirtyLog", { slot: 1 })).toBe("ENOENT");
    vm.round();
  });
});
