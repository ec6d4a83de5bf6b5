// The client's memory: objects mapped and unmapped, slots made, moved, toggled and deleted. One
// change of a slot at a time; everything else may be under way beside it.
import type { Home } from "../layout.js";
import type { Placement, SlotModel } from "../oracle/model.js";
import { chance, type World } from "../world.js";

const LOG_DIRTY_PAGES = 1;
const READONLY = 2;

/** The memory object of a home, or of several that share it. */
export class Memory {
  readonly #world: World;
  readonly home: Home;
  #id: number | null = null;
  #address: bigint | null = null;

  constructor(world: World, home: Home) {
    this.#world = world;
    this.home = home;
    this.#map();
  }

  /** First userspace page; the same for every mapping of this object. */
  get hvaPage(): number {
    return Number(this.#address ?? 0n) / this.#world.layout.definition.pageSize;
  }

  /** mmap; refused while an old object still lies there. */
  #map(): void {
    const { link, oracle, layout, mode } = this.#world;
    const { pageSize } = layout.definition;
    const args = {
      size: BigInt(this.home.objectPages) * BigInt(pageSize),
      userspaceAddr: this.#address,
      backing: this.home.backing,
      hugePages: mode.hasBlocks,
    };
    link.call("createMemoryObject", args, (reply) => {
      if (!reply.ok) return;
      const { id, userspaceAddr } = reply.value;
      this.#id = id;
      this.#address = userspaceAddr;
      oracle.model.objects.set(id, {
        id,
        hvaPage: this.hvaPage,
        pages: this.home.objectPages,
        paPage: link.instance.machine.kvm.vm.mm.byId(id)!.pa / pageSize,
      });
    });
  }

  /** munmap, or mmap again at the same address; slots over it become holes meanwhile. */
  act(slots: readonly number[]): void {
    const id = this.#id;
    if (id === null) {
      this.#map();
      return;
    }
    this.#id = null;
    const { link, oracle, content } = this.#world;
    const times = chance(this.#world, 10) ? 2 : 1;
    for (let n = 0; n < times; n++) {
      // Until the answer stores may still reach the old pages. Sent twice, one finds it gone.
      link.call("deleteMemoryObject", { id }, (reply) => {
        for (const slot of slots) content.forget(slot);
        if (reply.ok) oracle.model.objects.delete(id);
      });
    }
  }
}

export class SlotClient {
  readonly home: Home;
  readonly #world: World;
  readonly #memory: Memory;

  constructor(world: World, home: Home, memory: Memory) {
    this.#world = world;
    this.home = home;
    this.#memory = memory;
  }

  get model(): SlotModel {
    return this.#world.oracle.model.slot(this.home.slot);
  }

  get hasBlocks(): boolean {
    return this.home.objectPages > this.#world.layout.blockPages && this.#world.mode.hasBlocks;
  }

  #drawPlacement(): Placement {
    const { prng, layout } = this.#world;
    const { objectPages, fixedPages, first, pages } = this.home;
    const slack = fixedPages === null ? objectPages : objectPages - fixedPages + 1;
    const offset = chance(this.#world, 50) ? 0 : prng.below(Math.min(8, slack));
    const room = objectPages - offset;
    const drawn = chance(this.#world, 60) ? room - prng.below(Math.min(room, 4)) : prng.below(room);
    const npages = Math.max(1, Math.min(room, fixedPages ?? drawn));
    const hvaPage = this.#memory.hvaPage + offset;
    let baseGfn = first + prng.below(pages - npages + 1);
    if (this.hasBlocks && chance(this.#world, 85)) {
      // Guest and host addresses at the same distance from a block's boundary.
      baseGfn = first + prng.below(2) * layout.blockPages + (hvaPage % layout.blockPages);
    }
    return {
      baseGfn,
      npages,
      hvaPage,
      isLogging: chance(this.#world, this.hasBlocks ? 30 : 65),
      isReadOnly: this.home.isPinned !== true && chance(this.#world, 3),
    };
  }

  #set(place: Placement | null, asked: Placement): void {
    const { link, oracle, content, layout } = this.#world;
    const { slot } = this.home;
    const page = BigInt(layout.definition.pageSize);
    const flags = (asked.isLogging ? LOG_DIRTY_PAGES : 0) | (asked.isReadOnly ? READONLY : 0);
    oracle.changing(slot, place);
    const wasLogging = this.model.current?.isLogging === true;
    const args = {
      slot,
      flags,
      guestPhysAddr: BigInt(asked.baseGfn) * page,
      memorySize: place === null ? 0n : BigInt(asked.npages) * page,
      userspaceAddr: BigInt(asked.hvaPage) * page,
    };
    link.call("setUserMemoryRegion", args, (reply) => {
      oracle.changed(slot, reply.ok);
      const isLogging = this.model.current?.isLogging === true;
      if (!isLogging) content.forget(slot);
      else if (!wasLogging) content.begin(slot);
    });
  }

  /** Turns the slot's log on or off, unless it is so already or a change is under way. */
  setLogging(isLogging: boolean): void {
    const { current, isChanging } = this.model;
    if (current === null || isChanging || current.isLogging === isLogging) return;
    const place = { ...current, isLogging };
    this.#set(place, place);
  }

  /** One more change of this slot, unless one is under way. */
  act(): void {
    const { model } = this;
    if (model.isChanging) return;
    const { prng } = this.#world;
    const { current } = model;
    if (current === null) {
      const place = this.#drawPlacement();
      this.#set(place, place);
      return;
    }
    const kind = this.home.isPinned === true ? 0 : prng.below(100);
    if (kind < 50) {
      const place = { ...current, isLogging: !current.isLogging };
      this.#set(place, place);
    } else if (kind < 70) {
      const place = { ...current, baseGfn: this.#newBase(current) };
      this.#set(place, place);
    } else if (kind < 88) {
      this.#set(null, current);
    } else {
      this.#ask(current);
    }
  }

  /**
   * By a page or two, so that running programs still hit the slot; blocks by whole blocks; or
   * anywhere in the home.
   */
  #newBase(current: Placement): number {
    const { prng, layout } = this.#world;
    const { first, pages } = this.home;
    const room = pages - current.npages;
    if (chance(this.#world, 50)) {
      const near = current.baseGfn + prng.below(5) - 2;
      return near >= first && near <= first + room ? near : current.baseGfn;
    }
    if (!this.hasBlocks || chance(this.#world, 30)) return first + prng.below(room + 1);
    const blocks = Math.floor(room / layout.blockPages);
    const phase = current.baseGfn % layout.blockPages;
    const base = first - (first % layout.blockPages) + prng.below(blocks + 1) * layout.blockPages;
    const at = base + phase;
    return at >= first && at + current.npages <= first + pages ? at : current.baseGfn;
  }

  /** Changes that KVM refuses or that change nothing. */
  #ask(current: Placement): void {
    const { prng, layout } = this.#world;
    const others = layout.homes.filter((home) => home.slot !== this.home.slot);
    const kind = prng.below(3);
    let place = current;
    if (kind === 0) place = { ...current, npages: current.npages + 1 };
    else if (kind === 1 && others.length > 0) {
      // Into another slot's home: refused when it overlaps, else a move out of one's own.
      const target = this.#world.oracle.model.slot(prng.pick(others).slot);
      if (target.current === null || target.isChanging) return;
      place = { ...current, baseGfn: target.current.baseGfn };
    }
    this.#set(place, place);
  }
}
