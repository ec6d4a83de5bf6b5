// Owns: running a VM that has a board: the debugger uses its power panel. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import type { VmHandle } from "../../runtime/index.js";
import type { Resumed, RunControl, Stopped } from "./target.js";

/** The VM's handle, and news of its board. */
export interface DebuggedBoard {
  readonly handle: VmHandle;
  /** @returns the end of it */
  onNews(listener: () => void): () => void;
}

export class BoardRunControl implements RunControl {
  readonly #board: DebuggedBoard;
  #wasRunning = false;
  /** Makes a resume() under way look at the board. */
  #wake: () => void = () => {};

  constructor(board: DebuggedBoard) {
    this.#board = board;
  }

  async #state() {
    return (await this.#board.handle.call("describeBoard", {})).value;
  }

  /** Its vCPUs have stopped when it resolves; one that is off stays off. */
  async #pause(): Promise<void> {
    try {
      await this.#board.handle.call("boardAction", { action: "pause" });
    } catch (error) {
      if (!isBoardState(error)) throw error;
    }
  }

  async attach(): Promise<void> {
    this.#wasRunning = (await this.#state()).state === "running";
    await this.#pause();
  }

  async resume(plan: readonly Resumed[]): Promise<Stopped> {
    let hasNews = false;
    const end = this.#board.onNews(() => {
      hasNews = true;
      this.#wake();
    });
    try {
      const vcpus = plan.map(({ vcpu }) => BigInt(vcpu));
      await this.#board.handle.call("resumeVcpus", { vcpus });
      for (;;) {
        hasNews = false;
        if ((await this.#state()).state !== "running") return await this.#stopped(plan);
        if (!hasNews) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } catch (error) {
      if (!isBoardState(error)) throw error;
      return await this.#stopped(plan);
    } finally {
      end();
    }
  }

  async #stopped(plan: readonly Resumed[]): Promise<Stopped> {
    // The others are told to stop by now; this waits for them.
    await this.#pause();
    const { state, reason } = await this.#state();
    if (state === "shutdown") return { kind: "off" };
    if (state === "crashed") {
      const why = reason ?? "The board crashed.";
      return { kind: "exit", vcpu: plan[0]?.vcpu ?? 0, why };
    }
    const { value: debug } = await this.#board.handle.call("describeDebugStop", {});
    return debug === null ? { kind: "interrupted" } : { kind: "debug", ...debug };
  }

  interrupt(): void {
    // A VM that is gone has no news: who waits for some asks, and is told that.
    void this.#pause().catch(() => this.#wake());
  }

  async detach(goesOn: boolean): Promise<void> {
    if (!goesOn || !this.#wasRunning) return;
    if ((await this.#state()).state !== "paused") return;
    await this.#board.handle.call("boardAction", { action: "resume" });
  }
}

function isBoardState(error: unknown): boolean {
  return error instanceof ServiceError && error.code === "board-state";
}
