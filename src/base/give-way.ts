// Owns: how urgent a thread is beside the one that answers requests. Any thread.
import { readdirSync } from "node:fs";
import { platform, setPriority } from "node:os";

/** Niceness by what a thread does; what answers requests has 0. */
export const NICE = { awaited: 0, helpers: 5, pages: 5, vm: 10 } as const;

/**
 * Makes the calling thread less urgent, or more where the process may. A worker calls it before it
 * loads what it is made of: twenty threads that start at once must not keep requests waiting
 * either.
 */
export function giveWay(niceness: number): void {
  // Elsewhere 0 is the whole process, not the calling thread.
  if (platform() !== "linux") return;
  calmly(0, niceness);
}

/**
 * Makes V8's and libuv's own threads less urgent, which compile, collect and read for every thread
 * of the process: twenty VMs that start would keep the calling one waiting. Main thread, before it
 * has started any other.
 */
export function helpersGiveWay(): void {
  if (platform() !== "linux") return;
  for (const thread of readdirSync("/proc/self/task").map(Number)) {
    if (thread !== process.pid) calmly(thread, NICE.helpers);
  }
}

function calmly(thread: number, niceness: number): void {
  try {
    setPriority(thread, niceness);
  } catch {
    // A sandbox that forbids it: then all threads are alike. Or the thread has ended.
  }
}
