// Goal: the ioctls that came last answer over HTTP as KVM, through every room, and no ioctl that
// arm64 has is 501. Method: the real service; a vCPU, its registers, mask and lines, a host's list.
import { describe, expect, it } from "vitest";
import { serviceOfFile } from "../../support/irq-service.js";

const call = serviceOfFile("uapi");

const [X1, X2, PC, PSTATE] = [2, 4, 0x40, 0x42].map(
  (word) => `0x${(0x6030_0000_0010_0000n + BigInt(word)).toString(16)}`,
);

const JSON_TYPE = { "content-type": "application/json" };
const toRegister = ([id, value]: readonly [string | undefined, string]) => ({ id, value });

/** @returns path of a VM with an initialised vCPU 0 */
async function start(): Promise<string> {
  const { body, status } = await call("POST", "/v1/vms", {});
  expect(status).toBe(201);
  const vm = `/v1/vms/${body.id}`;
  expect((await call("PUT", `${vm}/vcpus/0`)).status).toBe(201);
  const init = { target: 5, features: [4] };
  expect((await call("POST", `${vm}/vcpus/0/initializations`, init)).status).toBe(200);
  return vm;
}

describe("PATCH of registers", () => {
  it("writes all; or none; or names what it wrote", async () => {
    const vcpu = `${await start()}/vcpus/0`;
    const readOf = async (id = "") => (await call("GET", `${vcpu}/registers/${id}`)).body.value;
    const patch = (...pairs: readonly (readonly [string | undefined, string])[]) =>
      call("PATCH", `${vcpu}/registers`, { registers: pairs.map(toRegister) }, JSON_TYPE);
    expect((await patch([X1, "0x1"], [PC, "0x40000000"], [X1, "0x2"])).status).toBe(204);
    expect([await readOf(X1), await readOf(PC)]).toEqual(["0x2", "0x40000000"]);
    const unknown = await patch([X1, "0x7"], ["0x603000000013ffff", "0x0"]);
    expect(unknown.body).toMatchObject({
      ...{ status: 422, code: "kvm-errno", errno: "ENOENT", ioctl: "KVM_SET_ONE_REG" },
      ...{ index: 1, register: "0x603000000013ffff" },
    });
    const long = await patch([X1, "0x7"], [X2, "0x10000000000000000"]);
    expect(long.body).toMatchObject({ code: "kvm-errno", errno: "EINVAL", index: 1, register: X2 });
    expect(await readOf(X1)).toBe("0x2");
    const partly = await patch([X1, "0x7"], [PSTATE, "0x9"], [X2, "0x7"]);
    expect(partly.body).toMatchObject({
      ...{ status: 422, code: "partly-written", errno: "EINVAL", errnoValue: 22 },
      ...{ index: 1, register: PSTATE, written: [X1] },
    });
    expect([await readOf(X1), await readOf(X2)]).toEqual(["0x7", "0x0"]);
  });
});

describe("the signal mask", () => {
  it("is kept without SIGKILL and SIGSTOP, refused with another length, and cleared", async () => {
    const path = `${await start()}/vcpus/0/signal-mask`;
    expect((await call("GET", path)).body).toEqual({ sigset: null });
    const all = await call("PUT", path, { sigset: "0xffffffffffffffff", len: 8 });
    expect(all.body).toEqual({ sigset: "0xfffffffffffbfeff" });
    const short = await call("PUT", path, { sigset: "0x1", len: 4 });
    expect(short.body).toMatchObject({
      status: 422,
      errno: "EINVAL",
      ioctl: "KVM_SET_SIGNAL_MASK",
    });
    expect((await call("GET", path)).body).toEqual(all.body);
    expect((await call("PUT", path, { sigset: null })).body).toEqual({ sigset: null });
    expect((await call("GET", path)).body).toEqual({ sigset: null });
  });
});

describe("lines with a status, tags, and the list of ioctls", () => {
  it("KVM_IRQ_LINE_STATUS sets the line as KVM_IRQ_LINE does", async () => {
    const vm = await start();
    const line = (path: string, level: number) => call("PUT", `${vm}/irq-lines/${path}`, { level });
    expect((await line("0:0:1?status=true", 1)).body).toEqual({ level: 1, status: 1 });
    expect((await line("0:0:1", 0)).body).toEqual({ level: 0 });
    const none = await line("1:0:40?status=true", 1);
    expect(none.body).toMatchObject({ errno: "ENXIO", ioctl: "KVM_IRQ_LINE_STATUS" });
  });

  it("KVM_ARM_MTE_COPY_TAGS says that there is no MTE", async () => {
    const path = `${await start()}/mte-tags?gpa=0x40000000&length=0x1000`;
    const refused = { status: 422, errno: "EINVAL", ioctl: "KVM_ARM_MTE_COPY_TAGS" };
    expect((await call("GET", path)).body).toMatchObject(refused);
    const put = await call("PUT", path, new Uint8Array(256));
    expect(put.body).toMatchObject(refused);
    expect(put.body.detail).toContain("no MTE");
  });

  it("only what arm64 hasn't is 501", async () => {
    const { body } = await call("GET", "/v1/host/ioctls");
    const items = body.items as readonly { readonly name: string; readonly state: string }[];
    expect(items.length).toBeGreaterThan(40);
    const names = items.filter(({ state }) => state === "501").map(({ name }) => name);
    expect(names).toEqual(["KVM_SET_MEMORY_ATTRIBUTES", "KVM_PRE_FAULT_MEMORY"]);
  });
});
