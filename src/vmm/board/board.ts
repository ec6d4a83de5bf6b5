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
import { assert } from "../../base/assert.js";
import { KvmError, ServiceError } from "../../base/errors.js";
import type { Saved } from "../../base/saved.js";
import {
  armVcpuInit,
  createVcpu,
  getOneReg,
  KVM_ARM_VCPU,
  type Kvm,
  type Op,
  type RunOutcome,
  SYSTEM_EVENT,
  setOneReg,
  setVcpuAttr,
  type Vcpu,
  Waitable,
} from "../../kvm/index.js";
import type { DebugStop } from "../debugger-commands.js";
import type { BoardDefinition } from "../definition.js";
import { writeGuest } from "../memory-access.js";
import { kickVcpu, runLabel } from "../run-label.js";
import type { BoardAction, BoardNews, BoardState, BoardStretch, BoardView } from "./commands.js";
import { Console } from "./console.js";
import { deviceTree } from "./device-tree.js";
import { type Layout, layout } from "./loader.js";
import { MIB, RAM_BASE, UART } from "./memory-map.table.js";
import { Pl011 } from "./pl011.js";

const TARGET_GENERIC_V8 = 5;
/** As QEMU asks of KVM for its virt machine. */
const FEATURES = (1 << KVM_ARM_VCPU.PSCI_0_2) | (1 << KVM_ARM_VCPU.PMU_V3);
/** KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT. */
const PMU_GROUP = 0;
const PMU_INIT = 1n;
const POWER_OFF = 1 << KVM_ARM_VCPU.POWER_OFF;
/** KVM_REG_ARM_CORE ids of X0 and PC. */
const X0 = 0x6030_0000_0010_0000n;
const PC = 0x6030_0000_0010_0040n;
/** The slot and the memory object that hold the board's RAM. */
export const RAM_SLOT = 0;

const LOG_DIRTY_PAGES = 1;

/** A timer of the VMM's own: woken by time, it runs a handler, as a signal would. */
class Alarm extends Waitable {
  readonly #ring: () => void;

  constructor(ring: () => void) {
    super("alarm");
    this.#ring = ring;
  }

  override wake(): void {
    this.#ring();
  }
}

interface Loaded {
  readonly image: Uint8Array;
  readonly initrd: Uint8Array;
  readonly at: Layout;
  readonly ramObject: number;
}

export class Board {
  readonly definition: BoardDefinition;
  readonly output = new Console();
  readonly uart = new Pl011((byte) => this.#sent(byte));
  readonly #kvm: Kvm;
  readonly #seed: bigint;
  #state: BoardState = "created";
  #reason: string | null = null;
  #resets = 0;
  #unassigned = 0;
  #lastUnassigned: bigint | null = null;
  #loading = false;
  #loaded: Loaded | null = null;
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
  /** First pages of deferred CLEARs that ended since the board was started. */
  #cleaned: bigint[] = [];
  #news: BoardNews[] = [];
  /** Readers were told that there is output, and none has looked since. */
  #announced = false;

  constructor(definition: BoardDefinition, kvm: Kvm, seed: bigint) {
    this.definition = definition;
    this.#kvm = kvm;
    this.#seed = seed;
  }

  /** Id of the memory object behind the board's RAM; null before there is one. */
  get ramObject(): number | null {
    return this.#loaded?.ramObject ?? null;
  }

  view(): BoardView {
    const at = this.#loaded?.at ?? null;
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
        typed: this.uart.backlog,
      },
      unassigned: { count: this.#unassigned, last: this.#lastUnassigned },
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
    if (!this.uart.type(bytes)) {
      throw new ServiceError(
        "console-full",
        `The guest has not taken ${this.uart.backlog} bytes typed before: type these later.`,
      );
    }
    return { accepted: bytes.length, typed: this.uart.backlog };
  }

  /**
   * Builds the machine around the image; the guest does not run yet.
   * @throws ServiceError "board-state", "image-format", "image-does-not-fit"; KvmError ENOMEM
   */
  *install(image: Uint8Array, initrd: Uint8Array | null): Op<BoardView> {
    if (this.#loading) throw new ServiceError("board-state", "The board has its image already.");
    const at = layout(image, initrd?.length ?? 0, this.definition.memoryMiB);
    this.#loading = true;
    const { vm, regions } = this.#kvm;
    const bytes = image.length + (initrd?.length ?? 0);
    if (!vm.account.charge(bytes)) {
      throw new KvmError(
        "ENOMEM",
        "mmap",
        `no room to keep the image, ${bytes} bytes, for a reset`,
      );
    }
    const size = BigInt(this.definition.memoryMiB * MIB);
    const ram = vm.mm.map({ size, userspaceAddr: null, backing: "ram", hugePages: true });
    const userspaceAddr = BigInt(ram.userspaceAddr);
    yield* regions.set(this.#ramRegion(userspaceAddr, 0), true);
    for (let id = 0; id < this.definition.vcpus; id++) createVcpu(vm, id);
    this.#loaded = { image, initrd: initrd ?? new Uint8Array(0), at, ramObject: ram.id };
    this.#reload();
    return this.view();
  }

  /** @throws ServiceError "board-state" */
  *act(action: BoardAction): Op<BoardView> {
    if (this.#loaded === null) throw this.#refusal(action, "it has no image yet");
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

  /** KVM_MEM_LOG_DIRTY_PAGES of the board's RAM. @throws ServiceError "board-state" */
  *setLogging(on: boolean): Op<null> {
    if (this.#loaded === null) throw this.#refusal("log", "it has no image yet");
    const { vm, regions } = this.#kvm;
    const ram = vm.mm.byId(this.#loaded.ramObject);
    assert(ram !== undefined, "a board keeps its RAM");
    yield* regions.set(this.#ramRegion(BigInt(ram.userspaceAddr), on ? LOG_DIRTY_PAGES : 0), true);
    return null;
  }

  #ramRegion(userspaceAddr: bigint, flags: number) {
    return {
      slot: RAM_SLOT,
      flags,
      guestPhysAddr: BigInt(RAM_BASE),
      memorySize: BigInt(this.definition.memoryMiB * MIB),
      userspaceAddr,
      guestMemfd: 0,
      guestMemfdOffset: 0n,
    };
  }

  /**
   * Runs for a stretch of virtual time, or until the guest or a full dirty ring stops it.
   * @throws ServiceError "board-state" unless it is paused or was never switched on
   */
  *runFor(ns: bigint): Op<BoardStretch> {
    if (this.#loaded === null) throw this.#refusal("run", "it has no image yet");
    if (this.#state !== "created" && this.#state !== "paused") throw this.#refusal("run");
    const { vm } = this.#kvm;
    const begin = vm.ticks();
    const alarm = { wait: new Alarm(() => vm.ticks() - begin >= ns && this.#timeIsUp()) };
    this.#run();
    vm.timers.arm(alarm, ns);
    while (this.#active > 0) yield this.#halted;
    vm.timers.disarm(alarm);
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
    if (this.#loaded === null || !isThere) throw this.#refusal("resume", "it has no such vCPU");
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
    if (this.#resetDue) this.#reload();
    if (this.#state === "running") this.#launch();
    this.#chosen = null;
    this.#halted.wake();
  }

  #launch(): void {
    const { sched, vcpus } = this.#kvm.vm;
    const launched = vcpus.filter(({ id }) => this.#chosen?.has(id) ?? true);
    this.#active = launched.length;
    for (const vcpu of launched) {
      sched.add(runLabel(vcpu.id), true, this.#thread(vcpu), (outcome) => {
        // Anything but a refusal is our own bug, and ends the VM.
        if (!outcome.ok) throw outcome.error;
        this.#active--;
        if (this.#active === 0) this.#ended();
      });
    }
  }

  /** Power-on state of everything but RAM, which keeps what is not written over. */
  #reload(): void {
    const { vm } = this.#kvm;
    assert(this.#loaded !== null, "a board that runs has its image");
    const { image, initrd, at } = this.#loaded;
    if (this.#resetDue) this.#resets++;
    this.#resetDue = false;
    this.uart.reset();
    const tree = deviceTree({
      memoryMiB: this.definition.memoryMiB,
      cmdline: this.definition.cmdline,
      initrd: at.initrd,
      cpus: vm.vcpus.map((vcpu) => vcpu.mpidr),
      seed: this.#seed,
    });
    writeGuest(this.#kvm, BigInt(at.entry), image);
    if (at.initrd !== null) writeGuest(this.#kvm, BigInt(at.initrd.start), initrd);
    writeGuest(this.#kvm, BigInt(at.dtb), tree);
    for (const vcpu of vm.vcpus) {
      const isFirst = vcpu.index === 0;
      armVcpuInit(vm, vcpu, TARGET_GENERIC_V8, [FEATURES | (isFirst ? 0 : POWER_OFF)]);
      if (!vcpu.pmuCreated) setVcpuAttr(vm, vcpu, PMU_GROUP, PMU_INIT, new Uint8Array(0));
      if (!isFirst) continue;
      // The reset left X1 to X3 zero and EL1h with DAIF masked.
      setOneReg(vm, vcpu, PC, u64Bytes(at.entry));
      setOneReg(vm, vcpu, X0, u64Bytes(at.dtb));
    }
  }

  /** A vCPU's thread: KVM_RUN and its exits, until it is told to end. */
  *#thread(vcpu: Vcpu): Op<null> {
    let mmioData: Uint8Array | null = null;
    for (;;) {
      // What was emulated is completed before the thread ends.
      if (this.#halting && vcpu.pendingMmio === null) return null;
      let outcome: RunOutcome;
      try {
        const args = { immediateExit: this.#halting, mmioData };
        outcome = yield* this.#kvm.runs.run(vcpu, args);
      } catch (error) {
        if (!(error instanceof KvmError)) throw error;
        this.#crash(vcpu, `${error.errno}: ${error.message}`);
        return null;
      }
      mmioData = null;
      if (outcome.errno === "EINTR") continue;
      if (outcome.mmio !== undefined) mmioData = this.#mmio(outcome.mmio);
      else if (outcome.systemEvent !== undefined) this.#systemEvent(vcpu, outcome.systemEvent.type);
      else if (outcome.debug !== undefined) this.#debugged(vcpu, outcome.debug);
      else if (outcome.exitReason === "KVM_EXIT_DIRTY_RING_FULL") this.#ringIsFull(vcpu);
      else if (outcome.cleaned !== undefined) this.#cleaned.push(BigInt(outcome.cleaned.firstPage));
      else this.#crash(vcpu, `${outcome.exitReason}, ${outcome.errno ?? "no errno"}`);
    }
  }

  /** @returns what a load reads */
  #mmio(mmio: NonNullable<RunOutcome["mmio"]>): Uint8Array | null {
    const { physAddr, data, isWrite, len } = mmio;
    const offset = Number(physAddr) - UART.base;
    if (offset < 0 || offset >= UART.size) {
      this.#unassigned++;
      this.#lastUnassigned = physAddr;
      return isWrite ? null : new Uint8Array(len);
    }
    const word = offset & ~3;
    const shift = 8 * (offset & 3);
    if (isWrite) {
      const value = data.subarray(0, 4).reduceRight((sum, byte) => (sum << 8) | byte, 0);
      // A store to the upper bytes of a register reaches none of its bits.
      if (shift === 0) this.uart.write(word, value);
      return null;
    }
    const value = this.uart.read(word) >>> shift;
    return Uint8Array.from({ length: len }, (_, i) => (i < 4 ? (value >>> (8 * i)) & 0xff : 0));
  }

  #systemEvent(vcpu: Vcpu, type: number): void {
    // The first vCPU that asked decides.
    if (this.#state === "shutdown" || this.#state === "crashed" || this.#resetDue) return;
    if (type === SYSTEM_EVENT.SHUTDOWN) this.#enter("shutdown", "The guest switched itself off.");
    else if (type === SYSTEM_EVENT.RESET) this.#reset("The guest asked for it.");
    else this.#crash(vcpu, `system event ${type}`);
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
      unassigned: this.#unassigned,
      lastUnassigned: this.#lastUnassigned,
      uart: this.uart.save(),
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
      unassigned: number;
      lastUnassigned: bigint | null;
      uart: Saved;
      console: Saved;
      debugStop: DebugStop | null;
    };
    this.#state = data.state;
    this.#reason = data.reason;
    this.#resets = data.resets;
    this.#unassigned = data.unassigned;
    this.#lastUnassigned = data.lastUnassigned;
    this.uart.load(data.uart);
    this.output.load(data.console);
    this.#debugStop = data.debugStop;
  }
}

function u64Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}
