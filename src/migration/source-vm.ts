// Owns: what a session does to the VM that it moves away, so that all of it can be put back.
// HTTP thread, or inline.
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { Saved } from "../base/saved.js";
import { encodeSaved } from "../base/saved-codec.js";
import type { DirtyPages, MemoryMap, TrackingCommands } from "../runtime/index.js";
import { NO_PAGES } from "./dirty-pages.js";
import { isTransient } from "./failure.js";
import type { MovedEventfd, MovingVm, SavedEventfds, Sequences } from "./ports.js";
import { retry } from "./retry.js";
import { engineState } from "./state.js";

type ThrottleView = TrackingCommands["describeThrottle"][1];

export class SourceVm {
  readonly consumer: string;
  /** The target takes the VM's state as bytes. */
  isPacked = false;
  readonly #vm: MovingVm;
  readonly #clock: Clock;
  readonly #named: (saved: SavedEventfds) => readonly MovedEventfd[];
  #hold: Promise<{ readonly wasRunning: boolean }> | null = null;
  #heldMs: number | null = null;
  #wasRunning = false;
  #tracking: Promise<unknown> | null = null;
  #saved: Promise<Uint8Array> | null = null;
  /** What a cancelled session still does in the background must not touch the VM any more. */
  #isPutBack = false;
  /** Before the session slowed it down first. */
  #throttled: ThrottleView | null = null;

  /** @param named eventfds by what clients call them */
  constructor(
    session: string,
    vm: MovingVm,
    clock: Clock,
    named: (saved: SavedEventfds) => readonly MovedEventfd[],
  ) {
    this.#named = named;
    this.consumer = `migrations/${session}`;
    this.#vm = vm;
    this.#clock = clock;
  }

  get isHeld(): boolean {
    return this.#hold !== null;
  }

  /** When its vCPUs began to be held, on the monotonic clock. */
  get heldMs(): number | null {
    return this.#heldMs;
  }

  get sequences(): Sequences {
    const vm = this.#vm;
    return {
      read: async (object, first, count) =>
        (await vm.call("readSequences", { object, first, count })).value,
      write: async (object, pages, sequences) => {
        await vm.call("writeSequences", { object, pages, sequences });
      },
    };
  }

  async describe(): Promise<MemoryMap> {
    return (await this.#vm.call("describeMemory", {})).value;
  }

  async tracking(): Promise<TrackingCommands["describeTracking"][1]> {
    return (await this.#vm.call("describeTracking", {})).value;
  }

  /** @param method null: the best there is */
  async track(method: string | null): Promise<void> {
    const { consumer } = this;
    this.#check();
    this.#tracking = this.#vm.call("trackDirty", { consumer, on: true, method });
    await this.#tracking;
  }

  /** For a VM that is held throughout: only userspace may still write, and that rarely. */
  async trackIfPossible(): Promise<void> {
    try {
      await this.track(null);
    } catch {
      this.#tracking = null;
    }
  }

  async harvest(): Promise<DirtyPages> {
    if (this.#tracking === null) return NO_PAGES;
    return (await this.#vm.call("harvestDirty", { consumer: this.consumer })).value;
  }

  async throttle(percent: number, dirtyLimit: number): Promise<void> {
    this.#throttled ??= (await this.#vm.call("describeThrottle", {})).value;
    this.#check();
    await this.#vm.call("setThrottle", { percent, dirtyLimit });
  }

  /** May be called again: it is held once. */
  async hold(): Promise<void> {
    if (this.#hold === null) {
      this.#check();
      this.#heldMs = this.#clock.monotonicMs();
      const held = this.#vm.call("holdVm", { hold: true, why: this.consumer });
      this.#hold = held.then(({ value }) => value);
    }
    this.#wasRunning = (await this.#hold).wasRunning;
  }

  /** Whether somebody notices stores. */
  get isTracked(): boolean {
    return this.#tracking !== null;
  }

  /**
   * Of a held VM: all but memory, as bytes, and what nobody has sent yet.
   * @param lacksPages pages follow
   */
  async saveLast(
    lacksPages: boolean,
  ): Promise<{ readonly state: Promise<Uint8Array>; readonly dirty: Promise<DirtyPages> }> {
    await this.hold();
    const state = this.save(lacksPages);
    state.catch(() => {});
    if (this.#tracking === null) return { state, dirty: Promise.resolve(NO_PAGES) };
    // Asked for at once, done one after the other: saving writes tables of interrupts into guest
    // memory, which the harvest finds.
    const harvest = { consumer: this.consumer, last: true };
    const dirty = this.#vm.call("harvestDirty", harvest).then(({ value }) => value);
    dirty.catch(() => {});
    return { state, dirty };
  }

  /**
   * Of a held VM: all but memory, as bytes. Once: it writes tables into guest memory.
   * @param lacksPages pages follow it
   */
  save(lacksPages: boolean): Promise<Uint8Array> {
    this.#saved ??= this.#save(lacksPages);
    return this.#saved;
  }

  async #save(lacksPages: boolean): Promise<Uint8Array> {
    const wasRunning = this.#wasRunning;
    this.#check();
    const { parts, eventfds } = (await this.#vm.call("saveState", { pack: this.isPacked })).value;
    const own = engineState({ wasRunning, eventfds: this.#named(eventfds), lacksPages });
    const all: readonly Saved[] = [...parts, own];
    return encodeSaved(all);
  }

  /** The VM goes on here as if nothing had been; each step whatever became of the others. */
  async putBack(): Promise<void> {
    this.#isPutBack = true;
    await this.letGo();
    await this.unthrottle();
    await this.untrack();
  }

  async letGo(): Promise<void> {
    if (this.#hold === null) return;
    await this.#hold.catch(() => {});
    await this.#calmly(() => this.#vm.call("holdVm", { hold: false, why: this.consumer }));
    this.#hold = null;
  }

  async unthrottle(): Promise<void> {
    if (this.#throttled === null) return;
    const { percent, dirtyLimit } = this.#throttled;
    await this.#calmly(() => this.#vm.call("setThrottle", { percent, dirtyLimit }));
  }

  async untrack(): Promise<void> {
    if (this.#tracking === null) return;
    const { consumer } = this;
    await this.#tracking.catch(() => {});
    const off = { consumer, on: false, method: null };
    await this.#calmly(() => this.#vm.call("trackDirty", off));
    this.#tracking = null;
  }

  #check(): void {
    assert(!this.#isPutBack, "A session that has ended must leave its VM alone.");
  }

  /** A VM that is gone needs nothing put back; one that is busy is asked again. */
  async #calmly(act: () => Promise<unknown>): Promise<void> {
    await retry(this.#clock, { isWorth: isTransient }, act).catch(() => {});
  }
}
