// Owns: the HTTP thread's side of one VM's eventfds. HTTP thread.
//
// A VM knows eventfds by numbers of its own, given here in the order of first use: its input log
// and its saved state then mean the same in another process. While the VM knows a number, this
// side holds the reference on the counter, so a terminated thread can't leave one behind. Closing a
// descriptor happens on this thread too, so whether it was open when the command was sent is exact.
import type { EventfdCounters } from "../base/eventfd-counters.js";
import type { Command, EventfdRef } from "../vmm/index.js";
import type { EventfdOwners } from "./eventfd-owners.js";
import type { InputLog, VmHandle } from "./handle.js";
import { COMMAND_ROWS } from "./logged.table.js";
import type { EventfdBinding } from "./protocol.js";

interface Pin {
  readonly local: number;
  ordinal: number;
}

/** A descriptor that is not there, as KVM sees it (EBADF). */
const MISSING: EventfdRef = { index: -1, isEventfd: true };

/** @returns the names of a command's arguments that refer to eventfds. */
function eventfdArgs(command: Command): readonly string[] {
  const shapes = Object.entries(COMMAND_ROWS[command.name].args);
  return shapes.filter(([, shape]) => shape === "eventfd").map(([name]) => name);
}

/** @returns the VM's eventfd numbers that a logged command refers to. */
export function localsOf(command: Command): readonly number[] {
  const args = command.args as Readonly<Record<string, unknown>>;
  const refs = eventfdArgs(command).map((name) => args[name] as EventfdRef);
  return refs.filter((ref) => ref.isEventfd && ref.index >= 0).map((ref) => ref.index);
}

export class EventfdPins {
  readonly #counters: EventfdCounters;
  readonly #owner: number;
  readonly #owners: EventfdOwners;
  readonly #pins = new Map<number, Pin>();
  #nextLocal: number;

  /**
   * @param owner the VM's number, which its exclusive claims carry
   * @param owners of all VMs that share the counters
   * @param replay the log it starts with; the eventfd numbers in it are taken
   */
  constructor(
    counters: EventfdCounters,
    owner: number,
    owners: EventfdOwners,
    replay: InputLog | null,
  ) {
    this.#counters = counters;
    this.#owner = owner;
    this.#owners = owners;
    const taken = (replay?.entries ?? []).flatMap(({ command }) => localsOf(command));
    this.#nextLocal = taken.reduce((highest, local) => Math.max(highest, local), -1) + 1;
  }

  /** Whom wake-ups for this VM go to. */
  attach(handle: VmHandle): void {
    this.#owners.add(this.#owner, handle);
  }

  /** The VM has signalled a counter on which a hook waits that only this thread may wake. */
  signalled(index: number): void {
    void this.#owners.wake(index, true);
  }

  waits(index: number, isWaiting: boolean): void {
    this.#owners.waits(this.#owner, index, isWaiting);
  }

  released(index: number): void {
    this.#owners.released(index);
  }

  /** Rewrites process-wide indexes to the VM's numbers; a closed descriptor becomes -1. */
  translate(command: Command): { command: Command; bindings: readonly EventfdBinding[] } {
    if (command.name === "loadState") return this.#number(command as Command<"loadState">);
    const names = eventfdArgs(command);
    if (names.length === 0) return { command, bindings: [] };
    const args: Record<string, unknown> = { ...command.args };
    const bindings: EventfdBinding[] = [];
    for (const name of names) {
      const ref = args[name] as EventfdRef;
      if (!ref.isEventfd || ref.index < 0) continue;
      const binding = this.#pin(ref.index);
      args[name] = binding === null ? MISSING : { index: binding.local, isEventfd: true };
      if (binding !== null) bindings.push(binding);
    }
    return { command: { name: command.name, args } as unknown as Command, bindings };
  }

  /** Gives eventfds the numbers that they had in the VM on another host. */
  #number({ name, args }: Command<"loadState">) {
    const bindings: EventfdBinding[] = [];
    const eventfds = (args.eventfds ?? []).map(({ fd, ...one }) => {
      const binding = fd.isEventfd && fd.index >= 0 ? this.#pin(fd.index, one.local) : null;
      if (binding !== null) bindings.push(binding);
      return { ...one, fd: binding === null ? MISSING : { index: binding.local, isEventfd: true } };
    });
    return { command: { name, args: { ...args, eventfds } }, bindings };
  }

  /** The VM has forgotten a number, unless it was sent again meanwhile. */
  unbound(local: number, ordinal: number): void {
    for (const [index, pin] of this.#pins) {
      if (pin.local !== local || pin.ordinal !== ordinal) continue;
      this.#unpin(index);
      return;
    }
  }

  /** After the VM's thread has ended. */
  close(): void {
    this.#owners.remove(this.#owner);
    for (const index of [...this.#pins.keys()]) this.#unpin(index);
  }

  /** @param number that it is to have, unless it has one */
  #pin(index: number, number = this.#nextLocal): EventfdBinding | null {
    // Only an open descriptor can be named; one that this VM still refers to may be closed by now.
    if (!this.#counters.isOpen(index)) return null;
    let pin = this.#pins.get(index);
    if (pin === undefined) {
      this.#counters.get(index);
      pin = { local: number, ordinal: 0 };
      this.#nextLocal = Math.max(this.#nextLocal, number + 1);
      this.#pins.set(index, pin);
    }
    pin.ordinal++;
    return { local: pin.local, index, ordinal: pin.ordinal };
  }

  #unpin(index: number): void {
    this.#pins.delete(index);
    if (this.#counters.claimOf(index) === this.#owner) {
      // Its thread was terminated: what its hooks were to take goes with them.
      this.#counters.take(index);
      this.#counters.releaseExclusive(index, this.#owner);
      this.#owners.released(index);
    }
    this.#counters.put(index);
  }
}
