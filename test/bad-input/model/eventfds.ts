// Owns: a simple model of eventfds and ioeventfds: counters, and which stores feed them.
// Test process.
import fc from "fast-check";
import { expectErrno, expectSame, type Guest, hex } from "./guest.js";

const COUNT_MAX = (1n << 64n) - 2n;
const FDS = 3;
/** It gives 1 a read. */
const SEMAPHORE = 2;
const DATAMATCH = 1;

interface Binding {
  readonly fd: number;
  readonly address: number;
  readonly length: number;
  /** null: any value. */
  readonly match: number | null;
}

export interface EventfdsModel {
  readonly ids: string[];
  readonly counts: bigint[];
  /** Last read of each, to be acknowledged by the next. */
  readonly reads: (string | null)[];
  readonly bindings: Binding[];
}

/** A VM without memory, so that every store is one to a device, and eventfds, one a semaphore. */
export async function furnishEventfds(guest: Guest): Promise<EventfdsModel> {
  await guest.must("PUT", "/vcpus/0");
  const ids: string[] = [];
  for (let i = 0; i < FDS; i++) {
    const body = i === SEMAPHORE ? { semaphore: true } : {};
    ids.push((await guest.caller.json("POST", "/v1/eventfds", body)).json.id);
  }
  return { ids, counts: ids.map(() => 0n), reads: ids.map(() => null), bindings: [] };
}

type Command = fc.AsyncCommand<EventfdsModel, Guest>;

class Write implements Command {
  readonly #fd: number;
  readonly #value: bigint;

  constructor(fd: number, value: bigint) {
    this.#fd = fd;
    this.#value = value;
  }

  check = () => true;

  async run(model: EventfdsModel, guest: Guest): Promise<void> {
    const path = `/v1/eventfds/${model.ids[this.#fd]}/writes`;
    const answer = await guest.caller.json("POST", path, { value: hex(this.#value) });
    const sum = (model.counts[this.#fd] ?? 0n) + this.#value;
    if (this.#value > COUNT_MAX) return expectErrno(this.toString(), answer, "EINVAL");
    if (sum > COUNT_MAX) {
      if (answer.status !== 409) throw new Error(`${this}: ${answer.text}`);
      return;
    }
    expectErrno(this.toString(), answer, null);
    model.counts[this.#fd] = sum;
    expectSame(this.toString(), [answer.json.count], [hex(sum)]);
  }

  toString = () => `write ${this.#fd} ${hex(this.#value)}`;
}

class Read implements Command {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  check = () => true;

  async run(model: EventfdsModel, guest: Guest): Promise<void> {
    const last = model.reads[this.#fd] ?? null;
    const after = last === null ? "" : `?after=${last}`;
    const path = `/v1/eventfds/${model.ids[this.#fd]}/reads${after}`;
    const answer = await guest.caller.json("POST", path);
    const count = model.counts[this.#fd] ?? 0n;
    if (count === 0n) return expectErrno(this.toString(), answer, "EAGAIN");
    expectErrno(this.toString(), answer, null);
    const value = this.#fd === SEMAPHORE ? 1n : count;
    expectSame(this.toString(), [answer.json.value], [hex(value)]);
    model.counts[this.#fd] = count - value;
    model.reads[this.#fd] = answer.json.id;
  }

  toString = () => `read ${this.#fd}`;
}

class Peek implements Command {
  check = () => true;

  async run(model: EventfdsModel, guest: Guest): Promise<void> {
    for (const [fd, id] of model.ids.entries()) {
      const { json } = await guest.caller.get(`/v1/eventfds/${id}`);
      expectSame(`peek ${fd}`, [json.count], [hex(model.counts[fd] ?? 0n)]);
    }
  }

  toString = () => "peek";
}

function isSame(a: Binding, b: Binding): boolean {
  return a.fd === b.fd && a.address === b.address && a.length === b.length && a.match === b.match;
}

/** Whether some store would match both. */
function collides(a: Binding, b: Binding): boolean {
  if (a.address !== b.address) return false;
  if (a.length === 0 || b.length === 0) return true;
  return a.length === b.length && (a.match === null || b.match === null || a.match === b.match);
}

class Bind implements Command {
  readonly #binding: Binding;
  readonly #isOff: boolean;

  constructor(binding: Binding, isOff: boolean) {
    this.#binding = binding;
    this.#isOff = isOff;
  }

  check = () => true;

  async run(model: EventfdsModel, guest: Guest): Promise<void> {
    const { fd, address, length, match } = this.#binding;
    const datamatch = match === null ? {} : { datamatch: hex(match) };
    const flags = (match === null ? 0 : DATAMATCH) + (this.#isOff ? 4 : 0);
    const body = { eventfd: model.ids[fd], addr: hex(address), len: length, flags, ...datamatch };
    const answer = await guest.ask("POST", "/ioeventfds", body);
    expectErrno(this.toString(), answer, this.#refusal(model));
    if (answer.status >= 400) return;
    if (!this.#isOff) model.bindings.push(this.#binding);
    else {
      const at = model.bindings.findIndex((known) => isSame(known, this.#binding));
      model.bindings.splice(at, 1);
    }
  }

  #refusal(model: EventfdsModel): string | null {
    const { length, match } = this.#binding;
    const { bindings } = model;
    // Taking one away checks nothing but whether it is there.
    if (this.#isOff) return bindings.some((b) => isSame(b, this.#binding)) ? null : "ENOENT";
    if (![0, 1, 2, 4, 8].includes(length)) return "EINVAL";
    if (length === 0 && match !== null) return "EINVAL";
    return bindings.some((b) => collides(b, this.#binding)) ? "EEXIST" : null;
  }

  toString = () => `${this.#isOff ? "unbind" : "bind"} ${JSON.stringify(this.#binding)}`;
}

class Store implements Command {
  readonly #address: number;
  readonly #length: 1 | 2 | 4 | 8;
  readonly #value: number;

  constructor(address: number, length: 1 | 2 | 4 | 8, value: number) {
    this.#address = address;
    this.#length = length;
    this.#value = value;
  }

  check = (model: Readonly<EventfdsModel>) => model.counts.every((n) => n < COUNT_MAX - 1n);

  async run(model: EventfdsModel, guest: Guest): Promise<void> {
    const store = { address: this.#address, length: this.#length, value: this.#value };
    const { mmio } = await guest.store([store]);
    const hit = model.bindings.find(
      (b) =>
        b.address === this.#address &&
        (b.length === 0 || b.length === this.#length) &&
        (b.match === null || b.match === this.#value),
    );
    expectSame(this.toString(), mmio, hit === undefined ? [hex(this.#address)] : []);
    if (hit !== undefined) model.counts[hit.fd] = (model.counts[hit.fd] ?? 0n) + 1n;
  }

  toString = () => `store ${hex(this.#address)} ${this.#length} ${this.#value}`;
}

const fd = fc.integer({ min: 0, max: FDS - 1 });
const address = fc.constantFrom(0x1000, 0x1004, 0x2000);
const value = fc.constantFrom(0, 1, 7);
const binding = fc.record({
  fd,
  address,
  length: fc.constantFrom(0, 1, 2, 4, 4, 4, 8, 3),
  match: fc.option(value),
});

export const eventfdCommands: fc.Arbitrary<Command>[] = [
  fc
    .tuple(fd, fc.constantFrom(0n, 1n, 5n, COUNT_MAX, COUNT_MAX + 1n))
    .map(([n, v]) => new Write(n, v)),
  fd.map((n) => new Read(n)),
  fd.map((n) => new Read(n)),
  fc.constant(new Peek()),
  fc.tuple(binding, fc.constant(false)).map(([b, off]) => new Bind(b, off)),
  binding.map((b) => new Bind(b, false)),
  binding.map((b) => new Bind(b, true)),
  fc.tuple(address, fc.constantFrom(1, 2, 4, 4, 8), value).map(([a, n, v]) => new Store(a, n, v)),
  fc.tuple(address, fc.constantFrom(4, 8), value).map(([a, n, v]) => new Store(a, n, v)),
];

export const eventfdsAfter = (): Command[] => [
  new Peek(),
  new Read(0),
  new Read(SEMAPHORE),
  new Store(0x1000, 4, 1),
  new Store(0x2000, 8, 0),
  new Peek(),
];
