// Goal: after kill -9 every acknowledged VM is there, says what it lost, and can be built anew.
// Method: a crash is a copy of the store's files; the fake runtime tells what enters.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KvmError } from "../../../src/base/errors.js";
import type { CommandArgs, CommandName } from "../../../src/runtime/index.js";
import { refusalOf, spec, type TestService, testService } from "../../support/services.js";

let t: TestService;
beforeEach(async () => {
  t = await testService();
});
afterEach(() => t.remove());

const made = async () => {
  const vm = await t.services.vms.create(spec());
  if (vm === null) throw new Error("no VM");
  return vm.id;
};

const REGION = {
  slot: 0,
  flags: 1,
  guestPhysAddr: 0x4000_0000n,
  memorySize: 0x20_0000n,
  userspaceAddr: 0xffff_0000_0000_0000n,
};
const RAM = { size: 0x20_0000n, backing: "unbacked", hugePages: true } as const;

describe("after kill -9", () => {
  it("what was active is lost and says so, what was not is as it was", async () => {
    const active = await made();
    const stopped = await made();
    await t.services.vms.stop(stopped);
    const before = await t.services.vms.get(stopped);
    const after = await t.afterKill();
    const lost = await after.services.vms.get(active);
    expect(lost).toMatchObject({ state: "lost", version: 2 });
    for (const word of ["memory", "vCPU state", "dirty log", "start it"]) {
      expect(lost.stateReason).toContain(word);
    }
    expect(await after.services.vms.get(stopped)).toEqual(before);
    expect(await refusalOf(after.services.vms.command(active, "describe", {}))).toBe(
      "vm-not-active",
    );
    const { items, gap } = await after.services.events.list(0, 100);
    expect(items.map((e) => e.type).slice(-2)).toEqual(["server.started", "vm.lost"]);
    expect(items.at(-2)?.data).toMatchObject({ afterCrash: true });
    // The last batch may be lost, so ids jump and a follower hears of a gap.
    expect(gap).toBe(true);
    expect(items.at(-1)?.id).toBeGreaterThan(50_000);
  });

  it("a lost VM stays lost through another crash, and can be stopped or deleted", async () => {
    const id = await made();
    const second = await (await t.afterKill()).afterKill();
    const lost = await second.services.vms.get(id);
    expect(lost).toMatchObject({ state: "lost", version: 2 });
    expect(await second.services.vms.stop(id)).toEqual(lost);
    await second.services.vms.delete(id, null);
    expect(await refusalOf(second.services.vms.get(id))).toBe("vm-not-found");
  });

  it("start builds the same shape in the order that KVM needs", async () => {
    const id = await made();
    const command = <K extends CommandName>(name: K, args: CommandArgs<K>) =>
      t.services.vms.command(id, name, args);
    await command("enableCap", { cap: 168, flags: 0, args: [3n, 0n, 0n, 0n] });
    await command("enableCap", { cap: 223, flags: 0, args: [65536n] });
    await command("enableCap", { cap: 168, flags: 0, args: [1n] });
    await command("createVcpu", { id: 7 });
    await command("createMemoryObject", { ...RAM, userspaceAddr: null });
    await command("createMemoryObject", { ...RAM, userspaceAddr: REGION.userspaceAddr });
    await command("deleteMemoryObject", { id: 1 });
    await command("createVcpu", { id: 0 });
    await command("setUserMemoryRegion", REGION);
    await command("setUserMemoryRegion", { ...REGION, slot: 5, guestPhysAddr: 0n });
    await command("setUserMemoryRegion", { ...REGION, slot: 5, memorySize: 0n });
    await command("setUserMemoryRegion", { ...REGION, flags: 0 });
    const after = await t.afterKill();
    const started = await after.services.vms.start(id);
    expect(started).toMatchObject({ state: "active", version: 3, stateReason: null });
    expect(after.runtime.latest.entered).toEqual([
      { name: "enableCap", args: { cap: 223, flags: 0, args: [65536n] } },
      { name: "enableCap", args: { cap: 168, flags: 0, args: [1n] } },
      { name: "createMemoryObject", args: { ...RAM, userspaceAddr: REGION.userspaceAddr } },
      { name: "setUserMemoryRegion", args: { ...REGION, flags: 0 } },
      { name: "createVcpu", args: { id: 7 } },
      { name: "createVcpu", args: { id: 0 } },
    ]);
    // The memory object got a new number, and the records follow.
    const [stored] = await after.store.loadVms();
    expect(stored?.shape.memoryObjects).toMatchObject([{ objectId: 1 }]);
    await after.services.vms.command(id, "deleteMemoryObject", { id: 1 });
    expect((await after.store.loadVms())[0]?.shape.memoryObjects).toEqual([]);
  });

  it("a memslot keeps its guest memfd when the descriptor is closed and used again", async () => {
    const id = await made();
    const command = <K extends CommandName>(name: K, args: CommandArgs<K>) =>
      t.services.vms.command(id, name, args);
    const memfd = (size: bigint) => command("createGuestMemfd", { size, flags: 1n });
    const bind = (slot: number, guestMemfd: number) =>
      command("setUserMemoryRegion2", {
        ...REGION,
        slot,
        flags: 4,
        guestMemfd,
        guestMemfdOffset: 0n,
      });
    await memfd(0x1000n);
    await memfd(0x2000n);
    await bind(0, 2);
    await command("closeGuestMemfd", { id: 1 });
    await command("closeGuestMemfd", { id: 2 });
    await memfd(0x3000n);
    await memfd(0x4000n);
    await bind(1, 2);
    const after = await t.afterKill();
    await after.services.vms.start(id);
    const entered = after.runtime.latest.entered.map(({ name, args }) => {
      const { size, guestMemfd, id: fd } = args as Record<string, unknown>;
      return [name, size ?? guestMemfd ?? fd];
    });
    // 0x2000 is slot 0's closed file, 0x4000 is slot 1's; 0x1000 was nobody's.
    expect(entered).toEqual([
      ["createGuestMemfd", 0x2000n],
      ["createGuestMemfd", 0x3000n],
      ["createGuestMemfd", 0x4000n],
      ["setUserMemoryRegion2", 1],
      ["setUserMemoryRegion2", 3],
      ["closeGuestMemfd", 1],
    ]);
    // When the slot goes, the closed file goes with it.
    const zeros = { ...REGION, slot: 0, memorySize: 0n };
    await after.services.vms.command(id, "setUserMemoryRegion", zeros);
    const [stored] = await after.store.loadVms();
    expect(stored?.shape.guestMemfds.map(({ size }) => size)).toEqual([0x3000n, 0x4000n]);
  });

  it("a rebuilding that KVM refuses says where, and leaves the VM lost", async () => {
    const id = await made();
    await t.services.vms.command(id, "createVcpu", { id: 3 });
    const after = await t.afterKill();
    const refusal = new KvmError("EINVAL", "KVM_CREATE_VCPU", "too many");
    const start = after.runtime.start.bind(after.runtime);
    after.runtime.start = async (definition) => {
      const handle = await start(definition);
      after.runtime.latest.refuse.set("createVcpu", refusal);
      return handle;
    };
    const error: unknown = await after.services.vms.start(id).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(KvmError);
    expect(error).toMatchObject({ errno: "EINVAL", ioctl: "KVM_CREATE_VCPU" });
    expect((error as Error).message).toContain("vCPU 3");
    expect(after.runtime.live()).toBe(0);
    expect(await after.services.vms.get(id)).toMatchObject({ state: "lost", version: 2 });
  });

  it("ten thousand memslots are acknowledged, kept and built anew", async () => {
    const id = await made();
    const slots = Array.from({ length: 10_000 }, (_, slot) => slot);
    await Promise.all(
      slots.map((slot) =>
        t.services.vms.command(id, "setUserMemoryRegion", { ...REGION, slot, memorySize: 4096n }),
      ),
    );
    const after = await t.afterKill();
    await after.services.vms.start(id);
    expect(after.runtime.latest.memslots.size).toBe(10_000);
  }, 60_000);
});
