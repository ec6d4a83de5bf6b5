// Goal: equal inputs give equal VMs, a change shows in the digest, and a recorded run replays.
// Method: two instances side by side, commands in the middle of runs, digests after every part.
import { describe, expect, it } from "vitest";
import type { Command, CommandArgs, CommandName } from "../../../src/vmm/commands.js";
import type { Stamp } from "../../../src/vmm/definition.js";
import { BASE, bitmapOf, Inline, type InlineOptions } from "../../support/inline.js";

const K4 = 4096;
const PAGES = 192;
type Entry = readonly [pump: number, command: Command];

const command = <K extends CommandName>(name: K, args: CommandArgs<K>) =>
  ({ name, args }) as Command;

/** Commands with the steps to run before each: vCPUs, logs, moves and kicks all at once. */
const SCRIPT: readonly Entry[] = [
  [0, command("enableCap", { cap: 168, flags: 0, args: [1n] })],
  [0, command("createVcpu", { id: 0 })],
  [0, command("createVcpu", { id: 7 })],
  [
    0,
    command("createMemoryObject", {
      size: BigInt(PAGES * K4),
      userspaceAddr: 0x7000_0000n,
      backing: "ram",
      hugePages: false,
    }),
  ],
  [0, region(0, BASE, 0)],
  ...[0, 7].map(
    (vcpu): Entry => [
      0,
      command("setProgram", {
        vcpu,
        program: {
          kind: "pattern",
          pattern: vcpu === 0 ? "zipf" : "uniform",
          base: BigInt(BASE),
          bytes: BigInt(PAGES * K4),
          count: 0,
          writePercent: 70,
          length: 8,
          stride: 0,
          skew: 90,
          seed: BigInt(vcpu + 3),
        },
      }),
    ],
  ),
  ...[0, 7].map((vcpu): Entry => [3, run(vcpu)]),
  [40, region(0, BASE, 1)],
  [33, command("getDirtyLog", { slot: 0 })],
  [
    17,
    command("clearDirtyLog", {
      slot: 0,
      firstPage: 0n,
      numPages: PAGES,
      bitmap: bitmapOf(
        PAGES,
        Array.from({ length: 150 }, (_, i) => i),
      ),
    }),
  ],
  [29, command("kick", { vcpu: 7 })],
  [11, run(7)],
  [50, region(0, 0x9000_0000, 1)],
  [90, command("kick", { vcpu: 0 })],
  [5, command("harvestDirtyLog", { slot: 0, key: "k", after: null })],
  [60, command("kick", { vcpu: 7 })],
  [20, command("deleteMemoryObject", { id: 1 })],
];

const CONSUMER = "migrations/m1";
const track = (consumer: string, on: boolean, method: string | null) =>
  command("trackDirty", { consumer, on, method });
const TAKEN = { blocks: [{ object: 1, pages: 1, bitmap: Uint8Array.of(4) }], pages: 1 };

/** The same VM while the host tracks and throttles: vCPUs run from the ninth command on. */
const TRACKED: readonly Entry[] = [
  ...SCRIPT.slice(0, 9),
  [40, track(CONSUMER, true, "hdbss+hacdbs")],
  [60, command("setThrottle", { percent: 40, dirtyLimit: 20_000 })],
  [70, command("harvestDirty", { consumer: CONSUMER })],
  [30, command("returnDirty", { consumer: CONSUMER, pages: TAKEN })],
  [90, track("dirty-rate", true, "manual-protect")],
  [50, command("harvestDirty", { consumer: "dirty-rate" })],
  [20, region(0, 0x9000_0000, 0)],
  [50, command("harvestDirty", { consumer: CONSUMER })],
  [30, track(CONSUMER, false, null)],
  [20, command("setThrottle", { percent: 0, dirtyLimit: 0 })],
  [30, track("dirty-rate", false, null)],
  [40, command("kick", { vcpu: 7 })],
];

function run(vcpu: number): Command {
  return command("run", { vcpu, immediateExit: false, mmioData: null });
}

function region(slot: number, gpa: number, flags: number): Entry & Command {
  const args = {
    slot,
    flags,
    guestPhysAddr: BigInt(gpa),
    memorySize: BigInt(PAGES * K4),
    userspaceAddr: 0x7000_0000n,
  };
  return command("setUserMemoryRegion", args) as never;
}

/** Plays the script; @returns each command's stamp and the digest when it went in. */
function play(
  vm: Inline,
  script = SCRIPT,
): { stamps: Stamp[]; digests: string[]; answers: string[] } {
  const stamps: Stamp[] = [];
  const digests: string[] = [];
  const answers: string[] = [];
  for (const [pump, todo] of script) {
    vm.pump(pump);
    digests.push(vm.digest());
    const at = stamps.length;
    stamps.push(
      vm.instance.submit(todo, (outcome) => {
        answers.push(`${at}:${outcome.ok ? "ok" : String(outcome.error)}`);
      }),
    );
  }
  vm.pump(500);
  digests.push(vm.digest());
  return { stamps, digests, answers };
}

const MODES: readonly InlineOptions[] = [
  { schedule: "round-robin" },
  { schedule: "round-robin", hostCpus: 1 },
  { schedule: "seeded", seed: 1n },
  { schedule: "seeded", seed: 2n, hostCpus: 1 },
  { schedule: "seeded", seed: 3n, dirtyTracking: "dbm" },
];

describe.each(MODES)("%o", (options) => {
  it("a VM that the host tracks and throttles replays by its stamps", () => {
    const nsPerInstruction = 1_000_000;
    const clock = { mode: "virtual", nsPerInstruction, idle: "jump" } as const;
    const first = new Inline({ ...options, clock });
    const { stamps, digests, answers } = play(first, TRACKED);
    expect(answers.filter((answer) => !answer.endsWith(":ok"))).toEqual([]);
    expect(answers.length).toBeGreaterThanOrEqual(TRACKED.length - 1);
    expect(first.counter("throttledUs")).toBeGreaterThan(0);
    expect(first.counter("hacdbsBatches")).toBeGreaterThan(0);
    const again = new Inline({ ...options, clock });
    for (const [at, [, todo]] of TRACKED.entries()) {
      expect(again.instance.advanceTo(stamps[at]!)).toBeNull();
      expect(again.digest()).toBe(digests[at]);
      expect(again.instance.submit(todo, () => {})).toEqual(stamps[at]);
    }
    again.pump(500);
    expect(again.digest()).toBe(digests.at(-1));
  });

  it("two VMs that are fed the same stay the same", () => {
    const [one, two] = [play(new Inline(options)), play(new Inline(options))];
    expect(two).toEqual(one);
    expect(one.answers.length).toBe(SCRIPT.length);
    expect(new Set(one.digests.slice(6)).size).toBe(one.digests.length - 6);
  });

  it("a recorded run replays by its stamps alone", () => {
    const { stamps, digests } = play(new Inline(options));
    const again = new Inline(options);
    for (const [at, [, todo]] of SCRIPT.entries()) {
      const stamp = stamps[at]!;
      expect(again.instance.advanceTo(stamp)).toBeNull();
      expect(again.digest()).toBe(digests[at]);
      expect(again.instance.submit(todo, () => {})).toEqual(stamp);
    }
    again.pump(500);
    expect(again.digest()).toBe(digests.at(-1));
  });

  it("asking for the digest, or looking around, changes nothing", () => {
    const { digests } = play(new Inline(options));
    const watched = new Inline(options);
    const seen: string[] = [];
    for (const [pump, todo] of SCRIPT) {
      for (let n = 0; n < pump; n++) {
        watched.pump(1);
        if (n % 7 !== 0) continue;
        watched.call("describe", {});
        watched.call("listVcpus", {});
        watched.call("counters", {});
        watched.call("walkStage2", { ipa: BigInt(BASE) });
        if (n === 7) watched.digest();
      }
      seen.push(watched.digest());
      watched.instance.submit(todo, () => {});
    }
    expect(seen).toEqual(digests.slice(0, -1));
  });
});

describe("advanceTo", () => {
  const STAMP: Stamp = { seq: 0, step: 0, instructions: 0, virtualNs: 0, cut: false };

  it("says in a sentence how a run went another way", () => {
    const vm = new Inline();
    expect(vm.instance.advanceTo(STAMP)).toBeNull();
    expect(vm.instance.advanceTo({ ...STAMP, step: 3 })).toMatch(/nothing was runnable/);
    vm.slot(0, 4);
    vm.vcpu();
    vm.store(0, [BASE]);
    const { steps, instructions } = vm.call("describe", {});
    expect(vm.instance.advanceTo({ ...STAMP, step: steps, instructions })).toBeNull();
    expect(vm.instance.advanceTo({ ...STAMP, step: steps, instructions: 9 })).toMatch(/not 9/);
    expect(vm.instance.advanceTo(STAMP)).toMatch(/passed already/);
  });

  it("stamps carry sequence, steps, instructions and virtual time", () => {
    const clock = { mode: "virtual" as const, nsPerInstruction: 250, idle: "jump" as const };
    const vm = new Inline({ clock });
    vm.slot(0, 4);
    vm.vcpu();
    vm.store(0, [BASE, BASE, BASE]);
    const stamp = vm.instance.submit(command("counters", {}), () => {});
    expect(stamp).toMatchObject({ instructions: 3, virtualNs: 750, cut: false });
    const next = vm.instance.submit(command("counters", {}), () => {});
    expect(next).toEqual({ ...stamp, seq: stamp.seq + 1 });
    expect(vm.call("describe", {})).toMatchObject({ instructions: 3, virtualNs: 750 });
  });
});

describe("the digest", () => {
  const changes: readonly (readonly [string, (vm: Inline) => void])[] = [
    ["a byte of memory", (vm) => void vm.call("writePhysicalMemory", byte)],
    ["a store to unbacked memory", (vm) => void vm.store(0, [0x9000_0000])],
    ["a dirty page", (vm) => void vm.store(0, [BASE + 3 * K4])],
    ["a load that maps a page", (vm) => void vm.load(0, [BASE + 3 * K4])],
    ["a capability", (vm) => vm.enable(182, 7n)],
    ["a vCPU", (vm) => vm.vcpu(9)],
    ["an MP_STATE", (vm) => void vm.call("setMpState", { vcpu: 0, mpState: 5 })],
    ["a program", (vm) => vm.list(0, [{ op: "read", address: 0n, length: 1 }])],
    ["a slot", (vm) => void vm.region(5, 0xa000_0000, K4, 0)],
    ["a deleted slot", (vm) => vm.deleteSlot(1)],
    ["a memory object", (vm) => void vm.ram(K4)],
    ["a guest_memfd", (vm) => void vm.call("createGuestMemfd", { size: 4096n, flags: 0n })],
    ["a zone", (vm) => void vm.call("registerCoalescedZone", { addr: 0n, size: 8, pio: 0 })],
    ["a route", (vm) => void vm.call("setGsiRouting", { flags: 0, entries: [route] })],
    ["a harvest", (vm) => void vm.call("harvestDirtyLog", { slot: 0, key: "x", after: null })],
    ["a drain", (vm) => void vm.call("drainCoalescedRing", { key: null, after: null })],
    ["a counter", (vm) => void vm.call("kick", { vcpu: 0 })],
  ];
  const byte = { gpa: BigInt(BASE + 5), bytes: Uint8Array.of(1) };
  const zero = { irqchip: 0, pin: 0, addressLo: 0, addressHi: 0, data: 0, devid: 0 };
  const route = { gsi: 0, type: 1, flags: 0, ...zero };

  function base() {
    const vm = new Inline();
    vm.slot(0, 16, { flags: 1 });
    vm.slot(1, 16, { gpa: 0x9000_0000, backing: "unbacked" });
    vm.vcpu();
    vm.store(0, [BASE]);
    return vm;
  }

  it.each(changes)("shows %s", (_name, change) => {
    const [plain, changed] = [base(), base()];
    expect(changed.digest()).toBe(plain.digest());
    change(changed);
    expect(changed.digest()).not.toBe(plain.digest());
  });

  it("names its parts, each once", () => {
    const { parts } = base().instance.digest();
    const names = Object.keys(parts);
    expect(names).toContain("host-memory");
    expect(names).toContain("vcpu-0");
    // One more than the parts: memory has a digest of its own.
    expect(names.length).toBe(base().instance.machine.parts().length + 1);
  });
});
