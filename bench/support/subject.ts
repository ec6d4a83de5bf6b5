// Owns: what a subject of the bench is and what it reports. Bench process.

/** One line of the table. */
export interface Row {
  readonly subject: string;
  readonly what: string;
  readonly figure: number;
  readonly unit: string;
  /** This figure over that of the thing it is compared with; null where there is none. */
  readonly ratio: number | null;
  /** "<= 1.3", in words of the ratio or of the figure's unit; null: a figure without a bar. */
  readonly bar: string | null;
  readonly met: boolean | null;
}

export interface Bar {
  /** Whether the ratio is held to it, or the figure itself. */
  readonly on: "ratio" | "figure";
  readonly at: "most" | "least";
  readonly value: number;
}

export interface Measured {
  readonly what: string;
  readonly figure: number;
  readonly unit: string;
  readonly ratio?: number;
  readonly bar?: Bar;
}

export interface BenchContext {
  /** Smaller sizes and fewer rounds: whether it works, not what it costs. */
  readonly quick: boolean;
  /** Directory for CPU profiles of the processes measured, or null. */
  readonly profileDir: string | null;
  /** The only part of the subject to be measured; null: all of it. */
  readonly part: string | null;
  report(measured: Measured): void;
  /** A sentence for the reader; never in the table. */
  note(text: string): void;
}

/** The default export of a *.bench.ts file. */
export type Subject = (context: BenchContext) => Promise<void> | void;

/** What a subject's process sends to the runner. */
export type FromSubject =
  | { readonly kind: "row"; readonly row: Row }
  | { readonly kind: "note"; readonly text: string }
  | { readonly kind: "done" };

/** Judges a figure by its bar. */
export function rowOf(subject: string, measured: Measured): Row {
  const { what, figure, unit, ratio = null, bar } = measured;
  if (bar === undefined) return { subject, what, figure, unit, ratio, bar: null, met: null };
  const held = bar.on === "ratio" ? ratio : figure;
  const met = held !== null && (bar.at === "most" ? held <= bar.value : held >= bar.value);
  const sign = bar.at === "most" ? "<=" : ">=";
  const text = `${sign} ${bar.value}${bar.on === "ratio" ? "x" : ` ${unit}`}`;
  return { subject, what, figure, unit, ratio, bar: text, met };
}
