// Goal: VMs and their VPEs are what the bytes of the VM table say; a VDPEND reaches the VPE where
// it is resident and rings where it isn't; what is under way is over with GSB SYS.
import { describe, expect, it } from "vitest";
import { VMTE_WORD } from "../../../../src/machine/gic/gicv5/vm-table.js";
import {
  encodeVmte,
  ICSR_F,
  IRS32,
  IRS64,
  icsrOf,
  VMAP,
  VMTE_BYTES,
} from "../../../../src/machine/index.js";
import { Gicv5Host, lpi, ppi, spi } from "../../../support/gicv5.js";

const VALID = 1n;
const PENDING = 1n << 2n;
const TAKEN = 1n << 32n;

describe("the VM table", () => {
  it("has a VM once its entry is valid, and no longer than that", () => {
    const machine = new Gicv5Host();
    expect(machine.irs.domainOf(3)).toBeNull();
    machine.addVm(3);
    expect(machine.irs.domainOf(3)!.config(spi(63))).toBe(0n);
    machine.irs.write(IRS64.VMAP_VMR, 8, VMAP.U | 3n);
    expect(machine.irs.domainOf(3)).toBeNull();
    expect(machine.irs.vdrcfg(3, spi(1))).toBe(ICSR_F);
    machine.irs.vdpend(3, spi(1), true);
  });

  it("ends where VMT_CFGR says, and can't be moved while it is valid", () => {
    const machine = new Gicv5Host();
    machine.addVm(255);
    expect(machine.irs.domainOf(255)).not.toBeNull();
    expect(machine.irs.domainOf(256)).toBeNull();
    machine.irs.write(IRS32.VMT_CFGR, 4, 2n);
    expect(machine.irs.read(IRS32.VMT_CFGR, 4)).toBe(8n);
    machine.irs.write(IRS64.VMT_BASER, 8, BigInt(machine.vmt));
    expect(machine.irs.domainOf(255)).toBeNull();
    machine.irs.write(IRS32.VMT_CFGR, 4, 31n);
    expect(machine.irs.read(IRS32.VMT_CFGR, 4)).toBe(8n);
  });

  it("says how many SPIs there are: the next is unreachable", () => {
    const machine = new Gicv5Host();
    machine.addVm(1, { spis: 96 });
    const domain = machine.irs.domainOf(1)!;
    expect(domain.config(spi(95))).toBe(0n);
    for (const intid of [spi(96), spi(127), lpi(256), ppi(3), 0, 0xe000_0001]) {
      domain.enable(intid, true);
      expect(domain.config(intid)).toBe(ICSR_F);
    }
  });

  it("keeps the state of an interrupt as bytes, little-endian", () => {
    const machine = new Gicv5Host();
    const tables = machine.addVm(1);
    machine.setUp(1, spi(5), 0x15, 1);
    machine.irs.vdpend(1, spi(5), true);
    const { memory } = machine.host;
    expect([...memory.u8.slice(tables.spis + 20, tables.spis + 24)]).toEqual([0x09, 0xa8, 1, 0]);
    expect(icsrOf(memory.read32(tables.spis + 20))).toBe(machine.irs.vdrcfg(1, spi(5)));
  });

  it("finds what is pending in a table that is mapped, by VMAP_VISTR", () => {
    const machine = new Gicv5Host();
    const tables = machine.addVm(1, { lpiBits: null });
    machine.enter(0, 1, 0);
    const base = machine.host.frames.allocate(1);
    machine.host.memory.write32(base + 4 * 9, 0x4009);
    const shape = { entryBytes: 4, isTwoLevel: false, level2Bytes: 4096 } as const;
    const layout = { ...shape, base, idBits: 8, count: 256 };
    const words = encodeVmte({ spis: 64, vpet: null, lpi: layout, spi: null });
    const at = machine.vmt + tables.vm * VMTE_BYTES + 8 * VMTE_WORD.lpi;
    machine.host.memory.write64(at, words[VMTE_WORD.lpi]! & ~VALID);
    expect(machine.irs.domainOf(1)!.config(lpi(9))).toBe(ICSR_F);
    const vistr = (2n << 29n) | (1n << 32n);
    machine.irs.write(IRS64.VMAP_VISTR, 8, VMAP.M | vistr);
    expect(machine.cpu(0).gicv5.peek("ICC_HPPIR_EL1")).toBe(TAKEN | BigInt(lpi(9)));
    machine.irs.write(IRS64.VMAP_VISTR, 8, VMAP.U | vistr);
    expect(machine.cpu(0).gicv5.virq).toBe(false);
    expect(machine.irs.domainOf(1)!.config(lpi(9))).toBe(ICSR_F);
  });

  it("takes a two-level table, whose level 2 is mapped by VMAP_L2_VISTR", () => {
    const machine = new Gicv5Host();
    machine.addVm(1, { lpiBits: null });
    const [level1, level2] = [machine.host.frames.allocate(1), machine.host.frames.allocate(1)];
    const shape = { entryBytes: 4, isTwoLevel: true, level2Bytes: 4096 } as const;
    const layout = { ...shape, base: level1, idBits: 16, count: 2 ** 16 };
    const words = encodeVmte({ spis: 64, vpet: null, lpi: layout, spi: null });
    machine.host.memory.write64(
      machine.vmt + VMTE_BYTES + 8 * VMTE_WORD.lpi,
      words[VMTE_WORD.lpi]!,
    );
    machine.host.memory.write64(level1 + 8, BigInt(level2));
    const domain = machine.irs.domainOf(1)!;
    expect(domain.config(lpi(1024))).toBe(ICSR_F);
    const l2 = (2n << 29n) | 1024n | (1n << 32n);
    machine.irs.write(IRS64.VMAP_L2_VISTR, 8, VMAP.M | l2);
    domain.priority(lpi(1025), 3);
    expect(machine.host.memory.read32(level2 + 4)).toBe(3 << 11);
    expect(domain.config(lpi(2048))).toBe(ICSR_F);
  });

  it("keeps VMs apart", () => {
    const machine = new Gicv5Host();
    for (const vm of [1, 2]) machine.addVm(vm);
    for (const vm of [1, 2]) machine.setUp(vm, spi(4));
    machine.enter(0, 1, 0);
    machine.enter(1, 2, 0);
    machine.irs.vdpend(2, spi(4), true);
    expect(machine.cpu(0).gicv5.virq).toBe(false);
    expect(machine.cpu(1).gicv5.virq).toBe(true);
    expect(machine.irs.vdrcfg(1, spi(4)) & PENDING).toBe(0n);
  });
});

describe("residency", () => {
  it("is in the VPE's entry, and a resident VPE hears at once", () => {
    const machine = new Gicv5Host();
    const tables = machine.addVm(1);
    machine.setUp(1, spi(4), 8, 1);
    machine.enter(0, 1, 1);
    expect(machine.vpete(tables, 1)).toEqual({ isValid: true, isResident: true, db: false });
    expect(machine.cpu(0).gicv5.virq).toBe(false);
    machine.irs.vdpend(1, spi(4), true);
    expect(machine.cpu(0).gicv5.virq).toBe(true);
    machine.irs.vdpend(1, spi(4), false);
    expect(machine.cpu(0).gicv5.virq).toBe(false);
    machine.cpu(0).gicv5.setContext(null);
    expect(machine.vpete(tables, 1)).toEqual({ isValid: true, isResident: false, db: true });
  });

  it("moves: what pended while nobody had it is there on the next CPU", () => {
    const machine = new Gicv5Host();
    machine.addVm(1);
    machine.setUp(1, spi(4));
    machine.enter(0, 1, 0);
    machine.cpu(0).gicv5.setContext(null);
    machine.irs.vdpend(1, spi(4), true);
    expect(machine.cpu(0).gicv5.virq).toBe(false);
    machine.enter(1, 1, 0);
    expect(machine.cpu(1).gicv5.acknowledge(false)).toBe(TAKEN | BigInt(spi(4)));
  });

  it("rings once for a VPE that is away and asked for it", () => {
    const machine = new Gicv5Host();
    const tables = machine.addVm(1);
    const rung: [number, number][] = [];
    machine.irs.onDoorbell = (vm, vpe) => rung.push([vm, vpe]);
    for (const id of [4, 5]) machine.setUp(1, spi(id), 8, 1);
    machine.irs.vdpend(1, spi(4), true);
    machine.irs.vdpend(1, spi(4), false);
    expect(rung).toEqual([]);
    machine.enter(0, 1, 1);
    machine.irs.vdpend(1, spi(4), true);
    machine.irs.vdpend(1, spi(4), false);
    expect(rung).toEqual([]);
    machine.cpu(0).gicv5.setContext(null);
    expect(rung).toEqual([]);
    machine.irs.vdpend(1, spi(4), true);
    machine.irs.vdpend(1, spi(5), true);
    expect(rung).toEqual([[1, 1]]);
    expect(machine.vpete(tables, 1).db).toBe(false);
  });

  it("rings at once when something waits already, and not for what is disabled", () => {
    const machine = new Gicv5Host();
    machine.addVm(1);
    const rung: number[] = [];
    machine.irs.onDoorbell = (_, vpe) => rung.push(vpe);
    machine.enter(0, 1, 0);
    machine.irs.vdpend(1, spi(4), true);
    machine.cpu(0).gicv5.setContext(null);
    expect(rung).toEqual([]);
    machine.irs.domainOf(1)!.enable(spi(4), true);
    expect(rung).toEqual([0]);
    machine.enter(0, 1, 0);
    machine.cpu(0).gicv5.setContext(null);
    expect(rung).toEqual([0, 0]);
    machine.enter(0, 1, 0, false);
    machine.cpu(0).gicv5.setContext(null);
    expect(rung).toEqual([0, 0]);
  });
});

describe("vdpendLatency", () => {
  function late(latency: number) {
    const machine = new Gicv5Host();
    machine.host.model["hardware.vdpendLatency"] = latency;
    machine.addVm(1);
    machine.setUp(1, spi(4));
    machine.enter(0, 1, 0);
    return machine;
  }

  it("holds a VDPEND back for so many looks", () => {
    const machine = late(2);
    machine.irs.vdpend(1, spi(4), true);
    expect(machine.irs.vdrcfg(1, spi(4)) & PENDING).toBe(0n);
    expect(machine.cpu(0).gicv5.virq).toBe(false);
    expect(machine.irs.vdrcfg(1, spi(4)) & PENDING).toBe(0n);
    expect(machine.irs.vdrcfg(1, spi(4)) & PENDING).toBe(PENDING);
    expect(machine.cpu(0).gicv5.virq).toBe(true);
  });

  it.each([
    ["GSB SYS of the hypervisor", (machine: Gicv5Host) => machine.irs.gsbSys()],
    ["GSB SYS of a guest", (m: Gicv5Host) => void m.cpu(0).gicv5.execute("GSB_SYS", 0n)],
    ["the VPE being put away", (m: Gicv5Host) => m.cpu(0).gicv5.setContext(null)],
  ])("ends with %s", (_, end) => {
    const machine = late(60);
    machine.irs.vdpend(1, spi(4), true);
    end(machine);
    expect(machine.irs.vdrcfg(1, spi(4)) & PENDING).toBe(PENDING);
  });

  it("keeps the order of what is under way, and holds nothing back of a VM that is away", () => {
    const machine = late(5);
    machine.irs.vdpend(1, spi(4), true);
    machine.irs.vdpend(1, spi(4), false);
    machine.irs.gsbSys();
    expect(machine.irs.vdrcfg(1, spi(4)) & PENDING).toBe(0n);
    machine.irs.vdpend(1, spi(4), true);
    machine.cpu(0).gicv5.setContext(null);
    machine.irs.vdpend(1, spi(4), false);
    expect(machine.irs.vdrcfg(1, spi(4)) & PENDING).toBe(0n);
  });
});

it("a doorbell rings for priorities up to its mask", () => {
  const machine = new Gicv5Host();
  machine.addVm(1);
  const rung: number[] = [];
  machine.irs.onDoorbell = (_, vpe) => rung.push(vpe);
  machine.setUp(1, spi(4), 9);
  machine.enter(0, 1, 0, true, 8);
  machine.cpu(0).gicv5.setContext(null);
  machine.irs.vdpend(1, spi(4), true);
  expect(rung).toEqual([]);
  machine.irs.domainOf(1)!.priority(spi(4), 8);
  expect(rung).toEqual([0]);
});

it("a VDPEND takes effect though nobody looks, once its VPE was left often enough", () => {
  const machine = new Gicv5Host();
  machine.host.model["hardware.vdpendLatency"] = 2;
  machine.addVm(1);
  machine.setUp(1, spi(4));
  machine.enter(0, 1, 0);
  machine.irs.vdpend(1, spi(4), true);
  machine.irs.elapse();
  expect(machine.cpu(0).gicv5.virq).toBe(false);
  machine.irs.elapse();
  expect(machine.cpu(0).gicv5.virq).toBe(true);
});

it("a VPE that is put away right after a load rings for what waited", () => {
  const machine = new Gicv5Host();
  machine.addVm(1);
  machine.setUp(1, spi(4));
  machine.enter(0, 1, 0);
  machine.irs.vdpend(1, spi(4), true);
  const rung: number[] = [];
  machine.irs.onDoorbell = (_, vpe) => rung.push(vpe);
  const saved = [machine.irs.save(), machine.cpu(0).gicv5.save()] as const;
  machine.irs.load(saved[0]);
  machine.cpu(0).gicv5.load(saved[1]);
  machine.cpu(0).gicv5.setContext(null);
  expect(rung).toEqual([0]);
});
