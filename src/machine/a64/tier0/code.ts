// Owns: tier 0 as compiled code: built once in a process, by the first thread that needs it, and
// handed to every later one. Any thread; what is here is of one thread.
import { tier0 } from "../isa.js";
import type { Tier0 } from "./module.js";

/** Can be sent to another thread, which then shares what V8 has compiled and optimised of it. */
export interface Tier0Code extends Pick<Tier0, "handlers" | "slots"> {
  readonly module: WebAssembly.Module;
}

let code: Tier0Code | null = null;
let onBuilt: ((built: Tier0Code) => void) | null = null;

/** @param given what another thread has built; null: `told` hears of it once this one has */
export function shareTier0(given: Tier0Code | null, told: (built: Tier0Code) => void): void {
  code ??= given;
  onBuilt = told;
  if (given === null && code !== null) told(code);
}

export function tier0Code(): Tier0Code {
  if (code !== null) return code;
  const { bytes, handlers, slots } = tier0();
  code = { module: new WebAssembly.Module(bytes), handlers, slots };
  onBuilt?.(code);
  return code;
}
