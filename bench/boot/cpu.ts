// Owns: processor time of another process, which a busy machine stretches less than the clock's.
// Bench process.
import { readFileSync } from "node:fs";

/** Of utime among what follows a process's name. @source proc_pid_stat(5) */
const UTIME = 11;
/** USER_HZ, a constant of Linux's interface. */
const TICKS_PER_S = 100;

/** Of all its threads, user's and system's; NaN where it is gone or this isn't Linux. */
export function cpuMs(pid: number): number {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
    return ((Number(fields[UTIME]) + Number(fields[UTIME + 1])) * 1000) / TICKS_PER_S;
  } catch {
    return Number.NaN;
  }
}
