// Owns: what translated functions call: imports, numbered in the order of their first use.
// VM thread.
import type { Code } from "../../../base/wasm/code.js";
import type { ModuleBuilder, Signature } from "../../../base/wasm/module.js";
import type { ValueType } from "../../../base/wasm/opcodes.table.js";
import type { I32, Value } from "../../../base/wasm/value.js";
import type { LibFunction } from "../lib/function.js";

/** (window, va low, va high, SLOW flags) → host address; 0: tier 0 has to do the access. */
const ATTEMPT: Signature = { params: ["i32", "i32", "i32", "i32"], result: "i32" };

export class Tier1Linker {
  readonly #imports = new Map<string, { readonly index: number; readonly signature: Signature }>();

  #index(name: string, signature: Signature): number {
    let known = this.#imports.get(name);
    if (known === undefined) {
      known = { index: this.#imports.size, signature };
      this.#imports.set(name, known);
    }
    return known.index;
  }

  callImport(c: Code, name: "attempt", args: readonly Value[]): I32 {
    return c.call(this.#index(name, ATTEMPT), "i32", args);
  }

  /** @param args with the window first */
  callLib(c: Code, fn: LibFunction<ValueType>, args: readonly Value[]): Value {
    const signature: Signature = { params: ["i32", ...fn.params], result: fn.result };
    return c.call(this.#index(fn.name, signature), fn.result, args);
  }

  /** Declares what was used; before the module's functions. */
  importInto(module: ModuleBuilder): void {
    for (const [name, { signature }] of this.#imports) module.importFunction(name, signature);
  }
}
