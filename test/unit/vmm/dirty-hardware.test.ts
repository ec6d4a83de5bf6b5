// Goal: the looks at dirty hardware say what the registers hold, field by field; faults are armed,
// listed, spent and told of.
// Method: registers set as KVM would set them on a loaded CPU, appends and errors made by hand.
import { describe, expect, it } from "vitest";
import { entryHigh, entryLow } from "../../../src/machine/dirty/entry.js";
import { BASE, Inline } from "../../support/inline.js";

const K4 = 4096;
const HDBSS_SZ_1 = 1n;
const EN = 1n << 11n;

/** vCPU 0 on host CPU 0 with a buffer of 8 KiB. */
function withBuffer() {
  const vm = new Inline();
  vm.slot(0, 64, { flags: 1 });
  vm.vcpu();
  const { kvm } = vm;
  const { host, vcpus } = kvm.vm;
  const cpu = host.cpus[0]!;
  kvm.vm.loadVcpu(vcpus[0]!, cpu);
  const buffer = host.frames.allocate(4);
  const pa = Math.ceil(buffer / (2 * K4)) * 2 * K4;
  host.diagnostics.own(pa, 2 * K4, 0);
  cpu.msr("HDBSSBR_EL2", BigInt(pa) | HDBSS_SZ_1);
  cpu.msr("HDBSSPROD_EL2", 0n);
  kvm.vm.isHdbssOn = true;
  return { vm, cpu, pa, host };
}

describe("a vCPU's buffer", () => {
  it("shows registers and entries, decoded and raw", () => {
    const { vm, cpu, pa } = withBuffer();
    cpu.hdbss.append(0x1234_5678, 3, K4, 0);
    cpu.hdbss.append(0x1220_1234, 2, 512 * K4, 0);
    const view = vm.call("readHdbss", { vcpu: 0, from: 0, limit: 3 });
    expect(view).toMatchObject({
      vcpu: 0,
      isOn: true,
      source: "live",
      hostCpu: 0,
      isOwned: true,
      isFull: false,
      br: {
        raw: BigInt(pa) | 1n,
        baddr: BigInt(pa),
        base: BigInt(pa),
        sz: 1,
        capacity: 1024,
        bytes: 8192,
        isReservedSize: false,
      },
      prod: { raw: 2n, index: 2, fsc: 0, fscName: "NONE" },
    });
    expect(view.entries).toEqual([
      {
        index: 0,
        address: BigInt(pa),
        raw: 0x1234_5007n,
        valid: true,
        ttwl: 3,
        level: 3,
        ipa: 0x1234_5000n,
        nsIpa: false,
        isProduced: true,
      },
      expect.objectContaining({ index: 1, raw: 0x1220_0005n, ttwl: 2, level: 2 }),
      expect.objectContaining({ index: 2, raw: 0n, valid: false, isProduced: false }),
    ]);
    const rest = vm.call("readHdbss", { vcpu: 0, from: 1022, limit: 10 });
    expect(rest.entries.map(({ index }) => index)).toEqual([1022, 1023]);
  });

  it("is what KVM would load while the vCPU is not loaded, and none without HDBSS", () => {
    const vm = new Inline();
    vm.slot(0, 64, { flags: 1 });
    vm.vcpu();
    const look = () => vm.call("readHdbss", { vcpu: 0, from: 0, limit: 1 });
    expect(look()).toMatchObject({ source: "none", isOn: false, isFull: false, entries: [] });
    vm.enable(502, 1n, 1n);
    const saved = look();
    const { pa } = vm.kvm.vm.vcpus[0]!.hdbss!;
    expect(saved).toMatchObject({ source: "saved", isOn: true, hostCpu: null, isOwned: true });
    expect(saved.br).toMatchObject({ raw: BigInt(pa) | 1n, base: BigInt(pa), capacity: 1024 });
    vm.kvm.vm.policies["hdbss.flushAt"] = "preserve-index-on-put";
    // The first round faults; the second is hardware's.
    for (let round = 0; round < 2; round++) {
      vm.store(0, [BASE, BASE + K4]);
      expect(vm.dirty(0)).toEqual([0, 1]);
    }
    vm.store(0, [BASE + K4]);
    expect(look()).toMatchObject({
      source: "saved",
      prod: { raw: 1n, index: 1 },
      entries: [{ ipa: BigInt(BASE + K4), level: 3, isProduced: true }],
    });
  });

  it("names errors, a full buffer, a misaligned base and a reserved size", () => {
    const { vm, cpu, pa } = withBuffer();
    cpu.msr("HDBSSPROD_EL2", (0x28n << 26n) | 1024n);
    expect(vm.call("readHdbss", { vcpu: 0, from: 0, limit: 1 })).toMatchObject({
      isFull: true,
      prod: { index: 1024, fsc: 0x28, fscName: "GPF" },
    });
    cpu.msr("HDBSSBR_EL2", BigInt(pa + K4) | 1n);
    const misaligned = vm.call("readHdbss", { vcpu: 0, from: 0, limit: 1 });
    expect(misaligned.br).toMatchObject({ baddr: BigInt(pa + K4), base: BigInt(pa) });
    cpu.msr("HDBSSBR_EL2", BigInt(pa) | 10n);
    const reserved = vm.call("readHdbss", { vcpu: 0, from: 0, limit: 1 });
    expect(reserved.br).toMatchObject({ sz: 10, isReservedSize: true, capacity: 0, bytes: 0 });
    expect(reserved.entries).toEqual([]);
    cpu.msr("HDBSSBR_EL2", 0x00ff_ffff_0000_0000n);
    const nowhere = vm.call("readHdbss", { vcpu: 0, from: 0, limit: 5 });
    expect([nowhere.entries, nowhere.isOwned]).toEqual([[], false]);
  });
});

describe("a host CPU's cleaning hardware", () => {
  it("shows registers, what it did, and the interrupt's level", () => {
    const { vm, cpu, pa, host } = withBuffer();
    const { u32 } = host.memory;
    u32.set([0, 0, entryLow(BASE, 3), entryHigh(BASE)], pa / 4);
    cpu.msr("HACDBSBR_EL2", BigInt(pa) | EN);
    const before = vm.call("readHacdbs", { hostCpu: 0 });
    expect(before).toMatchObject({ isEnabled: true, isRunning: true, irq: false, loadedVcpu: 0 });
    expect(before.br).toMatchObject({ raw: BigInt(pa) | EN, baddr: BigInt(pa), en: true, sz: 0 });
    cpu.hacdbs.process(10);
    const after = vm.call("readHacdbs", { hostCpu: 0 });
    // Nothing is mapped there: the walk of entry 1 fails.
    expect(after).toMatchObject({
      isRunning: false,
      isFinished: false,
      irq: true,
      cons: { raw: (2n << 62n) | 1n, index: 1, err: 2, errName: "IPAF" },
      counts: { entries: 2, skipped: 1, cleaned: 0, alreadyClean: 0, terminators: 0 },
    });
  });
});

describe("a stage-2 walk", () => {
  it("shows every descriptor with its address and fields, and the leaf's state", () => {
    const vm = new Inline({ dirtyTracking: "dbm" });
    vm.slot(0, 64, { flags: 1 });
    vm.vcpu();
    vm.load(0, [BASE]);
    const clean = vm.call("walkStage2", { ipa: BigInt(BASE) });
    expect(clean.steps.map(({ kind }) => kind)).toEqual(["table", "table", "page"]);
    for (const [at, step] of clean.steps.entries()) {
      expect(step.descriptorAddress).toBe(step.tableAddress + BigInt(8 * step.index));
      expect(step.bits.valid).toBe(true);
      const next = clean.steps[at + 1];
      if (next !== undefined) expect(step.bits.outputAddress).toBe(next.tableAddress);
      expect(step.state).toBe(next === undefined ? "writable-clean" : null);
    }
    const { u32 } = vm.kvm.vm.host.memory;
    const leaf = clean.steps.at(-1)!;
    const at = Number(leaf.descriptorAddress) / 4;
    expect(leaf.descriptor).toBe((BigInt(u32[at + 1]!) << 32n) | BigInt(u32[at]!));
    expect(leaf.bits).toMatchObject({
      ...{ type: true, read: true, write: false, accessFlag: true, dbm: true },
      ...{ contiguous: false, software: 0, outputAddress: clean.leaf!.outputAddress },
    });
    vm.store(0, [BASE]);
    const dirty = vm.call("walkStage2", { ipa: BigInt(BASE) }).steps.at(-1)!;
    expect([dirty.state, dirty.bits.write, dirty.bits.dbm]).toEqual(["writable-dirty", true, true]);
    const gap = vm.call("walkStage2", { ipa: 0n }).steps.at(-1)!;
    expect([gap.kind, gap.state, gap.bits.valid]).toEqual(["invalid", null, false]);
  });
});

describe("faults", () => {
  const once = { nth: 2, vcpu: null, times: 1, delay: 0 };

  it("hit the nth event, are spent, and stay listed until they are taken back", () => {
    const vm = new Inline();
    const { faults } = vm.kvm.vm.host;
    const { id } = vm.call("armFault", { kind: "hdbss-alloc", ...once });
    vm.call("armFault", { ...once, kind: "hacdbs-alloc", times: null, vcpu: 3 });
    expect(faults.hit("hdbss-alloc", 0)).toBeNull();
    expect(faults.hit("hdbss-alloc", 1)).toMatchObject({ id });
    expect(faults.hit("hdbss-alloc", 1)).toBeNull();
    for (let n = 0; n < 4; n++) faults.hit("hacdbs-alloc", 3);
    faults.hit("hacdbs-alloc", 2);
    expect(vm.call("listFaults", {})).toEqual([
      { id: 1, kind: "hdbss-alloc", ...once, seen: 2, hits: 1, isArmed: false },
      {
        ...{ id: 2, kind: "hacdbs-alloc", ...once, times: null, vcpu: 3 },
        ...{ seen: 4, hits: 2, isArmed: true },
      },
    ]);
    const saved = faults.save();
    vm.call("disarmFault", { id: 2 });
    vm.call("disarmFault", { id: 1 });
    expect([faults.isArmed, vm.call("listFaults", {})]).toEqual([false, []]);
    expect(vm.refused("disarmFault", { id: 1 })).toBe("fault-not-found");
    faults.load(saved);
    expect(vm.call("listFaults", {}).map(({ isArmed }) => isArmed)).toEqual([false, true]);
  });

  it("are told of once, those of one vCPU together", () => {
    const vm = new Inline();
    const { faults } = vm.kvm.vm.host;
    vm.call("armFault", { ...once, kind: "kick-delayed", nth: 1, times: null, delay: 5 });
    for (let n = 0; n < 3; n++) expect(faults.hit("kick-delayed", 1)?.delay).toBe(5);
    faults.hit("kick-delayed", 2);
    const news = { kind: "fault-injected", fault: 1, what: "kick-delayed" };
    expect(vm.instance.takeNews()).toEqual([
      { ...news, vcpu: 1, hits: 3 },
      { ...news, vcpu: 2, hits: 1 },
    ]);
    expect(vm.instance.takeNews()).toEqual([]);
  });

  it("are bounded, and the spent ones are forgotten in their order", () => {
    const vm = new Inline();
    const { faults } = vm.kvm.vm.host;
    const arm = () => vm.refused("armFault", { ...once, kind: "hdbss-alloc", nth: 1 });
    for (let n = 0; n < 100; n++) expect(arm()).toBeNull();
    expect(arm()).toBe("fault-limit");
    for (let n = 0; n < 100; n++) faults.hit("hdbss-alloc", 0);
    expect(arm()).toBeNull();
    faults.hit("hdbss-alloc", 0);
    const ids = vm.call("listFaults", {}).map(({ id }) => id);
    expect([ids.length, ids[0], ids.at(-1)]).toEqual([100, 2, 101]);
  });
});

describe("diagnostics", () => {
  it("count by kind and keep the last", () => {
    const vm = new Inline();
    vm.kvm.vm.host.diagnostics.report("page-freed-twice", "at 0x1000");
    vm.kvm.vm.host.diagnostics.report("page-freed-twice", "at 0x2000");
    const all = vm.call("describeDiagnostics", {});
    const twice = { kind: "page-freed-twice", count: 2, last: "at 0x2000" };
    expect(all.find(({ kind }) => kind === "page-freed-twice")).toEqual(twice);
    const others = all.filter(({ kind }) => kind !== "page-freed-twice");
    expect(others.every(({ count, last }) => count === 0 && last === null)).toBe(true);
  });
});
