// Owns: a guest image on a board, run for so many instructions a round. HTTP thread.
import { ServiceError } from "../../base/errors.js";
import type { BoardDefinition, CommandArgs } from "../../runtime/index.js";
import type { Call, Load, Stretch } from "./load.js";
import type { ImageWorkload } from "./types.js";

/** The board that an image needs. */
export function boardOf(workload: ImageWorkload): BoardDefinition {
  const { image, initrd = null, gic, cmdline, memoryMiB, vcpus } = workload;
  return { image, initrd, cmdline, memoryMiB, vcpus, ...(gic === undefined ? {} : { gic }) };
}

/** The bytes of what such a board names. */
export type BoardImages = CommandArgs<"loadBoard">;

export class ImageLoad implements Load {
  readonly #call: Call;
  readonly #workload: ImageWorkload;
  readonly #images: BoardImages;
  /** Virtual nanoseconds of the round; an instruction is one. */
  #left = 0n;
  /** The guest switched itself off: it stores no more. */
  #isOff = false;

  constructor(call: Call, workload: ImageWorkload, images: BoardImages) {
    this.#call = call;
    this.#workload = workload;
    this.#images = images;
  }

  async build(): Promise<void> {
    const { image, initrd } = this.#images;
    // What is sent moves to the VM's thread, and the next strategy wants it too.
    const copies = { image: image?.slice() ?? null, initrd: initrd?.slice() ?? null };
    await this.#call("loadBoard", copies);
  }

  async startLogging(): Promise<void> {
    await this.#call("logBoard", { on: true });
  }

  async begin(round: number): Promise<void> {
    const { warmUpInstructions, instructionsPerRound } = this.#workload;
    this.#left = BigInt(round === 0 ? warmUpInstructions : instructionsPerRound);
  }

  async enter(): Promise<void> {
    this.#left = 1n;
  }

  async run(): Promise<Stretch> {
    if (this.#isOff) return DONE;
    const stretch = await this.#call("runBoard", { ns: this.#left });
    const { state, reason, ranNs, ringFull, resets } = stretch;
    const cleaned = stretch.cleaned.map(Number);
    this.#left -= ranNs;
    if (state === "crashed") throw new ServiceError("board-state", reason ?? "The guest crashed.");
    // A reset loads the image again: stores of the VMM, which no log of KVM's tells.
    if (resets > 0) throw new ServiceError("board-state", "The guest reset itself.");
    this.#isOff = state === "shutdown";
    return { ...DONE, isOver: this.#isOff || this.#left <= 0n, ringFull, cleaned };
  }
}

const DONE: Stretch = { isOver: true, ringFull: false, cleaned: [], errors: 0, error: null };
