// The client of one slot's dirty log: harvests whose replies get lost, reads and CLEARs of parts.
//
//   legacy   harvest = report and acquisition at once; kept by the service until acknowledged
//   manual   GET or harvest = report; CLEAR of some of its pages = acquisition
import type { KvmError, ServiceError } from "../../../src/base/errors.js";
import type { Harvest } from "../../../src/vmm/index.js";
import { bitOf } from "../oracle/oracle.js";
import { chance, type World } from "../world.js";

interface Asked {
  readonly key: string | null;
  readonly after: string | null;
}

interface ClearArgs {
  readonly firstPage: number;
  readonly numPages: number;
  readonly bitmap: Uint8Array;
}

export class LogClient {
  readonly slot: number;
  readonly #world: World;
  #keys = 0;
  /** Harvest that the client has and has not acknowledged. */
  #last: string | null = null;
  /** Request whose reply was lost, to be sent again. */
  #unanswered: Asked | null = null;
  /** Id of a harvest whose body was lost: it can be fetched. */
  #fetchable: string | null = null;
  #inFlight = 0;
  /** When each harvest was really taken, and its bytes. */
  readonly #issued = new Map<string, { readonly time: number; readonly bitmap: Uint8Array }>();
  /** Newest report of a manual-protect log. */
  #report: { readonly npages: number; readonly bitmap: Uint8Array } | null = null;
  readonly #lostClears: ClearArgs[] = [];
  /** Last harvest received. */
  #newest: Harvest | null = null;
  /** Harvests received that were no repetition. */
  #fresh = 0;

  constructor(world: World, slot: number) {
    this.#world = world;
    this.slot = slot;
  }

  get #isManual(): boolean {
    return this.#world.mode.manual !== 0;
  }

  /** Whether this mode has a bitmap to read at all. */
  get isReadable(): boolean {
    return this.#world.mode.ring !== "only";
  }

  act(): void {
    const kind = this.#world.prng.below(100);
    if (!this.isReadable) {
      if (kind < 5) this.harvest(false);
    } else if (!this.#isManual) {
      if (kind < 85) this.harvest(chance(this.#world, 25));
      else this.clear(chance(this.#world, 20));
    } else if (kind < 25) this.harvest(chance(this.#world, 25));
    else if (kind < 45) this.read();
    else this.clear(chance(this.#world, 15));
  }

  // ── harvests ────────────────────────────────────────────────────────────────────────────────

  /** @param isLost whether the reply never reaches the client */
  harvest(isLost: boolean): void {
    if (this.#inFlight > 1) return;
    if (this.#fetchable !== null && chance(this.#world, 50)) {
      this.#fetch(this.#fetchable);
      return;
    }
    const asked = this.#nextRequest();
    this.#unanswered = asked;
    this.#inFlight++;
    this.#world.link.call("harvestDirtyLog", { slot: this.slot, ...asked }, (reply) => {
      this.#inFlight--;
      if (!reply.ok) {
        this.#refused(asked, reply.error);
        return;
      }
      this.#issue(reply.value);
      if (!isLost) this.#receive(reply.value);
      else if (chance(this.#world, 30)) this.#fetchable = reply.value.id;
    });
  }

  /** The lost request again, or the next one; a retry may come with a key of its own. */
  #nextRequest(): Asked {
    const lost = this.#unanswered;
    const key = `k${++this.#keys}`;
    if (lost !== null)
      return lost.after !== null && chance(this.#world, 30) ? { ...lost, key } : lost;
    const { prng, link } = this.#world;
    if (this.#last !== null && prng.below(4) === 0) {
      link.call("acknowledgeHarvest", { slot: this.slot, id: this.#last });
    }
    return { key, after: this.#last };
  }

  #refused(asked: Asked, error: KvmError | ServiceError): void {
    // Nothing was taken. A request that has to wait for another's acknowledgement learns its id.
    if (this.#unanswered === asked) this.#unanswered = null;
    if (error.code !== "harvest-unacknowledged" || !("extensions" in error)) return;
    const id = error.extensions["unacknowledged"];
    if (typeof id === "string") this.#fetch(id);
  }

  #fetch(id: string): void {
    this.#world.link.call("getHarvest", { slot: this.slot, id }, (reply) => {
      if (reply.ok) this.#receive(reply.value);
      else if (this.#fetchable === id) this.#fetchable = null;
    });
  }

  /** The service took the log; whether the client learns of it is another matter. */
  #issue(harvest: Harvest): void {
    const { oracle } = this.#world;
    const known = this.#issued.get(harvest.id);
    if (known === undefined) {
      if (harvest.repeated) oracle.fail(`harvest ${harvest.id} repeats what was never given`);
      this.#issued.set(harvest.id, { time: oracle.now(), bitmap: harvest.bitmap.slice() });
    } else if (!harvest.repeated) {
      oracle.fail(`harvest id ${harvest.id} was given twice`);
    }
  }

  #receive(harvest: Harvest): void {
    const { oracle } = this.#world;
    const issued = this.#issued.get(harvest.id);
    if (issued === undefined || Buffer.compare(issued.bitmap, harvest.bitmap) !== 0) {
      oracle.fail(`harvest ${harvest.id} of slot ${this.slot} is not what was taken`);
      return;
    }
    if (!harvest.repeated) this.#fresh++;
    this.#newest = harvest;
    this.#last = harvest.id;
    this.#unanswered = null;
    this.#fetchable = null;
    if (this.#isManual) this.#report = harvest;
    else this.#acquireBits(harvest.bitmap, 0, harvest.npages, issued.time, true);
  }

  #acquireBits(
    bits: Uint8Array,
    first: number,
    count: number,
    time: number,
    isReport: boolean,
  ): void {
    const { oracle, content } = this.#world;
    for (let at = 0; at < count; at++) {
      if (!bitOf(bits, at)) continue;
      oracle.acquire(this.slot, first + at, time, isReport);
      content.copy(this.slot, first + at);
    }
  }

  // ── manual protect ──────────────────────────────────────────────────────────────────────────

  read(): void {
    const asked = this.#world.oracle.now();
    this.#world.link.call("getDirtyLog", { slot: this.slot }, (reply) => {
      if (!reply.ok || chance(this.#world, 10)) return;
      this.#report = reply.value;
      this.#takeClean(asked, reply.value.bitmap);
    });
  }

  /** What a deferred CLEAR named and a later GET does not hold is clean: as good as CLEANED. */
  #takeClean(asked: number, bitmap: Uint8Array): void {
    const { deferred, oracle, content } = this.#world;
    if (deferred.count === 0 || chance(this.#world, 50)) return;
    const time = oracle.now();
    for (const offset of deferred.asked(this.slot, asked, (at) => bitOf(bitmap, at))) {
      oracle.acquire(this.slot, offset, time, false);
      content.copy(this.slot, offset);
    }
  }

  /** CLEAR of a part of the last report, sometimes naming more than it holds. */
  clear(isLost: boolean): void {
    const lost = this.#lostClears.pop();
    this.#send(lost ?? this.#drawClear(), isLost);
  }

  #drawClear(): ClearArgs {
    const { prng, oracle } = this.#world;
    const report = this.#report;
    const npages = report?.npages ?? oracle.model.slot(this.slot).current?.npages ?? 64;
    const words = Math.ceil(npages / 64);
    const firstWord = chance(this.#world, 50) ? 0 : prng.below(words);
    const isToEnd = chance(this.#world, 60);
    const end = isToEnd ? words : firstWord + 1 + prng.below(words - firstWord);
    const firstPage = firstWord * 64;
    const numPages = Math.min(end * 64, npages) - firstPage;
    const bitmap = new Uint8Array((end - firstWord) * 8);
    const keep = prng.pick([100, 100, 60, 20]);
    for (let at = 0; at < numPages; at++) {
      const isReported = report === null || bitOf(report.bitmap, firstPage + at);
      if (isReported ? prng.below(100) >= keep : prng.below(100) >= 2) continue;
      bitmap[at >>> 3]! |= 1 << (at & 7);
    }
    // Bits beyond the end of the slot name nothing.
    if (chance(this.#world, 20)) bitmap[bitmap.length - 1]! |= 0x80;
    // KVM refuses a CLEAR that begins within a word.
    const skew = this.#world.mode.clean !== undefined && chance(this.#world, 4) ? 1 : 0;
    const odd = skew * Math.min(numPages - 1, 1 + prng.below(63));
    return { firstPage: firstPage + odd, numPages: numPages - (isToEnd ? odd : 0), bitmap };
  }

  #send(args: ClearArgs, isLost: boolean, mayDefer = true): void {
    const { link, oracle, mode } = this.#world;
    const { firstPage, numPages, bitmap } = args;
    const sent = { slot: this.slot, firstPage: BigInt(firstPage), numPages, bitmap };
    if (mayDefer && mode.clean === "async" && chance(this.#world, 85)) {
      link.call("deferDirtyLogClear", sent, (reply) => {
        if (!reply.ok) return;
        if (isLost) this.#lostClears.push(args);
        if (reply.value.deferred > 0) this.#wait(args, isLost);
        else if (!isLost) this.#acquireBits(bitmap, firstPage, numPages, oracle.now(), false);
      });
      return;
    }
    link.call("clearDirtyLog", sent, (reply) => {
      if (!reply.ok) return;
      if (isLost) this.#lostClears.push(args);
      else this.#acquireBits(bitmap, firstPage, numPages, oracle.now(), false);
    });
  }

  /** The pages of a CLEAR are acquired later; whose answer got lost learns nothing of CLEANED. */
  #wait({ firstPage, numPages, bitmap }: ClearArgs, isLost: boolean): void {
    const { deferred, oracle } = this.#world;
    const pages: number[] = [];
    for (let at = 0; at < numPages && !isLost; at++) {
      if (bitOf(bitmap, at)) pages.push(firstPage + at);
    }
    deferred.answered({ slot: this.slot, firstPage, numPages }, pages, oracle.now());
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────

  /** Bits of the newest report; none are set in legacy mode, where a report acquires. */
  isReported(offset: number): boolean {
    return this.#isManual && this.#report !== null && bitOf(this.#report.bitmap, offset);
  }

  /** Pages that the client will still acquire by itself: a lost harvest, a CLEAR to repeat. */
  isWaiting(offset: number): boolean {
    if (this.#world.deferred.isWaiting(this.slot, offset)) return true;
    for (const { firstPage, bitmap } of this.#lostClears) {
      if (offset >= firstPage && bitOf(bitmap, offset - firstPage)) return true;
    }
    const id = [...this.#issued.keys()].pop();
    if (this.#isManual || id === undefined || id === this.#last) return false;
    try {
      return bitOf(this.#world.link.instance.machine.harvests.get(this.slot, id).bitmap, offset);
    } catch {
      return false;
    }
  }

  /**
   * With every vCPU out of RUN: fetches what was lost, then takes one last report.
   * @param settle runs the VM until every command is answered
   */
  finish(settle: () => void): void {
    if (!this.isReadable) return;
    this.#fetchable = null;
    while (this.#lostClears.length > 0) {
      this.#send(this.#lostClears.pop()!, false, false);
      settle();
    }
    if (this.#isManual) {
      this.#report = null;
      this.#world.link.call("getDirtyLog", { slot: this.slot }, (reply) => {
        if (reply.ok) this.#report = reply.value;
      });
      settle();
      return;
    }
    // What comes first may be a lost harvest, or its refusal until that one is fetched.
    const before = this.#fresh;
    for (let tries = 0; tries < 4 && this.#fresh === before; tries++) {
      this.harvest(false);
      settle();
    }
  }

  /**
   * With the VM at rest: acquires the whole last report, then looks again. Reports may hold too
   * much while vCPUs run, but what was cleared and not stored to since is clean.
   */
  clearAll(settle: () => void): void {
    const { oracle } = this.#world;
    const report = this.#report;
    if (!this.isReadable || oracle.model.slot(this.slot).current?.isLogging !== true) return;
    if (this.#isManual && report !== null) {
      this.#send({ firstPage: 0, numPages: report.npages, bitmap: report.bitmap }, false, false);
      settle();
    }
    this.finish(settle);
    const again = this.#isManual ? this.#report : this.#newest;
    const left = again?.bitmap.findIndex((byte) => byte !== 0) ?? -1;
    if (left >= 0) oracle.fail(`slot ${this.slot} is dirty near page ${left * 8} after a clear`);
  }
}
