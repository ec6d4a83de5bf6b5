// Owns: what code in WebAssembly tells the slow path of memory about an access. VM thread.
import type { Access } from "./asm.js";
import { SLOW, SLOW_ELEMENT_SHIFT } from "./window.js";

/** SLOW flags of an access of `bytes`. */
export function slowFlags(bytes: number, access: Access): number {
  const { element = bytes } = access;
  let flags = bytes | (Math.log2(element) << SLOW_ELEMENT_SHIFT);
  if (access.write) flags |= SLOW.write;
  if (access.unprivileged) flags |= SLOW.unprivileged;
  if (access.aligned) flags |= SLOW.aligned;
  return flags;
}
