// Owns: VMs with guest code on a real service that allows debuggers. Test process.
import * as a64 from "./a64.js";
import { guestImage } from "./board.js";
import { GdbClient } from "./gdb-client.js";
import { type RealService, startReal, temporary } from "./real-service.js";

const JSON_TYPE = { "content-type": "application/json" };
const OCTETS = { "content-type": "application/octet-stream" };
const WAIT_MS = 20_000;

export const CODE = 0x4000_0000;
/** Where the second vCPU's code is. */
export const OTHER = CODE + 0x800;
export const DATA = CODE + 0x8000;
export const UART = 0x900_0000;
/** The instruction that counts, after three that make the address. */
export const LOOP = CODE + 8;
/** vCPU 0 counts in X0 and stores it at DATA. */
const COUNTS = [
  ...a64.mov(1, BigInt(DATA)),
  a64.add(0, 0, 1),
  a64.str(0, 1),
  a64.add(2, 2, 2),
  a64.b(-3),
];
/** vCPU 1 counts in X5 and stores nothing. */
const SPINS = [a64.add(5, 5, 1), a64.b(-1)];

export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly location: string;
}

export class GdbWorld {
  readonly service: RealService;
  readonly dataDir: string;
  readonly #remove: () => Promise<void>;

  private constructor(service: RealService, dataDir: string, remove: () => Promise<void>) {
    this.service = service;
    this.dataDir = dataDir;
    this.#remove = remove;
  }

  static async start(env: Readonly<Record<string, string>> = { GDB: "on" }): Promise<GdbWorld> {
    const dataDir = await temporary("gdb");
    const service = await startReal({ dataDir: dataDir.path, env });
    return new GdbWorld(service, dataDir.path, dataDir.remove);
  }

  async stop(): Promise<void> {
    await this.service.stop();
    await this.#remove();
  }

  async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const isBytes = body instanceof Uint8Array;
    const answer = await fetch(`${this.service.origin}${path}`, {
      method,
      headers: body === undefined ? {} : isBytes ? OCTETS : JSON_TYPE,
      ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
    });
    const text = await answer.text();
    return {
      status: answer.status,
      body: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>),
      location: answer.headers.get("location") ?? "",
    };
  }

  /** @throws Error unless the answer is one of success */
  async done(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await this.call(method, path, body);
    if (answer.status < 300) return answer;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** A VM whose client is its VMM: vCPUs 0 and, on request, 1. @returns its path */
  async vm(options: { words?: readonly number[]; vcpus?: number } = {}): Promise<string> {
    const { location: vm } = await this.done("POST", "/v1/vms", {});
    await this.done("POST", `${vm}/memory-objects`, { size: "0x10000" });
    const slot = { guestPhysAddr: `0x${CODE.toString(16)}`, memorySize: "0x10000" };
    await this.done("PUT", `${vm}/memslots/0`, { ...slot, memoryObjectId: 1 });
    await this.write(vm, CODE, options.words ?? COUNTS);
    await this.write(vm, OTHER, SPINS);
    for (let id = 0; id < (options.vcpus ?? 1); id++) {
      await this.done("PUT", `${vm}/vcpus/${id}`);
      const init = { target: 5, features: [4] };
      await this.done("POST", `${vm}/vcpus/${id}/initializations`, init);
      await this.setPc(vm, id, id === 0 ? CODE : OTHER);
    }
    return vm;
  }

  async write(vm: string, gpa: number, words: readonly number[]): Promise<void> {
    const base64 = Buffer.from(a64.bytesOf(words)).toString("base64");
    await this.done("PUT", `${vm}/physical-memory`, { gpa: `0x${gpa.toString(16)}`, base64 });
  }

  async console(vm: string): Promise<string> {
    return (await fetch(`${this.service.origin}${vm}/console`)).text();
  }

  /** The instruction at an address, as it lies in memory. */
  async word(vm: string, gpa: number): Promise<number> {
    const url = `${this.service.origin}${vm}/physical-memory?gpa=0x${gpa.toString(16)}&length=4`;
    return Buffer.from(await (await fetch(url)).arrayBuffer()).readUInt32LE();
  }

  async setPc(vm: string, vcpu: number, pc: number): Promise<void> {
    const path = `${vm}/vcpus/${vcpu}/registers/0x6030000000100040`;
    await this.done("PUT", path, { value: `0x${pc.toString(16)}` });
  }

  /** A VM with a board and one of the guests of test/guest; it is off. */
  async board(image: string, vcpus = 1): Promise<string> {
    await this.done("PUT", `/v1/images/${image}`, guestImage(image));
    const board = { image, memoryMiB: 16, vcpus };
    return (await this.done("POST", "/v1/vms", { board })).location;
  }

  async open(vm: string, listen: unknown = "unix"): Promise<GdbClient> {
    const { body } = await this.done("POST", `${vm}/gdb`, { listen });
    const port = body["port"];
    return typeof port === "number"
      ? GdbClient.open({ port })
      : GdbClient.open({ path: String(body["path"]) });
  }

  async until(what: () => Promise<boolean>): Promise<void> {
    for (const end = performance.now() + WAIT_MS; performance.now() < end; ) {
      if (await what()) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error("it did not happen in time");
  }

  isDetached(vm: string): Promise<void> {
    return this.until(async () => (await this.call("GET", `${vm}/gdb`)).body["attached"] === false);
  }
}
