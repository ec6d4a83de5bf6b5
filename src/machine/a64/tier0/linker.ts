// Owns: what code of a module calls outside itself, as the one who writes it sees it. VM thread.
import type { Code } from "../../../base/wasm/code.js";
import type { ValueType } from "../../../base/wasm/opcodes.table.js";
import type { I32, Value } from "../../../base/wasm/value.js";
import type { ImportName } from "../imports.js";
import type { LibFunction } from "../lib/function.js";

export interface Linker {
  callImport(c: Code, name: ImportName, args: readonly Value[]): I32;
  runImport(c: Code, name: ImportName, args: readonly Value[]): void;
  /** @param args with the window first */
  callLib(c: Code, fn: LibFunction<ValueType>, args: readonly Value[]): Value;
}
