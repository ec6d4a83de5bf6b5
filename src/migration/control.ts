// Owns: what may be asked of a session while it runs: cancel, continue, other limits, an operator's
// last word. HTTP thread, or inline.
import { Stopped } from "./failure.js";
import type { LiveParameters, MigrationParameters } from "./types.js";

/** Something that happens once, and can be waited for. */
export class Once<T> {
  readonly happened: Promise<T>;
  #value: T | null = null;
  #resolve: (value: T) => void = () => {};

  constructor() {
    this.happened = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  get value(): T | null {
    return this.#value;
  }

  set(value: T): void {
    if (this.#value !== null) return;
    this.#value = value;
    this.#resolve(value);
  }
}

/** How an operator settles a session whose peer never returns. */
export interface Resolution {
  readonly runsOn: "source" | "target";
  readonly reason: string;
}

export class Control {
  readonly resolution = new Once<Resolution>();
  readonly #stopped = new Once<Stopped>();
  readonly #continued = new Once<true>();
  #parameters: MigrationParameters;
  #sealed: string | null = null;

  constructor(parameters: MigrationParameters) {
    this.#parameters = parameters;
  }

  get parameters(): MigrationParameters {
    return this.#parameters;
  }

  get isStopped(): boolean {
    return this.#stopped.value !== null;
  }

  adjust(live: Partial<LiveParameters>): void {
    this.#parameters = { ...this.#parameters, ...live };
  }

  /** From now on a cancel is refused, with this sentence. */
  seal(why: string): void {
    this.#sealed ??= why;
  }

  /** @returns why it can't be stopped any more, or null: it will be */
  stop(error: Stopped): string | null {
    if (this.#sealed !== null) return this.#sealed;
    this.#stopped.set(error);
    return null;
  }

  continue(): void {
    this.#continued.set(true);
  }

  /** @throws Stopped as soon as somebody stops the session; the promise's end is then ignored. */
  async orStopped<T>(promise: Promise<T>): Promise<T> {
    const won = await Promise.race([promise, this.#stopped.happened]);
    if (won instanceof Stopped) throw won;
    return won;
  }

  /** @throws Stopped */
  async untilContinued(): Promise<void> {
    await this.orStopped(this.#continued.happened);
  }
}
