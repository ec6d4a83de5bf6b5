// Owns: a VM of the scenario: the agent's guest with its interrupt controller, the assigned device
// and the irqfd, by the public API alone; everything it does goes to the scene. CLI process.
import type { VmCreate } from "../../generated/client.js";
import type { Client } from "../client.js";
import { Failure } from "../failure.js";
import type { Settings } from "../options.js";
import { type Access, type AnyGic, bringUp, DEVICE, FRAMES, GSI, SPI, spiOf } from "./accesses.js";
import * as agent from "./agent.js";
import { eventOf, newRows, type SceneEvent, type Told, traced } from "./events.js";

export interface Wires {
  readonly trigger: string;
  readonly unmask: string;
}

export interface GuestOptions {
  readonly gic: AnyGic;
  readonly settings: Settings;
  /** By creation; the first is 1. */
  readonly number: number;
  readonly wires: Wires;
  readonly signal: AbortSignal;
}

type DirtySettings = NonNullable<NonNullable<VmCreate["dirty"]>["settings"]>;

const TARGET_GENERIC_V8 = 5;
/** KVM_ARM_VCPU_PSCI_0_2. */
const PSCI = 4;
const PC = "0x6030000000100040";
const VBAR_EL1 = "0x603000000013c600";
const VCPU = "0";
const NR_IRQS = 64;
const WAIT_S = "2";
/** Of one access; a guest that takes more is in a storm. */
const STOPS_MAX = 24;

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Little-endian digits of an exit. */
function numberOf(data: string): number {
  const bytes = data.match(/../g) ?? [];
  return bytes.reduceRight((value, byte) => value * 256 + Number.parseInt(byte, 16), 0);
}

/** An access that the guest has told of. */
export interface Done {
  readonly access: Access;
  readonly value: number;
}

/** An exit of the agent's. */
interface Stop {
  readonly isHandlers: boolean;
  /** X0. */
  readonly value: number;
  readonly us: number | null;
  /** What KVM and VFIO did until then. */
  readonly events: readonly SceneEvent[];
}

const NOT_YET = { value: 0, us: null } as const;

export class ScenarioGuest {
  readonly #client: Client;
  readonly #options: GuestOptions;
  readonly #vm: string;
  readonly #events: SceneEvent[] = [];
  /** Accesses of the main list that the guest has behind it. */
  #done = 0;
  #handlers: readonly (readonly Access[])[] = [];
  /** Where the handler is: which list, and which of its accesses. */
  #handlerAt: [list: number, item: number] = [0, 0];
  #seenRows = 0;
  /** VDRCFG reads that were told of, and in what words. */
  #reads = 0;
  #lastTracking = "";

  /** @param onCreated deletes it, whatever comes */
  static async create(
    client: Client,
    options: GuestOptions,
    onCreated: (vm: string) => void,
  ): Promise<ScenarioGuest> {
    const { gic, settings, number } = options;
    const { id } = await client.call(
      "createVm",
      {},
      {
        name: `vfio-restart VM ${number}`,
        seed: "0x1",
        clock: { mode: "virtual" },
        dirty: { settings: settings as DirtySettings },
      },
    );
    onCreated(id);
    const guest = new ScenarioGuest(client, options, id);
    await guest.#makeMachine();
    await guest.#makeGic();
    await client.call("startVmTrace", { vm: id }, { categories: ["irq", "vfio", "mmio"] });
    await guest.carryOut(bringUp(gic));
    return guest;
  }

  private constructor(client: Client, options: GuestOptions, vm: string) {
    this.#client = client;
    this.#options = options;
    this.#vm = vm;
  }

  get events(): readonly SceneEvent[] {
    return this.#events;
  }

  tell(told: Told): void {
    this.#events.push(eventOf(this.#options.number, told));
  }

  // ── what is made before the guest runs ────────────────────────────────────────────────────────

  async #makeMachine(): Promise<void> {
    const at = { vm: this.#vm, n: VCPU };
    const size = hex(agent.RAM.bytes);
    const { id } = await this.#client.call("createMemoryObject", { vm: this.#vm }, { size });
    await this.#client.call(
      "setMemslot",
      { vm: this.#vm, slot: "0" },
      { guestPhysAddr: hex(agent.RAM.base), memorySize: size, memoryObjectId: id },
    );
    await this.#client.call("createVcpu", at, {});
    const features = { target: TARGET_GENERIC_V8, features: [PSCI] };
    await this.#client.call("createInitialization", at, features);
    for (const piece of agent.agent(FRAMES.cpu)) await this.#put(piece);
    const set = (reg: string, value: number) =>
      this.#client.call("setRegister", { ...at, reg }, { value: hex(value) });
    await set(PC, agent.ENTRY);
    await set(VBAR_EL1, agent.VECTORS);
  }

  async #makeGic(): Promise<void> {
    const { gic } = this.#options;
    const isV2 = gic === 2;
    const type = `KVM_DEV_TYPE_ARM_VGIC_V${gic}` as const;
    const made = await this.#client.call("createDevice", { vm: this.#vm }, { type });
    const at = { vm: this.#vm, device: String("device" in made ? made.device : 0) };
    await this.#client.call("setDeviceNrIrqs", at, { nrIrqs: NR_IRQS });
    const place = (kind: string, address: number) =>
      this.#client.call("setDeviceAddress", { ...at, kind }, { address: hex(address) });
    if (gic === 5) await place("v5-irs", FRAMES.irs);
    else {
      await place(isV2 ? "v2-dist" : "v3-dist", FRAMES.dist);
      await (isV2 ? place("v2-cpu", FRAMES.cpu) : place("v3-redist", FRAMES.redist));
    }
    await this.#client.call("createDeviceOperation", at, { op: "init" });
  }

  async #put({ gpa, bytes }: { readonly gpa: number; readonly bytes: Uint8Array }): Promise<void> {
    await this.#client.call("writePhysicalMemory", { vm: this.#vm }, bytes, { gpa: hex(gpa) });
  }

  // ── the device ────────────────────────────────────────────────────────────────────────────────

  /** KVM_IRQFD with its resampler. */
  async attachIrqfd(): Promise<void> {
    const { trigger, unmask } = this.#options.wires;
    const body = { eventfd: trigger, gsi: GSI, flags: 2, resampleEventfd: unmask };
    await this.#client.call("createIrqfd", { vm: this.#vm }, body);
    this.tell({ from: "kvm", text: "irqfd with resample", detail: `KVM_IRQFD gsi=${GSI}` });
    await this.#tellTrace();
  }

  /** VFIO has the device. @param isHigh its line as it was left */
  async attachDevice(isHigh: boolean): Promise<void> {
    const { trigger, unmask } = this.#options.wires;
    const body = { base: hex(DEVICE), triggerEventfd: trigger, unmaskEventfd: unmask, isHigh };
    await this.#client.call("assignDevice", { vm: this.#vm }, body);
    const change = { isHigh, isMasked: false };
    this.tell({ from: "vfio", text: "set up: unmasked", detail: "VFIO_DEVICE_SET_IRQS", change });
    await this.#tellTrace();
  }

  async raise(): Promise<void> {
    await this.#client.call("raiseAssignedDevice", { vm: this.#vm, id: "0" });
    this.tell({ from: "device", text: "asserts its line", change: { isHigh: true } });
    await this.#tellTrace();
  }

  async device() {
    const { items } = await this.#client.call("listAssignedDevices", { vm: this.#vm });
    const [device] = items;
    if (device === undefined) throw new Failure("The VM has lost its assigned device.");
    return device;
  }

  async interrupt() {
    const query = { from: String(SPI), to: String(SPI) };
    const at = { vm: this.#vm };
    const { items } = await this.#client.call("listVgicInterrupts", at, undefined, query);
    const [irq] = items;
    if (irq === undefined) throw new Failure(`The VM has no interrupt ${SPI}.`);
    return irq;
  }

  /** What KVM keeps of the interrupt is told of. */
  async look(): Promise<void> {
    const { lineLevel, pendingLatch, config } = await this.interrupt();
    const why = [...(pendingLatch ? ["latch"] : []), ...(lineLevel ? ["line"] : [])];
    const text = why.length === 0 ? "nothing is pending" : `pending by its ${why.join(" and ")}`;
    this.tell({ from: "kvm", text, detail: `GET /vgic/interrupts: ${config}` });
  }

  /** It is killed: what it had is closed, nothing is reset. */
  async kill(): Promise<void> {
    await this.#client.call("deleteVm", { vm: this.#vm });
  }

  // ── the guest's own doing ─────────────────────────────────────────────────────────────────────

  /** @param lists its accesses at one interrupt after the other, then as the last says */
  async setHandlers(...lists: readonly (readonly Access[])[]): Promise<void> {
    this.#handlers = lists;
    for (const piece of agent.handlerLists(lists)) await this.#put(piece);
  }

  /** Has the guest do these, and its handler what comes in between. @returns the handler's */
  async carryOut(accesses: readonly Access[]): Promise<readonly Done[]> {
    await this.#write(accesses);
    const handled: Done[] = [];
    for (const access of accesses) {
      const isOpening = access.routine === "letIn";
      if (isOpening) this.#tellAccess(access);
      const before = handled.length;
      let stop = await this.#run();
      while (stop.isHandlers) {
        handled.push(this.#handle(stop));
        if (handled.length - before > STOPS_MAX)
          throw new Failure("There is no end of interrupts.");
        stop = await this.#run();
      }
      if (!isOpening) this.#tellAccess(access, stop);
      else if (handled.length === before) this.tell({ from: "guest", text: "none comes" });
      this.#events.push(...stop.events);
      this.#done++;
    }
    return handled;
  }

  /** The guest lets interrupts in, takes one, and comes no further than to its INTID. */
  async takeOne(letIn: Access): Promise<void> {
    await this.#write([letIn]);
    this.#tellAccess(letIn);
    const stop = await this.#run();
    if (!stop.isHandlers) throw new Failure("The first guest takes no interrupt.");
    this.#handle(stop);
  }

  async #write(accesses: readonly Access[]): Promise<void> {
    if (this.#done + accesses.length > agent.MAIN_ITEMS_MAX) throw new Failure("Too many steps.");
    await this.#put(agent.mainItems(accesses, this.#done));
  }

  #handle(stop: Stop): Done {
    const [list, item] = this.#handlerAt;
    const access = this.#handlers[list]?.[item];
    if (access === undefined) throw new Failure("The guest has no handler for its interrupt.");
    const spi = spiOf(this.#options.gic);
    if (access.learns === "intid" && stop.value !== spi) {
      throw new Failure(`The guest took interrupt ${stop.value}, not ${spi}.`);
    }
    const isLast = item + 1 === this.#handlers[list]?.length;
    const next = Math.min(list + 1, this.#handlers.length - 1);
    this.#handlerAt = isLast ? [next, 0] : [list, item + 1];
    this.#tellAccess(access, stop);
    this.#events.push(...stop.events);
    return { access, value: stop.value };
  }

  #tellAccess(access: Access, { value, us }: Pick<Stop, "value" | "us"> = NOT_YET): void {
    const { learns, lowers = false, isSetUp = false, from, to } = access;
    const line = value === 0 ? "low" : "high";
    const learnt = learns === "intid" ? ` ${value}` : learns === "line" ? `: line ${line}` : "";
    const detail = learns === undefined ? access.detail : `${access.detail} is ${value}`;
    const change = lowers ? { isHigh: false } : {};
    this.tell({ from, to, us, text: `${access.text}${learnt}`, detail, isSetUp, change });
  }

  /** KVM_RUN up to the guest's next stop. */
  async #run(): Promise<Stop> {
    const { signal } = this.#options;
    const at = { vm: this.#vm, n: VCPU };
    let run = await this.#client.call("createRun", at, {});
    while (run.state !== "exited") {
      signal.throwIfAborted();
      const query = { wait: WAIT_S };
      run = await this.#client.call("getRun", { ...at, run: run.id }, undefined, query);
    }
    const { mmio, errno = null, exitReason = "" } = run.result ?? {};
    const place = Number(mmio?.physAddr ?? 0);
    if (place !== agent.STOP && place !== agent.HANDLER_STOP) {
      throw new Failure(`The guest left with ${errno ?? exitReason} at ${hex(place)}.`);
    }
    const isHandlers = place === agent.HANDLER_STOP;
    const seen = await this.#readTrace();
    // Message 004 looks at the exit, before it tells anybody.
    const events = [...(await this.#readTracking()), ...seen.events];
    return { isHandlers, value: numberOf(mmio?.data ?? ""), us: seen.us, events };
  }

  /** What KVM has asked a GICv5's hardware about the SPI since the last stop. */
  async #readTracking(): Promise<readonly SceneEvent[]> {
    const { gic, number } = this.#options;
    if (gic !== 5) return [];
    const at = { vm: this.#vm };
    const { tracking, inFlight, counters } = await this.#client.call("getVgicV5", at);
    const reads = counters.vdrcfgCalls - this.#reads;
    this.#reads = counters.vdrcfgCalls;
    if (reads === 0 || !tracking.startsWith("seed004")) return [];
    const query = { from: String(GSI), to: String(GSI) };
    const { items } = await this.#client.call("listVgicV5Spis", at, undefined, query);
    const stays = inFlight.includes(GSI) ? "in flight" : "done";
    const line = items[0]?.lineLevel === true ? "high" : "low";
    const state = items[0]?.state.replace("-and-", "+") ?? "gone";
    const text = `VDRCFG: ${state}, line ${line}: ${stays}`;
    if (text === this.#lastTracking) return [];
    this.#lastTracking = text;
    return [eventOf(number, { from: "kvm", text, detail: `exit: ${reads} VDRCFG` })];
  }

  async #tellTrace(): Promise<void> {
    this.#events.push(...(await this.#readTrace()).events);
  }

  /** What KVM and VFIO have done since it was read last, and when the first of it was. */
  async #readTrace(): Promise<Pick<Stop, "us" | "events">> {
    const { traceEvents } = await this.#client.call("getVmTrace", { vm: this.#vm });
    const rows = newRows(traceEvents, this.#seenRows);
    this.#seenRows += rows.length;
    const events = rows.flatMap((row) => traced(this.#options.number, row) ?? []);
    return { us: rows[0]?.ts ?? null, events };
  }
}
