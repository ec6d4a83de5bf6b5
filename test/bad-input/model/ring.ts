// Owns: a simple model of a dirty ring: pages that would be pushed, entries in order, two indexes.
// Test process.
import fc from "fast-check";
import { expectErrno, expectSame, type Guest, hex, PAGE } from "./guest.js";

const ENTRIES = 256;
/** Entries that KVM keeps free for what one exit may still push. */
const RESERVED = 64;
const SLOT_PAGES = 300;
const SLOTS = 2;

export interface RingModel {
  /** "slot:page" of every entry ever pushed. */
  readonly pushed: string[];
  /** Pages whose next store is not pushed: they are in the ring already. */
  readonly open: Set<string>;
  served: number;
  harvested: number;
  reset: number;
}

export function ringModel(): RingModel {
  return { pushed: [], open: new Set(), served: 0, harvested: 0, reset: 0 };
}

export async function furnishRing(guest: Guest): Promise<void> {
  const cap = "/capabilities/KVM_CAP_DIRTY_LOG_RING_ACQ_REL";
  await guest.must("PUT", cap, { args: [hex(ENTRIES * 16)] });
  const size = SLOTS * SLOT_PAGES * PAGE;
  await guest.must("POST", "/memory-objects", { size: hex(size) });
  for (let slot = 0; slot < SLOTS; slot++) {
    const start = hex(slot * SLOT_PAGES * PAGE);
    const body = { guestPhysAddr: start, offset: start, memoryObjectId: 1, flags: 1 };
    await guest.must("PUT", `/memslots/${slot}`, { ...body, memorySize: hex(SLOT_PAGES * PAGE) });
  }
  await guest.must("PUT", "/vcpus/0");
}

type Command = fc.AsyncCommand<RingModel, Guest>;

async function harvest(model: RingModel, guest: Guest, upTo: number): Promise<void> {
  const answer = await guest.ask("POST", "/vcpus/0/dirty-ring/harvested", { upTo });
  const isFine = upTo >= model.harvested && upTo <= model.served;
  if (!isFine) {
    if (answer.status !== 409) throw new Error(`harvested ${upTo}: ${answer.text}`);
    return;
  }
  expectErrno(`harvested ${upTo}`, answer, null);
  model.harvested = upTo;
}

async function reset(model: RingModel, guest: Guest): Promise<void> {
  const answer = await guest.ask("POST", "/dirty-rings/resets");
  expectErrno("reset", answer, null);
  expectSame("entries reset", [answer.json.reset], [model.harvested - model.reset]);
  for (const page of model.pushed.slice(model.reset, model.harvested)) model.open.delete(page);
  model.reset = model.harvested;
}

/** Reads the window and compares all of it. */
async function look(model: RingModel, guest: Guest): Promise<void> {
  const { json } = await guest.must("GET", `/vcpus/0/dirty-ring?limit=${ENTRIES}`);
  const indexes = [json.dirtyIndex, json.resetIndex, json.harvestIndex, json.size];
  expectSame("indexes", indexes, [model.pushed.length, model.reset, model.harvested, ENTRIES]);
  const fresh = (json.entries as { flags: number; slot: number; offset: string }[]).filter(
    ({ flags }) => flags === 1,
  );
  const seen = fresh.map(({ slot, offset }) => `${slot}:${Number(offset)}`);
  const wanted = model.pushed.slice(model.harvested);
  if (JSON.stringify(seen) !== JSON.stringify(wanted)) {
    throw new Error(`the ring holds ${seen}, the model says ${wanted}`);
  }
  model.served = model.pushed.length;
}

class Stores implements Command {
  readonly #gfns: readonly number[];

  constructor(gfns: readonly number[]) {
    this.#gfns = gfns;
  }

  check = () => true;

  async run(model: RingModel, guest: Guest): Promise<void> {
    const used = () => model.pushed.length - model.reset;
    const stores = this.#gfns.map((gfn) => ({ address: gfn * PAGE, length: 8 as const, value: 1 }));
    const left = [...this.#gfns];
    let last: number | null = null;
    const advance = (until: () => boolean) => {
      while (left.length > 0 && !until()) {
        const gfn = left.shift() ?? 0;
        const name = `${Math.floor(gfn / SLOT_PAGES)}:${gfn % SLOT_PAGES}`;
        if (model.open.has(name)) continue;
        model.open.add(name);
        model.pushed.push(name);
        last = gfn;
      }
    };
    await guest.store(stores, async () => {
      // The exit comes once the soft limit is reached, and with it every push up to then.
      advance(() => used() >= ENTRIES - RESERVED);
      if (used() < ENTRIES - RESERVED) throw new Error(`full with ${used()} entries`);
      // Its page is mapped, but the exit came before the store: it is done after the reset.
      if (last !== null) left.unshift(last);
      last = null;
      await look(model, guest);
      await harvest(model, guest, model.served);
      await reset(model, guest);
    });
    advance(() => false);
  }

  toString = () => `store ${this.#gfns.length}: ${this.#gfns.slice(0, 8).join()}…`;
}

class Look implements Command {
  check = () => true;
  run = (model: RingModel, guest: Guest) => look(model, guest);
  toString = () => "look";
}

class Harvest implements Command {
  readonly #step: number;

  constructor(step: number) {
    this.#step = step;
  }

  check = (model: Readonly<RingModel>) => model.harvested + this.#step >= 0;
  run = (model: RingModel, guest: Guest) => harvest(model, guest, model.harvested + this.#step);
  toString = () => `harvested +${this.#step}`;
}

class Reset implements Command {
  check = () => true;
  run = (model: RingModel, guest: Guest) => reset(model, guest);
  toString = () => "reset";
}

class NoBitmap implements Command {
  check = () => true;

  async run(_model: RingModel, guest: Guest): Promise<void> {
    expectErrno("no bitmap", await guest.ask("GET", "/memslots/0/dirty-log"), "ENXIO");
    const body = { firstPage: "0x0", numPages: 64, ranges: [] };
    const clear = await guest.ask("POST", "/memslots/0/dirty-log/clears", body);
    expectErrno("no bitmap", clear, "ENXIO");
  }

  toString = () => "no bitmap";
}

const gfns = fc.oneof(
  fc.array(fc.integer({ min: 0, max: SLOTS * SLOT_PAGES - 1 }), { minLength: 1, maxLength: 60 }),
  fc.integer({ min: 1, max: 500 }).map((n) => Array.from({ length: n }, (_x, i) => i)),
);

export const ringCommands: fc.Arbitrary<Command>[] = [
  gfns.map((list) => new Stores(list)),
  gfns.map((list) => new Stores(list)),
  fc.constant(new Look()),
  fc.constantFrom(0, 1, 5, 100, -1, 1000).map((step) => new Harvest(step)),
  fc.constant(new Reset()),
  fc.constant(new NoBitmap()),
];

export const ringAfter = (): Command[] => [
  new Look(),
  new Stores([0, 1, 2]),
  new Look(),
  new Harvest(0),
  new Reset(),
  new Stores([0, 1, 2]),
  new Look(),
];
