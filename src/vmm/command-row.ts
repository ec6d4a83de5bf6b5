// Owns: the shape of a row in the tables of commands. VM thread.
import type { Op } from "../kvm/index.js";
import type { CommandArgs, CommandName, CommandResult } from "./commands.js";
import type { Machine } from "./machine.js";

export type Begun<T> = { readonly value: T } | { readonly op: Op<T> };

/**
 * "now" rows are done when they come in; "op" rows become a context of the scheduler;
 * "begin" rows are one or the other, as their arguments say. */
export type Row<K extends CommandName> =
  | { readonly now: (m: Machine, args: CommandArgs<K>) => CommandResult<K> }
  | { readonly begin: (m: Machine, args: CommandArgs<K>) => Begun<CommandResult<K>> }
  | {
      readonly op: (m: Machine, args: CommandArgs<K>) => Op<CommandResult<K>>;
      /** The vCPU that the context runs, for its label and for kicks. */
      readonly vcpu?: (args: CommandArgs<K>) => number;
    };
