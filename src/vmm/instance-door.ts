// Owns: the interface of one VM's slice as the runtime drives it. VM thread, or inline.
import type { Clock } from "../base/clock.js";
import type { EventfdCounters } from "../base/eventfd-counters.js";
import type { MemoryBudget } from "../base/memory-budget.js";
import type { Translation } from "../machine/index.js";
import type { BoardNews, Command, FaultNews } from "./commands.js";
import type { Stamp, VmDefinition } from "./definition.js";

export type Outcome =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: unknown };

export interface InstanceDeps {
  readonly budget: MemoryBudget;
  readonly eventfds: EventfdCounters;
  /** "round-robin" in the worker; "seeded" inline draws every choice from the VM's seed. */
  readonly schedule: "round-robin" | "seeded";
  /**
   * When hot guest code is translated; null for never, absent for the default. What a VM does, and
   * its digest, don't depend on it.
   */
  readonly translation?: Translation | null;
  /** Told when the VM is held and when it is let go: somebody waits for what comes next. */
  readonly onHeld?: (isHeld: boolean) => void;
  /** Time of the machine, for wall clocks and paced virtual ones; the system's unless given. */
  readonly clock?: Clock;
}

/** One VM: its memory, host CPUs, KVM objects and scheduler. Nothing here is asynchronous. */
export interface VmInstance {
  readonly definition: VmDefinition;
  /** The VM's memory; other threads may read it. */
  readonly memory: WebAssembly.Memory;
  /**
   * Enters a command before the next scheduler step. `done` is called exactly once, during this
   * call for short commands or during a later advance().
   */
  submit(command: Command, done: (outcome: Outcome) => void): Stamp;
  /**
   * Runs scheduler steps until `maxSteps` are done, nothing is runnable, or `interrupted` says that
   * input waits (asked between short engine slices, so within 4,096 accesses).
   * @param isReplay a paced VM doesn't wait for real time
   * @returns "idle" when every context is blocked or done: only a command or time can change that
   */
  advance(maxSteps: number, interrupted: () => boolean, isReplay?: boolean): "idle" | "runnable";
  /** After "idle": milliseconds until time changes something; Infinity when only a command can. */
  msToSleep(): number;
  /**
   * Runs exactly to where a recorded command was applied.
   * @returns null, or a sentence on how the run diverged from the stamp
   */
  advanceTo(stamp: Stamp): string | null;
  /** What the board has to tell since the last call, and faults that hit. */
  takeNews(): readonly (BoardNews | FaultNews)[];
  /** Digest over all parts, and each part's own (DESIGN 13). */
  digest(): { digest: string; parts: Record<string, string> };
  /** Releases what the VM holds outside itself: budget charge, eventfd references. */
  close(): void;
}
