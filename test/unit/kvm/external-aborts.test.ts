// Goal: aborts that nobody answers: injected by userspace, of memory that isn't there, of the
// host's own; and SErrors. As the kernel's selftests external_aborts and sea_to_user do it.
// Method: guests whose handlers tell the syndrome, over the API's commands.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import {
  daifClr,
  daifSet,
  ESB,
  Guest,
  K4,
  ldr,
  ldrPost,
  mrs,
  msr,
  PC,
  report,
  SYS,
  UART,
  useVectors,
  X,
} from "../../support/guest-code.js";
import { BASE } from "../../support/inline.js";

const NONE = {
  serrorPending: false,
  serrorHasEsr: false,
  extDabtPending: false,
  serrorEsr: 0n,
};
const abort = (vm: Guest) => vm.call("setVcpuEvents", { vcpu: 0, ...NONE, extDabtPending: true });
const DABT_SAME = 0x9600_0010n;
const IABT_SAME = 0x8600_0010n;
const OFF = { exitReason: "KVM_EXIT_SYSTEM_EVENT" };
const NISV_TO_USER = 177;
const SEA_TO_USER = 245;
const UNBACKED = 0x9000_0000;

describe("an abort in place of an MMIO exit's completion", () => {
  it("is taken at the load, which did not happen", () => {
    const words = [...useVectors(), ...a64.mov(1, UART + 8n), ...a64.mov(2, 0x77n), ldr(2, 1)];
    const vm = new Guest(words);
    vm.onSync(report());
    expect(vm.run().mmio).toMatchObject({ physAddr: UART + 8n, len: 8, isWrite: false });
    abort(vm);
    expect(vm.call("getVcpuEvents", { vcpu: 0 })).toEqual({ ...NONE, serrorHasEsr: true });
    expect(vm.run(0, { mmioData: [1, 2, 3, 4, 5, 6, 7, 8] })).toMatchObject(OFF);
    const load = BigInt(BASE + 4 * (words.length - 1));
    expect(vm.xs(2, 20, 21, 22)).toEqual([0x77n, DABT_SAME, load, UART + 8n]);
  });

  it("has no IL before the vCPU ever left the guest, as in KVM", () => {
    const vm = new Guest([]);
    vm.set(PC, BigInt(BASE));
    vm.onSync(report());
    vm.set(0x6030_0000_0013_c600n, BigInt(BASE + K4));
    abort(vm);
    expect(vm.get(PC)).toBe(BigInt(BASE + K4 + 0x200));
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(20, 22)).toEqual([0x9400_0010n, 0n]);
  });
});

describe("an access without a syndrome", () => {
  const words = [...useVectors(), ...a64.mov(1, UART), ldrPost(2, 1)];
  const at = BigInt(BASE + 4 * (words.length - 1));

  it("fails the run with ENOSYS", () => {
    const vm = new Guest(words);
    expect(vm.run()).toMatchObject({ errno: "ENOSYS" });
    expect(vm.get(PC)).toBe(at);
  });

  it("exits as ARM_NISV where userspace asked for it, and takes an abort", () => {
    const vm = new Guest(words, { caps: [NISV_TO_USER] });
    vm.onSync(report());
    const { errno, exitReason, armNisv } = vm.run();
    expect({ errno, exitReason }).toEqual({ errno: null, exitReason: "KVM_EXIT_ARM_NISV" });
    // A translation fault of a read; nothing else is told.
    expect(armNisv).toMatchObject({ faultIpa: UART });
    expect(armNisv!.esrIss & ~3n).toBe(4n);
    abort(vm);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(1, 20, 21, 22)).toEqual([UART, DABT_SAME, at, UART]);
  });

  it("is userspace's to emulate: it moves PC itself", () => {
    const vm = new Guest([...words, ...a64.powerOff()], { caps: [NISV_TO_USER] });
    vm.run();
    vm.set(X(2), 5n);
    vm.set(PC, at + 4n);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.get(X(2))).toBe(5n);
  });
});

describe("what no slot is behind", () => {
  it("beyond the VM's IPA size data and code abort", () => {
    const beyond = 1n << 41n;
    for (const [words, esr] of [
      [[ldr(2, 1)], DABT_SAME],
      [[0xd61f_0020], IABT_SAME],
    ] as const) {
      const vm = new Guest([...useVectors(), ...a64.mov(1, beyond), ...words]);
      vm.onSync(report());
      expect(vm.run()).toMatchObject(OFF);
      expect(vm.xs(20, 22)).toEqual([esr, beyond]);
    }
  });

  it("a stage-1 table there aborts with the level of the walk, of data and of AT", () => {
    const table = BASE + 8 * K4;
    // Level 0 → level 1 → 1 GiB of code; the second level-1 entry leads to a hole.
    const setUp = [
      ...useVectors(),
      ...a64.mov(0, 0xff00n),
      a64.msr("MAIR_EL1", 0),
      ...a64.mov(0, 16n | (2n << 32n)),
      a64.msr("TCR_EL1", 0),
      ...a64.mov(0, BigInt(table)),
      a64.msr("TTBR0_EL1", 0),
      a64.mrs(0, "SCTLR_EL1"),
      a64.add(0, 0, 1),
      a64.msr("SCTLR_EL1", 0),
      a64.ISB,
      ...a64.mov(1, 2n ** 31n),
    ];
    const AT_S1E1R = 0xd508_7801;
    for (const access of [ldr(2, 1), AT_S1E1R]) {
      const vm = new Guest([...setUp, access]);
      const words = (value: bigint) => [Number(value & 0xffff_ffffn), Number(value >> 32n)];
      vm.code(table, words(BigInt(table + K4) | 3n));
      const block = BigInt(BASE) | 1n | (1n << 2n) | (3n << 8n) | (1n << 10n);
      vm.code(table + K4, [...words(0n), ...words(block), ...words(0x1000_0000n | 3n)]);
      vm.onSync(report());
      expect(vm.run()).toMatchObject(OFF);
      expect(vm.xs(20, 22)).toEqual([0x9600_0016n, 2n ** 31n]);
    }
  });

  it("AT goes through tables that KVM maps first, and tells faults in PAR_EL1", () => {
    const table = BASE + 8 * K4;
    const AT_S1E1W = 0xd508_7821;
    const vm = new Guest([
      ...a64.mov(0, 16n | (2n << 32n)),
      a64.msr("TCR_EL1", 0),
      ...a64.mov(0, BigInt(table)),
      a64.msr("TTBR0_EL1", 0),
      ...a64.mov(0, 1n),
      a64.msr("SCTLR_EL1", 0),
      a64.ISB,
      ...a64.mov(1, 2n ** 31n),
      AT_S1E1W,
      mrs(5, SYS.PAR_EL1),
      ...a64.powerOff(),
    ]);
    const words = (value: bigint) => [Number(value & 0xffff_ffffn), Number(value >> 32n)];
    vm.code(table, words(BigInt(table + K4) | 3n));
    const block = BigInt(BASE) | 1n | (1n << 10n);
    vm.code(table + K4, [...words(0n), ...words(block)]);
    expect(vm.run()).toMatchObject(OFF);
    // Translation fault of level 1: F, FST, and bit 11.
    expect(vm.get(X(5))).toBe(0x80bn);
  });
});

describe("SErrors", () => {
  const ESR = 0xbe00_0000n;
  const SYNDROME = (1n << 24n) | 0x1_d1edn;
  const inject = (vm: Guest, serrorEsr?: bigint) =>
    vm.call("setVcpuEvents", {
      vcpu: 0,
      ...NONE,
      serrorPending: true,
      serrorHasEsr: serrorEsr !== undefined,
      serrorEsr: serrorEsr ?? 0n,
    });

  it("wait while they are masked, are seen in ISR_EL1, and are taken once", () => {
    const vm = new Guest([
      ...useVectors(),
      mrs(5, SYS.ISR_EL1),
      ...a64.mov(6, UART),
      ldr(7, 6),
      daifClr(4),
      ...a64.mov(8, 1n),
      ...a64.powerOff(),
    ]);
    vm.onSerror(report());
    inject(vm, SYNDROME);
    expect(vm.run().exitReason).toBe("KVM_EXIT_MMIO");
    expect(vm.get(X(5))).toBe(0x100n);
    const events = { ...NONE, serrorPending: true, serrorHasEsr: true, serrorEsr: SYNDROME };
    expect(vm.call("getVcpuEvents", { vcpu: 0 })).toEqual(events);
    // Nothing takes it back.
    vm.call("setVcpuEvents", { vcpu: 0, ...NONE });
    expect(vm.call("getVcpuEvents", { vcpu: 0 })).toEqual(events);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(8, 20)).toEqual([0n, ESR | SYNDROME]);
    expect(vm.call("getVcpuEvents", { vcpu: 0 }).serrorPending).toBe(false);
  });

  it("are taken before the first instruction when nothing masks them", () => {
    const spin = [...useVectors(), daifClr(4), a64.b(0)];
    const vm = new Guest(spin);
    vm.onSerror(report());
    const run = vm.beginRun();
    vm.pump(20);
    vm.call("kick", { vcpu: 0 });
    expect(vm.finish(run).errno).toBe("EINTR");
    inject(vm);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(20, 21)).toEqual([ESR | (1n << 24n), BigInt(BASE + 4 * (spin.length - 1))]);
  });

  it("are written down by ESB where they are masked", () => {
    const vm = new Guest([
      ...useVectors(),
      daifSet(4),
      ESB,
      mrs(5, SYS.DISR_EL1),
      mrs(6, SYS.ISR_EL1),
      msr(SYS.DISR_EL1, 31),
      daifClr(4),
      ESB,
      mrs(7, SYS.DISR_EL1),
      ...a64.powerOff(),
    ]);
    inject(vm, SYNDROME);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(5, 6, 7)).toEqual([(1n << 31n) | SYNDROME, 0n, 0n]);
  });

  it("end a WFI, masked or not", () => {
    const vm = new Guest([a64.WFI, ...a64.powerOff()]);
    inject(vm);
    expect(vm.run()).toMatchObject(OFF);
  });

  it("are gone after a reset", () => {
    const vm = new Guest([]);
    inject(vm);
    vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    expect(vm.call("getVcpuEvents", { vcpu: 0 }).serrorPending).toBe(false);
  });
});

describe("memory of the host that doesn't answer", () => {
  const words = [...useVectors(), daifClr(4), ...a64.mov(1, BigInt(UNBACKED + 0x1238)), ldr(2, 1)];
  const load = BigInt(BASE + 4 * (words.length - 1));

  it("is an SError to the guest", () => {
    const vm = new Guest(words);
    vm.slot(1, 4, { gpa: UNBACKED, backing: "unbacked" });
    vm.onSerror(report());
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(20, 21)).toEqual([0xbf00_0000n, load]);
  });

  it("exits as ARM_SEA where userspace asked for it, which may inject an abort", () => {
    const vm = new Guest(words, { caps: [SEA_TO_USER] });
    vm.slot(1, 4, { gpa: UNBACKED, backing: "unbacked" });
    vm.onSync(report());
    const run = vm.run();
    expect(run).toMatchObject({ errno: null, exitReason: "KVM_EXIT_ARM_SEA" });
    expect(run.armSea).toEqual({
      flags: 1n,
      esr: 0x9200_0010n,
      gva: BigInt(UNBACKED + 0x1238),
      gpa: BigInt(UNBACKED + 0x1000),
    });
    expect(vm.get(PC)).toBe(load);
    // Run on unchanged, it happens again.
    expect(vm.run().exitReason).toBe("KVM_EXIT_ARM_SEA");
    abort(vm);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(20, 21, 22)).toEqual([DABT_SAME, load, BigInt(UNBACKED + 0x1238)]);
  });
});
