// Owns: eventfds that VMs wait on, signalled from outside of them: by a client, by another VM; and
// that a log replays it. Inline VMs of the real machine. Test process.
import { expect, it } from "vitest";
import { systemClock } from "../../../src/base/clock.js";
import { EventfdCounters } from "../../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../../src/base/memory-budget.js";
import type { VgicIrq } from "../../../src/kvm/vgic/state.js";
import { EventfdOwners } from "../../../src/runtime/eventfd-owners.js";
import { SharedEventfdTable } from "../../../src/runtime/eventfd-table.js";
import type { InputLog, LoggedCommand } from "../../../src/runtime/handle.js";
import { InlineVm } from "../../../src/runtime/index.js";
import type { CommandArgs } from "../../../src/vmm/index.js";
import { createInstance, type Instance } from "../../../src/vmm/instance.js";
import { definition } from "./support.js";

const PIN = 8;
const DOORBELL = 0x900_0000n;
const NO_FD = { index: -1, isEventfd: true };
const REAL = { ...definition, hostCpus: 1 };

interface World {
  readonly vm: InlineVm;
  call: InlineVm["call"];
}

/** The SPI that a test signals. */
function spi({ vm }: World, pin = PIN): VgicIrq {
  const { dist } = (vm.instance as Instance).machine.kvm.vm.vgic;
  return dist!.spis[pin]!;
}

class Host {
  readonly counters = EventfdCounters.create(16);
  readonly owners = new EventfdOwners(this.counters);
  readonly table = new SharedEventfdTable(this.counters, this.owners, systemClock);
  readonly budget = MemoryBudget.create(2 ** 32);

  /** With an initialised GICv3, PIN as a level, and a vCPU. */
  async vm(isLevel = true): Promise<World> {
    const world = this.#world(null);
    const u64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);
    await world.call("createVcpu", { id: 0 });
    await world.call("createDevice", { type: 7, flags: 0 });
    const set = (group: number, attr: bigint, value: Uint8Array) =>
      world.call("setDeviceAttr", { device: 0, group, attr, value });
    await set(0, 2n, u64(0x800_0000n));
    await set(0, 3n, u64(0x80a_0000n));
    await set(4, 0n, new Uint8Array(0));
    const icfgr = isLevel ? 0 : 2 << ((PIN % 16) * 2);
    await set(1, BigInt(0xc00 + 8), new Uint8Array(Uint32Array.of(icfgr).buffer));
    return world;
  }

  #world(replay: InputLog | null): World {
    const request = {
      definition: replay?.definition ?? REAL,
      replay,
      inputLog: { entriesMax: 1000, bytesMax: 2 ** 20 },
    };
    const vm = InlineVm.create(request, {
      budget: this.budget.account()!,
      eventfds: this.counters,
      owners: this.owners,
      createInstance,
      schedule: "round-robin",
    });
    const call: World["call"] = (name, args) => {
      const answer = vm.call(name, args);
      vm.pump(0);
      return answer;
    };
    return { vm, call };
  }

  /** Checks that the log of a VM leads to the same state. @returns names of its last inputs */
  async replays(world: World): Promise<readonly LoggedCommand[]> {
    const asked = world.vm.inputLog();
    world.vm.pump(0);
    const log = await asked;
    const again = this.#world(log);
    let diverged: string | null = "it never ended";
    again.vm.onNews((news) => {
      if (news.kind === "replay-finished") diverged = news.diverged;
    });
    for (let n = 0; n < 1000 && diverged === "it never ended"; n++) again.vm.pump(10);
    expect(diverged).toBeNull();
    expect(again.vm.instance.digest()).toEqual(world.vm.instance.digest());
    const first = log.entries.findIndex(({ command }) => command.name === "irqfd");
    return log.entries.slice(first);
  }
}

function irqfd(fd: number, more: Partial<CommandArgs<"irqfd">> = {}): CommandArgs<"irqfd"> {
  const ref = { index: fd, isEventfd: true };
  const none = { flags: 0, resamplefd: NO_FD, drain: true, found: null };
  return { fd: ref, gsi: PIN, ...none, ...more };
}

/** Lets promises of the HTTP thread go on, and the VMs with them. */
async function settle(...worlds: readonly World[]): Promise<void> {
  for (let n = 0; n < 8; n++) {
    for (const { vm } of worlds) vm.pump(0);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

it("a client's write is answered once the VM has injected, and the log replays it", async () => {
  const host = new Host();
  const world = await host.vm();
  const fd = host.counters.create(0n);
  await world.call("irqfd", irqfd(fd));
  let isAnswered = false;
  const write = host.table.write(fd, 5n, true).then(() => {
    isAnswered = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect([isAnswered, spi(world).lineLevel]).toEqual([false, false]);
  await settle(world);
  await write;
  expect([spi(world).lineLevel, host.counters.peek(fd)]).toEqual([true, 0n]);
  const inputs = await host.replays(world);
  expect(inputs.map(({ command }) => command.name)).toEqual(["irqfd", "wakeEventfd"]);
  expect(inputs[0]?.command.args).toMatchObject({ found: "zero" });
});

it("a count that was there is in the log, and so is EBUSY", async () => {
  const host = new Host();
  const [first, second] = [await host.vm(false), await host.vm(false)];
  const fd = host.counters.create(3n);
  await first.call("irqfd", irqfd(fd));
  await expect(second.call("irqfd", irqfd(fd))).rejects.toMatchObject({ errno: "EBUSY" });
  expect(spi(first).pendingLatch).toBe(true);
  expect(host.counters.peek(fd)).toBe(3n);
  for (const [world, found] of [
    [first, "positive"],
    [second, "busy-positive"],
  ] as const) {
    const [input] = await host.replays(world);
    expect(input?.command.args).toMatchObject({ found });
  }
});

/** A vCPU that rings the doorbell once. */
async function ring(world: World): Promise<void> {
  const store = { op: "write", address: DOORBELL, length: 4, value: 1n } as const;
  const program = { kind: "accesses", accesses: [store] } as const;
  await world.call("setProgram", { vcpu: 0, program });
  const run = world.vm.call("run", { vcpu: 0, immediateExit: false, mmioData: null });
  for (let n = 0; n < 100; n++) world.vm.pump(10);
  expect((await run).value.exitReason).toBe("KVM_EXIT_HLT");
}

function doorbell(fd: number): CommandArgs<"ioeventfd"> {
  const ref = { index: fd, isEventfd: true };
  return { datamatch: 0n, addr: DOORBELL, len: 4, fd: ref, flags: 0 };
}

it("another VM's ioeventfd reaches it, and one of its own without leaving it", async () => {
  const host = new Host();
  const [waiting, ringing] = [await host.vm(), await host.vm()];
  const fd = host.counters.create(0n);
  await waiting.call("irqfd", irqfd(fd));
  await ringing.call("ioeventfd", doorbell(fd));
  await ring(ringing);
  expect(spi(waiting).lineLevel).toBe(false);
  await settle(waiting, ringing);
  expect([spi(waiting).lineLevel, host.counters.peek(fd)]).toEqual([true, 0n]);

  const own = await host.vm();
  const ownFd = host.counters.create(0n);
  await own.call("irqfd", irqfd(ownFd));
  await own.call("ioeventfd", doorbell(ownFd));
  await ring(own);
  expect([spi(own).lineLevel, host.counters.peek(ownFd)]).toEqual([true, 0n]);
  const inputs = await host.replays(own);
  expect(inputs.map(({ command }) => command.name)).not.toContain("wakeEventfd");
});

it("of old, a second VM is heard after the first has let go", async () => {
  const host = new Host();
  const [first, second] = [await host.vm(), await host.vm()];
  await second.call("changeDirty", { settings: { "irq.era": "pre617" }, seedBugs: null });
  const fd = host.counters.create(0n);
  await first.call("irqfd", irqfd(fd));
  await second.call("irqfd", irqfd(fd));
  const write = host.table.write(fd, 1n, true);
  await settle(first, second);
  await write;
  expect([spi(first).lineLevel, spi(second).lineLevel]).toEqual([true, false]);
  await first.vm.close();
  const again = host.table.write(fd, 1n, true);
  await settle(second);
  await again;
  expect([spi(second).lineLevel, host.counters.peek(fd)]).toEqual([true, 0n]);
  await second.call("irqfd", irqfd(fd, { flags: 1 }));
  expect(host.counters.claimOf(fd)).toBe(0);
});

it("closing the eventfd detaches first; closing the VM takes the count", async () => {
  const host = new Host();
  const world = await host.vm();
  const [fd, other] = [host.counters.create(0n), host.counters.create(4n)];
  await world.call("irqfd", irqfd(fd));
  await world.call("irqfd", irqfd(other, { gsi: 9 }));
  const close = host.table.close(fd, true);
  await settle(world);
  await close;
  expect((await world.call("listIrqfds", {})).value).toHaveLength(1);
  expect(host.counters.isOpen(fd)).toBe(false);
  await world.vm.close();
  expect([host.counters.peek(other), host.counters.claimOf(other)]).toEqual([0n, 0]);
  // A write after the deassignment stays for the next one.
  await host.table.write(other, 2n, true);
  expect(host.counters.peek(other)).toBe(2n);
  expect(host.counters.live()).toBe(1);
});

it("of a semaphore each signal takes 1, whoever made it", async () => {
  const host = new Host();
  const world = await host.vm();
  const fd = host.counters.create(0n, true);
  await world.call("irqfd", irqfd(fd));
  const write = host.table.write(fd, 5n, true);
  await settle(world);
  await write;
  expect([spi(world).lineLevel, host.counters.peek(fd)]).toEqual([true, 4n]);
  // Those that come while a wake-up is under way share the next one.
  const three = [1, 2, 3].map(() => host.table.write(fd, 1n, true));
  await settle(world);
  await Promise.all(three);
  expect(host.counters.peek(fd)).toBe(4n);
  await world.call("ioeventfd", doorbell(fd));
  await ring(world);
  expect(host.counters.peek(fd)).toBe(4n);
  await world.call("irqfd", irqfd(fd, { flags: 1 }));
  expect(host.counters.peek(fd)).toBe(3n);
  await host.replays(world);
});

it("many writes at once are never refused, and none is lost", async () => {
  const host = new Host();
  const world = await host.vm();
  const fd = host.counters.create(0n);
  await world.call("irqfd", irqfd(fd));
  const writes = Array.from({ length: 10_000 }, () => host.table.write(fd, 1n, true));
  await settle(world);
  await Promise.all(writes);
  expect([spi(world).lineLevel, host.counters.peek(fd)]).toEqual([true, 0n]);
  expect((await host.replays(world)).length).toBeLessThan(10);
});
