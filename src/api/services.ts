// Owns: api's view of the room below: the calls it may make and the data that comes back.
// Types only. HTTP thread.
import type { Services } from "../service/index.js";

export type * from "../service/index.js";

declare const command: Services["vms"]["command"];

/** Names of the commands that a VM takes. */
export type CommandName = Parameters<typeof command>[1];
/** What one command of a VM takes. */
export type ArgsOf<K extends CommandName> = Parameters<typeof command<K>>[2];
/** What one command of a VM answers. */
export type ResultOf<K extends CommandName> = Awaited<ReturnType<typeof command<K>>>["value"];
