// The client of the dirty rings: reads entries, marks them harvested, asks for a reset. A page is
// acquired when the reset that took its entry back has answered.
import { chance, type World } from "../world.js";

const DIRTY = 1;
const RESET = 2;

interface Entry {
  readonly slot: number;
  readonly offset: number;
}

/** One vCPU's ring as the client follows it; indexes are absolute. */
class Ring {
  /** Entries that the client has read and not yet seen taken back. */
  readonly read = new Map<number, Entry>();
  harvested = 0;
  reset = 0;
}

export class RingClient {
  readonly #world: World;
  readonly #rings: readonly Ring[];
  /** Through the mapping itself, not through the service's index. */
  readonly #isRaw: boolean;
  /** Acquired by a reset whose reply was lost: [entry, time]. */
  readonly #lost: [Entry, number][] = [];

  constructor(world: World) {
    this.#world = world;
    this.#rings = Array.from({ length: world.layout.vcpus }, () => new Ring());
    this.#isRaw = chance(world, 30);
  }

  get isUsed(): boolean {
    return this.#world.mode.ring !== "none";
  }

  act(): void {
    const kind = this.#world.prng.below(100);
    if (!this.isUsed || (this.#world.layout.isFlooded && kind % 8 !== 0)) return;
    if (kind < 60) this.collect(this.#world.prng.below(this.#rings.length), false);
    else this.reset(chance(this.#world, 15));
  }

  /** Harvests some of a vCPU's entries, or all. */
  collect(vcpu: number, isAll: boolean): void {
    const { link, prng } = this.#world;
    const ring = this.#rings[vcpu]!;
    const limit = isAll || chance(this.#world, 50) ? 0x1_0000 : 1 + prng.below(40);
    const window = link.now("readDirtyRing", { vcpu, from: ring.harvested, limit });
    // The reply may get lost: reading takes nothing.
    if (!isAll && chance(this.#world, 10)) return;
    let upTo = ring.harvested;
    for (const { index, flags, slot, offset } of window.entries) {
      if (flags !== DIRTY || index !== upTo) break;
      ring.read.set(index, { slot, offset: Number(offset) });
      upTo++;
    }
    if (!isAll && chance(this.#world, 30)) upTo -= prng.below(upTo - ring.harvested + 1);
    if (this.#isRaw) {
      for (let index = ring.harvested; index < upTo; index++) {
        link.now("setDirtyRingFlags", { vcpu, index, flags: RESET });
      }
    } else {
      link.now("harvestDirtyRing", { vcpu, upTo });
      // A lost reply: the same again.
      if (chance(this.#world, 10)) link.now("harvestDirtyRing", { vcpu, upTo });
    }
    ring.harvested = upTo;
  }

  reset(isLost: boolean): void {
    const { link, oracle, content } = this.#world;
    link.call("resetDirtyRings", {}, (reply) => {
      if (!reply.ok) return;
      const taken = this.#takenBack();
      if (taken.length !== reply.value.reset) {
        oracle.fail(`a reset says ${reply.value.reset} entries and took ${taken.length}`);
      }
      const time = oracle.now();
      for (const entry of taken) this.#lost.push([entry, time]);
      if (isLost) return;
      for (const [{ slot, offset }, at] of this.#lost.splice(0)) {
        oracle.acquire(slot, offset, at, true);
        content.copy(slot, offset);
      }
    });
  }

  /** Entries that resets have taken back since the last look. */
  #takenBack(): Entry[] {
    const { link, oracle } = this.#world;
    const taken: Entry[] = [];
    for (const [vcpu, ring] of this.#rings.entries()) {
      const { resetIndex } = link.now("readDirtyRing", { vcpu, from: 0, limit: 0 });
      for (; ring.reset < resetIndex; ring.reset++) {
        const entry = ring.read.get(ring.reset);
        if (entry === undefined || ring.reset >= ring.harvested) {
          oracle.fail(`a reset took entry ${ring.reset} of vCPU ${vcpu}, which nobody harvested`);
          return taken;
        }
        ring.read.delete(ring.reset);
        taken.push(entry);
      }
    }
    return taken;
  }

  /** Whether an entry of a page waits in a ring, harvested or not. */
  pending(): Set<string> {
    const { vcpus } = this.#world.link.instance.machine.kvm.vm;
    const found = new Set<string>();
    for (const [entry] of this.#lost) found.add(`${entry.slot}:${entry.offset}`);
    for (const { ring } of vcpus) {
      if (ring === null) continue;
      for (let index = ring.resetIndex; index < ring.dirtyIndex; index++) {
        const { slot, offset } = ring.entry(index);
        found.add(`${slot}:${offset}`);
      }
    }
    return found;
  }

  /** With every vCPU out of RUN: harvests and resets until nothing is left. */
  finish(settle: () => void): void {
    if (!this.isUsed) return;
    for (let tries = 0; tries < 3; tries++) {
      for (const vcpu of this.#rings.keys()) this.collect(vcpu, true);
      this.reset(false);
      settle();
    }
  }
}
