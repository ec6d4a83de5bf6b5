// Goal: a look at a vCPU's code finds what the vCPU would run, and changes nothing.
// Method: words in guest memory, without and with stage 1, on a VM inline.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { BASE, Inline } from "../../support/inline.js";

const K4 = 4096;
const PC = 0x6030_0000_0010_0040n;
const PSCI_FEATURE = 4n;
const NOP = 0xd503_201f;

function load(vm: Inline, gpa: number, words: readonly number[]): void {
  vm.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes: a64.bytesOf(words) });
}

function guest(words: readonly number[]): Inline {
  const vm = new Inline();
  vm.slot(0, 32);
  vm.vcpu();
  vm.call("vcpuInit", { vcpu: 0, target: 5, features: [PSCI_FEATURE] });
  load(vm, BASE, words);
  const value = new Uint8Array(8);
  new DataView(value.buffer).setBigUint64(0, BigInt(BASE), true);
  vm.call("setOneReg", { vcpu: 0, reg: PC, value });
  return vm;
}

const look = (vm: Inline, address: bigint | null, count: number) =>
  vm.call("disassemble", { vcpu: 0, address, count }).map(({ text }) => text);

const words = (value: bigint) => [Number(value & 0xffff_ffffn), Number(value >> 32n)];
const AF = 1n << 10n;
const VALID_PAGE = 3n;
const tables = BASE + 0x1_0000;
/** Where stage 1 puts the page at `code`: in the upper half, apart from its own address. */
const UPPER = 0xffff_ff80_0000_0000n;
const code = BASE + 3 * K4;

/** Tables for TTBR1, 39 bits: one page at UPPER, whose access flag is clear. */
function withStage1(): Inline {
  const registers: readonly (readonly [Parameters<typeof a64.msr>[0], bigint])[] = [
    ["MAIR_EL1", 0xff00n],
    ["TCR_EL1", 25n | (25n << 16n) | (2n << 30n) | (2n << 32n)],
    ["TTBR0_EL1", BigInt(tables + 3 * K4)],
    ["TTBR1_EL1", BigInt(tables)],
  ];
  const vm = guest([
    ...registers.flatMap(([name, value]) => [...a64.mov(0, value), a64.msr(name, 0)]),
    a64.mrs(0, "SCTLR_EL1"),
    a64.add(0, 0, 1),
    a64.msr("SCTLR_EL1", 0),
    a64.ISB,
    ...a64.powerOff(),
  ]);
  load(vm, tables, words(BigInt(tables + K4) | 3n));
  load(vm, tables + K4, words(BigInt(tables + 2 * K4) | 3n));
  load(vm, tables + 2 * K4, words(BigInt(code) | VALID_PAGE | (1n << 2n)));
  // The lower half is a block of 1 GiB, identity, so that the guest itself goes on.
  load(vm, tables + 3 * K4 + 8, words(BigInt(2 ** 30) | 1n | (1n << 2n) | AF));
  load(vm, code, [NOP, 0x1400_0001, 0xd503_205f]);
  return vm;
}

describe("a look at code", () => {
  it("begins at the PC and goes on as long as there is memory", () => {
    const vm = guest([NOP, 0x9100_0400, 0xffff_ffff]);
    expect(look(vm, null, 3)).toEqual(["nop", "add x0, x0, #0x1", ".word 0xffffffff"]);
    const end = BigInt(BASE + 32 * K4);
    expect(look(vm, end - 8n, 100)).toEqual(["udf #0", "udf #0"]);
    expect(vm.refused("disassemble", { vcpu: 0, address: end, count: 1 })).toBe("va-not-mapped");
  });

  it("tells address and word", () => {
    const vm = guest([NOP]);
    expect(vm.call("disassemble", { vcpu: 0, address: null, count: 1 })).toEqual([
      { address: BigInt(BASE), word: NOP, text: "nop" },
    ]);
  });

  it("goes through stage 1, and leaves descriptors, digest and translations alone", () => {
    const vm = withStage1();
    expect(vm.run().exitReason).toBe("KVM_EXIT_SYSTEM_EVENT");
    const before = vm.digest();
    expect(look(vm, UPPER, 3)).toEqual(["nop", `b 0x${(UPPER + 8n).toString(16)}`, "wfe"]);
    // The next page isn't mapped.
    expect(look(vm, UPPER + BigInt(K4) - 4n, 5)).toEqual(["udf #0"]);
    const beyond = { vcpu: 0, address: UPPER + BigInt(K4), count: 1 };
    expect(vm.refused("disassemble", beyond)).toBe("va-not-mapped");
    expect(vm.digest()).toBe(before);
    const descriptor = { gpa: BigInt(tables + 2 * K4), length: 8 };
    const bytes = vm.call("readPhysicalMemory", descriptor);
    expect(new DataView(bytes.buffer).getBigUint64(0, true) & AF).toBe(0n);
  });

  it("is refused while the vCPU runs", () => {
    const vm = guest([a64.b(0)]);
    const run = vm.beginRun();
    vm.pump(5);
    const args = { vcpu: 0, address: null, count: 1 };
    expect(vm.refused("disassemble", args)).toBe("vcpu-running");
    vm.call("kick", { vcpu: 0 });
    vm.finish(run);
    expect(look(vm, null, 1)).toEqual([`b 0x${BASE.toString(16)}`]);
  });
});
