// Goal: page_fault_test (partial) with guest code: what each kind of access to each kind of memory
// ends as, and what it leaves in the logs of the page and of the stage-1 tables.
// Method: stage 1 maps the test's pages through a slot of tables; the guest makes one access to a
// page that is memory, read-only, no slot at all, or a slot that nothing backs.
import { describe, expect, it } from "vitest";
import * as a64 from "../../../support/a64.js";
import { Guest, K4, ldrPost, report, useVectors } from "../../../support/guest-code.js";
import { BASE, type InlineOptions, MIB } from "../../../support/inline.js";

const LOG = 1;
const READONLY = 2;
const TABLES = BASE + 2 * MIB;
const DATA = BASE + 4 * MIB;
const TABLE_SLOT = 1;
const DATA_SLOT = 2;
const AF = 1n << 10n;
const HA = 1n << 39n;
/** Of the table slot: the level-3 table, whose entries map the data pages. */
const LEVEL_3 = 2;
const VALUE = 0x1122_3344_5566_7788n;

/** The address is in x1, two bytes before the end of its page for what crosses into the next. */
const ACCESSES = {
  read: [a64.ldr(2, 1)],
  "read, post-indexed": [ldrPost(2, 1)],
  write: [a64.str(3, 1)],
  "write, pre-indexed": [0xf800_8c23], // STR X3, [X1, #8]!
  cas: [0xc8a2_7c23], // CAS X2, X3, [X1]
  "dc zva": [a64.dcZva(1)],
  ldp: [a64.add(1, 1, 4088), a64.ldp(2, 4, 1)],
  stp: [a64.add(1, 1, 4088), a64.stp(3, 3, 1)],
  at: [0xd508_7801], // AT S1E1R, X1
  exec: [a64.blr(1)],
} as const;
type AccessName = keyof typeof ACCESSES;
const NAMES = Object.keys(ACCESSES) as AccessName[];
const WRITES: readonly AccessName[] = ["write", "write, pre-indexed", "cas", "dc zva", "stp"];
const TWO_PAGES: readonly AccessName[] = ["ldp", "stp"];
/** Instructions whose syndrome doesn't say what to do in their place. */
const UNDESCRIBED: readonly AccessName[] = [
  "read, post-indexed",
  "write, pre-indexed",
  "cas",
  "dc zva",
  "ldp",
  "stp",
];

const entry = (value: bigint) => [Number(value & 0xffff_ffffn), Number(value >> 32n)];
/** Normal memory, inner shareable, EL1 may all. */
const normal = (pa: number) => BigInt(pa) | (3n << 8n);

interface Memory {
  readonly data?: "memory" | "read-only" | "none" | "unbacked";
  readonly log?: boolean;
  /** Hardware sets the access flag. */
  readonly ha?: boolean;
  /** What the entries of the data pages lack. */
  readonly noAf?: boolean;
  readonly tables?: "memory" | "read-only";
  readonly vm?: InlineOptions;
}

function guest(words: readonly number[], memory: Memory): Guest {
  const { data = "memory", log = true, ha = false, noAf = false } = memory;
  const tcr = 25n | (1n << 8n) | (1n << 10n) | (3n << 12n) | (1n << 23n) | (2n << 32n);
  const vm = new Guest(
    [
      ...useVectors(),
      ...a64.mov(0, 0xffn),
      a64.msr("MAIR_EL1", 0),
      ...a64.mov(0, tcr | (ha ? HA : 0n)),
      a64.msr("TCR_EL1", 0),
      ...a64.mov(0, BigInt(TABLES)),
      a64.msr("TTBR0_EL1", 0),
      a64.mrs(0, "SCTLR_EL1"),
      a64.add(0, 0, 1),
      a64.msr("SCTLR_EL1", 0),
      a64.ISB,
      ...a64.mov(1, BigInt(DATA)),
      ...a64.mov(3, VALUE),
      ...a64.mov(2, 0n),
      ...words,
      ...a64.powerOff(),
    ],
    memory.vm ?? {},
  );
  vm.onSync(report());
  const logged = log ? LOG : 0;
  const tables = vm.slot(TABLE_SLOT, 4, { gpa: TABLES });
  // Level 1 entry 1 → level 2: code, tables, and level 3 with four pages of data.
  vm.code(TABLES + 8, entry(BigInt(TABLES + K4) | 3n));
  const block = (pa: number) => entry(normal(pa) | AF | 1n);
  vm.code(TABLES + K4, [...block(BASE), ...block(TABLES)]);
  vm.code(TABLES + K4 + 16, entry(BigInt(TABLES + LEVEL_3 * K4) | 3n));
  for (let page = 0; page < 4; page++) {
    const leaf = normal(DATA + page * K4) | (noAf ? 0n : AF) | 3n;
    vm.code(TABLES + LEVEL_3 * K4 + 8 * page, entry(leaf));
  }
  const readOnly = memory.tables === "read-only" ? READONLY : logged;
  if (readOnly === READONLY) {
    vm.deleteSlot(TABLE_SLOT);
    vm.region(TABLE_SLOT, TABLES, 4 * K4, tables.object.userspaceAddr, READONLY);
  } else if (logged) vm.setFlags(tables.slot, LOG);
  if (data === "unbacked") vm.region(DATA_SLOT, DATA, 4 * K4, 0x7000_0000_0000n, logged);
  else if (data !== "none") {
    const { object, slot } = vm.slot(DATA_SLOT, 4, { gpa: DATA });
    vm.code(DATA, [a64.RET]);
    if (data === "read-only") {
      vm.deleteSlot(DATA_SLOT);
      const flags = READONLY | logged;
      vm.region(DATA_SLOT, DATA, 4 * K4, object.userspaceAddr, flags);
    } else if (logged) vm.setFlags(slot, LOG);
  }
  return vm;
}

const OFF = { errno: null, exitReason: "KVM_EXIT_SYSTEM_EVENT" };
const tracking = ["write-protect", "dbm"] as const;

describe.each(tracking)("page_fault_test, %s", (dirtyTracking) => {
  const vmOptions = { dirtyTracking };

  it.each(NAMES)("memory that is logged: %s dirties what it writes", (name) => {
    const vm = guest(ACCESSES[name], { vm: vmOptions });
    expect(vm.run()).toMatchObject(OFF);
    const pages = TWO_PAGES.includes(name) ? [0, 1] : [0];
    expect(vm.dirty(DATA_SLOT)).toEqual(WRITES.includes(name) ? pages : []);
    expect(vm.dirty(TABLE_SLOT)).toEqual([]);
    // Nothing but a store leaves anything behind, and it is all there.
    const args = { gpa: BigInt(DATA), length: 2 * K4 };
    const bytes = vm.call("readPhysicalMemory", args);
    const words = new DataView(bytes.buffer, bytes.byteOffset);
    const at = { write: 0, "write, pre-indexed": 8, stp: K4 }[name as string];
    if (at !== undefined) expect(words.getBigUint64(at, true)).toBe(VALUE);
    if (name === "dc zva") expect(words.getBigUint64(0, true)).toBe(0n);
  });

  it.each(NAMES)(
    "with hardware's access flag: %s dirties its tables exactly when it is new",
    (n) => {
      const vm = guest(ACCESSES[n], { ha: true, noAf: true, vm: vmOptions });
      expect(vm.run()).toMatchObject(OFF);
      expect(vm.dirty(TABLE_SLOT)).toEqual([LEVEL_3]);
      const pages = TWO_PAGES.includes(n) ? [0, 1] : [0];
      expect(vm.dirty(DATA_SLOT)).toEqual(WRITES.includes(n) ? pages : []);
      const { length } = pages;
      const args = { gpa: BigInt(TABLES + LEVEL_3 * K4), length: 32 };
      const bytes = vm.call("readPhysicalMemory", args);
      const leaves = new BigUint64Array(bytes.slice().buffer);
      const set = [...leaves].map((leaf) => (leaf & AF) !== 0n);
      expect(set).toEqual([0, 1, 2, 3].map((page) => page < length));
    },
  );

  it.each(NAMES)("without it %s gets an access flag fault, and AT tells of one", (name) => {
    const vm = guest([...ACCESSES[name], 0xd538_7416], { noAf: true, vm: vmOptions });
    expect(vm.run()).toMatchObject(OFF);
    const [esr, , far] = vm.xs(20, 21, 22) as [bigint, bigint, bigint];
    expect(vm.dirty(TABLE_SLOT)).toEqual([]);
    expect(vm.dirty(DATA_SLOT)).toEqual([]);
    // MRS X22, PAR_EL1: F, and an access flag fault of level 3.
    if (name === "at") expect([far & 0x7fn, esr]).toEqual([(0xbn << 1n) | 1n, 0n]);
    else {
      const ec = name === "exec" ? 0x21n : 0x25n;
      expect([esr >> 26n, esr & 0x3fn]).toEqual([ec, 0xbn]);
      const first = TWO_PAGES.includes(name) ? DATA + 4088 : DATA;
      const wanted = name === "write, pre-indexed" ? first + 8 : first;
      expect(far).toBe(BigInt(wanted));
    }
  });

  it.each(NAMES)("a read-only slot, logged: %s", (name) => {
    const vm = guest(ACCESSES[name], { data: "read-only", vm: vmOptions });
    const run = vm.run();
    if (!WRITES.includes(name)) expect(run).toMatchObject(OFF);
    else if (UNDESCRIBED.includes(name)) expect(run).toMatchObject({ errno: "ENOSYS" });
    else {
      const mmio = { physAddr: BigInt(DATA), len: 8, isWrite: true };
      expect(run).toMatchObject({ exitReason: "KVM_EXIT_MMIO", mmio });
      expect(vm.run()).toMatchObject(OFF);
    }
    expect(vm.dirty(DATA_SLOT)).toEqual([]);
    const args = { gpa: BigInt(DATA), length: 4 };
    expect(vm.call("readPhysicalMemory", args)).toEqual(a64.bytesOf([a64.RET]));
  });
});

describe("page_fault_test, where no memory is", () => {
  it.each(NAMES)("no slot: %s", (name) => {
    const vm = guest(ACCESSES[name], { data: "none" });
    const run = vm.run();
    if (name === "read" || name === "write") {
      const mmio = { physAddr: BigInt(DATA), len: 8, isWrite: name === "write" };
      expect(run).toMatchObject({ exitReason: "KVM_EXIT_MMIO", mmio });
      expect(vm.run(0, { mmioData: [1, 2, 3, 4, 5, 6, 7, 8] })).toMatchObject(OFF);
      if (name === "read") expect(vm.xs(2)).toEqual([0x0807_0605_0403_0201n]);
    } else if (UNDESCRIBED.includes(name)) expect(run).toMatchObject({ errno: "ENOSYS" });
    else {
      expect(run).toMatchObject(OFF);
      // AT needs the tables alone, code aborts.
      const [esr] = vm.xs(20);
      expect(esr).toBe(name === "exec" ? 0x8600_0010n : 0n);
    }
  });

  it.each(NAMES)("a slot over a hole: %s", (name) => {
    const vm = guest(ACCESSES[name], { data: "unbacked" });
    const run = vm.run();
    if (name === "at") expect(run).toMatchObject(OFF);
    else expect(run).toMatchObject({ errno: "EFAULT" });
    expect(vm.dirty(DATA_SLOT)).toEqual([]);
    if (name === "at") return;
    // Nothing was done: the same again, and on as soon as something is there.
    expect(vm.run()).toMatchObject({ errno: "EFAULT" });
    vm.ram(4 * K4, { at: 0x7000_0000_0000 });
    vm.code(DATA, [a64.RET]);
    expect(vm.run()).toMatchObject(OFF);
  });
});

describe("page_fault_test, tables in a read-only slot", () => {
  it.each(NAMES)("%s can't set the access flag: an external abort on the walk", (name) => {
    const vm = guest(ACCESSES[name], { ha: true, noAf: true, tables: "read-only" });
    expect(vm.run()).toMatchObject(OFF);
    const [esr] = vm.xs(20) as [bigint];
    expect(esr & 0x3fn).toBe(0x17n);
    expect(vm.dirty(DATA_SLOT)).toEqual([]);
  });

  it.each(NAMES)("%s is as ever while its flag is set", (name) => {
    const vm = guest(ACCESSES[name], { ha: true, tables: "read-only" });
    expect(vm.run()).toMatchObject(OFF);
  });
});

describe("page_fault_test, cache maintenance", () => {
  // There are no caches: nothing is translated.
  it.each(["memory", "read-only", "none", "unbacked"] as const)("DC CVAC, %s", (data) => {
    const vm = guest([0xd50b_7a21], { data, noAf: true });
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(20)).toEqual([0n]);
    if (data !== "none") expect(vm.dirty(DATA_SLOT)).toEqual([]);
  });
});
