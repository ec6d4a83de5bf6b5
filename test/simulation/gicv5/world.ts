// Owns: a VM with a GICv5 whose vCPUs are agents, its eventfds, and the oracle beside it: every
// step of the VM is followed by what the oracle says of it. Test process.

import { Prng } from "../../../src/base/prng.js";
import { createDevice } from "../../../src/kvm/device.js";
import type { EventfdRef } from "../../../src/vmm/commands.js";
import { Inline, type Pending } from "../../support/inline.js";
import { bytes, IRQFD } from "../../support/irq-uapi.js";
import { Agent, type Item, NEXT_REGISTER, RAM, RAM_PAGES, STOPS } from "./agent.js";
import { Oracle, type Policy, type SpiRow } from "./oracle.js";

export const VCPUS = 2;
export const ROWS: readonly SpiRow[] = [
  { id: 1, config: "level", vcpu: 0 },
  { id: 2, config: "level", vcpu: 1 },
  { id: 3, config: "level", vcpu: 0 },
  { id: 4, config: "edge", vcpu: 0 },
  { id: 5, config: "edge", vcpu: 1 },
];
const VGIC_V5 = 16;
const GROUP = { ADDR: 0, NR_IRQS: 3, CTRL: 4 } as const;
const ADDR_IRS = 6n;
const NR_SPIS = 32;
const IRS = 0x801_0000;
const IRS_REGISTER = { CR0: 0x80, SPI_SELR: 0x108, SPI_CFGR: 0x114 } as const;
const PRIORITY = 16;
const PSCI_0_2 = 4n;
const CORE = 0x6030_0000_0010_0000n;
const PC = CORE | 0x40n;
const SPI_LINE = 1 << 24;
/** Of one run of the agents; more is a storm of the simulation's own. */
const STEPS_MAX = 20_000;

interface Wire {
  readonly trigger: EventfdRef;
  readonly resample: EventfdRef;
  isAttached: boolean;
}

/** A rule was broken. */
export class Broken extends Error {}

export class GicWorld extends Inline {
  readonly policy: Policy;
  readonly agents: readonly Agent[];
  oracle: Oracle;
  readonly #wires = new Map<number, Wire>();
  #base: Readonly<Record<string, number>> = {};
  /** Of the present lists: what the oracle has been told of. */
  #lists: (readonly Item[])[] = [];
  #seen: number[] = [];
  #runs: (Pending<unknown> | null)[] = [];
  #takes: (number | null)[][] = [];
  #exits: number[] = [];
  steps = 0;

  constructor(policy: Policy) {
    super({
      schedule: "seeded",
      translation: null,
      dirty: { settings: { "vgicV5.spiTracking": policy }, seedBugs: [] },
    });
    this.policy = policy;
    this.oracle = new Oracle(policy, ROWS, VCPUS);
    this.slot(0, RAM_PAGES, { gpa: RAM });
    this.agents = Array.from({ length: VCPUS }, (_, index) => new Agent(index));
    for (const [index, agent] of this.agents.entries()) this.#createCpu(index, agent);
    this.#createController();
    for (const { id } of ROWS) this.#wires.set(id, this.#newWire());
    this.#setUp();
  }

  #newWire(): Wire {
    const eventfd = (): EventfdRef => ({ index: this.eventfds.create(0n), isEventfd: true });
    return { trigger: eventfd(), resample: eventfd(), isAttached: false };
  }

  #createCpu(index: number, agent: Agent): void {
    this.vcpu(index);
    this.call("vcpuInit", { vcpu: index, target: 5, features: [PSCI_0_2] });
    for (const [gpa, code] of agent.code) {
      this.call("writePhysicalMemory", { gpa: BigInt(gpa), bytes: code });
    }
    this.call("setOneReg", { vcpu: index, reg: PC, value: bytes(agent.base, 8) });
  }

  #createController(): void {
    const { vm } = this.kvm;
    const device = vm.devices[createDevice(vm, VGIC_V5, 0) ?? -1]!;
    device.set(GROUP.ADDR, ADDR_IRS, bytes(IRS, 8));
    device.set(GROUP.NR_IRQS, 0n, bytes(NR_SPIS, 4));
    device.set(GROUP.CTRL, 0n, new Uint8Array(0));
  }

  get v5() {
    const { v5 } = this.kvm.vm.vgic;
    if (v5 === null) throw new Error("the VM has no GICv5");
    return v5;
  }

  /** As Linux: IRS on, each SPI's priority, trigger mode, target; every CPU interface open. */
  #setUp(): void {
    const store = (offset: number, value: number): Item => {
      return { routine: "store", x0: BigInt(IRS + offset), x1: value };
    };
    const typed = (id: number) => BigInt(0x6000_0000 + id);
    const spis = ROWS.flatMap(({ id, config, vcpu }): readonly Item[] => [
      { routine: "priority", x0: typed(id) | (BigInt(PRIORITY) << 35n) },
      store(IRS_REGISTER.SPI_SELR, id),
      store(IRS_REGISTER.SPI_CFGR, config === "level" ? 1 : 0),
      { routine: "affinity", x0: typed(id) | (BigInt(vcpu) << 32n) },
      { routine: "enable", spi: id },
    ]);
    const own: readonly Item[] = [
      { routine: "mask", x0: 0x1fn },
      { routine: "open", x0: 1n },
    ];
    this.runLists([[store(IRS_REGISTER.CR0, 1), ...spis, ...own], own], () => {});
    this.mark();
  }

  // ── one interleaving ──────────────────────────────────────────────────────────────────────────

  /** From here on a new oracle counts, and the scheduler draws by this seed. */
  beginSeed(seed: number): void {
    this.oracle = new Oracle(this.policy, ROWS, VCPUS);
    for (const { resample, trigger } of this.#wires.values()) {
      this.eventfds.take(resample.index);
      this.eventfds.take(trigger.index);
    }
    const { sched } = this.kvm.vm;
    const saved = sched.save();
    const prng = [...new Prng(BigInt(seed) * 2n + 1n).state];
    sched.load({
      ...saved,
      data: { ...(saved.data as object), steps: 0, next: 0, cursor: 0, prng },
    });
    this.steps = 0;
    this.mark();
  }

  /** Counters count from here. */
  mark(): void {
    this.#base = { ...this.v5.counters };
  }

  counted(name: string): number {
    const counters: Readonly<Record<string, number>> = this.v5.counters;
    return (counters[name] ?? 0) - (this.#base[name] ?? 0);
  }

  /** Lists of all vCPUs run to their ends. @param between before each step of the VM */
  runLists(lists: readonly (readonly Item[])[], between: () => void): void {
    this.#lists = lists.map((items) => [...items]);
    this.#seen = lists.map(() => 0);
    this.#takes = lists.map(() => []);
    this.#exits = lists.map((_, vcpu) => this.#exitsOf(vcpu));
    this.#runs = this.agents.map((agent, vcpu) => this.#start(agent, vcpu, lists[vcpu] ?? []));
    for (let steps = 0; this.#runs.some((run) => run !== null); steps++) {
      if (steps > STEPS_MAX) throw new Broken("the guest never comes to the end of its list");
      between();
      this.pump(1);
      this.steps++;
      this.#follow();
    }
    this.#compareTakes();
  }

  #start(agent: Agent, vcpu: number, items: readonly Item[]): Pending<unknown> {
    const list = agent.bytesOf([...items, { routine: "stop" }]);
    this.call("writePhysicalMemory", { gpa: BigInt(agent.list), bytes: list });
    const registers = this.kvm.vm.vcpus[vcpu]?.a64?.pe.registers;
    if (registers === undefined) throw new Error("the vCPU runs guest code");
    for (const [number, value] of agent.start) registers.setX(number, value);
    return this.beginRun(vcpu);
  }

  /** What the vCPUs have done in the last step: only one of them moved. */
  #follow(): void {
    for (const [vcpu, run] of this.#runs.entries()) {
      if (run === null) continue;
      const items = this.#lists[vcpu] ?? [];
      const done = run.done ? items.length : Math.min(items.length, this.#effects(vcpu));
      let exits = this.#exitsOf(vcpu) - (this.#exits[vcpu] ?? 0);
      this.#exits[vcpu] = this.#exitsOf(vcpu);
      for (let at = this.#seen[vcpu] ?? 0; at < done; at++) {
        this.#tellOracle(vcpu, items[at]!);
        if (items[at]!.routine === "exit") exits--;
      }
      this.#seen[vcpu] = done;
      // The store that stops it: KVM is busy with it for more than a step.
      for (; exits > 0; exits--) this.oracle.exit();
      if (!run.done) continue;
      this.#runs[vcpu] = null;
      this.#checkRun(run);
    }
    this.check();
  }

  #checkRun(run: Pending<unknown>): void {
    const { mmio, errno, exitReason } = run.value as ReturnType<Inline["run"]>;
    if (mmio?.physAddr === BigInt(STOPS)) return;
    throw new Broken(`the guest left with ${exitReason} ${errno ?? ""} ${mmio?.physAddr ?? ""}`);
  }

  #exitsOf(vcpu: number): number {
    return this.kvm.vm.vcpus[vcpu]?.stats.exits ?? 0;
  }

  #effects(vcpu: number): number {
    const registers = this.kvm.vm.vcpus[vcpu]?.a64?.pe.registers;
    if (registers === undefined) return 0;
    const next = Number(registers.x(NEXT_REGISTER));
    return this.agents[vcpu]!.effects(Number(registers.pc), next);
  }

  #tellOracle(vcpu: number, { routine, spi = 0, isOn = false }: Item): void {
    const { oracle } = this;
    const takes = this.#takes[vcpu] ?? [];
    switch (routine) {
      case "take":
        takes.push(oracle.acknowledge(vcpu));
        break;
      case "eoi":
        oracle.dropPriority(vcpu);
        break;
      case "deactivate":
        oracle.deactivate(spi);
        break;
      case "deactivateTaken": {
        const taken = takes.at(-1) ?? null;
        if (taken !== null) oracle.deactivate(taken);
        break;
      }
      case "enable":
      case "disable":
        if (ROWS.some(({ id }) => id === spi)) oracle.enable(spi, routine === "enable");
        break;
      case "pend":
        oracle.pend(spi, isOn);
        break;
      case "exit":
        oracle.exit();
        break;
      default:
        break;
    }
  }

  /** What the guest took, by its own log. */
  #compareTakes(): void {
    for (const [vcpu, items] of this.#lists.entries()) {
      const { log } = this.agents[vcpu]!;
      const length = 8 * items.length;
      const data = this.call("readPhysicalMemory", { gpa: BigInt(log), length }).slice();
      const view = new DataView(data.buffer, data.byteOffset);
      const taken = items.flatMap(({ routine }, at) => {
        if (routine !== "take") return [];
        const word = view.getBigUint64(8 * at, true);
        return [word === 0n ? null : Number(word & 0xff_ffffn)];
      });
      const expected = this.#takes[vcpu] ?? [];
      const odd = taken.findIndex((one, at) => one !== expected[at]);
      if (odd < 0) continue;
      throw new Broken(`vCPU ${vcpu} took ${taken[odd]} and not ${expected[odd]} (take ${odd})`);
    }
  }

  /** After every step: nobody was told too often, nobody not at all. */
  check(): void {
    for (const { id } of ROWS) {
      const wire = this.#wires.get(id);
      if (wire === undefined) continue;
      const told = Number(this.eventfds.peek(wire.resample.index));
      const expected = this.oracle.told.get(id) ?? 0;
      if (told === expected) continue;
      throw new Broken(`SPI ${id}: resamplefd counts ${told}, the oracle ${expected}`);
    }
  }

  /** The silicon's state beside the oracle's, and message 004's list. */
  compare(): void {
    for (const { id, pending, active, enabled, line } of this.oracle.spis) {
      const view = this.v5.spi(id);
      if (view === null) throw new Broken(`SPI ${id} is gone`);
      const { iste } = view;
      const found = [(iste & 1) !== 0, (iste & 2) !== 0, (iste & 8) !== 0, view.lineLevel];
      const wanted = [pending, active, enabled, line];
      // KVM keeps no line of an edge.
      const length = view.config === "edge" ? 3 : 4;
      if (found.slice(0, length).join() === wanted.slice(0, length).join()) continue;
      throw new Broken(`SPI ${id}: pending, active, enabled, line are ${found}, not ${wanted}`);
    }
    const [list, expected] = [this.v5.inFlight().join(), this.oracle.inFlight.join()];
    if (list !== expected) throw new Broken(`in flight are ${list}, and not ${expected}`);
  }

  close(): void {
    this.instance.close();
  }

  // ── outside ───────────────────────────────────────────────────────────────────────────────────

  isAttached(id: number): boolean {
    return this.#wires.get(id)?.isAttached === true;
  }

  /** KVM_IRQFD with RESAMPLE, or its end. */
  attach(id: number, isOn: boolean): void {
    const wire = this.#wires.get(id)!;
    if (wire.isAttached === isOn) return;
    const flags = isOn ? IRQFD.RESAMPLE : IRQFD.DEASSIGN;
    const { trigger: fd, resample: resamplefd } = wire;
    this.call("irqfd", { fd, gsi: id, flags, resamplefd, drain: true, found: null });
    wire.isAttached = isOn;
    if (isOn) this.oracle.listen(id);
    else this.oracle.unlisten(id);
    this.check();
  }

  /** Some device signals its eventfd. */
  signal(id: number): void {
    this.eventfds.write(this.#wires.get(id)!.trigger.index, 1n);
    this.oracle.drive(id, true);
    this.check();
  }

  /** KVM_IRQ_LINE. */
  line(id: number, level: boolean): void {
    this.call("irqLine", { irq: SPI_LINE | id, level: level ? 1 : 0 });
    this.oracle.drive(id, level);
    this.check();
  }
}
