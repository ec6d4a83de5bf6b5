// Owns: the synthetic PE: does a program's accesses through the host CPU's MMU, and stops at faults
// exactly where a real PE would. VM thread.
//
//   next access ─ translate (twice when it straddles a page) ─ commit ─ retire
//                     └─ fault: nothing retired; the same access is tried again on re-entry
import { assert } from "../../base/assert.js";
import type { Saved } from "../../base/saved.js";
import type { GuestEngine, Stop } from "../engine.js";
import type { Host } from "../host.js";
import type { HostCpu } from "../host-cpu.js";
import { UNBACKED_BASE } from "../host-memory.js";
import type { AccessSource, CurrentAccess } from "./program.js";

/** Told of every committed store; the oracle of the simulation listens here. */
export type StoreObserver = (ipa: number, length: number, pa: number) => void;

/**
 * Accesses of one guest slice: between two slices commands are applied, so a kick takes effect
 * within this many. From 250 to 4,000 stores are equally fast, and answers come sooner.
 */
const SLICE_ACCESSES = 500;

export class SyntheticEngine implements GuestEngine {
  readonly kind = "synthetic";
  readonly sliceMax = SLICE_ACCESSES;
  /** Accesses of the present program that have retired. */
  completed = 0;
  finished = true;
  /** Accesses retired in the engine's life. */
  retired = 0;
  observer: StoreObserver | null = null;
  readonly loads: bigint[] = [];
  readonly #host: Host;
  #source: AccessSource | null = null;
  /** The access fetched but not retired yet. */
  readonly current: CurrentAccess = { ipa: 0, length: 1, isWrite: false, lo: 0, hi: 0 };
  #fetched = false;

  constructor(host: Host) {
    this.#host = host;
  }

  get program(): "none" | "accesses" | "pattern" {
    return this.#source?.kind ?? "none";
  }

  /** Starts a program; an unfinished one is dropped, its half-done access with it. */
  start(source: AccessSource): void {
    this.#source = source;
    this.completed = 0;
    this.finished = false;
    this.loads.length = 0;
    this.#fetched = false;
  }

  /**
   * Does up to `budget` accesses on a host CPU.
   * @returns "abort" with cpu.fault set and the access in `current`; "done" at the program's end
   */
  execute(cpu: HostCpu, budget: number): Stop {
    const source = this.#source;
    if (source === null || this.finished) return "done";
    for (let n = 0; n < budget; n++) {
      if (!this.#fetched) {
        if (!source.next(this.completed, this.current)) {
          this.finished = true;
          return "done";
        }
        this.#fetched = true;
      }
      if (!this.#access(cpu)) return "abort";
      this.#retire();
    }
    return "slice";
  }

  #retire(): void {
    this.#fetched = false;
    this.completed++;
    this.retired++;
  }

  /** @returns false on a stage-2 abort; nothing has happened then, but dirty state may be set. */
  #access(cpu: HostCpu): boolean {
    const { ipa, length, isWrite } = this.current;
    const size = this.#host.geometry.size;
    const room = size - (ipa % size);
    if (isWrite && length > room && isKilled(cpu, ipa, ipa + room)) return false;
    const first = cpu.translate(ipa, isWrite);
    if (first < 0) return false;
    let second = 0;
    if (length > room) {
      second = cpu.translate(ipa + room, isWrite);
      if (second < 0) return false;
    }
    if (isWrite) {
      this.#store(first, ipa, Math.min(length, room), 0);
      if (length > room) this.#store(second, ipa + room, length - room, room);
    } else if (this.#source?.recordsLoads) {
      let value = this.#load(first, Math.min(length, room));
      if (length > room) value |= this.#load(second, length - room) << BigInt(room * 8);
      this.loads.push(value);
    }
    return true;
  }

  #store(pa: number, ipa: number, length: number, skip: number): void {
    const { memory, unbacked } = this.#host;
    if (pa >= UNBACKED_BASE) {
      unbacked.store(pa);
    } else if (length === 8 && skip === 0 && (pa & 3) === 0) {
      memory.u32[pa >>> 2] = this.current.lo;
      memory.u32[(pa >>> 2) + 1] = this.current.hi;
    } else {
      for (let i = 0; i < length; i++) {
        const at = i + skip;
        const half = at < 4 ? this.current.lo : this.current.hi;
        memory.u8[pa + i] = half >>> ((at & 3) * 8);
      }
    }
    if (this.#host.codeWatcher !== null) this.#host.codeWatcher(pa, length);
    if (this.observer !== null) this.observer(ipa, length, pa);
  }

  #load(pa: number, length: number): bigint {
    const bytes = new Uint8Array(length);
    this.#host.readPhysical(pa, bytes);
    return fromBytes(bytes);
  }

  /** Bytes of the store that aborted, in memory order. */
  storeBytes(): Uint8Array {
    const { length, lo, hi } = this.current;
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = (i < 4 ? lo : hi) >>> ((i & 3) * 8);
    return bytes;
  }

  /** Completes the aborted access without memory: an MMIO, or a store that a device took. */
  completeWithoutMemory(loaded: Uint8Array | null): void {
    assert(this.#fetched, "there is an access to complete");
    if (loaded !== null && this.#source?.recordsLoads) this.loads.push(fromBytes(loaded));
    this.#retire();
  }

  /** Whether an access is waiting to be retried or completed. */
  get hasPending(): boolean {
    return this.#fetched;
  }

  save(): Saved {
    const data = {
      completed: this.completed,
      finished: this.finished,
      retired: this.retired,
      fetched: this.#fetched,
      current: { ...this.current },
      loads: [...this.loads],
      source: this.#source?.save() ?? null,
    };
    return { kind: "synthetic", version: 1, data };
  }

  /**
   * Restores progress; a program's source is not built here: the VMM sets the same program again
   * first (`start`), then loads.
   */
  load(saved: Saved): void {
    const data = saved.data as {
      completed: number;
      finished: boolean;
      retired: number;
      fetched: boolean;
      current: CurrentAccess;
      loads: bigint[];
      source: Saved | null;
    };
    if (data.source !== null) {
      assert(this.#source !== null, "the program is set before its progress is loaded");
      this.#source.load(data.source);
    }
    this.completed = data.completed;
    this.finished = data.finished;
    this.retired = data.retired;
    this.#fetched = data.fetched;
    Object.assign(this.current, data.current);
    this.loads.length = 0;
    this.loads.push(...data.loads);
  }
}

/**
 * Whether the second page of a store faults while the first would not: then the first is not
 * dirtied for nothing, unless the hardware is of the kind that does.
 */
function isKilled(cpu: HostCpu, first: number, second: number): boolean {
  if (cpu.dirtiesSpuriously || cpu.at(first, true) < 0 || cpu.at(second, true) >= 0) return false;
  return cpu.translate(second, true) < 0;
}

function fromBytes(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}
