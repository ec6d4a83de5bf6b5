// Owns: what a part of a VM's state is: who saves it and who takes it. VM thread.
import { ServiceError } from "../../base/errors.js";
import type { Op } from "../../kvm/index.js";
import type { Machine } from "../machine.js";

/** What loading needs beside the machine. */
export interface LoadContext {
  readonly m: Machine;
  /** The VM's number of an eventfd on this host, by its number in the state. */
  eventfd(saved: number): number;
  /** Whether an irqfd on it, by the VM's number here, may wait behind that of another VM. */
  mayWait(eventfd: number): boolean;
}

/**
 * A kind of state with its version. Parts are loaded in the order of their table: each may lean on
 * those before it.
 */
export interface StatePart<T = unknown> {
  readonly kind: string;
  readonly version: number;
  save(m: Machine): T;
  /** Whether the VM is one that this state can belong to. @returns null, or why not */
  check?(m: Machine, data: T): string | null;
  load(context: LoadContext, data: T): Op<void> | void;
}

export function mismatch(kind: string, why: string): ServiceError {
  return new ServiceError("state-mismatch", `The part ${kind} doesn't fit this VM: ${why}.`);
}
