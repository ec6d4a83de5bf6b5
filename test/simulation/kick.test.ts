// Goal: a kick takes effect within one quantum. Method: count every access that any vCPU of the VM
// retires between the kick command and the reply of the kicked run, under both schedules.
import { describe, expect, it } from "vitest";
import { EventfdCounters } from "../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../src/base/memory-budget.js";
import { Prng } from "../../src/base/prng.js";
import type { CommandArgs, CommandName } from "../../src/vmm/index.js";
import { createInstance, type Instance } from "../../src/vmm/instance.js";

const QUANTUM_ACCESSES = 20_000;
const PAGE = 4096;
const PAGES = 8192;
const BASE = 0x4000_0000n;
const CAP_MANUAL = 168;
const MANUAL_AND_INITIALLY_SET = 3n;

/** @returns whether the command is answered by now */
function call<K extends CommandName>(vm: Instance, name: K, args: CommandArgs<K>): () => boolean {
  let isDone = false;
  vm.submit({ name, args }, (outcome) => {
    if (!outcome.ok) throw outcome.error;
    isDone = true;
  });
  return () => isDone;
}

/** A slot that logs, and vCPUs that store without end: mostly to few pages, sometimes to any. */
function build(schedule: "round-robin" | "seeded", vcpus: number, hostCpus: number): Instance {
  const vm = createInstance(
    {
      type: 40n,
      pageSize: PAGE,
      hostCpus,
      seed: 11n,
      clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
      dirtyTracking: "write-protect",
    },
    { budget: MemoryBudget.create(2 ** 32), eventfds: EventfdCounters.create(1), schedule },
  );
  const size = BigInt(PAGES * PAGE);
  const userspaceAddr = 0x1000_0000n;
  const args = [MANUAL_AND_INITIALLY_SET, 0n, 0n, 0n];
  call(vm, "enableCap", { cap: CAP_MANUAL, flags: 0, args });
  call(vm, "createMemoryObject", { size, userspaceAddr, backing: "unbacked", hugePages: false });
  const region = { slot: 0, flags: 1, guestPhysAddr: BASE, memorySize: size, userspaceAddr };
  call(vm, "setUserMemoryRegion", region);
  while (vm.advance(100, () => false) !== "idle");
  for (let vcpu = 0; vcpu < vcpus; vcpu++) {
    call(vm, "createVcpu", { id: vcpu });
    const program = {
      kind: "pattern",
      pattern: "hot-set",
      base: BASE,
      // Few pages: slices of nothing but accesses. All pages: faults again and again.
      bytes: vcpu % 4 === 3 ? size : BigInt(16 * PAGE),
      count: 0,
      writePercent: 90,
      length: 8,
      stride: 0,
      skew: 1,
      seed: BigInt(vcpu),
    } as const;
    call(vm, "setProgram", { vcpu, program });
  }
  return vm;
}

describe("a kick", () => {
  it.each([
    ["round-robin", 1, 0],
    ["round-robin", 4, 0],
    ["round-robin", 8, 2],
    ["seeded", 4, 0],
    ["seeded", 4, 1],
  ] as const)("ends a run within the quantum: %s, %i vCPUs, %i host CPUs", (...row) => {
    const [schedule, count, hostCpus] = row;
    const vm = build(schedule, count, hostCpus);
    const { kvm } = vm.machine;
    const prng = new Prng(5n);
    const run = (vcpu: number) => call(vm, "run", { vcpu, immediateExit: false, mmioData: null });
    const runs = Array.from({ length: count }, (_, vcpu) => run(vcpu));
    const bitmap = new Uint8Array(PAGES / 8).fill(0xff);
    let clear = () => true;
    let worst = 0;
    vm.advance(5000, () => false);
    for (let n = 0; n < 120; n++) {
      vm.advance(1 + prng.below(30), () => false);
      // A CLEAR of everything holds mmu_lock for many steps; a faulting vCPU waits for it.
      if (clear() && n % 4 === 0) {
        clear = call(vm, "clearDirtyLog", { slot: 0, firstPage: 0n, numPages: PAGES, bitmap });
        vm.advance(prng.below(12), () => false);
      }
      const vcpu = prng.below(count);
      const before = kvm.vm.instructions;
      call(vm, "kick", { vcpu });
      while (!runs[vcpu]!()) vm.advance(1, () => false);
      worst = Math.max(worst, kvm.vm.instructions - before);
      runs[vcpu] = run(vcpu);
    }
    vm.close();
    expect(kvm.vm.instructions).toBeGreaterThan(QUANTUM_ACCESSES / 8);
    expect(worst).toBeLessThanOrEqual(QUANTUM_ACCESSES);
  });
});
