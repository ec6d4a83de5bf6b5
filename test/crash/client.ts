// Owns: a client that changes VMs without pause and keeps book of what was acknowledged, until the
// service is gone. Test process.
import type { Prng } from "../../src/base/prng.js";
import { type Answer, Caller, type Message } from "../bad-input/caller.js";
import { type Creation, EMPTY, type Known, type Shape } from "./ledger.js";

const PAGE = 0x1000;
const hex = (value: number): string => `0x${value.toString(16)}`;
const VMS_MAX = 12;
const LANES = 2;

export class Client {
  readonly vms = new Map<string, Known>();
  readonly creations: Creation[] = [];
  readonly #prng: Prng;
  #caller: Caller | null = null;
  #names = 0;
  #lanes = 0;

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  get caller(): Caller {
    if (this.#caller === null) throw new Error("not connected");
    return this.#caller;
  }

  async connect(origin: string): Promise<void> {
    await this.#caller?.close();
    this.#caller = await Caller.open(origin);
  }

  async close(): Promise<void> {
    await this.#caller?.close();
  }

  /** @returns null when the service died under it */
  async #try(method: string, path: string, body?: unknown, headers = {}): Promise<Answer | null> {
    const isPatch = method === "PATCH";
    const type = isPatch ? "application/merge-patch+json" : "application/json";
    const message: Message = {
      method,
      path,
      headers: body === undefined ? headers : { "content-type": type, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    };
    const answer = await this.caller.sendUnchecked(message).catch(() => null);
    if (answer !== null) this.caller.check(message, answer);
    return answer;
  }

  /** Creates and changes VMs until a request gets no answer. */
  async work(): Promise<void> {
    await Promise.all([this.#creating(), this.#creating(), this.#changing(0), this.#changing(1)]);
  }

  async #creating(): Promise<void> {
    for (;;) {
      if (this.vms.size >= VMS_MAX) {
        if ((await this.#try("GET", "/v1/vms")) === null) return;
        continue;
      }
      this.#names += 1;
      const name = `vm-${this.#names}`;
      const creation: Creation = { key: `key-${name}`, body: { name, labels: { name } }, id: null };
      this.creations.push(creation);
      if (!(await this.create(creation))) return;
    }
  }

  /** @returns whether it was acknowledged */
  async create(creation: Creation): Promise<boolean> {
    const key = { "idempotency-key": creation.key };
    const answer = await this.#try("POST", "/v1/vms", creation.body, key);
    if (answer === null) return false;
    if (answer.status !== 201) throw new Error(`create: ${answer.text}`);
    creation.id = answer.json.id as string;
    this.know(creation.id, creation.body.name);
    return true;
  }

  know(id: string, name: string): Known {
    const known: Known = {
      id,
      lane: this.#lanes++ % LANES,
      name,
      nameUnderWay: null,
      state: "active",
      stateUnderWay: null,
      shape: EMPTY,
      shapeUnderWay: null,
    };
    this.vms.set(id, known);
    return known;
  }

  /** Changes the VMs of one lane, so that each has one change under way at most. */
  async #changing(lane: number): Promise<void> {
    for (;;) {
      const mine = [...this.vms.values()].filter((vm) => vm.lane === lane);
      const active = mine.filter(({ state }) => state === "active");
      if (active.length === 0) {
        if ((await this.#try("GET", "/v1/eventfds")) === null) return;
        continue;
      }
      if (!(await this.#change(this.#prng.pick(active)))) return;
    }
  }

  /** @returns whether it was acknowledged */
  async #change(vm: Known): Promise<boolean> {
    const dice = this.#prng.below(40);
    if (dice === 0) return this.#end(vm, "deleted");
    if (dice === 1) return this.#end(vm, "stopped");
    if (dice < 5) return this.#rename(vm);
    if (dice < 8) return this.#run(vm);
    return this.#reshape(vm);
  }

  async #end(vm: Known, state: "stopped" | "deleted"): Promise<boolean> {
    vm.stateUnderWay = state;
    const path = `/v1/vms/${vm.id}`;
    const isDelete = state === "deleted";
    const answer = await (isDelete ? this.#try("DELETE", path) : this.#try("POST", `${path}:stop`));
    if (answer === null) return false;
    if (answer.status >= 300) throw new Error(`${state}: ${answer.text}`);
    vm.stateUnderWay = null;
    if (isDelete) this.vms.delete(vm.id);
    else vm.state = "stopped";
    return true;
  }

  async #rename(vm: Known): Promise<boolean> {
    vm.nameUnderWay = `${vm.name}+`.slice(-60);
    const answer = await this.#try("PATCH", `/v1/vms/${vm.id}`, { name: vm.nameUnderWay });
    if (answer === null) return false;
    vm.name = vm.nameUnderWay;
    vm.nameUnderWay = null;
    return true;
  }

  /** Nothing of a run is kept; it only makes the crash hit a VM at work. */
  async #run(vm: Known): Promise<boolean> {
    const n = vm.shape.vcpus[0];
    if (n === undefined) return true;
    const at = `/v1/vms/${vm.id}/vcpus/${n}`;
    const program = {
      kind: "pattern",
      pattern: "uniform",
      base: "0x0",
      bytes: hex(PAGE),
      count: 0,
    };
    if ((await this.#try("PUT", `${at}/program`, program)) === null) return false;
    return (await this.#try("POST", `${at}/runs`)) !== null;
  }

  async #reshape(vm: Known): Promise<boolean> {
    const [method, path, body, next] = this.#nextShape(vm.shape);
    vm.shapeUnderWay = next;
    const answer = await this.#try(method, `/v1/vms/${vm.id}${path}`, body);
    if (answer === null) return false;
    if (answer.status < 400) vm.shape = next;
    vm.shapeUnderWay = null;
    return true;
  }

  #nextShape(shape: Shape): readonly [string, string, unknown, Shape] {
    const { objects, slots, vcpus } = shape;
    const dice = this.#prng.below(10);
    if (objects.length === 0 || dice === 0) {
      const size = hex(0x20_0000 + objects.length * PAGE);
      const next = { ...shape, objects: [...objects, size] };
      return ["POST", "/memory-objects", { size, backing: "unbacked" }, next];
    }
    if (dice === 1 && shape.manual === 0) {
      const path = "/capabilities/KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2";
      return ["PUT", path, { args: ["0x1"] }, { ...shape, manual: 1 }];
    }
    if (dice < 4) {
      const n = vcpus.length;
      return ["PUT", `/vcpus/${n}`, {}, { ...shape, vcpus: [...vcpus, n] }];
    }
    const slot = this.#prng.below(8);
    if (dice === 4 && slots[slot] !== undefined) {
      const { [slot]: _gone, ...rest } = slots;
      return ["DELETE", `/memslots/${slot}`, undefined, { ...shape, slots: rest }];
    }
    const place = { guestPhysAddr: hex(slot * 0x100_0000), memorySize: hex(16 * PAGE) };
    const flags = this.#prng.below(2);
    const body = { ...place, flags, memoryObjectId: 1, offset: hex(slot * 16 * PAGE) };
    const next = { ...shape, slots: { ...slots, [slot]: { ...place, flags } } };
    return ["PUT", `/memslots/${slot}`, body, next];
  }
}
