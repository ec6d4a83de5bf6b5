// Owns: HDBSS and HACDBS against write protection, inline and interleaved: stores to new and to
// cleaned pages, what an append and a drained entry cost here, cleaning, and how it grows.
// These are times of the emulation; what silicon would take is in `tidemark dirty-log-perf`.
import { GIB, MIB, PAGE } from "./support/guest.js";
import { allBits, InlineGuest, type InlineOptions } from "./support/inline.js";
import { median, timed } from "./support/measure.js";
import type { BenchContext } from "./support/subject.js";

type Way = Omit<InlineOptions, "bytes" | "vcpus">;

const NS_PER_MS = 1e6;
const MS_PER_S = 1000;
const WAYS = {
  "write-protect": {},
  dbm: { dirtyTracking: "dbm" },
  hdbss: { hdbssOrder: 0, settings: { "hacdbs.use": "off" } },
  "hdbss+hacdbs": { hdbssOrder: 0, settings: { "hacdbs.use": "with-hdbss" } },
} as const satisfies Record<string, Way>;
const NAMES = Object.keys(WAYS) as (keyof typeof WAYS)[];
/** 2 MiB, and drained by GET alone: the run itself only appends. */
const APPEND_ONLY: Way = {
  hdbssOrder: 9,
  settings: { "hacdbs.use": "off", "hdbss.flushAt": "preserve-index-on-put" },
};

/** A store to every page, in order, each vCPU in its own part. @returns ms */
function writeAll(guest: InlineGuest, vcpus = 1): number {
  const share = guest.pages / vcpus;
  for (let vcpu = 0; vcpu < vcpus; vcpu++) {
    const window = { base: vcpu * share * PAGE, bytes: share * PAGE, count: share };
    guest.stores(vcpu, window, { stride: PAGE });
  }
  return timed(() => guest.runAll(vcpus));
}

class Times {
  readonly #of = new Map<string, number[]>();

  add(name: string, ms: number): void {
    this.#of.set(name, [...(this.#of.get(name) ?? []), ms]);
  }

  median(name: string): number {
    return median(this.#of.get(name) ?? []);
  }

  /** Of rounds, so that what else the machine did meets both alike. */
  ratio(name: string, to: string): number {
    const [ours, theirs] = [this.#of.get(name) ?? [], this.#of.get(to) ?? []];
    return median(ours.map((ms, at) => ms / (theirs[at] ?? Number.NaN)));
  }
}

function writesAndCleans(context: BenchContext): void {
  const bytes = context.quick ? 128 * MIB : GIB;
  const times = new Times();
  for (let round = 0; round < (context.quick ? 2 : 5); round++) {
    for (const name of NAMES) {
      const guest = new InlineGuest({ bytes, ...WAYS[name] });
      const bits = allBits(guest.pages);
      times.add(`first touch, ${name}`, writeAll(guest));
      guest.clear(bits);
      // The first pass after may still have to give leaves their DBM bit.
      writeAll(guest);
      guest.clear(bits);
      times.add(`re-dirty, ${name}`, writeAll(guest));
      guest.dirtyLog();
      let pages = 0;
      const clean = () => {
        pages = guest.clear(bits);
      };
      times.add(`CLEAR, ${name}`, timed(clean));
      if (pages !== guest.pages) throw new Error(`${name}: ${pages} pages were dirty`);
      guest.close();
    }
  }
  const pages = bytes / PAGE;
  for (const what of ["first touch", "re-dirty", "CLEAR"]) {
    for (const name of NAMES) {
      const figure = (pages / times.median(`${what}, ${name}`)) * MS_PER_S;
      const against = times.ratio(`${what}, write-protect`, `${what}, ${name}`);
      const ratio = name === "write-protect" ? {} : { ratio: against };
      context.report({ what: `${what}, ${name}`, figure, unit: "pages/s", ...ratio });
    }
  }
}

function appendAndDrain(context: BenchContext): void {
  const bytes = context.quick ? 128 * MIB : GIB;
  const times = new Times();
  for (let round = 0; round < (context.quick ? 2 : 5); round++) {
    for (const [name, way] of [
      ["dbm", WAYS.dbm],
      ["append", APPEND_ONLY],
    ] as const) {
      const guest = new InlineGuest({ bytes, ...way });
      const bits = allBits(guest.pages);
      for (let pass = 0; pass < 2; pass++) {
        writeAll(guest);
        guest.clear(bits);
      }
      times.add(name, writeAll(guest));
      times.add(
        `${name} GET`,
        timed(() => void guest.dirtyLog()),
      );
      times.add(
        `${name} GET again`,
        timed(() => void guest.dirtyLog()),
      );
      guest.setLogging(false);
      writeAll(guest);
      // Nothing is logged, every leaf is writable, and no translation is cached any more.
      times.add(`${name} plain`, writeAll(guest));
      guest.close();
    }
  }
  const pages = bytes / PAGE;
  const each = (ms: number) => (ms / pages) * NS_PER_MS;
  const plain = each(times.median("dbm plain"));
  const append = each(times.median("append") - times.median("dbm"));
  context.report({ what: "store to a page not in the TLB, no log", figure: plain, unit: "ns" });
  context.report({
    what: "what the append adds to it",
    figure: append,
    unit: "ns",
    ratio: append / plain,
  });
  const drain = times.median("append GET") - times.median("append GET again");
  context.report({ what: "drain", figure: (pages / drain) * MS_PER_S, unit: "entries/s" });
}

/** As many pages dirty, whatever is around them. */
const DIRTY = 65_536;

function growth(context: BenchContext, name: "write-protect" | "hdbss+hacdbs"): void {
  for (const gib of context.quick ? [1, 16] : [1, 16, 64, 256]) {
    const guest = new InlineGuest({ bytes: gib * GIB, ...WAYS[name] });
    const stride = (guest.pages / DIRTY) * PAGE;
    const write = () => {
      guest.stores(0, { bytes: gib * GIB, count: DIRTY }, { stride });
      return timed(() => guest.runAll(1));
    };
    for (let pass = 0; pass < 2; pass++) {
      write();
      guest.clear(guest.dirtyLog());
    }
    const figure = (write() / DIRTY) * NS_PER_MS;
    let bits: Uint8Array = new Uint8Array(0);
    const get = timed(() => {
      bits = guest.dirtyLog();
    });
    const clear = timed(() => guest.clear(bits));
    guest.close();
    context.report({ what: `re-dirty, ${gib} GiB, ${name}`, figure, unit: "ns/page" });
    context.report({ what: `GET, ${gib} GiB, ${name}`, figure: get, unit: "ms" });
    context.report({ what: `CLEAR, ${gib} GiB, ${name}`, figure: clear, unit: "ms" });
  }
  for (const vcpus of context.quick ? [1, 4] : [1, 4, 16, 64]) {
    const guest = new InlineGuest({ bytes: GIB, vcpus, ...WAYS[name] });
    for (let pass = 0; pass < 2; pass++) {
      writeAll(guest, vcpus);
      guest.clear(guest.dirtyLog());
    }
    const figure = (writeAll(guest, vcpus) / guest.pages) * NS_PER_MS;
    const clear = timed(() => guest.clear(guest.dirtyLog()));
    guest.close();
    const who = `${vcpus} vCPU${vcpus === 1 ? "" : "s"}, ${name}`;
    context.report({ what: `re-dirty, ${who}`, figure, unit: "ns/page" });
    context.report({ what: `GET and CLEAR of 1 GiB, ${who}`, figure: clear, unit: "ms" });
  }
}

export default function dirtyHardware(context: BenchContext): void {
  writesAndCleans(context);
  appendAndDrain(context);
  for (const name of ["write-protect", "hdbss+hacdbs"] as const) growth(context, name);
}
