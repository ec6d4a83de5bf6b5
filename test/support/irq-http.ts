// Owns: a VM with devices in a real service, and vCPUs that do over HTTP what a selftest's guest
// does: their loop is that of irq-code.ts, every step of it is a KVM_RUN. Test process.
import type { IccName } from "../../src/machine/gic/icc.table.js";
import * as a64 from "./a64.js";
import * as code from "./irq-code.js";
import type { jsonClient } from "./json-client.js";

export type Call = ReturnType<typeof jsonClient> & { readonly origin: () => string };

export const RAM = 0x4000_0000;
const RAM_BYTES = 0x40_0000;
const CPU_BYTES = 0x8000;
const VECTORS_AT = 0x1000; // tidy: a place in memory
const IRQ_VECTOR = 0x280;
const SNIPPET_AT = 0x2000;
const LOG_AT = 0x3000;
const STOPS = 0x7000_0000;
/** Where a handler's exits go to, beside the stops. */
export const HANDLER_EXIT = 0x7100_0000;
const PC = "0x6030000000100040";
const VBAR_EL1 = "0x603000000013c600";
const WAIT = { prefer: "wait=20" };
export const GICC = 0x801_0000;
export const TYPE = { VFIO: 4, V2: 5, V3: 7, ITS: 8 } as const;

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** Little-endian, as hexadecimal digits. */
export function wire(value: bigint | number, size: number): string {
  const bytes = Array.from({ length: size }, (_, i) =>
    Number((BigInt(value) >> BigInt(8 * i)) & 0xffn),
  );
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
export function unwire(text: string): bigint {
  const bytes = text.match(/../g) ?? [];
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(`0x${byte}`), 0n);
}

type Answer = Awaited<ReturnType<Call>>;

/** Errno of an answer, or null when it is no refusal. */
export function errnoOf({ status, body }: Answer): string | null {
  if (status < 300) return null;
  return String(body?.errno ?? body?.code ?? status);
}

export interface RunResult {
  readonly errno: string | null;
  readonly exitReason: string;
  readonly mmio?: { readonly physAddr: string; readonly data: string; readonly isWrite: boolean };
}

export class HttpDevice {
  readonly #call: Call;
  readonly path: string;

  constructor(call: Call, path: string) {
    this.#call = call;
    this.path = path;
  }

  #at(group: number, attr: bigint | number): string {
    return `${this.path}/attributes/${group}/${hex(attr)}`;
  }
  async set(group: number, attr: bigint | number, value: bigint | number, size = 4) {
    const body = { value: wire(value, size) };
    return errnoOf(await this.#call("PUT", this.#at(group, attr), body));
  }
  /** KVM_SET_DEVICE_ATTR without an address. */
  async setNothing(group: number, attr: bigint | number) {
    return errnoOf(await this.#call("PUT", this.#at(group, attr), { value: "" }));
  }
  /** @returns the value, or an errno */
  async get(group: number, attr: bigint | number, size = 4, input = 0n): Promise<bigint | string> {
    const answer = await this.#call("GET", `${this.#at(group, attr)}?input=${wire(input, size)}`);
    return errnoOf(answer) ?? unwire(answer.body.value);
  }
  /** KVM_HAS_DEVICE_ATTR. @returns its errno, or null */
  async hasErrno(group: number, attr: bigint | number): Promise<string | null> {
    const url = `${this.#call.origin()}${this.#at(group, attr)}`;
    const { status, headers } = await fetch(url, { method: "HEAD" });
    return status === 200 ? null : (headers.get("errno") ?? String(status));
  }
}

export class HttpVm {
  readonly call: Call;
  readonly path: string;

  constructor(call: Call, path: string) {
    this.call = call;
    this.path = path;
  }

  /** A VM with memory. @param body of POST /v1/vms */
  static async create(call: Call, body: object = {}): Promise<HttpVm> {
    const made = await call("POST", "/v1/vms", body);
    const vm = new HttpVm(call, made.location);
    await call("POST", `${vm.path}/memory-objects`, { size: hex(RAM_BYTES) });
    const slot = { guestPhysAddr: hex(RAM), memorySize: hex(RAM_BYTES), memoryObjectId: 1 };
    await call("PUT", `${vm.path}/memslots/0`, slot);
    return vm;
  }

  async delete(): Promise<void> {
    await this.call("DELETE", this.path);
  }
  async createVcpu(id: number): Promise<string | null> {
    return errnoOf(await this.call("PUT", `${this.path}/vcpus/${id}`, {}));
  }
  async createDevice(type: number): Promise<string | null> {
    return errnoOf(await this.call("POST", `${this.path}/devices`, { type }));
  }
  async device(type: number): Promise<HttpDevice> {
    const made = await this.call("POST", `${this.path}/devices`, { type });
    if (made.status !== 201) throw new Error(`no device of type ${type}: ${errnoOf(made)}`);
    return new HttpDevice(this.call, made.location);
  }
  /** A vCPU whose guest is the loop. */
  async cpu(id: number, model: code.Model = "v3", features = 4): Promise<HttpCpu> {
    await this.createVcpu(id);
    return this.bootCpu(id, model, features);
  }
  async bootCpu(id: number, model: code.Model = "v3", features = 4): Promise<HttpCpu> {
    const cpu = new HttpCpu(this, id, model);
    await cpu.boot(features);
    return cpu;
  }
  async words(gpa: number, words: readonly number[]): Promise<void> {
    await this.call("PUT", `${this.path}/physical-memory?gpa=${hex(gpa)}`, a64.bytesOf(words));
  }
  async memory(gpa: number, length: number): Promise<DataView> {
    const at = `${this.path}/physical-memory?gpa=${hex(gpa)}&length=${length}`;
    const { bytes } = await this.call("GET", at, undefined, { accept: "application/octet-stream" });
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  /** KVM_RUN, waited for. */
  async run(vcpu: number): Promise<RunResult> {
    const answer = await this.call("POST", `${this.path}/vcpus/${vcpu}/runs`, {}, WAIT);
    if (answer.status !== 200) throw new Error(`the run: ${answer.status} ${errnoOf(answer)}`);
    return answer.body.result;
  }
  async line(type: number, vcpu: number, num: number, level: 0 | 1): Promise<string | null> {
    const path = `${this.path}/irq-lines/${type}:${vcpu}:${num}`;
    return errnoOf(await this.call("PUT", path, { level }));
  }
  async eventfd(): Promise<string> {
    return (await this.call("POST", "/v1/eventfds", {})).body.id;
  }
  async signal(eventfd: string): Promise<void> {
    await this.call("POST", `/v1/eventfds/${eventfd}/writes`, { value: "0x1" });
  }
  async irqfd(eventfd: string, gsi: number, more: object = {}): Promise<string | null> {
    return errnoOf(await this.call("POST", `${this.path}/irqfds`, { eventfd, gsi, ...more }));
  }
  async deassign(eventfd: string, gsi: number): Promise<string | null> {
    const query = `eventfd=${eventfd}&gsi=${gsi}`;
    return errnoOf(await this.call("DELETE", `${this.path}/irqfds?${query}`));
  }
}

export class HttpCpu {
  readonly vm: HttpVm;
  readonly id: number;
  readonly model: code.Model;
  readonly places: code.Places;
  #isUp = false;
  /** What userspace does at an exit of the handler. */
  onHandlerExit: (intid: number) => Promise<void> = async () => {};

  constructor(vm: HttpVm, id: number, model: code.Model) {
    this.vm = vm;
    this.id = id;
    this.model = model;
    const base = RAM + id * CPU_BYTES;
    const [snippet, log] = [base + SNIPPET_AT, base + LOG_AT];
    this.places = { loop: base, snippet, log, stop: STOPS + 8 * id, gicc: GICC };
  }

  /** The same guest where its VM is now. */
  movedTo(vm: HttpVm): HttpCpu {
    const cpu = new HttpCpu(vm, this.id, this.model);
    cpu.#isUp = this.#isUp;
    return cpu;
  }

  async boot(features: number): Promise<void> {
    const { vm, id, places } = this;
    const path = `${vm.path}/vcpus/${id}`;
    await vm.call("POST", `${path}/initializations`, { target: 5, features: [features] });
    await vm.words(places.loop, code.loop(places));
    await this.setRegister(PC, places.loop);
    await this.setRegister(VBAR_EL1, places.loop + VECTORS_AT);
  }
  async setRegister(reg: string, value: bigint | number): Promise<void> {
    const path = `${this.vm.path}/vcpus/${this.id}/registers/${reg}`;
    await this.vm.call("PUT", path, { value: hex(value) });
  }
  async getRegister(reg: string): Promise<bigint> {
    const path = `${this.vm.path}/vcpus/${this.id}/registers/${reg}`;
    return BigInt((await this.vm.call("GET", path)).body.value);
  }

  async setHandler(isSplit: boolean, onTaken: readonly number[] = []): Promise<void> {
    await this.setHandlerWords(code.handler(this.model, isSplit, onTaken));
  }
  async setHandlerWords(words: readonly number[]): Promise<void> {
    await this.setVector(IRQ_VECTOR, words);
  }
  /** Code of any vector of an exception at EL1 with its own stack. @param at as 0x200 */
  async setVector(at: number, words: readonly number[]): Promise<void> {
    await this.vm.words(this.places.loop + VECTORS_AT + at, words);
  }

  /** From a stop to the next one. @returns X0 */
  async exec(...words: number[]): Promise<bigint> {
    if (!this.#isUp) {
      this.#isUp = true;
      await this.#untilStop();
    }
    await this.vm.words(this.places.snippet, [...words, a64.RET]);
    return this.#untilStop();
  }
  async #untilStop(): Promise<bigint> {
    for (;;) {
      const { mmio, exitReason, errno } = await this.vm.run(this.id);
      if (mmio?.physAddr === hex(this.places.stop)) return unwire(mmio.data);
      if (mmio?.physAddr !== hex(HANDLER_EXIT)) {
        throw new Error(`the guest left with ${exitReason} ${errno} at ${mmio?.physAddr}`);
      }
      await this.onHandlerExit(Number(unwire(mmio.data) & 0xffff_ffffn));
    }
  }

  async read(address: number): Promise<number> {
    return Number(await this.exec(...a64.mov(1, BigInt(address)), a64.ldrw(0, 1)));
  }
  async write(address: number, value: number): Promise<void> {
    const at = a64.mov(1, BigInt(address));
    await this.exec(...at, ...a64.mov(0, BigInt(value >>> 0)), a64.strw(0, 1));
  }
  async icc(name: IccName, value: bigint): Promise<void> {
    await this.exec(...a64.mov(0, value), code.msrIcc(name, 0), a64.ISB);
  }
  async iar(): Promise<number> {
    return Number(await this.exec(...code.iar(this.model, 0)));
  }
  async eoi(id: number): Promise<void> {
    await this.exec(...a64.mov(0, BigInt(id)), ...code.eoir(this.model, 0));
  }
  async dir(id: number): Promise<void> {
    await this.exec(...a64.mov(0, BigInt(id)), ...code.dir(this.model, 0));
  }
  /** Lets interrupts in; what the handler took. */
  async take(most = 1000): Promise<number[]> {
    const { log } = this.places;
    const length = Number(await this.exec(...code.letIn(log, most))) - log;
    return length === 0 ? [] : this.words32(log, length / 4);
  }
  async words32(gpa: number, count: number): Promise<number[]> {
    const view = await this.vm.memory(gpa, 4 * count);
    return Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
  }
}
