// What one simulated VM is made of, drawn from its seed: page size, vCPUs, and where memory lies.
//
// Two hazards of Linux's dirty ring are kept out by construction, because KVM itself loses pages
// there and Tidemark answers as KVM does:
// - Entries of a slot that became smaller under the same id: a reset that meets one beyond the new
//   end re-arms nothing of its whole run. With a ring every slot id keeps its size for life.
// - INITIALLY_SET with a ring and no bitmap: nothing is write-protected and nothing records.
import { PAGE_SIZES, type PageSize, pageGeometry } from "../../src/base/page.js";
import { Prng } from "../../src/base/prng.js";
import type { InstanceDeps, VmDefinition } from "../../src/vmm/index.js";
import { DOORBELL, type GuestCode, guestCode, PLACE } from "./guest/code.js";
import { type GuestTables, guestTables } from "./guest/tables.js";
import { type DrawnHardware, drawHardware, type Pins } from "./hardware/draw.js";
import type { Mode } from "./modes.table.js";

/** The part of guest memory in which a slot id lives and moves, and the object behind it. */
export interface Home {
  readonly slot: number;
  /** Guest pages [first, first + pages). */
  readonly first: number;
  readonly pages: number;
  readonly objectPages: number;
  readonly backing: "ram" | "unbacked";
  /** Slot whose object this one uses too, or null for one of its own. */
  readonly alias: number | null;
  /** Pages of the slot whenever it exists, or null when they vary. */
  readonly fixedPages: number | null;
  /** Stays where it is. */
  readonly isPinned?: true;
}

export interface Layout {
  readonly definition: VmDefinition;
  readonly vcpus: number;
  readonly homes: readonly Home[];
  /** Pages of a level 2 block. */
  readonly blockPages: number;
  readonly ringBytes: number;
  /** Large slots, stored to from end to end, and a client that seldom looks: rings fill up. */
  readonly isFlooded: boolean;
  /** null: every vCPU does accesses of lists and patterns. */
  readonly guest: GuestLayout | null;
  /** null: a mode without dirty hardware. */
  readonly hardware: DrawnHardware | null;
}

/** What the vCPUs that run guest code have in common. */
export interface GuestLayout {
  /** Whether each vCPU runs guest code, by id. */
  readonly runs: readonly boolean[];
  /** The slot of code, shared words and tables: always there, its log comes and goes. */
  readonly home: Home;
  /** Guest-physical address of its first byte. */
  readonly codeAt: number;
  readonly code: GuestCode;
  /** What the host last wrote into the function that it changes. */
  readonly patched: { constant: number };
  /** null: stage 1 is off. */
  readonly tables: GuestTables | null;
  /** Hardware keeps AF and dirty state in the tables. */
  readonly isManaged: boolean;
  /** Pages that guests may store to. */
  readonly windows: { readonly first: number; readonly pages: number };
  /** When hot code is translated; made anew for each VM. */
  readonly translation: () => InstanceDeps["translation"];
  /** The same for a replay, which must end alike. */
  readonly retranslation: () => InstanceDeps["translation"];
}

const BASE_GFN = 0x40000;
/** Larger objects are unbacked: an unmapped one is not zeroed byte by byte. */
const RAM_BYTES_MAX = 2 ** 20;
/** Memory whose bytes are copied and compared. */
const GUEST_RAM_BYTES_MAX = 2 ** 22;
const CODE_GFN = 0x20000;
const CODE_SLOT = 7;
const SLOT_IDS = [0, 1, 3, 32766] as const;

/** Every choice comes from the seed alone, whatever page size is then forced. */
export function prngOf(seed: number, mode: Mode): Prng {
  let hash = 0n;
  for (const letter of mode.name) hash = (hash * 31n + BigInt(letter.charCodeAt(0))) & 0xffff_ffffn;
  return new Prng((BigInt(seed) << 32n) | hash);
}

/** Blocks of larger pages are more memory than can be compared. */
function guestPageSize(mode: Mode, drawn: PageSize): PageSize {
  return mode.hasBlocks ? PAGE_SIZES[0]! : drawn;
}

function drawTranslation(prng: Prng): GuestLayout["translation"] {
  const kind = prng.below(10);
  const seed = prng.u64();
  const waits = prng.pick([2, 10, 60]);
  const regionMax = prng.pick([4, 24, 160]);
  if (kind === 0) return () => null;
  if (kind < 4) return () => ({});
  return () => {
    const delays = new Prng(seed);
    return { delay: () => delays.below(waits), regionMax };
  };
}

function drawGuest(
  prng: Prng,
  pageSize: PageSize,
  homes: readonly Home[],
  vcpus: number,
): GuestLayout {
  const shift = Math.log2(pageSize);
  const all = prng.below(2) === 0;
  const runs = Array.from({ length: vcpus }, () => all || prng.below(2) === 0);
  runs[prng.below(vcpus)] = true;
  const codeAt = CODE_GFN * pageSize;
  const last = homes.at(-1)!;
  const first = homes[0]!.first;
  const windows = { first, pages: last.first + last.pages - first };
  const isManaged = prng.below(2) === 0;
  const request = {
    shift,
    at: codeAt + PLACE.tables,
    windows,
    device: Math.floor(DOORBELL / pageSize),
    managed: isManaged,
  };
  // How large the tables are doesn't depend on how much code there is.
  const code = { first: CODE_GFN, pages: 1 };
  const isOn = prng.below(3) > 0;
  const { length } = isOn ? guestTables({ ...request, code }).bytes : [];
  const pages = Math.ceil((PLACE.tables + length) / pageSize);
  const home: Home = {
    slot: CODE_SLOT,
    first: CODE_GFN,
    pages,
    objectPages: pages,
    backing: "ram",
    alias: null,
    fixedPages: pages,
    isPinned: true,
  };
  return {
    runs,
    home,
    codeAt,
    code: guestCode(shift),
    patched: { constant: 1 },
    tables: isOn ? guestTables({ ...request, code: { ...code, pages } }) : null,
    isManaged: isOn && isManaged,
    windows,
    translation: drawTranslation(prng),
    retranslation: drawTranslation(prng),
  };
}

function drawPageSize(prng: Prng, mode: Mode): PageSize {
  const at = prng.below(100);
  // Large pages with blocks mean tables of 8,192 entries: seldom, or they eat the whole run.
  if (at < (mode.hasBlocks ? 2 : 8)) return PAGE_SIZES[2]!;
  return at < (mode.hasBlocks ? 22 : 52) ? PAGE_SIZES[1]! : PAGE_SIZES[0]!;
}

/** Mostly small and odd: word edges and tails; sometimes several batches of 512. */
function drawPages(prng: Prng): number {
  const kind = prng.below(20);
  if (kind < 4) return prng.pick([63, 64, 65, 127, 128, 129, 512, 513]);
  if (kind < 15) return 40 + prng.below(160);
  return kind < 18 ? 200 + prng.below(800) : 1100 + prng.below(1500);
}

export function drawLayout(
  prng: Prng,
  mode: Mode,
  forced: PageSize | null,
  pins: Pins = {},
): Layout {
  const drawn = drawPageSize(prng, mode);
  const pageSize = forced ?? (mode.hasGuests ? guestPageSize(mode, drawn) : drawn);
  const geometry = pageGeometry(pageSize);
  const blockPages = geometry.leafSizes[1]! / pageSize;
  const vcpus = 1 + prng.below(4);
  const hostCpus = prng.below(10) < 3 ? 1 + prng.below(vcpus) : 0;
  const count = 1 + prng.below(3);
  const isFlooded = mode.ring !== "none" && prng.below(4) === 0;
  const homes: Home[] = [];
  let first = BASE_GFN + (mode.hasBlocks ? 0 : prng.below(blockPages));
  for (let i = 0; i < count; i++) {
    const hasBlocks = mode.hasBlocks && i === 0;
    const alias =
      i > 0 && !mode.hasBlocks && !mode.hasGuests && prng.below(6) === 0 ? SLOT_IDS[i - 1]! : null;
    const before = homes[i - 1];
    const small = isFlooded ? 250 + prng.below(400) : drawPages(prng);
    const most = mode.hasGuests ? GUEST_RAM_BYTES_MAX / pageSize : small;
    const own = hasBlocks ? 2 * blockPages + prng.below(100) : Math.min(small, most);
    const objectPages = alias === null ? own : before!.objectPages;
    const isBig = objectPages * pageSize > RAM_BYTES_MAX;
    const pages = hasBlocks ? 4 * blockPages : 2 * objectPages + 64;
    homes.push({
      slot: SLOT_IDS[i]!,
      first,
      pages,
      objectPages,
      backing: !mode.hasGuests && (isBig || prng.below(5) === 0) ? "unbacked" : "ram",
      alias,
      fixedPages: mode.ring === "none" ? null : objectPages - prng.below(objectPages >>> 3),
    });
    first += pages + prng.below(100);
    if (mode.hasBlocks) first += blockPages - (first % blockPages);
  }
  const hardware = mode.clean === undefined ? null : drawHardware(prng, mode.clean, vcpus, pins);
  const definition: VmDefinition = {
    type: 40n,
    pageSize,
    hostCpus,
    seed: prng.u64(),
    clock: { mode: "virtual", nsPerInstruction: 1, idle: "jump" },
    dirtyTracking: mode.tracking,
    ...(hardware === null ? {} : { dirty: { settings: hardware.settings, seedBugs: [] } }),
  };
  // A ring must have room for a buffer of one page.
  const isNaive = hardware?.settings["hdbss.ring"] === "naive";
  const least = hardware === null || isNaive ? 0 : 2;
  const ringBytes =
    mode.ring === "none" ? 0 : pageSize << (least + (isFlooded ? 0 : prng.below(2)));
  const guest = mode.hasGuests ? drawGuest(prng, pageSize, homes, vcpus) : null;
  return { definition, vcpus, homes, blockPages, ringBytes, isFlooded, guest, hardware };
}
