// Owns: KVM's use of FEAT_HDBSS: registers at load and put, requests, sync, faults; and who turns
// it on. VM thread.
//
//   guest ─ entries ─▶ buffer ─ put, request, full ─▶ bitmap or ring
//   GET, CLEAR: request every vCPU, wait until each has drained
// @source S1; dirty-tracking.md 4
import { assert } from "../../base/assert.js";
import { KvmError } from "../../base/errors.js";
import {
  decodeProd,
  encodeProd,
  HDBSS_FSC,
  type HostCpu,
  type Stage2Fault,
  SZ_UNIT_BYTES,
} from "../../machine/index.js";
import type { DirtyLog } from "../dirty-log.js";
import { isLogging } from "../memslots.js";
import { POINT } from "../preemption.table.js";
import { Mutex } from "../sched/locks.js";
import { type Op, Waitable } from "../sched/scheduler.js";
import type { RunOutcome, Vcpu } from "../vcpu.js";
import type { Vm } from "../vm.js";
import { VCPU_REQUEST } from "./hdbss-buffer.js";
import { HdbssBuffers, ownOrder } from "./hdbss-buffers.js";
import { readEnable, setBufferSize } from "./hdbss-cap.js";
import { HdbssDrain } from "./hdbss-drain.js";
import { HdbssMode, request } from "./hdbss-mode.js";
import type { HdbssPort } from "./hdbss-port.js";
import { hasHdbss } from "./leaf-policy.js";

const { FLUSH, RELOAD, HALT, RESCAN, FALL_BACK } = VCPU_REQUEST;
const EFAULT: RunOutcome = { errno: "EFAULT", exitReason: "KVM_EXIT_UNKNOWN" };

export class Hdbss implements HdbssPort {
  readonly #vm: Vm;
  readonly #buffers: HdbssBuffers;
  readonly #drain: HdbssDrain;
  readonly #mode: HdbssMode;
  /** kvm->lock, as far as HDBSS needs it. */
  readonly #lock = new Mutex("hdbss_lock");
  /** Woken when a vCPU has noticed, or drained. */
  readonly #served = new Waitable("hdbss-served");

  constructor(vm: Vm, log: DirtyLog) {
    this.#vm = vm;
    this.#buffers = new HdbssBuffers(vm);
    this.#drain = new HdbssDrain(vm, log);
    this.#mode = new HdbssMode(vm, { log, buffers: this.#buffers, drain: this.#drain });
  }

  // ── load and put ────────────────────────────────────────────────────────────────────────────

  load(vcpu: Vcpu, cpu: HostCpu): void {
    const { isHdbssOn, policies, seedBugs, slots } = this.#vm;
    if (!isHdbssOn) return;
    const buffer = vcpu.hdbss;
    if (buffer === null) {
      assert(seedBugs.has("B3"), "a vCPU runs with HDBSS only with a buffer");
      cpu.msr("HDBSSBR_EL2", 0n);
      cpu.msr("HDBSSPROD_EL2", 0n);
      cpu.isb();
      return;
    }
    const isMasked = policies["hdbss.alignCheck"] === "mask";
    const bytes = SZ_UNIT_BYTES * 2 ** buffer.sz;
    const base = isMasked ? buffer.pa - (buffer.pa % bytes) : buffer.pa;
    const { br, prod } = buffer.raw ?? {
      br: BigInt(base) | BigInt(buffer.sz),
      prod: encodeProd(buffer.index, buffer.fsc),
    };
    cpu.msr("HDBSSBR_EL2", br);
    cpu.msr("HDBSSPROD_EL2", prod);
    cpu.isb();
    buffer.isLive = true;
    buffer.raw = null;
    buffer.index = 0;
    buffer.fsc = HDBSS_FSC.NONE;
    buffer.staleSlots = seedBugs.has("B16") ? [...slots.list()] : null;
  }

  put(vcpu: Vcpu, cpu: HostCpu): void {
    const vm = this.#vm;
    const buffer = vcpu.hdbss;
    if (buffer !== null) {
      // Userspace reads a ring without asking KVM: by then nothing may wait in a buffer.
      const isKept = vm.policies["hdbss.flushAt"] === "preserve-index-on-put";
      const keeps = isKept && vm.isHdbssOn && vm.caps.dirtyRingBytes === 0;
      if (!keeps || (vcpu.requests & (FLUSH | HALT)) !== 0) {
        if (buffer.isLive || vm.isHdbssOn) this.#drain.live(vcpu, cpu, "put");
      }
      if (buffer.isLive) this.#saveRegisters(vcpu, cpu);
      buffer.isLive = false;
      if (!vm.isHdbssOn && !this.#mode.wantsBuffers) this.#mode.retire(vcpu);
    }
    vcpu.requests &= ~(FLUSH | RELOAD | HALT);
    // Userspace may look at the ring next.
    if ((vcpu.requests & RESCAN) !== 0) this.#drain.rescan(vcpu);
    vcpu.ipiStep = -1;
    this.#served.wake();
  }

  /** What a drain left, or was not asked to take, waits for the next load. */
  #saveRegisters({ hdbss }: Vcpu, cpu: HostCpu): void {
    assert(hdbss !== null, "only a buffer has registers");
    cpu.dsb();
    const prod = cpu.mrs("HDBSSPROD_EL2");
    const { index, fsc } = decodeProd(prod);
    hdbss.index = index;
    hdbss.fsc = fsc;
    const isRaw = this.#vm.policies["hdbss.savedState"] === "raw-registers";
    hdbss.raw = isRaw ? { br: cpu.mrs("HDBSSBR_EL2"), prod } : null;
  }

  // ── requests ────────────────────────────────────────────────────────────────────────────────

  hasNoticed(vcpu: Vcpu): boolean {
    if (!vcpu.isInGuest) return true;
    return vcpu.ipiStep >= 0 && this.#vm.sched.steps >= vcpu.ipiStep;
  }

  *serve(vcpu: Vcpu): Op<void> {
    const vm = this.#vm;
    vcpu.isInGuest = false;
    vcpu.ipiStep = -1;
    this.#served.wake();
    if (vm.sched.contended) yield POINT["hdbss-noticed"];
    if ((vcpu.requests & FLUSH) !== 0) this.#flush(vcpu, "request");
    if ((vcpu.requests & FALL_BACK) !== 0) {
      vcpu.requests &= ~FALL_BACK;
      vm.putVcpu(vcpu);
      yield* this.#locked(() => this.#mode.disable());
    }
    if ((vcpu.requests & (RELOAD | HALT)) !== 0) {
      vm.putVcpu(vcpu);
      vcpu.requests &= ~(RELOAD | HALT);
    }
    if ((vcpu.requests & RESCAN) !== 0) this.#drain.rescan(vcpu);
  }

  #flush(vcpu: Vcpu, why: "request" | "fault" | "exit"): void {
    vcpu.requests &= ~FLUSH;
    if (vcpu.cpu !== null) this.#drain.live(vcpu, vcpu.cpu, why);
    this.#served.wake();
  }

  exited(vcpu: Vcpu): void {
    if (this.#vm.policies["hdbss.flushAt"] === "every-exit") this.#flush(vcpu, "exit");
  }

  *sync(wanted?: "wait-drain"): Op<void> {
    const vm = this.#vm;
    const { policies, seedBugs } = vm;
    if (vm.vcpus.every(({ hdbss }) => hdbss === null)) return;
    const how = seedBugs.has("B8") ? "request-nowait" : (wanted ?? policies["hdbss.sync"]);
    const kicks = !seedBugs.has("B9");
    for (const vcpu of vm.vcpus) {
      if (vcpu.cpu === null) this.#drain.parked(vcpu, "sync");
      else if (how !== "kick-async" || vcpu.isInGuest) request(vm, vcpu, FLUSH, kicks);
    }
    if (vm.sched.contended) yield POINT["hdbss-requested"];
    const isPending = ({ requests, isInGuest }: Vcpu): boolean => {
      if ((requests & FLUSH) === 0 || (!kicks && isInGuest)) return false;
      return how === "wait-drain" || (how === "request-wait-ack" && isInGuest);
    };
    while (vm.vcpus.some(isPending)) yield this.#served;
  }

  *whileHeld(op: () => Op<void>): Op<void> {
    yield* this.#locked(() =>
      this.#mode.whileHalted(
        function* (this: Hdbss): Op<void> {
          yield* this.sync("wait-drain");
          yield* op();
        }.bind(this),
      ),
    );
  }

  ringsHaveRoom(): void {
    for (const vcpu of this.#vm.vcpus) {
      if (vcpu.cpu !== null) continue;
      this.#drain.parked(vcpu, "sync");
      if ((vcpu.requests & RESCAN) !== 0) this.#drain.rescan(vcpu);
    }
  }

  // ── faults ──────────────────────────────────────────────────────────────────────────────────

  handleFault(vcpu: Vcpu, kind: Stage2Fault["kind"]): RunOutcome | null {
    const { policies, seedBugs, counters } = this.#vm;
    const { cpu } = vcpu;
    assert(cpu !== null, "a vCPU that handles an abort is loaded");
    const { fsc } = decodeProd(cpu.mrs("HDBSSPROD_EL2"));
    const isSync = kind === "external-abort" || kind === "gpf";
    if (fsc === HDBSS_FSC.NONE && !isSync) {
      counters.values.hdbssFullFaults++;
      if (policies["hdbss.flushAt"] === "fault-sets-request") vcpu.requests |= FLUSH;
      else this.#flush(vcpu, "fault");
      return null;
    }
    if (seedBugs.has("B14")) return EFAULT;
    this.#flush(vcpu, "fault");
    if (isSync) {
      this.#drain.lost(vcpu, kind === "gpf" ? HDBSS_FSC.GPF : HDBSS_FSC.EXTERNAL_ABORT);
    }
    return policies["hdbss.error"] === "efault" ? EFAULT : null;
  }

  // ── who turns it on ─────────────────────────────────────────────────────────────────────────

  *#locked(op: () => Op<void>): Op<void> {
    yield* this.#lock.lock();
    try {
      yield* op();
    } finally {
      this.#lock.unlock();
    }
  }

  *enableCap(flags: number, args: readonly bigint[]): Op<null> {
    const vm = this.#vm;
    yield* this.#setMode(flags, args);
    // Not before: a CLEAR may defer until HDBSS is off. slots_lock comes before HDBSS's.
    if (!vm.isHdbssOn && vm.asyncClean !== null) yield* vm.asyncClean.drainAll();
    return null;
  }

  *#setMode(flags: number, args: readonly bigint[]): Op<void> {
    const vm = this.#vm;
    yield* this.#lock.lock();
    try {
      const { isOn, order } = readEnable(vm, flags, args);
      if (!isOn) {
        yield* this.#mode.disable();
        return;
      }
      if (vm.isHdbssOn) {
        throw new KvmError("EINVAL", "KVM_ENABLE_CAP", "HDBSS is on: its size can't change");
      }
      yield* this.#mode.enable(order);
    } finally {
      this.#lock.unlock();
    }
  }

  setBufferSize(flags: number, args: readonly bigint[]): void {
    setBufferSize(this.#vm, flags, args);
  }

  ringsCome(bytes: number): Op<null> | null {
    const vm = this.#vm;
    if (!vm.isHdbssOn || this.#mode.fitsRings(bytes, vm.caps.hdbssOrder)) return null;
    if (!this.#isAuto) {
      throw new KvmError("EINVAL", "KVM_ENABLE_CAP", "the rings have no room for HDBSS's buffers");
    }
    return this.#giveWay();
  }

  /** KVM's own wish goes before userspace's: write protection fills small rings exactly. */
  *#giveWay(): Op<null> {
    yield* this.#locked(() => this.#mode.disable());
    return null;
  }

  /** Whether KVM turns HDBSS on by itself. */
  get #isAuto(): boolean {
    const by = this.#vm.policies["hdbss.enableBy"];
    return by === "auto-first-logging-slot" || by === "auto-buffers-at-vcpu-create";
  }

  *loggingStarts(): Op<void> {
    const vm = this.#vm;
    if (this.#isAuto && !vm.isHdbssOn && hasHdbss(vm)) {
      yield* this.#locked(() => this.#tryEnable());
    }
    yield* this.#locked(() => this.#mode.recompute(true));
  }

  /** KVM's own wish, not the caller's: without memory for buffers write protection goes on. */
  *#tryEnable(): Op<void> {
    try {
      yield* this.#mode.enable(ownOrder(this.#vm));
    } catch (error) {
      if (!(error instanceof KvmError)) throw error;
    }
  }

  *slotsChanged(): Op<void> {
    const vm = this.#vm;
    const ends = this.#isAuto && vm.isHdbssOn;
    if (!ends && vm.vtcrFor(false) === vm.vtcr) return;
    if (vm.slots.list().some(isLogging)) return;
    if (ends) yield* this.#locked(() => this.#mode.disable());
    yield* this.#locked(() => this.#mode.recompute(false));
  }

  attach(vcpu: Vcpu): "ENOMEM" | "EINVAL" | null {
    const vm = this.#vm;
    if (!this.#mode.wantsBuffers || vm.seedBugs.has("B3")) return null;
    const errno = this.#buffers.allocate(vcpu, vm.isHdbssOn ? vm.caps.hdbssOrder : ownOrder(vm));
    if (errno === null) this.#mode.reserve(vcpu);
    return errno;
  }

  destroyVcpu(vcpu: Vcpu): void {
    const { isHdbssOn, seedBugs } = this.#vm;
    if (seedBugs.has("B17") && !isHdbssOn) return;
    if (vcpu.hdbss === null && isHdbssOn && seedBugs.has("B3")) this.#buffers.reportFree(0);
    else this.#buffers.free(vcpu);
  }
}
