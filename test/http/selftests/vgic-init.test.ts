// Goal: what the kernel's vgic_init checks, over HTTP: creating a GICv2, GICv3 or ITS, addresses
// and redistributor regions with every refusal, GICR_TYPER, CPU registers, what the first KVM_RUN
// answers. Method: attributes by number, as the selftest has them; one real service.
import { describe, expect, it } from "vitest";
import { errnoOf, type HttpDevice, HttpVm, TYPE } from "../../support/irq-http.js";
import { serviceOfFile } from "../../support/irq-service.js";
import { ADDR, CTRL_INIT, GROUP } from "../../support/irq-uapi.js";

const VCPUS = 4;
const LIMIT = 2n ** 40n;
const K64 = 0x1_0000n;
const REGION = 5;
const ITS_ADDR = 4;
// tidy: alignments of the architecture's, no pages
const K4 = 0x1000n;
const MODELS = {
  v2: { type: TYPE.V2, other: TYPE.V3, dist: ADDR.V2_DIST, cpu: ADDR.V2_CPU, align: K4 },
  v3: { type: TYPE.V3, other: TYPE.V2, dist: ADDR.V3_DIST, cpu: ADDR.V3_REDIST, align: K64 },
} as const;
const NAMES = ["v2", "v3"] as const;
const GICD_TYPER2 = 0xc;
const GICR_TYPER = 0x8;

const call = serviceOfFile("vgic-init");

async function vmWith(vcpus: number, type: number, createsFirst = true) {
  const vm = await HttpVm.create(call);
  const create = async () => {
    for (let id = 0; id < vcpus; id++) await vm.cpu(id);
  };
  if (createsFirst) await create();
  const device = await vm.device(type);
  if (!createsFirst) await create();
  return { vm, device };
}

const setAddr = (device: HttpDevice, attr: number, value: bigint) =>
  device.set(GROUP.ADDR, attr, value, 8);
const region = (count: bigint, base: bigint, flags: bigint, index: bigint) =>
  (count << 52n) | base | (flags << 12n) | index; // tidy: struct
const setRegion = (device: HttpDevice, ...fields: Parameters<typeof region>) =>
  setAddr(device, REGION, region(...fields));
const init = (device: HttpDevice) => device.setNothing(GROUP.CTRL, CTRL_INIT);
const runErrno = async (vm: HttpVm, id: number) => (await vm.run(id)).errno;
/** Low word of GICR_TYPER of a vCPU, or an errno. */
const typer = (device: HttpDevice, id: number) =>
  device.get(GROUP.REDIST, (BigInt(id) << 32n) | BigInt(GICR_TYPER));

describe.each(NAMES)("creating a %s", (name) => {
  const { type, other } = MODELS[name];
  it("succeeds once, and can be asked about", async () => {
    const vm = await HttpVm.create(call);
    expect(await vm.createDevice(0)).toBe("ENODEV");
    const asked = await call("POST", `${vm.path}/devices`, { type, test: true });
    expect([asked.status, errnoOf(asked)]).toEqual([200, null]);
    expect(await vm.createDevice(type)).toBeNull();
    expect(await vm.createDevice(type)).toBe("EEXIST");
    expect(await vm.createDevice(other)).toBe("EEXIST");
    expect(
      errnoOf(await call("POST", `${vm.path}/devices`, { type: other, test: true })),
    ).toBeNull();
    await vm.delete();
  });
});

const ORDERS = NAMES.flatMap((name) => [true, false].map((first) => [name, first] as const));

describe.each(ORDERS)("addresses of a %s, vCPUs first: %s", (name, createsFirst) => {
  it("are aligned, within the IPA space, set once, and overlap at the first run", async () => {
    const { type, dist, cpu, align } = MODELS[name];
    const { vm, device } = await vmWith(VCPUS, type, createsFirst);
    expect(await device.hasErrno(GROUP.ADDR, dist)).toBeNull();
    expect(await device.hasErrno(GROUP.ADDR, cpu)).toBeNull();
    expect(await device.hasErrno(GROUP.ADDR, 0xffff_ffff_ffff_ffffn)).toBe("ENXIO");
    expect(await setAddr(device, dist, align / 16n)).toBe("EINVAL");
    expect(await setAddr(device, cpu, align / 16n)).toBe("EINVAL");
    expect(await setAddr(device, dist, LIMIT)).toBe("E2BIG");
    expect(await setAddr(device, cpu, LIMIT)).toBe("E2BIG");
    if (name === "v3") expect(await setAddr(device, cpu, LIMIT - K64)).toBe("E2BIG");
    expect(await setAddr(device, cpu, 0n)).toBeNull();
    expect(await setAddr(device, cpu, 0n)).toBe("EEXIST");
    if (name === "v3") {
      expect(await device.hasErrno(GROUP.ADDR, REGION)).toBeNull();
      expect(await setRegion(device, 1n, 0x20_0000n, 0n, 0n)).toBe("EINVAL");
    }
    // Over what came before it.
    expect(await setAddr(device, dist, name === "v3" ? K64 : align)).toBeNull();
    expect(await runErrno(vm, 3)).toBe("EINVAL");
    await vm.delete();
  });
});

it("registers of a GICv2's CPU interface need the vCPU", async () => {
  const { vm, device } = await vmWith(0, TYPE.V2);
  expect(await device.hasErrno(GROUP.CPU, 0)).toBe("EINVAL");
  expect(await device.get(GROUP.CPU, 0)).toBe("EINVAL");
  expect(await device.set(GROUP.CPU, 0, 0)).toBe("EINVAL");
  await vm.delete();
});

/** Three regions of one redistributor less than there are vCPUs. */
async function regionsOf(device: HttpDevice): Promise<void> {
  expect(await setRegion(device, 2n, 0x20_0000n, 2n, 0n)).toBe("EINVAL");
  expect(await setRegion(device, 0n, 0x20_0000n, 0n, 0n)).toBe("EINVAL");
  expect(await setRegion(device, 2n, 0x20_0000n, 0n, 1n)).toBe("EINVAL");
  expect(await setRegion(device, 2n, 0x20_1000n, 0n, 0n)).toBe("EINVAL");
  expect(await setRegion(device, 2n, 0x20_0000n, 0n, 0n)).toBeNull();
  expect(await setRegion(device, 2n, 0x20_0000n, 0n, 1n)).toBe("EINVAL");
  expect(await setRegion(device, 1n, 0x24_0000n, 0n, 2n)).toBe("EINVAL");
  expect(await setRegion(device, 1n, 0x24_0000n, 0n, 1n)).toBeNull();
  expect(await setRegion(device, 1n, LIMIT, 0n, 2n)).toBe("E2BIG");
  expect(await setRegion(device, 2n, LIMIT - 0x3_0000n, 0n, 2n)).toBe("E2BIG");
  expect(await setAddr(device, ADDR.V3_REDIST, 0x26_0000n)).toBe("EINVAL");
  for (const [count, base, index] of [
    [2n, 0x20_0000n, 0n],
    [1n, 0x24_0000n, 1n],
  ] as const) {
    expect(await device.get(GROUP.ADDR, REGION, 8, index)).toBe(region(count, base, 0n, index));
  }
  expect(await device.get(GROUP.ADDR, REGION, 8, 2n)).toBe("ENOENT");
  expect(await setAddr(device, ADDR.V3_DIST, 0x26_0000n)).toBeNull();
  expect(await setRegion(device, 1n, 0x26_0000n, 0n, 2n)).toBe("EINVAL");
}

describe("redistributor regions", () => {
  it("that are too few for the vCPUs: ENXIO of the first run", async () => {
    const { vm, device } = await vmWith(VCPUS, TYPE.V3);
    await regionsOf(device);
    expect(await init(device)).toBeNull();
    expect(await runErrno(vm, 3)).toBe("ENXIO");
    await vm.delete();
  });

  it("without INIT: EBUSY of the first run", async () => {
    const { vm, device } = await vmWith(VCPUS, TYPE.V3);
    await regionsOf(device);
    expect(await setRegion(device, 1n, 0x28_0000n, 0n, 2n)).toBeNull();
    expect(await runErrno(vm, 3)).toBe("EBUSY");
    await vm.delete();
  });

  it("in full, and INIT: it runs", async () => {
    const { vm, device } = await vmWith(VCPUS, TYPE.V3);
    await regionsOf(device);
    expect(await device.setNothing(GROUP.ADDR, REGION)).toBe("EFAULT");
    expect(await setRegion(device, 1n, 0x28_0000n, 0n, 2n)).toBeNull();
    expect(await init(device)).toBeNull();
    expect(await runErrno(vm, 3)).toBeNull();
    await vm.delete();
  });
});

describe("GICR_TYPER", () => {
  it("tells the number of the vCPU, and the last of a region", async () => {
    const vm = await HttpVm.create(call);
    await vm.createVcpu(0);
    const device = await vm.device(TYPE.V3);
    await vm.createVcpu(3);
    expect(await typer(device, 1)).toBe("EINVAL");
    await vm.createVcpu(1);
    expect(await typer(device, 1)).toBe("EBUSY");
    await vm.createVcpu(2);
    expect(await init(device)).toBeNull();
    for (const id of [0, 1, 2, 3]) expect(await typer(device, id)).toBe(BigInt(id) * 0x100n);
    expect(await setRegion(device, 2n, 0x20_0000n, 0n, 0n)).toBeNull();
    expect([await typer(device, 0), await typer(device, 3)]).toEqual([0n, 0x310n]);
    expect(await setRegion(device, 10n, 0x10_0000n, 0n, 1n)).toBe("EINVAL");
    expect([await typer(device, 1), await typer(device, 2)]).toEqual([0x100n, 0x200n]);
    expect(await setRegion(device, 10n, 0x2_0000n, 0n, 1n)).toBeNull();
    expect([await typer(device, 1), await typer(device, 2)]).toEqual([0x100n, 0x210n]);
    await vm.delete();
  });

  const order = [0, 3, 5, 4, 1, 2];
  const typers = async (device: HttpDevice) => {
    const pairs: (bigint | string)[] = [];
    for (const id of order) pairs.push(await typer(device, id));
    return pairs;
  };

  it("has no Last where another region goes on", async () => {
    const vm = await HttpVm.create(call);
    for (const id of order) await vm.createVcpu(id);
    const device = await vm.device(TYPE.V3);
    expect(await setRegion(device, 2n, 0x10_0000n, 0n, 0n)).toBeNull();
    expect(await setRegion(device, 2n, 0x24_0000n, 0n, 1n)).toBeNull();
    expect(await setRegion(device, 2n, 0x20_0000n, 0n, 2n)).toBeNull();
    expect(await init(device)).toBeNull();
    expect(await typers(device)).toEqual([0x000n, 0x310n, 0x500n, 0x410n, 0x100n, 0x200n]);
    await vm.delete();
  });

  it("of one legacy region has Last with the vCPU that was created last", async () => {
    const vm = await HttpVm.create(call);
    for (const id of order) await vm.createVcpu(id);
    const device = await vm.device(TYPE.V3);
    expect(await setAddr(device, ADDR.V3_REDIST, 0x1_0000n)).toBeNull();
    expect(await init(device)).toBeNull();
    expect(await typers(device)).toEqual([0x000n, 0x300n, 0x500n, 0x400n, 0x100n, 0x210n]);
    await vm.delete();
  });
});

it("a legacy region that later vCPUs outgrow is EINVAL at the first run", async () => {
  const vm = await HttpVm.create(call);
  await vm.cpu(0);
  const device = await vm.device(TYPE.V3);
  expect(await setAddr(device, ADDR.V3_REDIST, LIMIT - 3n * 2n * K64)).toBeNull();
  expect(await setAddr(device, ADDR.V3_DIST, 0n)).toBeNull();
  for (const id of [1, 2, 3]) await vm.cpu(id);
  expect(await init(device)).toBeNull();
  expect(await runErrno(vm, 3)).toBe("EINVAL");
  await vm.delete();
});

it("an ITS has one address, aligned and within the IPA space", async () => {
  const { vm } = await vmWith(VCPUS, TYPE.V3);
  const its = await vm.device(TYPE.ITS);
  expect(await setAddr(its, ITS_ADDR, 0x40_1000n)).toBe("EINVAL");
  expect(await setAddr(its, ITS_ADDR, LIMIT)).toBe("E2BIG");
  expect(await setAddr(its, ITS_ADDR, LIMIT - K64)).toBe("E2BIG");
  expect(await setAddr(its, ITS_ADDR, 0x40_0000n)).toBeNull();
  expect(await setAddr(its, ITS_ADDR, 0x30_0000n)).toBe("EEXIST");
  await vm.delete();
});

/** op0 to op2 of the ICC registers that a GICv3 shows userspace. */
const ICC = {
  PMR: [3, 0, 4, 6, 0],
  BPR0: [3, 0, 12, 8, 3], // tidy: CRn
  AP0R0: [3, 0, 12, 8, 4], // tidy: CRn
  AP0R1: [3, 0, 12, 8, 5], // tidy: CRn
  AP0R2: [3, 0, 12, 8, 6], // tidy: CRn
  AP0R3: [3, 0, 12, 8, 7], // tidy: CRn
  AP1R0: [3, 0, 12, 9, 0], // tidy: CRn
  AP1R1: [3, 0, 12, 9, 1], // tidy: CRn
  AP1R2: [3, 0, 12, 9, 2], // tidy: CRn
  AP1R3: [3, 0, 12, 9, 3], // tidy: CRn
  BPR1: [3, 0, 12, 12, 3], // tidy: CRn
  CTLR: [3, 0, 12, 12, 4], // tidy: CRn
  SRE: [3, 0, 12, 12, 5], // tidy: CRn
  IGRPEN0: [3, 0, 12, 12, 6], // tidy: CRn
  IGRPEN1: [3, 0, 12, 12, 7], // tidy: CRn
} as const;
/** Beyond five priority bits. */
const UNUSED = ["AP0R1", "AP0R2", "AP0R3", "AP1R1", "AP1R2", "AP1R3"];

it("registers of a GICv3's CPU interface are there, and take back what they gave", async () => {
  const { vm, device } = await vmWith(1, TYPE.V3);
  expect(await init(device)).toBeNull();
  for (const [name, [op0, op1, crn, crm, op2]] of Object.entries(ICC)) {
    const attr = (op0 << 14) | (op1 << 11) | (crn << 7) | (crm << 3) | op2;
    expect([name, await device.hasErrno(GROUP.SYSREGS, attr)]).toEqual([name, null]);
    if (UNUSED.includes(name)) continue;
    const value = await device.get(GROUP.SYSREGS, attr, 8);
    expect(typeof value).toBe("bigint");
    expect([name, await device.set(GROUP.SYSREGS, attr, value as bigint, 8)]).toEqual([name, null]);
    if (name !== "CTLR") continue;
    const bits = ((value as bigint) >> 8n) & 7n;
    expect([4n, 5n, 6n]).toContain(bits);
  }
  await vm.delete();
});

it("GICD_TYPER2 is readable before INIT, and settled by it", async () => {
  const { vm, device } = await vmWith(1, TYPE.V3);
  const before = await device.get(GROUP.DIST, GICD_TYPER2);
  expect(typeof before).toBe("bigint");
  const cap = 1n << 8n;
  const isOffered = ((before as bigint) & cap) !== 0n;
  expect(await device.set(GROUP.DIST, GICD_TYPER2, cap)).toBe(isOffered ? null : "EINVAL");
  expect(await device.set(GROUP.DIST, GICD_TYPER2, 0)).toBeNull();
  expect(await init(device)).toBeNull();
  expect(await device.set(GROUP.DIST, GICD_TYPER2, cap)).toBe("EBUSY");
  await vm.delete();
});
