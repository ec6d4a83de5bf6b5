// Owns: how the caller learns that HACDBS is done, and the handler of HACDBSIRQ. VM thread.
//
//   poll   ─ wait a quantum ─ look at HACDBSCONS_EL2 ─┐
//     ▲────────────── still running ──────────────────┘
//   irq    ─ WFI ─ handler: EN = 0, done ─ look
//
// Time is counted here: one step of hardware is a microsecond. A wait that nothing can end any more
// jumps to the host's next tick, or to the watchdog.
// @source dirty-tracking.md 6.1, 6.2, 5.4 (D8 to D10)
import { BR_EN, decodeCons, ERR_REASON, type HostCpu } from "../../machine/index.js";
import { POINT } from "../preemption.table.js";
import type { Op } from "../sched/scheduler.js";
import type { Vm } from "../vm.js";

/** The host's tick, HZ=250: the unrelated interrupt that ends any WFI. */
const TICK_US = 4000;

export class Completion {
  /** Set by the handler. */
  isDone = false;
  #waitedUs = 0;
  /** The handler ran since the caller went to sleep. */
  #isWoken = false;
  /** The interrupt of this run of hardware got lost. */
  #isLost = false;
  readonly #vm: Vm;
  readonly #cpu: HostCpu;
  /** Entries before the terminator. */
  readonly #entries: number;
  readonly #hasIrq: boolean;

  /** @param hasIrq HACDBSIRQ is enabled on this CPU */
  constructor(vm: Vm, cpu: HostCpu, entries: number, hasIrq: boolean) {
    this.#vm = vm;
    this.#cpu = cpu;
    this.#entries = entries;
    this.#hasIrq = hasIrq;
  }

  get #timeoutUs(): number {
    return this.#vm.policies["hacdbs.timeoutUs"];
  }

  get #isLate(): boolean {
    return this.#waitedUs >= this.#timeoutUs;
  }

  /** What a look at HACDBSCONS_EL2 tells. */
  get #isEnded(): boolean {
    const { index, err } = decodeCons(this.#cpu.mrs("HACDBSCONS_EL2"));
    return err !== ERR_REASON.NOF || index >= this.#entries;
  }

  /** Waits for the end or an error. @returns false when the watchdog gave up */
  *wait(): Op<boolean> {
    const before = this.#waitedUs;
    const mode = this.#vm.policies["hacdbs.completion"];
    const isInTime =
      mode === "poll-tight"
        ? yield* this.#poll()
        : mode === "irq-wfi"
          ? yield* this.#waitForInterrupt()
          : yield* this.#waitQuanta(mode === "irq-or-poll");
    const { values } = this.#vm.counters;
    values.hacdbsWaitUs += this.#waitedUs - before;
    if (mode !== "poll-tight") values.hacdbsLowPowerUs += this.#waitedUs - before;
    return isInTime;
  }

  /** Hardware goes on after an error that was dealt with. */
  resume(): void {
    this.isDone = false;
    this.#isLost = false;
  }

  *#poll(): Op<boolean> {
    while (!this.#isEnded) {
      if (this.#isLate) return false;
      yield POINT["hacdbs-wait"];
      this.#pass(1);
    }
    return true;
  }

  /** WFIT or __delay() to the quantum's end, then a look. */
  *#waitQuanta(isWokenEarly: boolean): Op<boolean> {
    while (!this.#isEnded) {
      if (this.#isLate) return false;
      const until = this.#waitedUs + this.#vm.policies["hacdbs.quantumUs"];
      this.#isWoken = false;
      do {
        yield POINT["hacdbs-wait"];
        this.#pass(until - this.#waitedUs);
      } while (this.#waitedUs < until && !(isWokenEarly && this.#isWoken));
    }
    return true;
  }

  *#waitForInterrupt(): Op<boolean> {
    // An interrupt may well come between the start and the first look at the flag.
    yield POINT["hacdbs-wait"];
    this.#pass(1);
    if (this.#vm.seedBugs.has("D9")) yield* this.#sleep();
    while (!this.isDone) {
      if (this.#isLate) return false;
      yield* this.#sleep();
    }
    return !this.#isLate;
  }

  /** WFI: until the handler ran, or the host's tick. */
  *#sleep(): Op<void> {
    const until = Math.min(this.#waitedUs + TICK_US, this.#timeoutUs);
    this.#isWoken = false;
    while (this.#waitedUs < until && !this.#isWoken) {
      yield POINT["hacdbs-wait"];
      this.#pass(until - this.#waitedUs);
    }
  }

  /** A microsecond of hardware went by; all of `idleUs` when hardware had nothing to do. */
  #pass(idleUs: number): void {
    const { hacdbs } = this.#cpu;
    const looked = hacdbs.process(this.#vm.host.model["hardware.hacdbsEntriesPerStep"]);
    this.#waitedUs += looked === 0 ? Math.max(1, idleUs) : 1;
    if (this.#hasIrq) this.#interrupt();
  }

  #interrupt(): void {
    const { faults } = this.#vm.host;
    const { hacdbs } = this.#cpu;
    const isSpurious = faults.isArmed && hacdbs.isRunning;
    if (isSpurious && faults.hit("hacdbs-irq-spurious", -1) !== null) this.#handler();
    if (!hacdbs.irq || this.#isLost) return;
    if (faults.isArmed && faults.hit("hacdbs-irq-lost", -1) !== null) {
      this.#isLost = true;
      return;
    }
    this.#handler();
    if (hacdbs.irq) this.#storm();
  }

  /** D8: the line stays high, so the handler runs again as soon as it returns. */
  #storm(): void {
    this.#vm.host.diagnostics.report("hacdbs-interrupt-storm", `CPU ${this.#cpu.index}`);
    for (; !this.#isLate; this.#waitedUs++) this.#handler();
  }

  #handler(): void {
    const { counters, seedBugs } = this.#vm;
    const cpu = this.#cpu;
    counters.values.hacdbsIrqs++;
    this.#isWoken = true;
    // An interrupt while hardware runs on says nothing.
    if (!this.#isEnded && !seedBugs.has("D10")) return;
    this.isDone = true;
    // The line is level sensitive: it drops with EN.
    if (!seedBugs.has("D8")) cpu.msr("HACDBSBR_EL2", cpu.mrs("HACDBSBR_EL2") & ~BR_EN);
  }
}
