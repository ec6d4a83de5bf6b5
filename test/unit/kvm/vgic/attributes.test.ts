// Goal: attributes of vGIC devices are refused and kept as KVM does.
// Method: the kernel's selftest vgic_init, step by step (kvm-uapi.md 14.2), and what it leaves out.
import { describe, expect, it } from "vitest";
import { createDevice } from "../../../../src/kvm/device.js";
import type { KvmDevice } from "../../../../src/kvm/vgic/device-port.js";
import { Inline, refusal } from "../../../support/inline.js";
import { GROUP, ICC, iccAttr, TYPE, u32, u64, World } from "./world.js";

const NONE = new Uint8Array();
const LIMIT = 2 ** 40;
const NR_VCPUS = 4;
const ADDR = { V2_DIST: 0n, V2_CPU: 1n, DIST: 2n, REDIST: 3n, REGION: 5n };
const REDIST_BYTES = 0x2_0000;
const UNSET = 2n ** 64n - 1n;

class Fixture {
  readonly vm = new Inline();
  device: KvmDevice | null = null;

  constructor(vcpus: readonly number[] = []) {
    this.vm.slot(0, 16);
    for (const id of vcpus) this.vcpu(id);
  }

  vcpu(id: number): void {
    this.vm.vcpu(id);
    this.vm.call("vcpuInit", { vcpu: id, target: 5, features: [4n] });
  }

  create(type: number, flags = 0): string | null {
    return refusal(() => {
      const { vm } = this.vm.kvm;
      const number = createDevice(vm, type, flags);
      this.device = number === null ? this.device : vm.devices[number]!;
    });
  }

  has(group: number, attr: bigint): string | null {
    return refusal(() => this.device!.has(group, attr));
  }

  set(group: number, attr: bigint, value: Uint8Array = NONE): string | null {
    return refusal(() => this.device!.set(group, attr, value));
  }

  get(group: number, attr: bigint, input: Uint8Array = NONE): bigint | string {
    let bytes = NONE as Uint8Array;
    const errno = refusal(() => {
      bytes = this.device!.get(group, attr, input);
    });
    return errno ?? bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  }

  addr(attr: bigint, base: number | bigint): string | null {
    return this.set(GROUP.ADDR, attr, u64(base));
  }

  region(index: number, base: number | bigint, count: number, flags = 0): string | null {
    // tidy: bits of an attribute
    const word = (BigInt(count) << 52n) | BigInt(base) | (BigInt(flags) << 12n) | BigInt(index);
    return this.set(GROUP.ADDR, ADDR.REGION, u64(word));
  }

  init(): string | null {
    return this.set(GROUP.CTRL, 0n);
  }

  run(vcpu: number): string | null {
    return this.vm.run(vcpu, { immediateExit: true }).errno;
  }

  typer(id: number): bigint | string {
    const low = this.get(GROUP.REDIST, mpidr(id) | 8n);
    return low;
  }
}

const mpidr = (id: number): bigint => BigInt((id & 0xf) | ((id >> 4) << 8)) << 32n;

describe("creation", () => {
  it.each(["v2", "v3"] as const)("vGIC%s", (model) => {
    const at = new Fixture();
    expect(at.create(0)).toBe("ENODEV");
    expect(at.create(TYPE[model], 1)).toBe(null);
    expect(at.vm.kvm.vm.irqchipInKernel).toBe(false);
    expect(at.create(TYPE[model])).toBe(null);
    expect(at.create(TYPE[model])).toBe("EEXIST");
    expect(at.create(TYPE[model === "v2" ? "v3" : "v2"])).toBe("EEXIST");
    expect(at.device!.type).toBe(TYPE[model]);
  });

  it("comes too late once a vCPU has run, and serves only so many", () => {
    const late = new Fixture([0]);
    late.run(0);
    expect(late.create(TYPE.v3)).toBe("EBUSY");
    const nine = new Fixture([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(nine.create(TYPE.v2)).toBe("E2BIG");
    expect(nine.create(TYPE.v3)).toBe(null);
  });

  it("no ninth vCPU with a vGICv2; none at all after INIT", () => {
    const at = new Fixture([0, 1, 2, 3, 4, 5, 6, 7]);
    at.create(TYPE.v2);
    expect(at.vm.refused("createVcpu", { id: 8 })).toBe("EINVAL");
    const v3 = new Fixture([0]);
    v3.create(TYPE.v3);
    v3.vcpu(9);
    expect(v3.init()).toBe(null);
    expect(v3.init()).toBe(null);
    expect(v3.vm.refused("createVcpu", { id: 2 })).toBe("EBUSY");
  });

  it("shows the CPU interface in ID_AA64PFR0_EL1 of vCPUs that were there before", () => {
    const id = 0x6030_0000_0013_c020n;
    const gic = (at: Fixture) =>
      (at.vm.call("getOneReg", { vcpu: 0, reg: id }).value >> 24n) & 0xfn;
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    expect(gic(at)).toBe(1n);
    at.vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    expect(gic(at)).toBe(1n);
    const v2 = new Fixture([0]);
    expect(gic(v2)).toBe(1n);
    v2.create(TYPE.v2);
    expect(gic(v2)).toBe(0n);
    const none = new Fixture([0]);
    expect(gic(none)).toBe(1n);
    none.run(0);
    expect(gic(none)).toBe(0n);
    none.vm.call("vcpuInit", { vcpu: 0, target: 5, features: [4n] });
    expect(gic(none)).toBe(0n);
  });
});

describe("addresses", () => {
  it.each([
    ["v2", ADDR.V2_DIST, ADDR.V2_CPU, 0x1000],
    ["v3", ADDR.DIST, ADDR.REDIST, 0x1_0000],
  ] as const)("vGIC%s: set once, aligned, within the IPA space", (model, dist, other, align) => {
    for (const early of [true, false]) {
      const at = new Fixture(early ? [0, 1, 2, 3] : [0]);
      at.create(TYPE[model]);
      for (const attr of [dist, other]) {
        expect(at.has(GROUP.ADDR, attr)).toBe(null);
        expect(at.get(GROUP.ADDR, attr)).toBe(UNSET);
        expect(at.addr(attr, align / 16)).toBe("EINVAL");
        expect(at.set(GROUP.ADDR, attr)).toBe("EFAULT");
        expect(at.addr(attr, LIMIT)).toBe("E2BIG");
        expect(at.addr(attr, 2n ** 64n - BigInt(align))).not.toBe(null);
      }
      expect(at.has(GROUP.ADDR, UNSET)).toBe("ENXIO");
      expect(at.addr(model === "v2" ? ADDR.DIST : ADDR.V2_DIST, 0)).toBe("ENXIO");
      expect(at.addr(4n, 0)).toBe("ENXIO");
      if (model === "v3") expect(at.addr(other, LIMIT - 0x1_0000)).toBe("E2BIG");
      expect(at.addr(other, 0)).toBe(null);
      expect(at.addr(other, 0)).toBe("EEXIST");
      expect(at.get(GROUP.ADDR, other)).toBe(0n);
      if (model === "v3") {
        expect(at.region(0, 0x10_0000, 1)).toBe("EINVAL");
        expect(at.region(1, 0x10_0000, 1)).toBe("EINVAL");
      }
      // It lies over the last redistributor, or DIR: that is seen by the first run.
      expect(at.addr(dist, model === "v3" ? NR_VCPUS * REDIST_BYTES - align : align)).toBe(null);
      if (!early) for (const id of [1, 2, 3]) at.vcpu(id);
      if (model === "v3") at.init();
      expect(at.run(3)).toBe("EINVAL");
      expect(at.vm.refused("run", run0)).toBe("EIO");
    }
  });

  it("no vCPU more while a distributor lies over the redistributors", () => {
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    at.addr(ADDR.REDIST, 0);
    at.addr(ADDR.DIST, 0x1_0000);
    expect(at.vm.refused("createVcpu", { id: 1 })).toBe("EINVAL");
    expect(at.vm.kvm.vm.vcpus).toHaveLength(1);
  });

  it("regions of redistributors", () => {
    const at = new Fixture([0, 1, 2, 3]);
    at.create(TYPE.v3);
    expect(at.has(GROUP.ADDR, ADDR.REGION)).toBe(null);
    expect(at.region(0, 0x20_0000, 2, 2)).toBe("EINVAL");
    expect(at.region(0, 0x20_0000, 0)).toBe("EINVAL");
    expect(at.region(1, 0x20_0000, 2)).toBe("EINVAL");
    expect(at.region(0, 0x20_1000, 2)).toBe("EINVAL");
    expect(at.region(0, 0x20_0000, 2)).toBe(null);
    expect(at.region(1, 0x20_0000, 1)).toBe("EINVAL");
    expect(at.region(2, 0x24_0000, 1)).toBe("EINVAL");
    expect(at.region(1, 0x24_0000, 1)).toBe(null);
    expect(at.region(1, 0x28_0000, 1)).toBe("EINVAL");
    expect(at.region(3, 0x28_0000, 1)).toBe("EINVAL");
    expect(at.region(2, LIMIT, 1)).toBe("E2BIG");
    expect(at.region(2, LIMIT - 0x3_0000, 2)).toBe("E2BIG");
    expect(at.addr(ADDR.REDIST, 0x26_0000)).toBe("EINVAL");
    expect(at.get(GROUP.ADDR, ADDR.REGION, u64(0))).toBe((2n << 52n) | 0x20_0000n);
    expect(at.get(GROUP.ADDR, ADDR.REGION, u64(1))).toBe((1n << 52n) | 0x24_0000n | 1n);
    expect(at.get(GROUP.ADDR, ADDR.REGION, u64(2))).toBe("ENOENT");
    expect(at.get(GROUP.ADDR, ADDR.REGION)).toBe("EFAULT");
    expect(at.addr(ADDR.DIST, 0x26_0000)).toBe(null);
    expect(at.region(2, 0x26_0000, 1)).toBe("EINVAL");
    expect(at.set(GROUP.ADDR, ADDR.REGION)).toBe("EFAULT");
  });

  it.each([
    ["three redistributors for four vCPUs", 0, true, "ENXIO"],
    ["no INIT", 1, false, "EBUSY"],
    ["all of it", 1, true, "EINTR"],
  ] as const)("first run: %s", (_name, more, isInit, errno) => {
    const at = new Fixture([0, 1, 2, 3]);
    at.create(TYPE.v3);
    at.region(0, 0x20_0000, 2);
    at.region(1, 0x24_0000, 1);
    at.addr(ADDR.DIST, 0x26_0000);
    if (more === 1) expect(at.region(2, 0x28_0000, 1)).toBe(null);
    if (isInit) at.init();
    expect(at.run(3)).toBe(errno);
  });

  it("first run without addresses: ENXIO", () => {
    for (const model of ["v2", "v3"] as const) {
      const at = new Fixture([0]);
      at.create(TYPE[model]);
      at.init();
      expect(at.run(0)).toBe("ENXIO");
    }
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    at.addr(ADDR.REDIST, 0);
    at.init();
    expect(at.run(0)).toBe("ENXIO");
  });

  it("a vGICv2 is initialised by its first run", () => {
    const at = new Fixture([0]);
    at.create(TYPE.v2);
    at.addr(ADDR.V2_DIST, 0);
    at.addr(ADDR.V2_CPU, 0x1_0000);
    expect(at.run(0)).toBe("EINTR");
    expect(at.get(GROUP.NR_IRQS, 0n)).toBe(256n);
    expect(at.vm.kvm.vm.routing.list()).toHaveLength(224);
  });

  it("a legacy region that the last vCPUs don't fit into is seen by the first run", () => {
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    expect(at.addr(ADDR.REDIST, LIMIT - 3 * REDIST_BYTES)).toBe(null);
    expect(at.addr(ADDR.DIST, 0)).toBe(null);
    for (const id of [1, 2, 3]) at.vcpu(id);
    expect(at.init()).toBe(null);
    expect(at.run(3)).toBe("EINVAL");
  });
});

const run0 = { vcpu: 0, immediateExit: true, mmioData: null };

describe("GICR_TYPER", () => {
  it("Last, as regions and vCPUs come", () => {
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    at.vcpu(3);
    expect(at.typer(1)).toBe("EINVAL");
    at.vcpu(1);
    expect(at.typer(1)).toBe("EBUSY");
    at.vcpu(2);
    at.init();
    for (let id = 0; id < NR_VCPUS; id++) expect(at.typer(id)).toBe(BigInt(id * 0x100));
    expect(at.region(0, 0x20_0000, 2)).toBe(null);
    expect([at.typer(0), at.typer(3)]).toEqual([0n, 0x310n]);
    expect(at.region(1, 0x10_0000, 10)).toBe("EINVAL");
    expect([at.typer(1), at.typer(2)]).toEqual([0x100n, 0x200n]);
    expect(at.region(1, 0x2_0000, 10)).toBe(null);
    expect([at.typer(1), at.typer(2)]).toEqual([0x100n, 0x210n]);
    expect(at.get(GROUP.REDIST, mpidr(3) | 0xcn)).toBe(3n);
  });

  it("of regions side by side, in the order of the vCPUs' creation", () => {
    const at = new Fixture();
    at.create(TYPE.v3);
    at.region(0, 0x10_0000, 2);
    at.region(1, 0x24_0000, 2);
    at.region(2, 0x20_0000, 2);
    for (const id of [0, 3, 5, 4, 1, 2]) at.vcpu(id);
    at.init();
    const typers = [0, 3, 5, 4, 1, 2].map((id) => at.typer(id));
    expect(typers).toEqual([0n, 0x310n, 0x500n, 0x410n, 0x100n, 0x200n]);
  });

  it("of a legacy region: the vCPU that came last", () => {
    const at = new Fixture();
    at.create(TYPE.v3);
    at.addr(ADDR.REDIST, 0x1_0000);
    for (const id of [0, 3, 5, 4, 1, 2]) at.vcpu(id);
    at.init();
    const last = [0, 3, 5, 4, 1, 2].filter((id) => ((at.typer(id) as bigint) & 0x10n) !== 0n);
    expect(last).toEqual([2]);
    expect(at.typer(2)).toBe(0x210n);
  });
});

describe("NR_IRQS", () => {
  it("32 before it is set; 64 to 992 in steps of 32; once (T61)", () => {
    for (const model of ["v2", "v3"] as const) {
      const at = new Fixture([0]);
      at.create(TYPE[model]);
      expect(at.has(GROUP.NR_IRQS, 0n)).toBe(null);
      expect(at.get(GROUP.NR_IRQS, 0n)).toBe(32n);
      const tries = [32, 1024, 100, 992, 64].map((n) => at.set(GROUP.NR_IRQS, 0n, u32(n)));
      expect(tries).toEqual(["EINVAL", "EINVAL", "EINVAL", null, "EBUSY"]);
      expect(at.set(GROUP.NR_IRQS, 0n)).toBe("EFAULT");
      expect(at.get(GROUP.NR_IRQS, 0n)).toBe(992n);
    }
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    at.init();
    expect(at.set(GROUP.NR_IRQS, 0n, u32(64))).toBe("EBUSY");
    expect(at.get(GROUP.NR_IRQS, 0n)).toBe(256n);
  });

  it("INIT puts the default routes in place of the caller's (T43)", () => {
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    at.set(GROUP.NR_IRQS, 0n, u32(64));
    const none = { addressLo: 0, addressHi: 0, data: 0, devid: 0 };
    at.vm.kvm.vm.routing.set(0, [{ gsi: 0, type: 1, flags: 0, irqchip: 0, pin: 5, ...none }]);
    at.init();
    const pins = at.vm.kvm.vm.routing.list().map(({ gsi, pin }) => [gsi, pin]);
    expect(pins).toEqual(Array.from({ length: 32 }, (_, n) => [n, n]));
  });
});

describe("registers", () => {
  it("v2: no vCPU EINVAL; the first access initialises; running EBUSY", () => {
    const at = new Fixture();
    at.create(TYPE.v2);
    for (const group of [GROUP.CPU, GROUP.DIST]) {
      expect(at.has(group, 0n)).toBe("EINVAL");
      expect(at.get(group, 0n)).toBe("EINVAL");
      expect(at.set(group, 0n, u32(0))).toBe("EINVAL");
    }
    at.vcpu(0);
    expect(at.set(GROUP.DIST, 0n)).toBe("EFAULT");
    expect(at.get(GROUP.DIST, 4n)).toBe(7n);
    expect(at.vm.kvm.vm.vgic.isInitialized).toBe(true);
    expect(at.has(GROUP.DIST, 2n)).toBe("ENXIO");
    expect(at.has(GROUP.DIST, 0x40n)).toBe("ENXIO");
    expect(at.has(GROUP.DIST, 0x100n + 32n)).toBe("ENXIO");
    expect(at.get(GROUP.DIST, 0x40n)).toBe(0n);
    expect(at.set(GROUP.DIST, 0x40n, u32(1))).toBe(null);
    expect(at.has(GROUP.CTRL, 3n)).toBe("ENXIO");
    expect(at.set(GROUP.CTRL, 3n)).toBe("ENXIO");
    expect(at.set(GROUP.LEVEL, 0n, u32(0))).toBe("ENXIO");
  });

  it("v3: order of refusals", () => {
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    expect(at.has(GROUP.REDIST, mpidr(1))).toBe("EINVAL");
    expect(at.set(GROUP.REDIST, mpidr(1))).toBe("EINVAL");
    expect(at.set(GROUP.REDIST, 0n)).toBe("EFAULT");
    expect(at.set(GROUP.REDIST, 0n, u32(0))).toBe("EBUSY");
    expect(at.get(GROUP.DIST, 0n)).toBe("EBUSY");
    expect(at.get(GROUP.DIST, mpidr(7) | 8n)).toBe(0x4b00_343bn);
    expect(at.get(GROUP.DIST, 0xcn)).toBe(0n);
    expect(at.set(GROUP.DIST, 0xcn, u32(0))).toBe(null);
    expect(at.set(GROUP.DIST, 0xcn, u32(1 << 8))).toBe("EINVAL");
    expect(at.get(GROUP.SYSREGS, iccAttr(ICC.PMR))).toBe("EBUSY");
    expect(at.get(GROUP.LEVEL, 32n)).toBe("EBUSY");
    at.init();
    expect(at.set(GROUP.DIST, 0xcn, u32(1 << 8))).toBe("EBUSY");
    expect(at.has(GROUP.LEVEL, 1n << 10n)).toBe("ENXIO");
    expect(at.get(GROUP.LEVEL, 1n << 10n)).toBe("EINVAL");
    expect(at.get(GROUP.LEVEL, 33n)).toBe("EINVAL");
    expect(at.get(GROUP.LEVEL, 992n)).toBe(0n);
    expect(at.set(GROUP.LEVEL, mpidr(2), u32(0))).toBe("EINVAL");
    expect(at.has(99, 0n)).toBe("ENXIO");
    expect(at.get(99, 0n)).toBe("ENXIO");
    expect(at.set(99, 0n, u32(0))).toBe("ENXIO");
    expect(at.has(GROUP.CTRL, 3n)).toBe(null);
    expect(at.set(GROUP.CTRL, 3n)).toBe(null);
    expect(at.set(GROUP.CTRL, 1n)).toBe("ENXIO");
  });

  it("IIDR: an older revision, nothing else", () => {
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    expect(at.set(GROUP.DIST, 8n, u32(0x4b00_243b))).toBe(null);
    expect(at.get(GROUP.DIST, 8n)).toBe(0x4b00_243bn);
    for (const wrong of [0x4b00_443b, 0x4b00_043b, 0x4c00_243b, 0x4b00_243a]) {
      expect(at.set(GROUP.DIST, 8n, u32(wrong))).toBe("EINVAL");
    }
    at.init();
    // CES and IR came with revision 3.
    expect(at.get(GROUP.REDIST, 0n)).toBe(0n);
    at.set(GROUP.DIST, 8n, u32(0x4b00_343b));
    expect(at.get(GROUP.REDIST, 0n)).toBe(6n);
  });

  it("EBUSY while a vCPU is in KVM_RUN", () => {
    for (const model of ["v2", "v3"] as const) {
      const world = new World({ model });
      world.code(0x4000_0000, [0xd503_207f, 0x17ff_ffff]);
      world.start(0, 0x4000_0000);
      const run = world.vm.beginRun();
      world.vm.pump(10);
      expect(world.refused(GROUP.DIST, 0n, u32(1))).toBe("EBUSY");
      if (model === "v3") expect(world.refused(GROUP.CTRL, 3n, NONE)).toBe("EBUSY");
      world.vm.call("kick", { vcpu: 0 });
      world.vm.finish(run);
      expect(world.refused(GROUP.DIST, 0n, u32(1))).toBe(null);
    }
  });

  it("MAINT_IRQ: a PPI, before INIT", () => {
    const at = new Fixture([0]);
    at.create(TYPE.v3);
    expect(at.get(9, 0n)).toBe(25n);
    expect(at.set(9, 0n, u32(32))).toBe("EINVAL");
    expect(at.set(9, 0n, u32(24))).toBe(null);
    expect(at.get(9, 0n)).toBe(24n);
    at.init();
    expect(at.set(9, 0n, u32(25))).toBe("EBUSY");
  });
});

describe("CPU_SYSREGS", () => {
  const AP = (group: 8 | 9, n: number) => [3, 0, 12, group, group === 8 ? 4 + n : n] as const;

  it("every register is there and takes back what it gave", () => {
    const world = new World();
    const all = [ICC.PMR, ICC.CTLR, ICC.SRE, ICC.IGRPEN1, AP(8, 0), AP(9, 0)];
    const more = [
      [3, 0, 12, 8, 3],
      [3, 0, 12, 12, 3],
      [3, 0, 12, 12, 6],
    ] as const; // tidy: CRn
    for (const encoding of [...all, ...more]) {
      const attr = iccAttr(encoding);
      world.kvmDevice.has(GROUP.SYSREGS, attr);
      const value = world.kvmDevice.get(GROUP.SYSREGS, attr, NONE);
      expect(value).toHaveLength(8);
      expect(world.refused(GROUP.SYSREGS, attr, value)).toBe(null);
      expect(world.kvmDevice.get(GROUP.SYSREGS, attr, NONE)).toEqual(value);
    }
    const pribits = ((world.word(GROUP.SYSREGS, iccAttr(ICC.CTLR)) >>> 8) & 7) + 1;
    expect(pribits).toBe(5);
  });

  it("priorities beyond five bits, and what isn't there", () => {
    const world = new World();
    for (const n of [1, 2, 3]) {
      for (const group of [8, 9] as const) {
        const attr = iccAttr(AP(group, n));
        world.kvmDevice.has(GROUP.SYSREGS, attr);
        expect(world.refused(GROUP.SYSREGS, attr, u64(0))).toBe("EINVAL");
      }
    }
    const iar = iccAttr(ICC.IAR1);
    expect(refusal(() => world.kvmDevice.has(GROUP.SYSREGS, iar))).toBe("ENXIO");
    expect(world.refused(GROUP.SYSREGS, iar, u64(0))).toBe("ENXIO");
    expect(world.refused(GROUP.SYSREGS, iccAttr(ICC.PMR, 9n), u64(0))).toBe("EINVAL");
    expect(world.refused(GROUP.SYSREGS, iccAttr(ICC.PMR), NONE)).toBe("EFAULT");
  });

  it("CTLR of a wider interface is refused, SRE can't be turned off", () => {
    const world = new World();
    const ctlr = BigInt(world.word(GROUP.SYSREGS, iccAttr(ICC.CTLR)));
    const set = (value: bigint) => world.refused(GROUP.SYSREGS, iccAttr(ICC.CTLR), u64(value));
    expect(set(ctlr | (7n << 8n))).toBe("EINVAL");
    expect(set(ctlr | (1n << 11n))).toBe("EINVAL");
    expect(set(ctlr ^ (1n << 15n))).toBe("EINVAL");
    expect(set(ctlr | 3n)).toBe(null);
    expect(world.word(GROUP.SYSREGS, iccAttr(ICC.CTLR))).toBe(Number(ctlr | 3n));
    expect(world.refused(GROUP.SYSREGS, iccAttr(ICC.SRE), u64(6))).toBe("EINVAL");
    world.set(GROUP.SYSREGS, iccAttr(ICC.PMR), u64(0xff));
    expect(world.word(GROUP.SYSREGS, iccAttr(ICC.PMR))).toBe(0xf8);
  });
});
