// Owns: what vCPUs really stored to logged pages, seen beside KVM's log and knowing nothing of it:
// the oracle that counts lost pages and false positives. VM thread.
//
//   store ─▶ stored   until a take: ground truth of a round
//         └▶ owed     until userspace acquires the page: legacy GET, CLEAR, or a reset of its entry
// Stores of synthetic vCPUs are seen as they commit. Guest code is too fast for that: pages of a
// board are compared with copies whenever somebody asks, so a store of the same bytes isn't seen.
// @source dirty-tracking.md 7.7: acquisitions, INV-1
import { popcount32 } from "../base/bits.js";
import { KvmError } from "../base/errors.js";
import type { Kvm, Memslot, Vcpu } from "../kvm/index.js";
import { PageCopies } from "./page-copies.js";
import type { ShadowTake } from "./shadow-commands.js";

const LOG_DIRTY_PAGES = 1;

/** One logged slot, a bit per page in each set. */
interface Track {
  readonly slot: number;
  readonly baseGfn: number;
  readonly npages: number;
  readonly stored: Uint32Array;
  readonly owed: Uint32Array;
  /** null: stores are observed. */
  readonly copies: PageCopies | null;
}

/** Entries of rings that userspace has taken and not given back yet. */
interface Harvested {
  readonly slot: number;
  readonly page: number;
}

/** A CLEAR that vCPUs are still doing. */
interface Deferred {
  readonly slot: number;
  readonly firstPage: number;
  readonly bits: Uint8Array;
}

export class Shadow {
  readonly #kvm: Kvm;
  readonly #byContent: boolean;
  readonly #tracks = new Map<number, Track>();
  #last: Track | null = null;
  #harvested: Harvested[] = [];
  readonly #deferred: Deferred[] = [];
  /** Stores seen so far. */
  stores = 0;

  /** @param byContent pages are compared: its vCPUs run guest code */
  constructor(kvm: Kvm, byContent: boolean) {
    this.#kvm = kvm;
    this.#byContent = byContent;
    kvm.log.deferred.onCleaned = ({ slot, firstPage }) => this.#cleaned(slot, firstPage);
    for (const vcpu of kvm.vm.vcpus) this.watch(vcpu);
    this.slotsChanged();
  }

  watch(vcpu: Vcpu): void {
    if (!this.#byContent) vcpu.synthetic.observer = (ipa) => this.#store(ipa);
  }

  #store(ipa: number): void {
    this.stores++;
    const gfn = Math.floor(ipa / this.#kvm.vm.pageSize);
    const last = this.#last;
    const track = last !== null && holds(last, gfn) ? last : this.#trackAt(gfn);
    if (track === null) return;
    setBit(track.stored, gfn - track.baseGfn);
    setBit(track.owed, gfn - track.baseGfn);
  }

  #trackAt(gfn: number): Track | null {
    const slot = this.#kvm.vm.slots.find(gfn);
    this.#last = slot === undefined ? null : this.#trackOf(slot);
    return this.#last;
  }

  /** A slot that was moved, or made anew with another size, begins without a past. */
  #trackOf(slot: Memslot): Track | null {
    if ((slot.flags & LOG_DIRTY_PAGES) === 0) return null;
    const { id, baseGfn, npages } = slot;
    const known = this.#tracks.get(id);
    if (known?.baseGfn === baseGfn && known.npages === npages) return known;
    if (known !== undefined) this.#drop(known);
    const words = Math.ceil(npages / 64) * 2;
    const sets = { stored: new Uint32Array(words), owed: new Uint32Array(words) };
    const copies = this.#byContent ? this.#copiesOf(slot) : null;
    const track = { slot: id, baseGfn, npages, ...sets, copies };
    this.#tracks.set(id, track);
    return track;
  }

  /** @throws KvmError ENOMEM */
  #copiesOf({ userspaceAddr, npages }: Memslot): PageCopies | null {
    const { vm } = this.#kvm;
    const object = vm.mm.find(userspaceAddr);
    if (object === undefined || object.backing !== "ram") return null;
    const bytes = npages * vm.pageSize;
    if (!vm.account.charge(bytes)) {
      throw new KvmError(
        "ENOMEM",
        "mmap",
        `no room for a copy of the guest's memory, ${bytes} bytes`,
      );
    }
    const offset = userspaceAddr - object.userspaceAddr;
    return new PageCopies(vm.host, object, offset, npages, vm.pageSize);
  }

  /** Sees what was stored, to any page. */
  #lookAll(track: Track): void {
    if (track.copies === null) return;
    for (let page = 0; page < track.npages; page++) this.#look(track, page);
  }

  #look({ copies, npages, stored, owed }: Track, page: number): void {
    if (copies === null || page >= npages || !copies.refresh(page)) return;
    setBit(stored, page);
    setBit(owed, page);
  }

  /** Pages of these bits are userspace's own from now on. */
  #acquire(track: Track, at: number, bits: number): void {
    if (bits === 0) return;
    for (let bit = 0; track.copies !== null && bit < 32; bit++) {
      if (((bits >>> bit) & 1) !== 0) this.#look(track, at * 32 + bit);
    }
    clearBits(track.owed, at, bits);
  }

  #drop({ slot, npages, copies }: Track): void {
    this.#tracks.delete(slot);
    const { account, pageSize } = this.#kvm.vm;
    if (copies !== null) account.release(npages * pageSize);
  }

  #tracked(id: number): Track | null {
    const slot = this.#kvm.vm.slots.get(id);
    return slot === undefined ? null : this.#trackOf(slot);
  }

  /** A slot's flags or place may have changed: the next store looks again. */
  slotsChanged(): void {
    this.#last = null;
    for (const track of this.#tracks.values()) {
      if (this.#tracked(track.slot) === null) this.#drop(track);
    }
    // Copies are of the moment in which logging began.
    if (this.#byContent) for (const slot of this.#kvm.vm.slots.list()) this.#trackOf(slot);
  }

  /** Pages stored to since the last take. */
  take(slot: number): ShadowTake {
    const track = this.#tracked(slot);
    if (track === null) return { npages: 0, stored: 0, bitmap: new Uint8Array(0) };
    this.#lookAll(track);
    const stored = track.stored.reduce((sum, word) => sum + popcount32(word), 0);
    const bitmap = new Uint8Array(track.stored.slice().buffer);
    track.stored.fill(0);
    return { npages: track.npages, stored, bitmap };
  }

  /**
   * A dirty log was read; with `acquires` its pages were made to log again.
   * @param since stores seen when the read began: what came later is in a later report
   */
  reported(slot: number, bitmap: Uint8Array, acquires: boolean, since: number): void {
    const track = this.#tracked(slot);
    if (track === null) return;
    const { values } = this.#kvm.vm.counters;
    this.#lookAll(track);
    const words = wordsOf(bitmap);
    for (const [at, word] of words.entries()) {
      if (word !== 0) values.falsePositives += popcount32((word & ~(track.owed[at] ?? 0)) >>> 0);
    }
    const isWhole = this.stores === since && this.#areRingsEmpty;
    // What a read that waits for no drain missed is late, not lost.
    const late = this.#loggedWords(slot);
    if (isWhole && this.#isQuiet) this.#judge(track, (at) => (words[at] ?? 0) | late(at));
    if (acquires) this.cleared(slot, 0, words);
  }

  /** CLEAR returned: userspace copies the pages of these bits after this. */
  cleared(slot: number, firstPage: number, bits: Uint8Array | Uint32Array): void {
    const track = this.#tracked(slot);
    if (track === null) return;
    const words = bits instanceof Uint32Array ? bits : wordsOf(bits);
    const first = firstPage >>> 5;
    const end = Math.min(words.length, track.owed.length - first);
    for (let at = 0; at < end; at++) this.#acquire(track, first + at, words[at] ?? 0);
  }

  /** CLEAR was deferred: the pages of these bits are acquired when it is over. */
  deferred(slot: number, firstPage: number, bits: Uint8Array): void {
    this.#deferred.push({ slot, firstPage, bits });
  }

  #cleaned(slot: number, firstPage: number): void {
    const its = (one: Deferred) => one.slot === slot && one.firstPage === firstPage;
    const at = this.#deferred.findIndex(its);
    const [one] = at < 0 ? [] : this.#deferred.splice(at, 1);
    if (one !== undefined) this.cleared(slot, firstPage, one.bits);
  }

  /** An entry of a ring was handed out to be reset. */
  harvested(slot: number, page: number): void {
    const track = this.#tracked(slot);
    if (track === null) return;
    this.#look(track, page);
    const isOwed = (((track.owed[page >>> 5] ?? 0) >>> (page & 31)) & 1) !== 0;
    if (!isOwed) this.#kvm.vm.counters.values.falsePositives++;
    this.#harvested.push({ slot, page });
  }

  /** KVM_RESET_DIRTY_RINGS returned. */
  ringsReset(): void {
    for (const track of this.#tracks.values()) this.#lookAll(track);
    for (const { slot, page } of this.#harvested) {
      const track = this.#tracked(slot);
      if (track !== null) clearBits(track.owed, page >>> 5, 1 << (page & 31));
    }
    this.#harvested = [];
    if (!this.#areRingsEmpty || !this.#isQuiet) return;
    for (const track of this.#tracks.values()) this.#judge(track, this.#loggedWords(track.slot));
  }

  /** Nothing waits in a ring, nor for room in one. */
  get #areRingsEmpty(): boolean {
    return this.#kvm.vm.vcpus.every(({ ring, hdbss, rescanFrom }) => {
      if (ring === null) return true;
      const waits = (hdbss?.index ?? 0) > 0 || rescanFrom >= 0;
      return ring.dirtyIndex === ring.resetIndex && !waits;
    });
  }

  /** No vCPU is in KVM_RUN: what no log holds now, none will ever tell. */
  get #isQuiet(): boolean {
    return this.#kvm.vm.vcpus.every((vcpu) => !vcpu.running);
  }

  /** With rings, pages that KVM itself dirtied are in the bitmap. */
  #loggedWords(id: number): (at: number) => number {
    const { slots, host } = this.#kvm.vm;
    const bitmap = slots.get(id)?.dirtyBitmap ?? null;
    return (at) => (bitmap === null ? 0 : (host.memory.u32[(bitmap.pa >>> 2) + at] ?? 0));
  }

  /** Counts pages that are owed and not logged; each once. */
  #judge(track: Track, logged: (at: number) => number): void {
    for (const [at, owed] of track.owed.entries()) {
      if (owed === 0) continue;
      const lost = owed & ~logged(at);
      if (lost === 0) continue;
      this.#kvm.vm.counters.values.lostPages += popcount32(lost >>> 0);
      track.owed[at] = owed & ~lost;
    }
  }
}

function holds(track: Track, gfn: number): boolean {
  return gfn >= track.baseGfn && gfn < track.baseGfn + track.npages;
}

/** Words of a bitmap; a partial one at the end is dropped by nobody: KVM's are whole. */
function wordsOf(bytes: Uint8Array): Uint32Array {
  const whole = bytes.length - (bytes.length % 4);
  return new Uint32Array(bytes.slice(0, whole).buffer);
}

function setBit(words: Uint32Array, page: number): void {
  words[page >>> 5] = (words[page >>> 5] ?? 0) | (1 << (page & 31));
}

function clearBits(words: Uint32Array, at: number, bits: number): void {
  words[at] = (words[at] ?? 0) & ~bits;
}
