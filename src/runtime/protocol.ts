// Owns: the messages between the HTTP thread and a VM's thread. Both sides.
//
//   HTTP thread                                   VM thread
//   call, input-log  ───── message port ─────▶   drained between scheduler steps
//   ThreadControl    ───── shared words ─────▶   cuts a step short, wakes a sleeping thread
//   ◀───── ready | refused-start, then reply | refused | input-log | unbound | eventfd-* | news |
//          tier0 | died
import type { RefusalData } from "../base/errors.js";
import type { Command, CommandArgs, Stamp, Tier0Code, VmDefinition } from "../vmm/index.js";
import type { InputLog, VmNews } from "./handle.js";
import type { LogBounds } from "./input-log.js";
import { COMMAND_ROWS } from "./logged.table.js";

/** Ties a VM's own eventfd number to the process-wide counter; see eventfd-pins.ts. */
export interface EventfdBinding {
  readonly local: number;
  /** Process-wide index of the counter. */
  readonly index: number;
  /** How many times this number was sent, counting up. */
  readonly ordinal: number;
}

export type ToVm =
  | {
      readonly kind: "call";
      readonly id: number;
      readonly command: Command;
      readonly bindings: readonly EventfdBinding[];
    }
  | { readonly kind: "input-log"; readonly id: number };

export type FromVm =
  /** A spare thread is ready for a VM. */
  | { readonly kind: "waiting" }
  | { readonly kind: "ready" }
  | { readonly kind: "refused-start"; readonly refusal: RefusalData }
  | { readonly kind: "reply"; readonly id: number; readonly stamp: Stamp; readonly value: unknown }
  | { readonly kind: "refused"; readonly id: number; readonly refusal: RefusalData }
  | { readonly kind: "input-log"; readonly id: number; readonly log: InputLog }
  | { readonly kind: "unbound"; readonly local: number; readonly ordinal: number }
  /** A counter was signalled whose hook this VM can't wake itself. */
  | { readonly kind: "eventfd-signalled"; readonly index: number }
  /** A hook of this VM waits behind another VM's, or does no longer. */
  | { readonly kind: "eventfd-waits"; readonly index: number; readonly isWaiting: boolean }
  | { readonly kind: "eventfd-released"; readonly index: number }
  | { readonly kind: "news"; readonly news: VmNews }
  /** This thread has built the engine's code: later ones need not. */
  | { readonly kind: "tier0"; readonly code: Tier0Code }
  | { readonly kind: "died"; readonly reason: string };

/** @returns whether a running step shall be cut short for it: for every input, for no read. */
export function isUrgent(message: ToVm): boolean {
  return message.kind === "call" && COMMAND_ROWS[message.command.name].logged;
}

/** @returns whether somebody waits until no vCPU runs: the thread is awaited from then on. */
export function isHold(message: ToVm): boolean {
  if (message.kind !== "call") return false;
  const { name, args } = message.command;
  return name === "holdVm" && (args as CommandArgs<"holdVm">).hold;
}

/** Sends one message, moving the listed buffers. */
export type SendFromVm = (message: FromVm, transfer: readonly ArrayBuffer[]) => void;

/** What a VM is built from, on either side of the door. */
export interface VmRequest {
  readonly definition: VmDefinition;
  readonly replay: InputLog | null;
  /** Bounds of the VM's input log. */
  readonly inputLog: LogBounds;
  /** Translations of guest code wait for a random number of runs up to this; 0 if absent. */
  readonly translationDelay?: number;
}

/** What a spare thread finds in its workerData: its VM's setup comes as its first message. */
export interface SpareSetup {
  readonly control: SharedArrayBuffer;
  /** The engine's code, once any thread has built it. */
  readonly tier0: Tier0Code | null;
}

/** What a VM's thread finds in its workerData. */
export interface ThreadSetup {
  readonly request: VmRequest;
  readonly budget: SharedArrayBuffer;
  readonly budgetAccount: number;
  readonly eventfds: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  /** The engine's code, once any thread has built it. */
  readonly tier0: Tier0Code | null;
}
