// Goal: an MSI reaches its LPI by tables or by the translation cache, or is refused as KVM does it;
// what KVM stores for an ITS is in the dirty log.
// Method: KVM_SIGNAL_MSI and the port that irqfds use, on a VM with a GICv3 and an ITS.
import { describe, expect, it } from "vitest";
import { ERRNO } from "../../../../src/base/errno.table.js";
import { InKernelVgic } from "../../../../src/kvm/vgic/in-kernel.js";
import { BASE, Inline, refusal } from "../../../support/inline.js";
import { CMD, DOORBELL, ITS_BASE, ItsGuest, type ItsOptions, TABLE } from "../../../support/its.js";

const LOG = 1;
const MSI = { addressLo: DOORBELL, addressHi: 0, data: 20, flags: 1, devid: 2 };

function mapped(options: ItsOptions = {}): ItsGuest {
  const guest = new ItsGuest(options);
  guest.enableIts();
  guest.mapOne();
  return guest;
}

function port(guest: ItsGuest) {
  const { msi } = guest.kvm.vm;
  if (msi === null) throw new Error("there is an ITS");
  return msi;
}

describe("KVM_SIGNAL_MSI", () => {
  it("T50: by address, device id, mapping and state", () => {
    const guest = mapped();
    expect(refusal(() => guest.msi(2, 20, { flags: 0 }))).toBe("EINVAL");
    expect(refusal(() => guest.msi(2, 20, { flags: 2 }))).toBe("EINVAL");
    for (const address of [ITS_BASE, DOORBELL + 4, DOORBELL + 2 ** 32, 0]) {
      expect(refusal(() => guest.msi(2, 20, { address }))).toBe("EINVAL");
    }
    expect(guest.msi(2, 21)).toBe(0);
    expect(guest.msi(9, 20)).toBe(0);
    expect(guest.pending(0)).toEqual([]);
    expect(guest.msi(2, 20)).toBe(1);
    expect(guest.pending(0)).toEqual([8195]);
    guest.put(0, 0, 4);
    expect(refusal(() => guest.msi(2, 20))).toBe("EBUSY");
  });

  it("0 while the collection isn't mapped, EBUSY while the vCPU's LPIs are off", () => {
    const guest = mapped();
    guest.issue(CMD.mapc(3, 0, false));
    expect(guest.msi(2, 20)).toBe(0);
    guest.issue(CMD.mapc(3, 1));
    guest.setLpis(1, false);
    expect(refusal(() => guest.msi(2, 20))).toBe("EBUSY");
  });

  it("T51: ENODEV without an ITS, EINVAL without a controller", () => {
    for (const model of ["v2", "v3"] as const) {
      const vm = new Inline();
      expect(vm.refused("signalMsi", MSI)).toBe("EINVAL");
      vm.kvm.vm.vgic = new InKernelVgic(vm.kvm.vm, model);
      expect(vm.refused("signalMsi", { ...MSI, flags: 2 })).toBe("EINVAL");
      expect(vm.refused("signalMsi", MSI)).toBe("ENODEV");
    }
  });

  it("as a command it answers what was delivered", () => {
    const guest = mapped();
    expect(guest.call("signalMsi", MSI)).toEqual({ delivered: 1 });
    expect(guest.call("signalMsi", { ...MSI, data: 5 })).toEqual({ delivered: 0 });
  });

  it("an ITS from before the controller serves it all the same", () => {
    const guest = mapped();
    const after = new InKernelVgic(guest.kvm.vm, "v3");
    expect(after.dist).toMatchObject({ hasIts: true });
    expect(after.dist.propbaser).not.toBe(0n);
  });
});

describe("the translation cache", () => {
  it("has nothing before the first delivery, and then everything of it", () => {
    const guest = mapped();
    expect(port(guest).cached(MSI)).toBe(false);
    expect(guest.pending(0)).toEqual([]);
    expect(port(guest).deliver(MSI)).toBe(1);
    guest.issue(CMD.clear(2, 20));
    expect(port(guest).cached(MSI)).toBe(true);
    expect(guest.pending(0)).toEqual([8195]);
    // Other ids that the key could be taken for.
    expect(port(guest).cached({ ...MSI, devid: 1, data: 0x1_0014 })).toBe(false);
    expect(port(guest).cached({ ...MSI, flags: 0 })).toBe(false);
    expect(port(guest).cached({ ...MSI, addressLo: ITS_BASE })).toBe(false);
  });

  it("tells irqfds apart: not mapped is 0, refused is a negative errno", () => {
    const guest = mapped();
    expect(port(guest).deliver({ ...MSI, data: 7 })).toBe(0);
    expect(port(guest).deliver({ ...MSI, flags: 0 })).toBe(-ERRNO.EINVAL);
    guest.setLpis(0, false);
    expect(port(guest).deliver(MSI)).toBe(-ERRNO.EBUSY);
  });

  const empties: readonly (readonly [string, (guest: ItsGuest) => void])[] = [
    ["DISCARD", (guest) => guest.issue(CMD.discard(2, 20))],
    ["MOVI", (guest) => guest.issue(CMD.mapc(4, 1), CMD.movi(2, 20, 4))],
    ["MOVALL", (guest) => guest.issue(CMD.movall(0, 1))],
    ["MAPD", (guest) => guest.issue(CMD.mapd(2, 5, TABLE.itt))],
    ["MAPD with V=0", (guest) => guest.issue(CMD.mapd(2, 5, TABLE.itt, false))],
    ["MAPC with V=0", (guest) => guest.issue(CMD.mapc(3, 0, false))],
    ["the ITS being disabled", (guest) => guest.put(0, 0, 4)],
    ["EnableLPIs 1→0", (guest) => guest.setLpis(1, false)],
    ["a reset", (guest) => guest.control("RESET")],
  ];
  it.each(empties)("is emptied by %s", (_name, act) => {
    const guest = mapped();
    guest.msi(2, 20);
    expect(guest.its.cache.size).toBe(1);
    act(guest);
    expect(guest.its.cache.size).toBe(0);
    expect(port(guest).cached(MSI)).toBe(false);
  });

  it("stays over what doesn't change a translation", () => {
    const guest = mapped();
    guest.msi(2, 20);
    guest.issue(CMD.inv(2, 20), CMD.invall(3), CMD.clear(2, 20), CMD.mapti(2, 21, 8196, 3));
    expect(port(guest).cached(MSI)).toBe(true);
  });
});

describe("GICR_INVLPIR and GICR_INVALLR", () => {
  it("read configuration again, of one LPI or of all of the vCPU, while its LPIs are on", () => {
    const guest = mapped();
    guest.configure(8196, 0xa1);
    guest.issue(CMD.mapti(2, 21, 8196, 3));
    for (const lpi of [8195, 8196]) guest.configure(lpi, 0x20);
    const enabled = () => [8195, 8196].map((lpi) => guest.lpi(lpi)?.enabled);
    guest.redist(0, 0xa0, 8196);
    expect(enabled()).toEqual([true, false]);
    guest.redist(1, 0xb0, 0);
    expect(enabled()).toEqual([true, false]);
    guest.setLpis(0, false);
    guest.redist(0, 0xb0, 0);
    expect(enabled()).toEqual([true, false]);
    guest.setLpis(0, true);
    guest.redist(0, 0xb0, 0);
    expect(enabled()).toEqual([false, false]);
    guest.redist(0, 0xa0, 9000);
  });
});

describe("what KVM stores", () => {
  const page = (at: number) => (at - BASE) / 4096;

  it("tables and pending bits are in the dirty bitmap", () => {
    const guest = mapped({ flags: LOG });
    guest.msi(2, 20);
    guest.dirty(0);
    guest.savePending();
    guest.control("SAVE");
    const pages = [TABLE.device, TABLE.collection, TABLE.pending, TABLE.itt].map(page);
    expect(guest.dirty(0)).toEqual(pages);
  });

  it("a command's stores are the vCPU's that moved GITS_CWRITER: they are in its ring", () => {
    const guest = mapped({ flags: LOG, ring: 4096 });
    const ring = guest.kvm.vm.vcpus[0]?.ring;
    if (!ring) throw new Error("vCPU 0 has a ring");
    expect(ring.dirtyIndex).toBe(0);
    guest.issue(CMD.discard(2, 20));
    expect(ring.dirtyIndex).toBe(1);
    expect(ring.entry(0)).toMatchObject({ slot: 0, offset: page(TABLE.itt) });
    expect(guest.dirty(0)).toEqual([]);
  });

  it("with rings and no vCPU in the guest, the bitmap beside them", () => {
    const guest = mapped({ flags: LOG, ring: 4096 });
    guest.control("SAVE");
    expect(guest.kvm.vm.vcpus[0]?.ring?.dirtyIndex).toBe(0);
    expect(guest.dirty(0)).toEqual([TABLE.device, TABLE.collection, TABLE.itt].map(page));
  });
});
