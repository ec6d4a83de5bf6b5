// Goal: ioctl numbers and capabilities are KVM's, and promise nothing that is missing.
// Method: the tables against lists written here from the interface's text, commands against both.
import { describe, expect, it } from "vitest";
import { KvmError } from "../../../src/base/errors.js";
import { PAGE_SIZES } from "../../../src/base/page.js";
import { CAPS, checkExtension, EXITS, IOCTLS, ioctlCode } from "../../../src/kvm/index.js";
import { COMMANDS } from "../../../src/vmm/command.table.js";
import { IOCTL_OF } from "../../../src/vmm/ioctl-of.table.js";
import { BASE, Inline } from "../../support/inline.js";

/** From the project's kvm-uapi.md, section 2: numbers that a compiler printed from UAPI headers. */
const CODES: readonly (readonly [string, string, number])[] = [
  ["system", "KVM_GET_API_VERSION", 0x0000_ae00],
  ["system", "KVM_CREATE_VM", 0x0000_ae01],
  ["system", "KVM_CHECK_EXTENSION", 0x0000_ae03],
  ["vm", "KVM_CREATE_VCPU", 0x0000_ae41],
  ["vm", "KVM_GET_DIRTY_LOG", 0x4010_ae42],
  ["vm", "KVM_SET_USER_MEMORY_REGION", 0x4020_ae46],
  ["vm", "KVM_SET_USER_MEMORY_REGION2", 0x40a0_ae49],
  ["vm", "KVM_REGISTER_COALESCED_MMIO", 0x4010_ae67],
  ["vm", "KVM_UNREGISTER_COALESCED_MMIO", 0x4010_ae68],
  ["vm", "KVM_IRQ_LINE_STATUS", 0xc008_ae67],
  ["vm", "KVM_SET_GSI_ROUTING", 0x4008_ae6a],
  ["vm", "KVM_IRQFD", 0x4020_ae76],
  ["vm", "KVM_IOEVENTFD", 0x4040_ae79],
  ["vm", "KVM_ENABLE_CAP", 0x4068_aea3],
  ["vm", "KVM_SIGNAL_MSI", 0x4020_aea5],
  ["vm", "KVM_ARM_SET_DEVICE_ADDR", 0x4010_aeab],
  ["vm", "KVM_CLEAR_DIRTY_LOG", 0xc018_aec0],
  ["vm", "KVM_RESET_DIRTY_RINGS", 0x0000_aec7],
  ["vm", "KVM_GET_STATS_FD", 0x0000_aece],
  ["vm", "KVM_CREATE_GUEST_MEMFD", 0xc040_aed4],
  ["vm", "KVM_CREATE_DEVICE", 0xc00c_aee0],
  ["vcpu", "KVM_RUN", 0x0000_ae80],
  ["vcpu", "KVM_GET_MP_STATE", 0x8004_ae98],
  ["vcpu", "KVM_SET_MP_STATE", 0x4004_ae99],
  ["vcpu", "KVM_SET_GUEST_DEBUG", 0x4208_ae9b],
  ["vcpu", "KVM_GET_ONE_REG", 0x4010_aeab],
  ["vcpu", "KVM_GET_REG_LIST", 0xc008_aeb0],
  ["vcpu", "KVM_ARM_VCPU_FINALIZE", 0x4004_aec2],
];

describe("ioctl table", () => {
  it.each(CODES)("%s %s", (fd, name, code) => {
    const row = IOCTLS.find((one) => one.fd === fd && one.name === name);
    expect(row && ioctlCode(row)).toBe(code);
  });

  it("has a number and a descriptor once", () => {
    const keys = IOCTLS.map((row) => `${row.fd} ${ioctlCode(row)}`);
    expect(new Set(keys).size).toBe(keys.length);
    expect(new Set(IOCTLS.map(({ name }) => name)).size).toBe(IOCTLS.length);
  });

  it("has a command for each one that a VM answers, and none for those it does not", () => {
    const answered = IOCTLS.filter((row) => row.fd !== "system" && row.state !== "501");
    const commands = new Set<string>(Object.values(IOCTL_OF));
    commands.delete("KVM_CHECK_EXTENSION");
    expect([...commands].sort()).toEqual(answered.map(({ name }) => name).sort());
  });

  it("names only commands that there are", () => {
    for (const name of Object.keys(IOCTL_OF)) expect(COMMANDS).toHaveProperty(name);
  });
});

describe("exits", () => {
  it("have the header's numbers", () => {
    const numbers = Object.fromEntries(
      Object.entries(EXITS).map(([name, { number }]) => [name, number]),
    );
    expect(numbers).toEqual({
      KVM_EXIT_UNKNOWN: 0,
      KVM_EXIT_HYPERCALL: 3,
      KVM_EXIT_DEBUG: 4,
      KVM_EXIT_HLT: 5,
      KVM_EXIT_MMIO: 6,
      KVM_EXIT_INTR: 10,
      KVM_EXIT_SYSTEM_EVENT: 24,
      KVM_EXIT_ARM_NISV: 28,
      KVM_EXIT_DIRTY_RING_FULL: 31,
      KVM_EXIT_MEMORY_FAULT: 39,
      KVM_EXIT_ARM_SEA: 41,
      KVM_EXIT_CLEANED: 1000,
    });
  });
});

/** Capability → ioctl that it stands for (kvm-uapi.md 3.3). */
const STANDS_FOR: Readonly<Record<number, string>> = {
  0: "KVM_CREATE_IRQCHIP",
  3: "KVM_SET_USER_MEMORY_REGION",
  14: "KVM_GET_MP_STATE",
  15: "KVM_REGISTER_COALESCED_MMIO",
  23: "KVM_SET_GUEST_DEBUG",
  25: "KVM_SET_GSI_ROUTING",
  32: "KVM_IRQFD",
  36: "KVM_IOEVENTFD",
  41: "KVM_GET_VCPU_EVENTS",
  70: "KVM_GET_ONE_REG",
  77: "KVM_SIGNAL_MSI",
  88: "KVM_ARM_SET_DEVICE_ADDR",
  89: "KVM_CREATE_DEVICE",
  98: "KVM_ENABLE_CAP",
  102: "KVM_ARM_VCPU_INIT",
  127: "KVM_SET_DEVICE_ATTR",
  168: "KVM_CLEAR_DIRTY_LOG",
  174: "KVM_IRQ_LINE",
  187: "KVM_SET_DEVICE_ATTR",
  195: "KVM_SET_GUEST_DEBUG",
  203: "KVM_GET_STATS_FD",
  205: "KVM_ARM_MTE_COPY_TAGS",
  223: "KVM_RESET_DIRTY_RINGS",
  227: "KVM_ARM_SET_COUNTER_OFFSET",
  230: "KVM_ARM_GET_REG_WRITABLE_MASKS",
  231: "KVM_SET_USER_MEMORY_REGION2",
  233: "KVM_SET_MEMORY_ATTRIBUTES",
  234: "KVM_CREATE_GUEST_MEMFD",
  236: "KVM_PRE_FAULT_MEMORY",
};

const HOST = { hostCpus: 6, leafSizes: [4096, 2 ** 21, 2 ** 30] };

describe("capabilities", () => {
  it("have one row each, in order", () => {
    const numbers = CAPS.map(({ number }) => number);
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    expect(new Set(CAPS.map(({ name }) => name)).size).toBe(CAPS.length);
  });

  it.each(Object.entries(STANDS_FOR))("%s is 0 exactly when %s is not there", (number, name) => {
    const row = IOCTLS.find((one) => one.name === name);
    const value = checkExtension(Number(number), HOST, null);
    expect(value > 0).toBe(row?.state === "implemented");
  });

  it.each([
    [3, 1],
    [9, 6],
    [10, 32767],
    [15, 1],
    [25, 4096],
    [66, 512],
    [81, 1],
    [128, 512],
    [136, 1],
    [162, 1],
    [165, 48],
    [168, 3],
    [182, 1],
    [192, 0],
    [223, 1048576],
    [225, 1],
    [228, 0],
    [229, 4096 + 2 ** 21 + 2 ** 30],
    [232, 0],
    [244, 3],
    [1, 0],
    [999, 0],
    [-1, 0],
    [2 ** 31 - 1, 0],
  ])("%d reads %d on the host", (cap, value) => {
    expect(checkExtension(cap, HOST, null)).toBe(value);
  });

  it("two of them only a VM can answer", () => {
    for (const cap of [131, 243]) {
      expect(() => checkExtension(cap, HOST, null)).toThrow(KvmError);
      expect(new Inline().call("checkExtension", { cap })).toBe(0);
    }
  });

  it.each(PAGE_SIZES)("block sizes of %d-byte pages are a mask of their sizes", (pageSize) => {
    const vm = new Inline({ pageSize });
    const sizes = vm.kvm.vm.host.geometry.leafSizes;
    const mask = vm.call("checkExtension", { cap: 229 });
    expect(mask).toBe(sizes.reduce((a, b) => a + b));
    for (const size of sizes) expect(vm.refused("enableCap", eager(BigInt(size)))).toBeNull();
    expect(vm.call("checkExtension", { cap: 228 })).toBe(sizes.at(-1));
  });
});

const eager = (value: bigint, flags = 0) => ({ cap: 228, flags, args: [value] });
const enable = (cap: number, flags: number, ...args: bigint[]) => ({ cap, flags, args });

describe("enabling", () => {
  it.each([
    ["an unknown number", enable(999, 0), "EINVAL"],
    ["one that is only to read", enable(3, 0), "EINVAL"],
    ["one that is not there yet", enable(205, 0), "EINVAL"],
    ["NISV_TO_USER", enable(177, 0, 9n), null],
    ["NISV_TO_USER with flags", enable(177, 1), "EINVAL"],
    ["SEA_TO_USER", enable(245, 0), null],
    ["SYSTEM_SUSPEND", enable(216, 0), null],
    ["writable implementation registers", enable(239, 0), null],
    ["manual protect with flags", enable(168, 1, 1n), "EINVAL"],
    ["INITIALLY_SET alone", enable(168, 0, 2n), "EINVAL"],
    ["manual protect bit 2", enable(168, 0, 5n), "EINVAL"],
    ["manual protect 2^64-1", enable(168, 0, 2n ** 64n - 1n), "EINVAL"],
    ["halt poll with flags", enable(182, 1, 0n), "EINVAL"],
    ["halt poll above 32 bits", enable(182, 0, 2n ** 32n), "EINVAL"],
    ["a chunk that is no block size", eager(8192n), "EINVAL"],
    ["a chunk with flags", eager(4096n, 1), "EINVAL"],
    ["manual protect 0", enable(168, 0, 0n), null],
    ["manual protect without an argument", enable(168, 0), null],
    ["manual protect 3, other arguments ignored", enable(168, 0, 3n, 9n, 9n, 9n), null],
    ["halt poll 2^32-1", enable(182, 0, 2n ** 32n - 1n), null],
    ["no eager split", eager(0n), null],
  ] as const)("%s", (_name, args, errno) => {
    const vm = new Inline();
    const before = vm.call("describe", {});
    expect(vm.refused("enableCap", args)).toBe(errno);
    if (errno !== null) expect(vm.call("describe", {})).toEqual(before);
  });

  it("an eager split chunk is for VMs without slots", () => {
    const vm = new Inline();
    vm.slot(0, 4);
    expect(vm.refused("enableCap", eager(4096n))).toBe("EINVAL");
    vm.deleteSlot(0);
    expect(vm.refused("enableCap", eager(4096n))).toBeNull();
    vm.slot(0, 4);
    expect(vm.refused("enableCap", eager(0n))).toBe("EINVAL");
  });

  it("manual protect goes on and off at any time", () => {
    const vm = new Inline();
    vm.slot(0, 4, { flags: 1 });
    vm.vcpu();
    for (const value of [1n, 3n, 0n, 1n]) {
      vm.enable(168, value);
      expect(vm.call("describe", {}).manualDirtyLogProtect).toBe(Number(value));
    }
    vm.enable(182, 5n);
    expect(vm.call("describe", {}).haltPollNs).toBe(5);
  });
});

describe("creating", () => {
  it.each([
    [0n, 40],
    [32n, 32],
    [40n, 40],
    [48n, 48],
  ])("a VM of type %d has %d bits", (type, ipaBits) => {
    const vm = new Inline({ type });
    expect(vm.call("describe", {})).toMatchObject({ ipaBits, memslotCount: 0, hasRun: false });
    expect(vm.refused("walkStage2", { ipa: 2n ** BigInt(ipaBits) })).toBe("out-of-range");
    expect(vm.leaf(BASE)).toBeNull();
  });

  it.each([1n, 31n, 49n, 52n, 255n, 256n, 1n << 31n, (1n << 31n) | 40n, 2n ** 64n - 1n])(
    "a VM of type %d is EINVAL",
    (type) => {
      expect(() => new Inline({ type })).toThrow(KvmError);
    },
  );

  it("vCPUs: ids are sparse and never used again; indexes count", () => {
    const vm = new Inline();
    expect(vm.call("createVcpu", { id: 511 })).toMatchObject({ id: 511, index: 0, state: "idle" });
    expect(vm.call("createVcpu", { id: 3 })).toMatchObject({ id: 3, index: 1 });
    expect(vm.refused("createVcpu", { id: 3 })).toBe("EEXIST");
    expect(vm.refused("createVcpu", { id: 512 })).toBe("EINVAL");
    expect(vm.refused("createVcpu", { id: 2 ** 32 - 1 })).toBe("EINVAL");
    expect(vm.call("listVcpus", {}).map(({ id }) => id)).toEqual([511, 3]);
    expect(vm.refused("describeVcpu", { vcpu: 4 })).toBe("vcpu-not-found");
  });
});

describe("statistics", () => {
  function parse(file: Uint8Array) {
    const view = new DataView(file.buffer, file.byteOffset, file.length);
    const u32 = (at: number) => view.getUint32(at, true);
    const [flags, nameSize, count, idAt, descAt, dataAt] = [0, 4, 8, 12, 16, 20].map(u32);
    const text = (at: number, size: number) =>
      Buffer.from(file.subarray(at, at + size))
        .toString("latin1")
        .replace(/\0.*$/s, "");
    const rows = Array.from({ length: count! }, (_, i) => {
      const at = descAt! + i * (16 + nameSize!);
      const offset = u32(at + 8);
      return {
        name: text(at + 16, nameSize!),
        size: view.getUint16(at + 6, true),
        value: Number(view.getBigUint64(dataAt! + offset, true)),
        end: dataAt! + offset + 8,
      };
    });
    return { flags, nameSize, id: text(idAt!, nameSize!), rows };
  }

  it.each([null, 0])("of vCPU %s are a file that describes itself", (vcpu) => {
    const vm = new Inline();
    vm.slot(0, 4);
    vm.vcpu();
    vm.store(0, [BASE, BASE + 8]);
    vm.store(0, [0]);
    const file = vm.call("stats", { vcpu });
    const { flags, nameSize, id, rows } = parse(file);
    expect([flags, nameSize]).toEqual([0, 48]);
    expect(id).toMatch(vcpu === null ? /^kvm-\d+$/ : /^kvm-\d+\/vcpu-0$/);
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.every(({ size, end }) => size === 1 && end <= file.length)).toBe(true);
    expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length);
    const values = Object.fromEntries(rows.map(({ name, value }) => [name, value]));
    if (vcpu === null) expect(values).toMatchObject({ mmio_exit_user: 1 });
  });

  it("of a vCPU that is not there are none", () => {
    expect(new Inline().refused("stats", { vcpu: 0 })).toBe("vcpu-not-found");
  });
});
