// Owns: what the guest image says on its UART, with the host's time of it. Bench and test process.

export interface Sample {
  readonly phase: string;
  /** From 0. */
  readonly repetition: number;
  /** Of the guest's own counter. */
  readonly guestMs: number;
  /** Of the host, between the lines that the guest prints before and after. */
  readonly hostMs: number;
  readonly sum: string;
  /** Instructions retired between those lines; NaN where nobody counts them. */
  readonly instructions: number;
}

const PHASE_LINE = /^phase (\S+) ticks (\d+) freq (\d+) sum ([0-9a-f]{16})$/;

export class Transcript {
  readonly samples: Sample[] = [];
  ended = false;
  readonly #onWait: (phase: string) => void;
  #line = "";
  #lineMs = 0;
  #lineInstructions = 0;
  #begun = { ms: 0, instructions: 0 };

  /** @param onWait the guest waits for a byte before this phase */
  constructor(onWait: (phase: string) => void = () => {}) {
    this.#onWait = onWait;
  }

  /**
   * Takes one character.
   * @param ms host's time of it
   * @throws Error at a line that the image doesn't print
   */
  take(character: string, ms: number, instructions = Number.NaN): void {
    if (this.#line === "") {
      this.#lineMs = ms;
      this.#lineInstructions = instructions;
    }
    if (character !== "\n") {
      this.#line += character;
      return;
    }
    const line = this.#line;
    this.#line = "";
    if (line.startsWith("begin ")) this.#begun = { ms, instructions };
    else if (line.startsWith("wait ")) this.#onWait(line.slice(5));
    else if (line === "end") this.ended = true;
    else this.#sample(line);
  }

  #sample(line: string): void {
    const [, phase = "", ticks, frequency, sum = ""] = PHASE_LINE.exec(line) ?? [];
    if (sum === "") throw new Error(`the guest says "${line}"`);
    this.samples.push({
      phase,
      repetition: this.samples.filter((sample) => sample.phase === phase).length,
      guestMs: (Number(ticks) / Number(frequency)) * 1000,
      hostMs: this.#lineMs - this.#begun.ms,
      sum,
      instructions: this.#lineInstructions - this.#begun.instructions,
    });
  }
}
