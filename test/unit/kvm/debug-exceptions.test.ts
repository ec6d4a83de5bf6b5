// Goal: a guest debugs itself: breakpoints, watchpoints, software step, the OS lock; as the
// kernel's selftest debug-exceptions. Method: guests whose handler tells what it was called for.
import { describe, expect, it } from "vitest";
import * as a64 from "../../support/a64.js";
import {
  brk,
  daifClr,
  dbgBcr,
  dbgBvr,
  dbgWcr,
  dbgWvr,
  Guest,
  K4,
  ldr,
  mrs,
  msr,
  NOP,
  report,
  SYS,
  sysId,
  useVectors,
  VECTORS,
  X,
} from "../../support/guest-code.js";
import { BASE } from "../../support/inline.js";

type Encoding = Parameters<typeof mrs>[1];
const SS = 1n;
const KDE = 1n << 13n;
const MDE = 1n << 15n;
const SPSR_SS = 1n << 21n;
const OFF = { exitReason: "KVM_EXIT_SYSTEM_EVENT" };
const DATA = BASE + 0x8000;
/** E, PMC EL1 and EL0, BAS. */
const BREAK = 1n | (3n << 1n) | (0xfn << 5n);
const LINKED = 1n << 20n;
const CONTEXT_LINKED = 3n << 20n;
const lbn = (n: number): bigint => BigInt(n) << 16n;
/** E, PAC EL1 and EL0, BAS, loads (1), stores (2). */
const watch = (lsc: number, bas = 0xffn): bigint =>
  1n | (3n << 1n) | (BigInt(lsc) << 3n) | (bas << 5n);

const write = (to: Encoding, value: bigint): number[] => [...a64.mov(29, value), msr(to, 29)];
/** Debug exceptions of EL1 on. */
const enable = (mdscr: bigint): number[] => [...write(SYS.MDSCR_EL1, mdscr), daifClr(8), a64.ISB];

/** Runs words; X20 to X22 are ESR, ELR and FAR, or 0 when no exception came. */
function run(words: readonly number[], prepare: (vm: Guest) => void = () => {}) {
  const vm = new Guest([...useVectors(), ...words, ...a64.powerOff()]);
  vm.onSync(report());
  prepare(vm);
  expect(vm.run()).toMatchObject(OFF);
  const [esr, elr, far] = vm.xs(20, 21, 22);
  return { esr: esr!, elr: elr!, far: far!, vm };
}
/** Where word `at` of run()'s words lies. */
const addressOf = (at: number): bigint => BigInt(BASE + 4 * (useVectors().length + at));

describe("software breakpoints", () => {
  it("are taken to EL1 with their comment", () => {
    const { esr, elr } = run([NOP, brk(0x1234)]);
    expect([esr, elr]).toEqual([0xf200_1234n, addressOf(1)]);
  });

  it("the OS lock doesn't hold them back", () => {
    expect(run([...write(SYS.OSLAR_EL1, 1n), brk(1)]).esr).toBe(0xf200_0001n);
  });
});

/** Words with a breakpoint on the last but one, which is a NOP. */
function breakAtTarget(control: bigint, mdscr: bigint, more: readonly number[] = []) {
  const before = (address: bigint) => [
    ...write(dbgBvr(0), address),
    ...write(dbgBcr(0), control),
    ...more,
    ...enable(mdscr),
  ];
  const target = addressOf(before(addressOf(0) | 1n).length);
  // The same length whatever the address: it has the same parts that aren't 0.
  return { words: [...before(target), NOP, NOP], target };
}

describe("hardware breakpoints", () => {
  const same = 0xc600_0022n;

  it("stop before the instruction", () => {
    const { words, target } = breakAtTarget(BREAK, KDE | MDE);
    expect(run(words)).toMatchObject({ esr: same, elr: target });
  });

  it.each([
    ["MDE is off", BREAK, KDE],
    ["KDE is off, at EL1", BREAK, MDE],
    ["it is not enabled", BREAK & ~1n, KDE | MDE],
    ["it is EL0's alone", BREAK & ~(1n << 1n), KDE | MDE],
    ["its bytes are others", BREAK & ~(1n << 5n), KDE | MDE],
    ["it is Secure's alone", BREAK | (2n << 14n), KDE | MDE],
    ["it is AArch32's mismatch", BREAK | (4n << 20n), KDE | MDE],
  ])("do nothing where %s", (_name, control, mdscr) => {
    expect(run(breakAtTarget(control, mdscr).words).esr).toBe(0n);
  });

  it("do nothing while PSTATE.D masks them, or the OS lock is closed", () => {
    const { words } = breakAtTarget(BREAK, KDE | MDE);
    const masked = words.filter((word) => word !== daifClr(8));
    expect(run(masked).esr).toBe(0n);
    const locked = breakAtTarget(BREAK, KDE | MDE, write(SYS.OSLAR_EL1, 1n));
    const { esr, vm } = run(locked.words);
    expect([esr, vm.get(sysId(SYS.OSLSR_EL1))]).toEqual([0n, 0xan]);
  });

  it.each([
    [0x55n, same],
    [0x56n, 0n],
  ])("linked to a context match only in it: %s", (context, esr) => {
    const more = [
      ...write(dbgBvr(5), 0x55n),
      ...write(dbgBcr(5), BREAK | CONTEXT_LINKED),
      ...write(SYS.CONTEXTIDR_EL1, context),
    ];
    const { words } = breakAtTarget(BREAK | LINKED | lbn(5), KDE | MDE, more);
    expect(run(words).esr).toBe(esr);
  });

  it("linked to one that compares no contexts never match", () => {
    const more = [...write(dbgBvr(1), 0x55n), ...write(dbgBcr(1), BREAK | CONTEXT_LINKED)];
    const { words } = breakAtTarget(BREAK | LINKED | lbn(1), KDE | MDE, more);
    expect(run(words).esr).toBe(0n);
  });

  it("come back until the handler takes them away, and then are over", () => {
    const { words, target } = breakAtTarget(BREAK, KDE | MDE);
    const vm = new Guest([...useVectors(), ...words, ...a64.powerOff()]);
    // Twice through the handler: the second time the breakpoint goes.
    vm.onSync([
      a64.add(10, 10, 1),
      a64.subs(31, 10, 2),
      a64.bne(2),
      msr(dbgBcr(0), 31),
      a64.mrs(21, "ELR_EL1"),
      a64.ERET,
    ]);
    expect(vm.run()).toMatchObject(OFF);
    expect(vm.xs(10, 21)).toEqual([2n, target]);
  });

  it("there are as many as the capability and ID_AA64DFR0_EL1 say", () => {
    const vm = new Guest([]);
    const dfr0 = vm.get(sysId(SYS.ID_AA64DFR0_EL1));
    expect(vm.call("checkExtension", { cap: 119 })).toBe(Number((dfr0 >> 12n) & 15n) + 1);
    expect(vm.call("checkExtension", { cap: 120 })).toBe(Number((dfr0 >> 20n) & 15n) + 1);
    expect(run([msr(dbgBvr(5), 31)]).esr).toBe(0n);
    expect(run([msr(dbgBvr(6), 31)]).esr).toBe(0x0200_0000n);
    expect(run([msr(dbgWcr(4), 31)]).esr).toBe(0x0200_0000n);
  });
});

describe("watchpoints", () => {
  const at = BigInt(DATA);
  const STORE = 0xd600_0062n;
  const LOAD = 0xd600_0022n;
  const arm = (value: bigint, control: bigint): number[] => [
    ...write(dbgWvr(0), value),
    ...write(dbgWcr(0), control),
    ...a64.mov(1, at),
    // The translation is known before anything watches.
    a64.str(31, 1),
    ...enable(KDE | MDE),
  ];
  const strb = (rt: number, rn: number, offset: number): number =>
    (0x3900_0000 | (offset << 10) | (rn << 5) | rt) >>> 0;
  const LDADD = 0xf822_0020;

  it.each([
    ["a store", watch(2), a64.str(2, 1), STORE, at],
    ["a load", watch(1), ldr(2, 1), LOAD, at],
    ["a store of its last byte", watch(3, 0x80n), strb(2, 1, 7), STORE, at + 7n],
    ["a wide store over its byte", watch(2, 0x20n), a64.str(2, 1), STORE, at + 5n],
    ["an atomic's load", watch(1), LDADD, LOAD, at],
    ["an atomic's store", watch(2), LDADD, STORE, at],
    ["a pair's second register", watch(1), a64.ldp(2, 3, 1), LOAD, at],
  ])("see %s", (_name, control, access, esr, far) => {
    const setUp = arm(at, control);
    const found = run([...setUp, access]);
    expect(found).toMatchObject({ esr, far, elr: addressOf(setUp.length) });
  });

  it.each([
    ["a load, for stores", at, watch(2), ldr(2, 1)],
    ["a store, for loads", at, watch(1), a64.str(2, 1)],
    ["other bytes", at, watch(3, 0x0fn), strb(2, 1, 4)],
    ["another doubleword", at + 8n, watch(3), a64.str(2, 1)],
    ["what is EL0's alone", at, watch(3) & ~(1n << 1n), a64.str(2, 1)],
    ["what isn't enabled", at, watch(3) & ~1n, a64.str(2, 1)],
  ])("don't see %s", (_name, value, control, access) => {
    expect(run([...arm(value, control), access]).esr).toBe(0n);
  });

  it("of a word see four bytes", () => {
    expect(run([...arm(at + 4n, watch(2, 1n)), strb(2, 1, 4)]).far).toBe(at + 4n);
    expect(run([...arm(at + 4n, watch(2, 1n)), strb(2, 1, 5)]).esr).toBe(0n);
  });

  it("with a mask see a block", () => {
    const mask = 8n << 24n;
    expect(run([...arm(at, watch(2) | mask), strb(2, 1, 0xff)])).toMatchObject({
      esr: STORE,
      far: at + 0xffn,
    });
    expect(run([...arm(at, watch(2) | mask), strb(2, 1, 0x100)]).esr).toBe(0n);
  });

  it.each([
    [7n, STORE],
    [8n, 0n],
  ])("linked to a context see only its accesses: %s", (context, esr) => {
    const linked = [
      ...write(dbgBvr(4), 7n),
      ...write(dbgBcr(4), BREAK | CONTEXT_LINKED),
      ...write(SYS.CONTEXTIDR_EL1, context),
    ];
    const control = watch(2) | LINKED | lbn(4);
    expect(run([...linked, ...arm(at, control), a64.str(2, 1)]).esr).toBe(esr);
  });

  it("see an unprivileged store as EL0's", () => {
    const STTR = 0xf800_0822;
    expect(run([...arm(at, watch(2) & ~(1n << 1n)), STTR]).esr).toBe(STORE);
  });

  it("leave memory as it was", () => {
    const { vm } = run([...arm(at, watch(2)), ...a64.mov(2, 9n), a64.str(2, 1)]);
    expect(vm.call("readPhysicalMemory", { gpa: at, length: 8 })).toEqual(new Uint8Array(8));
  });
});

/** EL1 gives EL0 the words at BASE + 2 pages with SPSR.SS as asked, and steps. */
const USER = BASE + 2 * K4;
function stepUser(words: readonly number[], spsr: bigint, handler: readonly number[]) {
  const vm = new Guest([
    ...useVectors(),
    ...write(SYS.MDSCR_EL1, SS),
    ...a64.mov(0, BigInt(USER)),
    a64.msr("ELR_EL1", 0),
    ...a64.mov(0, spsr),
    a64.msr("SPSR_EL1", 0),
    a64.ERET,
  ]);
  vm.code(USER, words);
  vm.code(VECTORS + 0x400, handler);
  expect(vm.run()).toMatchObject(OFF);
  return vm;
}

describe("software step", () => {
  const LDXR = 0xc85f_7c22;
  const UDF = 0;

  it("stops EL0 after one instruction", () => {
    const vm = stepUser([a64.add(5, 5, 1), a64.add(5, 5, 1)], SPSR_SS, [
      a64.mrs(23, "SPSR_EL1"),
      ...report(),
    ]);
    expect(vm.xs(5, 20, 21, 23)).toEqual([1n, 0xcb00_0022n, BigInt(USER + 4), 0n]);
  });

  it("is pending at once without SPSR.SS, and tells of no instruction", () => {
    const vm = stepUser([a64.add(5, 5, 1)], 0n, report());
    expect(vm.xs(5, 20, 21)).toEqual([0n, 0xca00_0022n, BigInt(USER)]);
  });

  it("tells of a load-exclusive", () => {
    const words = [...a64.mov(1, BigInt(DATA)), LDXR, NOP];
    // Each step goes on until the third instruction was stepped.
    const steps = stepUser(words, SPSR_SS, [
      a64.add(10, 10, 1),
      a64.subs(31, 10, words.length - 1),
      a64.bne(report().length + 1),
      ...report(),
      a64.mrs(0, "SPSR_EL1"),
      ...a64.mov(3, SPSR_SS),
      0xaa03_0000,
      a64.msr("SPSR_EL1", 0),
      a64.ERET,
    ]);
    expect(steps.get(X(20))).toBe(0xcb00_0062n);
  });

  it("counts each instruction of a loop", () => {
    const words = [...a64.mov(5, 3n), a64.subs(5, 5, 1), a64.bne(-1), a64.svc(7)];
    const vm = stepUser(words, SPSR_SS, [
      a64.mrs(0, "ESR_EL1"),
      0xd35a_fc00,
      a64.subs(31, 0, 0x15),
      a64.bne(2 + a64.powerOff().length - 1),
      ...a64.powerOff(),
      a64.add(10, 10, 1),
      a64.mrs(0, "SPSR_EL1"),
      ...a64.mov(3, SPSR_SS),
      0xaa03_0000,
      a64.msr("SPSR_EL1", 0),
      a64.ERET,
    ]);
    // MOV, three rounds of two; the SVC is taken instead of stepped.
    expect(vm.xs(5, 10)).toEqual([0n, 7n]);
    const ELR_EL1 = 0x6030_0000_0010_0046n;
    expect(vm.get(ELR_EL1)).toBe(BigInt(USER + 16));
    // A call is over when it is made: the way back is pending at once.
    expect(vm.get(0x6030_0000_0010_0048n) & SPSR_SS).toBe(0n);
  });

  it("an exception in place of the stepped instruction keeps SPSR.SS for the next try", () => {
    const vm = stepUser([UDF], SPSR_SS, [a64.mrs(23, "SPSR_EL1"), ...report()]);
    expect(vm.get(X(23)) & SPSR_SS).toBe(SPSR_SS);
  });

  it("at EL1 goes with KDE and PSTATE.D; the return from its handler sets PSTATE.SS", () => {
    const words = [
      ...useVectors(),
      ...write(SYS.MDSCR_EL1, SS | KDE),
      a64.ISB,
      daifClr(8),
      NOP,
      NOP,
      ...write(SYS.MDSCR_EL1, 0n),
      ...a64.powerOff(),
    ];
    const vm = new Guest(words);
    vm.onSync([
      a64.add(10, 10, 1),
      a64.subs(31, 10, 1),
      a64.bne(2),
      a64.mrs(21, "ELR_EL1"),
      a64.mrs(20, "ESR_EL1"),
      a64.mrs(0, "SPSR_EL1"),
      ...a64.mov(3, SPSR_SS),
      0xaa03_0000,
      a64.msr("SPSR_EL1", 0),
      a64.ERET,
    ]);
    expect(vm.run()).toMatchObject(OFF);
    // The first NOP is pending; then both NOPs, MOVZ and MSR are stepped.
    expect(vm.get(X(21))).toBe(BigInt(BASE + 4 * (words.indexOf(daifClr(8)) + 1)));
    expect(vm.get(X(20))).toBe(0xcf00_0022n);
    expect(vm.get(X(10))).toBe(4n);
  });

  it("does nothing while the OS lock is closed", () => {
    const vm = new Guest([
      ...useVectors(),
      ...write(SYS.OSLAR_EL1, 1n),
      ...enable(SS | KDE),
      NOP,
      ...a64.powerOff(),
    ]);
    vm.onSync(report());
    vm.run();
    expect(vm.get(X(20))).toBe(0n);
  });
});

describe("what EL1 sets for EL0", () => {
  const loop = [a64.add(5, 5, 1), a64.subs(6, 6, 1), a64.bne(-2), a64.str(5, 1), a64.svc(0)];

  /** EL1 sets up, with debug exceptions of its own masked, and goes to EL0's loop. */
  function user(setUp: readonly number[], rounds: bigint): Guest {
    const vm = new Guest([
      ...useVectors(),
      ...setUp,
      ...write(SYS.MDSCR_EL1, MDE),
      ...a64.mov(0, BigInt(USER)),
      a64.msr("ELR_EL1", 0),
      // SPSR: EL0t, DAIF masked.
      ...write([3, 0, 4, 0, 0], 0x3c0n),
      ...a64.mov(1, BigInt(DATA)),
      ...a64.mov(6, rounds),
      a64.ERET,
    ]);
    vm.code(USER, loop);
    vm.code(VECTORS + 0x400, report());
    expect(vm.run()).toMatchObject(OFF);
    return vm;
  }

  it.each([1n, 5000n])(
    "a breakpoint behind a loop of %s rounds, whatever PSTATE.D is",
    (rounds) => {
      const control = BREAK & ~(1n << 1n);
      const vm = user(
        [...write(dbgBvr(2), BigInt(USER + 12)), ...write(dbgBcr(2), control)],
        rounds,
      );
      expect(vm.xs(5, 20, 21)).toEqual([rounds, 0xc200_0022n, BigInt(USER + 12)]);
    },
  );

  it("a watchpoint behind a loop that is hot, which runs at full speed", () => {
    const setUp = [...write(dbgWvr(1), BigInt(DATA)), ...write(dbgWcr(1), watch(2))];
    const vm = user(setUp, 50_000n);
    expect(vm.xs(5, 20, 21, 22)).toEqual([50_000n, 0xd200_0062n, BigInt(USER + 12), BigInt(DATA)]);
  });

  it("EL1's own code is not looked at where only EL0 may match", () => {
    const here = write(dbgBvr(2), addressOf(0));
    const vm = user([...here, ...write(dbgBcr(2), BREAK & ~(1n << 1n))], 3n);
    expect(vm.xs(5, 20)).toEqual([3n, 0x5600_0000n]);
  });
});

describe("registers", () => {
  it("OSLAR_EL1 can't be read", () => {
    expect(run([mrs(5, SYS.OSLAR_EL1)]).esr).toBe(0x0200_0000n);
  });
});
