// Owns: library functions: code that many meanings share, once in tier 0's module. VM thread.
import type { Code } from "../../../base/wasm/code.js";
import type { ValueType } from "../../../base/wasm/opcodes.table.js";
import type { I32, I64, V128, Value } from "../../../base/wasm/value.js";

interface ArgOf {
  i32: I32;
  i64: I64;
  v128: V128;
}
type LibType = keyof ArgOf;

/** What a body is written with beside its arguments. */
export interface LibScope {
  readonly c: Code;
  /** Host address of the PE's window. */
  readonly cpu: I32;
  /** The slow path of a fetch: asks TypeScript for the record. */
  fetch(va: I64): I32;
  /** A record was jumped to often. */
  hot(record: I32): void;
  /** Calls another one; the result is kept. */
  call<K extends LibType>(fn: LibFunction<K>, ...args: readonly Value[]): ArgOf[K];
}

/** A function (window, …arguments) → result, written once and called from any meaning. */
export interface LibFunction<R extends ValueType> {
  readonly name: string;
  readonly params: readonly LibType[];
  readonly result: R;
  /** Writes the body; every path ends with c.return(…). */
  readonly build: (s: LibScope, args: readonly Value[]) => void;
}

type Args<P extends readonly LibType[]> = { [K in keyof P]: ArgOf[P[K] & LibType] };

/**
 * @param name as tier 1 imports it: unique
 * @param build gets the arguments as values that may be used any number of times
 */
export function lib<const P extends readonly LibType[], R extends LibType>(
  name: string,
  params: P,
  result: R,
  build: (s: LibScope, ...args: Args<P>) => void,
): LibFunction<R> {
  return { name, params, result, build: (s, args) => build(s, ...(args as Args<P>)) };
}
