// Owns: CLEAR_DIRTY_LOG of a 64 GiB slot against a TypeScript loop that clears S2AP[1] in the same
// descriptor words of the same VM's memory. Inline, round robin. Before each side's turn the slot
// is made dirty again: by storing vCPUs the first time, then by setting exactly the bits that they
// had set, which costs milliseconds instead of seconds and leaves the same words.
import { GIB, PAGE, storesFor } from "./support/guest.js";
import { InlineGuest, SLOT, type Tracking } from "./support/inline.js";
import { compare, median, timed } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

const BAR = { on: "ratio", at: "most", value: 4 } as const;
const DIRTY_SHARE = 0.02;
/** S2AP[1] in the low half of a descriptor, DBM in the high half. */
const S2AP_WRITE = 1 << 7;
const ENTRIES = PAGE / 8;

/** Positions in the memory's u32 view of the descriptors of every dirty page, ascending. */
function descriptorsOf(guest: InlineGuest, bitmap: Uint8Array, count: number): Uint32Array {
  const found = new Uint32Array(count);
  let n = 0;
  let table = 0;
  let tableOf = -1;
  for (let page = 0; page < guest.pages; page++) {
    if (((bitmap[page >>> 3] ?? 0) & (1 << (page & 7))) === 0) continue;
    const entry = page % ENTRIES;
    if (page - entry !== tableOf) {
      tableOf = page - entry;
      const { steps } = guest.call("walkStage2", { ipa: BigInt(page) * BigInt(PAGE) });
      const last = steps.at(-1);
      if (last?.level !== 3) throw new Error(`page ${page} is dirty and not mapped`);
      table = Number(last.tableAddress) >>> 2;
    }
    found[n++] = table + entry * 2;
  }
  if (n !== count) throw new Error(`${n} descriptors of ${count} dirty pages`);
  return found;
}

function countBits(bitmap: Uint8Array): number {
  let count = 0;
  for (const word of new Uint32Array(bitmap.slice().buffer)) {
    for (let rest = word; rest !== 0; rest &= rest - 1) count++;
  }
  return count;
}

/** What CLEAR is compared with. @returns descriptors changed */
function clearWords(words: Uint32Array, at: Uint32Array): number {
  let changed = 0;
  for (let i = 0; i < at.length; i++) {
    const position = at[i]!;
    const lo = words[position]!;
    if ((lo & S2AP_WRITE) === 0) continue;
    words[position] = lo & ~S2AP_WRITE;
    changed++;
  }
  return changed;
}

/** The same where every page is dirty: table by table, without a list of positions to read. */
function clearTables(words: Uint32Array, tables: Uint32Array): number {
  let changed = 0;
  for (let i = 0; i < tables.length; i++) {
    const first = tables[i]!;
    const end = first + ENTRIES * 2;
    for (let at = first; at < end; at += 2) {
      const lo = words[at]!;
      if ((lo & S2AP_WRITE) === 0) continue;
      words[at] = lo & ~S2AP_WRITE;
      changed++;
    }
  }
  return changed;
}

/** The slot as the storing vCPUs left it, to be brought back before every turn. */
class Dirtied {
  readonly count: number;
  readonly #guest: InlineGuest;
  readonly #bitmap: Uint8Array;
  readonly #positions: Uint32Array;
  readonly #tables: Uint32Array | null;

  constructor(guest: InlineGuest) {
    this.#guest = guest;
    this.#bitmap = guest.dirtyLog();
    this.count = countBits(this.#bitmap);
    this.#positions = descriptorsOf(guest, this.#bitmap, this.count);
    const isWhole = this.count === guest.pages;
    this.#tables = isWhole ? this.#positions.filter((_, at) => at % ENTRIES === 0) : null;
  }

  /** The bitmap that names exactly the dirty pages, in a buffer of its own. */
  bits(): Uint8Array {
    return this.#bitmap.slice();
  }

  get #words(): Uint32Array {
    return this.#guest.instance.machine.kvm.vm.host.memory.u32;
  }

  again(): void {
    const words = this.#words;
    for (const at of this.#positions) words[at]! |= S2AP_WRITE;
    const { vm } = this.#guest.instance.machine.kvm;
    const log = vm.slots.get(SLOT)?.dirtyBitmap;
    if (log === undefined || log === null) throw new Error("the slot does not log");
    vm.host.memory.u8.set(this.#bitmap, log.pa);
  }

  loop(): number {
    this.again();
    const words = this.#words;
    const tables = this.#tables;
    const elapsed = timed(() => {
      const changed =
        tables === null ? clearWords(words, this.#positions) : clearTables(words, tables);
      if (changed !== this.count) throw new Error(`the loop changed ${changed} descriptors`);
    });
    return elapsed;
  }

  clear(): number {
    this.again();
    const bits = this.bits();
    return timed(() => {
      const cleared = this.#guest.clear(bits);
      if (cleared !== this.count) throw new Error(`CLEAR took ${cleared} of ${this.count} pages`);
    });
  }
}

function measure(context: BenchContext, what: string, dirtied: Dirtied, held: boolean) {
  for (let warm = 0; warm < 3; warm++) {
    dirtied.loop();
    dirtied.clear();
  }
  return compare(
    context.quick ? 3 : 11,
    () => dirtied.clear(),
    () => dirtied.loop(),
  ).then(({ ours, theirs, ratio }) => {
    context.note(`${what}: ${dirtied.count} pages, loop ${theirs.toFixed(2)} ms`);
    context.report({ what, figure: ours, unit: "ms", ratio, ...(held ? { bar: BAR } : {}) });
  });
}

/**
 * CLEAR while a vCPU stores all over the slot: what its caller waits, since both share a thread.
 * Before each CLEAR the vCPU dirties the share that the others start from.
 */
function measureBusy(context: BenchContext, guest: InlineGuest, bytes: number, what: string): void {
  const { vm } = guest.instance.machine.kvm;
  const stores = storesFor(DIRTY_SHARE, guest.pages);
  guest.stores(0, { bytes, count: 0 }, "uniform");
  const run = guest.beginRun();
  const times: number[] = [];
  for (let round = 0; round < (context.quick ? 3 : 9); round++) {
    const end = vm.instructions + stores;
    guest.advance(() => vm.instructions >= end);
    const bits = guest.dirtyLog();
    times.push(timed(() => guest.clear(bits)));
  }
  guest.call("kick", { vcpu: 0 });
  guest.finish(run);
  context.report({ what, figure: median(times), unit: "ms" });
}

async function subject(context: BenchContext, tracking: Tracking): Promise<void> {
  const bytes = (context.quick ? 2 : 64) * GIB;
  const size = `${bytes / GIB} GiB, ${tracking}`;
  const isDefault = tracking === "write-protect";
  const guest = new InlineGuest({ bytes, dirtyTracking: tracking });
  guest.stores(0, { bytes, count: storesFor(DIRTY_SHARE, guest.pages) }, "uniform");
  guest.runAll(1);
  await measure(context, `CLEAR of 2 % random bits, ${size}`, new Dirtied(guest), isDefault);
  measureBusy(context, guest, bytes, `CLEAR of 2 % random bits, ${size}, a vCPU stores`);
  guest.stores(0, { bytes, count: guest.pages }, { stride: PAGE });
  guest.runAll(1);
  await measure(context, `CLEAR of all bits, ${size}`, new Dirtied(guest), isDefault);
  guest.close();
}

export default async function dirtyLogClear(context: BenchContext): Promise<void> {
  await subject(context, "write-protect");
  await subject(context, "dbm");
}
