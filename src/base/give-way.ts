// Owns: how urgent a thread is beside the one that answers requests. Any thread.
import { platform, setPriority } from "node:os";

/** Niceness by what a thread does; what answers requests has 0. */
export const NICE = { pages: 5, vm: 10, awaited: 0 } as const;

/**
 * Makes the calling thread less urgent, or more where the process may. A worker calls it before it
 * loads what it is made of: twenty threads that start at once must not keep requests waiting
 * either.
 */
export function giveWay(niceness: number): void {
  // Elsewhere 0 is the whole process, not the calling thread.
  if (platform() !== "linux") return;
  try {
    setPriority(0, niceness);
  } catch {
    // A sandbox that forbids it: then all threads are alike.
  }
}
