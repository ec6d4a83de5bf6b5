// Goal: a full snapshot and its differentials are memory as it was, byte for byte, whatever stored
// to it meanwhile, whoever else harvests, and whatever failed before.
// Method: real VMs in this thread; stores come in between the pieces that are written; each one is
// restored into a fresh VM and compared with what memory was under hold.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../../src/base/clock.js";
import { Prng } from "../../../src/base/prng.js";
import type { CommandArgs, CommandName, VmHandle } from "../../../src/runtime/index.js";
import { Capture } from "../../../src/service/snapshots/capture.js";
import { restoreChain } from "../../../src/service/snapshots/restore.js";
import { LocalSnapshotIo } from "../../../src/service/snapshots/snapshot-io.js";
import { EMPTY_SHAPE, type VmShape } from "../../../src/store/index.js";
import { BASE, DEFINITION, Inline } from "../../support/inline.js";

const PAGE = 4096;
const RAM_PAGES = 96;
const UNBACKED_PAGES = 64;
const UNBACKED_BASE = BASE + 0x1000_0000;
const STEPS = 40;

/** A VM of this thread as the service has it: each call is answered before it returns. */
class InlineHandle implements VmHandle {
  readonly vm = new Inline();

  async call<K extends CommandName>(name: K, args: CommandArgs<K>) {
    const stamp = { seq: 0, step: 0, instructions: 0, virtualNs: 0, cut: false };
    return { value: this.vm.call(name, args), stamp };
  }
  inputLog(): never {
    throw new Error("nobody asks");
  }
  onNews(): void {}
  async close(): Promise<void> {}
}

interface Link {
  readonly id: string;
  readonly path: string;
}

interface Chain {
  readonly consumer: string;
  readonly files: Link[];
}

class World {
  readonly handle = new InlineHandle();
  readonly prng: Prng;
  readonly folder: string;
  readonly chains: Chain[] = [];
  readonly shape: VmShape;
  #next = 1;

  constructor(seed: number, folder: string) {
    this.prng = new Prng(BigInt(seed));
    this.folder = folder;
    const { vm } = this.handle;
    // A number that is used up: the restored VM's objects must get theirs all the same.
    vm.call("deleteMemoryObject", { id: vm.ram(PAGE).id });
    const ram = vm.slot(0, RAM_PAGES);
    const unbacked = vm.slot(1, UNBACKED_PAGES, { gpa: UNBACKED_BASE, backing: "unbacked" });
    vm.vcpu();
    const made = [ram, unbacked];
    this.shape = {
      ...EMPTY_SHAPE,
      memoryObjects: made.map(({ object }, ordinal) => ({
        ordinal,
        objectId: object.id,
        ...object,
      })),
      memslots: made.map(({ slot }) => ({ ...slot, guestMemfd: null })),
      vcpus: [{ ordinal: 0, vcpuId: 0 }],
    };
  }

  get objects(): readonly number[] {
    return this.shape.memoryObjects.map(({ objectId }) => objectId);
  }

  /** The guest stores, or a client writes. */
  disturb(): void {
    const { vm } = this.handle;
    const pages = Array.from({ length: 1 + this.prng.below(6) }, () => this.prng.below(RAM_PAGES));
    const addresses = pages.map((page) => BASE + page * PAGE + 8 * this.prng.below(500));
    switch (this.prng.below(4)) {
      case 0:
        // Zeros, so that a page becomes one that is left out.
        for (const page of pages) this.#write(page, new Uint8Array(PAGE));
        break;
      case 1:
        this.#write(pages[0] ?? 0, Uint8Array.of(1 + this.prng.below(255)));
        break;
      case 2:
        vm.store(
          0,
          pages.map((page) => UNBACKED_BASE + (page % UNBACKED_PAGES) * PAGE),
        );
        break;
      default:
        vm.store(0, addresses, BigInt(1 + this.prng.below(1000)));
    }
  }

  #write(page: number, bytes: Uint8Array): void {
    const [id = 0] = this.objects;
    this.handle.vm.call("writeMemoryObject", { id, offset: BigInt(page * PAGE), bytes });
  }

  memoryOf(vm: Inline, ids = this.objects): readonly Uint8Array[] {
    return ids.map((id, at) => {
      const length = (at === 0 ? RAM_PAGES : UNBACKED_PAGES) * PAGE;
      const bytes = vm.call("readMemoryObject", { id, offset: 0n, length });
      return Uint8Array.from(bytes);
    });
  }

  /** @returns memory as it was under hold; null: the snapshot failed, and was undone */
  async take(chain: Chain, failsAt: number | null): Promise<readonly Uint8Array[] | null> {
    const id = `snap_${this.#next++}`;
    const path = join(this.folder, id);
    const parent = chain.files.at(-1)?.id ?? null;
    const { vm } = this.handle;
    const io = new DisturbedIo(() => this.prng.below(2) === 0 && this.disturb(), failsAt);
    let memory: readonly Uint8Array[] = [];
    const parentBlocks = new Map(
      this.shape.memoryObjects.map(({ objectId, size }) => [objectId, Number(size)]),
    );
    const capture = new Capture(
      this.handle,
      { io, clock: systemClock },
      {
        ...{ path, limitBytes: 2 ** 30, consumer: chain.consumer },
        parentBlocks: parent === null ? null : parentBlocks,
        meta: (blocks, eventfds) => {
          expect(eventfds).toEqual([]);
          memory = this.memoryOf(vm);
          const { shape } = this;
          const record = { id: "vm_1", uuid: "u", name: null, labels: {}, definition: DEFINITION };
          return {
            ...{ id, kind: parent === null ? "full" : "differential", parent, memory: blocks },
            ...{ vm: { ...record, shape }, eventfds: [], takenAt: "" },
          };
        },
      },
      { check: () => {}, phase: () => {}, total: () => {}, done: () => {} },
    );
    try {
      await capture.run();
    } catch (error) {
      if (failsAt === null) throw error;
      await capture.undo();
      return null;
    }
    chain.files.push({ id, path });
    return memory;
  }

  async restored(chain: Chain): Promise<readonly Uint8Array[]> {
    const made = new InlineHandle();
    const nothing = { eventfds: [], keep: async () => {}, discard: async () => {} };
    const { shape } = await restoreChain(
      { io: new LocalSnapshotIo(), build: async () => made, attach: async () => nothing },
      chain.files,
      false,
    );
    return this.memoryOf(
      made.vm,
      shape.memoryObjects.map(({ objectId }) => objectId),
    );
  }
}

/** Pages in which two memories differ, "object:page"; comparing bytes as values takes seconds. */
function differences(one: readonly Uint8Array[] | null, other: readonly Uint8Array[]): string[] {
  return other.flatMap((bytes, object) => {
    const mine = Buffer.from(one?.[object] ?? []);
    const pages = Array.from({ length: bytes.length / PAGE }, (_, page) => page);
    const isSame = (page: number) =>
      mine
        .subarray(page * PAGE, (page + 1) * PAGE)
        .equals(bytes.subarray(page * PAGE, (page + 1) * PAGE));
    return pages.filter((page) => !isSame(page)).map((page) => `${object}:${page}`);
  });
}

/** Stores come in between its calls; one of them may fail. */
class DisturbedIo extends LocalSnapshotIo {
  #calls = 0;
  readonly #disturb: () => void;
  readonly #failsAt: number | null;
  #isHeld = false;

  constructor(disturb: () => void, failsAt: number | null) {
    super();
    this.#disturb = disturb;
    this.#failsAt = failsAt;
  }

  #step(): void {
    this.#calls += 1;
    if (this.#calls === this.#failsAt) throw Object.assign(new Error("full"), { code: "ENOSPC" });
    try {
      if (!this.#isHeld) this.#disturb();
    } catch (error) {
      if ((error as { code?: string }).code !== "vm-held") throw error;
      this.#isHeld = true;
    }
  }

  override async pages(...args: Parameters<LocalSnapshotIo["pages"]>) {
    this.#step();
    const written = await super.pages(...args);
    this.#step();
    return written;
  }
  override async sequences(...args: Parameters<LocalSnapshotIo["sequences"]>) {
    this.#step();
    return super.sequences(...args);
  }
  override async finish(...args: Parameters<LocalSnapshotIo["finish"]>) {
    this.#step();
    return super.finish(...args);
  }
}

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tidemark-snapshots-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("base and differentials", () => {
  it.each([1, 2, 3, 4])(
    "are memory at that moment, seed %d",
    async (seed) => {
      const world = new World(seed, join(folder, String(seed)));
      const { vm } = world.handle;
      const track = (consumer: string) =>
        vm.call("trackDirty", { consumer, on: true, method: null });
      let [taken, failed] = [0, 0];
      for (let step = 0; step < STEPS; step++) {
        const choice = world.prng.below(10);
        if (world.chains.length === 0 || (choice === 0 && world.chains.length < 4)) {
          const chain: Chain = { consumer: `snapshots/${world.chains.length}`, files: [] };
          track(chain.consumer);
          const memory = await world.take(chain, null);
          expect(differences(memory, await world.restored(chain))).toEqual([]);
          world.chains.push(chain);
        } else if (choice === 1) {
          // A migration beside it, which takes what it is told of.
          track("migrations/m1");
          vm.call("harvestDirty", { consumer: "migrations/m1" });
        } else if (choice === 2) {
          vm.call("trackDirty", { consumer: "migrations/m1", on: false, method: null });
        } else if (choice < 6) {
          const chain = world.chains[world.prng.below(world.chains.length)]!;
          const failsAt = world.prng.below(3) === 0 ? 1 + world.prng.below(5) : null;
          const memory = await world.take(chain, failsAt);
          if (memory === null) failed += 1;
          else {
            taken += 1;
            expect(differences(memory, await world.restored(chain))).toEqual([]);
          }
        } else {
          world.disturb();
        }
      }
      expect(taken).toBeGreaterThan(3);
      expect(failed + taken).toBeGreaterThan(4);
    },
    120_000,
  );
});
