// Goal: what a VM with guest code does is the same whenever, or never, its code is translated.
// Method: a run of two guests with kicks, dirty logs and a host that rewrites their code is played
// with one way of translating, and replayed by its stamps with each other one.
import { describe, expect, it } from "vitest";
import { Prng } from "../../../src/base/prng.js";
import type { Command, CommandArgs, CommandName } from "../../../src/vmm/commands.js";
import type { Stamp } from "../../../src/vmm/definition.js";
import * as a64 from "../../support/a64.js";
import { BASE, Inline, type InlineOptions } from "../../support/inline.js";
import { little, reg } from "../../support/registers.js";

const K4 = 4096;
const DATA = BASE + 16 * K4;
const PATCHED = BASE + 8 * K4;

/** Arithmetic with every kind of flags, stores, SIMD, exclusives, a call of the host's code. */
const loop = [
  a64.add(1, 1, 1),
  a64.subs(2, 1, 7),
  0xba42_1820, // CCMN X1, #2, #0, NE
  0x9a82_1463, // CSINC X3, X3, X2, NE
  0x6b02_0063, // SUBS W3, W3, W2
  0xba03_0064, // ADCS X4, X3, X3
  0xea04_0085, // ANDS X5, X4, X4
  a64.ldadd(1, 6, 19),
  a64.ldxr(7, 20),
  a64.addReg(7, 7, 1),
  a64.stxr(8, 7, 20),
  a64.dup(0, 7),
  0x4ea0_8421, // ADD V1.4S, V1.4S, V0.4S
  a64.strq(1, 21),
  a64.blr(22),
  a64.ubfx(9, 1, 0, 5),
  a64.addReg(10, 19, 9, 12), // tidy: a shift
  a64.str(1, 10, 128),
];
const code = [...loop, a64.b(-loop.length)];
const TEMPLATE: readonly (readonly [number, Command])[] = [
  ...[0, 1].map((n) => [900 + n, command("kick", { vcpu: n })] as const),
  [30, command("harvestDirtyLog", { slot: 0, key: "a", after: null })],
  ...[2, 3].map((n) => [40, patch(n)] as const),
  ...[0, 1].map((n) => [20, run(n)] as const),
  [700, command("kick", { vcpu: 0 })],
  [50, command("acknowledgeHarvest", { slot: 0, id: "h1" })],
];

function command<K extends CommandName>(name: K, args: CommandArgs<K>): Command {
  return { name, args } as Command;
}
function run(vcpu: number): Command {
  return command("run", { vcpu, immediateExit: false, mmioData: null });
}
function patch(by: number): Command {
  const bytes = a64.bytesOf([a64.add(12, 12, by), a64.RET]);
  return command("writePhysicalMemory", { gpa: BigInt(PATCHED), bytes });
}

function setUp(): Command[] {
  const commands = [
    command("createMemoryObject", {
      size: BigInt(128 * K4),
      userspaceAddr: 0x7000_0000n,
      backing: "ram",
      hugePages: false,
    }),
    command("setUserMemoryRegion", {
      slot: 0,
      flags: 1,
      guestPhysAddr: BigInt(BASE),
      memorySize: BigInt(128 * K4),
      userspaceAddr: 0x7000_0000n,
    }),
    command("writePhysicalMemory", { gpa: BigInt(BASE), bytes: a64.bytesOf(code) }),
    patch(1),
  ];
  for (const vcpu of [0, 1]) {
    const set = (id: bigint, value: bigint) =>
      command("setOneReg", { vcpu, reg: id, value: little(value, 8) });
    commands.push(
      command("createVcpu", { id: vcpu }),
      command("vcpuInit", { vcpu, target: 5, features: [4n] }),
      set(reg.PC, BigInt(BASE)),
      set(reg.sys("CPACR_EL1"), 3n << 20n),
      set(reg.x(19), BigInt(DATA)),
      set(reg.x(20), BigInt(DATA + 8)),
      set(reg.x(21), BigInt(DATA + 64)),
      set(reg.x(22), BigInt(PATCHED)),
    );
  }
  return commands;
}
const SCRIPT = [
  ...setUp().map((one) => [300, one] as const),
  [5, run(0)] as const,
  [5, run(1)] as const,
  ...TEMPLATE,
];
const END = 300;

/** Ways of translating, each made anew for a VM. */
const WAYS: Readonly<Record<string, () => InlineOptions["translation"]>> = {
  never: () => null,
  "at once": () => ({}),
  "in small regions": () => ({ regionMax: 5 }),
  "after random delays": () => {
    const prng = new Prng(99n);
    return { delay: () => prng.below(40) };
  },
};

describe.each([
  { schedule: "seeded", seed: 4n },
  { schedule: "seeded", seed: 5n, hostCpus: 1, dirtyTracking: "dbm" },
  { schedule: "round-robin" },
] as const satisfies readonly InlineOptions[])("%o", (options) => {
  // A slice of round robin is 100,000 instructions.
  const scale = options.schedule === "seeded" ? 4 : 1 / 30;
  const steps = (pump: number) => Math.ceil(pump * scale);

  it.each(Object.keys(WAYS))("recorded while translating %s, replayed in every way", (name) => {
    const vm = new Inline({ ...options, translation: WAYS[name]!() });
    const stamps: Stamp[] = [];
    for (const [pump, todo] of SCRIPT) {
      vm.pump(steps(pump));
      stamps.push(vm.instance.submit(todo, () => {}));
    }
    vm.pump(steps(END));
    const { parts } = vm.instance.digest();
    expect(vm.kvm.vm.instructions).toBeGreaterThan(50_000);
    for (const way of Object.values(WAYS)) {
      const again = new Inline({ ...options, translation: way() });
      for (const [at, [, todo]] of SCRIPT.entries()) {
        expect(again.instance.advanceTo(stamps[at]!)).toBeNull();
        expect(again.instance.submit(todo, () => {})).toEqual(stamps[at]);
      }
      again.pump(steps(END));
      expect(again.instance.digest().parts).toEqual(parts);
    }
  });
});
