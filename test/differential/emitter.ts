// Owns: words under construction, with labels that branches name before they are placed.
// Test process.

export interface Label {
  at: number;
}

export class Emitter {
  readonly words: number[] = [];
  readonly #fixups: { readonly at: number; readonly to: Label; readonly write: WriteAt }[] = [];

  get at(): number {
    return this.words.length;
  }

  put(...words: readonly number[]): void {
    this.words.push(...words);
  }

  label(): Label {
    return { at: -1 };
  }

  /** A label for what comes next. */
  here(): Label {
    return { at: this.at };
  }

  place(label: Label): void {
    label.at = this.at;
  }

  /** A word that depends on where a label is. @param write gets both places, in words */
  towards(to: Label, write: WriteAt): void {
    this.#fixups.push({ at: this.at, to, write });
    this.put(0);
  }

  finish(): readonly number[] {
    for (const { at, to, write } of this.#fixups) {
      if (to.at < 0) throw new Error("a label was never placed");
      this.words[at] = write(at, to.at);
    }
    return this.words;
  }
}

type WriteAt = (at: number, to: number) => number;
