// Owns: how urgent a thread is beside the one that answers requests. Any thread.
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { platform, setPriority } from "node:os";
import { basename } from "node:path";

/** Niceness by what a thread does; what answers requests has 0. */
export const NICE = { awaited: 0, helpers: 5, pages: 5, vm: 10, spare: 19 } as const;

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
 * As giveWay(), where the thread may come back to `later`: who is no superuser may only ever become
 * less urgent, and then keeps that.
 */
export function giveWayUntil(niceness: number, later: number): void {
  if (platform() !== "linux") return;
  calmly(0, later);
  if (calmly(0, later - 1)) calmly(0, niceness);
}

/** The calling thread as the system names it; 0: this system doesn't tell. */
export function systemThread(): number {
  if (platform() !== "linux") return 0;
  try {
    return Number(basename(readlinkSync("/proc/thread-self")));
  } catch {
    // A sandbox without it: then nobody can be urged.
    return 0;
  }
}

/**
 * Makes another thread of this process as urgent as what answers requests, where the process may:
 * it has something to hear that somebody waits for, and would wait for a CPU first.
 * @param thread of systemThread()
 */
export function urge(thread: number): void {
  // One that has ended may have left its number to a stranger.
  if (thread !== 0 && existsSync(`/proc/self/task/${thread}`)) calmly(thread, NICE.awaited);
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

function calmly(thread: number, niceness: number): boolean {
  try {
    setPriority(thread, niceness);
    return true;
  } catch {
    // A sandbox that forbids it: then all threads are alike. Or the thread has ended.
    return false;
  }
}
