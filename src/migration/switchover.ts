// Owns: the guest's pause: from the first vCPU held to the VM released. Each step here is time that
// the guest loses, so nothing is waited for that could wait. HTTP thread, or inline.
import type { Clock } from "../base/clock.js";
import type { DirtyPages, MemoryMap } from "../runtime/index.js";
import type { Control } from "./control.js";
import { joinPages, NO_PAGES } from "./dirty-pages.js";
import { isTransient, MigrationError } from "./failure.js";
import { FINISH_PATIENCE_MS } from "./limits.js";
import type { Notes } from "./notes.js";
import type { Outgoing, Peer, Pushing } from "./ports.js";
import { allPages, type Push, split } from "./pushing.js";
import { retry } from "./retry.js";
import type { Rounds } from "./rounds.js";
import type { SourceVm } from "./source-vm.js";
import type { Stopwatch } from "./stopwatch.js";
import type { Decision } from "./types.js";

export interface SwitchoverParts {
  readonly vm: SourceVm;
  readonly outgoing: Outgoing & Pushing;
  readonly memory: MemoryMap;
  readonly push: Push;
  readonly rounds: Rounds;
  readonly peer: Peer;
  /** The peer's name for the session. */
  readonly session: string;
  readonly control: Control;
  readonly notes: Notes;
  readonly clock: Clock;
  readonly watch: Stopwatch;
}

const LAST: Decision = {
  action: "switchover",
  why: "the last round: every vCPU is held",
  isConverging: true,
};

export class Switchover {
  /** The target may be ready from here on. */
  isFinishSent = false;
  readonly #parts: SwitchoverParts;

  constructor(parts: SwitchoverParts) {
    this.#parts = parts;
  }

  /** @param left harvested and not sent yet */
  async run(left: DirtyPages): Promise<void> {
    const { control, outgoing, notes } = this.#parts;
    notes.pass("device");
    // As QEMU does: the client's limit is for the time that the guest runs.
    outgoing.limit(0);
    await control.orStopped(this.hold());
    const state = await control.orStopped(this.transfer(left));
    const digest = control.parameters.verify ? await control.orStopped(outgoing.digest()) : null;
    const keeping = this.#keepReleased();
    await control.orStopped(this.finish(state, digest));
    control.seal("The target is ready and the VM is being handed over: too late to cancel.");
    await this.release(keeping);
  }

  /**
   * Written while the target loads, since the guest waits. A host that dies from here on has no VM
   * either; one that lives takes it back, in the journal first, where the target doesn't get ready.
   */
  #keepReleased(): Promise<void> {
    this.isFinishSent = true;
    return this.#parts.notes.keep("released");
  }

  /**
   * The VM goes at once, and its pages follow.
   * @param left harvested and not sent yet; null: no page has gone
   */
  async runPostcopy(left: DirtyPages | null): Promise<void> {
    const { control, notes, outgoing, push, memory, vm, watch } = this.#parts;
    notes.pass("device");
    outgoing.limit(0);
    await control.orStopped(this.hold());
    const { state: saving, dirty } = await control.orStopped(vm.saveLast(true));
    const state = await control.orStopped(watch.time("saveMs", () => saving));
    watch.stateBytes = state.length;
    const written = await control.orStopped(dirty);
    const pages = left === null ? allPages(memory) : joinPages(left, written);
    const { first, later } = split(memory, pages);
    if (first.pages > 0) await control.orStopped(this.sendLast(first));
    if (left !== null) await control.orStopped(outgoing.discard(later));
    outgoing.limit(control.parameters.postcopyBandwidthBytesPerSecond);
    push.begin(later);
    // Whoever finds the session after a crash has to know that the target may lack pages. Before it
    // has the state, its VM can't need them.
    await control.orStopped(notes.enter("postcopy-active"));
    // Loading asks for pages already: tables of interrupts are among them.
    const keeping = this.#keepReleased();
    const finishing = this.finish(state, null);
    await control.orStopped(Promise.race([finishing, push.failure()]));
    control.seal("The target is ready and the VM is being handed over: too late to cancel.");
    await this.release(keeping);
  }

  async hold(): Promise<void> {
    const { vm, watch } = this.#parts;
    await watch.time("holdMs", () => vm.hold());
  }

  /** What is left, and meanwhile the state; then what saving that has written. */
  async transfer(left: DirtyPages): Promise<Uint8Array> {
    const { vm, watch } = this.#parts;
    const { state, dirty } = await vm.saveLast(false);
    const saving = watch.time("saveMs", () => state);
    saving.catch(() => {});
    return watch.time("lastRoundMs", async () => {
      await this.sendLast(left, dirty);
      const saved = await saving;
      watch.stateBytes = saved.length;
      return saved;
    });
  }

  /** @param more that somebody is finding meanwhile */
  async sendLast(pages: DirtyPages, more = Promise.resolve(NO_PAGES)): Promise<void> {
    const { rounds } = this.#parts;
    const sent = await rounds.sendBoth(pages, more);
    rounds.record(sent, 0, LAST, null);
  }

  async finish(state: Uint8Array, digest: string | null): Promise<void> {
    const { peer, session, clock, watch, control } = this.#parts;
    const patience = {
      forMs: FINISH_PATIENCE_MS,
      isWorth: (error: unknown) => isTransient(error) && !control.isStopped,
    };
    const theirs = await watch.time("finishMs", () =>
      retry(clock, patience, () => peer.finish(session, state, digest)),
    );
    if (digest === null || theirs === digest) return;
    const detail = `Memory differs: its digest is ${digest} here and ${theirs} at the target.`;
    throw new MigrationError("wire", "digest-mismatch", detail);
  }

  /** From here on the VM never runs here, unless the target says that it never will there. */
  async release(keeping: Promise<void>): Promise<void> {
    const { notes, clock, watch } = this.#parts;
    const patience = { forMs: FINISH_PATIENCE_MS };
    let first: Promise<void> | null = keeping;
    const kept = (): Promise<void> => {
      const now = first ?? notes.keep("released");
      first = null;
      return now;
    };
    await watch.time("releaseMs", () => retry(clock, patience, kept));
    notes.stand("released");
  }
}
