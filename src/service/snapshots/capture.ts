// Owns: taking one snapshot: memory while the VM runs, then the rest under hold. HTTP thread.
//
//   [track on] ─▶ all pages, or what is dirty ─▶ harvest ─▶ write, again while it gets less
//      ─▶ hold ─▶ save state ─▶ last harvest ─▶ write ─▶ let go ─▶ file synced ─▶ recorded
//
// What was harvested counts as dirty until the record is durable: one that fails gives it
// back.
import type { Clock } from "../../base/clock.js";
import { encodeSaved } from "../../base/saved-codec.js";
import type {
  DirtyPages,
  MemoryMap,
  StateCommands,
  TrackingCommands,
} from "../../runtime/index.js";
import { blocksOf, encodeMeta, memoryMeta, type SnapshotMeta } from "./meta.js";
import { isMarked } from "./page-frames.js";
import type { Finished, SnapshotIo } from "./snapshot-io.js";
import type { SnapshotPhase } from "./types.js";

type Block = MemoryMap["blocks"][number];
/** What a saved VM's irqfds and ioeventfds name. */
export type StateEventfds = StateCommands["saveState"][1]["eventfds"];

type Moving = StateCommands & TrackingCommands;

/** A VM as a snapshot sees it: a VmHandle. */
export interface SnapshotVm {
  call<K extends keyof Moving>(
    name: K,
    args: Moving[K][0],
  ): Promise<{ readonly value: Moving[K][1] }>;
}

export interface CapturePlan {
  readonly path: string;
  /** Of the file. */
  readonly limitBytes: number;
  /** Who is told of dirty pages; null: nobody, and all is written under hold. */
  readonly consumer: string | null;
  /** Memory objects that the parent has, with their sizes; null: a full snapshot. */
  readonly parentBlocks: ReadonlyMap<number, number> | null;
  /** What the file says of the VM, asked when it is held. */
  readonly meta: (memory: SnapshotMeta["memory"], eventfds: StateEventfds) => SnapshotMeta;
}

export interface CaptureControl {
  /** @throws whatever ends the snapshot */
  check(): void;
  phase(phase: SnapshotPhase): void;
  total(pages: number): void;
  done(pages: number): void;
}

export interface Captured extends Finished {
  readonly meta: SnapshotMeta;
  readonly stored: number;
  readonly zero: number;
  readonly rounds: number;
  readonly pauseMs: number;
}

/** Dirty bytes that may be left to the pause. */
const FEW_BYTES = 4 * 2 ** 20;
/** Rounds while the VM runs, at most. */
const ROUNDS_MAX = 8;
/** Pages between two looks at whether it was cancelled. */
const PIECE_PAGES = 8192;

export class Capture {
  readonly #handle: SnapshotVm;
  readonly #io: SnapshotIo;
  readonly #clock: Clock;
  readonly #plan: CapturePlan;
  readonly #control: CaptureControl;
  /** What was harvested. */
  readonly #taken: DirtyPages[] = [];
  /** Objects whose content the chain has, and their sizes. */
  readonly #known: Map<number, number>;
  #job: number | null = null;
  #isHeld = false;
  #stored = 0;
  #zero = 0;
  #rounds = 0;

  constructor(
    handle: SnapshotVm,
    deps: { readonly io: SnapshotIo; readonly clock: Clock },
    plan: CapturePlan,
    control: CaptureControl,
  ) {
    this.#handle = handle;
    this.#io = deps.io;
    this.#clock = deps.clock;
    this.#plan = plan;
    this.#control = control;
    this.#known = new Map(plan.parentBlocks ?? []);
  }

  /** The file is durable when it resolves; after a failure `undo` must follow. */
  async run(): Promise<Captured> {
    const { consumer, path, limitBytes } = this.#plan;
    this.#job = await this.#io.create(path, limitBytes);
    if (consumer !== null) await this.#whileItRuns();
    this.#control.phase("held");
    const began = this.#clock.monotonicMs();
    await this.#handle.call("holdVm", { hold: true, why: this.#why });
    this.#isHeld = true;
    const { value } = await this.#handle.call("saveState", {});
    // Saving has written tables of the ITS into the guest's memory.
    const memory = await this.#memory();
    await this.#wholeOfNew(memory);
    if (consumer !== null) await this.#write(await this.#harvest(), memory);
    this.#rounds += 1;
    const meta = this.#plan.meta(memoryMeta(memory), value.eventfds);
    await this.#letGo();
    const pauseMs = this.#clock.monotonicMs() - began;
    this.#control.phase("sync");
    const finished = await this.#io.finish(this.#job, encodeMeta(meta), encodeSaved(value.parts));
    const counts = { stored: this.#stored, zero: this.#zero, rounds: this.#rounds };
    return { ...finished, ...counts, meta, pauseMs };
  }

  /** As if it had never been: no file, dirty pages still to be told, the VM runs. */
  async undo(): Promise<void> {
    const { consumer } = this.#plan;
    await this.#letGo().catch(() => {});
    if (this.#job !== null) await this.#io.abort(this.#job);
    if (consumer === null) return;
    for (const pages of this.#taken) {
      // A VM that is gone has no dirty pages either.
      await this.#handle.call("returnDirty", { consumer, pages }).catch(() => {});
    }
  }

  get #why(): string {
    return this.#plan.consumer ?? "snapshot";
  }

  async #whileItRuns(): Promise<void> {
    const memory = await this.#memory();
    await this.#wholeOfNew(memory);
    this.#rounds = 1;
    let before = Number.POSITIVE_INFINITY;
    while (this.#rounds <= ROUNDS_MAX) {
      const dirty = await this.#harvest();
      await this.#write(dirty, memory);
      const bytes = dirty.pages * memory.pageSize;
      if (bytes <= FEW_BYTES || bytes >= before) return;
      before = bytes;
      this.#rounds += 1;
    }
  }

  async #memory(): Promise<MemoryMap> {
    const { value } = await this.#handle.call("describeMemory", {});
    const bytes = blocksOf(value).reduce((sum, block) => sum + block.bytes, 0);
    this.#control.total(bytes / value.pageSize);
    return value;
  }

  /** Objects that the parent doesn't have; of a full snapshot all. */
  async #wholeOfNew(memory: MemoryMap): Promise<void> {
    for (const block of blocksOf(memory)) {
      if (this.#known.get(block.object) === block.bytes) continue;
      await this.#block(memory, block, null);
      this.#known.set(block.object, block.bytes);
    }
  }

  async #harvest(): Promise<DirtyPages> {
    const consumer = this.#why;
    const { value } = await this.#handle.call("harvestDirty", { consumer });
    this.#taken.push(value);
    return value;
  }

  async #write(dirty: DirtyPages, memory: MemoryMap): Promise<void> {
    for (const { object, bitmap } of dirty.blocks) {
      const block = blocksOf(memory).find((one) => one.object === object);
      if (block !== undefined) await this.#block(memory, block, bitmap);
    }
  }

  async #block(memory: MemoryMap, block: Block, bitmap: Uint8Array | null): Promise<void> {
    const pages = block.bytes / memory.pageSize;
    for (let from = 0; from < pages; from += PIECE_PAGES) {
      const to = Math.min(pages, from + PIECE_PAGES);
      if (bitmap?.subarray(from >>> 3, Math.ceil(to / 8)).every((byte) => byte === 0) === true) {
        continue;
      }
      this.#control.check();
      if (block.backing === "ram") await this.#ram(memory, block, from, to, bitmap);
      else await this.#sequences(block, from, to, bitmap);
      this.#control.done(to - from);
    }
  }

  async #ram(
    { memory, pageSize }: MemoryMap,
    { object, pa }: Block,
    from: number,
    to: number,
    bitmap: Uint8Array | null,
  ): Promise<void> {
    const source = { memory, pageSize, object, pa, from, to, bitmap };
    const { stored, zero } = await this.#io.pages(this.#job ?? 0, source);
    this.#stored += stored;
    this.#zero += zero;
  }

  async #sequences(
    { object }: Block,
    first: number,
    to: number,
    bitmap: Uint8Array | null,
  ): Promise<void> {
    const args = { object, first, count: to - first };
    const { value } = await this.#handle.call("readSequences", args);
    // 0 says nothing: the page is as it was before.
    if (bitmap !== null) {
      for (let at = 0; at < value.length; at++) {
        if (!isMarked(bitmap, first + at)) value[at] = 0;
      }
    }
    this.#stored += await this.#io.sequences(this.#job ?? 0, object, first, value);
  }

  async #letGo(): Promise<void> {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    await this.#handle.call("holdVm", { hold: false, why: this.#why });
  }
}
