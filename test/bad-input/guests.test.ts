// Goal: no guest, however bad, holds its VM's thread or breaks more than itself: kicks and dirty
// logs stay answered within bounds, and the VM ends, if it ends, with a reason.
// Method: VMs inline, each with one kind of bad guest and two vCPUs; steps and instructions are
// counted. The same guests over HTTP: guests-http.test.ts.
import { describe, expect, it } from "vitest";
import { Prng } from "../../src/base/prng.js";
import * as a64 from "../support/a64.js";
import { BASE, Inline } from "../support/inline.js";
import { little, reg } from "../support/registers.js";
import { BAD_GUESTS, type BadGuest, RAM_PAGES, ROM, ROM_PAGES } from "./bad-guests.js";

const PSCI_0_2 = 4n;
const READONLY = 2;
const LOGGING = 1;
/** Steps between a kick and the end of the run, with two vCPUs and a dirty log under way. */
const KICK_STEPS = 400;
/** What both vCPUs retire meanwhile: a slice each, and the one that the kick came into. */
const KICK_INSTRUCTIONS = 400_000;
/** One step, whatever its instructions are: hundreds of times what it should take. */
const STEP_MS = 1000;

type Translation = null | { readonly regionMax?: number };

function build(guest: BadGuest, translation: Translation, seed: number): Inline {
  const vm = new Inline({ translation, seed: BigInt(seed) });
  vm.slot(0, RAM_PAGES, { flags: LOGGING });
  vm.slot(1, ROM_PAGES, { gpa: ROM, flags: READONLY });
  for (const [at, bytes] of guest.memory(new Prng(BigInt(seed)))) {
    vm.call("writePhysicalMemory", { gpa: BigInt(at), bytes });
  }
  for (const vcpu of [0, 1]) {
    vm.vcpu(vcpu);
    vm.call("vcpuInit", { vcpu, target: 5, features: [PSCI_0_2] });
    const set = (id: bigint, value: bigint) =>
      vm.call("setOneReg", { vcpu, reg: id, value: little(value, 8) });
    set(reg.PC, BigInt(BASE));
    set(reg.x(27), BigInt(vcpu));
    for (const [id, value] of guest.registers) set(id, value);
  }
  return vm;
}

/** Runs a vCPU for some steps; an exit is answered and the run begun again. */
class Runner {
  #run;
  readonly ends = new Set<string>();
  readonly vm: Inline;
  readonly vcpu: number;

  constructor(vm: Inline, vcpu: number) {
    this.vm = vm;
    this.vcpu = vcpu;
    this.#run = vm.beginRun(vcpu);
  }

  get isDone(): boolean {
    return this.#run.done;
  }

  /** Notes how the run ended and begins the next. */
  again(): void {
    if (!this.#run.done) return;
    const { exitReason, errno, mmio } = this.#run.value;
    this.ends.add(errno ?? exitReason);
    const mmioData = mmio?.isWrite === false ? Array.from({ length: mmio.len }, () => 0xa5) : [];
    this.#run = this.vm.beginRun(this.vcpu, mmioData.length > 0 ? { mmioData } : {});
  }
}

/** Everything that a bad guest may end a run with. */
const ENDS = new Set([
  "KVM_EXIT_MMIO",
  "KVM_EXIT_SYSTEM_EVENT",
  "KVM_EXIT_HYPERCALL",
  "KVM_EXIT_DEBUG",
  "ENOSYS",
  "EFAULT",
  "EINTR",
]);

function expectBounded(vm: Inline, guest: BadGuest): void {
  const { kvm } = vm;
  const runs = [new Runner(vm, 0), new Runner(vm, 1)];
  const prng = new Prng(3n);
  for (let round = 0; round < 12; round++) {
    for (let n = 0; n < 12; n++) {
      const begun = performance.now();
      vm.pump(1);
      expect(performance.now() - begun).toBeLessThan(STEP_MS);
      for (const run of runs) run.again();
    }
    guest.host?.(vm, prng);
    // A log and a kick at once.
    const log = vm.begin("harvestDirtyLog", { slot: 0, key: `k${round}`, after: null });
    const victim = runs[round & 1]!;
    const before = kvm.vm.instructions;
    vm.call("kick", { vcpu: victim.vcpu });
    for (let n = 0; n < KICK_STEPS && !(log.done && victim.isDone); n++) vm.pump(1);
    expect([log.done, victim.isDone]).toEqual([true, true]);
    expect(kvm.vm.instructions - before).toBeLessThanOrEqual(KICK_INSTRUCTIONS);
    vm.call("acknowledgeHarvest", { slot: 0, id: log.value.id });
    for (const run of runs) run.again();
  }
  const ends = [...runs[0]!.ends, ...runs[1]!.ends];
  expect(ends.filter((end) => !ENDS.has(end))).toEqual([]);
  expect(kvm.vm.dead).toBe(false);
  vm.instance.close();
}

describe.each([
  ["tier 0", null],
  ["translated", {}],
] as const)("%s: kicks and logs are answered, whatever the guest does", (_tier, translation) => {
  it.each(Object.entries(BAD_GUESTS))("%s", (_name, guest) => {
    for (let seed = 1; seed <= guest.seeds; seed++) {
      expectBounded(build(guest, translation, seed), guest);
    }
  });
});

describe("many small pieces of code", () => {
  // CODE_PAGES=500 CODE_PIECES=256 is more than tier 1 has slots for: 128,000 pieces.
  const PIECES_PER_PAGE = Number(process.env["CODE_PIECES"] ?? 32);
  const PAGES = Number(process.env["CODE_PAGES"] ?? 600);
  const K4 = 4096;
  /** Decoded and translated code, its tables, and what V8 keeps: far below one copy per piece. */
  const GROWTH_MIB = 150;

  /** More pages than are kept decoded, of small functions; all are called until they are hot. */
  function build(): Inline {
    const vm = new Inline();
    vm.slot(0, PAGES + 16);
    const page: number[] = [];
    for (let n = 0; n < PIECES_PER_PAGE; n++) {
      page.push(a64.add(9, 9, 1), a64.RET);
      while (page.length % (K4 / 4 / PIECES_PER_PAGE) !== 0) page.push(0);
    }
    const bytes = a64.bytesOf(page);
    for (let n = 0; n < PAGES; n++) {
      vm.call("writePhysicalMemory", { gpa: BigInt(BASE + (16 + n) * K4), bytes });
    }
    const loop = [
      ...a64.mov(2, BigInt(BASE + 16 * K4)),
      ...a64.mov(3, BigInt(PAGES * PIECES_PER_PAGE)),
      ...a64.mov(4, 80n),
      a64.blr(2),
      a64.subs(4, 4, 1),
      a64.bne(-2),
      a64.add(2, 2, K4 / PIECES_PER_PAGE),
      a64.subs(3, 3, 1),
      a64.bne(-6),
    ];
    const again = [...loop, a64.b(-loop.length)];
    vm.call("writePhysicalMemory", { gpa: BigInt(BASE), bytes: a64.bytesOf(again) });
    vm.vcpu();
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [PSCI_0_2] });
    vm.call("setOneReg", { vcpu: 0, reg: reg.PC, value: little(BigInt(BASE), 8) });
    return vm;
  }

  it("cost no more memory the second time than the first", { timeout: 600_000 }, () => {
    const vm = build();
    const pieces = BigInt(PAGES * PIECES_PER_PAGE * 80);
    const run = vm.beginRun();
    const rss: number[] = [];
    const called = () => vm.kvm.vm.vcpus[0]!.a64!.pe.registers.x(9);
    for (let round = 1n; round <= 3n; round++) {
      while (called() < round * pieces) vm.pump(1);
      rss.push(process.memoryUsage().rss / 2 ** 20);
    }
    if (process.env["CODE_PAGES"] !== undefined) console.log(`MiB after each round: ${rss}`);
    expect(run.done).toBe(false);
    expect(rss[2]! - rss[0]!).toBeLessThan(GROWTH_MIB);
    vm.call("kick", { vcpu: 0 });
    vm.pump(10);
    expect(run.value.errno).toBe("EINTR");
  });
});
