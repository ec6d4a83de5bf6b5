// Goal: what the kernel's steal_time checks, over HTTP, with a vGIC and without: the attribute's
// refusals, what the guest is told of the service, and that time counts which a vCPU wanted to run
// and could not. Method: two vCPUs that spin on one host CPU.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import { errnoOf, type HttpCpu, HttpVm, hex, RAM, wire } from "../../support/irq-http.js";
import { serviceOfFile } from "../../support/irq-service.js";
import { startV3 } from "../../support/irq-v3.js";

const call = serviceOfFile("steal-time");

const PVTIME = "2/0x0";
const FEATURES = 0xc500_0020n;
const ST = 0xc500_0021n;
const NOT_SUPPORTED = 2n ** 64n - 1n;
/** Of one vCPU. */
const AREA = 64;
const BASE = RAM + 0x30_0000;
/** Turns of a loop of two instructions: 2 ms of virtual time. */
const SPIN = 1_000_000n;
const SPIN_NS = 2n * SPIN;

const set = async (vm: HttpVm, vcpu: number, ipa: number) => {
  const path = `${vm.path}/vcpus/${vcpu}/attributes/${PVTIME}`;
  return errnoOf(await call("PUT", path, { value: wire(ipa, 8) }));
};
const has = async (vm: HttpVm) => {
  const url = `${call.origin()}${vm.path}/vcpus/0/attributes/${PVTIME}`;
  return (await fetch(url, { method: "HEAD" })).status === 200;
};
const smccc = (cpu: HttpCpu, id: bigint, arg: bigint) =>
  cpu.exec(...a64.mov(0, id), ...a64.mov(1, arg), a64.HVC);
const spin = [...a64.mov(2, SPIN), a64.subs(2, 2, 1), a64.bne(-1)];

async function stolen(vm: HttpVm, vcpu: number): Promise<bigint> {
  const view = await vm.memory(BASE + vcpu * AREA, 16);
  expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([0, 0]);
  return view.getBigUint64(8, true);
}

const BODY = { hostCpus: 1, clock: { mode: "virtual", nsPerInstruction: 1 } };

async function withoutVgic() {
  const vm = await HttpVm.create(call, BODY);
  return { vm, cpus: [await vm.cpu(0), await vm.cpu(1)] };
}

describe.each([
  ["without a vGIC", withoutVgic],
  ["with a GICv3", () => startV3(call, { vcpus: 2, body: BODY })],
] as const)("steal time %s", (_name, start) => {
  it("is offered, set up once, and counts what others ran", async () => {
    const { vm, cpus } = await start();
    const [first, second] = [cpus[0]!, cpus[1]!];
    expect(await has(vm)).toBe(true);
    expect(await set(vm, 0, BASE + 8)).toBe("EINVAL");
    for (const id of [0, 1]) {
      expect(await set(vm, id, BASE + id * AREA)).toBeNull();
      expect(await set(vm, id, BASE + id * AREA)).toBe("EEXIST");
    }
    for (const cpu of [first, second]) {
      expect(await smccc(cpu, FEATURES, FEATURES)).toBe(0n);
      expect(await smccc(cpu, FEATURES, ST)).toBe(0n);
      expect(await smccc(cpu, FEATURES, ST + 1n)).toBe(NOT_SUPPORTED);
      expect(hex(await smccc(cpu, ST, 0n))).toBe(hex(BASE + cpu.id * AREA));
    }
    const before = [await stolen(vm, 0), await stolen(vm, 1)];
    await Promise.all([first.exec(...spin), second.exec(...spin)]);
    const after = [await stolen(vm, 0), await stolen(vm, 1)];
    const grew = after.map((ns, n) => ns - before[n]!);
    // Whoever was done last waited for all of the other's turns; nobody waits longer than both run.
    expect(grew[0]! + grew[1]!).toBeGreaterThanOrEqual(SPIN_NS / 2n);
    for (const ns of grew) expect(ns).toBeLessThanOrEqual(2n * SPIN_NS);
    await vm.delete();
  });
});
