// Owns: a VM's board: what its power switch does, its vCPUs' threads, their exits. VM thread.
//
//             start                 pause
//   created ─────────▶ running ◀─────────────▶ paused
//                      │  │ ▲       resume      │
//          SYSTEM_OFF, │  │ └─ reset, start     │ power-off
//           power-off  ▼  └──▶ crashed          ▼
//                   shutdown ◀───────────────────
//
// Each vCPU that runs is a context of the scheduler. To stop, every context is kicked and ends;
// the last one goes on with what was asked for: nothing, or a reset and all anew.
import { ServiceError } from "../../base/errors.js";
import type { Saved } from "../../base/saved.js";
import {
  getOneReg,
  type Kvm,
  type Op,
  type RunOutcome,
  SYSTEM_EVENT,
  type Vcpu,
  Waitable,
} from "../../kvm/index.js";
import type { DebugStop } from "../debugger-commands.js";
import type { BoardDefinition } from "../definition.js";
import { kickVcpu, runLabel } from "../run-label.js";
import type {
  BoardAction,
  BoardImages,
  BoardNews,
  BoardState,
  BoardStretch,
  BoardView,
} from "./commands.js";
import { Console } from "./console.js";
import { Hardware, PC } from "./hardware.js";
import { Alarm } from "./time.js";
import { type Exits, vcpuThread } from "./vcpu-thread.js";

export class Board {
  readonly output = new Console();
  readonly hardware: Hardware;
  readonly #kvm: Kvm;
  #state: BoardState = "created";
  #reason: string | null = null;
  #resets = 0;
  /** Contexts of vCPUs that have not ended. */
  #active = 0;
  /** They are told to end. */
  #halting = false;
  /** Once they have: load everything anew. */
  #resetDue = false;
  readonly #halted = new Waitable("board-halted");
  /** The vCPUs that a debugger lets run; null: all. */
  #chosen: ReadonlySet<number> | null = null;
  #debugStop: DebugStop | null = null;
  /** A vCPU's dirty ring was full: userspace has to reset it before they go on. */
  #ringFull = false;
  /** A stretch is under way: whoever asked for it hears of deferred CLEARs. */
  #isStretch = false;
  /** First pages of deferred CLEARs that ended since the board was started. */
  #cleaned: bigint[] = [];
  #news: BoardNews[] = [];
  /** Readers were told that there is output, and none has looked since. */
  #announced = false;

  readonly #exits: Exits = {
    isHalting: () => this.#halting,
    mmio: (mmio) => this.hardware.mmio(mmio),
    settle: () => this.hardware.settle(),
    systemEvent: (vcpu, type) => this.#systemEvent(vcpu, type),
    debugged: (vcpu, debug) => this.#debugged(vcpu, debug),
    ringFull: (vcpu) => this.#ringIsFull(vcpu),
    cleaned: (firstPage) => {
      if (this.#isStretch) this.#cleaned.push(firstPage);
    },
    crash: (vcpu, what) => this.#crash(vcpu, what),
  };

  constructor(definition: BoardDefinition, kvm: Kvm, seed: bigint) {
    this.#kvm = kvm;
    this.hardware = new Hardware(definition, kvm, seed, {
      sent: (byte) => this.#sent(byte),
      exit: (code) => this.#exit(code),
    });
  }

  view(): BoardView {
    const at = this.hardware.layout;
    const initrd = at?.initrd ?? null;
    return {
      state: this.#state,
      reason: this.#reason,
      format: at?.format ?? null,
      entry: at === null ? null : BigInt(at.entry),
      dtb: at === null ? null : BigInt(at.dtb),
      initrd: initrd === null ? null : { start: BigInt(initrd.start), end: BigInt(initrd.end) },
      resets: this.#resets,
      console: {
        oldest: this.output.oldest,
        end: this.output.end,
        typed: this.hardware.backlog,
      },
      unassigned: this.hardware.unassigned,
    };
  }

  /** What happened since the last call. */
  takeNews(): readonly BoardNews[] {
    const news = this.#news;
    if (news.length > 0) this.#news = [];
    return news;
  }

  /** Output from an offset on; a reader that has it all is told of more. */
  read(offset: number, limit: number) {
    this.#announced = false;
    return this.output.window(offset, limit);
  }

  /** @throws ServiceError "console-full" */
  type(bytes: Uint8Array): { accepted: number; typed: number } {
    if (!this.hardware.type(bytes)) {
      throw new ServiceError(
        "console-full",
        `The guest has not taken ${this.hardware.backlog} bytes typed before: type these later.`,
      );
    }
    return { accepted: bytes.length, typed: this.hardware.backlog };
  }

  /**
   * Builds the machine around the image; the guest does not run yet.
   * @throws ServiceError "board-state", "image-format", "image-does-not-fit"; KvmError ENOMEM
   */
  *install(images: BoardImages): Op<BoardView> {
    yield* this.hardware.build(images);
    return this.view();
  }

  /** @throws ServiceError "board-state" */
  *act(action: BoardAction): Op<BoardView> {
    if (!this.hardware.isBuilt) throw this.#refusal(action, "it has no image yet");
    switch (action) {
      case "start":
        this.#start();
        break;
      case "resume":
        if (this.#state !== "running" && this.#state !== "paused") throw this.#refusal(action);
        if (this.#state === "paused") this.#run();
        break;
      case "pause":
        if (this.#state !== "running" && this.#state !== "paused") throw this.#refusal(action);
        if (this.#state === "running") this.#enter("paused", null);
        break;
      case "power-off":
        if (this.#state === "crashed" || this.#state === "created") throw this.#refusal(action);
        if (this.#state !== "shutdown") this.#enter("shutdown", "It was powered off from outside.");
        break;
      case "reset":
        if (this.#state !== "running" && this.#state !== "paused") throw this.#refusal(action);
        this.#reset("It was reset from outside.");
        break;
    }
    // Whoever asked may look at memory and registers at once.
    while (this.#halting) yield this.#halted;
    return this.view();
  }

  /** Stops the vCPUs of a board that runs. @returns whether it is to run again */
  *hold(why: string): Op<boolean> {
    const wasRunning = this.#state === "running";
    if (wasRunning) this.#enter("paused", why);
    while (this.#halting) yield this.#halted;
    // Its guest may have switched it off meanwhile.
    return wasRunning && this.#state === "paused";
  }

  /** Lets a board go that was held while it ran. */
  letGo(): void {
    if (this.#state === "paused") this.#run();
  }

  /** KVM_MEM_LOG_DIRTY_PAGES of the board's RAM. @throws ServiceError "board-state" */
  *setLogging(on: boolean): Op<null> {
    if (!this.hardware.isBuilt) throw this.#refusal("log", "it has no image yet");
    yield* this.hardware.setLogging(on);
    return null;
  }

  /**
   * Runs for a stretch of virtual time, or until the guest or a full dirty ring stops it.
   * @throws ServiceError "board-state" unless it is paused or was never switched on
   */
  *runFor(ns: bigint): Op<BoardStretch> {
    if (!this.hardware.isBuilt) throw this.#refusal("run", "it has no image yet");
    if (this.#state !== "created" && this.#state !== "paused") throw this.#refusal("run");
    const { vm } = this.#kvm;
    const begin = vm.ticks();
    const alarm = new Alarm(vm, () => vm.ticks() - begin >= ns && this.#timeIsUp());
    this.#isStretch = true;
    this.#run();
    alarm.arm(ns);
    while (this.#active > 0) yield this.#halted;
    alarm.disarm();
    this.#isStretch = false;
    const { state, reason } = this.view();
    const ranNs = vm.ticks() - begin;
    const ended = { ringFull: this.#ringFull, cleaned: this.#cleaned, resets: this.#resets };
    return { state, reason, ranNs, ...ended };
  }

  #timeIsUp(): void {
    if (this.#state === "running") this.#enter("paused", null);
  }

  /** The debug exception for which the board paused. */
  get debugStop(): DebugStop | null {
    return this.#debugStop;
  }

  /**
   * As a debugger goes on: some of the vCPUs, until the board is halted.
   * @throws ServiceError "board-state"
   */
  resumeOnly(vcpus: readonly number[]): void {
    const isThere = vcpus.some((id) => this.#kvm.vm.vcpuById(id) !== undefined);
    if (!this.hardware.isBuilt || !isThere) throw this.#refusal("resume", "it has no such vCPU");
    if (this.#halting || (this.#state !== "paused" && this.#state !== "created")) {
      throw this.#refusal("resume");
    }
    this.#chosen = new Set(vcpus);
    this.#run();
  }

  #refusal(action: BoardAction | "run" | "log", why = `it is ${this.#state}`): ServiceError {
    const detail = `The board can't ${action} now: ${why}.`;
    return new ServiceError("board-state", detail, { boardState: this.#state });
  }

  /** The power switch: a board that is on stays as it is. */
  #start(): void {
    if (this.#state === "running" || this.#state === "paused") return;
    // Switched on again, it begins as it did the first time.
    if (this.#state !== "created") this.#resetDue = true;
    this.#run();
  }

  #run(): void {
    this.#debugStop = null;
    this.#ringFull = false;
    this.#cleaned = [];
    this.#enter("running", null);
    if (this.#active === 0) this.#ended();
  }

  #reset(reason: string): void {
    this.#resetDue = true;
    this.#debugStop = null;
    this.#tell({ kind: "board", event: "reset", reason });
    if (this.#active === 0) this.#ended();
    else this.#halt();
  }

  #enter(state: Exclude<BoardState, "created">, reason: string | null): void {
    this.#state = state;
    this.#reason = reason;
    this.#tell({ kind: "board", event: state, reason });
    if (state !== "running") this.#halt();
  }

  #halt(): void {
    if (this.#active === 0) return;
    this.#halting = true;
    for (const vcpu of this.#kvm.vm.vcpus) kickVcpu(this.#kvm, vcpu);
  }

  /** No vCPU runs: what was asked for happens now. */
  #ended(): void {
    this.#halting = false;
    this.hardware.setRunning(false);
    if (this.#resetDue) {
      this.#resetDue = false;
      this.#resets++;
      this.hardware.powerOn();
    }
    if (this.#state === "running") this.#launch();
    this.#chosen = null;
    this.#halted.wake();
  }

  #launch(): void {
    const { sched, vcpus } = this.#kvm.vm;
    const launched = vcpus.filter(({ id }) => this.#chosen?.has(id) ?? true);
    this.#active = launched.length;
    this.hardware.setRunning(true);
    for (const vcpu of launched) {
      sched.add(runLabel(vcpu.id), true, vcpuThread(this.#kvm, vcpu, this.#exits), (outcome) => {
        // Anything but a refusal is our own bug, and ends the VM.
        if (!outcome.ok) throw outcome.error;
        this.#active--;
        if (this.#active === 0) this.#ended();
      });
    }
  }

  #systemEvent(vcpu: Vcpu, type: number): void {
    // The first vCPU that asked decides.
    if (this.#state === "shutdown" || this.#state === "crashed" || this.#resetDue) return;
    if (type === SYSTEM_EVENT.SHUTDOWN) this.#enter("shutdown", "The guest switched itself off.");
    else if (type === SYSTEM_EVENT.RESET) this.#reset("The guest asked for it.");
    else this.#crash(vcpu, `system event ${type}`);
  }

  /** The testdev's word: the status that QEMU would end with. */
  #exit(code: number): void {
    if (this.#state !== "running") return;
    const status = code * 2 + 1;
    this.#enter("shutdown", `The guest's testdev ended it with status ${status}.`);
  }

  /** Pauses for the debugger. What came second is met again when the board goes on. */
  #debugged(vcpu: Vcpu, debug: NonNullable<RunOutcome["debug"]>): void {
    if (this.#state !== "running" || this.#halting) return;
    this.#debugStop = { vcpu: vcpu.id, ...debug };
    this.#enter("paused", `vCPU ${vcpu.id} stopped for its debugger.`);
  }

  #ringIsFull(vcpu: Vcpu): void {
    this.#ringFull = true;
    if (this.#state !== "running" || this.#halting) return;
    this.#enter("paused", `vCPU ${vcpu.id}'s dirty ring is full.`);
  }

  #crash(vcpu: Vcpu, what: string): void {
    if (this.#state === "shutdown" || this.#state === "crashed") return;
    const pc = getOneReg(this.#kvm.vm, vcpu, PC).value.toString(16);
    this.#enter("crashed", `vCPU ${vcpu.id} at PC 0x${pc} can't go on: ${what}.`);
  }

  #sent(byte: number): void {
    this.output.put(byte);
    if (this.#announced) return;
    this.#announced = true;
    this.#tell({ kind: "console" });
  }

  #tell(news: BoardNews): void {
    this.#news.push(news);
  }

  save(): Saved {
    const data = {
      state: this.#state,
      reason: this.#reason,
      resets: this.#resets,
      hardware: this.hardware.save(),
      console: this.output.save(),
      debugStop: this.#debugStop,
    };
    return { kind: "board", version: 1, data };
  }

  /** Into a board with the same image; neither runs. */
  load(saved: Saved): void {
    const data = saved.data as {
      state: BoardState;
      reason: string | null;
      resets: number;
      hardware: Saved;
      console: Saved;
      debugStop: DebugStop | null;
    };
    this.#state = data.state;
    this.#reason = data.reason;
    this.#resets = data.resets;
    this.hardware.load(data.hardware);
    this.output.load(data.console);
    this.#debugStop = data.debugStop;
  }
}
