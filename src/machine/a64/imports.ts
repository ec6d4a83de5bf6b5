// Owns: what code in WebAssembly calls in TypeScript: its slow paths. VM thread.
import type { Signature } from "../../base/wasm/module.js";

/** Signatures of "env".name, in the order of their function indices. */
export const IMPORTS = {
  /** (window, va low, va high) → record to go on with, or 0: the fetch aborted. */
  fetch: { params: ["i32", "i32", "i32"], result: "i32" },
  /** (window, va low, va high, SLOW flags) → host address, or 0: leave. RECORD is set. */
  slow: { params: ["i32", "i32", "i32", "i32"], result: "i32" },
  /** (window): what lies in BOUNCE goes where the last slow path said. */
  commit: { params: ["i32"], result: null },
  /** (window, record, WHY) → record to go on with, or 0: leave. */
  system: { params: ["i32", "i32", "i32"], result: "i32" },
  /** (window, record): was jumped to HOT times; tier 1 may translate it. */
  hot: { params: ["i32", "i32"], result: null },
  /** (window, record): decodes the record in place. */
  decode: { params: ["i32", "i32"], result: null },
} satisfies Record<string, Signature>;

export type ImportName = keyof typeof IMPORTS;
export const IMPORT_NAMES = Object.keys(IMPORTS) as ImportName[];
