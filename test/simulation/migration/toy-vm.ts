// A VM that costs nothing: some pages, a guest that stamps them and checks its stamps, and the
// commands by which the engine moves it. Its commands are answered one after the other, later.
import { KvmError, ServiceError } from "../../../src/base/errors.js";
import { PageRequests } from "../../../src/base/page-requests.js";
import { Prng } from "../../../src/base/prng.js";
import type { Saved } from "../../../src/base/saved.js";
import type { MovingVm } from "../../../src/migration/index.js";
import type { DirtyPages, MemoryMap, StateCommands } from "../../../src/runtime/index.js";
import type { Oracle } from "./oracle.js";
import type { SimVm, VmKind, VmParts } from "./sim-vm.js";
import type { Life, World } from "./world.js";

type Moving = Parameters<MovingVm["call"]>[0];
type AwaitPages = StateCommands["awaitPages"][0];
type Args = Readonly<Record<string, unknown>>;

/** Of a memory that goes over a plane of plain arrays, and of one that the real stream carries. */
const TOY_PAGE = 64;
const REAL_PAGE = 4096;
const WASM_PAGE = 65_536;

/** Bytes of the memory objects. */
export interface Shape {
  /** Its memory is one of WebAssembly's. */
  readonly isReal?: boolean;
  readonly pages: readonly number[];
  /** Pages that the guest writes again and again. */
  readonly hot: number;
  /** Steps of the guest in a millisecond. */
  readonly rate: number;
}

const METHODS = ["bitmap", "manual-protect", "ring", "hdbss", "hdbss+hacdbs", "async-run"].map(
  (method) => ({ method, whyNot: null }),
);
const STEPS_AT_ONCE = 400;

function realMemory(bytes: number): WebAssembly.Memory {
  const pages = Math.ceil(bytes / WASM_PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** Thousands of them live in one process. */
function plainMemory(bytes: number): WebAssembly.Memory {
  return { buffer: new SharedArrayBuffer(bytes), grow: () => 0 };
}

class ToyVm implements SimVm {
  readonly name: string;
  readonly memory: Uint8Array;
  readonly life: Life;
  readonly consumers = new Map<string, Set<number>>();
  steps: number | null = null;
  isGone = false;
  isHeld = false;
  throttle = { percent: 0, dirtyLimit: 0 };
  readonly #world: World;
  readonly #oracle: Oracle;
  readonly #shape: Shape;
  readonly #pages: number;
  readonly #page: number;
  readonly #shared: WebAssembly.Memory;
  /** What the guest expects in each page: a register file of its own. */
  #stamps: Uint32Array;
  #guest: Prng;
  #due = 0;
  /** Post-copy: pages that have come, and how the others are asked for. */
  #absent: AwaitPages | null = null;
  #ring = new PageRequests();
  readonly #asked = new Set<number>();
  #wasRunning = true;

  constructor(name: string, parts: VmParts, shape: Shape) {
    this.name = name;
    this.#world = parts.world;
    this.#oracle = parts.oracle;
    this.life = parts.life;
    this.#shape = shape;
    this.#pages = shape.pages.reduce((sum, pages) => sum + pages, 0);
    this.#page = shape.isReal === true ? REAL_PAGE : TOY_PAGE;
    const bytes = this.#pages * this.#page;
    this.#shared = shape.isReal === true ? realMemory(bytes) : plainMemory(bytes);
    this.memory = new Uint8Array(this.#shared.buffer, 0, bytes);
    this.#stamps = new Uint32Array(this.#pages);
    this.#guest = new Prng(1n);
    parts.oracle.add(this);
  }

  get bytes(): Uint8Array {
    return this.memory;
  }

  /** The guest as it was switched on: half of its pages hold something. */
  async boot(seed: bigint): Promise<void> {
    this.#guest = new Prng(seed);
    this.steps = 0;
    for (let page = 1; page < this.#pages; page += 2) this.#write(page, this.#guest.u32() | 1);
  }

  async receive(): Promise<void> {
    this.isHeld = true;
  }

  end(): void {
    this.isGone = true;
  }

  run(ms: number): void {
    if (this.isGone || this.isHeld || this.steps === null) return;
    const share = 1 - this.throttle.percent / 100;
    const wanted = Math.ceil(Math.min(ms * this.#shape.rate * share, STEPS_AT_ONCE));
    for (let n = 0; n < wanted && this.#step(); n++);
  }

  /** @returns false: its page hasn't come yet, and the same step comes again */
  #step(): boolean {
    const { hot } = this.#shape;
    const drawn = this.#guest.state.slice();
    // The last page is the host's table of interrupts.
    const own = this.#pages - 1;
    const page = this.#guest.below(this.#guest.below(8) === 0 ? own : Math.min(hot, own));
    if (this.#isAbsent(page)) {
      this.#ask(page);
      this.#guest.state.set(drawn);
      return false;
    }
    const before = this.steps ?? 0;
    this.steps = before + 1;
    this.#oracle.advance(this, before, before + 1);
    this.#check(page);
    this.#write(page, this.#guest.u32() | 1);
    return true;
  }

  /** A page among all: its object, and its number there. */
  #place(page: number): readonly [object: number, page: number] {
    let rest = page;
    for (const [at, pages] of this.#shape.pages.entries()) {
      if (rest < pages) return [at + 1, rest];
      rest -= pages;
    }
    throw new Error(`a toy VM has no page ${page}`);
  }

  #isAbsent(page: number): boolean {
    if (this.#absent === null) return false;
    const [object, own] = this.#place(page);
    return ((this.#absent.present.get(object)?.[own >> 5] ?? 0) & (1 << (own & 31))) === 0;
  }

  #ask(page: number): void {
    if (this.#asked.has(page)) return;
    this.#asked.add(page);
    this.#ring.ask(...this.#place(page));
  }

  lacks(at?: number): boolean {
    if (at !== undefined) return this.#isAbsent(Math.floor(at / this.#page));
    return Array.from({ length: this.#pages }, (_, page) => page).some((page) =>
      this.#isAbsent(page),
    );
  }

  #word(page: number): number {
    return new DataView(this.memory.buffer).getUint32(page * this.#page + 8, true);
  }

  #check(page: number): void {
    if (this.#word(page) === this.#stamps[page]) return;
    this.#oracle.violation(`${this.name}: bad stamp in page ${page}`);
    this.#stamps[page] = this.#word(page);
  }

  async check(): Promise<void> {
    if (this.consumers.size > 0) this.#oracle.violation("its log is still being read");
    if (this.#absent !== null) this.#oracle.violation("it still waits for pages");
    if (this.throttle.percent > 0) this.#oracle.violation("it is still slowed down");
    for (let page = 0; page < this.#pages; page++) this.#check(page);
  }

  #write(page: number, stamp: number): void {
    new DataView(this.memory.buffer).setUint32(page * this.#page + 8, stamp, true);
    this.#stamps[page] = stamp;
    for (const dirty of this.consumers.values()) dirty.add(page);
  }

  call(name: Moving, args: Args): Promise<{ readonly value: never }> {
    const world = this.#world;
    const delay = world.between(0.05, 1.5);
    this.#due = Math.max(this.#due + 0.01, world.now + delay);
    return new Promise((resolve, reject) => {
      world.at(this.#due - world.now, () => {
        // The caller has died with its VM.
        if (!this.life.isAlive) return;
        try {
          resolve({ value: this.#do(name, args) as never });
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #do(name: Moving, args: Args): unknown {
    if (this.isGone) throw new ServiceError("vm-gone", "The VM is gone.");
    // A refusal to put something back would be this VM's own end; it comes as a crash.
    const isUndo = args["on"] === false || args["hold"] === false || name === "setThrottle";
    if (!isUndo && this.#world.hits("vm-refuses", `${this.name}.${name}`)) {
      throw new KvmError("EIO", "KVM_TOY", `${name} was refused.`);
    }
    const done = this.#act(name, args);
    this.#world.tell(`${this.name}.${name} ${name === "holdVm" ? args["hold"] : ""}`);
    return done;
  }

  #act(name: Moving, args: Args): unknown {
    switch (name) {
      case "describeMemory":
        return this.map;
      case "describeTracking":
        return { owner: "none", method: null, methods: METHODS, consumers: [] };
      case "trackDirty": {
        const consumer = args["consumer"] as string;
        if (args["on"] === false) this.consumers.delete(consumer);
        else this.consumers.set(consumer, new Set());
        return null;
      }
      case "harvestDirty":
        return this.#harvest(args["consumer"] as string);
      case "holdVm":
        if (args["hold"] === true && !this.isHeld) this.#wasRunning = true;
        this.isHeld = args["hold"] === true;
        return { wasRunning: this.#wasRunning };
      case "saveState":
        return { parts: this.#save(), eventfds: [] };
      case "loadState":
        return this.#load(args["parts"] as readonly Saved[]);
      case "awaitPages":
        this.#absent = args as unknown as AwaitPages;
        this.#ring = new PageRequests(this.#absent.requests);
        return null;
      case "pagesArrived":
        return { demanded: 0, waitedMs: 0 };
      case "allPagesHere":
        if (this.lacks()) this.#oracle.violation("pages are missing for good");
        this.#absent = null;
        return { demanded: 0, waitedMs: 0 };
      case "setThrottle":
        this.throttle = args as unknown as { percent: number; dirtyLimit: number };
        return this.throttle;
      case "describeThrottle":
        return this.throttle;
      default:
        throw new Error(`a toy VM has no ${name}`);
    }
  }

  get map(): MemoryMap {
    let pa = 0;
    const blocks = this.#shape.pages.map((pages, at) => {
      const block = { object: at + 1, bytes: pages * this.#page, backing: "ram" as const, pa };
      pa += pages * this.#page;
      return { ...block, contentPage: 0 };
    });
    return { pageSize: this.#page, memory: this.#shared, blocks, unbackedSeed: 0 };
  }

  #harvest(consumer: string): DirtyPages {
    const dirty = this.consumers.get(consumer);
    if (dirty === undefined) throw new ServiceError("consumer-not-found", consumer);
    const taken = [...dirty];
    dirty.clear();
    let first = 0;
    const blocks = this.#shape.pages.flatMap((pages, at) => {
      const own = taken.filter((page) => page >= first && page < first + pages);
      const bitmap = new Uint8Array(Math.ceil(pages / 64) * 8);
      for (const page of own) bitmap[(page - first) >> 3]! |= 1 << ((page - first) & 7);
      first += pages;
      return own.length === 0 ? [] : [{ object: at + 1, pages: own.length, bitmap }];
    });
    return { blocks, pages: taken.length };
  }

  /** Saving writes a table into guest memory, as an ITS does. */
  #save(): readonly Saved[] {
    if (!this.isHeld) this.#oracle.violation(`${this.name} is saved while it runs`);
    this.#write(this.#pages - 1, (this.steps ?? 0) + 1);
    const guest = this.#guest.state.slice();
    const data = { steps: this.steps, stamps: this.#stamps.slice(), guest };
    return [{ kind: "toy", version: 1, data }];
  }

  #load(parts: readonly Saved[]): null {
    const [part] = parts;
    if (part?.kind !== "toy" || parts.length !== 1) throw new Error("not a toy's state");
    const data = part.data as { steps: number; stamps: Uint32Array; guest: Uint32Array };
    this.#stamps = data.stamps.slice();
    this.#guest.state.set(data.guest);
    this.steps = data.steps;
    // As an ITS's tables are read while they are loaded.
    const table = this.#pages - 1;
    if (this.#isAbsent(table)) this.#absent?.fetch?.(...this.#place(table));
    this.#check(table);
    return null;
  }
}

/** Of a link without limit. */
export const TOY_BYTES_PER_MS = 1_200;

/** A kind of VM that costs nothing. */
export function toy(shape: Shape): VmKind {
  const create: VmKind["create"] = (name, parts) => new ToyVm(name, parts, shape);
  // As many pages in a second, whatever their size.
  const page = shape.isReal === true ? REAL_PAGE : TOY_PAGE;
  const bytesPerMs = (TOY_BYTES_PER_MS * page) / TOY_PAGE;
  return { create, framePages: 4, bytesPerMs };
}
