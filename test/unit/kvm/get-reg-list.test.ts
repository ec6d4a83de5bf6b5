// Goal: KVM_GET_REG_LIST names what KVM names on such a host, and every id reads and takes back
// what it read; as the kernel's selftest get-reg-list. Method: a blessed list, written down here.
import { describe, expect, it } from "vitest";
import { Guest, little, sysId } from "../../support/guest-code.js";

const CORE = 0x6030_0000_0010_0000n;
const range = (count: number): bigint[] => Array.from({ length: count }, (_, n) => BigInt(n));

/** X0 to X30, SP, PC, PSTATE, SP_EL1, ELR_EL1, five SPSRs; V registers; FPSR, FPCR. */
const CORE_IDS = [
  ...range(31).map((n) => CORE | (2n * n)),
  ...range(10).map((n) => CORE | (0x3en + 2n * n)),
  ...range(32).map((n) => 0x6040_0000_0010_0054n + 4n * n),
  0x6020_0000_0010_00d4n,
  0x6020_0000_0010_00d5n,
];
const FIRMWARE_IDS = [
  ...range(4).map((n) => 0x6030_0000_0014_0000n | n),
  ...range(4).map((n) => 0x6030_0000_0016_0000n | n),
];
const TIMER_IDS = [0xdf19n, 0xdf1an, 0xdf02n, 0xdf01n, 0xdf11n, 0xdf12n].map(
  (index) => 0x6030_0000_0013_0000n | index,
);
const ID_SPACE = range(56).map((n) => sysId([3, 0, 0, 1 + Number(n >> 3n), Number(n & 7n)]));
const DEBUG = range(16).flatMap((n) => [4, 5, 6, 7].map((op2) => sysId([2, 0, 0, Number(n), op2])));

const SYSTEM_IDS = (
  [
    [2, 0, 0, 2, 0], // MDCCINT_EL1
    [2, 0, 0, 2, 2], // MDSCR_EL1
    [2, 0, 1, 1, 4], // OSLSR_EL1
    [2, 4, 0, 7, 0], // DBGVCR32_EL2
    [3, 0, 0, 0, 0], // MIDR_EL1
    [3, 0, 0, 0, 5], // MPIDR_EL1
    [3, 0, 0, 0, 6], // REVIDR_EL1
    [3, 0, 1, 0, 0], // SCTLR_EL1
    [3, 0, 1, 0, 1], // ACTLR_EL1
    [3, 0, 1, 0, 2], // CPACR_EL1
    [3, 0, 2, 0, 0], // TTBR0_EL1
    [3, 0, 2, 0, 1], // TTBR1_EL1
    [3, 0, 2, 0, 2], // TCR_EL1
    [3, 0, 5, 1, 0], // AFSR0_EL1
    [3, 0, 5, 1, 1], // AFSR1_EL1
    [3, 0, 5, 2, 0], // ESR_EL1
    [3, 0, 6, 0, 0], // FAR_EL1
    [3, 0, 7, 4, 0], // PAR_EL1
    [3, 0, 10, 2, 0], // MAIR_EL1
    [3, 0, 10, 3, 0], // AMAIR_EL1
    [3, 0, 12, 0, 0], // VBAR_EL1
    [3, 0, 12, 1, 1], // DISR_EL1
    [3, 0, 13, 0, 1], // CONTEXTIDR_EL1
    [3, 0, 13, 0, 4], // TPIDR_EL1
    [3, 0, 14, 1, 0], // CNTKCTL_EL1
    [3, 1, 0, 0, 1], // CLIDR_EL1
    [3, 1, 0, 0, 7], // AIDR_EL1
    [3, 2, 0, 0, 0], // CSSELR_EL1
    [3, 3, 0, 0, 1], // CTR_EL0
    [3, 3, 13, 0, 2], // TPIDR_EL0
    [3, 3, 13, 0, 3], // TPIDRRO_EL0
    [3, 4, 3, 0, 0], // DACR32_EL2
    [3, 4, 5, 0, 1], // IFSR32_EL2
    [3, 4, 5, 3, 0], // FPEXC32_EL2
  ] as const
).map(sysId);
/** CCSIDR_EL1 of each cache. */
const DEMUX_IDS = range(3).map((n) => 0x6020_0000_0011_0000n | n);

const BLESSED = [
  ...CORE_IDS,
  ...FIRMWARE_IDS,
  ...TIMER_IDS,
  ...ID_SPACE,
  ...DEBUG,
  ...SYSTEM_IDS,
  ...DEMUX_IDS,
];
const hex = (ids: readonly bigint[]): string[] => ids.map((id) => id.toString(16)).sort();

describe("KVM_GET_REG_LIST", () => {
  it("names the registers that KVM names, each once", () => {
    const ids = new Guest([]).call("getRegList", { vcpu: 0 });
    expect(hex(ids)).toEqual(hex(BLESSED));
  });

  it("every one reads, and takes back what it read", () => {
    const vm = new Guest([]);
    for (const reg of BLESSED) {
      const { value, size } = vm.call("getOneReg", { vcpu: 0, reg });
      expect(size).toBe(2 ** Number((reg >> 52n) & 15n));
      vm.call("setOneReg", { vcpu: 0, reg, value: little(value, size) });
      expect(vm.call("getOneReg", { vcpu: 0, reg }).value).toBe(value);
    }
  });

  it("has nothing that this vCPU's features don't bring", () => {
    const vm = new Guest([]);
    const absent = {
      ZCR_EL1: sysId([3, 0, 1, 2, 0]),
      PMCR_EL0: sysId([3, 3, 9, 12, 0]),
      APIAKEYLO_EL1: sysId([3, 0, 2, 1, 0]),
      Z0: 0x6080_0000_0015_0000n,
    };
    for (const reg of Object.values(absent)) {
      expect(vm.refused("getOneReg", { vcpu: 0, reg })).toBe("ENOENT");
    }
  });

  it("keeps AArch32's and the debug registers that its guests don't have", () => {
    const vm = new Guest([]);
    for (const reg of [
      CORE | 0x4an,
      CORE | 0x50n,
      sysId([2, 0, 0, 15, 4]),
      sysId([3, 4, 3, 0, 0]),
    ]) {
      vm.set(reg, 0x1234n);
      expect(vm.get(reg)).toBe(0x1234n);
    }
  });

  it("OSLSR_EL1 takes the lock's bit alone", () => {
    const vm = new Guest([]);
    const reg = sysId([2, 0, 1, 1, 4]);
    expect(vm.get(reg)).toBe(8n);
    vm.set(reg, 0xan);
    expect(vm.get(reg)).toBe(0xan);
    expect(vm.setRefused(reg, 2n)).toBe("EINVAL");
  });
});
