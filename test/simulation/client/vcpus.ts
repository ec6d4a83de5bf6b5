// The client's vCPU threads: set a program, RUN, answer what comes back, RUN again; and kicks.
import type { CommandResult, Program } from "../../../src/vmm/index.js";
import { chance, takeCleaned, type World } from "../world.js";
import { drawProgram, warmProgram } from "./programs.js";

export class VcpuClient {
  readonly id: number;
  readonly #world: World;
  #isRunning = false;
  #needsProgram = true;
  #mmioData: Uint8Array | null = null;
  /** MMIO exits in a row: a program that only meets holes is not worth its exits. */
  #misses = 0;
  /** The last run ended with a full ring: the client empties it before the next. */
  isRingFull = false;

  #isThere = false;

  /** @param isLate it comes later, at come() */
  constructor(world: World, id: number, isLate: boolean) {
    this.#world = world;
    this.id = id;
    if (!isLate) this.come();
  }

  /** Creates the vCPU, unless it is there. */
  come(): void {
    if (this.#isThere) return;
    this.#isThere = true;
    this.#world.link.now("createVcpu", { id: this.id });
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Takes another program, unless it runs. */
  load(program: Program): void {
    if (this.#isRunning) return;
    this.#world.link.now("setProgram", { vcpu: this.id, program });
    this.#needsProgram = false;
  }

  /** Maps what a slot has, as far as one access in each half block does. */
  warm(slot: number): void {
    this.load(warmProgram(this.#world, slot));
  }

  /** Runs again, unless it runs already. */
  act(): void {
    if (this.#isRunning) return;
    const { link, prng } = this.#world;
    if (this.#needsProgram || chance(this.#world, 5)) {
      this.load(drawProgram(this.#world));
    }
    const immediateExit = chance(this.#world, 2);
    const args = { vcpu: this.id, immediateExit, mmioData: this.#mmioData };
    this.#mmioData = null;
    this.#isRunning = true;
    link.call("run", args, (reply) => {
      this.#isRunning = false;
      if (!reply.ok) return;
      this.#exited(reply.value);
      if (reply.value.mmio?.isWrite === false) {
        this.#mmioData = Uint8Array.from({ length: reply.value.mmio.len }, () => prng.below(256));
      }
    });
  }

  #exited(result: CommandResult<"run">): void {
    if (result.cleaned !== undefined) takeCleaned(this.#world, result.cleaned);
    this.isRingFull = result.exitReason === "KVM_EXIT_DIRTY_RING_FULL";
    // A hole in the memory behind a slot: nothing but another program gets past it.
    this.#misses = result.exitReason === "KVM_EXIT_MMIO" ? this.#misses + 1 : 0;
    if (this.#misses > 6) this.#needsProgram = true;
    if (result.program.finished || result.errno === "EFAULT") this.#needsProgram = true;
  }

  kick(): void {
    this.#world.link.now("kick", { vcpu: this.id });
  }
}
