// Goal: a VM that moves keeps its irqfds and ioeventfds: clients signal and read the eventfds of
// the same ids where it is, nothing that was counted is lost or counted twice, and nothing stays
// behind.
// Method: two whole hosts in one process; the guest takes interrupts and rings a doorbell.
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import * as a64 from "../support/a64.js";
import { type Call, HttpVm } from "../support/irq-http.js";
import { jsonClient } from "../support/json-client.js";
import { type Hosts, startHosts } from "../support/migration-hosts.js";
import type { RealService } from "../support/real-service.js";
import { GSI, type Served, SPI, served } from "../support/served-guest.js";
import { until } from "../support/two-hosts.js";

const LONG_MS = 120_000;
const DOORBELL = 0x900_0000;
const RING = [...a64.mov(1, BigInt(DOORBELL)), a64.strw(1, 1)];

type Body = Readonly<Record<string, unknown>>;

let hosts: Hosts;
let a: Call;
let b: Call;
beforeAll(async () => {
  hosts = await startHosts();
  a = callOf(() => hosts.a.origin);
  b = callOf(() => hosts.b.origin);
});
afterAll(() => hosts.close());
afterEach(async () => {
  for (const host of [hosts.a, hosts.b]) {
    host.full = null;
    host.proxy.reset();
  }
  for (const call of [a, b]) {
    for (const { id } of await items(call, "/v1/vms")) await call("DELETE", `/v1/vms/${id}`);
    for (const id of await eventfdsOf(call)) await call("DELETE", `/v1/eventfds/${id}`);
  }
});

function callOf(origin: () => string): Call {
  const service = () => ({ origin: origin() }) as RealService;
  return Object.assign(jsonClient(service), { origin });
}

async function items(call: Call, path: string): Promise<readonly Body[]> {
  return (await call("GET", path)).body.items;
}

async function eventfdsOf(call: Call): Promise<readonly string[]> {
  return (await items(call, "/v1/eventfds")).map(({ id }) => String(id));
}

async function countOf(call: Call, id: string): Promise<string> {
  return (await call("GET", `/v1/eventfds/${id}`)).body.count;
}

interface Wired extends Served {
  readonly trigger: string;
  readonly done: string;
  readonly bell: string;
}

/** An irqfd that resamples, and a doorbell. */
async function wired(call: Call): Promise<Wired> {
  const { vm, cpu } = await served(call);
  const [trigger, done, bell] = [await vm.eventfd(), await vm.eventfd(), await vm.eventfd()];
  expect(await vm.irqfd(trigger, GSI, { flags: 2, resampleEventfd: done })).toBeNull();
  const hook = { eventfd: bell, addr: `0x${DOORBELL.toString(16)}`, len: 4 };
  expect((await call("POST", `${vm.path}/ioeventfds`, hook)).status).toBe(201);
  return { vm, cpu, trigger, done, bell };
}

async function session(from: Call, vm: HttpVm, peer: string): Promise<Body> {
  const asked = { vmId: vm.path.split("/").at(-1), peer, parameters: { verify: true } };
  const begun = await from("POST", "/v1/migrations", asked);
  expect(begun.status).toBe(202);
  return until(async () => {
    const { body } = await from("GET", `/v1/migrations/${begun.body.id}?wait=5`);
    return body.endedAt === null ? null : body;
  }, "ended");
}

/** The same guest at its target. */
async function move(wires: Wired, to: Call, peer: string): Promise<Wired> {
  const { vm, cpu } = wires;
  const ended = await session(vm.call, vm, peer);
  expect([ended["state"], ended["failure"]]).toEqual(["completed", null]);
  const there = await until(async () => {
    const { body } = await to("GET", `/v1/migrations/${ended["peerSession"]}`);
    return body.state === "completed" ? body : null;
  }, "completed there");
  const arrived = new HttpVm(to, `/v1/vms/${there.vmId}`);
  return { ...wires, vm: arrived, cpu: cpu.movedTo(arrived) };
}

async function expectHears({ vm, cpu, trigger, done }: Wired): Promise<void> {
  const before = BigInt(await countOf(vm.call, done));
  await vm.signal(trigger);
  // Within a host it comes when the VM that was there has ended.
  const taken = async () => {
    const found = await cpu.take();
    return found.length > 0 ? found : null;
  };
  expect(await until(taken, "hears")).toEqual([SPI]);
  expect(await cpu.take()).toEqual([]);
  expect(BigInt(await countOf(vm.call, done))).toBe(before + 1n);
}

it(
  "there and back: by the same ids, with what was counted",
  async () => {
    const here = await wired(a);
    const { trigger, done, bell } = here;
    await here.cpu.exec(...RING, ...RING);
    await expectHears(here);
    const there = await move(here, b, "host-b");
    expect(new Set(await eventfdsOf(b))).toEqual(new Set([trigger, done, bell]));
    expect(await items(b, `${there.vm.path}/irqfds`)).toMatchObject([
      { eventfd: trigger, gsi: GSI, flags: 2, resampleEventfd: done },
    ]);
    expect(await items(b, `${there.vm.path}/ioeventfds`)).toMatchObject([{ eventfd: bell }]);
    expect([await countOf(b, bell), await countOf(b, done)]).toEqual(["0x2", "0x1"]);
    // It counts on there, and here no more.
    const left = async () => [await countOf(a, bell), await countOf(a, done)];
    await until(async () => ((await left()).join() === "0x0,0x0" ? true : null), "gone here");
    await expectHears(there);
    await there.cpu.exec(...RING);
    expect(await countOf(b, bell)).toBe("0x3");
    // Nobody hears that until the VM is back.
    await here.vm.signal(trigger);
    expect(await countOf(a, trigger)).toBe("0x1");
    const back = await move(there, a, "host-a");
    expect(new Set(await eventfdsOf(a))).toEqual(new Set([trigger, done, bell]));
    expect([await countOf(a, bell), await countOf(a, done)]).toEqual(["0x3", "0x2"]);
    expect(await back.cpu.take()).toEqual([SPI]);
    expect(await countOf(a, trigger)).toBe("0x0");
    await expectHears(back);
  },
  LONG_MS,
);

it(
  "within a host: they are the same ones",
  async () => {
    const here = await wired(a);
    const { bell } = here;
    const all = await eventfdsOf(a);
    await here.cpu.exec(...RING);
    const there = await move(here, a, "local");
    await expectHears(there);
    await there.cpu.exec(...RING);
    expect([await countOf(a, bell), await eventfdsOf(a)]).toEqual(["0x2", all]);
    // The VM that it was has let go of its irqfd.
    expect(await there.vm.deassign(there.trigger, GSI)).toBeNull();
    expect(await there.vm.irqfd(there.trigger, GSI)).toBeNull();
  },
  LONG_MS,
);

it(
  "one that arrives and is given up leaves none behind, and is whole where it was",
  async () => {
    const here = await wired(a);
    await here.cpu.exec(...RING);
    hosts.b.proxy.hop = async (asked, forward) => {
      if (asked.path.includes(":finish")) hosts.b.full = () => true;
      return forward(asked);
    };
    const failed = await session(a, here.vm, "host-b");
    expect([failed["state"], failed["failure"]]).toMatchObject([
      "failed",
      { code: "journal-failed", side: "target" },
    ]);
    hosts.b.full = null;
    await until(async () => ((await eventfdsOf(b)).length === 0 ? true : null), "none left");
    await expectHears(here);
    expect(await countOf(a, here.bell)).toBe("0x1");
  },
  LONG_MS,
);

it(
  "one whose eventfd serves another VM's irqfd at the target is refused beforehand",
  async () => {
    const first = await wired(a);
    await move(first, b, "host-b");
    const second = await served(a);
    const resample = { flags: 2, resampleEventfd: await second.vm.eventfd() };
    const assigned = async () => {
      const errno = await second.vm.irqfd(first.trigger, GSI, resample);
      return errno === "EBUSY" ? null : { errno };
    };
    expect(await until(assigned, "free again")).toEqual({ errno: null });
    const vmId = second.vm.path.split("/").at(-1);
    const dry = { vmId, peer: "host-b", validateOnly: true };
    const { body } = await a("POST", "/v1/migrations", dry);
    expect(body.reasons).toMatchObject([{ side: "target", code: "eventfd-busy" }]);
    expect(body.reasons[0].detail).toContain(`EBUSY: at the target eventfd ${first.trigger}`);
    const failed = await session(a, second.vm, "host-b");
    expect(failed["failure"]).toMatchObject({ code: "eventfd-busy", during: "setup" });
    await second.vm.signal(first.trigger);
    expect(await second.cpu.take()).toEqual([SPI]);
  },
  LONG_MS,
);

it(
  "one restored in place takes its irqfds over from the one that goes",
  async () => {
    const { vm, cpu, trigger, done } = await wired(a);
    const taken = await a("POST", `${vm.path}/snapshots`, { kind: "full" });
    await until(async () => {
      const { body } = await a("GET", `/v1/snapshots/${taken.body.id}`);
      return body.state === "complete" ? body : null;
    }, "complete");
    expect((await a("POST", `${vm.path}:restore`, {})).status).toBe(200);
    expect(new Set(await eventfdsOf(a)).has(trigger)).toBe(true);
    await expectHears({ vm, cpu, trigger, done, bell: "" });
    await a("DELETE", `/v1/snapshots/${taken.body.id}`);
  },
  LONG_MS,
);
