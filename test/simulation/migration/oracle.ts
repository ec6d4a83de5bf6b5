// What must hold: one copy of the VM is the newest, only that one may take a step, and it is never
// thrown away while it is the last. Knows nothing of the engine.

/** A copy of the VM in some host's memory. */
export interface Copy {
  readonly name: string;
  /** Steps of the guest that are in this copy; null: it has no state yet. */
  readonly steps: number | null;
  /** Destroyed, by whatever. */
  readonly isGone: boolean;
  /** All memory as bytes, also of one that is gone. */
  readonly bytes: Uint8Array;
  /** Whether the page of a byte, or any page, is still to come. */
  lacks?(at?: number): boolean;
}

export class Oracle {
  readonly violations: string[] = [];
  /** Steps that the guest has taken altogether. */
  latest = 0;
  /** The only copy died with its host: nothing may run any more. */
  isLost = false;
  /** What was on its way to the other host then may have been all of it. */
  mayBeLost = false;
  handOvers = 0;
  readonly #copies: Copy[] = [];

  violation(what: string): void {
    this.violations.push(what);
  }

  add(copy: Copy): void {
    this.#copies.push(copy);
  }

  /** Copies that could run on: they have every step. */
  get current(): readonly Copy[] {
    return this.#copies.filter((copy) => !copy.isGone && copy.steps === this.latest);
  }

  /** A copy takes steps. */
  advance(copy: Copy, from: number, to: number): void {
    if (this.isLost) this.violation(`${copy.name} runs although the VM is lost`);
    if (from !== this.latest) {
      this.violation(`${copy.name} runs with ${from} of ${this.latest} steps`);
    }
    this.latest = Math.max(this.latest, to);
  }

  /**
   * The protocol throws a copy away.
   * @param isCalledOff the source had decided, while it lived, that the VM stays there
   */
  discard(copy: Copy, isCalledOff: boolean): void {
    const { current } = this;
    if (this.isLost || !current.includes(copy) || current.length > 1) return;
    if (isCalledOff) this.isLost = true;
    else this.violation(`${copy.name} is thrown away and was the only copy`);
  }

  /** A host dies. @param owned copies that were said to run there */
  crash(died: readonly Copy[], owned: readonly Copy[]): void {
    const left = this.#copies.filter((copy) => !copy.isGone && !died.includes(copy));
    if (left.length === 0 || owned.length > 0) this.isLost = true;
    else if (left.every(({ steps }) => steps !== this.latest)) this.mayBeLost = true;
  }

  /** A target takes the VM over. */
  handOver(from: Copy, to: Copy): void {
    this.handOvers += 1;
    if (to.steps !== from.steps) {
      this.violation(`hand-over with ${to.steps} of ${from.steps} steps`);
    }
    if (Buffer.compare(from.bytes, to.bytes) === 0) return;
    const isOther = (byte: number, n: number) => byte !== to.bytes[n] && to.lacks?.(n) !== true;
    const at = from.bytes.findIndex(isOther);
    if (at >= 0) this.violation(`hand-over with other memory at ${at}`);
  }
}
