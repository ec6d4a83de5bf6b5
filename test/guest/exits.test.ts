// Goal: every exit reason that a guest can cause, with all that kvm_run tells of it, in the order
// of the guest's code; and what the VMM answers reaches the guest.
// Method: test/guest/exits.S under a small VMM. A row is one end of KVM_RUN and what is done about
// it; both tiers and the three granules give the same records. A new reason of exit.table.ts
// without a row fails.
import { describe, expect, it } from "vitest";
import { EXITS } from "../../src/kvm/uapi/exit.table.js";
import type { RunResult } from "../../src/vmm/commands.js";
import {
  AT,
  calls,
  cleaned,
  debugs,
  type Exit,
  ExitVmm,
  event,
  exitOf,
  fails,
  interrupted,
  LOG_SLOT,
  loads,
  marks,
  memoryFault,
  nisv,
  PC,
  ringFull,
  sea,
  stores,
  tells,
  X,
} from "../support/exit-guest.js";
import { bitmapOf, type InlineOptions } from "../support/inline.js";

/** Reasons that no guest code has a way to. */
const NOT_BY_GUESTS: Readonly<Record<string, string>> = {
  KVM_EXIT_HLT: "the end of a synthetic program",
};

interface Row {
  readonly exit: Exit;
  /** How the VMM runs into it; KVM_RUN by default. */
  readonly by?: (vm: ExitVmm) => RunResult;
  /** What the VMM does then. */
  readonly act?: (vm: ExitVmm) => void;
  /** What the device answers to a load. */
  readonly answer?: readonly number[];
}
type PageSize = 4096 | 16384 | 65536;

const ONES = -1n;
const DEVICE = [0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8];
const STORED = 0x8877_6655_4433_2211n;
const DABT_SAME = 0x9600_0010n;
const UNDEFINED = 0x0200_0000n;
const SERROR = 0xbf00_0000n;
const MP = { RUNNABLE: 0, SUSPENDED: 10 } as const;
const ENABLE = 1;
const STEP = ENABLE | 2;
const SW_BP = ENABLE | (1 << 16);
const HW = ENABLE | (1 << 17);
/** DBGBCR and DBGWCR: enabled at EL1 and EL0, all bytes; the latter for stores. */
const BREAK = 1n | (3n << 1n) | (0xfn << 5n);
const WATCH = 1n | (3n << 1n) | (2n << 3n) | (0xffn << 5n);
const STEPPED = 0xcb00_0022n;
const LAST_ROUND = 199n;
const WATCHED = AT.data + 8 * 150;
const K16 = 16384;

/** Translation fault of stage 2: the level at which nothing is there, by granule. */
const FSC = {
  4096: { mmio: 5n, rom: 6n },
  16384: { mmio: 6n, rom: 6n },
  65536: { mmio: 6n, rom: 7n },
} as const;
const WNR = 0x40n;

const just = (...exits: Exit[]): Row[] => exits.map((exit) => ({ exit }));
/** A load that the device answers, and what the guest made of it. */
const told = (offset: number, len: number, value: bigint): Row[] => [
  { exit: loads(AT.mmio + offset, len), answer: DEVICE.slice(0, len) },
  { exit: tells(value) },
];

const MMIO_ROWS: readonly Row[] = [
  ...just(
    stores(AT.mmio, 1, STORED),
    stores(AT.mmio + 2, 2, STORED),
    stores(AT.mmio + 4, 4, STORED),
    stores(AT.mmio + 8, 8, STORED),
    stores(AT.mmio + 16, 8, 0n),
    stores(AT.mmio, 4, STORED),
    stores(AT.rom + 4, 4, STORED),
  ),
  ...told(0, 1, 0x81n),
  ...told(2, 2, 0x9281n),
  ...told(4, 4, 0xb4a3_9281n),
  ...told(8, 8, 0xf8e7_d6c5_b4a3_9281n),
  ...told(0, 1, 0xffff_ff81n),
  ...told(0, 1, 0xffff_ffff_ffff_ff81n),
  ...told(2, 2, 0xffff_9281n),
  ...told(2, 2, 0xffff_ffff_ffff_9281n),
  ...told(4, 4, 0xffff_ffff_b4a3_9281n),
  ...told(0, 8, 0xf8e7_d6c5_b4a3_9281n),
  { exit: loads(AT.mmio + 8, 8), answer: DEVICE },
];

function nisvRows(pageSize: PageSize): readonly Row[] {
  const { mmio, rom } = FSC[pageSize];
  return [
    { exit: marks(1) },
    { exit: fails("ENOSYS"), act: (vm) => vm.nisvToUser() },
    { exit: nisv(WNR | mmio, AT.mmio), act: (vm) => vm.skip() },
    { exit: nisv(mmio, AT.mmio), act: (vm) => vm.skip(5n) },
    { exit: tells(5n) },
    { exit: nisv(mmio, AT.mmio), act: (vm) => vm.skip(6n) },
    { exit: tells(6n) },
    { exit: nisv(WNR | rom, AT.rom), act: (vm) => vm.skip() },
    { exit: nisv(mmio, AT.mmio), act: (vm) => vm.abort() },
    ...just(tells(DABT_SAME), tells(BigInt(AT.mmio)), tells(ONES), tells(BigInt(AT.mmio))),
  ];
}

const QUIET_ROWS: readonly Row[] = [
  // HLT is UNDEFINED without halting debug; FAR_EL1 is what the last abort left.
  ...just(tells(UNDEFINED), tells(BigInt(AT.mmio))),
  { exit: marks(2) },
  {
    exit: marks(3),
    act: (vm) => {
      expect(vm.rings()).toBe(1n);
      const queued = { physAddr: BigInt(AT.zone + 2), len: 2, pio: 0 };
      expect(vm.drain()).toEqual([{ ...queued, data: Uint8Array.of(0x11, 0x22) }]);
      vm.irq(1);
    },
  },
  {
    exit: tells(0x1_0003n),
    act: (vm) => {
      // One WFE found the event that SEVL left.
      const { wfiExit, wfeExit, mmioExitKernel } = vm.kvm.vm.vcpus[0]!.stats;
      expect({ wfiExit, wfeExit, mmioExitKernel }).toEqual({
        wfiExit: 1,
        wfeExit: 1,
        mmioExitKernel: 2,
      });
      vm.irq(0);
    },
  },
];

const goOn = (vm: ExitVmm): void => vm.mpState(MP.RUNNABLE);
const CALL_ROWS: readonly Row[] = [
  {
    exit: calls(0n),
    act: (vm) => {
      vm.set(X(0), 0x11n);
      vm.set(X(3), 0x33n);
    },
  },
  ...just(tells(0x11n), tells(0x33n)),
  { exit: calls(1n), act: (vm) => vm.set(X(0), 0x22n) },
  { exit: tells(0x22n) },
  // Run on, the guest finds INTERNAL_FAILURE.
  ...[event(1, 0n), event(1, 1n), event(2, 0n), event(2, 1n)].flatMap((exit): Row[] => [
    { exit, act: goOn },
    { exit: tells(-6n) },
  ]),
  {
    exit: event(5),
    act: (vm) => {
      vm.mpState(MP.SUSPENDED);
      vm.irq(1);
    },
  },
  {
    exit: event(4),
    act: (vm) => {
      vm.irq(0);
      goOn(vm);
      vm.set(X(0), 0n);
    },
  },
  { exit: tells(0n) },
];

function memoryRows(pageSize: PageSize): readonly Row[] {
  const down = (at: number): number => at - (at % pageSize);
  const broken = AT.unbacked + 0x1238;
  const abort = sea(0x9200_0010n, broken, down(broken));
  return [
    { exit: memoryFault(down(AT.memfd + 0x1230), pageSize), act: (vm) => vm.replaceMemfd() },
    { exit: tells(0n) },
    { exit: fails("EFAULT") },
    { exit: fails("EFAULT"), act: (vm) => vm.mapHole() },
    { exit: tells(0n) },
    ...just(tells(SERROR), tells(BigInt(AT.mmio)), tells(ONES)),
    { exit: marks(4), act: (vm) => vm.seaToUser() },
    { exit: abort },
    { exit: abort, act: (vm) => vm.abort() },
    ...just(tells(DABT_SAME), tells(BigInt(broken)), tells(ONES)),
  ];
}

const TIMER_ROWS: readonly Row[] = [
  // In WFI, then in a loop: the line rises, IRQ is taken, the line falls.
  ...[0, 1].flatMap((): Row[] => [
    { exit: interrupted(1), act: (vm) => vm.irq(1) },
    { exit: stores(AT.tell, 8, 0x80n, 1) },
    { exit: interrupted(), act: (vm) => vm.irq(0) },
  ]),
  { exit: marks(5) },
  { exit: interrupted(), by: (vm) => vm.kicked() },
  {
    exit: interrupted(),
    by: (vm) => vm.run(0, { immediateExit: true }),
    act: (vm) => vm.set(X(9), 7n),
  },
  { exit: tells(7n) },
];

const at = (word: number) => (vm: ExitVmm) => {
  expect(vm.get(PC)).toBe(BigInt(AT.debugged + 4 * word));
};
const DEBUG_ROWS: readonly Row[] = [
  { exit: marks(6), act: (vm) => vm.debug(HW, { bcr: [BREAK], bvr: [BigInt(AT.debugged)] }) },
  {
    exit: debugs(0xc200_0022n),
    act: (vm) => {
      at(0)(vm);
      vm.debug(STEP);
    },
  },
  { exit: debugs(STEPPED), act: at(1) },
  {
    exit: debugs(STEPPED),
    act: (vm) => {
      at(2)(vm);
      vm.debug(HW, { wcr: [WATCH], wvr: [BigInt(AT.data)] });
    },
  },
  {
    exit: debugs(0xd200_0062n, BigInt(AT.data)),
    act: (vm) => {
      at(2)(vm);
      vm.debug(STEP);
    },
  },
  { exit: debugs(STEPPED), act: at(3) },
  // Of a load-exclusive.
  { exit: debugs(0xcb00_0062n), act: (vm) => vm.debug(SW_BP) },
  {
    exit: debugs(0xf200_0077n),
    act: (vm) => {
      at(4)(vm);
      vm.debug(0);
      vm.skip();
    },
  },
];

const HOT_ROWS: readonly Row[] = [
  { exit: marks(7), act: (vm) => vm.debug(HW, { wcr: [WATCH], wvr: [BigInt(WATCHED)] }) },
  { exit: debugs(0xd200_0062n, BigInt(WATCHED)), act: (vm) => vm.debug(0) },
  { exit: stores(AT.mmio, 8, LAST_ROUND) },
  { exit: loads(AT.mmio, 8), answer: DEVICE },
  { exit: calls(0n) },
  { exit: tells(0xf8e7_d6c5_b4a3_9281n) },
];

function ringRows(pageSize: PageSize): readonly Row[] {
  const limit = ExitVmm.ringLimit(pageSize);
  return [
    { exit: ringFull },
    {
      exit: ringFull,
      act: (vm) => {
        expect(vm.harvest()).toEqual(Array.from({ length: limit }, (_, n) => n));
        expect(vm.call("resetDirtyRings", {}).reset).toBe(limit);
      },
    },
    ...just(marks(8), event(1, 0n)),
  ];
}

/** Stores behind the ring's limit. */
const BEYOND = 8;

function allRows(pageSize: PageSize): readonly Row[] {
  return [
    ...MMIO_ROWS,
    ...nisvRows(pageSize),
    ...QUIET_ROWS,
    ...CALL_ROWS,
    ...memoryRows(pageSize),
    ...TIMER_ROWS,
    ...DEBUG_ROWS,
    ...HOT_ROWS,
    ...ringRows(pageSize),
  ];
}

const CLEANED_PAGES = 128;
const bitmap = bitmapOf(
  CLEANED_PAGES,
  Array.from({ length: CLEANED_PAGES }, (_, n) => n),
);
const CLEANED_ROWS: readonly Row[] = [
  {
    exit: marks(9),
    act: (vm) => {
      const window = { slot: LOG_SLOT, firstPage: 0n, numPages: CLEANED_PAGES, bitmap };
      const deferred = { cleared: 0, deferred: CLEANED_PAGES };
      expect(vm.dirty(LOG_SLOT)).toHaveLength(CLEANED_PAGES);
      expect(vm.call("deferDirtyLogClear", window)).toEqual(deferred);
    },
  },
  {
    exit: cleaned(LOG_SLOT, 0, CLEANED_PAGES),
    act: (vm) => {
      expect(vm.counter("hacdbsCleaned")).toBe(CLEANED_PAGES);
      vm.set(X(9), 3n);
    },
  },
  ...just(tells(3n), event(1, 0n)),
];

/** Runs from row to row. */
function follow(vm: ExitVmm, rows: readonly Row[]): void {
  let answer: readonly number[] | undefined;
  for (const [n, row] of rows.entries()) {
    const plain = () => vm.run(0, answer === undefined ? {} : { mmioData: [...answer] });
    const run = row.by === undefined ? plain() : row.by(vm);
    expect(exitOf(run), `exit ${n}`).toEqual(row.exit);
    row.act?.(vm);
    answer = row.answer;
  }
}

const HACDBS = {
  dirtyTracking: "dbm",
  dirty: {
    settings: {
      "hacdbs.use": "with-dbm",
      "clear.mode": "async-run",
      "clear.deferMaxUs": 1_000_000,
    },
    seedBugs: [],
  },
} as const;

const ways = ([4096, K16, 65536] as const).flatMap((pageSize) =>
  [{}, { regionMax: 4 }, null].map((translation) => ({ pageSize, translation })),
);

describe.each(ways)("the guest of all exits: %o", ({ pageSize, translation }) => {
  const options: InlineOptions = { pageSize, translation };

  it("leaves KVM_RUN as each instruction makes it, with all that kvm_run tells", () => {
    const pages = ExitVmm.ringLimit(pageSize) + BEYOND;
    const vm = new ExitVmm(0, pages, options);
    follow(vm, allRows(pageSize));
    // Or both tiers were one.
    const { translated } = vm.kvm.vm.a64!;
    if (translation === null) expect(translated).toBeNull();
    else expect(translated!.functions).toBeGreaterThan(0);
  });

  it("is told when a deferred CLEAR is done", () => {
    follow(new ExitVmm(1, CLEANED_PAGES, { ...options, ...HACDBS }), CLEANED_ROWS);
  });
});

it("every exit reason has its row, or why no guest causes it", () => {
  const rows = [...allRows(4096), ...CLEANED_ROWS];
  const seen = new Set<string>(rows.map(({ exit }) => exit.exitReason));
  expect(Object.keys(EXITS).filter((name) => !seen.has(name))).toEqual(Object.keys(NOT_BY_GUESTS));
});
