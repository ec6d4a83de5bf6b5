// One seeded interleaving: a VM, its client, and the oracle that watches both. The scheduler draws
// every choice inside the VM, the simulation every choice outside, both from the seed.
//
//   phase:  { random command ─ some steps }*  ─ kick all ─ settle ─ last sync ─ INV-1, INV-2
import type { PageSize } from "../../src/base/page.js";
import type { Prng } from "../../src/base/prng.js";
import { POINT } from "../../src/kvm/index.js";
import { leafState } from "../../src/machine/index.js";
import { Content } from "./client/content.js";
import { DeferredClears } from "./client/deferred.js";
import { Guests, GuestVcpuClient } from "./client/guests.js";
import { LogClient } from "./client/logs.js";
import { drawHot, drawList } from "./client/programs.js";
import { RingClient } from "./client/rings.js";
import { Memory, SlotClient } from "./client/slots.js";
import { VcpuClient } from "./client/vcpus.js";
import { HardwareClient } from "./hardware/client.js";
import { detect } from "./hardware/detectors.js";
import { HardwareWatch } from "./hardware/watch.js";
import { drawLayout, type Layout, prngOf } from "./layout.js";
import { type Built, Link, replay } from "./link.js";
import type { Mode } from "./modes.table.js";
import { checkLeaves, checkTlbs, type Hardware } from "./oracle/hardware.js";
import { Oracle, type OracleCounts } from "./oracle/oracle.js";
import type { Pairs } from "./pairs.js";
import type { Plant } from "./plant.js";
import type { PlantRow } from "./plants.table.js";
import type { World } from "./world.js";

export interface RunOptions {
  readonly mode: Mode;
  readonly seed: number;
  readonly pageSize: PageSize | null;
  readonly plant: Plant | null;
  /** Whose pins and detector this run has, with its plant or without. */
  /** The VM watches itself for lost pages too; slots and memory stay as they are. */
  readonly isTold?: true;
  readonly row?: Pick<PlantRow, "pins" | "watch">;
  readonly pairs: Pairs | null;
  /** Run the recorded commands again on a fresh VM and compare digests. */
  readonly isReplayed: boolean;
}

export interface RunResult {
  readonly failure: string | null;
  readonly steps: number;
  readonly accesses: number;
  readonly commands: number;
  readonly counts: OracleCounts & { readonly changed: number };
  /** The VM's own counters: what kinds of events the run really had. */
  readonly events: Readonly<Record<string, number>>;
  /** Injected faults that hit. */
  readonly faults: number;
}

/** Steps within which a VM without runs must come to rest. */
const SETTLE_STEPS = 400_000;
const CAP_MANUAL = 168;
const CAP_RING = 223;
const CAP_RING_BITMAP = 225;
const CAP_SPLIT = 228;

export class Simulation {
  readonly #options: RunOptions;
  readonly #prng: Prng;
  readonly #layout: Layout;
  readonly #link: Link;
  readonly #oracle: Oracle;
  readonly #world: World;
  readonly #vcpus: readonly (VcpuClient | GuestVcpuClient)[];
  readonly #guests: Guests | null;
  readonly #memories: readonly Memory[];
  readonly #slots: readonly SlotClient[];
  readonly #logs: readonly LogClient[];
  readonly #rings: RingClient;
  readonly #hardwareClient: HardwareClient;
  readonly #watch: HardwareWatch;
  /** How often a command is of some kind, against 60 of dirty logs and rings; drawn per phase. */
  #weights = { slot: 0, memory: 0, kick: 0, hardware: 0 };

  constructor(options: RunOptions) {
    const { mode, seed, pageSize } = options;
    this.#options = options;
    this.#prng = prngOf(seed, mode);
    this.#layout = drawLayout(this.#prng, mode, pageSize, options.row?.pins);
    const { guest } = this.#layout;
    this.#link = new Link(this.#built, guest?.translation());
    this.#oracle = new Oracle(this.#layout.definition.pageSize);
    const hasAlias = this.#layout.homes.some((home) => home.alias !== null);
    const { host } = this.#vm;
    // What guest code stores can only be seen by its bytes.
    const isOurs = seed % 3 === 0 && !hasAlias && options.isTold !== true;
    const isCompared = guest !== null || isOurs;
    const content = new Content(host.memory, this.#oracle.model, isCompared);
    this.#world = {
      mode,
      layout: this.#layout,
      prng: this.#prng,
      link: this.#link,
      oracle: this.#oracle,
      content,
      deferred: new DeferredClears(),
      hot: [],
      common: { kind: "accesses", accesses: [] },
    };
    this.#enableCaps();
    const { hardware } = this.#layout;
    const lateVcpu = hardware?.isLastLate === true ? this.#layout.vcpus - 1 : -1;
    this.#vcpus = Array.from({ length: this.#layout.vcpus }, (_, id) => {
      return guest?.runs[id] === true
        ? new GuestVcpuClient(this.#world, guest, id)
        : new VcpuClient(this.#world, id, id === lateVcpu);
    });
    const guests = this.#vcpus.filter((vcpu) => vcpu instanceof GuestVcpuClient);
    this.#guests = guest === null ? null : new Guests(this.#world, guest, guests);
    this.#observe();
    const homes = guest === null ? this.#layout.homes : [...this.#layout.homes, guest.home];
    const memories = new Map<number, Memory>();
    for (const home of homes) {
      const shared = home.alias === null ? undefined : memories.get(home.alias);
      memories.set(home.slot, shared ?? new Memory(this.#world, home));
    }
    this.#memories = [...new Set(memories.values())].filter(({ home }) => home.isPinned !== true);
    this.#slots = homes.map((home) => {
      return new SlotClient(this.#world, home, memories.get(home.slot)!);
    });
    this.#logs = homes.map((home) => new LogClient(this.#world, home.slot));
    this.#rings = new RingClient(this.#world);
    this.#hardwareClient = new HardwareClient(this.#world);
    this.#watch = new HardwareWatch(this.#link.instance.machine, this.#layout.hardware !== null);
    options.plant?.apply(this.#link.instance.machine);
    if (options.pairs !== null) this.#vm.sched.observer = options.pairs.observer;
  }

  /** Every store of every vCPU that is there; the VM's own shadow sees it as well. */
  #observe(): void {
    if (this.#options.isTold === true) this.#link.now("shadowStart", {});
    for (const { synthetic } of this.#vm.vcpus) {
      const its = this.#options.isTold === true ? synthetic.observer : null;
      synthetic.observer = (ipa, length, pa) => {
        its?.(ipa, length, pa);
        this.#oracle.store(ipa, pa);
      };
    }
  }

  get #vm() {
    return this.#link.instance.machine.kvm.vm;
  }

  #enableCaps(): void {
    const { manual, ring, splitsEagerly } = this.#options.mode;
    const enable = (cap: number, value: bigint) =>
      this.#link.now("enableCap", { cap, flags: 0, args: [value, 0n, 0n, 0n] });
    if (ring !== "none") enable(CAP_RING, BigInt(this.#layout.ringBytes));
    if (ring === "with-bitmap") enable(CAP_RING_BITMAP, 0n);
    if (manual !== 0) enable(CAP_MANUAL, BigInt(manual));
    if (splitsEagerly) {
      enable(CAP_SPLIT, BigInt(this.#layout.blockPages * this.#layout.definition.pageSize));
    }
  }

  /** What the VM was built from. */
  get #built(): Built {
    const { definition, hardware } = this.#layout;
    return { definition, faults: hardware?.faults ?? [], downCpus: hardware?.downCpus ?? [] };
  }

  get #failure(): string | null {
    return this.#link.broken ?? this.#oracle.failure;
  }

  /** Runs all phases. @returns what happened; failure null means that every rule held */
  run(): RunResult {
    const phases = 2 + this.#prng.below(3);
    try {
      for (const slot of this.#slots) slot.act();
      this.#settle();
      this.#guests?.init();
      this.#hardwareClient.toggle(true);
      this.#settle();
      for (const vcpu of this.#vcpus) if (vcpu instanceof VcpuClient) vcpu.come();
      this.#observe();
      for (let phase = 0; phase < phases && this.#failure === null; phase++) this.#phase();
    } catch (error) {
      this.#oracle.fail(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
    let failure = this.#failure;
    if (failure === null && this.#options.isReplayed) failure = this.#replayed();
    const { watch } = this.#options.row ?? {};
    if (watch !== undefined) failure ??= detect(watch, this.#link.instance.machine);
    this.#link.instance.close();
    failure ??= this.#watch.closed();
    return {
      failure,
      steps: this.#vm.sched.steps,
      accesses: this.#vm.instructions,
      commands: this.#link.recorded.length,
      counts: { ...this.#oracle.counts, changed: this.#world.content.changed },
      events: { ...this.#vm.counters.values },
      faults: this.#vm.host.faults.total,
    };
  }

  #replayed(): string | null {
    const { parts } = this.#link.instance.digest();
    const end = { steps: this.#vm.sched.steps, parts };
    const { guest } = this.#layout;
    const diverged = replay(this.#built, this.#link, end, guest?.retranslation());
    return diverged === null ? null : `replay diverged: ${diverged}`;
  }

  #phase(): void {
    const prng = this.#prng;
    this.#world.hot = drawHot(this.#world);
    this.#world.common = drawList(this.#world);
    const commands = 12 + prng.below(40);
    const pace = this.#layout.isFlooded ? 300 : prng.pick([4, 12, 40, 120]);
    this.#weights = {
      slot: prng.pick([4, 20, 60]),
      memory: prng.pick([0, 2, 2, 25]),
      kick: prng.pick([2, 8, 30]),
      hardware: this.#layout.hardware === null ? 0 : prng.pick([0, 3, 15]),
    };
    if (this.#options.isTold === true) {
      this.#weights.slot = 0;
      this.#weights.memory = 0;
    }
    this.#warm();
    this.#link.slowness = prng.below(2) === 0 ? prng : null;
    for (let n = 0; n < commands && this.#failure === null; n++) {
      this.#command();
      this.#link.advance(prng.below(pace));
      const loose = this.#watch.between();
      if (loose !== null) this.#oracle.fail(loose);
      if (prng.below(12) === 0) this.#calm();
    }
    this.#link.slowness = null;
    this.#stop();
    if (this.#failure === null) this.#lastSync();
  }

  /** Maps blocks while a slot does not log, then turns its log on with the next commands. */
  #warm(): void {
    for (const slot of this.#slots.filter(({ hasBlocks }) => hasBlocks)) {
      if (this.#prng.below(3) === 0) continue;
      slot.setLogging(false);
      this.#settle();
      for (const vcpu of this.#vcpus) {
        vcpu.warm(slot.home.slot);
        vcpu.act();
      }
      this.#link.advance(200);
      this.#stop();
      slot.setLogging(true);
    }
  }

  #command(): void {
    const prng = this.#prng;
    for (const vcpu of this.#vcpus) {
      if (vcpu.isRingFull && prng.below(3) > 0) this.#rings.collect(vcpu.id, true);
      if (prng.below(3) > 0) vcpu.act();
    }
    const { slot, memory, kick, hardware } = this.#weights;
    if (this.#guests !== null && prng.below(8) === 0) this.#guests.patch();
    const kind = prng.below(slot + memory + kick + hardware + 60);
    if (kind < hardware) this.#hardwareClient.act();
    else if (kind < hardware + slot) prng.pick(this.#slots).act();
    else if (kind < hardware + slot + memory) this.#memory();
    else if (kind < hardware + slot + memory + kick) prng.pick(this.#vcpus).kick();
    else if (this.#rings.isUsed && prng.below(5) > 0) this.#rings.act();
    else prng.pick(this.#logs).act();
  }

  /** Memory comes or goes, sometimes while the log of slots in use is turned on. */
  #memory(): void {
    const slots = this.#layout.homes.map((home) => home.slot);
    const memory = this.#prng.pick(this.#memories);
    if (this.#prng.below(2) === 0) {
      memory.act(slots);
      return;
    }
    for (const slot of this.#slots) slot.setLogging(false);
    this.#link.advance(50 + this.#prng.below(250));
    memory.act(slots);
    this.#link.advance(this.#prng.below(8));
    this.#link.holdBack("deleteMemoryObject", 20 + this.#prng.below(80));
    for (const slot of this.#slots) slot.setLogging(true);
    for (const vcpu of this.#vcpus) vcpu.act();
  }

  /** Lets ioctls end while vCPUs go on, then looks whether every dirty page can still be had. */
  #calm(): void {
    // The VM judges at the end.
    if (this.#options.isTold === true) return;
    for (let n = 0; n < 2000 && this.#link.othersInFlight > 0; n++) this.#link.advance(1);
    if (this.#link.othersInFlight > 0 || this.#failure !== null) return;
    // A vCPU that has made a mapping and not marked its page yet is about to.
    const isMarking = this.#vm.sched.contexts.some((c) => c.point === POINT["abort-mapped"]);
    if (isMarking) return;
    const pending = this.#rings.pending();
    const entries = this.#watch.look();
    for (const log of this.#logs) {
      const slot = this.#vm.slots.get(log.slot);
      if (slot === undefined) continue;
      const bitmap = slot.dirtyBitmap;
      const words = this.#vm.host.memory.u32;
      const isToCome = (offset: number): boolean => {
        const word = bitmap === null ? 0 : words[(bitmap.pa >>> 2) + (offset >>> 5)]!;
        if ((word & (1 << (offset & 31))) !== 0) return true;
        if (pending.has(`${log.slot}:${offset}`) || log.isWaiting(offset)) return true;
        if (entries.isAnyLost || entries.pages.has(slot.baseGfn + offset)) return true;
        return this.#isHardwareDirty(slot.baseGfn + offset);
      };
      this.#oracle.mustContain(log.slot, "anything that is still to come", isToCome);
      if (this.#guests !== null) this.#compare(log.slot, isToCome);
    }
  }

  /** What changed since the client copied it must be in a report. */
  #compare(slot: number, isReported: (offset: number) => boolean): void {
    const { model, counts } = this.#oracle;
    if (model.slot(slot).current?.isLogging !== true || model.slot(slot).isChanging) return;
    const old = this.#world.content.compare(slot, isReported);
    if (old === null) return;
    counts.lostPages++;
    this.#oracle.fail(old);
  }

  /** Hardware's own record: a writable-dirty leaf under DBM. */
  #isHardwareDirty(gfn: number): boolean {
    const leaf = this.#vm.tables.leaf(gfn);
    return this.#vm.isDbm && leaf !== null && leafState(leaf.lo, leaf.hi) === "writable-dirty";
  }

  /** Kicks every vCPU and waits for all replies. */
  #stop(): void {
    for (const vcpu of this.#vcpus) if (vcpu.isRunning) vcpu.kick();
    this.#settle();
  }

  #settle = (): void => {
    for (let n = 0; n < SETTLE_STEPS; n += 1000) {
      if (this.#link.advance(1000) === "idle") break;
    }
    const { runsInFlight, othersInFlight } = this.#link;
    if (this.#failure !== null || runsInFlight + othersInFlight === 0) return;
    const stuck = this.#vm.sched.contexts.map((c) => `${c.label}@${c.blockedOn?.name ?? c.point}`);
    this.#oracle.fail(`not answered: ${stuck.join(", ")}`);
  };

  /** Every CLEAR that was deferred tells of its end, even if vCPUs have to come back for that. */
  #awaitCleaned(): void {
    const { deferred } = this.#world;
    for (let tries = 20; deferred.count > 0 && this.#failure === null; tries--) {
      if (tries === 0) this.#oracle.fail(`${deferred.count} CLEAR(s) never told of their end`);
      const { count } = deferred;
      for (const vcpu of this.#vcpus) vcpu.act();
      this.#link.advance(100);
      this.#stop();
      if (deferred.count < count) tries = 20;
    }
  }

  /** All vCPUs are out of RUN: a last report must hold every dirty page, and hardware obey it. */
  #lastSync(): void {
    this.#awaitCleaned();
    this.#rings.finish(this.#settle);
    for (const log of this.#logs) log.finish(this.#settle);
    this.#checkRest("the last report");
    if (this.#prng.below(2) === 0) return;
    for (const log of this.#logs) log.clearAll(this.#settle);
    this.#checkRest("the report after a CLEAR of everything");
  }

  #checkRest(what: string): void {
    if (this.#failure !== null) return;
    const logs = new Map(this.#logs.map((log) => [log.slot, log]));
    const isReported = (slot: number, offset: number) => logs.get(slot)!.isReported(offset);
    for (const slot of logs.keys()) {
      this.#oracle.mustContain(slot, what, (offset) => isReported(slot, offset));
      this.#compare(slot, (offset) => isReported(slot, offset));
    }
    const left = this.#watch.atRest();
    if (left !== null) this.#oracle.fail(left);
    const sum = this.#guests?.check() ?? null;
    if (sum !== null) this.#oracle.fail(sum);
    const hardware = this.#hardware();
    const { model } = this.#oracle;
    const isClean = (slot: number, offset: number) => !isReported(slot, offset);
    const wrong = checkTlbs(hardware, model, isClean);
    if (wrong !== null) this.#oracle.fail(wrong);
    for (const { first, pages } of this.#layout.homes) {
      const leaf = checkLeaves(hardware, model, { first, end: first + pages }, isClean);
      if (leaf !== null) this.#oracle.fail(leaf);
    }
  }

  #hardware(): Hardware {
    const { host, vtcr, vttbr, vmid } = this.#vm;
    return { cpus: host.cpus, memory: host.memory, vtcr, vttbr, vmid };
  }
}

/** Builds and runs one interleaving. */
export function runOne(options: RunOptions): RunResult {
  return new Simulation(options).run();
}
