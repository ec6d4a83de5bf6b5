// A real VM in this thread: a board whose guest counts, stamps page after page with its count, and
// finds there what it left a lap ago. It moves by the commands and through the state of every VM.
import { EventfdCounters } from "../../../src/base/eventfd-counters.js";
import { MemoryBudget } from "../../../src/base/memory-budget.js";
import type { MovingVm } from "../../../src/migration/index.js";
import { InlineVm, type MemoryMap } from "../../../src/runtime/index.js";
import { createInstance } from "../../../src/vmm/index.js";
import { BOARD } from "../../support/board.js";
import { DEFINITION, MIB } from "../../support/inline.js";
import { STAMPS, stampingGuest } from "../../support/stamping-guest.js";
import type { SimVm, VmKind, VmParts } from "./sim-vm.js";

const RAM = 0x4000_0000;
const IMAGE = stampingGuest();
const STEPS_AT_ONCE = 6;
/** Within which a command is answered. */
const PUMPS_MAX = 2_000;

class RealVm implements SimVm {
  readonly name: string;
  isGone = false;
  isHeld = true;
  readonly #parts: VmParts;
  readonly #vm: InlineVm;
  #map: MemoryMap | null = null;
  #hasState = false;

  constructor(name: string, parts: VmParts) {
    this.name = name;
    this.#parts = parts;
    const request = {
      definition: { ...DEFINITION, board: BOARD, hostCpus: 1, seed: 3n },
      replay: null,
      inputLog: { entriesMax: 10, bytesMax: MIB },
    };
    const account = MemoryBudget.create(64 * MIB).account();
    if (account === null) throw new Error("a fresh budget has accounts");
    const eventfds = EventfdCounters.create(4);
    this.#vm = InlineVm.create(request, { budget: account, eventfds, createInstance });
    parts.oracle.add(this);
  }

  get map(): MemoryMap {
    if (this.#map === null) throw new Error(`${this.name} has no memory yet`);
    return this.#map;
  }

  get bytes(): Uint8Array {
    const [block] = this.map.blocks;
    if (block === undefined) throw new Error("a board has memory");
    return new Uint8Array(this.map.memory.buffer, block.pa, block.bytes);
  }

  get steps(): number | null {
    return this.#hasState ? this.#word(STAMPS.count) : null;
  }

  #word(address: number): number {
    const { buffer, byteOffset } = this.bytes;
    return new DataView(buffer, byteOffset).getUint32(address - RAM, true);
  }

  async boot(): Promise<void> {
    await this.#load();
    this.#hasState = true;
    await this.#now("boardAction", { action: "start" });
    this.isHeld = false;
  }

  async receive(): Promise<void> {
    await this.#load();
    await this.#now("holdVm", { hold: true, why: "It is being moved." });
  }

  async #load(): Promise<void> {
    await this.#now("loadBoard", { image: IMAGE.slice(), initrd: null });
    this.#map = await this.#now("describeMemory", {});
  }

  /** Whatever the VM needs for its answer happens at once. */
  async #now<K extends Parameters<InlineVm["call"]>[0]>(
    name: K,
    args: Parameters<InlineVm["call"]>[1],
  ): Promise<never> {
    let answer: { readonly value: unknown } | null = null;
    let failure: unknown = null;
    this.#vm.call(name, args as never).then(
      (result) => {
        answer = result;
      },
      (error: unknown) => {
        failure = error;
      },
    );
    for (let n = 0; n < PUMPS_MAX && answer === null && failure === null; n++) {
      this.#pump(1);
      await Promise.resolve();
      await Promise.resolve();
      await Promise.resolve();
    }
    if (failure !== null) throw failure;
    if (answer === null) throw new Error(`${this.name} never answered ${name}`);
    return (answer as { readonly value: unknown }).value as never;
  }

  run(ms: number): void {
    if (!this.isGone) this.#pump(Math.min(Math.ceil(ms), STEPS_AT_ONCE));
  }

  #pump(steps: number): void {
    const before = this.#hasState ? this.steps : null;
    this.#vm.pump(steps);
    const after = this.#hasState ? this.steps : null;
    if (before === null || after === null || before === after) return;
    this.#parts.oracle.advance(this, before, after);
  }

  call: MovingVm["call"] = async (name, args) => {
    const { world, life } = this.#parts;
    const isUndo = "on" in args && args.on === false;
    const isLetGo = "hold" in args && args.hold === false;
    await world.sleep(world.between(0.05, 1));
    if (!life.isAlive) await new Promise(() => {});
    const mayFail = !isUndo && !isLetGo && name !== "setThrottle";
    if (mayFail && world.hits("vm-refuses", `${this.name}.${name}`)) {
      throw new Error(`${name} was refused`);
    }
    const isHold = "hold" in args && args.hold === true;
    const value = await this.#now(name, args as never);
    if (name === "loadState") this.#hasState = true;
    if (isHold) this.isHeld = true;
    if (isLetGo) this.isHeld = false;
    world.tell(`${this.name}.${name}`);
    return { value };
  };

  async check(): Promise<void> {
    const { oracle } = this.#parts;
    const before = this.steps ?? 0;
    for (let n = 0; n < PUMPS_MAX && (this.steps ?? 0) < before + STAMPS.pages; n++) {
      this.#pump(20);
    }
    if ((this.steps ?? 0) < before + STAMPS.pages) {
      oracle.violation(`${this.name} stands still at ${before}`);
    }
    const bad = this.#word(STAMPS.count + 8);
    if (bad > 0) oracle.violation(`${this.name}: ${bad} bad stamps`);
    const tracking: { readonly consumers: readonly unknown[] } = await this.#now(
      "describeTracking",
      {},
    );
    if (tracking.consumers.length > 0) oracle.violation("its log is still being read");
    const { percent }: { readonly percent: number } = await this.#now("describeThrottle", {});
    if (percent > 0) oracle.violation("it is still slowed down");
  }

  end(): void {
    if (this.isGone) return;
    this.isGone = true;
    void this.#vm.close();
  }
}

export const REAL: VmKind = {
  create: (name, parts) => new RealVm(name, parts),
  framePages: 64,
  bytesPerMs: MIB,
};
