// Owns: whether a VM is held: no vCPU runs until it is let go, and nobody changes what a moved VM
// takes along. VM thread.
//
//   free ──hold──▶ holding ──every vCPU has left──▶ held ──let go──▶ free
import { ServiceError } from "../../base/errors.js";
import { type Kvm, type Op, setCounters, type VmTime, Waitable } from "../../kvm/index.js";
import type { Board } from "../board/board.js";
import type { CommandName } from "../commands.js";
import { kickVcpu } from "../run-label.js";

/** What runs a vCPU, and what changes a guest behind the back of who saves it. */
const REFUSED: ReadonlySet<CommandName> = new Set<CommandName>([
  ...(["run", "runVcpus", "runBoard", "boardAction", "resumeVcpus"] as const),
  ...(["setProgram", "vcpuInit", "setOneReg", "writeRegister", "setMpState"] as const),
  ...(["setVcpuEvents", "setVcpuAttr", "setGuestDebug", "passBreakpoint"] as const),
  ...(["setRegs", "setSignalMask", "irqLineStatus"] as const),
  ...(["irqLine", "signalMsi", "setGsiRouting", "irqfd", "ioeventfd"] as const),
  ...(["writePhysicalMemory", "writeMemoryObject", "typeConsole", "setCounterOffset"] as const),
]);

export class Held {
  readonly #kvm: Kvm;
  readonly #board: Board | null;
  /** Who holds it and why; it is let go when nobody does. */
  readonly #whys = new Set<string>();
  #isSettled = false;
  readonly #settled = new Waitable("vm-held");
  /** The VM's numbers of eventfds that were signalled meanwhile. */
  readonly #missed = new Set<number>();
  /** Whether it goes on by itself when it is let go. */
  wasRunning = false;
  /** The host's counter when every vCPU had left. */
  ticks = 0n;
  /** Counters that came with it from another host, and count on when it is let go. */
  time: VmTime | null = null;

  readonly #onHeld: (isHeld: boolean) => void;

  constructor(kvm: Kvm, board: Board | null, onHeld: (isHeld: boolean) => void) {
    this.#kvm = kvm;
    this.#board = board;
    this.#onHeld = onHeld;
  }

  get isHeld(): boolean {
    return this.#whys.size > 0;
  }

  /** @throws ServiceError "vm-held" */
  refuse(name: CommandName): void {
    const [why] = this.#whys;
    if (why === undefined || !REFUSED.has(name)) return;
    throw new ServiceError("vm-held", `The VM is held, and ${name} has to wait: ${why}`);
  }

  /** @throws ServiceError "vm-not-held" @returns once every vCPU has left */
  requireHeld(what: string): void {
    if (this.#whys.size > 0 && this.#isSettled) return;
    throw new ServiceError("vm-not-held", `Its vCPUs may run: hold the VM before you ${what}.`);
  }

  /**
   * A signal that is to wake the VM. While it is held the count stays in the counter: it is either
   * this host's again, or goes with the VM.
   * @returns false: the VM is held
   */
  mayWake(eventfd: number): boolean {
    if (this.isHeld) this.#missed.add(eventfd);
    return !this.isHeld;
  }

  /** What it has counted until the VM is let go, here or where that was before, wakes it then. */
  hearLater(eventfd: number): void {
    this.#missed.add(eventfd);
  }

  /** What came meanwhile comes now. */
  #wakeMissed(): void {
    const { eventfds } = this.#kvm.vm;
    const missed = [...this.#missed];
    this.#missed.clear();
    for (const eventfd of missed) {
      if (!eventfds.isOpen(eventfd) || eventfds.peek(eventfd) === 0n) continue;
      eventfds.take(eventfd);
      eventfds.wake(eventfd);
    }
  }

  /** Nothing begins to run from the moment when it is asked for. */
  hold(why: string): Op<{ wasRunning: boolean }> {
    const isFirst = !this.isHeld;
    this.#whys.add(why);
    if (isFirst) this.#onHeld(true);
    return this.#stopped(isFirst, why);
  }

  *#stopped(isFirst: boolean, why: string): Op<{ wasRunning: boolean }> {
    if (isFirst) {
      this.wasRunning = yield* this.#board === null ? this.#stopRuns() : this.#board.hold(why);
      this.ticks = this.#kvm.vm.ticks();
      this.#isSettled = true;
      this.#settled.wake();
    }
    // Somebody else's may be under way.
    while (!this.#isSettled) yield this.#settled;
    return { wasRunning: this.wasRunning };
  }

  /** Ends the only hold, however it is called, or one of several, which changes nothing else. */
  *letGo(why: string): Op<{ wasRunning: boolean }> {
    if (this.#whys.size === 0) return { wasRunning: false };
    while (!this.#isSettled) yield this.#settled;
    if (this.#whys.size > 1) {
      this.#whys.delete(why);
      return { wasRunning: false };
    }
    const { wasRunning, time } = this;
    this.#whys.clear();
    this.#onHeld(false);
    this.#isSettled = false;
    this.wasRunning = false;
    this.time = null;
    if (time !== null) setCounters(this.#kvm.vm, time);
    this.#wakeMissed();
    if (wasRunning) this.#board?.letGo();
    return { wasRunning };
  }

  /** A client's runs end as by a signal. */
  *#stopRuns(): Op<boolean> {
    const { vm } = this.#kvm;
    const running = vm.vcpus.filter((vcpu) => vcpu.running);
    for (const vcpu of running) kickVcpu(this.#kvm, vcpu);
    while (vm.vcpus.some((vcpu) => vcpu.running)) yield vm.runEnded;
    return running.length > 0;
  }
}
