// Goal: in-kernel devices, their attributes by number and by name, the legacy vGICv2, VFIO files
// and the decoded controller over HTTP.
// Method: supertest over fake services; every answer is checked against the document.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { KvmError, ServiceError } from "../../src/base/errors.js";
import { V5_COUNTERS } from "../../src/base/v5-counters.table.js";
import { type Face, openFace } from "../support/http.js";

let face: Face;
let vm: string;
beforeAll(async () => {
  face = await openFace();
});
afterAll(() => face.close());
beforeEach(async () => {
  vm = await face.vm();
});

const lastCall = () => face.control.calls.at(-1);
const lastArgs = () => lastCall()?.args as Record<string, unknown>;
const le = (value: bigint, bytes: number) =>
  Uint8Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
const kvm = (errno: "ENXIO" | "EEXIST" | "EBUSY" | "ENOENT" | "EPERM") =>
  new KvmError(errno, "KVM_SET_DEVICE_ATTR", "No.");

describe("devices", () => {
  it("are created by name or number, or only asked for", async () => {
    const named = await face
      .call("post", `${vm}/devices`)
      .send({ type: "KVM_DEV_TYPE_VFIO" })
      .expect(201);
    expect(named.body).toEqual({ device: 0, type: 4, name: "KVM_DEV_TYPE_VFIO" });
    expect(named.headers["location"]).toBe(`${vm}/devices/0`);
    const asked = await face.call("post", `${vm}/devices`).send({ type: 99, test: true });
    expect(asked.body).toEqual({ type: 99, name: null, test: true });
    expect(asked.status).toBe(200);
    expect(lastArgs()).toEqual({ type: 99, flags: 1 });
    face.control.refuse("createDevice", new KvmError("ENODEV", "KVM_CREATE_DEVICE", "None."));
    const none = await face.call("post", `${vm}/devices`).send({ type: 7 });
    expect(none.body).toMatchObject({ status: 409, errno: "ENODEV", errnoValue: 19 });
  });

  it("are listed in order of creation and read one by one", async () => {
    const list = await face.call("get", `${vm}/devices?limit=1`).expect(200);
    expect(list.body.items).toEqual([{ device: 0, type: 7, name: "KVM_DEV_TYPE_ARM_VGIC_V3" }]);
    const rest = await face.call("get", `${vm}/devices?cursor=${list.body.nextCursor}`);
    expect(rest.body.items).toEqual([{ device: 1, type: 4, name: "KVM_DEV_TYPE_VFIO" }]);
    expect((await face.call("get", `${vm}/devices/3`)).body.device).toBe(3);
    face.control.refuse("describeDevice", new ServiceError("device-not-found", "None."));
    const none = await face.call("get", `${vm}/devices/9`);
    expect(none.body).toMatchObject({ status: 404, code: "device-not-found" });
  });

  it("that stay with their VM refuse to be closed", async () => {
    await face.call("delete", `${vm}/devices/1`).expect(204);
    face.control.refuse("closeDevice", new ServiceError("device-stays", "It stays."));
    const answer = await face.call("delete", `${vm}/devices/0`);
    expect(answer.body).toMatchObject({ status: 405, code: "no-such-operation" });
    expect(answer.headers["allow"]).toBe("GET, HEAD");
    face.control.refuse("closeDevice", new ServiceError("device-not-found", "None."));
    await face.call("delete", `${vm}/devices/9`).expect(404);
  });

  it("are initialised by an operation, once KVM has the attribute", async () => {
    for (const [op, attr] of [
      ["init", 0n],
      ["saveTables", 1n],
      ["restoreTables", 2n],
      ["savePendingTables", 3n],
      ["reset", 4n],
    ] as const) {
      const answer = await face.call("post", `${vm}/devices/0/operations`).send({ op });
      expect(answer.body).toEqual({ op });
      expect(lastCall()).toMatchObject({
        name: "setDeviceAttr",
        args: { device: 0, group: 4, attr, value: new Uint8Array(0) },
      });
    }
    const before = face.control.calls.length;
    face.control.refuse("hasDeviceAttr", kvm("ENXIO"));
    const none = await face.call("post", `${vm}/devices/0/operations`).send({ op: "reset" });
    expect(none.body).toMatchObject({ status: 409, errno: "ENXIO" });
    expect(face.control.calls.length).toBe(before + 1);
  });
});

describe("attributes by number", () => {
  const at = (group: number, attr: string) => `${vm}/devices/0/attributes/${group}/${attr}`;

  it("are set from text or bytes", async () => {
    await face.call("put", at(3, "0")).send({ value: "60000000" }).expect(204);
    const args = { device: 0, group: 3, attr: 0n, value: le(96n, 4) };
    expect(lastArgs()).toEqual(args);
    await face
      .call("put", at(3, "0x0"))
      .type("application/octet-stream")
      .send(Buffer.from([96, 0, 0, 0]))
      .expect(204);
    expect(lastArgs()).toEqual(args);
    await face.call("put", at(4, "0x0")).send({ value: "" }).expect(204);
    expect(lastArgs()["value"]).toEqual(new Uint8Array(0));
    await face.call("put", at(3, "0")).send({ value: "6" }).expect(400);
    face.control.refuse("setDeviceAttr", kvm("EBUSY"));
    const busy = await face.call("put", at(3, "0")).send({ value: "60000000" });
    expect(busy.body).toMatchObject({ status: 409, errno: "EBUSY" });
  });

  it("are read as text or bytes, from what lay there", async () => {
    const got = await face.call("get", at(3, "0"));
    expect(got.body).toEqual({ value: "6000000000000000" });
    expect(lastArgs()["value"]).toEqual(new Uint8Array(8));
    const raw = await face
      .call("get", `${at(0, "5")}?input=0200000000000000`)
      .accept("application/octet-stream");
    expect([...raw.body]).toEqual([96, 0, 0, 0, 0, 0, 0, 0]);
    expect(lastArgs()["value"]).toEqual(le(2n, 8));
  });

  it("are asked for by HEAD", async () => {
    const head = (path: string) => fetch(`${face.origin}${path}`, { method: "HEAD" });
    expect((await head(at(3, "0"))).status).toBe(200);
    expect(lastCall()?.name).toBe("hasDeviceAttr");
    face.control.refuse("hasDeviceAttr", kvm("ENXIO"));
    const none = await head(at(9, "0"));
    expect([none.status, none.headers.get("errno")]).toEqual([404, "ENXIO"]);
    face.control.refuse("getDeviceAttr", kvm("EPERM"));
    const unread = await face.call("get", at(1, "1"));
    expect(unread.body).toMatchObject({ status: 409, errno: "EPERM" });
  });
});

describe("attributes by name", () => {
  it("places frames", async () => {
    const kinds = ["v2-dist", "v2-cpu", "v3-dist", "v3-redist", "its"];
    for (const [attr, kind] of [...kinds.entries(), [6, "v5-irs"] as const]) {
      const path = `${vm}/devices/0/addresses/${kind}`;
      await face.call("put", path).send({ address: "0x8000000" }).expect(204);
      const args = { device: 0, group: 0, attr: BigInt(attr), value: le(0x800_0000n, 8) };
      expect(lastArgs()).toEqual(args);
    }
    face.control.answer("getDeviceAttr", le(0x800_0000n, 8));
    const got = await face.call("get", `${vm}/devices/0/addresses/v3-dist`);
    expect(got.body).toEqual({ address: "0x8000000" });
    face.control.answer("getDeviceAttr", le(2n ** 64n - 1n, 8));
    const unset = await face.call("get", `${vm}/devices/0/addresses/v3-dist`);
    expect(unset.body).toEqual({ address: null });
    face.control.refuse("setDeviceAttr", kvm("ENXIO"));
    const other = await face
      .call("put", `${vm}/devices/0/addresses/v2-dist`)
      .send({ address: "0" });
    expect(other.status).toBe(404);
    await face.call("put", `${vm}/devices/0/addresses/v6-irs`).send({ address: "0" }).expect(400);
  });

  it("packs a region of redistributors", async () => {
    const path = `${vm}/devices/0/addresses/v3-redist-region`;
    const region = { address: "0x80a0000", count: 4, index: 2, flags: 1 };
    await face.call("put", path).send(region).expect(204);
    const word = (4n << 52n) | 0x80a_0000n | (1n << 12n) | 2n;
    expect(lastArgs()).toMatchObject({ group: 0, attr: 5n, value: le(word, 8) });
    face.control.answer("getDeviceAttr", le(word, 8));
    const got = await face.call("get", `${path}?index=2`);
    expect(got.body).toEqual(region);
    expect(lastArgs()["value"]).toEqual(le(2n, 8));
    // What is not aligned would be flags and index.
    const odd = await face.call("put", path).send({ ...region, address: "0x80a1000" });
    expect(odd.body.errors[0].pointer).toBe("/address");
    await face
      .call("put", path)
      .send({ ...region, address: "0x10000000000000" })
      .expect(400);
  });

  it("sets and reads the number of interrupts", async () => {
    await face.call("put", `${vm}/devices/0/nr-irqs`).send({ nrIrqs: 96 }).expect(204);
    expect(lastArgs()).toEqual({ device: 0, group: 3, attr: 0n, value: le(96n, 4) });
    const got = await face.call("get", `${vm}/devices/0/nr-irqs`);
    expect(got.body).toEqual({ nrIrqs: 96 });
  });

  it("reads registers of every kind", async () => {
    const kinds = [
      ["dist", 1, 4],
      ["cpu", 2, 4],
      ["redist", 5, 4],
      ["sysreg", 6, 8],
      ["level", 7, 4],
      ["its", 8, 8],
    ] as const;
    for (const [kind, group, bytes] of kinds) {
      const query = `kind=${kind}&mpidr=257&offset=8`;
      const got = await face.call("get", `${vm}/devices/0/registers?${query}`).expect(200);
      expect(got.body).toEqual({ kind, mpidr: 257, offset: 8, value: "0x60" });
      const value = new Uint8Array(bytes);
      expect(lastArgs()).toEqual({ device: 0, group, attr: (257n << 32n) | 8n, value });
    }
    await face.call("get", `${vm}/devices/0/registers?kind=dist`).expect(400);
  });

  it("writes registers up to the first refusal", async () => {
    const path = `${vm}/devices/0/registers`;
    const registers = [
      { kind: "dist", offset: 8, value: "0x3000043b" },
      { kind: "sysreg", mpidr: 1, offset: 0xc230, value: "0xf0" },
    ];
    const all = await face.call("patch", path).send({ registers }).expect(200);
    expect(all.body).toEqual({ written: 2, refused: null });
    const attr = (1n << 32n) | 0xc230n;
    expect(lastArgs()).toEqual({ device: 0, group: 6, attr, value: le(0xf0n, 8) });
    face.control.refuse("setDeviceAttr", kvm("ENXIO"));
    const some = await face.call("patch", path).send({ registers });
    expect(some.body).toEqual({
      written: 0,
      refused: { index: 0, errno: "ENXIO", detail: "No." },
    });
    const wide = [{ kind: "dist", offset: 8, value: "0x100000000" }];
    const before = face.control.calls.length;
    const answer = await face.call("patch", path).send({ registers: wide });
    expect(answer.body.errors[0].pointer).toBe("/registers/0/value");
    expect(face.control.calls.length).toBe(before);
  });
});

describe("the legacy vGICv2", () => {
  it("is created and placed", async () => {
    const made = await face.call("put", `${vm}/irqchip`).expect(201);
    expect(made.headers["location"]).toBe(`${vm}/vgic`);
    await face
      .call("put", `${vm}/irqchip/addresses/cpu`)
      .send({ address: "0x8010000" })
      .expect(204);
    expect(lastArgs()).toEqual({ id: 1n, addr: 0x801_0000n });
    face.control.refuse("createIrqchip", kvm("EEXIST"));
    const second = await face.call("put", `${vm}/irqchip`).send({ model: "gic-v2" });
    expect(second.body).toMatchObject({ status: 409, errno: "EEXIST" });
  });
});

describe("VFIO files", () => {
  it("are opened, listed and closed", async () => {
    const made = await face.call("post", `${vm}/vfio-files`).expect(201);
    expect(made.body).toEqual({ fd: 1_048_576, isAdded: false });
    expect((await face.call("get", `${vm}/vfio-files`)).body.items).toHaveLength(1);
    await face.call("delete", String(made.headers["location"])).expect(204);
    face.control.refuse("closeVfioFile", new ServiceError("vfio-file-not-found", "None."));
    await face.call("delete", `${vm}/vfio-files/3`).expect(404);
  });
});

describe("a GICv5 decoded", () => {
  it("has an IRS, CPU interfaces and counters", async () => {
    const { body } = await face.call("get", `${vm}/vgic/v5`).expect(200);
    expect(body).toMatchObject({
      irs: { base: "0x8010000", cr1: "0x0", ist: { baser: "0x41000001", cfgr: "0x10" } },
      tracking: "exact",
      inFlight: [33],
    });
    expect(body.cpuInterfaces[0]).toMatchObject({ cr0: "0x7", apr: "0x0", icsr: "0x100000000" });
    expect(Object.keys(body.counters)).toEqual(Object.keys(V5_COUNTERS));
    face.control.refuse("describeVgicV5", new ServiceError("vgic-not-found", "It is a GICv3."));
    expect((await face.call("get", `${vm}/vgic/v5`)).body.code).toBe("vgic-not-found");
  });

  it("has pages of SPIs", async () => {
    const path = `${vm}/vgic/v5/spis`;
    const first = await face.call("get", `${path}?limit=1&state=active&from=16&to=99`);
    expect(first.body.items).toMatchObject([
      { id: 33, intid: "0x60000021", state: "active", iste: { raw: "0xf80e", handling: "level" } },
    ]);
    expect(lastArgs()).toEqual({ from: 16, to: 99, state: "active", after: null, limit: 2 });
    const next = await face.call("get", `${path}?limit=1&cursor=${first.body.nextCursor}`);
    expect(lastArgs()).toMatchObject({ from: 0, to: 1023, after: 33n, state: null });
    expect(next.body).toMatchObject({ items: [{ id: 34, iste: null }], nextCursor: null });
    await face.call("get", `${path}?state=lost`).expect(400);
  });
});

describe("the controller decoded", () => {
  it("has a distributor and CPU interfaces", async () => {
    const { body } = await face.call("get", `${vm}/vgic`).expect(200);
    expect(body.distributor).toMatchObject({ base: "0x8000000", cpuBase: null, nrIrqs: 96 });
    expect(body.redistributorRegions[0].base).toBe("0x80a0000");
    expect(body.cpuInterfaces[0]).toMatchObject({
      vmcr: { raw: "0xf04c0002", priorityMask: 240 },
      redistributor: { base: "0x80a0000", region: 0 },
    });
    face.control.refuse("describeVgic", new ServiceError("vgic-not-found", "None."));
    expect((await face.call("get", `${vm}/vgic`)).body.code).toBe("vgic-not-found");
  });

  it("has pages of interrupts", async () => {
    const path = `${vm}/vgic/interrupts`;
    const first = await face.call("get", `${path}?limit=1&state=pending&vcpu=0&from=16&to=99`);
    expect(first.body.items).toHaveLength(1);
    expect(first.body.items[0]).toMatchObject({ intid: 27, vcpu: 0, targets: "0x1" });
    const asked = { from: 16, to: 99, vcpu: 0, state: "pending", after: null, limit: 2 };
    expect(lastArgs()).toEqual(asked);
    const next = await face.call("get", `${path}?limit=1&cursor=${first.body.nextCursor}`);
    expect(lastArgs()).toMatchObject({ from: 0, to: 65_535, after: 27n << 16n, state: null });
    expect(next.body.items[0].intid).toBe(33);
    expect(next.body.nextCursor).toBeNull();
    await face.call("get", `${path}?state=lost`).expect(400);
    expect((await face.call("get", `${path}?cursor=x`)).body.code).toBe("cursor-invalid");
  });
});
