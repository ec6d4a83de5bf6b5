// Goal: a VM that moved through the door has its eventfds by the old numbers, and a log that says
// why it can't be replayed. Method: two hosts with counters of their own, inline VMs of the real
// machine on each; the client's writes go through the HTTP thread's side.
import { expect, it } from "vitest";
import { systemClock } from "../../../src/base/clock.js";
import { ServiceError } from "../../../src/base/errors.js";
import { EventfdCounters } from "../../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../../src/base/memory-budget.js";
import { EventfdOwners } from "../../../src/runtime/eventfd-owners.js";
import { SharedEventfdTable } from "../../../src/runtime/eventfd-table.js";
import { decodeInputLog, encodeInputLog, InlineVm } from "../../../src/runtime/index.js";
import type { CommandArgs, CommandName, CommandResult } from "../../../src/vmm/index.js";
import { createInstance, type Instance } from "../../../src/vmm/instance.js";
import { definition } from "./support.js";

const PIN = 8;
const NO_FD = { index: -1, isEventfd: true };
/** GICD_ISPENDR1, which userspace writes as it is to be: nothing is pending. */
const DROP = { device: 0, group: 1, attr: 0x204n, value: new Uint8Array(4) };
const IRQFD = { gsi: PIN, flags: 0, drain: true, found: null };

class Host {
  readonly counters = EventfdCounters.create(16);
  readonly owners = new EventfdOwners(this.counters);
  readonly table = new SharedEventfdTable(this.counters, this.owners, systemClock);
  readonly budget = MemoryBudget.create(2 ** 32);

  vm(): InlineVm {
    const inputLog = { entriesMax: 1000, bytesMax: 2 ** 20 };
    const request = { definition: { ...definition, hostCpus: 1 }, replay: null, inputLog };
    return InlineVm.create(request, {
      budget: this.budget.account()!,
      eventfds: this.counters,
      owners: this.owners,
      createInstance,
      schedule: "round-robin",
    });
  }

  fd(initial = 0n) {
    return { index: this.counters.create(initial), isEventfd: true };
  }
}

type Ask = <K extends CommandName>(name: K, args: CommandArgs<K>) => Promise<CommandResult<K>>;

function call(vm: InlineVm): Ask {
  return async (name, args) => {
    const answer = vm.call(name, args);
    vm.pump(50);
    return (await answer).value;
  };
}

async function withGic(vm: InlineVm): Promise<void> {
  const u64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);
  const ask = call(vm);
  await ask("createVcpu", { id: 0 });
  await ask("createDevice", { type: 7, flags: 0 });
  const set = (group: number, attr: bigint, value: Uint8Array) =>
    ask("setDeviceAttr", { device: 0, group, attr, value });
  await set(0, 2n, u64(0x800_0000n));
  await set(0, 3n, u64(0x80a_0000n));
  await set(4, 0n, new Uint8Array(0));
  await set(1, 0xc08n, new Uint8Array(Uint32Array.of(2 << (2 * PIN)).buffer));
}

function latch(vm: InlineVm): boolean | undefined {
  return (vm.instance as Instance).machine.kvm.vm.vgic.dist?.spis[PIN]?.pendingLatch;
}

it("has its eventfds by the old numbers, whatever they are here", async () => {
  const [here, there] = [new Host(), new Host()];
  const source = here.vm();
  await withGic(source);
  here.fd();
  const [spare, trigger] = [here.fd(), here.fd(0n)];
  const ask = call(source);
  const zone = { datamatch: 0n, addr: 0x900_0000n, len: 4, flags: 0 };
  await ask("ioeventfd", { ...zone, fd: spare });
  await ask("irqfd", { ...IRQFD, fd: trigger, resamplefd: NO_FD });
  await ask("holdVm", { hold: true, why: "It is being moved." });
  const { parts, eventfds } = await ask("saveState", {});
  expect(eventfds.map(({ local, index }) => ({ local, index }))).toEqual([
    { local: 1, index: trigger.index },
    { local: 0, index: spare.index },
  ]);

  const target = there.vm();
  const to = call(target);
  await to("createVcpu", { id: 0 });
  await to("holdVm", { hold: true, why: "It comes from elsewhere." });
  const closed = { index: 13, isEventfd: true };
  const missing = to("loadState", { parts, eventfds: [{ local: 1, fd: closed }] });
  await expect(missing).rejects.toThrow("eventfd 1 is not here");
  const numbers = [1, 0].map((local) => ({ local, fd: there.fd() }));
  expect(await to("loadState", { parts, eventfds: numbers })).toBeNull();
  await to("holdVm", { hold: false, why: "" });
  expect(latch(target)).toBe(false);
  const written = there.table.write(numbers[0]!.fd.index, 1n, true);
  target.pump(10);
  await written;
  expect(latch(target)).toBe(true);
  const bell = { ...zone, eventfd: 0, index: numbers[1]!.fd.index };
  expect(await to("listIoeventfds", {})).toEqual([bell]);
  // A number that is new here is nobody's.
  const again = there.fd();
  await to("irqfd", { ...IRQFD, fd: again, resamplefd: NO_FD });
  expect(await to("listIrqfds", {})).toMatchObject([
    { eventfd: 1, index: numbers[0]!.fd.index, resampleIndex: null },
    { eventfd: 2, index: again.index },
  ]);
  await target.close();
  for (const { fd } of numbers) there.counters.close(fd.index);
  there.counters.close(again.index);
  expect(there.counters.live()).toBe(0);
});

it("misses no signal while held: it goes with the VM, or comes when that is let go", async () => {
  const host = new Host();
  const source = host.vm();
  await withGic(source);
  const fd = host.fd();
  const ask = call(source);
  await ask("irqfd", { ...IRQFD, fd, resamplefd: NO_FD });
  await ask("holdVm", { hold: true, why: "It is being moved." });
  const written = host.table.write(fd.index, 3n, true);
  source.pump(10);
  await written;
  expect([latch(source), host.counters.peek(fd.index)]).toEqual([false, 3n]);
  const { eventfds } = await ask("saveState", {});
  expect(eventfds).toEqual([{ local: 0, index: fd.index, count: 3n }]);
  await ask("holdVm", { hold: false, why: "" });
  expect([latch(source), host.counters.peek(fd.index)]).toEqual([true, 0n]);
});

it("within a host waits for the eventfd of the VM that it was, and hears all of it", async () => {
  const host = new Host();
  const [source, target] = [host.vm(), host.vm()];
  await withGic(source);
  const fd = host.fd();
  const [ask, to] = [call(source), call(target)];
  await ask("irqfd", { ...IRQFD, fd, resamplefd: NO_FD });
  await ask("holdVm", { hold: true, why: "It is being moved." });
  const { parts } = await ask("saveState", {});
  await to("createVcpu", { id: 0 });
  await to("holdVm", { hold: true, why: "It is being moved." });
  const loaded = (mayWait: boolean) =>
    to("loadState", { parts, eventfds: [{ local: 0, fd, mayWait }] });
  await expect(loaded(false)).rejects.toThrow("EBUSY");
  await target.close();
  const other = host.vm();
  const now = call(other);
  await now("createVcpu", { id: 0 });
  await now("holdVm", { hold: true, why: "It is being moved." });
  await now("loadState", { parts, eventfds: [{ local: 0, fd, mayWait: true }] });
  const write = async () => {
    const written = host.table.write(fd.index, 1n, true);
    for (let n = 0; n < 8; n++) {
      for (const vm of [source, other]) vm.pump(10);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await written;
  };
  // In the pause, and before the one that it was has ended.
  await write();
  expect([latch(other), host.counters.peek(fd.index)]).toEqual([false, 1n]);
  await now("holdVm", { hold: false, why: "" });
  expect([latch(other), host.counters.peek(fd.index)]).toEqual([true, 0n]);
  await now("setDeviceAttr", DROP);
  expect(latch(other)).toBe(false);
  await write();
  expect([latch(other), host.counters.peek(fd.index)]).toEqual([false, 1n]);
  await source.close();
  await new Promise((resolve) => setImmediate(resolve));
  other.pump(10);
  expect([latch(other), host.counters.peek(fd.index)]).toEqual([true, 0n]);
  await other.close();
  expect(host.counters.claimOf(fd.index)).toBe(0);
});

it("has a log that tells why it leads nowhere", async () => {
  const host = new Host();
  const source = host.vm();
  const hold = { hold: true, why: "It is being moved." };
  await call(source)("holdVm", hold);
  const { parts } = await call(source)("saveState", {});
  const target = host.vm();
  await call(target)("holdVm", hold);
  await call(target)("loadState", { parts });
  const asked = [source, target].map((vm) => {
    const log = vm.inputLog();
    vm.pump(0);
    return log;
  });
  const [own, moved] = await Promise.all(asked);
  expect(own).toMatchObject({ truncated: false });
  expect(own).not.toHaveProperty("why");
  expect(own?.entries.map(({ command }) => command.name)).toEqual(["holdVm", "saveState"]);
  expect(moved).toMatchObject({ truncated: true, why: expect.stringMatching(/came from another/) });
  expect(moved?.entries.map(({ command }) => command.name)).toEqual(["holdVm"]);
  expect(decodeInputLog(encodeInputLog(moved!))).toEqual(moved);
  const forged = { ...moved!, entries: [{ ...moved!.entries[0]!, command: LOAD }] };
  expect(() => decodeInputLog(encodeInputLog(forged))).toThrow(ServiceError);
});

const LOAD = { name: "loadState" as const, args: { parts: [] } };
