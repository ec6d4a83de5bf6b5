// Owns: counting what tier 1 executes: each translated function gets one around it that adds up
// the budget it used. Test process. Nothing in the machine counts that, for it would cost.

import { Code } from "../../src/base/wasm/code.js";
import { ModuleBuilder } from "../../src/base/wasm/module.js";
import { BUDGET } from "../../src/machine/a64/window.js";

const SIGNATURE = { params: ["i32", "i32"], result: "i32" } as const;
/** In memory that no flat machine uses. */
const TOTAL_AT = 64;
const ANY_MEMORY = { initial: 1, maximum: 65_536 };

let module: WebAssembly.Module | null = null;

function meterModule(): WebAssembly.Module {
  const builder = new ModuleBuilder(ANY_MEMORY);
  const inner = builder.importFunction("inner", SIGNATURE);
  const index = builder.declare(SIGNATURE);
  const c = new Code(SIGNATURE.params);
  const cpu = c.param(0, "i32");
  const before = c.keep(c.load32(cpu, BUDGET));
  const result = c.keep(c.call(inner, "i32", [cpu, c.param(1, "i32")]));
  const used = before.sub(c.load32(cpu, BUDGET)).extendU();
  const total = c.variable("i32");
  total.set(c.param(0, "i32").sub(c.param(0, "i32")));
  c.store("i64.store", total.get(), TOTAL_AT, c.load64(total.get(), TOTAL_AT).add(used));
  c.return(result);
  c.unreachable();
  builder.define(index, c.locals, c.bytes());
  builder.exportFunction("metered", index);
  return new WebAssembly.Module(builder.build() as Uint8Array<ArrayBuffer>);
}

type Imports = { readonly env: Record<string, unknown> };

/** Runs `body` with every translated function metered. */
export function withMeter<T>(body: () => T): T {
  module ??= meterModule();
  const meter = module;
  const Plain = WebAssembly.Instance;
  const around = (inner: unknown, memory: unknown): unknown =>
    new Plain(meter, { env: { inner, memory } }).exports["metered"];
  const replacement = new Proxy(Plain, {
    construct: (_, [code, imports]: [WebAssembly.Module, Imports]) => {
      const instance = new Plain(code, imports as never);
      const { memory } = imports.env;
      // Tier 1's modules export r0, r1, …; tier 0's others.
      if (!("r0" in instance.exports)) return instance;
      const exports = Object.fromEntries(
        Object.entries(instance.exports).map(([name, fn]) => [name, around(fn, memory)]),
      );
      return { exports };
    },
  });
  WebAssembly.Instance = replacement;
  try {
    return body();
  } finally {
    WebAssembly.Instance = Plain;
  }
}

/** Instructions that the translated functions over this memory retired. */
export function metered(u8: Uint8Array): number {
  return Number(new DataView(u8.buffer).getBigInt64(TOTAL_AT, true));
}
