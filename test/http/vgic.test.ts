// Goal: a vGIC is built and looked at over HTTP alone: devices, attributes by number and name,
// registers, decoded interrupts; what the real KVM refuses is refused; a replay has the same state.
// Method: the compiled service on a random port.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { jsonClient } from "../support/json-client.js";
import { type RealService, startReal, temporary } from "../support/real-service.js";

let service: RealService;
let dataDir: { path: string; remove(): Promise<void> };
const call = jsonClient(() => service);

beforeAll(async () => {
  dataDir = await temporary("vgic");
  service = await startReal({ dataDir: dataDir.path });
});
afterAll(async () => {
  await service.stop();
  await dataDir.remove();
});

const JSON_TYPE = { "content-type": "application/json" };
const V2 = { type: "KVM_DEV_TYPE_ARM_VGIC_V2" };
const V3 = { type: "KVM_DEV_TYPE_ARM_VGIC_V3" };

async function errnoOf(method: string, path: string, body?: object): Promise<string | number> {
  const answer = await call(method as "PUT", path, body);
  return answer.body?.errno ?? answer.status;
}

/** A VM with as many vCPUs. */
async function create(vcpus: number): Promise<string> {
  const vm: string = (await call("POST", "/v1/vms", {})).location;
  for (let id = 0; id < vcpus; id++) await call("PUT", `${vm}/vcpus/${id}`, {});
  return vm;
}

/** The same with an initialised GICv3 of 96 interrupts as device 0. */
async function withV3(vcpus: number): Promise<string> {
  const vm = await create(vcpus);
  expect((await call("POST", `${vm}/devices`, V3)).location).toBe(`${vm}/devices/0`);
  const device = `${vm}/devices/0`;
  expect(await errnoOf("PUT", `${device}/nr-irqs`, { nrIrqs: 96 })).toBe(204);
  const at = (address: string) => ({ address });
  expect(await errnoOf("PUT", `${device}/addresses/v3-dist`, at("0x8000000"))).toBe(204);
  const region = { address: "0x80a0000", count: vcpus, index: 0 };
  expect(await errnoOf("PUT", `${device}/addresses/v3-redist-region`, region)).toBe(204);
  expect(await errnoOf("POST", `${device}/operations`, { op: "init" })).toBe(200);
  return vm;
}

describe("a GICv3", () => {
  it("is built by names and read back", async () => {
    const vm = await withV3(2);
    const device = `${vm}/devices/0`;
    expect((await call("GET", `${device}/nr-irqs`)).body).toEqual({ nrIrqs: 96 });
    expect((await call("GET", `${device}/addresses/v3-dist`)).body).toEqual({
      address: "0x8000000",
    });
    expect((await call("GET", `${device}/addresses/v3-redist-region?index=0`)).body).toEqual({
      address: "0x80a0000",
      count: 2,
      index: 0,
      flags: 0,
    });
    expect(await errnoOf("GET", `${device}/addresses/v3-redist-region?index=1`)).toBe("ENOENT");
    const raw = await call("GET", `${device}/attributes/3/0`);
    expect(raw.body).toEqual({ value: "60000000" });
    const { body } = await call("GET", `${vm}/vgic`);
    expect(body).toMatchObject({ model: "v3", isInitialized: true, isReady: false });
    expect(body.cpuInterfaces).toHaveLength(2);
    expect((await call("GET", vm)).body.kvm.vgicInitialized).toBe(true);
  });

  it("refuses what KVM refuses", async () => {
    const vm = await withV3(1);
    const device = `${vm}/devices/0`;
    expect(await errnoOf("POST", `${vm}/devices`, V3)).toBe("EEXIST");
    expect(await errnoOf("POST", `${vm}/devices`, V2)).toBe("EEXIST");
    expect(await errnoOf("PUT", `${vm}/irqchip`)).toBe("EEXIST");
    expect(await errnoOf("PUT", `${vm}/vcpus/1`, {})).toBe("EBUSY");
    expect(await errnoOf("PUT", `${device}/nr-irqs`, { nrIrqs: 96 })).toBe("EBUSY");
    const place = (kind: string, address: string) =>
      errnoOf("PUT", `${device}/addresses/${kind}`, { address });
    expect(await place("v3-dist", "0x9000000")).toBe("EEXIST");
    expect(await place("v2-dist", "0x9000000")).toBe("ENXIO");
    expect(await errnoOf("GET", `${device}/attributes/99/0`)).toBe("ENXIO");
    expect(await errnoOf("GET", `${device}/registers?kind=redist&mpidr=7&offset=0`)).toBe("EINVAL");
    expect(await errnoOf("POST", `${device}/operations`, { op: "reset" })).toBe("ENXIO");
    expect(await errnoOf("DELETE", device)).toBe(405);
    expect(await errnoOf("GET", `${vm}/devices/1`)).toBe(404);
    const address = { address: "0x8000000" };
    expect(await errnoOf("PUT", `${vm}/irqchip/addresses/dist`, address)).toBe("ENODEV");
  });

  it("shows registers and interrupts, and a replay has the same", async () => {
    const vm = await withV3(2);
    const registers = [
      { kind: "dist", offset: 0, value: "0x12" },
      { kind: "dist", offset: 0x104, value: "0xa" },
      { kind: "dist", offset: 0x420, value: "0xb0a0" },
      { kind: "dist", offset: 0x204, value: "0xa" },
      { kind: "sysreg", mpidr: 1, offset: 0xc230, value: "0xf0" },
      { kind: "redist", mpidr: 1, offset: 0x1_0200, value: "0x80000" },
    ];
    const written = await call("PATCH", `${vm}/devices/0/registers`, { registers }, JSON_TYPE);
    expect(written.body).toEqual({ written: 6, refused: null });
    const read = await call("GET", `${vm}/devices/0/registers?kind=dist&offset=516`);
    expect(read.body.value).toBe("0xa");
    const list = await call("GET", `${vm}/vgic/interrupts?state=pending`);
    expect(list.body.items).toMatchObject([
      { intid: 19, kind: "ppi", vcpu: 1 },
      { intid: 33, kind: "spi", priority: 0xb0, enabled: true, list: 0 },
      { intid: 35, enabled: true },
    ]);
    const page = await call("GET", `${vm}/vgic/interrupts?limit=3&from=33`);
    expect(page.body.items.map((irq: { intid: number }) => irq.intid)).toEqual([33, 34, 35]);
    const rest = await call(
      "GET",
      `${vm}/vgic/interrupts?limit=1000&from=33&cursor=${page.body.nextCursor}`,
    );
    expect(rest.body.items).toHaveLength(96 - 36);
    const log = (await call("GET", `${vm}/inputs`)).body;
    const replayed = await call("POST", "/v1/vms", { inputs: { log } });
    const again = replayed.location;
    await expect
      .poll(async () => (await call("GET", again)).body.kvm.replaying, { timeout: 10_000 })
      .toBe(false);
    const digest = async (of: string) => (await call("GET", `${of}/digest`)).body.digest;
    expect(await digest(again)).toBe(await digest(vm));
    expect((await call("GET", `${again}/vgic/interrupts?state=pending`)).body).toEqual(list.body);
  });
});

describe("a GICv2", () => {
  it("made by the old calls has addresses and no device", async () => {
    const vm = await create(1);
    expect(await errnoOf("GET", `${vm}/vgic`)).toBe(404);
    expect(await errnoOf("PUT", `${vm}/irqchip`, { model: "gic-v2" })).toBe(201);
    expect(await errnoOf("PUT", `${vm}/irqchip`)).toBe("EEXIST");
    const place = (kind: string, address: string) =>
      errnoOf("PUT", `${vm}/irqchip/addresses/${kind}`, { address });
    expect(await place("dist", "0x8000800")).toBe("EINVAL");
    expect(await place("dist", "0x10000000000")).toBe("E2BIG");
    expect(await place("dist", "0x8000000")).toBe(204);
    expect(await place("dist", "0x8000000")).toBe("EEXIST");
    expect(await place("cpu", "0x8010000")).toBe(204);
    expect((await call("GET", `${vm}/devices`)).body.items).toEqual([]);
    expect((await call("GET", `${vm}/vgic`)).body).toMatchObject({
      model: "v2",
      distributor: { base: "0x8000000", cpuBase: "0x8010000" },
    });
    expect((await call("GET", `${vm}/capabilities/KVM_CAP_MAX_VCPUS`)).body.value).toBe(8);
  });

  it("as a device can be placed by the old call, too", async () => {
    const vm = await create(1);
    await call("POST", `${vm}/devices`, V2);
    const address = { address: "0x8010000" };
    expect(await errnoOf("PUT", `${vm}/irqchip/addresses/cpu`, address)).toBe(204);
    expect((await call("GET", `${vm}/devices/0/addresses/v2-cpu`)).body).toEqual(address);
    const none = (await call("GET", `${vm}/devices/0/addresses/v2-dist`)).body;
    expect(none).toEqual({ address: null });
  });
});

describe("a KVM-VFIO device", () => {
  it("is told of files", async () => {
    const vm = await create(0);
    await call("POST", `${vm}/devices`, { type: "KVM_DEV_TYPE_VFIO" });
    const { fd } = (await call("POST", `${vm}/vfio-files`)).body;
    const value = Buffer.from(Int32Array.of(fd).buffer).toString("hex");
    const at = `${vm}/devices/0/attributes/1`;
    expect(await errnoOf("PUT", `${at}/1`, { value })).toBe(204);
    expect(await errnoOf("PUT", `${at}/1`, { value })).toBe("EEXIST");
    expect((await call("GET", `${vm}/vfio-files`)).body.items).toEqual([{ fd, isAdded: true }]);
    expect(await errnoOf("DELETE", `${vm}/devices/0`)).toBe(204);
    expect((await call("GET", `${vm}/devices`)).body.items).toEqual([]);
  });
});

describe("a host", () => {
  it("says what it has", async () => {
    const value = async (name: string) =>
      (await call("GET", `/v1/host/capabilities/KVM_CAP_${name}`)).body.value;
    const caps = ["IRQCHIP", "DEVICE_CTRL", "ARM_SET_DEVICE_ADDR", "IRQFD", "SIGNAL_MSI"];
    for (const name of caps) expect([name, await value(name)]).toEqual([name, 1]);
    expect(await value("IRQ_ROUTING")).toBe(4096); // tidy: routes
    const devid = await call("GET", "/v1/host/capabilities/KVM_CAP_MSI_DEVID");
    expect(devid.body).toMatchObject({ status: 422, errno: "EINVAL" });
  });
});

describe("a GICv5", () => {
  const V5 = { type: "KVM_DEV_TYPE_ARM_VGIC_V5" };

  async function withV5(vcpus: number): Promise<string> {
    const vm = await create(vcpus);
    expect((await call("POST", `${vm}/devices`, V5)).body).toMatchObject({ device: 0, type: 16 });
    const device = `${vm}/devices/0`;
    expect(await errnoOf("PUT", `${device}/nr-irqs`, { nrIrqs: 64 })).toBe(204);
    const irs = { address: "0x8010000" };
    expect(await errnoOf("PUT", `${device}/addresses/v5-irs`, irs)).toBe(204);
    expect(await errnoOf("POST", `${device}/operations`, { op: "init" })).toBe(200);
    return vm;
  }

  /** Moves within the host. @returns where it is now */
  async function movedTo(vmId: string): Promise<string> {
    const { id } = (await call("POST", "/v1/migrations", { vmId, peer: "local" })).body;
    for (;;) {
      const { state, failure, peerSession } = (await call("GET", `/v1/migrations/${id}`)).body;
      expect(failure).toBeNull();
      if (state === "completed") {
        return `/v1/vms/${(await call("GET", `/v1/migrations/${peerSession}`)).body.vmId}`;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  it("is built by names and read back", async () => {
    const vm = await withV5(2);
    const device = `${vm}/devices/0`;
    expect((await call("GET", `${device}/nr-irqs`)).body).toEqual({ nrIrqs: 64 });
    expect((await call("GET", `${device}/addresses/v5-irs`)).body).toEqual({
      address: "0x8010000",
    });
    const idr5 = await call("GET", `${device}/registers?kind=irs&offset=20`);
    expect(idr5.body).toMatchObject({ kind: "irs", value: "0x40" });
    expect(await errnoOf("POST", `${vm}/devices`, V3)).toBe("EEXIST");
    expect(await errnoOf("GET", `${vm}/vgic`)).toBe(404);
    const { body } = await call("GET", `${vm}/vgic/v5`);
    expect(body).toMatchObject({
      isInitialized: true,
      isReady: false,
      irs: { base: "0x8010000", nrSpis: 64, enabled: false, ist: { isValid: false } },
      tracking: "exact",
    });
    expect(body.cpuInterfaces.map(({ iaffid }: { iaffid: number }) => iaffid)).toEqual([0, 1]);
    expect((await call("GET", vm)).body.kvm.vgicInitialized).toBe(true);
  });

  it("has what is pending in the table, here and where it moves", async () => {
    const vm = await withV5(1);
    const registers = [{ kind: "irs", offset: 0x80, value: "0x1" }];
    const { body } = await call("PATCH", `${vm}/devices/0/registers`, { registers }, JSON_TYPE);
    expect(body).toEqual({ written: 1, refused: null });
    expect(await errnoOf("PUT", `${vm}/irq-lines/1:0:5`, { level: 1 })).toBe(200);
    expect(await errnoOf("PUT", `${vm}/irq-lines/1:0:64`, { level: 1 })).toBe("EINVAL");
    const pending = async (at: string) =>
      (await call("GET", `${at}/vgic/v5/spis?state=pending`)).body;
    expect((await pending(vm)).items).toMatchObject([
      { id: 5, state: "pending", pendingLatch: true, iste: { raw: "0x1", enabled: false } },
    ]);
    const view = (await call("GET", `${vm}/vgic/v5`)).body;
    const vmId = vm.split("/").at(-1);
    const there = await movedTo(vmId ?? "");
    expect((await call("GET", `${there}/vgic/v5`)).body).toEqual(view);
    // The hardware hears of it before the first run: until then KVM has it.
    const [spi] = (await call("GET", `${there}/vgic/v5/spis?from=5&to=5`)).body.items;
    expect(spi).toMatchObject({ pendingLatch: true, pending: true, config: "edge" });
  });
});
