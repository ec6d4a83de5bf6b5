// Owns: a simple model of memslots and their dirty log, and commands that compare KVM with it.
// The model knows sets of pages; it has no stage 2, no TLB and no bitmap words. Test process.
import fc from "fast-check";
import { expectErrno, expectSame, type Guest, hex, PAGE, pagesOf, rangesOf } from "./guest.js";

const LOG = 1;
const READONLY = 2;
const OBJECT_PAGES = 1024;

interface Slot {
  readonly gfn: number;
  readonly pages: number;
  /** First page in the memory object. */
  readonly at: number;
  readonly flags: number;
  /** Pages of the slot; null: it has no log. */
  readonly dirty: Set<number> | null;
}

export interface SlotsModel {
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: 0, 1 or 3. */
  readonly manual: number;
  readonly slots: Map<number, Slot>;
  /** Last value stored to each page of the memory object. */
  readonly memory: Map<number, number>;
  /** Harvest that is not acknowledged, by slot. */
  readonly harvests: Map<number, string>;
  stores: number;
}

export function slotsModel(manual: number): SlotsModel {
  return { manual, slots: new Map(), memory: new Map(), harvests: new Map(), stores: 0 };
}

/** A VM as the model begins: memory, a vCPU, no slot. */
export async function furnish(guest: Guest, manual: number): Promise<void> {
  if (manual !== 0) {
    const cap = "/capabilities/KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2";
    await guest.must("PUT", cap, { args: [hex(manual)] });
  }
  await guest.must("POST", "/memory-objects", { size: hex(OBJECT_PAGES * PAGE) });
  await guest.must("PUT", "/vcpus/0");
}

type Command = fc.AsyncCommand<SlotsModel, Guest>;

function overlaps(model: SlotsModel, id: number, gfn: number, pages: number): boolean {
  return [...model.slots].some(
    ([other, s]) => other !== id && gfn < s.gfn + s.pages && s.gfn < gfn + pages,
  );
}

/** What KVM_SET_USER_MEMORY_REGION says. */
function refusalOf(model: SlotsModel, id: number, wanted: Omit<Slot, "dirty">): string | null {
  const old = model.slots.get(id);
  const { gfn, pages, at, flags } = wanted;
  if (old !== undefined) {
    const isOther = pages !== old.pages || at !== old.at;
    if (isOther || ((flags ^ old.flags) & READONLY) !== 0) return "EINVAL";
    if (gfn === old.gfn) return null;
  }
  return overlaps(model, id, gfn, pages) ? "EEXIST" : null;
}

function logAfter(model: SlotsModel, old: Slot | undefined, wanted: Omit<Slot, "dirty">) {
  if ((wanted.flags & LOG) === 0) return null;
  if (old !== undefined && old.dirty !== null) return old.dirty;
  const all = Array.from({ length: wanted.pages }, (_x, i) => i);
  return new Set(model.manual === 3 ? all : []);
}

class SetSlot implements Command {
  readonly #id: number;
  readonly #wanted: Omit<Slot, "dirty">;

  constructor(id: number, wanted: Omit<Slot, "dirty">) {
    this.#id = id;
    this.#wanted = wanted;
  }

  check = () => true;

  async run(model: SlotsModel, guest: Guest): Promise<void> {
    const { gfn, pages, at, flags } = this.#wanted;
    const answer = await guest.ask("PUT", `/memslots/${this.#id}`, {
      guestPhysAddr: hex(gfn * PAGE),
      memorySize: hex(pages * PAGE),
      memoryObjectId: 1,
      offset: hex(at * PAGE),
      flags,
    });
    const refusal = refusalOf(model, this.#id, this.#wanted);
    expectErrno(this.toString(), answer, refusal);
    if (refusal !== null) return;
    const old = model.slots.get(this.#id);
    const dirty = logAfter(model, old, this.#wanted);
    model.slots.set(this.#id, { ...this.#wanted, dirty });
  }

  toString = () => `set ${this.#id} ${JSON.stringify(this.#wanted)}`;
}

class DeleteSlot implements Command {
  readonly #id: number;

  constructor(id: number) {
    this.#id = id;
  }

  check = () => true;

  async run(model: SlotsModel, guest: Guest): Promise<void> {
    const answer = await guest.ask("DELETE", `/memslots/${this.#id}`);
    const expected = model.slots.has(this.#id) ? 204 : 404;
    if (answer.status !== expected) throw new Error(`delete ${this.#id}: ${answer.text}`);
    model.slots.delete(this.#id);
  }

  toString = () => `delete ${this.#id}`;
}

class Stores implements Command {
  readonly #gfns: readonly number[];

  constructor(gfns: readonly number[]) {
    this.#gfns = gfns;
  }

  check = () => true;

  async run(model: SlotsModel, guest: Guest): Promise<void> {
    const stores = this.#gfns.map((gfn) => {
      model.stores += 1;
      return { address: gfn * PAGE + 8, length: 8 as const, value: model.stores };
    });
    const { mmio } = await guest.store(stores);
    const outside: string[] = [];
    for (const { address, value } of stores) {
      const gfn = Math.floor(address / PAGE);
      const found = [...model.slots.values()].find((s) => gfn >= s.gfn && gfn < s.gfn + s.pages);
      if (found === undefined || (found.flags & READONLY) !== 0) outside.push(hex(address));
      else {
        found.dirty?.add(gfn - found.gfn);
        model.memory.set(found.at + gfn - found.gfn, value);
      }
    }
    expectSame("stores that exit", mmio, outside);
  }

  toString = () => `store ${this.#gfns.join()}`;
}

class Harvest implements Command {
  readonly #id: number;

  constructor(id: number) {
    this.#id = id;
  }

  check = () => true;

  async run(model: SlotsModel, guest: Guest): Promise<void> {
    const last = model.harvests.get(this.#id);
    const after = last === undefined ? "" : `?after=${last}`;
    const path = `/memslots/${this.#id}/dirty-log/harvests${after}`;
    const answer = await guest.ask("POST", path, undefined, { accept: "application/json" });
    const slot = model.slots.get(this.#id);
    const dirty = slot?.dirty ?? null;
    if (dirty === null) return expectErrno(this.toString(), answer, "ENOENT");
    expectErrno(this.toString(), answer, null);
    model.harvests.set(this.#id, answer.json.id);
    expectSame(this.toString(), pagesOf(answer.json.ranges), [...dirty]);
    if (model.manual === 0) dirty.clear();
  }

  toString = () => `harvest ${this.#id}`;
}

class Look implements Command {
  readonly #id: number;

  constructor(id: number) {
    this.#id = id;
  }

  check = () => true;

  async run(model: SlotsModel, guest: Guest): Promise<void> {
    const json = { accept: "application/json" };
    const answer = await guest.ask("GET", `/memslots/${this.#id}/dirty-log`, undefined, json);
    const dirty = model.slots.get(this.#id)?.dirty ?? null;
    if (dirty === null) return expectErrno(this.toString(), answer, "ENOENT");
    if (model.manual === 0) return expectErrno(this.toString(), answer, "destructive-read");
    expectErrno(this.toString(), answer, null);
    expectSame(this.toString(), pagesOf(answer.json.ranges), [...dirty]);
  }

  toString = () => `look ${this.#id}`;
}

class Clear implements Command {
  readonly #id: number;
  readonly #first: number;
  readonly #count: number;
  readonly #seed: number;

  constructor(id: number, first: number, count: number, seed: number) {
    this.#id = id;
    this.#first = first;
    this.#count = count;
    this.#seed = seed;
  }

  check = () => true;

  #refusal(slot: Slot | undefined): string | null {
    if (this.#first % 64 !== 0) return "EINVAL";
    if (slot === undefined || slot.dirty === null) return "ENOENT";
    const room = slot.pages - this.#first;
    if (room < 0 || this.#count > room) return "EINVAL";
    return this.#count < room && this.#count % 64 !== 0 ? "EINVAL" : null;
  }

  async run(model: SlotsModel, guest: Guest): Promise<void> {
    const chosen = Array.from({ length: this.#count }, (_x, i) => i).filter(
      (i) => ((i * 7 + this.#seed) % 11) % (1 + (this.#seed % 3)) === 0,
    );
    const answer = await guest.ask("POST", `/memslots/${this.#id}/dirty-log/clears`, {
      firstPage: hex(this.#first),
      numPages: this.#count,
      ranges: rangesOf(chosen),
    });
    const slot = model.slots.get(this.#id);
    const refusal = this.#refusal(slot);
    expectErrno(this.toString(), answer, refusal);
    if (refusal !== null || slot === undefined) return;
    const cleared = chosen.filter((i) => slot.dirty?.delete(this.#first + i));
    expectSame(this.toString(), [answer.json.cleared], [cleared.length]);
  }

  toString = () => `clear ${this.#id} ${this.#first}+${this.#count}/${this.#seed}`;
}

class ReadBack implements Command {
  check = (model: Readonly<SlotsModel>) => model.memory.size > 0;

  async run(model: SlotsModel, guest: Guest): Promise<void> {
    const path = `${guest.at}/memory-objects/1/content`;
    const { bytes } = await guest.caller.get(path);
    const wrong = [...model.memory].filter(
      ([page, value]) => bytes.readBigUInt64LE(page * PAGE + 8) !== BigInt(value),
    );
    expectSame("pages with another content", wrong, []);
  }

  toString = () => "read back";
}

const id = fc.constantFrom(0, 0, 0, 1, 2, 3);
const gfn = fc.constantFrom(0, 1, 63, 64, 128, 192, 256, 512, 0x4_0000);
const pages = fc.constantFrom(1, 63, 64, 65, 128, 200);
const wantedSlot = fc.record({
  gfn,
  pages,
  at: fc.constantFrom(0, 0, 64, 300),
  flags: fc.constantFrom(0, LOG, LOG, LOG, READONLY, LOG | READONLY),
});
const touched = fc.oneof(
  fc.integer({ min: 0, max: 600 }),
  fc.integer({ min: 0, max: 255 }),
  fc.integer({ min: 0x4_0000, max: 0x4_0080 }),
);

/** Slots whose shape repeats, so that changes of existing ones are often taken. */
const usual = fc
  .tuple(id, fc.constantFrom(0, LOG, LOG), fc.constantFrom(0, 0, 1))
  .map(
    ([n, flags, move]) =>
      new SetSlot(n, { gfn: n * 256 + move * 1024, pages: 200, at: n * 200, flags }),
  );

/** Windows of a slot of 200 pages, and windows of no slot. */
const clearWindow = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      [0, 200],
      [0, 64],
      [0, 128],
      [64, 136],
      [64, 64],
      [128, 72],
      [192, 8],
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(0, 64, 1, 256), fc.constantFrom(0, 64, 128, 8, 201)),
  },
);
const clear = fc
  .tuple(id, clearWindow, fc.nat(50))
  .map(([n, [first = 0, count = 0], seed]) => new Clear(n, first, count, seed));

export const slotCommands: fc.Arbitrary<Command>[] = [
  usual,
  usual,
  fc.tuple(id, wantedSlot).map(([n, wanted]) => new SetSlot(n, wanted)),
  id.map((n) => new DeleteSlot(n)),
  fc.array(touched, { minLength: 1, maxLength: 30 }).map((list) => new Stores(list)),
  fc.array(touched, { minLength: 1, maxLength: 30 }).map((list) => new Stores(list)),
  id.map((n) => new Harvest(n)),
  id.map((n) => new Harvest(n)),
  id.map((n) => new Look(n)),
  clear,
  clear,
  fc.constant(new ReadBack()),
];

/** Before the random ones: a slot with a log and something in it. */
export const slotsBefore = (): Command[] => [
  new SetSlot(0, { gfn: 0, pages: 200, at: 0, flags: LOG }),
  new Stores([1, 5, 63, 64, 130, 199]),
];

/** After them: whatever they hid comes out. */
export const slotsAfter = (): Command[] => [
  ...[0, 1, 2, 3].flatMap((n) => [new Look(n), new Harvest(n), new Harvest(n)]),
  new Stores([0, 1, 2, 64, 199, 300, 520]),
  ...[0, 1, 2, 3].map((n) => new Harvest(n)),
  new ReadBack(),
];
