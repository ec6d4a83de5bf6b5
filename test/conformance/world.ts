// Owns: what one scenario has built: its VMs, vCPUs and eventfds by their recorded names, and the
// test memory that all of them share. Any thread.
//
// In the recording every VM maps the same process memory. Over HTTP each VM has a process address
// space of its own, so the test memory exists once per VM and is kept in step here: a host write
// goes to every VM, stores of a guest are copied to the other VMs, and a new VM of a scenario
// starts with the memory as the others left it.
import { type Answer, type Client, isOk, jsonOf } from "./client.js";
import { type Frames, framesAt, type Irqchip } from "./irqchip.js";
import { type Line, ReplayFault } from "./line.js";
import type { Header } from "./recording.js";
import type { Tracking } from "./tracking.table.js";

export interface VmState {
  readonly name: string;
  readonly path: string;
  readonly id: string;
  /** Test memory inside this VM: path of the memory object. */
  memoryPath: string;
  /** Last accepted argument of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. */
  manualProtect: number;
  /** Its interrupt controller, once asked for. */
  irqchip: Irqchip | null;
}

/** A list of guest accesses in work. */
export interface AccessList {
  /** Its end has one value per access. */
  readonly isRead: boolean;
  /** Accesses that are not handed to the vCPU yet. */
  rest: readonly unknown[];
  /** Accesses of the piece that the vCPU has; 0 when none is in work. */
  loaded: number;
  /** Accesses retired in the pieces before. */
  completed: number;
  readonly values: unknown[];
}

export interface VcpuState {
  readonly vm: VmState;
  readonly path: string;
  /** The list that was started last. */
  list: AccessList | null;
}

export interface DeviceState {
  readonly vm: VmState;
  readonly path: string;
}

export interface EventfdState {
  readonly id: string;
  /** The read that is still to be acknowledged. */
  lastRead: string | null;
}

/** Bytes of one copy between two VMs' memories. */
const COPY_BYTES = 4 * 1024 * 1024;
/** Slots looked at when stores are shared; far more than any scenario makes. */
const SLOTS_MAX = 1000;
const NO_EVENTFD = "efd_AAAAAAAAAAAAAAAA";

export class World {
  readonly client: Client;
  readonly header: Header;
  readonly vms = new Map<string, VmState>();
  readonly vcpus = new Map<string, VcpuState>();
  readonly eventfds = new Map<string, EventfdState>();
  readonly devices = new Map<string, DeviceState>();
  /** Pins whose edges some line of the scenario looks at. */
  readonly edgePins: ReadonlySet<number>;
  /** Whether anything may have written the test memory in this scenario. */
  memoryTouched = false;
  /** The tracking's counters of every VM that is gone. */
  readonly counted = new Map<string, number>();
  readonly #tracking: Tracking | null;
  /** Contents that outlive the last VM: offset and bytes, later ones win. */
  #kept: { offset: number; bytes: Uint8Array }[] = [];

  constructor(
    client: Client,
    header: Header,
    tracking: Tracking | null = null,
    edgePins: ReadonlySet<number> = new Set(),
  ) {
    this.client = client;
    this.header = header;
    this.#tracking = tracking;
    this.edgePins = edgePins;
  }

  /** Where a controller's frames go. */
  get frames(): Frames {
    return framesAt(this.header.reserved);
  }

  /** Before a call that looks at a controller: INIT of those that waited for vCPUs. */
  async initialiseIrqchips(): Promise<void> {
    const owners = new Set([...this.vcpus.values()].map(({ vm }) => vm));
    for (const vm of this.vms.values()) await vm.irqchip?.initialise(owners.has(vm));
  }

  vm(name: string): VmState {
    const vm = this.vms.get(name);
    if (vm === undefined) throw new ReplayFault(`there is no VM ${name} at this point`);
    return vm;
  }

  vcpu(name: string): VcpuState {
    const vcpu = this.vcpus.get(name);
    if (vcpu === undefined) throw new ReplayFault(`there is no vCPU ${name} at this point`);
    return vcpu;
  }

  device(name: string): DeviceState {
    const device = this.devices.get(name);
    if (device === undefined) throw new ReplayFault(`there is no device ${name} at this point`);
    return device;
  }

  eventfd(name: string): EventfdState {
    const eventfd = this.eventfds.get(name);
    if (eventfd === undefined) throw new ReplayFault(`there is no eventfd ${name} at this point`);
    return eventfd;
  }

  /**
   * The id that stands for a descriptor symbol: "bad" is an id that was never given out, "null" (an
   * open descriptor of another kind) the id of another kind of resource.
   */
  descriptorId(symbol: string, vm: VmState): string {
    if (symbol === "bad") return NO_EVENTFD;
    if (symbol === "null") return vm.id;
    return this.eventfd(symbol).id;
  }

  /** Creates a VM with the test memory in its process; a name in use is closed first. */
  async createVm(name: string, type: string): Promise<Answer> {
    await this.closeVm(name);
    const answer = await this.client.send("POST", "/v1/vms", {
      json: { ...this.#tracking?.vm, type, pageSize: this.header.pageSize },
    });
    if (!isOk(answer)) return answer;
    const id = String(jsonOf(answer)["id"]);
    const path = `/v1/vms/${id}`;
    const vm: VmState = { name, id, path, memoryPath: "", manualProtect: 0, irqchip: null };
    const other = [...this.vms.values()][0];
    this.vms.set(name, vm);
    const request = this.client.lastRequest;
    const memory = await this.client.send("POST", `${vm.path}/memory-objects`, {
      json: { size: hex(this.header.hostSize), userspaceAddr: hex(this.header.hostBase) },
    });
    if (!isOk(memory)) return memory;
    vm.memoryPath = `${vm.path}/memory-objects/${String(jsonOf(memory)["id"])}`;
    if (this.memoryTouched) {
      const pieces = other === undefined ? this.#kept : await this.#readAll(other);
      for (const piece of pieces) await this.#write(vm, piece.offset, piece.bytes);
    }
    this.client.lastRequest = request;
    return answer;
  }

  /** Drops the last reference to a VM, if there is one of that name. */
  async closeVm(name: string): Promise<Answer | null> {
    const vm = this.vms.get(name);
    if (vm === undefined) return null;
    if (this.memoryTouched && this.vms.size === 1) this.#kept = await this.#readAll(vm);
    this.vms.delete(name);
    for (const [key, vcpu] of this.vcpus) if (vcpu.vm === vm) this.vcpus.delete(key);
    for (const [key, device] of this.devices) if (device.vm === vm) this.devices.delete(key);
    await this.#count(vm);
    return this.client.send("DELETE", vm.path);
  }

  /** Adds up what a VM has counted, as long as it is there. */
  async #count({ path }: VmState): Promise<void> {
    if (this.#tracking === null) return;
    const request = this.client.lastRequest;
    const answer = await this.client.send("GET", `${path}/counters`);
    this.client.lastRequest = request;
    if (!isOk(answer)) return;
    const counters = jsonOf(answer)["counters"] as Readonly<Record<string, number>>;
    for (const name of this.#tracking.counts) {
      this.counted.set(name, (this.counted.get(name) ?? 0) + (counters[name] ?? 0));
    }
  }

  /** Closes everything of the scenario; a fault here belongs to no line and is thrown. */
  async close(): Promise<void> {
    await Promise.all([...this.vms.values()].map((vm) => this.#count(vm)));
    const paths = [...this.vms.values()].map((vm) => vm.path);
    for (const eventfd of this.eventfds.values()) paths.push(`/v1/eventfds/${eventfd.id}`);
    const answers = await Promise.all(paths.map((path) => this.client.send("DELETE", path)));
    for (const [index, answer] of answers.entries()) {
      if (isOk(answer)) continue;
      throw new Error(`DELETE ${paths[index]} at a scenario's end gave ${answer.status}`);
    }
  }

  /** Userspace stores to its own memory: offset from the start of the test memory. */
  async hostWrite(offset: number, bytes: Uint8Array): Promise<Answer | null> {
    this.memoryTouched = true;
    if (this.vms.size === 0) this.#kept.push({ offset, bytes });
    let last: Answer | null = null;
    for (const vm of this.vms.values()) {
      last = await this.#write(vm, offset, bytes);
      if (!isOk(last)) return last;
    }
    return last;
  }

  /** Userspace loads from its own memory; null without a VM that could hold it. */
  hostRead(offset: number, length: number): Promise<Answer> {
    const vm = [...this.vms.values()][0];
    if (vm === undefined) throw new ReplayFault("there is no VM whose process could be read");
    return this.#read(vm, offset, length);
  }

  /** Copies what a guest stored at these guest addresses to the other VMs of the scenario. */
  async shareStores(from: VmState, stores: readonly { gpa: bigint; len: number }[]) {
    this.memoryTouched = true;
    if (this.vms.size < 2) return;
    const answer = await this.client.send("GET", `${from.path}/memslots?limit=${SLOTS_MAX}`);
    const slots = jsonOf(answer)["items"] as readonly Record<string, string>[];
    const offsets = new Map<number, number>();
    for (const { gpa, len } of stores) {
      for (const slot of slots) {
        const into = gpa - BigInt(slot["guestPhysAddr"]!);
        if (into < 0n || into >= BigInt(slot["memorySize"]!)) continue;
        const offset = BigInt(slot["userspaceAddr"]!) + into - this.header.hostBase;
        if (offset >= 0n && offset < this.header.hostSize) offsets.set(Number(offset), len);
      }
    }
    for (const [offset, len] of offsets) {
      const piece = await this.#read(from, offset, len);
      for (const vm of this.vms.values())
        if (vm !== from) await this.#write(vm, offset, piece.body);
    }
  }

  #write(vm: VmState, offset: number, bytes: Uint8Array): Promise<Answer> {
    return this.client.send("PUT", `${vm.memoryPath}/content?offset=${hex(offset)}`, { bytes });
  }

  #read(vm: VmState, offset: number, length: number): Promise<Answer> {
    return this.client.send("GET", `${vm.memoryPath}/content`, {
      headers: {
        accept: "application/octet-stream",
        range: `bytes=${offset}-${offset + length - 1}`,
      },
    });
  }

  async #readAll(vm: VmState): Promise<{ offset: number; bytes: Uint8Array }[]> {
    const pieces: { offset: number; bytes: Uint8Array }[] = [];
    const size = Number(this.header.hostSize);
    for (let offset = 0; offset < size; offset += COPY_BYTES) {
      const { body } = await this.#read(vm, offset, Math.min(COPY_BYTES, size - offset));
      if (body.some((byte) => byte !== 0)) pieces.push({ offset, bytes: body });
    }
    return pieces;
  }
}

/** The name a created vCPU or device goes by when the recording gives none. */
export function recordedName(line: Line, fallback: string): string {
  const name = line.out["name"];
  return typeof name === "string" ? name : fallback;
}

export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
