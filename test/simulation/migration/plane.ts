// The page stream of simulated hosts: frames are copied when sent and applied when they arrive.
import { createHash } from "node:crypto";
import { PageRequests } from "../../../src/base/page-requests.js";
import type {
  DataPlane,
  Demanding,
  Incoming,
  Outgoing,
  Pushing,
  PushTraffic,
  SentRound,
  Traffic,
} from "../../../src/migration/index.js";
import { PeerError } from "../../../src/migration/index.js";
import type { DirtyPages, MemoryMap } from "../../../src/runtime/index.js";
import type { Net } from "./net.js";
import type { VmKind } from "./sim-vm.js";
import type { Life, World } from "./world.js";

type OutgoingSpec = Parameters<DataPlane["open"]>[0];
type IncomingSpec = Parameters<DataPlane["accept"]>[0];

const GIVE_UP_MS = 1_500;

function digestOf(map: MemoryMap): string {
  const hash = createHash("sha1");
  for (const { pa, bytes } of map.blocks) {
    hash.update(new Uint8Array(map.memory.buffer, pa, bytes).slice());
  }
  return hash.digest("hex");
}

const ZEROS = new Uint8Array(2 ** 20);

function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0;
}

/** Pages of one object that lie together. */
interface PageRun {
  readonly object: number;
  readonly first: number;
  readonly count: number;
  /** Where its bytes are. */
  readonly at: number;
}

/** What a frame does with its pages: stores all, stores those that are absent, discards. */
type FrameKind = "store" | "if-absent" | "discard";

const NOTHING = { pagesSent: 0, pagesZero: 0, pagesDuplicate: 0, bytes: 0 };

class SimIncoming implements Incoming, Demanding {
  readonly url: string;
  readonly secret = "s";
  readonly life: Life;
  readonly present = new Map<number, Int32Array<SharedArrayBuffer>>();
  /** Where the source is, once it has connected. */
  from: MemoryMap | null = null;
  isClosed = false;
  next = 0;
  #traffic: Traffic = NOTHING;
  #asked = 0;
  #news: () => void = () => {};
  readonly #ring = new PageRequests();
  readonly #map: MemoryMap;
  readonly #world: World;

  constructor(url: string, life: Life, map: MemoryMap, world: World) {
    this.url = url;
    this.life = life;
    this.#map = map;
    this.#world = world;
    for (const { object, bytes } of map.blocks) {
      const words = Math.ceil(bytes / map.pageSize / 32);
      this.present.set(object, new Int32Array(new SharedArrayBuffer(words * 4)));
    }
  }

  get requests(): SharedArrayBuffer {
    return this.#ring.shared;
  }

  /** Who was asked for, one after the other. */
  takeRequest(): { readonly object: number; readonly page: number } | null {
    const words = new Int32Array(this.requests);
    if (this.#asked === words[0]) return null;
    const at = 2 + (this.#asked % 1024) * 2;
    this.#asked += 1;
    words[1] = this.#asked;
    return { object: words[at] ?? 0, page: words[at + 1] ?? 0 };
  }

  request(object: number, page: number): void {
    this.#ring.ask(object, page);
  }

  arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.#news = resolve;
    });
  }

  /** The target's thread is the source's: it can't wait for itself. */
  fetch = (object: number, page: number): void => {
    const { from } = this;
    const block = from?.blocks.find((one) => one.object === object);
    if (from === null || block === undefined) throw new Error("nobody has the page");
    const at = block.pa + page * from.pageSize;
    const bytes = new Uint8Array(from.memory.buffer).slice(at, at + from.pageSize);
    this.#store({ object, first: page, count: 1, at }, bytes, "if-absent");
  };

  #store({ object, first, count }: PageRun, bytes: Uint8Array, kind: FrameKind): void {
    const { pageSize, memory, blocks } = this.#map;
    const block = blocks.find((one) => one.object === object);
    const words = this.present.get(object);
    if (block === undefined || words === undefined) throw new Error("no such object");
    for (let page = first; page < first + count; page++) {
      const [word, bit] = [page >> 5, 1 << (page & 31)];
      if (kind === "discard") words[word]! &= ~bit;
      else if (kind === "store" || (words[word]! & bit) === 0) {
        const from = (page - first) * pageSize;
        const to = new Uint8Array(memory.buffer, block.pa + page * pageSize, pageSize);
        to.set(bytes.subarray(from, from + pageSize));
        words[word]! |= bit;
      }
    }
  }

  /** A frame is applied once, in its turn. */
  apply(seq: number, run: PageRun, bytes: Uint8Array, kind: FrameKind): void {
    if (this.isClosed || !this.life.isAlive || seq !== this.next) return;
    this.next += 1;
    const { pagesSent, pagesDuplicate, bytes: before } = this.#traffic;
    const isStore = kind === "store";
    this.#traffic = {
      ...this.#traffic,
      bytes: before + bytes.length,
      pagesSent: pagesSent + (kind === "discard" ? 0 : run.count),
      pagesDuplicate: pagesDuplicate + (isStore ? this.#countPresent(run) : 0),
    };
    this.#store(run, bytes, kind);
    if (kind === "if-absent") this.#news();
  }

  received = (): Traffic => this.#traffic;

  #countPresent({ object, first, count }: PageRun): number {
    const words = this.present.get(object);
    const pages = Array.from({ length: count }, (_, at) => first + at);
    return pages.filter((page) => ((words?.[page >> 5] ?? 0) >> (page & 31)) & 1).length;
  }

  async digest(): Promise<string> {
    await this.#world.sleep(0.5);
    return digestOf(this.#map);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.#news();
  }
}

/** Runs of at most so many pages: where they begin, and bytes. */
function* runs(map: MemoryMap, pages: DirtyPages | null, most: number): Generator<PageRun> {
  const { pageSize, blocks } = map;
  const asked = new Map((pages?.blocks ?? []).map((block) => [block.object, block.bitmap]));
  for (const { object, bytes, pa } of blocks) {
    const bitmap = asked.get(object);
    if (pages !== null && bitmap === undefined) continue;
    let start = -1;
    const count = bytes / pageSize;
    for (let page = 0; page <= count; page++) {
      const isOn = page < count && (bitmap === undefined || (bitmap[page >> 3]! >> (page & 7)) & 1);
      if (isOn && start < 0) start = page;
      if (start >= 0 && (!isOn || page - start === most)) {
        yield { object, first: start, count: page - start, at: pa + start * pageSize };
        start = isOn ? page : -1;
      }
    }
  }
}

/** Frames of a round that has ended before they went. */
function dirtyPages({ blocks, pageSize }: MemoryMap, left: readonly PageRun[]): DirtyPages {
  const all = blocks.map(({ object, bytes }) => {
    const bitmap = new Uint8Array(Math.ceil(bytes / pageSize / 64) * 8);
    const mine = left.filter((run) => run.object === object);
    for (const { first, count } of mine) {
      for (let page = first; page < first + count; page++) bitmap[page >> 3]! |= 1 << (page & 7);
    }
    return { object, pages: mine.reduce((sum, { count }) => sum + count, 0), bitmap };
  });
  const some = all.filter(({ pages }) => pages > 0);
  return { blocks: some, pages: some.reduce((sum, { pages }) => sum + pages, 0) };
}

class SimOutgoing implements Outgoing, Pushing {
  readonly #spec: OutgoingSpec;
  readonly #to: SimIncoming;
  readonly #parts: PlaneParts;
  /** Post-copy: what the target lacks. */
  readonly #left = new Map<string, PageRun>();
  #limit: number;
  #isClosed = false;
  #isRoundOver = false;
  #pushed = 0;
  #requested = 0;

  constructor(spec: OutgoingSpec, to: SimIncoming, parts: PlaneParts) {
    this.#spec = spec;
    this.#to = to;
    this.#parts = parts;
    this.#limit = spec.bandwidthBytesPerSecond;
    to.from = spec.memory;
  }

  async send(
    pages: DirtyPages | null,
    progress: (sent: Traffic) => void,
    leave = 0,
  ): Promise<SentRound> {
    const { memory } = this.#spec;
    let sent = NOTHING;
    const left = [...runs(memory, pages, this.#parts.kind.framePages)];
    let pagesLeft = left.reduce((sum, { count }) => sum + count, 0);
    this.#isRoundOver = false;
    while (pagesLeft > leave && !this.#isRoundOver) {
      const run = left.shift();
      if (run === undefined) break;
      pagesLeft -= run.count;
      sent = await this.#frame(run, "store", sent);
      progress(sent);
    }
    return { ...sent, unsent: dirtyPages(memory, left) };
  }

  endRound(): void {
    this.#isRoundOver = true;
  }

  async discard(pages: DirtyPages): Promise<void> {
    const { framePages } = this.#parts.kind;
    for (const run of runs(this.#spec.memory, pages, framePages)) {
      await this.#frame(run, "discard", NOTHING);
    }
  }

  async push(
    pages: DirtyPages | null,
    progress: (sent: PushTraffic) => void,
  ): Promise<PushTraffic> {
    const added = pages === null ? [] : runs(this.#spec.memory, pages, 1);
    for (const run of added) this.#left.set(`${run.object}:${run.first}`, run);
    let sent = NOTHING;
    const told = () => ({ ...sent, pagesPushed: this.#pushed, pagesRequested: this.#requested });
    while (this.#left.size > 0) {
      const asked = this.#to.takeRequest();
      const wanted = asked === null ? undefined : this.#left.get(`${asked.object}:${asked.page}`);
      const [next] = this.#left.values();
      const run = wanted ?? next;
      if (run === undefined) break;
      sent = await this.#frame(run, "if-absent", sent);
      this.#left.delete(`${run.object}:${run.first}`);
      if (wanted === undefined) this.#pushed += 1;
      else this.#requested += 1;
      progress(told());
    }
    return told();
  }

  async #frame(run: PageRun, kind: FrameKind, sent: Traffic): Promise<Traffic> {
    const { memory } = this.#spec;
    const { world } = this.#parts;
    const length = kind === "discard" ? 0 : run.count * memory.pageSize;
    const bytes = new Uint8Array(memory.memory.buffer).slice(run.at, run.at + length);
    // What was cut off is sent again, with the same number.
    const seq = this.#to.next;
    const { bytesPerMs } = this.#parts.kind;
    const perMs = this.#limit === 0 ? bytesPerMs : Math.min(bytesPerMs, this.#limit / 1000);
    await this.#sleep(length / perMs + world.between(0.01, 0.1));
    if (world.hits("frame-lost", `frame ${seq}`)) await this.#sleep(world.between(5, 80));
    await this.#connected(seq);
    this.#to.apply(seq, run, bytes, kind);
    if (world.hits("frame-duplicated", `frame ${seq}`)) {
      world.at(world.between(0, 300), () => this.#to.apply(seq, run, bytes, kind));
    }
    const count = length / memory.pageSize;
    const zero = isZero(bytes) ? count : 0;
    const { pagesSent, pagesZero } = sent;
    const pages = { pagesSent: pagesSent + count - zero, pagesZero: pagesZero + zero };
    return { ...sent, ...pages, bytes: sent.bytes + length + 16 };
  }

  /** @throws PeerError once it has taken too long */
  async #connected(seq: number): Promise<void> {
    const { world, net } = this.#parts;
    const dead = () => new PeerError("stream-dead", "The page stream is dead.", true);
    if (world.hits("stream-dead", `frame ${seq}`)) throw dead();
    const giveUpMs = world.now + GIVE_UP_MS;
    while (net.isCut || !this.#to.life.isAlive || this.#to.isClosed) {
      if (world.now > giveUpMs) throw dead();
      await this.#sleep(50);
    }
  }

  async #sleep(ms: number): Promise<void> {
    const { world, life } = this.#parts;
    if (this.#isClosed) throw new PeerError("stream-closed", "It was closed.", false);
    await world.sleep(ms);
    if (!life.isAlive) await new Promise(() => {});
    if (this.#isClosed) throw new PeerError("stream-closed", "It was closed.", false);
  }

  limit(bytesPerSecond: number): void {
    this.#limit = bytesPerSecond;
  }

  async digest(): Promise<string> {
    await this.#sleep(0.5);
    return digestOf(this.#spec.memory);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }
}

interface PlaneParts {
  readonly world: World;
  readonly net: Net;
  readonly life: Life;
  readonly kind: VmKind;
}

/** The listeners of all hosts. */
export type Listeners = Map<string, SimIncoming>;

export class SimPlane implements DataPlane {
  readonly #parts: PlaneParts;
  readonly #listeners: Listeners;

  constructor(parts: PlaneParts, listeners: Listeners) {
    this.#parts = parts;
    this.#listeners = listeners;
  }

  async open(spec: OutgoingSpec): Promise<SimOutgoing> {
    const { world, life, net } = this.#parts;
    await world.sleep(world.between(0.1, 2));
    if (!life.isAlive) await new Promise(() => {});
    const to = this.#listeners.get(spec.url);
    if (to === undefined || net.isCut || !to.life.isAlive || to.isClosed) {
      throw new PeerError("stream-refused", "Nobody listens for pages.", true);
    }
    return new SimOutgoing(spec, to, this.#parts);
  }

  async accept(spec: IncomingSpec): Promise<SimIncoming> {
    const { world, life } = this.#parts;
    await world.sleep(world.between(0.1, 2));
    const incoming = new SimIncoming(`sim:${spec.session}`, life, spec.memory, world);
    this.#listeners.set(incoming.url, incoming);
    return incoming;
  }

  async close(): Promise<void> {}
}
